"""Segments of per-step labels: errors at transitions, segments found, and segments missed altogether."""

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
    RATE,
    WILSON,
    Advice,
    Analysis,
    Column,
    Plot,
    Rule,
    Scene,
    Table,
    columns,
)
from imbalance_lab.analysis.scatter import scatter
from imbalance_lab.analysis.tally import BLOCK
from imbalance_lab.formats import percent
from imbalance_lab.metrics.clusters import excess_test, rate_table, ratio, ratio_interval
from imbalance_lab.metrics.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WITHIN = (1, 2, 4)
_PLACE = np.searchsorted(WITHIN, np.arange(WITHIN[-1] + 2))
LENGTHS = (1, 2, 3, 4, 8, 16, 32)
"""Lower ends of the length groups of segments, in positions."""


@dataclass(frozen=True)
class Segments:
    """Result of :func:`segment_analysis`.

    Attributes
    ----------
    transitions : error rate within 1, 2, 4 positions of a true change, and inside segments; with the test of
        "within 4" against inside
    scores : tolerance, class ("all" or a name), true segments, predicted segments, found, precision, recall, f1
    missed : segments of which no position is predicted as their class, by true length
    missed_by_class : the same by class
    """

    verdict: str
    tolerance: int
    mean_length: float
    transitions: pd.DataFrame
    transition_difference: float
    transition_p: float
    scores: pd.DataFrame
    missed: pd.DataFrame
    missed_by_class: pd.DataFrame


