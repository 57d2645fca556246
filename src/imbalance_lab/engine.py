"""Map a trial over a grid: joblib is the only seam."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from imbalance_lab.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """A trial that raised: its place in the grid and the reason in one line."""

    index: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """How many trials run at once, and how many threads each of them may use."""

    jobs: int
    threads: int


def plan_for(jobs: int | None, trials: int, device: str) -> Plan:
    """Divide the cores: as many trials at once as there are cores, one thread each, unless ``jobs`` says otherwise.

    One process with one thread per core beats one process with all threads for recurrent networks
    of this size (``benchmarks/``). On a GPU trials run one after the other.

    Raises
    ------
    InputError
        If ``jobs`` is below 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs: found {jobs}; allowed are integers from 1")
    wanted = jobs if jobs is not None else (cores if device == "cpu" else 1)
    at_once = max(1, min(wanted, trials))
    return Plan(at_once, max(1, cores // at_once))


def run_grid(
    function: Callable[[Task], Result], tasks: Iterable[Task], plan: Plan
) -> Iterator[tuple[int, Result | Failure]]:
    """Yield (index of the task, result or :class:`Failure`) as trials end.

    A trial that raises does not stop the others. ``function`` and the tasks must be picklable when
    ``plan.jobs`` is above 1.
    """
    from joblib import Parallel, delayed

    calls = (delayed(_guarded)(function, index, task) for index, task in enumerate(tasks))
    backend = "sequential" if plan.jobs == 1 else "loky"
    with Parallel(n_jobs=plan.jobs, backend=backend, return_as="generator_unordered") as parallel:
        yield from parallel(calls)


def _guarded(function: Callable[[Task], Result], index: int, task: Task) -> tuple[int, Result | Failure]:
    try:
        return index, function(task)
    except Exception as error:  # a trial's failure is reported, whatever it is; the grid goes on
        return index, Failure(index, f"{type(error).__name__}: {error}")
