"""Metrics from the three margins of a confusion matrix.

Recall, precision, F1, balanced accuracy and MCC need only the diagonal, the row sums and the
column sums. Resampling these 3 K numbers of a recording instead of its K x K cells keeps 2,000
resamples of 36 runs in memory for K in the hundreds. The tests hold every function here against
:mod:`imbalance_lab.metrics.counts`, which works on whole matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Margins:
    """Float64 arrays of shape (..., K): correct, true and predicted positions of each class."""

    hit: Array
    true: Array
    pred: Array


def margins(confusion: NDArray[np.generic]) -> Margins:
    """Margins of ``confusion``, shape (..., K, K), rows = true."""
    c = np.asarray(confusion, dtype=np.float64)
    return Margins(hit=np.diagonal(c, axis1=-2, axis2=-1).copy(), true=c.sum(axis=-1), pred=c.sum(axis=-2))


def recall(m: Margins) -> Array:
    """Recall of each class, shape (..., K); NaN where the class has no true position."""
    return _ratio(m.hit, m.true)


def precision(m: Margins) -> Array:
    """Precision of each class, shape (..., K); NaN where the class is never predicted."""
    return _ratio(m.hit, m.pred)


def f1(m: Margins) -> Array:
    """F1 of each class, shape (..., K); NaN where it is neither true nor predicted."""
    return _ratio(2.0 * m.hit, m.true + m.pred)


def macro_f1(m: Margins, classes: NDArray[np.bool_]) -> Array:
    """Mean F1 over ``classes`` (bool mask of shape (K,)), shape (...,)."""
    return f1(m)[..., classes].mean(axis=-1)


def mcc(m: Margins) -> Array:
    """Multi-class Matthews correlation, shape (...,); 0 where predictions or labels are constant.

    Gorodkin 2004, Comparing two K-category assignments by a K-category correlation coefficient.
    """
    total = m.true.sum(axis=-1)
    # Shares, not counts: products of counts of 10^7 positions lose digits.
    t, p = m.true / total[..., None], m.pred / total[..., None]
    covariance = m.hit.sum(axis=-1) / total - (t * p).sum(axis=-1)
    spread = (1.0 - (t * t).sum(axis=-1)) * (1.0 - (p * p).sum(axis=-1))
    constant = spread < 1e-15
    return np.where(constant, 0.0, covariance / np.sqrt(np.where(constant, 1.0, spread)))


def _ratio(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b > 0)
