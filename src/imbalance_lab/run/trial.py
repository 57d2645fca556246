"""A whole trial: prepare, train epoch by epoch, choose on validation, predict, analyse, interpret, write its folder."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_lab.data.cache import save_loaded
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.engine import open_engine, plan_for
from imbalance_lab.errors import InputError
from imbalance_lab.learners.protocol import Learner
from imbalance_lab.metrics.calibration import fit_temperature
from imbalance_lab.predictions import HeadPredictions, Predictions, write_parquet
from imbalance_lab.run.binding import ready_learner
from imbalance_lab.run.search import Tuning, search_all, searches_left, tuning_of, with_tuned
from imbalance_lab.run.training_curves import course_of
from imbalance_lab.run.trial_files import Background, Origin, write_analysis, write_interpretation, write_model
from imbalance_lab.run.workspace import TrialResult, Workspace, predictions_file
from imbalance_lab.spec import ExperimentSpec, TrialId, parse_experiment
from imbalance_lab.strategies.posthoc import apply_posthoc, fit_free_lunch, fit_posthoc
from imbalance_lab.training.checkpoint import without_damage
from imbalance_lab.training.collapse import collapse_epoch, prediction_spread
from imbalance_lab.training.course import Epoch, Selection, selection_of
from imbalance_lab.training.training_config import resolve_device, resolve_gpus


@dataclass(frozen=True)
class Trial:
    """What is to be trained, and where its files go; plain values only, so that any engine can carry it.

    Attributes
    ----------
    spec : the experiment, as :meth:`~imbalance_lab.spec.ExperimentSpec.to_mapping` gives it
    work : the grid's folder, see :class:`~imbalance_lab.run.workspace.Workspace`
    threads : of PyTorch, in the process that trains it
    device : where this start of it computes, "" as the experiment says
    trained : its training has ended elsewhere, and its checkpoint holds all that its end needs
    """

    id: TrialId
    spec: dict[str, Any]
    work: str
    threads: int = 1
    device: str = ""
    trained: bool = False

    @property
    def workspace(self) -> Workspace:
        """The grid's folder."""
        return Workspace(Path(self.work))

    @property
    def data(self) -> Path:
        """Where its data are kept, for :func:`imbalance_lab.data.cache.load_cached`."""
        return self.workspace.data_of(self.id.fold)

    @property
    def where(self) -> str:
        """The device that it computes on."""
        return resolve_device(self.device or self.spec["training"]["device"])


@dataclass(frozen=True)
class ReadyTrial:
    """A trial whose learner is built; ``spec`` holds the values that a search chose."""

    trial: Trial
    spec: ExperimentSpec
    learner: Learner
    selection: Selection
    tuning: Tuning | None

    @property
    def main_head(self) -> str:
        """The head that is selected and compared by."""
        return self.spec.main_head(self.learner.loaded.dataset.heads)

    @property
    def metric(self) -> str:
        """The name of the metric that is selected by."""
        return self.spec.selection.metric.rpartition("/")[2]

    @property
    def device(self) -> str:
        """Where the experiment says that it is trained."""
        return resolve_device(self.spec.training.device) if self.learner.uses_device else self.learner.device

    def steps(self) -> Iterator[Epoch | None]:
        """Train step by step; see :data:`imbalance_lab.training.together.Steps`.

        Its state is kept after each epoch; epochs of an earlier start come first.
        """
        workspace, begun = self.trial.workspace, time.perf_counter()
        checkpoint, fingerprint = workspace.checkpoint(self.trial.id), self._fingerprint()
        if not without_damage(checkpoint, fingerprint):
            workspace.note(f"{self.trial.id.name}: its checkpoint was damaged; it was trained anew")
        for epoch in self.learner.steps(self.selection, checkpoint=checkpoint, fingerprint=fingerprint):
            if epoch is not None:
                epochs = self.spec.training.epochs
                left = (time.perf_counter() - begun) / epoch.number * (epochs - epoch.number)
                state = {"epoch": epoch.number, "epochs": epochs, "score": epoch.score, "left": left}
                workspace.tell_progress(self.trial.id, state)
            yield epoch

    def _fingerprint(self) -> str:
        """All that a checkpoint depends on."""
        plain = self.spec.to_mapping()
        matters = {name: plain[name] for name in ("model", "training", "selection", "data")}
        matters |= {"strategy": plain["strategies"][self.trial.id.strategy], "seed": self.trial.id.seed}
        return f"{self.learner.loaded.dataset.digest} {self.trial.id.name} {json.dumps(matters, sort_keys=True)}"


@dataclass(frozen=True)
class Training:
    """How a training went: its epochs, the one that was kept, and from when on a single class was predicted."""

    epochs: tuple[Epoch, ...]
    best: Epoch
    collapse_epoch: int | None

    @property
    def seconds(self) -> float:
        """Wall time of the epochs."""
        return sum(e.seconds for e in self.epochs)


