"""One pass over a head's positions into counts per recording, from which most analyses are computed.

Positions are read in blocks that fit the cache, and each is added into one set of counts. Tallies of
shards (files, machines) of the same head and clusters add up with :func:`merge`, so memory does
not grow with the number of positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.analysis import position_bins
from imbalance_lab.analysis.scatter import pick, row_max, scatter, scatter_runs
from imbalance_lab.metrics.calibration import CLIP, mass_bin, width_bin
from imbalance_lab.metrics.clusters import Clusters
from imbalance_lab.predictions import HeadPredictions

_MOST_POSITIONS = 200_000  # that the edges of the bins are taken from

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 1 << 15
_CELLS = 1 << 17  # positions x classes of a block: its codes and weights stay in the second-level cache
FINE = 60  # bins of confidence: 15 bins and the edges .8 and .9 are unions of these
BINS = 15
SCORE_SHIFT = 16  # mantissa bits dropped when odds are binned: 7 are kept, a step of under 0.8 %
_ONE_PLUS = np.float32(1 + 5e-7)  # keeps the odds of probability 1 finite
SCORE_BINS = (int((1 / (_ONE_PLUS - np.float32(1))).view(np.uint32)) >> SCORE_SHIFT) + 1


@dataclass(frozen=True)
class CalibrationTally:
    """Counts of confidence; C clusters, K classes, B bins, M bins of equal mass."""

    fine: Ints
    """(C, 60, 2): positions by confidence bin (right-closed) and wrong/right."""
    fine_confidence: Floats
    """(C, 60): sum of the confidence."""
    mass: Ints
    """(C, M, 2): positions by equal-mass bin and wrong/right."""
    mass_confidence: Floats
    """(C, M)"""
    class_probability: Floats
    """(C, K, B): sum of the class's probability, by bin of that probability."""
    class_positive: Ints
    """(C, K, B): positions of that class."""
    brier: Floats
    """(C,): sum over positions of the squared distance to the one-hot label."""
    nll: Floats
    """(C,): sum over positions of -log p_true, p clipped at :data:`CLIP`."""


@dataclass(frozen=True)
class Tally:
    """Counts of one head."""

    confusion: Ints
    """(C, K, K)"""
    true_probability: Floats
    """(K,): sum of the true class's probability over the positions of class k."""
    scores: Ints | None
    """(K, SCORE_BINS): positions by rounded score of each class; None where scores are ranked exactly."""
    positive_scores: Ints | None
    """(K, SCORE_BINS): positions of the class itself."""
    from_start: Ints
    """(C, distance bins, 2): positions by distance to the true start and right/wrong (1 = wrong)."""
    from_end: Ints
    relative: Ints
    """(C, 10, 2): by tenths of the true sequence; sequences of one position are left out."""
    calibration: CalibrationTally


def merge(a: Any, b: Any) -> Any:
    """Sum of two tallies of the same kind, clusters and edges."""
    values = {}
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        values[f.name] = merge(x, y) if isinstance(x, CalibrationTally) else (None if x is None else x + y)
    return type(a)(**values)


