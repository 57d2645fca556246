"""From several runs to every table of the comparison and a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.comparison.choosing import choose
from imbalance_lab.comparison.costs import bill, check_costs, cost_ranges, read_costs
from imbalance_lab.comparison.differences import differences
from imbalance_lab.comparison.failure_tracking import track
from imbalance_lab.comparison.flows import flows
from imbalance_lab.comparison.leaderboard import leaderboard, with_verdicts
from imbalance_lab.comparison.racing import VERDICT_ALPHA, Stop
from imbalance_lab.comparison.records import RunRecord
from imbalance_lab.comparison.run_counts import Joined, join
from imbalance_lab.comparison.study import Study, build
from imbalance_lab.comparison.verdict import Decision
from imbalance_lab.errors import InputError

METRICS = ("macro_f1", "balanced_accuracy", "mcc")


@dataclass(frozen=True)
class Comparison:
    """The tables of a comparison.

    Attributes
    ----------
    leaderboard : see :func:`imbalance_lab.comparison.leaderboard.leaderboard`
    runs : one row per strategy and seed: strategy, seed, run_id, metrics, val_score, seconds; with folds, the metrics
        are those of the pooled rows and ``run_id`` is the run of the fold with the median validation score
    differences : see :func:`imbalance_lab.comparison.differences.differences`
    flows : see :func:`imbalance_lab.comparison.flows.flows`; every strategy against the baseline
    bill : see :func:`imbalance_lab.comparison.costs.bill`
    cost_ranges : see :func:`imbalance_lab.comparison.costs.cost_ranges`
    failures : see :func:`imbalance_lab.comparison.failure_tracking.track`, with ``strategy`` and
        ``seed``; the baseline's report against each strategy's of the same seed; empty without reports
    stopped : one row per strategy that a race stopped: strategy, after (rounds), of, difference, low, high, sentence;
        differences are those on validation that decided
    choice : which strategy to take, by the decision table of :mod:`imbalance_lab.comparison.verdict`
    facts : plain values to state beside the tables (classes averaged, rare classes, recordings, ...)
    """

    leaderboard: pd.DataFrame
    runs: pd.DataFrame
    differences: pd.DataFrame
    flows: pd.DataFrame
    bill: pd.DataFrame
    cost_ranges: pd.DataFrame
    failures: pd.DataFrame
    stopped: pd.DataFrame
    choice: Decision
    facts: Mapping[str, Any]


def compare(
    runs: Sequence[RunRecord],
    *,
    baseline: str,
    primary_head: str,
    costs: Path | NDArray[np.float64] | None = None,
    rare: Sequence[str] | None = None,
    metric: str = "macro_f1",
    margin: float = 0.01,
    resamples: int = 2000,
    seed: int = 0,
    raced: bool = False,
    stopped: Sequence[Stop] = (),
) -> Comparison:
    """Compare runs on the same positions.

    Parameters
    ----------
    baseline : strategy that the others are held against
    primary_head : the head that is compared
    costs : cost matrix (rows = true class, columns = predicted), or its CSV file; see
        :func:`imbalance_lab.comparison.costs.read_costs`
    rare : rare classes; default those under 1 % of train, or all but the majority
    metric : decides the verdict: ``macro_f1``, ``balanced_accuracy`` or ``mcc``
    margin : differences within it do not matter (equivalence), in the metric's unit
    resamples, seed : of the bootstrap over recordings
    raced : the runs are what a race left: the verdict has what it did not spend of the family-wise error
    stopped : strategies that the race stopped, whose runs are not among ``runs``

    Raises
    ------
    InputError
        If the runs are of different data, cannot be joined, or an argument is not allowed.
    """
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} cannot decide a comparison; allowed are {', '.join(METRICS)}")
    if resamples < 100:
        raise InputError(f"resamples is {resamples}; at least 100 are needed for a variance")
    if not 0 < margin < 1:
        raise InputError(f"margin is {margin}; allowed is more than 0 and less than 1")
    joined = join(runs, baseline=baseline, head=primary_head)
    matrix = None
    if costs is not None:
        matrix = read_costs(costs, joined.classes) if isinstance(costs, Path) else costs
        matrix = check_costs(matrix, len(joined.classes))
    study = build(joined, resamples=resamples, seed=seed, rare=rare, costs=matrix)
    table = differences(study, VERDICT_ALPHA if raced else 0.05)
    others = joined.strategies[1:]
    board = leaderboard(study, table, metric)
    choice = choose(study, table, board, metric, margin, {s.strategy: s.round.words for s in stopped})
    return Comparison(
        leaderboard=with_verdicts(board, choice),
        runs=_runs(study),
        differences=table,
        flows=pd.concat([flows(joined, s, baseline) for s in others or (baseline,)], ignore_index=True),
        bill=bill(study, table),
        cost_ranges=cost_ranges(study, seed=seed),
        failures=_failures(joined),
        stopped=_stopped(stopped),
        choice=choice,
        facts={**_facts(study, resamples, seed, margin), **({"family_wise_error": VERDICT_ALPHA} if raced else {})},
    )


def _runs(study: Study) -> pd.DataFrame:
    j, r = study.joined, study.resampled
    table = pd.DataFrame(
        {
            "strategy": [run.strategy for run in j.runs],
            "seed": j.seed,
            "run_id": [run.run_id for run in j.runs],
            "val_score": [np.nan if run.val_score is None else run.val_score for run in j.runs],
            "seconds": [np.nan if run.seconds is None else run.seconds for run in j.runs],
        }
    )
    return pd.concat([table, pd.DataFrame(r.point[: len(j.runs)], columns=list(r.names))], axis=1)


def _stopped(stops: Sequence[Stop]) -> pd.DataFrame:
    columns = ("strategy", "after", "of", "difference", "low", "high", "sentence")
    rows = [(s.strategy, s.round.after, s.round.of, s.difference, s.low, s.high, s.sentence) for s in stops]
    return pd.DataFrame(rows, columns=columns)


def _failures(joined: Joined) -> pd.DataFrame:
    base = {int(joined.seed[i]): joined.runs[i].report for i in joined.runs_of(joined.strategies[0])}
    frames = []
    for run in joined.runs[len(base) :]:
        before = base.get(run.seed)
        if before is None or run.report is None:
            continue
        frame = track(before, run.report)
        frame.insert(0, "seed", run.seed)
        frame.insert(0, "strategy", run.strategy)
        frames.append(frame)
    empty = track({}, {})
    empty.insert(0, "seed", np.array([], dtype=np.int64))
    empty.insert(0, "strategy", np.array([], dtype=object))
    return pd.concat(frames, ignore_index=True) if frames else empty


def _facts(study: Study, resamples: int, seed: int, margin: float) -> dict[str, Any]:
    j, names = study.joined, np.array(study.joined.classes)
    return {
        "head": j.head,
        "baseline": study.baseline,
        "digest": j.runs[0].test.meta.get("digest"),
        "split": j.runs[0].test.meta.get("split"),
        "positions": len(j.true),
        "recordings": j.n_recordings,
        "clusters": j.n_clusters,
        **({} if j.fold is None else {"folds": int(j.fold.max()) + 1}),
        "classes_in_macro": names[study.roles.macro].tolist(),
        "classes_absent": names[j.support == 0].tolist(),
        "rare_classes": names[study.roles.rare].tolist(),
        "majority_class": names[study.roles.majority].tolist(),
        "class_positions": dict(zip(j.classes, j.support.tolist(), strict=True)),
        "class_recordings": dict(zip(j.classes, j.class_recordings.tolist(), strict=True)),
        "margin": margin,
        "resamples": resamples,
        "seed": seed,
        "without_free_lunch": [s for s in j.strategies if study.control(s) is None],
    }
