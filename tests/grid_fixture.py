"""A tiny grid, run once and shared: two strategies, one seed, one epoch on nine simulated recordings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

NAME = "tiny"
STRATEGIES = ("cross-entropy", "logit-adjusted")


def tiny_mapping() -> dict[str, object]:
    """The experiment of the grid, as a file would hold it."""
    return {
        "name": NAME,
        "data": {
            "source": "simulated",
            "n_recordings": 9,
            "task": "steps",
            "window": {"length": 32, "stride": 32},
            "split": {"by": "recording", "fractions": [0.5, 0.25, 0.25], "seed": 0},
        },
        "audit": {"budget": "off"},
        "interpret": {"budget": "off"},
        "model": {"hidden": 16, "layers": 1, "attention_heads": 2},
        "training": {"epochs": 1, "batch_size": 32, "device": "cpu"},
        "seeds": [0],
        "strategies": {"cross-entropy": {}, "logit-adjusted": {"loss": {"logit-adjusted": {"tau": 1.0}}}},
    }


@dataclass(frozen=True)
class Grid:
    """A finished grid: its store, its local folder and the ids of its runs by strategy."""

    uri: str
    work: Path
    experiment_id: str
    parent: str
    children: dict[str, str]


@cache  # a fixture that two modules import is made twice; the grid is run once
def run_tiny_grid(folder: Path) -> Grid:
    """Run the grid in a store of its own under ``folder``."""
    import mlflow

    import mlflow_project.grid as grid
    from imbalance_lab.spec import parse_experiment

    folder.mkdir()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("IMBALANCE_LAB_WORK", str(folder / "outputs"))
        patch.setattr("imbalance_lab.plots.style.DPI", 40)  # the pictures are not looked at
        client = mlflow.MlflowClient(tracking_uri=uri)
        experiment_id = client.create_experiment(NAME, artifact_location=(folder / "artifacts").as_uri())
        assert grid.run_grid_of(parse_experiment(tiny_mapping(), where="tiny"), jobs=1) == 0
    mlflow.set_tracking_uri("")
    runs = client.search_runs([experiment_id])
    (parent,) = [r.info.run_id for r in runs if r.data.tags["role"] == "grid"]
    children = {r.data.tags["strategy"]: r.info.run_id for r in runs if r.data.tags["role"] == "trial"}
    return Grid(uri, folder / "outputs" / parent, experiment_id, parent, children)


@pytest.fixture
def tiny_grid(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Grid]:
    """The finished grid, its store active; do not change its runs in a way that another test could see."""
    import mlflow

    found = run_tiny_grid(tmp_path_factory.getbasetemp() / "tiny-grid")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 40)
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(found.work.parent))
    mlflow.set_tracking_uri(found.uri)
    yield found
    mlflow.set_tracking_uri("")


def undrawn(patch: pytest.MonkeyPatch) -> None:
    """No figure of a run is drawn, and those of a comparison are one pixel: for tests that look at numbers."""
    from io import BytesIO

    from PIL import Image

    written = BytesIO()
    Image.new("RGB", (1, 1)).save(written, "PNG")
    patch.setattr("imbalance_lab.plots.style.png_bytes", lambda _: written.getvalue())
    patch.setattr("imbalance_lab.report.run_report.figures_of", lambda *_, **__: ({}, {}))
    patch.setattr("imbalance_lab.run.trial_files.galleries", lambda *_, **__: ({}, ""))