@dataclass(frozen=True)
class Predicted:
    """Predictions of validation and test; ``posthoc`` is what a served model does to its scores, by head."""

    val: Predictions
    test: Predictions
    posthoc: dict[str, Any]


@dataclass(frozen=True)
class TrialOutcome:
    """A trial that has ended; its folder (``result.folder``) holds everything.

    ``verdict`` and ``interpretation`` ("" where there is none, as in a light trial) are one sentence each; ``model``
    is the folder of what was trained.
    """

    result: TrialResult
    training: Training
    predicted: Predicted
    verdict: str
    interpretation: str
    model: Path


def run_trial(spec: ExperimentSpec, strategy: str, seed: int, *, data: LoadedData, folder: Path | str) -> TrialResult:
    """Train one strategy with one seed, analyse it and write everything under ``folder``; no MLflow is needed.

    Parameters
    ----------
    strategy : a name in ``spec.strategies``; searched for hyper-parameters first where the experiment asks for it
    data : of :func:`imbalance_lab.load.load_data`; of a fold where the experiment has folds
    folder : a workspace; a trial that was interrupted in it goes on from its last epoch

    Raises
    ------
    InputError
        If there is no such strategy or fold, the seed is negative, or the strategy does not fit the data.
    """
    fold = data.fold.number if data.fold is not None else None
    trial = Trial(checked_id(spec, strategy, seed, fold), spec.to_mapping(), str(folder))
    if searches_left(spec, [strategy], trial.workspace, [fold]):
        save_loaded(data, trial.workspace.data_of(fold))
        plan = plan_for(1, 1, resolve_gpus(spec.training.device))
        with open_engine(plan) as engine:
            search_all(spec, [strategy], trial.workspace, engine, plan, folds=[fold])
    ready = prepare(trial, data)
    epochs = [epoch for epoch in ready.steps() if epoch is not None]
    result = finish(ready, training_of(epochs, ready.main_head)).result
    trial.workspace.keep_result(result)
    return result


def checked_id(spec: ExperimentSpec, strategy: str, seed: int, fold: int | None = None) -> TrialId:
    """The trial of a strategy of the experiment with any seed, on one of its folds where it has folds.

    Raises
    ------
    InputError
        If the experiment has no such strategy or fold, or the seed is negative.
    """
    if strategy not in spec.strategies:
        raise InputError(f"--strategy: found {strategy!r}; allowed are {', '.join(spec.strategies)}")
    if seed < 0:
        raise InputError(f"--seed: found {seed}; seeds are integers from 0")
    if fold not in spec.folds:
        found = "none" if fold is None else str(fold)
        allowed = "none, as data.split has no folds" if spec.folds == (None,) else f"0 to {len(spec.folds) - 1}"
        raise InputError(f"--fold: found {found}; allowed: {allowed}")
    return TrialId(strategy, seed, fold)


def prepare(trial: Trial, loaded: LoadedData) -> ReadyTrial:
    """Build what is trained, on the trial's device.

    Raises
    ------
    InputError
        If the strategy does not fit the data, or its search found nothing that can be trained.
    """
    spec = parse_experiment(trial.spec, where="spec of the grid")
    heads = loaded.dataset.heads
    selection = selection_of(spec.selection.metric, heads, spec.main_head(heads))
    tuning = tuning_of(trial.workspace, trial.id.strategy, trial.id.fold)
    if tuning is not None:
        spec = with_tuned(spec, trial.id.strategy, tuning.chosen)
    learner = ready_learner(spec, trial.id.strategy, trial.id.randomness, loaded, trial.where)
    return ReadyTrial(trial, spec, learner, selection, tuning)


def training_of(epochs: Sequence[Epoch], main_head: str) -> Training:
    """What became of a training that ended with these epochs."""
    collapsed = [prediction_spread(np.asarray(e.confusion[main_head])).collapsed for e in epochs]
    best = max((e for e in epochs if e.best), key=lambda e: e.number)
    return Training(tuple(epochs), best, collapse_epoch(collapsed))


