"""What goes to a worker and what comes back, and what a worker does before its first trial."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imbalance_lab.names import inside
from mlflow_project.tracking import Store


@dataclass(frozen=True)
class TrialTask:
    """What a worker needs; plain values only, so that any joblib backend can carry it.

    ``work`` is the grid's local folder (data cache, checkpoints, progress); ``run_id`` is set when a
    trial is taken up again; ``device`` is where this start of it computes (default: as the experiment
    says); ``trained``: its training has ended elsewhere, and its checkpoint holds all that its end needs.
    """

    spec: dict[str, Any]
    strategy: str
    seed: int
    store: Store
    parent_run_id: str
    work: str
    threads: int
    run_id: str = ""
    device: str = ""
    trained: bool = False

    @property
    def name(self) -> str:
        """Run name: ``strategy-sN``."""
        return f"{self.strategy}-s{self.seed}"


@dataclass(frozen=True)
class TrialResult:
    """What a finished trial tells its grid."""

    strategy: str
    seed: int
    run_id: str
    val_score: float
    seconds: float
    epochs: int
    best_epoch: int
    predictions: str
    collapse_epoch: int | None
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A trial that is trained and not ended yet: its run is open, and its checkpoint holds all that its end needs."""

    run_id: str


def keep_result(work: Path, name: str, result: TrialResult) -> None:
    """Write a result to the grid's folder; a worker does so itself, so that its death loses nothing."""
    _keep(work / "results", name, asdict(result))
    inside(work / "trained", name, ".json").unlink(missing_ok=True)


def kept_results(work: Path) -> dict[str, TrialResult]:
    """The finished trials of a grid's folder by name."""
    return {name: TrialResult(**plain) for name, plain in _kept(work / "results").items()}


def keep_trained(work: Path, name: str, trained: Trained) -> None:
    """Tell the grid that a trial can be ended; read while its worker trains on."""
    _keep(work / "trained", name, asdict(trained))


def kept_trained(work: Path) -> dict[str, Trained]:
    """The trials of a grid's folder that are trained and not ended yet, by name."""
    return {name: Trained(**plain) for name, plain in _kept(work / "trained").items()}


def note(work: Path, line: str) -> None:
    """Keep a line about how the trainings went, for the summary of the grid."""
    with (work / "notes.txt").open("a", encoding="utf-8") as stream:  # several workers may write
        stream.write(f"{line}\n")


def notes(work: Path) -> list[str]:
    """The lines of :func:`note`."""
    file = work / "notes.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _keep(folder: Path, name: str, plain: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    partial = inside(folder, name, ".partial")
    partial.write_text(json.dumps({"name": name, "kept": plain}), encoding="utf-8")
    os.replace(partial, inside(folder, name, ".json"))


def _kept(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for file in sorted(folder.glob("*.json")):
        with suppress(FileNotFoundError):  # a trial that was ended in this moment
            stored = json.loads(file.read_text(encoding="utf-8"))
            found[stored["name"]] = stored["kept"]
    return found


def connect(store: Store) -> None:
    """Point MLflow's fluent functions of this process at the grid's store, and at no run."""
    import mlflow

    mlflow.set_tracking_uri(store.uri)
    os.environ.pop("MLFLOW_RUN_ID", None)


def prepare_worker(threads: int) -> None:
    """What a process needs before it trains: no chatter, its share of the cores, no denormal numbers."""
    import torch

    from mlflow_project.quiet import quiet

    quiet()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormal numbers make a recurrent step many times slower
