"""One pass over a head's positions into counts per recording, from which most analyses are computed.

Positions are read in blocks and every count is a bincount. Tallies of shards (files, machines)
of the same head and clusters add up with :func:`merge`, so memory does not grow with the number
of positions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.analysis import positions
from imbalance_lab.analysis.calibration import mass_bin, width_bin
from imbalance_lab.analysis.clusters import Clusters
from imbalance_lab.predictions import HeadPredictions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 1 << 15
FINE = 60  # bins of confidence: 15 bins and the edges .8 and .9 are unions of these
BINS = 15
CLIP = float(np.finfo(np.float32).eps)  # probabilities are float32; scikit-learn's log_loss clips there too
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
    """(C,): sum over positions of -log p_true, p clipped at float32's epsilon."""


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


def _count(index: NDArray[Any], shape: tuple[int, ...], weights: NDArray[Any] | None = None) -> NDArray[Any]:
    return np.bincount(index.ravel(), weights=weights, minlength=int(np.prod(shape))).reshape(shape)


def calibration_block(
    p: NDArray[np.float32],
    true: NDArray[np.int32],
    pred: NDArray[np.int32],
    cluster: NDArray[np.int64],
    n_clusters: int,
    edges: Floats,
) -> CalibrationTally:
    """Counts of one block of b positions; p (b, K), cluster int64 (b,), edges of the equal-mass bins."""
    rows, k = np.arange(len(p)), p.shape[1]
    confidence, own = p[rows, pred], p[rows, true]
    right = (pred == true).astype(np.int64)
    c = n_clusters
    fine = cluster * FINE + width_bin(confidence, FINE)
    m = len(edges) - 1
    by_mass = cluster * m + mass_bin(confidence, edges.astype(np.float32))
    # ceil(p * B) is 0 only for p = 0, which carries no probability: bin B is shared by nothing else.
    index = np.ceil(p * np.float32(BINS)).astype(np.int64)
    index += (cluster * (k * (BINS + 1)))[:, None] + np.arange(k) * (BINS + 1)
    per_class = _count(index, (c, k, BINS + 1), p.ravel())
    positive = _count(index[rows, true], (c, k, BINS + 1))
    squared = np.einsum("ij,ij->i", p, p) - 2 * own + 1
    return CalibrationTally(
        fine=_count(fine * 2 + right, (c, FINE, 2)),
        fine_confidence=_count(fine, (c, FINE), confidence),
        mass=_count(by_mass * 2 + right, (c, m, 2)),
        mass_confidence=_count(by_mass, (c, m), confidence),
        class_probability=_fold_zero(per_class),
        class_positive=_fold_zero(positive),
        brier=_count(cluster, (c,), squared),
        nll=_count(cluster, (c,), -np.log(np.maximum(own, np.float32(CLIP)))),
    )


def _fold_zero(counts: NDArray[Any]) -> NDArray[Any]:
    """Probability exactly 0 belongs to the first bin [0, 1/B]."""
    out = counts[..., 1:].copy()
    out[..., 0] += counts[..., 0]
    return out


def mass_bin_edges(head: HeadPredictions, bins: int = BINS, cap: int = 200_000) -> Floats:
    """Quantiles of the confidence over at most ``cap`` evenly spaced positions; merged where they tie."""
    from imbalance_lab.analysis.calibration import mass_edges

    step = max(1, -(-len(head) // cap))
    rows = np.arange(0, len(head), step)
    return mass_edges(head.probabilities[rows, head.pred[rows]], bins) if len(rows) else np.array([0.0, 1.0])


def _block(head: HeadPredictions, part: slice, clusters: Clusters, edges: Floats, binned_scores: bool) -> Tally:
    p, true, pred = head.probabilities[part], head.true[part], head.pred[part]
    cluster = clusters.codes(head.group[part]).astype(np.int64)
    k, c = p.shape[1], clusters.n
    wrong = (true != pred).astype(np.int64)
    true64 = true.astype(np.int64)
    scores = positive = None
    if binned_scores:
        index = score_bin(p)
        index += np.arange(k, dtype=np.int32) * SCORE_BINS
        scores = _count(index, (k, SCORE_BINS))
        positive = _count(index[np.arange(len(p)), true], (k, SCORE_BINS))
    start, end = head.from_start[part], head.from_end[part]
    relative, inside = positions.relative_bin(start, end)
    d, r = positions.N_DISTANCE, positions.N_RELATIVE
    own = p[np.arange(len(p)), true]
    return Tally(
        confusion=_count((cluster * k + true64) * k + pred, (c, k, k)),
        true_probability=_count(true64, (k,), own),
        scores=scores,
        positive_scores=positive,
        from_start=_count((cluster * d + positions.distance_bin(start)) * 2 + wrong, (c, d, 2)),
        from_end=_count((cluster * d + positions.distance_bin(end)) * 2 + wrong, (c, d, 2)),
        relative=_count(((cluster * r + relative) * 2 + wrong)[inside], (c, r, 2)),
        calibration=calibration_block(p, true, pred, cluster, c, edges),
    )


def _add(total: Any, part: Any) -> None:
    """Add ``part`` into ``total`` in place: the blocks of one pass share one set of arrays."""
    for f in fields(total):
        x, y = getattr(total, f.name), getattr(part, f.name)
        if isinstance(x, CalibrationTally):
            _add(x, y)
        elif x is not None:
            x += y


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
    total = _block(head, slice(0, min(BLOCK, len(head))), clusters, edges, binned_scores)
    for i in range(BLOCK, len(head), BLOCK):
        _add(total, _block(head, slice(i, i + BLOCK), clusters, edges, binned_scores))
    return total


def tally_calibration(
    head: HeadPredictions, clusters: Clusters, log_shift: NDArray[np.float32] | None, inverse_temperature: float
) -> CalibrationTally:
    """Counts of confidence after p -> softmax(log p * inverse_temperature + log_shift).

    The predicted class is the largest of the changed probabilities; without a shift it stays.
    """
    total: CalibrationTally | None = None
    edges = np.linspace(0.0, 1.0, BINS + 1)
    tiny = np.float32(np.finfo(np.float32).tiny)
    for i in range(0, len(head), BLOCK):
        part = slice(i, i + BLOCK)
        z = np.log(np.maximum(head.probabilities[part], tiny))
        z *= np.float32(inverse_temperature)
        if log_shift is not None:
            z += log_shift
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        pred = head.pred[part] if log_shift is None else z.argmax(axis=1).astype(np.int32)
        cluster = clusters.codes(head.group[part]).astype(np.int64)
        counts = calibration_block(z, head.true[part], pred, cluster, clusters.n, edges)
        if total is None:
            total = counts
        else:
            _add(total, counts)
    if total is None:
        raise ValueError("no positions to count")
    return total
