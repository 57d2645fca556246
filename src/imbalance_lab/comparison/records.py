"""What a comparison takes in: one record for each trained run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imbalance_lab.errors import InputError
from imbalance_lab.predictions import HeadPredictions, Predictions


@dataclass(frozen=True)
class RunRecord:
    """One run: a strategy trained with one seed, on one fold where there are folds.

    Attributes
    ----------
    strategy, seed, run_id : which run it is; ``run_id`` is what error messages name
    test : its predictions on the split that the table is made of
    val_score : the selection metric on validation, larger is better; None where unknown
    seconds : training time in seconds; None where unknown
    report : the run's ``error_analysis_report`` (plain dict), or None
    fold : which fold of a cross-validation ``test`` is of; None without folds, and for pooled folds
    folds : the runs that were pooled into this one, by fold; empty otherwise
    """

    strategy: str
    seed: int
    run_id: str
    test: Predictions
    val_score: float | None = None
    seconds: float | None = None
    report: Mapping[str, Any] | None = None
    fold: int | None = None
    folds: tuple[RunRecord, ...] = ()

    @property
    def trained(self) -> tuple[RunRecord, ...]:
        """The single trainings behind this record, in the order of its rows."""
        return self.folds or (self,)


def head_of(run: RunRecord, head: str) -> HeadPredictions:
    """Predictions of one head of a run.

    Raises
    ------
    InputError
        If the run does not have that head.
    """
    if head not in run.test.heads:
        raise InputError(
            f"run {run.run_id!r} has no head {head!r}; its heads are {', '.join(sorted(run.test.heads)) or 'none'}"
        )
    return run.test.heads[head]


def ordered(runs: Sequence[RunRecord], baseline: str) -> tuple[RunRecord, ...]:
    """The runs with the baseline's first, then by order of first appearance; seeds ascending.

    Raises
    ------
    InputError
        If there are no runs, the baseline is not among them, or a (strategy, seed) occurs twice.
    """
    if not runs:
        raise InputError("no runs to compare; expected at least one run of the baseline")
    names = list(dict.fromkeys(run.strategy for run in runs))
    if baseline not in names:
        raise InputError(f"baseline {baseline!r} is not among the compared strategies: {', '.join(names)}")
    seen: dict[tuple[str, int], str] = {}
    for run in runs:
        key = (run.strategy, run.seed)
        if key in seen:
            raise InputError(
                f"runs {seen[key]!r} and {run.run_id!r} are both strategy {run.strategy!r} with seed {run.seed}; "
                "a comparison takes one run per strategy and seed"
            )
        seen[key] = run.run_id
    rank = {name: i for i, name in enumerate([baseline, *(n for n in names if n != baseline)])}
    return tuple(sorted(runs, key=lambda run: (rank[run.strategy], run.seed)))