def _segments(labels: NDArray[Any], first: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(start, end inclusive) of maximal stretches of one label within a chain."""
    marks = first.copy()
    marks[1:] |= labels[1:] != labels[:-1]
    start = np.flatnonzero(marks)
    return start, np.append(start[1:], len(labels)) - 1


def distance_to_change(
    start: NDArray[np.intp], end: NDArray[np.intp], first: NDArray[np.bool_], closes: NDArray[np.bool_], part: slice
) -> NDArray[np.int32]:
    """Positions to the nearest true change within the chain; 1 for the two beside it, very large without any.

    Parameters
    ----------
    start, end : of the segments, shape (segments,), ``end`` inclusive
    first : bool of shape (n,), whether a chain begins here
    closes : bool of shape (segments,), whether the segment is the last of its chain
    part : the positions asked for
    """
    i, j = part.start, min(part.stop, len(first))
    touched = slice(np.searchsorted(end, i), np.searchsorted(start, j))
    s, e, far = start[touched], end[touched] + 1, 1 << 29
    before = np.where(first[s], -far, s - 1 - i).astype(np.int32)
    after = np.where(closes[touched], far, e - i).astype(np.int32)
    length, index = np.minimum(e, j) - np.maximum(s, i), np.arange(j - i, dtype=np.int32)
    return np.minimum(index - np.repeat(before, length), np.repeat(after, length) - index)


def _place_counts(prepared: Prepared, start: NDArray[np.intp], end: NDArray[np.intp]) -> NDArray[np.int64]:
    """(C, places, 2) positions by cluster, distance to a true change ("within" excludes the ones before), wrong."""
    c, places, chains = prepared.clusters.n, len(WITHIN) + 1, prepared.chains
    closes = np.append(chains.first[start[1:]], True)
    counts = np.zeros((c, places, 2), dtype=np.int64)
    for i in range(0, len(chains.first), BLOCK):
        part = slice(i, i + BLOCK)
        rows = part if chains.order is None else chains.order[part]
        place = _PLACE.take(distance_to_change(start, end, chains.first, closes, part), mode="clip")
        cluster = prepared.clusters.codes(prepared.head.group[rows]).astype(np.int64)
        scatter(counts, (cluster * places + place) * 2 + prepared.wrong[rows])
    return counts


def _nearest(key: NDArray[np.int64], into: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the entry of the sorted ``into`` nearest to each key; -1 when it is empty."""
    if not len(into):
        return np.full(len(key), -1)
    right = np.clip(np.searchsorted(into, key), 0, len(into) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(into[left] - key) <= np.abs(into[right] - key), left, right)


def match_segments(
    true: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    pred: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    tolerance: int,
    extent: int,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which true and predicted segments match one to one.

    Parameters
    ----------
    true, pred : (start, end, class), each of shape (segments,), by start, on one axis where chains lie further
        apart than the tolerance; at most 65,536 classes
    extent : larger than any coordinate plus the tolerance

    Returns
    -------
    found : bool, one per true segment; hit : bool, one per predicted segment. Two segments match when they have
        the same class, are each other's nearest by start, and start and end differ by at most ``tolerance``.
    """
    # By class, then by start; a stable sort of 16-bit integers is a radix sort, and segments come by start.
    orders = [np.argsort(c.astype(np.uint16), kind="stable") for _, _, c in (true, pred)]
    a, b = (
        s[o].astype(np.int64) + c[o].astype(np.int64) * extent
        for (s, _, c), o in zip((true, pred), orders, strict=True)
    )
    found, hit = np.zeros(len(a), dtype=bool), np.zeros(len(b), dtype=bool)
    if len(a) and len(b):
        j = _nearest(a, b)
        mutual = _nearest(b, a)[j] == np.arange(len(a))
        end_gap = np.abs(true[1][orders[0]] - pred[1][orders[1]][j])
        good = mutual & (np.abs(a - b[j]) <= tolerance) & (end_gap <= tolerance)
        found[orders[0][good]] = True
        hit[orders[1][j[good]]] = True
    return found, hit


def _score_table(
    names: tuple[str, ...],
    cls: tuple[NDArray[Any], NDArray[Any]],
    cluster: tuple[NDArray[Any], NDArray[Any]],
    matched: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    prepared: Prepared,
) -> pd.DataFrame:
    k, c = len(names), prepared.clusters.n

    def count(side: int, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        index = cluster[side].astype(np.int64) * k + cls[side]
        cells = np.bincount(index if chosen is None else index[chosen], minlength=c * k).reshape(c, k)
        return np.concatenate([cells.sum(axis=1, keepdims=True), cells], axis=1)

    n_true, n_pred, found, hit = count(0), count(1), count(0, matched[0]), count(1, matched[1])
    columns: dict[str, Any] = {
        "class": ["all", *names],
        "true_segments": n_true.sum(axis=0),
        "predicted_segments": n_pred.sum(axis=0),
        "found": found.sum(axis=0),
        "recordings": (n_true > 0).sum(axis=0),
    }
    for name, top, bottom in (
        ("precision", hit, n_pred),
        ("recall", found, n_true),
        ("f1", 2 * found, n_true + n_pred),
    ):
        columns[name] = ratio(top.sum(axis=0), bottom.sum(axis=0))
        columns[f"{name}_low"], columns[f"{name}_high"] = ratio_interval(top, bottom, prepared.weights)
    table = pd.DataFrame(columns)
    return table[(table["true_segments"] > 0) | (table["predicted_segments"] > 0)].reset_index(drop=True)


def _missed_table(names: list[str], group: NDArray[Any], missed: NDArray[np.bool_], column: str) -> pd.DataFrame:
    n = np.bincount(group, minlength=len(names))
    k = np.bincount(group[missed], minlength=len(names))
    low, high = wilson(k, n)
    table = pd.DataFrame(
        {column: names, "segments": n, "missed": k, "rate": ratio(k, n), "wilson_low": low, "wilson_high": high}
    )
    return table[table["segments"] > 0].reset_index(drop=True)


def segment_analysis(prepared: Prepared, tolerance: int = 2) -> Segments:
    """Transitions and segments of one head; not applicable where labels change at almost every position."""
    head, chains = prepared.head, prepared.chains
    true, pred = chains.take(head.true), chains.take(head.pred)
    first, group, clusters = chains.first, chains.take(head.group), prepared.clusters
    start, end = _segments(true, first)
    n_chains = int(first.sum())
    inner = len(start) - n_chains  # true changes
    mean_length = len(true) / len(start)
    applicable = len(true) > n_chains and mean_length >= 2
    verdict = (
        "ok" if applicable else "not applicable: labels are not per step (segments of under two positions on average)"
    )
    if applicable and inner == 0:
        verdict = "no true change in any sequence"
    names = [*(f"within {w}" for w in WITHIN), f"inside (more than {WITHIN[-1]})"]
    counts = _place_counts(prepared, start, end)
    counts[:, :-1] = counts[:, :-1].cumsum(axis=1)  # within 4 includes within 2
    n, errors = counts.sum(axis=2), counts[..., 1]
    near, whole = slice(len(WITHIN) - 1, len(WITHIN)), n[:, -2:].sum(axis=1, keepdims=True)
    difference, p = excess_test(
        np.concatenate([errors[:, near], errors[:, -2:].sum(axis=1, keepdims=True)], axis=1),
        np.concatenate([n[:, near], whole], axis=1),
    )
    p_start, p_end = _segments(pred, first)
    # Chains are set further apart than the tolerance, so that no segment matches across their ends.
    gap = 2 * tolerance + 2
    shift, p_shift = np.cumsum(first[start]) * gap, np.cumsum(first[p_start]) * gap
    matched = match_segments(
        (start + shift, end + shift, true[start]),
        (p_start + p_shift, p_end + p_shift, pred[p_start]),
        tolerance,
        extent=len(true) + n_chains * gap + tolerance + 1,
    )
    missed = np.logical_and.reduceat(chains.take(prepared.wrong), start)
    length = end - start + 1
    by_length = np.searchsorted(LENGTHS, length, side="right") - 1
    ends = [*LENGTHS[1:], None]
    labels = [
        f"{a}+" if b is None else (str(a) if b == a + 1 else f"{a}-{b - 1}") for a, b in zip(LENGTHS, ends, strict=True)
    ]
    return Segments(
        verdict=verdict,
        tolerance=tolerance,
        mean_length=float(mean_length),
        transitions=rate_table(names, errors, n, prepared.weights, "place"),
        transition_difference=float(difference[0]),
        transition_p=float(p[0]),
        scores=_score_table(
            head.classes,
            (true[start], pred[p_start]),
            (clusters.codes(group[start]), clusters.codes(group[p_start])),
            matched,
            prepared,
        ),
        missed=_missed_table(labels, by_length, missed, "length"),
        missed_by_class=_missed_table(list(head.classes), true[start], missed, "class"),
    )


def _figure(found: Segments, scene: Scene) -> Figure | str:
    from imbalance_lab.plots.rates import transitions

    return transitions(found.transitions, scene.scope, missed=found.missed) if found.verdict == "ok" else found.verdict


def _missed_columns(name: str) -> tuple[Column, ...]:
    return (*columns("text", name), *columns("count", "segments", "missed"), *columns("share", "rate"), *WILSON)


_DIFFERENCE, _P = 0.05, 0.01


def _boundaries(found: Segments, _: Mapping[str, Any]) -> Advice | None:
    if found.verdict != "ok" or not (found.transition_p < _P) or found.transition_difference < _DIFFERENCE:
        return None
    return Advice(
        f"Within 4 steps of a true change the error rate is {percent(found.transition_difference, 1)} higher than "
        "inside segments.",
        "Score segments with a tolerance, check how labels are aligned with the sensors, and soften labels at changes.",
        "Segment F1 well above the per-step F1, or fewer errors at transitions.",
        found.transitions,
        f"difference of at least {_DIFFERENCE}, p below {_P} (recordings as units)",
    )


ANALYSIS: Analysis[Segments] = Analysis(
    "segments",
    segment_analysis,
    "`transitions`, `scores` (segment precision, recall, F1 with `tolerance`), `missed` by length and by class; "
    "`verdict` says where labels are not per step",
    section="segments",
    tables=(
        Table(
            "transitions",
            "transitions",
            "position",
            "Errors at changes of the class",
            (*columns("text", "place"), *RATE),
            f"A change: the true label differs from its neighbour's. {BOOT}",
        ),
        Table(
            "segments",
            "scores",
            "position",
            "Segments",
            (
                *columns("text", "class"),
                *columns("count", "true_segments", "predicted_segments", "found", "recordings"),
                *columns("share", *(f"{m}{end}" for m in ("precision", "recall") for end in ("", "_low", "_high"))),
                *columns("score", "f1", "f1_low", "f1_high"),
            ),
            "A segment is a run of equal labels; found within the tolerance.",
            most=30,
        ),
        Table(
            "missed_segments",
            "missed",
            "position",
            "Segments missed altogether",
            _missed_columns("length"),
            "No position read as their class. Intervals: 95 %, Wilson.",
        ),
        Table(
            "missed_segments_by_class",
            "missed_by_class",
            "position",
            "Segments missed altogether: by class",
            _missed_columns("class"),
            "No position read as their class. Intervals: 95 %, Wilson.",
        ),
    ),
    plots=(Plot("transitions", "position", _figure),),
    rules=(Rule("boundaries", "boundary", 3, _boundaries, ("label-smoothing",)),),
)
