"""One child run: train a strategy with a seed, score it, analyse it, log it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_lab.spec import ExperimentSpec, parse_experiment
from mlflow_project.tracking import RunLogger, Store, start_child


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


def run_trial(task: TrialTask) -> TrialResult:
    """Run one trial to its end; its MLflow run is FAILED with the reason when anything raises."""
    import mlflow
    import torch

    from mlflow_project.quiet import quiet

    quiet()
    torch.set_num_threads(task.threads)
    torch.set_flush_denormal(True)  # denormal numbers make a recurrent step many times slower
    mlflow.set_tracking_uri(task.store.uri)
    os.environ.pop("MLFLOW_RUN_ID", None)
    spec = parse_experiment(task.spec, where="spec of the grid")
    tags = {
        "strategy": task.strategy,
        "seed": str(task.seed),
        "role": "trial",
        "baseline": str(task.strategy == spec.baseline),
    }
    logger = (
        RunLogger(task.store, task.run_id)
        if task.run_id
        else start_child(task.store, task.parent_run_id, task.name, tags)
    )
    if task.run_id:
        logger.client.update_run(task.run_id, status="RUNNING")
    try:
        result = _train_and_log(task, spec, logger)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        logger.describe(f"Failed: {reason}")
        logger.tags({"failure": reason[:5000]})
        logger.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    logger.finish("FINISHED")
    return result


def _train_and_log(task: TrialTask, spec: ExperimentSpec, logger: RunLogger) -> TrialResult:
    from imbalance_lab.data.cache import load_cached
    from imbalance_lab.data.dataset import primary_head
    from imbalance_lab.training.collapse import collapse_epoch, prediction_spread
    from imbalance_lab.training.trial import selection_of
    from imbalance_lab.training.tuning import with_tuned
    from mlflow_project.outcome import log_outcome
    from mlflow_project.schema import epoch_metrics, log_start
    from mlflow_project.tuning import log_tuning, ready, tuning_of

    work = Path(task.work)
    loaded = load_cached(work / "data")
    primary = primary_head(loaded.dataset.heads)
    selection = selection_of(spec.selection.metric, loaded.dataset.heads, primary)
    begun = time.perf_counter()

    def searched(number: int, of: int, score: float) -> None:
        _progress(work, task, number, of, score, begun)

    tuning = tuning_of(spec, task.strategy, loaded, selection, work, searched)
    search_seconds = time.perf_counter() - begun
    if tuning is not None:
        spec = with_tuned(spec, task.strategy, tuning.chosen)
    trial = ready(spec, task.strategy, task.seed, loaded)
    log_start(logger, spec, task.strategy, task.seed, loaded, trial.strategy, trial.device)
    if tuning is not None:
        log_tuning(logger, tuning)
    fingerprint = f"{loaded.dataset.digest} {task.name} {json.dumps(_what_matters(spec, task), sort_keys=True)}"
    checkpoint = work / "checkpoints" / f"{task.name}.pt"
    epochs = []
    logged = logger.logged_steps("train/loss") if task.run_id else -1
    begun = time.perf_counter()
    for epoch in trial.train(selection, checkpoint=checkpoint, fingerprint=fingerprint):
        epochs.append(epoch)
        if epoch.number > logged:
            logger.metrics(epoch_metrics(epoch, loaded.dataset.heads), step=epoch.number)
        _progress(work, task, epoch.number, spec.training.epochs, epoch.score, begun)
    logger.flush()
    spreads = [prediction_spread(np.asarray(e.confusion[primary])).collapsed for e in epochs]
    best = max((e for e in epochs if e.best), key=lambda e: e.number)
    training_seconds = sum(e.seconds for e in epochs)
    collapsed = collapse_epoch(spreads)
    path, phases = log_outcome(logger, spec, task, trial, epochs, best, training_seconds, collapsed)
    checkpoint.unlink(missing_ok=True)
    if tuning is not None:
        phases = {"tune": search_seconds, **phases}
    return TrialResult(
        strategy=task.strategy,
        seed=task.seed,
        run_id=logger.run_id,
        val_score=best.score,
        seconds=training_seconds,
        epochs=len(epochs),
        best_epoch=best.number,
        predictions=str(path),
        collapse_epoch=collapsed,
        phases=phases,
    )


def _what_matters(spec: ExperimentSpec, task: TrialTask) -> dict[str, Any]:
    """The part of a spec that a checkpoint depends on."""
    plain = spec.to_mapping()
    return {
        "strategy": plain["strategies"][task.strategy],
        "seed": task.seed,
        "model": plain["model"],
        "training": plain["training"],
        "selection": plain["selection"],
        "data": plain["data"],
    }


def _progress(work: Path, task: TrialTask, epoch: int, epochs: int, score: float, begun: float) -> None:
    """Tell the grid how far this trial is (a small file that its terminal line is drawn from)."""
    elapsed = time.perf_counter() - begun
    folder = work / "progress"
    folder.mkdir(exist_ok=True)
    partial = folder / f"{task.name}.partial"
    state = {
        "name": task.name,
        "epoch": epoch,
        "epochs": epochs,
        "score": score,
        "left": elapsed / epoch * (epochs - epoch),
    }
    partial.write_text(json.dumps(state), encoding="utf-8")
    os.replace(partial, folder / f"{task.name}.json")
