"""Calibration of probabilities: binned errors, proper scores, temperature.

Bins of equal width are closed on the right, (a, b], the first one [0, b], as in Guo et al.
(2017); ``closed="left"`` gives [a, b) with the last one [a, 1]. The confidence of a bin is the
mean of its confidences, never its centre, and empty bins are left out.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CLIP = float(np.finfo(np.float32).eps)
"""Probability below which the log loss rises no more: they are float32, and scikit-learn's log_loss clips there."""


class Reliability(NamedTuple):
    """One row per non-empty bin (m of them)."""

    count: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    """Positions in the bin, shape (m,)."""
    mean_confidence: Floats
    """Mean confidence in the bin, shape (m,)."""
    accuracy: Floats
    """Share of the bin that is right, shape (m,)."""
    edges: Floats
    """Lower and upper edge of the bin, shape (m, 2)."""


def width_bin(values: NDArray[Any], bins: int, closed: Literal["right", "left"] = "right") -> NDArray[np.int64]:
    """Index of the equal-width bin of [0, 1] that each value falls in, same shape."""
    if closed == "right":
        return np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.clip(np.floor(values * bins).astype(np.int64), 0, bins - 1)


def mass_edges(confidence: ArrayLike, bins: int) -> Floats:
    """Edges of ``bins`` bins of equal mass (quantiles), 0 and 1 outermost; equal edges are merged."""
    # Sorted first: numpy sorts float32 six times as fast as it partitions at many places.
    ordered = np.sort(np.asarray(confidence)).astype(np.float64)
    edges = np.quantile(ordered, np.linspace(0.0, 1.0, bins + 1))
    edges[0], edges[-1] = 0.0, 1.0
    return np.unique(edges)


