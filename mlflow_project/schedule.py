"""What the engine does for a grid: its trials, which job trains which and what becomes of each; then its strategies.

A cross-validation has one run per strategy: six strategies are six rows of MLflow's list, not 108.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from types import TracebackType

from imbalance_lab.comparison.racing import Stop
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.engine import Ended, Engine, Failure, Plan, open_engine, plan_beside
from imbalance_lab.run.race import never_begun
from imbalance_lab.run.strategy_files import StrategyTask, summarise_strategy
from imbalance_lab.run.workspace import Trained, TrialResult, Workspace
from imbalance_lab.spec import ExperimentSpec
from mlflow_project.schema import STOPPED, log_stop, log_strategy, strategy_tags
from mlflow_project.tracking import RunLogger, children, start_child, take_up
from mlflow_project.trials import (
    Job,
    Outcome,
    Ran,
    TrackedTrial,
    TrialFailure,
    await_runs,
    ended_before,
    given_up,
    rerun_job,
    run_job,
)

_LOOK_S = 0.2  # how often the grid's folder is looked at for trials that are trained


@dataclass
class Ledger:
    """What became of the trials so far; several threads may enter outcomes.

    ``results`` by trial, (trial, reason) of failures, and how often those were started that were run again;
    ``metric`` is the name of the validation score, ``say`` is called with a line for each trial that ended;
    ``training_s`` are the seconds until the last training ended, where that is told from the ends of the trials;
    ``stops`` are the strategies that a race stopped.
    """

    metric: str
    results: dict[str, TrialResult]
    say: Callable[[str], None]
    failures: list[tuple[str, str]] = field(default_factory=list)
    again: dict[str, int] = field(default_factory=dict)
    training_s: float | None = None
    stops: list[Stop] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def enter(self, trial: TrackedTrial, outcome: Outcome, starts: int = 1) -> None:
        """Enter an outcome; ``starts`` above 1: its worker died, and it was started so often."""
        with self._lock:
            if trial.name in self.results:  # a job that was run again tells of a trial that had been ended meanwhile
                return
            if starts > 1:
                self.again[trial.name] = max(starts, self.again.get(trial.name, 0))
            if isinstance(outcome, TrialFailure):
                self.failures.append((trial.name, outcome.reason))
                self.say(f"{trial.name}: FAILED, {outcome.reason}")
            elif isinstance(outcome, TrialResult):
                self.results[trial.name] = outcome
                run_again = f", started {self.again[trial.name]} times" if trial.name in self.again else ""
                self.say(
                    f"{trial.name}: {self.metric} {outcome.val_score:.3f} on validation, best epoch "
                    f"{outcome.best_epoch} of {outcome.epochs}, {outcome.seconds:.0f} s{run_again}"
                )


def run_all(trials: Sequence[TrackedTrial], plan: Plan, engine: Engine, workspace: Workspace, ledger: Ledger) -> None:
    """Train and end every trial.

    A worker without a device of its own does so with one trial after another. A worker with one trains its
    share of all networks at once and ends none: that is the work of processes beside it, which begin with a
    trial as soon as it is trained. Classical classifiers are theirs altogether.
    """
    await_runs(trials)
    journal = workspace.journal("trials")
    if not plan.devices:
        jobs = [Job((trial,)) for trial in trials]
        for ended in engine.map(run_job, jobs, again=rerun_job, journal=journal):
            _enter(ledger, jobs[ended.index], ended)
        return
    begun = time.perf_counter()
    with open_engine(plan_beside(plan)) as beside, _Endings(trials, beside, workspace, ledger) as endings:
        trained = workspace.trained()  # by a start of the grid that was interrupted
        networks = []
        for trial in trials:
            if trial.is_classical:
                endings.add(trial)
            elif trial.name not in trained:
                networks.append(trial)
        shares = [networks[i :: len(plan.devices)] for i in range(len(plan.devices))]
        jobs = [
            Job(tuple(trial.on(device) for trial in share), plan.together, hand_over=True)
            for device, share in zip(plan.devices, shares, strict=True)
            if share
        ]
        left = list(_trained(engine, jobs, journal, ledger, endings))
        if left:
            workspace.note(f"workers died twice with many trials at once; {len(left)} trials were trained one by one")
            alone = [Job((trial,), 1, hand_over=True) for trial in left]
            for _ in _trained(engine, alone, workspace.journal("alone"), ledger, endings):
                raise AssertionError("a job of one trial leaves none")
        ledger.training_s = (ledger.training_s or 0.0) + time.perf_counter() - begun  # a race has several rounds


def _trained(engine: Engine, jobs: list[Job], journal: Path, ledger: Ledger, endings: _Endings) -> list[TrackedTrial]:
    """Train the jobs and hand the trials over; returns those of jobs that were given up with others in them."""
    left: list[TrackedTrial] = []
    for ended in engine.map(run_job, jobs, again=rerun_job, journal=journal):
        job = jobs[ended.index]
        if isinstance(ended.outcome, Failure) and len(job.trials) > 1:
            # One of them may have killed the worker: no reason to give up the others.
            done, rest = ended_before(job)
            left += [trial for trial, _ in rest]
            ledger.again.update((trial.name, ended.starts + 1) for trial, begun in rest if begun)
            kept = [trial for trial in job.trials if trial.name in done]
            if kept:
                outcome = Ran(tuple(done[trial.name] for trial in kept))
                _enter(ledger, replace(job, trials=tuple(kept)), Ended(ended.index, outcome), endings)
        else:
            _enter(ledger, job, ended, endings)
    return left


def _enter(ledger: Ledger, job: Job, ended: Ended[Ran], endings: _Endings | None = None) -> None:
    ran = given_up(job, ended.outcome) if isinstance(ended.outcome, Failure) else ended.outcome
    for trial, outcome in zip(job.trials, ran.outcomes, strict=True):
        ledger.enter(trial, outcome, ended.starts if trial.name in ran.again else 1)
        if isinstance(outcome, Trained) and endings is not None:
            endings.add(trial, outcome)


class _Endings:
    """Processes that end trained trials while the workers train on; a thread looks for them in the grid's folder."""

    def __init__(self, trials: Sequence[TrackedTrial], engine: Engine, workspace: Workspace, ledger: Ledger) -> None:
        self._trials = {trial.name: trial for trial in trials}
        self._engine, self._workspace, self._ledger = engine, workspace, ledger
        self._journal = workspace.journal("endings")
        self._pool = ThreadPoolExecutor(engine.jobs)
        self._futures: dict[str, Future[None]] = {}
        self._numbers = count()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def add(self, trial: TrackedTrial, trained: Trained | None = None) -> None:
        """End a trained trial, or run one from its start, as soon as a process is free; once, however often asked."""
        here = trial.on("cpu", threads=1, trained=trained is not None)
        with self._lock:
            if trial.name not in self._futures and not self._stop.is_set():
                job = Job((replace(here, run_id=trained.run_id) if trained else here,))
                self._futures[trial.name] = self._pool.submit(self._end, job, next(self._numbers))

    def _end(self, job: Job, number: int) -> None:
        ended = self._engine.call(run_job, job, again=rerun_job, journal=self._journal, index=number)
        if not self._stop.is_set():  # the grid is being left: what was killed with it did not fail
            _enter(self._ledger, job, ended)

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self._sweep()

    def _sweep(self) -> None:
        for name, trained in self._workspace.trained().items():
            if name in self._trials:
                self.add(self._trials[name], trained)

    def __enter__(self) -> _Endings:
        shutil.rmtree(self._journal, ignore_errors=True)
        self._journal.mkdir(parents=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._sweep()
                self._pool.shutdown(wait=True)
        finally:
            self._stop.set()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._thread.join()
        if kind is None:
            for future in self._futures.values():
                future.result()


def log_strategies(
    spec: ExperimentSpec,
    loaded: LoadedData,
    parent: RunLogger,
    results: Sequence[TrialResult],
    engine: Engine,
    plan: Plan,
) -> tuple[dict[str, str], list[str]]:
    """Summarise every strategy side by side and log each to a run of its own, a child of the parent.

    A grid that is taken up again writes to the runs that it has.

    Parameters
    ----------
    results : trials whose strategy and seed have all folds
    loaded : of the first fold

    Returns
    -------
    The run of each strategy, and a line for each that could not be summarised; its run is FAILED.
    """
    workspace, known = Workspace.of_run(parent.run_id), _strategy_runs(parent)
    by_strategy = {name: tuple(r for r in results if r.id.strategy == name) for name in spec.strategies}
    loggers = {name: _strategy_run(spec, parent, name, known) for name, trials in by_strategy.items() if trials}
    plain = spec.to_mapping()
    tasks = [
        StrategyTask(
            name, by_strategy[name], plain, str(workspace.strategy(name).absolute()), logger.run_id, plan.threads
        )
        for name, logger in loggers.items()
    ]
    failed: list[str] = []
    done: dict[str, str] = {}
    try:
        # A device has nothing to do here: processes beside it analyse.
        with open_engine(plan_beside(plan)) if plan.devices else nullcontext(engine) as chosen:
            for ended in chosen.map(summarise_strategy, tasks):
                task = tasks[ended.index]
                if isinstance(ended.outcome, Failure):
                    loggers[task.strategy].fail(ended.outcome.reason)
                    failed.append(f"{task.strategy}: the analysis over all folds failed: {ended.outcome.reason}")
                else:
                    log_strategy(spec, loaded, loggers[task.strategy], task, ended.outcome)
                    done[task.strategy] = task.run_id
    except BaseException as error:
        for name, logger in loggers.items():
            if name not in done:
                logger.fail(error)
        raise
    return {name: done[name] for name in loggers if name in done}, failed


def log_stopped(
    spec: ExperimentSpec, loaded: LoadedData, parent: RunLogger, stops: Sequence[Stop], results: Sequence[TrialResult]
) -> dict[str, str]:
    """A run for each strategy that the race stopped, by strategy; it is KILLED, and says why."""
    known, found = _strategy_runs(parent), {}
    for stop in stops:
        logger = _strategy_run(spec, parent, stop.strategy, known)
        log_stop(spec, loaded, logger, stop, [r for r in results if r.id.strategy == stop.strategy])
        found[stop.strategy] = logger.run_id
    return found


def log_race(parent: RunLogger, spec: ExperimentSpec, stops: Sequence[Stop]) -> None:
    """What a race did, in the parent and in the trials of the strategies that it stopped: they say so from now on."""
    saved = never_begun(spec, stops)
    parent.metrics({"trials/never_begun": saved})
    parent.tags({STOPPED: ", ".join(f"{stop.strategy} {stop.round.words}" for stop in stops)[:5000] or "none"})
    parent.text(json.dumps([asdict(stop) | {"sentence": stop.sentence} for stop in stops], indent=1), "race.json")
    words = {stop.strategy: stop.round.words for stop in stops}
    for child in children(parent.store, parent.run_id):
        said, now = child.data.tags.get(STOPPED, ""), words.get(child.data.tags.get("strategy", ""), "")
        if now and said != now:
            RunLogger(parent.store, child.info.run_id).tags({STOPPED: now})
        elif said and not now:  # a trial that had failed takes part now, and the look decided otherwise
            RunLogger(parent.store, child.info.run_id).untag(STOPPED)


def _strategy_runs(parent: RunLogger) -> dict[str, str]:
    """The runs of strategies over their folds that a grid has already, by strategy."""
    return {
        run.data.tags["strategy"]: run.info.run_id
        for run in children(parent.store, parent.run_id)
        if run.data.tags.get("role") == "strategy"
    }


def _strategy_run(spec: ExperimentSpec, parent: RunLogger, strategy: str, known: Mapping[str, str]) -> RunLogger:
    if strategy in known:
        return take_up(parent.store, known[strategy])
    return start_child(
        parent.store, parent.run_id, strategy, strategy_tags(strategy, spec.baseline, list(spec.strategies))
    )
