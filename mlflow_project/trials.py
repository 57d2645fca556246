"""All trials of a grid: which job trains which, and what becomes of each."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from types import TracebackType

from imbalance_lab.engine import Ended, Engine, Failure, Plan, open_engine, plan_beside
from mlflow_project.jobs import Job, Outcome, Ran, TrialFailure, await_runs, ended_before, given_up, rerun_job, run_job
from mlflow_project.task import Trained, TrialResult, TrialTask, kept_trained, note

_LOOK_S = 0.2  # how often the grid's folder is looked at for trials that are trained


@dataclass
class Ledger:
    """What became of the trials so far; several threads may enter outcomes.

    ``results`` by trial, (trial, reason) of failures, and how often those were started that were run again;
    ``metric`` is the name of the validation score, ``say`` is called with a line for each trial that ended;
    ``training_s`` are the seconds until the last training ended, where that is told from the ends of the trials.
    """

    metric: str
    results: dict[str, TrialResult]
    say: Callable[[str], None]
    failures: list[tuple[str, str]] = field(default_factory=list)
    again: dict[str, int] = field(default_factory=dict)
    training_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def enter(self, task: TrialTask, outcome: Outcome, starts: int = 1) -> None:
        """Enter an outcome; ``starts`` above 1: its worker died, and it was started so often."""
        with self._lock:
            if task.name in self.results:  # a job that was run again tells of a trial that had been ended meanwhile
                return
            if starts > 1:
                self.again[task.name] = max(starts, self.again.get(task.name, 0))
            if isinstance(outcome, TrialFailure):
                self.failures.append((task.name, outcome.reason))
                self.say(f"{task.name}: FAILED, {outcome.reason}")
            elif isinstance(outcome, TrialResult):
                self.results[task.name] = outcome
                run_again = f", started {self.again[task.name]} times" if task.name in self.again else ""
                self.say(
                    f"{task.name}: {self.metric} {outcome.val_score:.3f} on validation, best epoch "
                    f"{outcome.best_epoch} of {outcome.epochs}, {outcome.seconds:.0f} s{run_again}"
                )


def run_all(tasks: Sequence[TrialTask], plan: Plan, engine: Engine, work: Path, ledger: Ledger) -> None:
    """Train and end every trial.

    A worker without a device of its own does so with one trial after another. A worker with one trains its
    share of all networks at once and ends none: that is the work of processes beside it, which begin with a
    trial as soon as it is trained. Classical classifiers are theirs altogether.
    """
    await_runs(tasks)
    journal = work / "starts" / "trials"
    if not plan.devices:
        jobs = [Job((task,)) for task in tasks]
        for ended in engine.map(run_job, jobs, again=rerun_job, journal=journal):
            _enter(ledger, jobs[ended.index], ended)
        return
    begun = time.perf_counter()
    with open_engine(plan_beside(plan)) as beside, _Endings(tasks, beside, work, ledger) as endings:
        trained = kept_trained(work)  # by a start of the grid that was interrupted
        networks = []
        for task in tasks:
            if task.spec["strategies"][task.strategy].get("table"):
                endings.add(task)
            elif task.name not in trained:
                networks.append(task)
        shares = [networks[i :: len(plan.devices)] for i in range(len(plan.devices))]
        jobs = [
            Job(tuple(replace(task, device=device) for task in share), plan.together, hand_over=True)
            for device, share in zip(plan.devices, shares, strict=True)
            if share
        ]
        left = list(_trained(engine, jobs, journal, ledger, endings))
        if left:
            note(work, f"workers died twice with many trials at once; {len(left)} trials were trained one by one")
            alone = [Job((task,), 1, hand_over=True) for task in left]
            for _ in _trained(engine, alone, work / "starts" / "alone", ledger, endings):
                raise AssertionError("a job of one trial leaves none")
        ledger.training_s = time.perf_counter() - begun


def _trained(engine: Engine, jobs: list[Job], journal: Path, ledger: Ledger, endings: _Endings) -> list[TrialTask]:
    """Train the jobs and hand the trials over; returns those of jobs that were given up with others in them."""
    left: list[TrialTask] = []
    for ended in engine.map(run_job, jobs, again=rerun_job, journal=journal):
        job = jobs[ended.index]
        if isinstance(ended.outcome, Failure) and len(job.tasks) > 1:
            # One of them may have killed the worker: no reason to give up the others.
            done, rest = ended_before(job)
            left += [task for task, _ in rest]
            ledger.again.update((task.name, ended.starts + 1) for task, begun in rest if begun)
            kept = [task for task in job.tasks if task.name in done]
            if kept:
                outcome = Ran(tuple(done[task.name] for task in kept))
                _enter(ledger, replace(job, tasks=tuple(kept)), Ended(ended.index, outcome), endings)
        else:
            _enter(ledger, job, ended, endings)
    return left


def _enter(ledger: Ledger, job: Job, ended: Ended[Ran], endings: _Endings | None = None) -> None:
    ran = given_up(job, ended.outcome) if isinstance(ended.outcome, Failure) else ended.outcome
    for task, outcome in zip(job.tasks, ran.outcomes, strict=True):
        ledger.enter(task, outcome, ended.starts if task.name in ran.again else 1)
        if isinstance(outcome, Trained) and endings is not None:
            endings.add(task, outcome)


class _Endings:
    """Processes that end trained trials while the workers train on; a thread looks for them in the grid's folder."""

    def __init__(self, tasks: Sequence[TrialTask], engine: Engine, work: Path, ledger: Ledger) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._engine, self._work, self._ledger = engine, work, ledger
        self._journal = work / "starts" / "endings"
        self._pool = ThreadPoolExecutor(engine.jobs)
        self._futures: dict[str, Future[None]] = {}
        self._numbers = count()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def add(self, task: TrialTask, trained: Trained | None = None) -> None:
        """End a trained trial, or run one from its start, as soon as a process is free; once, however often asked."""
        here = replace(task, device="cpu", threads=1, trained=trained is not None)
        with self._lock:
            if task.name not in self._futures and not self._stop.is_set():
                job = Job((replace(here, run_id=trained.run_id) if trained else here,))
                self._futures[task.name] = self._pool.submit(self._end, job, next(self._numbers))

    def _end(self, job: Job, number: int) -> None:
        ended = self._engine.call(run_job, job, again=rerun_job, journal=self._journal, index=number)
        if not self._stop.is_set():  # the grid is being left: what was killed with it did not fail
            _enter(self._ledger, job, ended)

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self._sweep()

    def _sweep(self) -> None:
        for name, trained in kept_trained(self._work).items():
            if name in self._tasks:
                self.add(self._tasks[name], trained)

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
