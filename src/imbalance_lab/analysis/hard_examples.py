"""Hard examples: confidently wrong, pairs that repeat over recordings, runs of errors."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from imbalance_lab.analysis.chains import Chains, chains_of
from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.rows import largest, row_table
from imbalance_lab.analysis.runs import ErrorRuns, error_runs
from imbalance_lab.analysis.summary import confidence_table


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


def repeated_pairs(prepared: Prepared, pairs: pd.DataFrame, least: int = 2) -> pd.DataFrame:
    """Confused pairs seen in at least ``least`` recordings."""
    kept = pairs[pairs["recordings"] >= least]
    kept = kept.sort_values(["recordings", "count"], ascending=False, kind="stable", ignore_index=True)
    out = kept[["true", "pred", "count", "recordings", "n_true", "rate"]].copy()
    out["share_of_recordings"] = out["recordings"] / prepared.clusters.n
    return out


def hard_examples(
    prepared: Prepared,
    pairs: pd.DataFrame,
    chains: Chains | None = None,
    rates: pd.DataFrame | None = None,
    top: int = 50,
) -> HardExamples:
    """Hard examples of one head; ``pairs`` is the confused-pair table, ``rates`` the summary's confidence table."""
    errors = prepared.errors
    worst = errors.row[largest(errors.confidence, top)]
    return HardExamples(
        rates=confidence_table(prepared) if rates is None else rates,
        worst=row_table(prepared.head, worst),
        repeated=repeated_pairs(prepared, pairs),
        runs=error_runs(prepared, chains_of(prepared.head) if chains is None else chains),
    )
