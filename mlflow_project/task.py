"""What goes to a worker and what comes back, and what a worker does before its first trial."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlflow_project.tracking import Store


@dataclass(frozen=True)
class TrialTask:
    """What a worker needs; plain values only, so that any joblib backend can carry it.

    ``work`` is the grid's local folder (data cache, checkpoints, progress); ``run_id`` is set when a
    trial is taken up again.
    """

    spec: dict[str, Any]
    strategy: str
    seed: int
    store: Store
    parent_run_id: str
    work: str
    threads: int
    run_id: str = ""

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


def keep_result(work: Path, name: str, result: TrialResult) -> None:
    """Write a result to the grid's folder; a worker does so itself, so that its death loses nothing."""
    folder = work / "results"
    folder.mkdir(exist_ok=True)
    partial = folder / f"{name}.partial"
    partial.write_text(json.dumps(asdict(result)), encoding="utf-8")
    os.replace(partial, folder / f"{name}.json")


def kept_results(work: Path) -> dict[str, TrialResult]:
    """The finished trials of a grid's folder by name."""
    files = sorted((work / "results").glob("*.json")) if (work / "results").is_dir() else []
    return {f.stem: TrialResult(**json.loads(f.read_text(encoding="utf-8"))) for f in files}


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
