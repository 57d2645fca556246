"""Classification metrics as functions of confusion counts, so that a resample costs no second look at the data.

``confusion`` has shape (..., K, K), rows true and columns predicted; leading dimensions are a
batch (resamples, groups). Definitions follow scikit-learn 1.9 and imbalanced-learn 0.14.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def confusion_counts(
    true: ArrayLike, pred: ArrayLike, n_classes: int, group: ArrayLike | None = None, n_groups: int | None = None
) -> NDArray[np.int64]:
    """Confusion counts in one pass.

    Parameters
    ----------
    true, pred : int arrays of shape (n,), values 0 .. n_classes - 1
    group : int array of shape (n,), values 0 .. n_groups - 1, or None
    n_groups : number of groups; default the largest code plus one

    Returns
    -------
    int64 array of shape (K, K), or (n_groups, K, K) when ``group`` is given
    """
    code = np.asarray(true).astype(np.int64) * n_classes + np.asarray(pred)
    cells = n_classes * n_classes
    if group is None:
        return np.bincount(code, minlength=cells).reshape(n_classes, n_classes)
    groups = np.asarray(group).astype(np.int64)
    if n_groups is None:
        n_groups = int(groups.max()) + 1 if groups.size else 0
    return np.bincount(code + groups * cells, minlength=n_groups * cells).reshape(n_groups, n_classes, n_classes)


def _parts(confusion: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """(hits, true totals, predicted totals), each (..., K)."""
    c = np.asarray(confusion, dtype=np.float64)
    return np.diagonal(c, axis1=-2, axis2=-1), c.sum(axis=-1), c.sum(axis=-2)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, NaN where the denominator is 0."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


def _masked_mean(values: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Mean of the last axis over ``mask`` with NaN read as 0; NaN where nothing is in the mask."""
    return _ratio((np.nan_to_num(values) * mask).sum(axis=-1), mask.sum(axis=-1).astype(np.float64))


def accuracy(confusion: ArrayLike) -> Floats:
    """Share of positions that are right, shape (...)."""
    hits, support, _ = _parts(confusion)
    return _ratio(hits.sum(axis=-1), support.sum(axis=-1))


def recall(confusion: ArrayLike) -> Floats:
    """Recall of each class, shape (..., K); NaN without support."""
    hits, support, _ = _parts(confusion)
    return _ratio(hits, support)


def precision(confusion: ArrayLike) -> Floats:
    """Precision of each class, shape (..., K); NaN where the class is never predicted."""
    hits, _, predicted = _parts(confusion)
    return _ratio(hits, predicted)


def f1(confusion: ArrayLike) -> Floats:
    """F1 of each class, shape (..., K): 2 TP / (support + predicted); NaN where the class occurs in neither."""
    hits, support, predicted = _parts(confusion)
    return _ratio(2 * hits, support + predicted)


def balanced_accuracy(confusion: ArrayLike) -> Floats:
    """Mean recall over the classes with support, shape (...)."""
    _, support, _ = _parts(confusion)
    return _masked_mean(recall(confusion), support > 0)


def macro_f1(confusion: ArrayLike) -> Floats:
    """Mean F1 over the classes with support, shape (...)."""
    _, support, _ = _parts(confusion)
    return _masked_mean(f1(confusion), support > 0)


def weighted_f1(confusion: ArrayLike) -> Floats:
    """F1 averaged with the classes' support as weights, shape (...)."""
    _, support, _ = _parts(confusion)
    return _ratio((np.nan_to_num(f1(confusion)) * support).sum(axis=-1), support.sum(axis=-1))


def mcc(confusion: ArrayLike) -> Floats:
    """Multi-class Matthews correlation (Gorodkin 2004), shape (...); 0 where labels or predictions are constant."""
    hits, support, predicted = _parts(confusion)
    n = support.sum(axis=-1)
    covariance = hits.sum(axis=-1) * n - (support * predicted).sum(axis=-1)
    true_variance = n * n - (support * support).sum(axis=-1)
    pred_variance = n * n - (predicted * predicted).sum(axis=-1)
    return np.nan_to_num(_ratio(covariance, np.sqrt(true_variance * pred_variance)))


def gmean(confusion: ArrayLike) -> Floats:
    """Geometric mean of the recalls of the classes with support, shape (...).

    imbalanced-learn's also counts classes that are predicted but never true, so that one stray prediction makes it 0.
    """
    _, support, _ = _parts(confusion)
    values, some = np.nan_to_num(recall(confusion)), support > 0
    logs = np.log(np.where(some & (values > 0), values, 1.0)).sum(axis=-1)
    mean = np.exp(_ratio(logs, some.sum(axis=-1).astype(np.float64)))
    return np.where(((values == 0) & some).any(axis=-1), 0.0, mean)


def auprc(true: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Average precision of each class against the rest, shape (K,); NaN where the class has no positive."""
    from sklearn.metrics import average_precision_score

    labels, p = np.asarray(true), np.asarray(probabilities)
    counts = np.bincount(labels, minlength=p.shape[1])
    out = np.full(p.shape[1], np.nan)
    for k in np.flatnonzero(counts):
        out[k] = average_precision_score(labels == k, p[:, k])
    return out


_BY_NAME: dict[str, Callable[[ArrayLike], Floats]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "mcc": mcc,
    "gmean": gmean,
}


def metric_by_name(name: str) -> Callable[[ArrayLike], Floats]:
    """The metric function of that name.

    Raises
    ------
    InputError
        If there is no such metric; the message lists those there are.
    """
    from imbalance_lab.errors import InputError

    if name not in _BY_NAME:
        raise InputError(f"metric {name!r} is not known; allowed are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
