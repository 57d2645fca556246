"""Confusion counts and the pairs of classes that are confused more often than chance would have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import (
    BOOT,
    INTERVAL,
    MASK,
    WILSON,
    Advice,
    Analysis,
    Plot,
    Rule,
    Scene,
    Table,
    columns,
)
from imbalance_lab.formats import percent
from imbalance_lab.metrics.clusters import ratio, ratio_interval, verdicts
from imbalance_lab.metrics.intervals import benjamini_hochberg, wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PAIRS = 50
_ITERATIONS = 100

Floats = NDArray[np.float64]
MAX_TAKEN_OUT = 10
MAX_LEAVE_OUT = 64  # classes up to which each class's errors are compared with those of the others alone


@dataclass(frozen=True)
class Confusion:
    """Result of :func:`confusion_analysis`.

    Attributes
    ----------
    counts : int64 (K, K), rows true; by_row and by_column its shares (NaN for absent classes)
    cells : the non-zero cells as a table: true, pred, count, row_share, column_share
    pairs : confused pairs, most frequent first: true, pred, count, recordings, n_true, rate with intervals,
        share_of_errors, expected (if the errors of a class went where those of the other classes go), lift, p, q,
        verdict
    tested : number of pairs that q corrects for
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    by_row: Floats
    by_column: Floats
    cells: pd.DataFrame
    pairs: pd.DataFrame
    tested: int


def quasi_independence(errors: NDArray[np.generic], allowed: Floats) -> Floats:
    """Column factors b of the model count = a(true) b(pred) on the allowed cells, shape (..., K), each summing to 1.

    The diagonal is a structural zero, so the margins are fitted by iterative proportional fitting
    (Bishop, Fienberg and Holland 1975, chapter 5).

    Parameters
    ----------
    errors : array of shape (..., K, K), rows true
    allowed : array of shape (K, K), 1 where a cell takes part, 0 on the diagonal
    """
    off = np.asarray(errors, dtype=np.float64) * allowed
    rows, columns = off.sum(axis=-1), off.sum(axis=-2)
    b = np.full(columns.shape, 1.0 / off.shape[-1])
    for _ in range(_ITERATIONS):
        a = np.nan_to_num(ratio(rows, b @ allowed.T))
        last, b = b, np.nan_to_num(ratio(columns, a @ allowed))
        b /= np.maximum(b.sum(axis=-1, keepdims=True), 1e-300)
        if np.abs(b - last).max(initial=0.0) < 1e-9:
            break
    return b


def _reference_shares(counts: NDArray[np.int64], allowed: Floats | None = None) -> tuple[Floats, Floats]:
    """Where the errors of class i would go if they went where those of the *other* classes go.

    Row i is left out of its own reference: a strong pair would otherwise raise its own
    expectation through its margin. Half an error is added to each possible pair.

    Returns
    -------
    share : (K, K), rows sum to 1, zero diagonal
    variance : (K, K), of the shares, from the numbers of errors that they rest on
    """
    k = len(counts)
    off = 1 - np.eye(k)
    allowed = off if allowed is None else allowed
    smooth = (counts + 0.5) * allowed
    if k <= MAX_LEAVE_OUT:
        others = np.repeat(smooth[None], k, axis=0)
        others[np.arange(k), np.arange(k)] = 0.0
        b = quasi_independence(others, allowed)  # (K left out, K)
    else:
        b = np.repeat(quasi_independence(smooth, allowed)[None], k, axis=0)
    share = b * off
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
    column = (smooth.sum(axis=0)[None, :] - smooth) * off  # errors of other classes that fell on j
    rest = column.sum(axis=1, keepdims=True) - column
    logit_variance = np.nan_to_num(ratio(off, column)) + np.nan_to_num(ratio(off, rest))
    if k == 3:
        # Two other rows have only the left-out class's column in common: it carries the comparison.
        logit_variance += 2 * np.nan_to_num(ratio(np.full(k, 2.0), smooth.sum(axis=0)))[:, None]
    return share, (share * (1 - share)) ** 2 * logit_variance


