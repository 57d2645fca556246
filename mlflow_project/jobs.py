"""What becomes of a trial that a worker runs, also when the worker dies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imbalance_lab.engine import Failure
from mlflow_project.task import TrialResult, TrialTask, kept_results
from mlflow_project.tracking import RunLogger, children
from mlflow_project.trial import fail_run, run_trial


@dataclass(frozen=True)
class TrialFailure:
    """A trial that raised, with the reason in one line."""

    name: str
    reason: str


Outcome = TrialResult | TrialFailure
"""What becomes of a trial."""


def run_job(task: TrialTask) -> Outcome:
    """Run a trial; one that raises tells why, and its run says FAILED."""
    try:
        return run_trial(task)
    except Exception as error:  # the grid goes on
        return TrialFailure(task.name, f"{type(error).__name__}: {error}")


def rerun_job(task: TrialTask) -> Outcome:
    """Run a trial whose worker died: one that had ended stays, any other goes on under its run id."""
    kept = kept_results(Path(task.work)).get(task.name)
    if kept is not None:
        end_run(replace(task, run_id=kept.run_id))
        return kept
    run = _child_of(task)
    if run is not None and run.info.status == "FAILED":
        return TrialFailure(task.name, run.data.tags.get("failure", "failed"))
    return run_job(task if run is None else replace(task, run_id=run.info.run_id))


def outcome_of(task: TrialTask, outcome: Outcome | Failure) -> Outcome:
    """What became of a trial, also where its job was given up: a run left open then says FAILED."""
    if not isinstance(outcome, Failure):
        return outcome
    kept = kept_results(Path(task.work)).get(task.name)
    if kept is not None:
        end_run(replace(task, run_id=kept.run_id))
        return kept
    run = _child_of(task)
    if run is not None and run.info.status == "RUNNING":
        fail_run(RunLogger(task.store, run.info.run_id), outcome.reason)
    return TrialFailure(task.name, outcome.reason)


def end_run(task: TrialTask) -> None:
    """Mark the run of a trial whose result is kept as finished: its worker may have died in between."""
    if task.store.client().get_run(task.run_id).info.status != "FINISHED":
        RunLogger(task.store, task.run_id).finish("FINISHED")


def _child_of(task: TrialTask) -> Any:
    """The MLflow run of a trial that an earlier start made, or None."""
    if task.run_id:
        return task.store.client().get_run(task.run_id)
    return {run.info.run_name: run for run in children(task.store, task.parent_run_id)}.get(task.name)
