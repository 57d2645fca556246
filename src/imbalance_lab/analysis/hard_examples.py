"""Hard examples: confidently wrong, pairs that repeat over recordings, runs of errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from imbalance_lab.analysis.confusion import confusion_analysis
from imbalance_lab.analysis.error_runs import ErrorRuns, error_runs
from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import ROW, Advice, Analysis, Rule, Table, columns
from imbalance_lab.analysis.rows import largest, row_table
from imbalance_lab.analysis.summary import CONFIDENT_COLUMNS, summarise

_MOST_EXAMPLES = 50


@dataclass(frozen=True)
class HardExamples:
    """Result of :func:`hard_examples`.

    Attributes
    ----------
    rates : P(wrong | confidence above a threshold) with coverage and intervals
    worst : the wrong positions of highest confidence
    repeated : (true, pred) pairs that occur in at least two recordings, by the number of recordings
    runs : consecutive errors against a permutation null
    """

    rates: pd.DataFrame
    worst: pd.DataFrame
    repeated: pd.DataFrame
    runs: ErrorRuns


def repeated_pairs(prepared: Prepared, pairs: pd.DataFrame) -> pd.DataFrame:
    """Confused pairs seen in two recordings or more."""
    kept = pairs[pairs["recordings"] >= 2]
    kept = kept.sort_values(["recordings", "count"], ascending=False, kind="stable", ignore_index=True)
    out = kept[["true", "pred", "count", "recordings", "n_true", "rate"]].copy()
    out["share_of_recordings"] = out["recordings"] / prepared.clusters.n
    return out


def hard_examples(prepared: Prepared) -> HardExamples:
    """Hard examples of one head."""
    errors = prepared.errors
    worst = errors.row[largest(errors.confidence, _MOST_EXAMPLES)]
    return HardExamples(
        rates=prepared.once(summarise).confidence,
        worst=row_table(prepared.head, worst),
        repeated=repeated_pairs(prepared, prepared.once(confusion_analysis).pairs),
        runs=error_runs(prepared),
    )


_RUN_RATIO = 1.5


def _error_runs(found: HardExamples, _: Mapping[str, Any]) -> Advice | None:
    r = found.runs
    if r.verdict != "runs" or r.mean_length < _RUN_RATIO * r.expected_mean_length:
        return None
    return Advice(
        f"Errors come in runs of {r.mean_length:.1f} positions on average; {r.expected_mean_length:.1f} "
        "would be chance.",
        "Treat runs as single events when counting evidence; try a longer context or smoothing over time.",
        "Shorter runs at the same accuracy, or whole runs gone.",
        r.lengths,
        f"mean run {_RUN_RATIO} times its expectation under permutation, p below 0.01",
    )


ANALYSIS: Analysis[HardExamples] = Analysis(
    "hard_examples",
    hard_examples,
    "`rates`, `worst` (most confident errors), `repeated` (pairs in several recordings), `runs` (consecutive errors "
    "against the exact permutation moments)",
    section="hard_examples",
    tables=(
        Table("", "rates", "", "", CONFIDENT_COLUMNS),
        Table(
            "hard_examples",
            "worst",
            "modes",
            "Confidently wrong, most confident first",
            ROW,
            shown=("recording", "sequence", "position", "true", "pred", "confidence", "true_prob"),
            most=15,
            needs_probabilities=True,
        ),
        Table(
            "repeated_pairs",
            "repeated",
            "modes",
            "Confusions that repeat over recordings",
            (
                *columns("text", "true", "pred"),
                *columns("count", "count", "recordings", "n_true"),
                *columns("share", "rate", "share_of_recordings"),
            ),
            most=15,
        ),
        Table(
            "error_runs",
            "runs.lengths",
            "modes",
            "Runs of consecutive errors",
            (*columns("count", "length", "runs"), *columns("number", "expected")),
            "Neighbours in the true sequence; expected: errors placed at random within their sequence.",
            fold=True,
        ),
    ),
    rules=(Rule("error-runs", "sequence", 4, _error_runs),),
)
