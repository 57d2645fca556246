"""What one worker does in one go: a job of one or more trials, and what becomes of it when its worker dies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imbalance_lab.engine import Failure
from mlflow_project.stack import Trained, run_stack
from mlflow_project.task import TrialResult, TrialTask, kept_results
from mlflow_project.tracking import RunLogger, children
from mlflow_project.trial import fail_run, run_trial


@dataclass(frozen=True)
class TrialFailure:
    """A trial that raised, with the reason in one line."""

    name: str
    reason: str


Job = tuple[TrialTask, ...]
"""What one worker does in one go: the unit of the grid's map. A plain trial is a job of one."""

Outcome = TrialResult | TrialFailure | Trained
"""What becomes of a trial; one that was trained in a stack is ended by a job of its own."""


def run_job(job: Job) -> tuple[Outcome, ...]:
    """Run the trials of a job; one outcome per trial, in order. A trial that raises does not stop the others."""
    if len(job) > 1:
        return tuple(map(_told, job, run_stack(job)))
    return tuple(_told(task, _run(task)) for task in job)


def rerun_job(job: Job) -> tuple[Outcome, ...]:
    """Run a job whose worker died: trials that had ended stay, the others go on under their run ids."""
    done: dict[str, Outcome] = {}
    left: list[TrialTask] = []
    results = kept_results(Path(job[0].work))
    for task in job:
        kept = results.get(task.name)
        if kept is not None:
            end_run(replace(task, run_id=kept.run_id))
            done[task.name] = kept
            continue
        run = _child_of(task)
        if run is not None and run.info.status == "FAILED":
            done[task.name] = TrialFailure(task.name, run.data.tags.get("failure", "failed"))
        else:
            left.append(task if run is None else replace(task, run_id=run.info.run_id))
    again = run_job(tuple(left)) if left else ()
    done |= {task.name: outcome for task, outcome in zip(left, again, strict=True)}
    return tuple(done[task.name] for task in job)


def _run(task: TrialTask) -> TrialResult | Exception:
    try:
        return run_trial(task)
    except Exception as error:  # its run says FAILED and why; the grid goes on
        return error


def _told(task: TrialTask, outcome: TrialResult | Trained | Exception) -> Outcome:
    if isinstance(outcome, Exception):
        return TrialFailure(task.name, f"{type(outcome).__name__}: {outcome}")
    return outcome


def outcomes_of(job: Job, outcome: tuple[Outcome, ...] | Failure) -> tuple[Outcome, ...]:
    """One outcome per trial of a job, also where the whole job was given up: runs left open then say FAILED."""
    if not isinstance(outcome, Failure):
        return outcome
    return tuple(_given_up(task, outcome.reason) for task in job)


def _given_up(task: TrialTask, reason: str) -> Outcome:
    kept = kept_results(Path(task.work)).get(task.name)
    if kept is not None:
        end_run(replace(task, run_id=kept.run_id))
        return kept
    run = _child_of(task)
    if run is not None and run.info.status == "RUNNING":
        fail_run(RunLogger(task.store, run.info.run_id), reason)
    return TrialFailure(task.name, reason)


def end_run(task: TrialTask) -> None:
    """Mark the run of a trial whose result is kept as finished: its worker may have died in between."""
    if task.store.client().get_run(task.run_id).info.status != "FINISHED":
        RunLogger(task.store, task.run_id).finish("FINISHED")


def _child_of(task: TrialTask) -> Any:
    """The MLflow run of a trial that an earlier start made, or None."""
    if task.run_id:
        return task.store.client().get_run(task.run_id)
    return {run.info.run_name: run for run in children(task.store, task.parent_run_id)}.get(task.name)