def mass_bin(values: NDArray[Any], edges: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Index of the left-closed bin between ``edges`` that each value falls in."""
    if len(edges) > 64:
        return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    index = np.zeros(values.shape, dtype=np.int8)
    for edge in edges[1:-1]:  # a comparison with each of a few edges is vectorised, a binary search is not
        index += values >= edge
    return index.astype(np.int64)


def _top_label(probabilities: ArrayLike, true: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    p = np.asarray(probabilities)
    return p.max(axis=1).astype(np.float64), p.argmax(axis=1) == np.asarray(true)


def _reliability(index: NDArray[np.int64], edges: Floats, confidence: Floats, right: NDArray[np.bool_]) -> Reliability:
    bins = len(edges) - 1
    count = np.bincount(index, minlength=bins)
    some = count > 0
    n = count[some]
    return Reliability(
        count=n,
        mean_confidence=np.bincount(index, weights=confidence, minlength=bins)[some] / n,
        accuracy=np.bincount(index, weights=right, minlength=bins)[some] / n,
        edges=np.stack([edges[:-1], edges[1:]], axis=1)[some],
    )


def reliability(
    probabilities: ArrayLike,
    true: ArrayLike,
    bins: int = 15,
    kind: Literal["width", "mass"] = "width",
    closed: Literal["right", "left"] = "right",
) -> Reliability:
    """Confidence of the top label against its accuracy, per bin.

    Parameters
    ----------
    probabilities : array of shape (n, K)
    true : int array of shape (n,)
    kind : ``"width"`` for bins of equal width, ``"mass"`` for quantile bins (left-closed)
    """
    confidence, right = _top_label(probabilities, true)
    if kind == "width":
        return _reliability(width_bin(confidence, bins, closed), np.linspace(0.0, 1.0, bins + 1), confidence, right)
    edges = mass_edges(confidence, bins)
    return _reliability(mass_bin(confidence, edges), edges, confidence, right)


def _gap(r: Reliability) -> Floats:
    return np.abs(r.accuracy - r.mean_confidence)


def ece(probabilities: ArrayLike, true: ArrayLike, bins: int = 15, closed: Literal["right", "left"] = "right") -> float:
    """Expected calibration error over equal-width bins: sum of n_b / n |accuracy - confidence| (Guo et al. 2017)."""
    r = reliability(probabilities, true, bins, "width", closed)
    return float((r.count * _gap(r)).sum() / r.count.sum())


def mce(probabilities: ArrayLike, true: ArrayLike, bins: int = 15, closed: Literal["right", "left"] = "right") -> float:
    """Largest gap of a non-empty equal-width bin."""
    return float(_gap(reliability(probabilities, true, bins, "width", closed)).max())


def ace(
    probabilities: ArrayLike,
    true: ArrayLike,
    bins: int = 15,
    kind: Literal["width", "mass"] = "mass",
) -> float:
    """Average calibration error: the unweighted mean gap of the non-empty bins; as netcal's ACE, left-closed."""
    return float(_gap(reliability(probabilities, true, bins, kind, "left")).mean())


def adaptive_ece(
    probabilities: ArrayLike, true: ArrayLike, bins: int = 15, method: Literal["quantile", "sorted"] = "quantile"
) -> float:
    """Calibration error over bins of equal mass.

    ``"quantile"`` cuts at quantiles of the confidence, ``"sorted"`` cuts the sorted positions in
    equal parts (ties may then be split).
    """
    if method == "quantile":
        r = reliability(probabilities, true, bins, "mass")
        return float((r.count * _gap(r)).sum() / r.count.sum())
    confidence, right = _top_label(probabilities, true)
    order = np.argsort(confidence, kind="stable")
    sizes = np.full(bins, len(order) // bins) + (np.arange(bins) < len(order) % bins)
    index = np.repeat(np.arange(bins), sizes)
    gap = np.bincount(index, weights=confidence[order] - right[order], minlength=bins)
    return float(np.abs(gap).sum() / len(order))


def classwise_ece(
    probabilities: ArrayLike, true: ArrayLike, bins: int = 15, closed: Literal["right", "left"] = "right"
) -> tuple[float, Floats]:
    """Binary ECE of each class's probability: (mean over all K classes, per class of shape (K,))."""
    p, labels = np.asarray(probabilities), np.asarray(true)
    n, k = p.shape
    index = width_bin(p, bins, closed) + np.arange(k) * bins
    mass = np.bincount(index.ravel(), weights=p.ravel(), minlength=k * bins)
    own = index[np.arange(n), labels]
    gap = np.abs(mass - np.bincount(own, minlength=k * bins)).reshape(k, bins)
    per_class = gap.sum(axis=1) / n
    return float(per_class.mean()), per_class


def brier(probabilities: ArrayLike, true: ArrayLike, kind: Literal["sum", "half", "mean"] = "sum") -> float:
    """Brier score: mean over positions of the squared distance to the one-hot label.

    ``"sum"`` adds up the classes (Brier 1950, range 0 to 2), ``"half"`` halves it, ``"mean"`` divides by K.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    own = p[np.arange(len(p)), np.asarray(true)]
    total = float((np.einsum("ij,ij->i", p, p) - 2 * own + 1).mean())
    return total / {"sum": 1.0, "half": 2.0, "mean": float(p.shape[1])}[kind]


def nll(probabilities: ArrayLike, true: ArrayLike, clip: float = CLIP) -> float:
    """Mean negative log probability of the true class, in nats; ``clip=0`` makes it infinite where that is 0."""
    p = np.asarray(probabilities, dtype=np.float64)
    own = np.maximum(p[np.arange(len(p)), np.asarray(true)], clip)
    with np.errstate(divide="ignore"):
        return float(-np.log(own).mean())


def fit_temperature(logits: ArrayLike, true: ArrayLike) -> float:
    """Temperature T that minimises the mean negative log likelihood of softmax(logits / T).

    Parameters
    ----------
    logits : array of shape (n, K): logits or log probabilities
    true : int array of shape (n,)

    Returns
    -------
    T, found as the root of the derivative in 1/T, in which the loss is convex. ``0.0`` where the
    loss falls as T goes to 0 (every position right), ``inf`` where it falls as T grows without end
    (the logits are on average no better than uniform).

    References
    ----------
    Guo et al. (2017), On Calibration of Modern Neural Networks.
    """
    from scipy.optimize import brentq

    z = np.asarray(logits, dtype=np.float64)
    # Log probability of a class at exactly 0 would be -inf, and 0 * inf NaN: e^-700 is as good as 0.
    z = np.maximum(z - z.max(axis=1, keepdims=True), -700.0)
    own = z[np.arange(len(z)), np.asarray(true)]

    def slope(log_b: float) -> float:
        e = np.exp(z * np.exp(log_b))
        return float((np.einsum("ij,ij->i", e, z) / e.sum(axis=1) - own).mean())

    if (own == 0).all():
        return 0.0
    if (z.mean(axis=1) - own).mean() >= 0:
        return float("inf")
    low, high = -1.0, 1.0
    while slope(low) > 0:
        low -= 2.0
    while slope(high) < 0 and high < 40:
        high += 2.0
    if slope(high) < 0:
        return 0.0
    return float(np.exp(-brentq(slope, low, high, xtol=1e-13, rtol=1e-14)))


def apply_temperature(probabilities: ArrayLike, temperature: float) -> NDArray[Any]:
    """Probabilities at temperature T: p^(1/T), normalised; shape (n, K), the dtype given.

    T = 0 puts all mass on the largest class (ties share it), T = inf is uniform.
    """
    p = np.asarray(probabilities)
    if temperature == 0:
        top = (p == p.max(axis=1, keepdims=True)).astype(p.dtype)
        return top / top.sum(axis=1, keepdims=True)
    z = np.log(np.maximum(p, np.finfo(p.dtype).tiny)) / np.asarray(temperature, dtype=p.dtype)
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    return z / z.sum(axis=1, keepdims=True)
