"""Calibration of probabilities: the bins of its errors, temperature.

Bins of equal width are closed on the right, (a, b], the first one [0, b], as in Guo et al. (2017). The errors
themselves are sums over what :mod:`imbalance_lab.analysis.tally` counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CLIP = float(np.finfo(np.float32).eps)
"""Probability below which the log loss rises no more: they are float32, and scikit-learn's log_loss clips there."""


def width_bin(values: NDArray[Any], bins: int) -> NDArray[np.int64]:
    """Index of the equal-width bin of [0, 1] that each value falls in, same shape."""
    return np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)


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