def score_bin(probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
    """Order-preserving bin of scores in [0, 1]: the float32 odds p / (1 - p) with 7 bits of mantissa.

    Odds resolve both ends: rare classes live near 0, the majority near 1. Positive floats order as their bits.
    """
    p = np.minimum(probabilities, np.float32(1))
    odds = np.subtract(_ONE_PLUS, p)
    np.divide(p, odds, out=odds)
    bits = odds.view(np.int32)
    return np.right_shift(bits, SCORE_SHIFT, out=bits)


def _rows(k: int) -> int:
    """Positions per block with k classes."""
    return max(1 << 10, min(BLOCK, _CELLS // k))


def _no_calibration(c: int, k: int, m: int) -> CalibrationTally:
    """A tally of nothing; classes have a bin more, for probability 0."""
    return CalibrationTally(
        fine=np.zeros((c, FINE, 2), dtype=np.int64),
        fine_confidence=np.zeros((c, FINE)),
        mass=np.zeros((c, m, 2), dtype=np.int64),
        mass_confidence=np.zeros((c, m)),
        class_probability=np.zeros((c, k, BINS + 1)),
        class_positive=np.zeros((c, k, BINS + 1), dtype=np.int64),
        brier=np.zeros(c),
        nll=np.zeros(c),
    )


def _folded(t: CalibrationTally) -> CalibrationTally:
    """Probability exactly 0 belongs to the first bin [0, 1/B]."""
    found = {}
    for name in ("class_probability", "class_positive"):
        counts = getattr(t, name)
        found[name] = counts[..., 1:].copy()
        found[name][..., 0] += counts[..., 0]
    return replace(t, **found)


def _count_calibration(
    total: CalibrationTally,
    p: NDArray[np.float32],
    true: NDArray[np.int64],
    pred: NDArray[np.int32],
    cluster: NDArray[np.int64],
    edges: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Add a block of b positions; p (b, K), edges of the equal-mass bins. Returns the true class's probability (b,)."""
    c, k, bins = total.class_probability.shape
    confidence, own = pick(p, pred), pick(p, true)
    confidence64 = confidence.astype(np.float64)
    right = pred == true
    for code, counts, sums in (
        (cluster * FINE + width_bin(confidence, FINE), total.fine, total.fine_confidence),
        (cluster * (len(edges) - 1) + mass_bin(confidence, edges), total.mass, total.mass_confidence),
    ):
        scatter(sums, code, confidence64)
        scatter(counts, code * 2 + right)
    # ceil(p * B) is 0 only for p = 0, which carries no probability: bin B is shared by nothing else.
    offsets = np.arange(0, c * k * bins, bins).reshape(c, k)
    index = np.ceil(p * np.float32(BINS)).astype(np.int64)
    index += offsets.take(cluster, axis=0)
    scatter(total.class_probability, index, p.astype(np.float64))
    scatter(total.class_positive, pick(index, true))
    scatter_runs(total.brier, cluster, np.einsum("ij,ij->i", p, p) - 2 * own + 1)
    scatter_runs(total.nll, cluster, -np.log(np.maximum(own.astype(np.float64), CLIP)))
    return own


def mass_bin_edges(head: HeadPredictions) -> Floats:
    """Quantiles of the confidence over at most 200,000 evenly spaced positions; merged where they tie."""
    from imbalance_lab.metrics.calibration import mass_edges

    step = max(1, -(-len(head) // _MOST_POSITIONS))
    rows = np.arange(0, len(head), step)
    return mass_edges(head.probabilities[rows, head.pred[rows]], BINS) if len(rows) else np.array([0.0, 1.0])


def _no_tally(c: int, k: int, m: int, binned_scores: bool) -> Tally:
    d, r = position_bins.N_DISTANCE, position_bins.N_RELATIVE
    return Tally(
        confusion=np.zeros((c, k, k), dtype=np.int64),
        true_probability=np.zeros(k),
        scores=np.zeros((k, SCORE_BINS), dtype=np.int64) if binned_scores else None,
        positive_scores=np.zeros((k, SCORE_BINS), dtype=np.int64) if binned_scores else None,
        from_start=np.zeros((c, d, 2), dtype=np.int64),
        from_end=np.zeros((c, d, 2), dtype=np.int64),
        relative=np.zeros((c, r, 2), dtype=np.int64),
        calibration=_no_calibration(c, k, m),
    )


def _count_scores(scores: Ints, positive: Ints, p: NDArray[np.float32], true: NDArray[np.int64]) -> None:
    index = score_bin(p) + np.arange(0, scores.size, SCORE_BINS)
    scatter(scores, index)
    scatter(positive, pick(index, true))


def _count_places(
    total: Tally, start: NDArray[Any], end: NDArray[Any], cluster: NDArray[np.int64], wrong: NDArray[np.bool_]
) -> None:
    d, r = position_bins.N_DISTANCE, position_bins.N_RELATIVE
    scatter(total.from_start, (cluster * d + position_bins.distance_bin(start)) * 2 + wrong)
    scatter(total.from_end, (cluster * d + position_bins.distance_bin(end)) * 2 + wrong)
    relative, inside = position_bins.relative_bin(start, end)
    place = (cluster * r + relative) * 2 + wrong
    scatter(total.relative, place if inside.all() else place[inside])


def tally_head(
    head: HeadPredictions, clusters: Clusters, edges: Floats | None = None, binned_scores: bool = False
) -> Tally:
    """Counts of a head in one pass over its positions.

    Parameters
    ----------
    clusters : must be the same for all shards that are to be merged
    edges : edges of the equal-mass bins; default quantiles of this head (the same for all shards)
    binned_scores : also bin the scores for AUPRC (large tables); otherwise they are ranked exactly elsewhere
    """
    edges = mass_bin_edges(head) if edges is None else edges
    c, k = clusters.n, len(head.classes)
    total = _no_tally(c, k, len(edges) - 1, binned_scores)
    rows, edges32 = _rows(k), edges.astype(np.float32)
    for i in range(0, len(head), rows):
        part = slice(i, i + rows)
        p, pred = np.ascontiguousarray(head.probabilities[part]), head.pred[part]
        true, cluster = head.true[part].astype(np.int64), clusters.codes(head.group[part]).astype(np.int64)
        scatter(total.confusion, (cluster * k + true) * k + pred)
        own = _count_calibration(total.calibration, p, true, pred, cluster, edges32)
        scatter_runs(total.true_probability, true, own)
        if total.scores is not None and total.positive_scores is not None:
            _count_scores(total.scores, total.positive_scores, p, true)
        _count_places(total, head.from_start[part], head.from_end[part], cluster, true != pred)
    return replace(total, calibration=_folded(total.calibration))


def _changed(
    logs: NDArray[np.float32], log_shift: NDArray[np.float32] | None, inverse_temperature: float
) -> NDArray[np.float32]:
    """softmax(logs * inverse_temperature + log_shift) of log probabilities (b, K)."""
    z = logs * np.float32(inverse_temperature)
    if log_shift is not None:
        z += log_shift
    z -= row_max(z)[:, None]
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z


def _logs(p: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.log(np.maximum(p, np.finfo(np.float32).tiny)))


Change = tuple[NDArray[np.float32] | None, float]
"""log_shift and inverse_temperature of :func:`tally_calibration`."""


def tally_calibration(
    head: HeadPredictions, clusters: Clusters, log_shift: NDArray[np.float32] | None, inverse_temperature: float
) -> CalibrationTally:
    """Counts of confidence after p -> softmax(log p * inverse_temperature + log_shift).

    The predicted class is the largest of the changed probabilities; without a shift it stays.
    """
    total = _no_calibration(clusters.n, len(head.classes), BINS)
    edges = np.linspace(0.0, 1.0, BINS + 1).astype(np.float32)
    rows = _rows(len(head.classes))
    for i in range(0, len(head), rows):
        part = slice(i, i + rows)
        z = _changed(_logs(head.probabilities[part]), log_shift, inverse_temperature)
        pred = head.pred[part] if log_shift is None else z.argmax(axis=1).astype(np.int32)
        cluster = clusters.codes(head.group[part]).astype(np.int64)
        _count_calibration(total, z, head.true[part].astype(np.int64), pred, cluster, edges)
    return _folded(total)


@dataclass(frozen=True)
class ConfidenceSums:
    """What ECE and NLL are made of; those of the parts of a table add up."""

    positions: int
    gaps: Floats
    """(15,): sum of confidence - right in bins of equal width."""
    loss: float
    """Sum over positions of -log p_true, p clipped at :data:`CLIP`."""

    def __add__(self, other: ConfidenceSums) -> ConfidenceSums:
        return ConfidenceSums(self.positions + other.positions, self.gaps + other.gaps, self.loss + other.loss)

    @property
    def scores(self) -> dict[str, float]:
        """``ece`` and ``nll`` (nats)."""
        return {"ece": float(np.abs(self.gaps).sum() / self.positions), "nll": float(self.loss / self.positions)}


def confidence_sums(head: HeadPredictions, changes: Mapping[str, Change | None]) -> dict[str, ConfidenceSums]:
    """Confidence of a head as predicted (None) and after :data:`Change` s, in one pass over its positions."""
    gaps, loss = {name: np.zeros(BINS) for name in changes}, dict.fromkeys(changes, 0.0)
    rows = _rows(len(head.classes))
    for i in range(0, len(head), rows):
        part = slice(i, i + rows)
        p, true = np.ascontiguousarray(head.probabilities[part]), head.true[part]
        logs = _logs(p) if any(change is not None for change in changes.values()) else p
        for name, change in changes.items():
            z, pred = p, head.pred[part]
            if change is not None:
                z = _changed(logs, *change)
                pred = pred if change[0] is None else z.argmax(axis=1).astype(np.int32)
            confidence = pick(z, pred)
            index = width_bin(confidence, FINE) // (FINE // BINS)
            gaps[name] += np.bincount(index, weights=confidence.astype(np.float64) - (pred == true), minlength=BINS)
            loss[name] -= np.log(np.maximum(pick(z, true).astype(np.float64), CLIP)).sum()
    return {name: ConfidenceSums(len(head), gaps[name], float(loss[name])) for name in changes}
