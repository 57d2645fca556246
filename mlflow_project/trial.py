"""One child run: train a strategy with a seed, score it, analyse it, log it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imbalance_lab.names import inside
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from mlflow_project.task import (
    Trained,
    TrialResult,
    TrialTask,
    connect,
    keep_result,
    keep_trained,
    note,
    prepare_worker,
)
from mlflow_project.tracking import RunLogger, start_child

if TYPE_CHECKING:
    from imbalance_lab.data.dataset import LoadedData
    from imbalance_lab.learners.protocol import Learner
    from imbalance_lab.training.course import Epoch, Selection


def run_trials(
    tasks: Sequence[TrialTask], *, together: int | None = None, hand_over: bool = False
) -> list[TrialResult | Trained | Exception]:
    """Train trials on one device and end each as soon as it is trained; one outcome per task, in order.

    The MLflow run of a trial that raises is FAILED with the reason; the others go on.

    Parameters
    ----------
    together : at most so many at once (default: as many as the device's memory holds)
    hand_over : leave scoring, analysis and pages of a trained trial to another worker
    """
    from imbalance_lab.data.cache import load_cached
    from imbalance_lab.training.together import Failed, Halved, Measured, train_together

    prepare_worker(tasks[0].threads)
    connect(tasks[0].store)
    work = Path(tasks[0].work)
    loaded = load_cached(work / "data")
    device = _device_of(tasks[0])
    crowd = 1  # trials that write to the store in turn, by the thread that trains them: each waits as much longer
    loggers: dict[int, RunLogger] = {}
    outcomes: dict[int, TrialResult | Trained | Exception] = {}

    def steps(i: int) -> Iterator[Epoch | None]:
        if i in loggers:  # begun anew after a lack of memory
            loggers[i].flush()
        else:
            loggers[i] = open_run(tasks[i])
            loggers[i].pause *= crowd
        opened = open_trial(tasks[i], loggers[i], loaded)
        yield from opened.course()
        outcomes[i] = opened.hand_over() if hand_over else opened.end()

    try:
        for event in train_together([partial(steps, i) for i in range(len(tasks))], device, most=together):
            match event:
                case Failed(i, error):
                    outcomes[i] = error
                    if i in loggers:
                        _fail(loggers[i], error)
                case Measured(at_once, size) if len(tasks) > 1:
                    crowd = min(at_once, len(tasks))
                    note(work, f"{device}: {crowd} trials at once, {size / 2**20:,.0f} MiB each")
                case Halved(i, before, at_once):
                    note(
                        work,
                        f"{device}: memory ran out with {before} trials at once, in {tasks[i].name}; "
                        f"from there on at most {at_once}",
                    )
    except BaseException as error:
        for i, logger in loggers.items():
            if i not in outcomes:
                _fail(logger, error)
        raise
    return [outcomes[i] for i in range(len(tasks))]


def run_trial(task: TrialTask) -> TrialResult:
    """Run one trial to its end; raises what stopped it, and its MLflow run is then FAILED with the reason."""
    (outcome,) = run_trials((task,))
    if isinstance(outcome, Exception):
        raise outcome
    assert isinstance(outcome, TrialResult)
    return outcome


def _device_of(task: TrialTask) -> str:
    from imbalance_lab.training.training_config import resolve_device

    return resolve_device(task.device or task.spec["training"]["device"])


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
    trial: Learner
    selection: Selection
    primary: str
    fingerprint: str
    logged: int
    begun: float
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        """Where its state is kept between epochs."""
        return inside(Path(self.task.work) / "checkpoints", self.task.name, ".pt")

    def course(self) -> Iterator[Epoch | None]:
        """Train step by step and log each epoch; see :data:`imbalance_lab.training.together.Steps`."""
        for epoch in self.trial.steps(self.selection, checkpoint=self.checkpoint, fingerprint=self.fingerprint):
            if epoch is not None:
                self.add(epoch)
            yield epoch

    def add(self, epoch: Epoch) -> None:
        """Log an epoch that has ended, unless an earlier start did so."""
        from mlflow_project.schema import epoch_metrics

        self.epochs.append(epoch)
        if epoch.number > self.logged:
            self.logger.metrics(epoch_metrics(epoch, self.trial.loaded.dataset.heads), step=epoch.number)
        _progress(Path(self.task.work), self.task, epoch.number, self.spec.training.epochs, epoch.score, self.begun)

    def hand_over(self) -> Trained:
        """Leave the end to another worker, which finds the run and the checkpoint; nothing stays in here."""
        self.logger.flush()
        trained = Trained(self.logger.run_id)
        keep_trained(Path(self.task.work), self.task.name, trained)
        return trained

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


def open_run(task: TrialTask) -> RunLogger:
    """Start the trial's MLflow run, or take it up again."""
    if task.run_id:
        logger = RunLogger(task.store, task.run_id)
        logger.client.update_run(task.run_id, status="RUNNING")
        _forget_models(logger)
        return logger
    tags = {
        "strategy": task.strategy,
        "seed": str(task.seed),
        "role": "trial",
        "baseline": str(task.strategy == task.spec["baseline"]),
    }
    return start_child(task.store, task.parent_run_id, task.name, tags)


def open_trial(task: TrialTask, logger: RunLogger, loaded: LoadedData) -> OpenTrial:
    """Build what is trained, on the task's device, and log how the trial starts.

    Raises
    ------
    InputError
        If the strategy does not fit the data.
    """
    from imbalance_lab.run.search import with_tuned
    from imbalance_lab.training.course import selection_of
    from imbalance_lab.training.training_config import resolve_device
    from mlflow_project.schema import log_start
    from mlflow_project.tuning import log_tuning, ready, tuning_of

    spec = parse_experiment(task.spec, where="spec of the grid")
    primary = spec.main_head(loaded.dataset.heads)
    selection = selection_of(spec.selection.metric, loaded.dataset.heads, primary)
    tuning = tuning_of(Path(task.work), task.strategy)
    if tuning is not None:
        spec = with_tuned(spec, task.strategy, tuning.chosen)
    trial = ready(spec, task.strategy, task.seed, loaded, device=_device_of(task))
    if not task.trained:  # where it was trained is logged, not where it is ended
        device = resolve_device(spec.training.device) if trial.uses_device else trial.device
        log_start(logger, spec, task.strategy, task.seed, loaded, trial.strategy, device)
        if tuning is not None:
            log_tuning(logger, tuning)
    matters = json.dumps(_what_matters(spec, task), sort_keys=True)
    fingerprint = f"{loaded.dataset.digest} {task.name} {matters}"
    logged = logger.logged_steps("train/loss")
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
    partial = inside(folder, task.name, ".partial")
    state = {
        "name": task.name,
        "epoch": epoch,
        "epochs": epochs,
        "score": score,
        "left": elapsed / epoch * (epochs - epoch),
    }
    partial.write_text(json.dumps(state), encoding="utf-8")
    os.replace(partial, inside(folder, task.name, ".json"))