def expected_pairs(per_cluster: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Expected counts of each pair, and one-sided p of more than that; both (K, K).

    The strongest pair beyond doubt (p below 1e-4 after Bonferroni) is taken out of the reference
    and the rest is judged anew, at most ``MAX_TAKEN_OUT`` times: otherwise the column that a strong
    pair fills makes every other column of the reference look empty.
    """
    counts = per_cluster.sum(axis=0)
    k = len(counts)
    allowed = 1 - np.eye(k)
    pairs = max(k * (k - 1), 1)
    for _ in range(min(MAX_TAKEN_OUT, max(k - 2, 0))):
        _, p = _pair_test(per_cluster, *_reference_shares(counts, allowed))
        excess = np.where((allowed > 0) & (p * pairs < 1e-4), -np.log(np.maximum(p, 1e-300)), 0.0)
        strongest = np.unravel_index(excess.argmax(), excess.shape)
        rest = allowed.copy()
        rest[strongest] = 0.0
        # Every class must still be reachable from two others, or its factor is not defined.
        if excess[strongest] == 0 or rest[:, strongest[1]].sum() < min(2, k - 2):
            break
        allowed = rest
    return _pair_test(per_cluster, *_reference_shares(counts, allowed))


def _pair_test(per_cluster: NDArray[np.int64], share: Floats, share_variance: Floats) -> tuple[Floats, Floats]:
    """Expected counts, and one-sided p of more than that; residuals per recording as units; both (K, K)."""
    from scipy.stats import t

    clusters, k = len(per_cluster), per_cluster.shape[1]
    errors = per_cluster * (1 - np.eye(k, dtype=np.int64))
    total, squares, recordings = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, 1))
    row_errors = errors.sum(axis=(0, 2))[:, None].astype(np.float64)
    own_share = np.nan_to_num(ratio(errors.sum(axis=0), row_errors))
    for one in errors:  # at most 1,000 clusters, and no (C, K, K) of floats
        in_row = one.sum(axis=1, keepdims=True)
        total += one - in_row * share
        squares += (one - in_row * own_share) ** 2  # spread about the row's own share: the pair itself is no noise
        recordings += in_row > 0
    binomial = row_errors * share * (1 - share)
    spread = np.maximum(squares * clusters / max(clusters - 1, 1), binomial)
    overdispersion = np.where(binomial > 0, spread / np.maximum(binomial, 1e-300), 1.0)
    variance = spread + row_errors**2 * share_variance * overdispersion
    p = t.sf(ratio(total, np.sqrt(variance)), np.maximum(recordings - 1, 1))
    return row_errors * share, np.asarray(p, dtype=np.float64)


def pair_table(prepared: Prepared) -> tuple[pd.DataFrame, int]:
    """The most confused pairs by count, and the number of pairs that were looked at."""
    per_cluster, counts = prepared.tally.confusion, prepared.confusion
    k = len(counts)
    support = counts.sum(axis=1)
    off = ~np.eye(k, dtype=bool)
    expected, p = expected_pairs(per_cluster)
    looked_at = off & (expected > 0)
    if k < 3:
        looked_at[:] = False  # with two classes an error has one place to go: nothing to test
    q = np.full((k, k), np.nan)
    q[looked_at] = benjamini_hochberg(p[looked_at])
    i, j = np.nonzero(off & (counts > 0))
    order = np.argsort(-counts[i, j], kind="stable")[:_MOST_PAIRS]
    i, j = i[order], j[order]
    cells = per_cluster[:, i, j]
    low, high = ratio_interval(cells, per_cluster.sum(axis=2)[:, i], prepared.weights)
    wilson_low, wilson_high = wilson(counts[i, j], support[i])
    names = np.asarray(prepared.head.classes, dtype=object)
    recordings_true = (per_cluster.sum(axis=2) > 0).sum(axis=0)
    table = pd.DataFrame(
        {
            "true": names[i],
            "pred": names[j],
            "count": counts[i, j],
            "recordings": (cells > 0).sum(axis=0),
            "n_true": support[i],
            "rate": ratio(counts[i, j], support[i]),
            "wilson_low": wilson_low,
            "wilson_high": wilson_high,
            "low": low,
            "high": high,
            "share_of_errors": ratio(counts[i, j], counts[off].sum()),
            "expected": expected[i, j],
            "lift": ratio(counts[i, j], expected[i, j]),
            "p": np.where(looked_at[i, j], p[i, j], np.nan),
            "q": q[i, j],
            "verdict": verdicts(support[i], recordings_true[i]),
        }
    )
    return table, int(looked_at.sum())


def confusion_analysis(prepared: Prepared) -> Confusion:
    """Confusion counts, by row, by column, and the confused pairs with Benjamini-Hochberg over all pairs."""
    counts = prepared.confusion
    by_row = ratio(counts, counts.sum(axis=1, keepdims=True))
    by_column = ratio(counts, counts.sum(axis=0, keepdims=True))
    i, j = np.nonzero(counts)
    names = np.asarray(prepared.head.classes, dtype=object)
    cells = pd.DataFrame(
        {
            "true": names[i],
            "pred": names[j],
            "count": counts[i, j],
            "row_share": by_row[i, j],
            "column_share": by_column[i, j],
        }
    )
    pairs, tested = pair_table(prepared)
    return Confusion(prepared.head.classes, counts, by_row, by_column, cells, pairs, tested)


def _matrix(found: Confusion, scene: Scene) -> Figure:
    from imbalance_lab.plots.confusion_matrices import confusion_matrix

    return confusion_matrix(found.counts, found.classes, scene.scope)


def _pairs_figure(found: Confusion, scene: Scene) -> Figure:
    """Pairs of classes with enough positions first, then by rate."""
    from imbalance_lab.plots.confusion_matrices import confused_pairs

    enough = found.pairs.assign(_enough=found.pairs["verdict"].eq("ok"))
    ordered = enough.sort_values(["_enough", "rate"], ascending=False, kind="stable")
    return confused_pairs(ordered, scene.scope, colours=scene.colours)


_RATE, _Q = 0.1, 0.05
_RATE_ALONE = 0.25  # from which on a pair needs no test against the other classes' errors


def _confused_pair(found: Confusion, _: Mapping[str, Any]) -> Advice | None:
    t = found.pairs
    low = t["low"].fillna(t["wilson_low"])
    special = (t["q"] < _Q) & (t["rate"] >= _RATE)
    fired = t[(t["verdict"] == "ok") & (special | (low >= _RATE_ALONE))]
    if not len(fired):
        return None
    top = fired.iloc[0]
    chance = (
        f"{top['lift']:.1f} times as often as errors of the other classes fall on {top['pred']}"
        if top["q"] < _Q
        else f"as the errors of the other classes fall on {top['pred']} too"
    )
    return Advice(
        f"{top['true']} is taken for {top['pred']} {percent(top['rate'], 1)} of the time ({top['count']} of "
        f"{top['n_true']}, {top['recordings']} recordings), {chance}.",
        "Look at the gallery of this pair beside right examples; check the labels of both classes; ask for a margin.",
        "A lower rate of this pair, without the errors moving elsewhere.",
        fired,
        f"rate of at least {_RATE} with q below {_Q} (Benjamini-Hochberg, {found.tested} pairs), or lower end of the "
        f"rate at least {_RATE_ALONE}",
    )


ANALYSIS: Analysis[Confusion] = Analysis(
    "confusion",
    confusion_analysis,
    "`pairs`, most frequent first; `expected` is the count if the errors of a class went where the errors of the "
    "other classes go, `lift` the count over it; `tested`: pairs that `q` corrects for",
    section="top_confusion_patterns",
    fields={"tested": "tested", "pairs": "pairs"},
    tables=(
        Table(
            "confused_pairs",
            "pairs",
            "confusions",
            "Most confused pairs",
            (
                *columns("text", "true", "pred"),
                *columns("count", "count", "recordings", "n_true"),
                *columns("share", "rate"),
                *WILSON,
                *INTERVAL,
                *columns("share", "share_of_errors"),
                *columns("number", "expected", "lift"),
                *columns("p", "p", "q"),
                *columns("text", "verdict"),
            ),
            f"Rate: share of the true class's positions. {BOOT} Expected and lift: against quasi-independence of the "
            "true and the predicted class among errors; q: Benjamini and Hochberg over all pairs.",
            ("true", "pred", "count", "n_true", "rate", "recordings", "share_of_errors", "lift", "q", "verdict"),
        ),
        Table(
            "confusion",
            "cells",
            "confusions",
            "All confused cells",
            (
                *columns("text", "true", "pred"),
                *columns("count", "count"),
                *columns("share", "row_share", "column_share"),
            ),
            MASK,
            most=60,
            fold=True,
        ),
    ),
    plots=(
        Plot("confusion", "confusions", _matrix, root="confusion.png", drawn="every head"),
        Plot("confused_pairs", "confusions", _pairs_figure),
    ),
    rules=(Rule("confused-pair", "confusion", 2, _confused_pair, ("ldam", "seesaw", "crt", "focal")),),
)