def finish(ready: ReadyTrial, training: Training, run_id: str = "") -> TrialOutcome:
    """Predict, analyse, interpret and write the trial's folder, once the training has ended.

    Where the experiment says that trials are light, predictions and model are all: no analysis, no interpretation.
    ``run_id`` is the run that the trial will be logged to; its predictions name it.
    """
    trial, clock = ready.trial, Clock()
    folder = trial.workspace.trial(trial.id)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with clock("predict"):
        predicted = _predict(ready, training, run_id)
        for predictions in (predicted.val, predicted.test):
            write_parquet(predictions, predictions_file(folder, str(predictions.meta["split"])))
    full, verdict, interpretation = ready.spec.analyses_trials, "", ""
    if full:
        with clock("analyse"):
            background = _background(ready, training, run_id)
            verdict = write_analysis(predicted.test, folder, behind=background, every=False)
    if full and ready.spec.interpret.budget != "off":
        with clock("interpret"):
            interpretation = _interpret(ready, folder)
    with clock("model"):
        model = write_model(ready.learner, predicted.posthoc, folder)
    (folder / "seen_classes.json").write_text(json.dumps(_seen(ready, training), indent=1), encoding="utf-8")
    result = TrialResult(
        id=trial.id,
        run_id=run_id,
        val_score=training.best.score,
        seconds=training.seconds,
        epochs=len(training.epochs),
        best_epoch=training.best.number,
        folder=str(folder),
        collapse_epoch=training.collapse_epoch,
        phases=clock.seconds,
    )
    return TrialOutcome(result, training, predicted, verdict, interpretation, model)


def fitted_predictions(learner: Learner, meta: Mapping[str, Any], metric: str) -> Predicted:
    """Validation first: everything that is fitted is fitted there; then test, once.

    Parameters
    ----------
    meta : what the tables say of themselves
    metric : what post-hoc corrections are chosen by on validation
    """
    normalised = learner.after_training(metric)
    val = learner.predict("val", meta)
    posthoc = {h: fit_posthoc(steps, val.heads[h], metric) for h, steps in learner.strategy.posthoc.items()}
    # Recorded with the other steps; it is in the weights, and applying the steps leaves it alone.
    posthoc = {h: {**({"tau-norm": normalised[h]} if h in normalised else {}), **steps} for h, steps in posthoc.items()}
    val = _apply(val, posthoc)
    fitted: dict[str, Any] = {
        "free_lunch": {h: fit_free_lunch(p, metric) for h, p in val.heads.items()},
        "temperature": {h: _temperature(p) for h, p in val.heads.items() if len(p)},
        "posthoc": posthoc,
    }
    test = _apply(learner.predict("test", meta), posthoc)
    counts = {h: p.train_counts.tolist() for h, p in val.heads.items()}
    return Predicted(
        val=replace(val, meta={**val.meta, **fitted}),
        test=replace(test, meta={**test.meta, **fitted}),
        posthoc={h: {"steps": posthoc.get(h, {}), "train_counts": counts[h]} for h in val.heads},
    )


class Clock:
    """Adds up how long each part takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block under ``name``."""
        begun = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


def _predict(ready: ReadyTrial, training: Training, run_id: str) -> Predicted:
    meta = {
        "experiment": ready.spec.name,
        "strategy": ready.trial.id.strategy,
        "seed": ready.trial.id.seed,
        "run_id": run_id,
        "primary_head": ready.main_head,
        "prior_correction": dict(ready.learner.strategy.prior_correction),
        "best_epoch": training.best.number,
    }
    if (fold := ready.learner.loaded.fold) is not None:
        meta |= {"fold": fold.number, "folds": fold.count, "digest": fold.digest}
    return fitted_predictions(ready.learner, meta, ready.metric)


def _background(ready: ReadyTrial, training: Training, run_id: str) -> Background:
    course = None  # a classical fit has none
    if ready.learner.has_course:
        course = course_of(training.epochs, ready.main_head, ready.spec.selection.metric, training.collapse_epoch)
    return Background(Origin(run_id, ready.spec), ready.learner.loaded.dataset, course)


def _interpret(ready: ReadyTrial, folder: Path) -> str:
    learner, trial = ready.learner, ready.trial.id
    budget = ready.spec.interpret.budget
    assert budget != "off"
    return write_interpretation(
        learner.predictor,
        learner.loaded,
        folder,
        budget=budget,
        seed=trial.seed,
        title=f"{trial.name}: what it looks at",
    )


def _seen(ready: ReadyTrial, training: Training) -> dict[str, dict[str, int]]:
    """How often each class was trained on in the epoch that was kept, by head."""
    heads, seen = ready.learner.loaded.dataset.heads, training.best.seen
    return {head: dict(zip(heads[head], seen[head], strict=True)) for head in seen}


def _apply(predictions: Predictions, posthoc: Mapping[str, Any]) -> Predictions:
    heads = {h: apply_posthoc(posthoc[h], p) if posthoc.get(h) else p for h, p in predictions.heads.items()}
    return replace(predictions, heads=heads)


def _temperature(head: HeadPredictions) -> float:
    logs = np.log(np.maximum(head.probabilities.astype(np.float64), 1e-30))
    value = float(fit_temperature(logs, head.true))
    return value if np.isfinite(value) and value > 0 else 1.0
