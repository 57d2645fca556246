"""Trials of one shape that one worker trains together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.task import TrialTask, connect, prepare_worker
from mlflow_project.trial import OpenTrial, open_trial

if TYPE_CHECKING:
    from imbalance_lab.data.dataset import LoadedData
    from imbalance_lab.spec import ExperimentSpec


@dataclass(frozen=True)
class Trained:
    """A trial that a stack has trained: its run is open, and its checkpoint holds all that its end needs."""

    run_id: str


def stacks_of(
    tasks: Sequence[TrialTask], spec: ExperimentSpec, loaded: LoadedData, jobs: int
) -> list[tuple[TrialTask, ...]]:
    """Divide the tasks into those that train together, as ``training.stack`` says; the others are alone.

    With ``auto`` every one of ``jobs`` workers gets its share of a group.
    """
    from imbalance_lab.training.stacked.groups import can_stack, stack_groups, worth_stacking
    from mlflow_project.tuning import ready

    stack = spec.training.stack
    if stack in ("off", 1) or len(tasks) < 2:
        return [(task,) for task in tasks]
    # The shape is the strategy's; the seed changes nothing in it.
    names = list(dict.fromkeys(task.strategy for task in tasks))
    shapes = [ready(spec, name, spec.seeds[0], loaded) for name in names]
    out: list[tuple[TrialTask, ...]] = []
    for group in stack_groups(shapes):
        members = {names[i] for i in group}
        together = [task for task in tasks if task.strategy in members]
        shape = shapes[group[0]]
        if not can_stack(shape) or (stack == "auto" and not worth_stacking(shape)):
            most = 1
        elif isinstance(stack, int):
            most = min(stack, math.ceil(len(together) / jobs))
        else:
            most = math.ceil(len(together) / jobs)
        parts = math.ceil(len(together) / most)
        edges = [len(together) * i // parts for i in range(parts + 1)]
        out += [tuple(together[a:b]) for a, b in itertools.pairwise(edges)]
    return out


def run_stack(tasks: Sequence[TrialTask]) -> list[Trained | Exception]:
    """Train the trials together; one outcome per task, in order: that it is trained, or why it failed.

    Nothing is scored here: scoring, figures and reports of a trial keep a core busy for a dozen seconds, in
    which a GPU would wait, so they are left to :func:`~mlflow_project.trial.run_trial`, for many trials
    side by side. What stops all of them (an error in the stack itself) is the outcome of each that had not ended.
    """
    from imbalance_lab.data.cache import load_cached
    from imbalance_lab.training.stacked.fit import fit_stacked
    from imbalance_lab.training.stacked.groups import stack_groups
    from imbalance_lab.training.trial import PreparedTrial

    prepare_worker(tasks[0].threads)
    connect(tasks[0].store)
    loaded = load_cached(Path(tasks[0].work) / "data")
    outcomes: dict[int, Trained | Exception] = {}
    opened: dict[int, OpenTrial] = {}
    for i, task in enumerate(tasks):
        try:
            opened[i] = open_trial(task, loaded)
        except Exception as error:
            outcomes[i] = error
    places = list(opened)
    for group in stack_groups([opened[i].trial for i in places]):
        own = [places[g] for g in group]
        trials = [t for i in own if isinstance(t := opened[i].trial, PreparedTrial)]
        epochs = fit_stacked(
            trials,
            opened[own[0]].selection,
            checkpoints=[opened[i].checkpoint for i in own],
            fingerprints=[opened[i].fingerprint for i in own],
        )
        try:
            for place, outcome in epochs:
                i = own[place]
                if i not in outcomes:
                    ended = _take(opened[i], outcome)
                    if ended is not None:
                        outcomes[i] = ended
        except BaseException as error:
            for i in own:
                if i not in outcomes:
                    opened[i].fail(error)
                    if isinstance(error, Exception):
                        outcomes[i] = error
            if not isinstance(error, Exception):
                raise
    return [outcomes[i] for i in range(len(tasks))]


def _take(opened: OpenTrial, outcome: Any) -> Trained | Exception | None:
    """Log what the stack yields for a trial; its outcome once it has ended."""
    try:
        with opened.failing():
            if isinstance(outcome, Exception):
                raise outcome
            opened.add(outcome)
            if outcome.stopped or outcome.number == opened.spec.training.epochs:
                opened.logger.flush()
                return Trained(opened.logger.run_id)
    except Exception as error:  # its run says FAILED and why; the others go on
        return error
    return None
