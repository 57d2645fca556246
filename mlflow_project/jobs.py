"""What one worker does in one go: a job of one or more trials, and what becomes of it when its worker dies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imbalance_lab.engine import Failure
from mlflow_project.task import Trained, TrialResult, TrialTask, kept_results, kept_trained
from mlflow_project.tracking import RunLogger, children
from mlflow_project.trial import fail_run, run_trials


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
    """

    tasks: tuple[TrialTask, ...]
    together: int | None = None
    hand_over: bool = False


@dataclass(frozen=True)
class Ran:
    """One outcome per trial of a job, in order, and the names of those that were under way when a worker died."""

    outcomes: tuple[Outcome, ...]
    again: frozenset[str] = frozenset()


def run_job(job: Job) -> Ran:
    """Run the trials of a job. A trial that raises does not stop the others."""
    outcomes = run_trials(job.tasks, together=job.together, hand_over=job.hand_over)
    return Ran(tuple(map(_told, job.tasks, outcomes)))


def rerun_job(job: Job) -> Ran:
    """Run a job whose worker died: trials that had ended stay, the others go on under their run ids."""
    done, left = ended_before(job)
    rest = [task for task, _ in left]
    again = run_job(replace(job, tasks=tuple(rest))).outcomes if rest else ()
    done |= {task.name: outcome for task, outcome in zip(rest, again, strict=True)}
    under_way = frozenset(task.name for task, begun in left if begun)
    return Ran(tuple(done[task.name] for task in job.tasks), under_way)


def ended_before(job: Job) -> tuple[dict[str, Outcome], list[tuple[TrialTask, bool]]]:
    """The trials of a job that had ended when its worker died, and the others: with their run, whether under way."""
    done: dict[str, Outcome] = {}
    left: list[tuple[TrialTask, bool]] = []
    first = job.tasks[0]
    results, trained = kept_results(Path(first.work)), kept_trained(Path(first.work))
    runs = {run.info.run_name: run for run in children(first.store, first.parent_run_id)}
    for task in job.tasks:
        # the run of a single trial is no child
        run = task.store.client().get_run(task.run_id) if task.run_id else runs.get(task.name)
        if (kept := results.get(task.name)) is not None:
            end_run(replace(task, run_id=kept.run_id))
            done[task.name] = kept
        elif job.hand_over and task.name in trained:
            done[task.name] = trained[task.name]
        elif run is not None and run.info.status == "FAILED":
            done[task.name] = TrialFailure(task.name, run.data.tags.get("failure", "failed"))
        else:
            begun = len(job.tasks) == 1 or (run is not None and run.info.status == "RUNNING")
            left.append((task if run is None else replace(task, run_id=run.info.run_id), begun))
    return done, left


def given_up(job: Job, failure: Failure) -> Ran:
    """The outcomes of a job whose workers all died: runs that are left open then say FAILED."""
    done, left = ended_before(job)
    for task, _ in left:
        if task.run_id:
            fail_run(RunLogger(task.store, task.run_id), failure.reason)
        done[task.name] = TrialFailure(task.name, failure.reason)
    return Ran(tuple(done[task.name] for task in job.tasks), frozenset(task.name for task in job.tasks))


def _told(task: TrialTask, outcome: TrialResult | Trained | Exception) -> Outcome:
    if isinstance(outcome, Exception):
        return TrialFailure(task.name, f"{type(outcome).__name__}: {outcome}")
    return outcome


def end_run(task: TrialTask) -> None:
    """Mark the run of a trial whose result is kept as finished: its worker may have died in between."""
    if task.store.client().get_run(task.run_id).info.status != "FINISHED":
        RunLogger(task.store, task.run_id).finish("FINISHED")


def await_runs(tasks: Sequence[TrialTask]) -> None:
    """Mark the runs of trials that are taken up again as waiting: what an earlier start made of them is over."""
    for task in tasks:
        if task.run_id:
            task.store.client().update_run(task.run_id, status="SCHEDULED")
