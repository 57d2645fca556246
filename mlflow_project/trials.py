"""What a worker does: train trials, log each to a run of its own, and go on where another worker died."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from imbalance_lab.addresses import without_secrets
from imbalance_lab.data.cache import load_cached
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.engine import Failure
from imbalance_lab.run.binding import set_threads
from imbalance_lab.run.scores import epoch_metrics
from imbalance_lab.run.temporaries import temporaries_in
from imbalance_lab.run.terminal import quiet
from imbalance_lab.run.trial import ReadyTrial, Trial, finish, prepare, training_of
from imbalance_lab.run.workspace import Trained, TrialResult
from imbalance_lab.spec import TrialId
from imbalance_lab.training.course import Epoch
from imbalance_lab.training.together import Failed, Halved, Measured, train_together
from mlflow_project.models import logged_models
from mlflow_project.schema import log_outcome, log_start, trial_tags
from mlflow_project.tracking import FAILURE, RunLogger, Store, children, connect, start_child, take_up


@dataclass(frozen=True)
class TrackedTrial:
    """A trial and where it is logged: the parent of its run, and the run itself when it is taken up again."""

    trial: Trial
    store: Store
    parent_run_id: str
    run_id: str = ""

    @property
    def id(self) -> TrialId:
        """Which trial."""
        return self.trial.id

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.trial.id.name

    @property
    def is_classical(self) -> bool:
        """Whether a classical classifier is trained."""
        return bool(self.trial.spec["strategies"][self.id.strategy].get("table"))

    def on(self, device: str, *, threads: int | None = None, trained: bool = False) -> TrackedTrial:
        """The same on another device; ``trained``: only its end is left."""
        threads = self.trial.threads if threads is None else threads
        return replace(self, trial=replace(self.trial, device=device, threads=threads, trained=trained))


@dataclass(frozen=True)
class TrialFailure:
    """A trial that raised, with the reason in one line."""

    name: str
    reason: str


Outcome = TrialResult | TrialFailure | Trained
"""What becomes of a trial in a job; one that was only trained is ended by a job of its own."""


@dataclass(frozen=True)
class Job:
    """The trials that a worker trains at once, at most ``together`` of them; the unit of the grid's map.

    With ``hand_over`` they are only trained: scoring, analysis and pages are left to another worker.
    ``together`` None: as many as the device's memory holds.
    """

    trials: tuple[TrackedTrial, ...]
    together: int | None = None
    hand_over: bool = False


@dataclass(frozen=True)
class Ran:
    """One outcome per trial of a job, in order, and the names of those that were under way when a worker died."""

    outcomes: tuple[Outcome, ...]
    again: frozenset[str] = frozenset()


def run_job(job: Job) -> Ran:
    """Run the trials of a job. A trial that raises does not stop the others."""
    return Ran(tuple(map(_told, job.trials, run_trials(job))))


def rerun_job(job: Job) -> Ran:
    """Run a job whose worker died: trials that had ended stay, the others go on under their run ids."""
    done, left = ended_before(job)
    rest = [trial for trial, _ in left]
    again = run_job(replace(job, trials=tuple(rest))).outcomes if rest else ()
    done |= {trial.name: outcome for trial, outcome in zip(rest, again, strict=True)}
    under_way = frozenset(trial.name for trial, begun in left if begun)
    return Ran(tuple(done[trial.name] for trial in job.trials), under_way)


def run_trials(job: Job) -> list[TrialResult | Trained | Exception]:
    """Train the trials of a job on one device and end each as soon as it is trained; one outcome each, in order.

    The MLflow run of a trial that raises is FAILED with the reason; the others go on.
    """
    with temporaries_in(job.trials[0].trial.workspace.temporaries):
        return _run_trials(job)


def _run_trials(job: Job) -> list[TrialResult | Trained | Exception]:
    trials, first = job.trials, job.trials[0].trial
    quiet()
    set_threads(first.threads)
    connect(trials[0].store)
    device = first.where
    # The arrays are mapped, not read: a job of several folds holds what it looks at.
    data = {fold: load_cached(first.workspace.data_of(fold)) for fold in {trial.id.fold for trial in trials}}
    crowd = 1  # trials that write to the store in turn, by the thread that trains them: each waits as much longer
    loggers: dict[int, RunLogger] = {}
    outcomes: dict[int, TrialResult | Trained | Exception] = {}

    def steps(i: int) -> Iterator[Epoch | None]:
        if i in loggers:  # begun anew after a lack of memory
            loggers[i].flush()
        else:
            loggers[i] = open_run(trials[i])
            loggers[i].pause *= crowd
        ready = _opened(trials[i].trial, loggers[i], data[trials[i].id.fold])
        epochs: list[Epoch] = []
        yield from _logged(ready, loggers[i], epochs)
        outcomes[i] = (_hand_over if job.hand_over else _end)(ready, loggers[i], epochs)

    try:
        for event in train_together([partial(steps, i) for i in range(len(trials))], device, most=job.together):
            match event:
                case Failed(i, error):
                    outcomes[i] = error
                    if i in loggers:
                        loggers[i].fail(error)
                case Measured(at_once, size) if len(trials) > 1:
                    crowd = min(at_once, len(trials))
                    first.workspace.note(f"{device}: {crowd} trials at once, {size / 2**20:,.0f} MiB each")
                case Halved(i, before, at_once):
                    first.workspace.note(
                        f"{device}: memory ran out with {before} trials at once, in {trials[i].name}; "
                        f"from there on at most {at_once}"
                    )
    except BaseException as error:
        for i, logger in loggers.items():
            if i not in outcomes:
                logger.fail(error)
        raise
    return [outcomes[i] for i in range(len(trials))]


def run_alone(trial: TrackedTrial) -> TrialResult:
    """Run one trial to its end; raises what stopped it, and its MLflow run is then FAILED with the reason."""
    (outcome,) = run_trials(Job((trial,)))
    if isinstance(outcome, Exception):
        raise outcome
    assert isinstance(outcome, TrialResult)
    return outcome


def open_run(trial: TrackedTrial) -> RunLogger:
    """Start the trial's MLflow run, or take it up again."""
    if trial.run_id:
        logger = take_up(trial.store, trial.run_id)
        _forget_models(logger)
        return logger
    spec = trial.trial.spec
    tags = trial_tags(trial.id, spec["baseline"], list(spec["strategies"]))
    return start_child(trial.store, trial.parent_run_id, trial.name, tags)


