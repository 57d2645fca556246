"""One child run: train a strategy with a seed, score it, analyse it, log it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imbalance_lab.spec import ExperimentSpec, parse_experiment
from mlflow_project.task import TrialResult, TrialTask, connect, keep_result, prepare_worker
from mlflow_project.tracking import RunLogger, start_child

if TYPE_CHECKING:
    from imbalance_lab.data.dataset import LoadedData
    from imbalance_lab.training.course import Epoch, Selection
    from imbalance_lab.training.table_trial import TableTrial
    from imbalance_lab.training.trial import PreparedTrial


def run_trial(task: TrialTask) -> TrialResult:
    """Run one trial to its end; its MLflow run is FAILED with the reason when anything raises."""
    from imbalance_lab.data.cache import load_cached

    prepare_worker(task.threads)
    connect(task.store)
    opened = open_trial(task, load_cached(Path(task.work) / "data"))
    with opened.failing():
        for epoch in opened.trial.train(opened.selection, checkpoint=opened.checkpoint, fingerprint=opened.fingerprint):
            opened.add(epoch)
        return opened.end()


def _forget_models(logger: RunLogger) -> None:
    """Delete the models of a start that did not come to its end, so that a run carries one."""
    outputs = logger.client.get_run(logger.run_id).outputs
    for model in outputs.model_outputs if outputs is not None else ():
        logger.client.delete_logged_model(model.model_id)


def fail_run(logger: RunLogger, reason: str, status: str = "FAILED") -> None:
    """End a run that is given up, with the reason."""
    logger.describe(f"Failed: {reason}")
    logger.tags({"failure": reason[:5000]})
    logger.finish(status)


def _fail(logger: RunLogger, error: BaseException) -> None:
    status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
    fail_run(logger, f"{type(error).__name__}: {error}", status)


@dataclass(frozen=True)
class OpenTrial:
    """A trial whose MLflow run is open and whose network is built; :meth:`add` and :meth:`end` log what comes."""

    task: TrialTask
    spec: ExperimentSpec
    logger: RunLogger
    trial: PreparedTrial | TableTrial
    selection: Selection
    primary: str
    fingerprint: str
    logged: int
    begun: float
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        """Where its state is kept between epochs."""
        return Path(self.task.work) / "checkpoints" / f"{self.task.name}.pt"

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Mark the run FAILED with the reason when the block raises."""
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        """Mark the run FAILED with the reason."""
        _fail(self.logger, error)

    def add(self, epoch: Epoch) -> None:
        """Log an epoch that has ended, unless an earlier start did so."""
        from mlflow_project.schema import epoch_metrics

        self.epochs.append(epoch)
        if epoch.number > self.logged:
            self.logger.metrics(epoch_metrics(epoch, self.trial.loaded.dataset.heads), step=epoch.number)
        _progress(Path(self.task.work), self.task, epoch.number, self.spec.training.epochs, epoch.score, self.begun)

    def end(self) -> TrialResult:
        """Score, analyse and log the trained model; the run is then FINISHED and its result kept."""
        from imbalance_lab.training.collapse import collapse_epoch, prediction_spread
        from mlflow_project.outcome import log_outcome

        self.logger.flush()
        epochs = self.epochs
        spreads = [prediction_spread(np.asarray(e.confusion[self.primary])).collapsed for e in epochs]
        best = max((e for e in epochs if e.best), key=lambda e: e.number)
        seconds = sum(e.seconds for e in epochs)
        collapsed = collapse_epoch(spreads)
        path, phases = log_outcome(self.logger, self.spec, self.task, self.trial, epochs, best, seconds, collapsed)
        self.checkpoint.unlink(missing_ok=True)
        result = TrialResult(
            strategy=self.task.strategy,
            seed=self.task.seed,
            run_id=self.logger.run_id,
            val_score=best.score,
            seconds=seconds,
            epochs=len(epochs),
            best_epoch=best.number,
            predictions=str(path),
            collapse_epoch=collapsed,
            phases=phases,
        )
        keep_result(Path(self.task.work), self.task.name, result)
        self.logger.finish("FINISHED")
        return result


def open_trial(task: TrialTask, loaded: LoadedData) -> OpenTrial:
    """Start the trial's MLflow run, or take it up again, and build what is trained.

    The run is FAILED with the reason when the strategy does not fit the data.
    """
    from imbalance_lab.data.dataset import primary_head
    from imbalance_lab.run.search import with_tuned
    from imbalance_lab.training.trial import selection_of
    from mlflow_project.schema import log_start
    from mlflow_project.tuning import log_tuning, ready, tuning_of

    spec = parse_experiment(task.spec, where="spec of the grid")
    tags = {
        "strategy": task.strategy,
        "seed": str(task.seed),
        "role": "trial",
        "baseline": str(task.strategy == spec.baseline),
    }
    if task.run_id:
        logger = RunLogger(task.store, task.run_id)
        logger.client.update_run(task.run_id, status="RUNNING")
        _forget_models(logger)
    else:
        logger = start_child(task.store, task.parent_run_id, task.name, tags)
    try:
        primary = primary_head(loaded.dataset.heads)
        selection = selection_of(spec.selection.metric, loaded.dataset.heads, primary)
        tuning = tuning_of(Path(task.work), task.strategy)
        if tuning is not None:
            spec = with_tuned(spec, task.strategy, tuning.chosen)
        trial = ready(spec, task.strategy, task.seed, loaded)
        log_start(logger, spec, task.strategy, task.seed, loaded, trial.strategy, trial.device)
        if tuning is not None:
            log_tuning(logger, tuning)
        logged = logger.logged_steps("train/loss") if task.run_id else -1
    except BaseException as error:
        _fail(logger, error)
        raise
    matters = json.dumps(_what_matters(spec, task), sort_keys=True)
    fingerprint = f"{loaded.dataset.digest} {task.name} {matters}"
    return OpenTrial(task, spec, logger, trial, selection, primary, fingerprint, logged, time.perf_counter())


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
