"""A tiny grid, run once and shared: two strategies, one seed, one epoch on nine simulated recordings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from imbalance_lab.run.workspace import Workspace

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


@dataclass(frozen=True)
class FoldGrid:
    """A finished grid with folds: its client, its experiment file, and the parent run."""

    client: MlflowClient
    file: str
    experiment_id: str
    parent: str

    @property
    def workspace(self) -> Workspace:
        from imbalance_lab.run.workspace import Workspace

        return Workspace.of_run(self.parent)

    def children(self, role: str) -> dict[str, Run]:
        wanted = f"tags.`mlflow.parentRunId` = '{self.parent}' and tags.role = '{role}'"
        return {run.info.run_name: run for run in self.client.search_runs([self.experiment_id], wanted)}

    def text(self, path: str) -> str:
        import mlflow

        return mlflow.artifacts.load_text(f"runs:/{self.parent}/{path}")

    def json(self, path: str) -> Any:
        return json.loads(self.text(path))


@contextmanager
def run_with_folds(folder: Path, mapping: Mapping[str, Any]) -> Iterator[FoldGrid]:
    """Run the experiment of ``mapping`` with ``--folds 3`` in a store of its own, which is the active one inside."""
    import mlflow

    from mlflow_project.__main__ import main

    name = str(mapping["name"])
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(dict(mapping)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("IMBALANCE_LAB_WORK", str(folder / "outputs"))
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        undrawn(patch)
        client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
        experiment_id = client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
        assert main(["run", "--experiment", str(file), "--folds", "3", "--jobs", "1"]) == 0
        (parent,) = client.search_runs([experiment_id], "tags.role = 'grid'")
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        yield FoldGrid(client, str(file), experiment_id, parent.info.run_id)
    mlflow.set_tracking_uri("")