def ended_before(job: Job) -> tuple[dict[str, Outcome], list[tuple[TrackedTrial, bool]]]:
    """The trials of a job that had ended when its worker died, and the others: with their run, whether under way."""
    done: dict[str, Outcome] = {}
    left: list[tuple[TrackedTrial, bool]] = []
    first = job.trials[0]
    results, trained = first.trial.workspace.results(), first.trial.workspace.trained()
    # A strategy over its folds may have the name of a trial.
    own = [run for run in children(first.store, first.parent_run_id) if run.data.tags.get("role") != "strategy"]
    runs = {run.info.run_name: run for run in own}
    for trial in job.trials:
        # the run of a trial alone is no child
        run = trial.store.client().get_run(trial.run_id) if trial.run_id else runs.get(trial.name)
        if (kept := results.get(trial.name)) is not None:
            end_run(replace(trial, run_id=kept.run_id))
            done[trial.name] = kept
        elif job.hand_over and trial.name in trained:
            done[trial.name] = trained[trial.name]
        elif run is not None and run.info.status == "FAILED":
            done[trial.name] = TrialFailure(trial.name, run.data.tags.get(FAILURE, "failed"))
        else:
            begun = len(job.trials) == 1 or (run is not None and run.info.status == "RUNNING")
            left.append((trial if run is None else replace(trial, run_id=run.info.run_id), begun))
    return done, left


def given_up(job: Job, failure: Failure) -> Ran:
    """The outcomes of a job whose workers all died: runs that are left open then say FAILED."""
    done, left = ended_before(job)
    for trial, _ in left:
        if trial.run_id:
            RunLogger(trial.store, trial.run_id).fail(failure.reason)
        done[trial.name] = TrialFailure(trial.name, failure.reason)
    return Ran(tuple(done[trial.name] for trial in job.trials), frozenset(trial.name for trial in job.trials))


def end_run(trial: TrackedTrial) -> None:
    """Mark the run of a trial whose result is kept as finished: its worker may have died in between."""
    if trial.store.client().get_run(trial.run_id).info.status != "FINISHED":
        RunLogger(trial.store, trial.run_id).finish("FINISHED")


def await_runs(trials: Sequence[TrackedTrial]) -> None:
    """Mark the runs of trials that are taken up again as waiting: what an earlier start made of them is over."""
    for trial in trials:
        if trial.run_id:
            trial.store.client().update_run(trial.run_id, status="SCHEDULED")


def _opened(trial: Trial, logger: RunLogger, loaded: LoadedData) -> ReadyTrial:
    ready = prepare(trial, loaded)
    if not trial.trained:  # where it was trained is logged, not where it is ended
        log_start(logger, ready)
    return ready


def _logged(ready: ReadyTrial, logger: RunLogger, epochs: list[Epoch]) -> Iterator[Epoch | None]:
    """Train step by step, collect the epochs and log each, unless an earlier start did so."""
    before, heads = logger.logged_steps("train/loss"), ready.learner.loaded.dataset.heads
    for epoch in ready.steps():
        if epoch is not None:
            epochs.append(epoch)
            if epoch.number > before:
                logger.metrics(epoch_metrics(epoch, heads), step=epoch.number)
                logger.flush_in_time()
        yield epoch


def _hand_over(ready: ReadyTrial, logger: RunLogger, epochs: Sequence[Epoch]) -> Trained:
    """Leave the end to another worker, which finds the run and the checkpoint; nothing stays in here."""
    logger.flush()
    trained = Trained(logger.run_id)
    ready.trial.workspace.keep_trained(ready.trial.id, trained)
    return trained


def _end(ready: ReadyTrial, logger: RunLogger, epochs: Sequence[Epoch]) -> TrialResult:
    """Score, analyse and log the trained model; the run is then FINISHED and its result kept."""
    logger.flush()
    outcome = finish(ready, training_of(epochs, ready.main_head), logger.run_id)
    result = log_outcome(logger, ready, outcome)
    ready.trial.workspace.keep_result(result)
    logger.finish("FINISHED")
    return result


def _told(trial: TrackedTrial, outcome: TrialResult | Trained | Exception) -> Outcome:
    if isinstance(outcome, Exception):
        return TrialFailure(trial.name, without_secrets(f"{type(outcome).__name__}: {outcome}"))
    return outcome


def _forget_models(logger: RunLogger) -> None:
    """Delete the models of a start that did not come to its end, so that a run carries one."""
    for model in logged_models(logger.client, logger.client.get_run(logger.run_id)):
        logger.client.delete_logged_model(model.model_id)
