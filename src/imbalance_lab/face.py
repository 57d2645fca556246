"""The public face on arrays: predictions of any model, and their error analysis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from imbalance_lab.analysis.results import ErrorAnalysis
from imbalance_lab.analysis.suite import run_suite
from imbalance_lab.errors import InputError
from imbalance_lab.predictions import HeadPredictions, Predictions


def make_predictions(
    true: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    train_counts: ArrayLike | None = None,
) -> Predictions:
    """Predictions of any model of one head, one row per position.

    Parameters
    ----------
    true : class ids of shape (n,)
    probabilities : shape (n, K), rows sum to 1; or predicted class ids of shape (n,) (labels alone)
    classes : K names
    groups : recording of each row, shape (n,); without it every row is its own
    train_counts : training rows of each class, shape (K,); without it those of ``true``

    Raises
    ------
    InputError
        If shapes do not fit, a class id is not allowed or a row does not sum to 1.

    Examples
    --------
    >>> import imbalance_lab as il
    >>> table = il.make_predictions([0, 1], [[0.8, 0.2], [0.6, 0.4]], ("ok", "scrap"))
    >>> table.heads["target"].pred.tolist()
    [0, 0]
    """
    y, scores = np.asarray(true), np.asarray(probabilities)
    n, k = len(y), len(classes)
    labels_only = scores.ndim == 1
    for name, ids in {"true": y, **({"predicted": scores} if labels_only else {})}.items():
        if ids.shape != (n,) or ids.dtype.kind not in "iu" or (n and (ids.min() < 0 or ids.max() >= k)):
            raise InputError(
                f"{name}: found {ids.dtype} of shape {ids.shape}; allowed: class ids 0 to {k - 1} of shape ({n},)"
            )
    p = (np.full((n, k), 1 / k) if labels_only else scores).astype(np.float32)
    if p.shape != (n, k):
        raise InputError(f"probabilities: found shape {p.shape}; allowed: ({n}, {k})")
    recordings = np.arange(n) if groups is None else np.asarray(groups)
    if recordings.shape != (n,):
        raise InputError(f"groups: found shape {recordings.shape}; allowed: ({n},)")
    names, group = np.unique(recordings, return_inverse=True)
    counts = np.bincount(y, minlength=k) if train_counts is None else np.asarray(train_counts)
    if counts.shape != (k,):
        raise InputError(f"train_counts: found shape {counts.shape}; allowed: ({k},)")
    zeros = np.zeros(n, dtype=np.int32)
    head = HeadPredictions(
        classes=tuple(classes),
        train_counts=counts.astype(np.int64),
        sequence=np.arange(n, dtype=np.int64),
        position=zeros,
        from_start=zeros,
        from_end=zeros,
        group=group.astype(np.int32),
        group_names=tuple(map(str, names.tolist())),
        true=y.astype(np.int32),
        pred=(scores if labels_only else p.argmax(axis=1)).astype(np.int32),
        probabilities=p,
    )
    return Predictions({"target": head}, {"labels_only": labels_only})


def analyze(predictions: Predictions) -> ErrorAnalysis:
    """Every analysis of every head; of labels alone, those that count labels.

    Raises
    ------
    InputError
        If no head has a scored position.
    """
    return run_suite(predictions, labels_only=bool(predictions.meta.get("labels_only")))
