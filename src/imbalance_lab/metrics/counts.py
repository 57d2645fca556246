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
    filled = np.where(np.isnan(values), 0.0, values)
    return _ratio((filled * mask).sum(axis=-1), mask.sum(axis=-1).astype(np.float64))


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


def macro_f1(confusion: ArrayLike, classes: ArrayLike | None = None) -> Floats:
    """Mean F1 over ``classes``, shape (...).

    Parameters
    ----------
    classes : boolean mask of shape (K,) or class indices; default the classes with support.
        A class of the set that occurs neither as label nor as prediction counts as F1 0.
    """
    _, support, _ = _parts(confusion)
    return _masked_mean(f1(confusion), support > 0 if classes is None else _mask(classes, support.shape[-1]))


def _mask(classes: ArrayLike, k: int) -> NDArray[np.bool_]:
    chosen = np.asarray(classes)
    if chosen.dtype == bool:
        return chosen
    mask = np.zeros(k, dtype=bool)
    mask[chosen.astype(np.int64)] = True
    return mask


def macro_f1_all(confusion: ArrayLike) -> Floats:
    """Mean F1 over all K classes, 0 for a class that never occurs (scikit-learn's zero_division=0)."""
    return np.nan_to_num(f1(confusion)).mean(axis=-1)


def macro_f1_nan(confusion: ArrayLike) -> Floats:
    """Mean F1 over the classes that occur as label or prediction (zero_division=nan; scikit-learn's default labels)."""
    values = f1(confusion)
    return _masked_mean(values, ~np.isnan(values))


def weighted_f1(confusion: ArrayLike) -> Floats:
    """F1 averaged with the classes' support as weights, shape (...)."""
    _, support, _ = _parts(confusion)
    return _ratio((np.nan_to_num(f1(confusion)) * support).sum(axis=-1), support.sum(axis=-1))


def micro_f1(confusion: ArrayLike) -> Floats:
    """F1 of the pooled counts; equals accuracy when every position has one label."""
    return accuracy(confusion)


def balanced_f1(confusion: ArrayLike) -> Floats:
    """Macro F1 over all classes with sample weights n / (K n_c), that is, of the row-normalised confusion."""
    c = np.asarray(confusion, dtype=np.float64)
    rows = np.nan_to_num(_ratio(c, c.sum(axis=-1, keepdims=True) + np.zeros_like(c)))
    return macro_f1_all(rows)


def mcc(confusion: ArrayLike) -> Floats:
    """Multi-class Matthews correlation (Gorodkin 2004), shape (...); 0 where labels or predictions are constant."""
    hits, support, predicted = _parts(confusion)
    n = support.sum(axis=-1)
    covariance = hits.sum(axis=-1) * n - (support * predicted).sum(axis=-1)
    true_variance = n * n - (support * support).sum(axis=-1)
    pred_variance = n * n - (predicted * predicted).sum(axis=-1)
    return np.nan_to_num(_ratio(covariance, np.sqrt(true_variance * pred_variance)))


def kappa(confusion: ArrayLike, weights: str | None = None) -> Floats:
    """Cohen's kappa, shape (...); ``weights`` is None, ``"linear"`` or ``"quadratic"`` in the class index.

    NaN where labels and predictions both hold one and the same class.
    """
    c = np.asarray(confusion, dtype=np.float64)
    k = c.shape[-1]
    _, support, predicted = _parts(c)
    distance = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
    cost = {None: (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    expected = support[..., :, None] * predicted[..., None, :]
    expected_cost = _ratio((expected * cost).sum(axis=(-2, -1)), support.sum(axis=-1))
    return 1.0 - _ratio((c * cost).sum(axis=(-2, -1)), expected_cost)


def gmean(confusion: ArrayLike) -> Floats:
    """Geometric mean of the recalls of the classes with support, shape (...); 0 where one of them is 0."""
    _, support, _ = _parts(confusion)
    return _geometric_mean(np.nan_to_num(recall(confusion)), support > 0, 0.0)


def gmean_observed(confusion: ArrayLike, correction: float = 0.0) -> Floats:
    """imbalanced-learn's multi-class G-mean: over the classes that occur as label *or* prediction.

    A class that is predicted but never true has recall 0 there, so one stray prediction makes the
    value 0 (or ``correction``); :func:`gmean` leaves such classes out.
    """
    _, support, predicted = _parts(confusion)
    return _geometric_mean(np.nan_to_num(recall(confusion)), support + predicted > 0, correction)


def _geometric_mean(values: Floats, mask: NDArray[np.bool_], correction: float) -> Floats:
    values = np.where(values == 0, correction, values)
    zero = ((values == 0) & mask).any(axis=-1)
    logs = np.log(np.where(mask & (values > 0), values, 1.0)).sum(axis=-1)
    return np.where(zero, 0.0, np.exp(_ratio(logs, mask.sum(axis=-1).astype(np.float64))))


def gmean_macro_sensitivity_specificity(confusion: ArrayLike) -> Floats:
    """sqrt(macro sensitivity x macro specificity) over the classes that occur (imbalanced-learn, average="macro")."""
    hits, support, predicted = _parts(confusion)
    n = support.sum(axis=-1, keepdims=True)
    occurs = support + predicted > 0
    sensitivity = _masked_mean(recall(confusion), occurs)
    specificity = _masked_mean(_ratio(n - support - predicted + hits, n - support), occurs)
    return np.sqrt(sensitivity * specificity)


def auprc(true: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Average precision of each class against the rest, shape (K,); NaN where the class has no positive."""
    from sklearn.metrics import average_precision_score

    labels, p = np.asarray(true), np.asarray(probabilities)
    counts = np.bincount(labels, minlength=p.shape[1])
    out = np.full(p.shape[1], np.nan)
    for k in np.flatnonzero(counts):
        out[k] = average_precision_score(labels == k, p[:, k])
    return out


def auroc(true: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Area under the ROC curve of each class against the rest, shape (K,); NaN without positives or negatives."""
    from sklearn.metrics import roc_auc_score

    labels, p = np.asarray(true), np.asarray(probabilities)
    counts = np.bincount(labels, minlength=p.shape[1])
    out = np.full(p.shape[1], np.nan)
    for k in np.flatnonzero((counts > 0) & (counts < len(labels))):
        out[k] = roc_auc_score(labels == k, p[:, k])
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
