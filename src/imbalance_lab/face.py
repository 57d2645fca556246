"""The public face on arrays: predictions of any model, and their error analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imbalance_lab.analysis.results import ErrorAnalysis
from imbalance_lab.analysis.suite import run_suite
from imbalance_lab.data.dataset import IGNORE
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


def make_head_predictions(
    true: ArrayLike | Mapping[str, ArrayLike],
    probabilities: ArrayLike | Mapping[str, ArrayLike],
    classes: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    groups: ArrayLike | None = None,
    train_counts: ArrayLike | Mapping[str, ArrayLike] | None = None,
) -> Predictions:
    """Predictions of one head or of several, of rows or of windows; masked positions are left out.

    Parameters
    ----------
    true : class ids of shape (n,) or (n, L), -100 where masked; a mapping of heads where there are several
    probabilities : shape (n, K) or (n, L, K), or one per head
    classes : K names, or those of each head
    groups : recording of each row, shape (n,)
    train_counts : as for :func:`make_predictions`, or one per head

    Raises
    ------
    InputError
        If heads or shapes differ; see :func:`make_predictions`.
    """
    several = isinstance(true, Mapping)
    if not several == isinstance(probabilities, Mapping) == isinstance(classes, Mapping):
        raise InputError("true, probabilities and classes must all be mappings of heads, or none of them")
    given: tuple[Any, ...] = (true, probabilities, classes)
    y, p, names = (dict(part) if several else {"target": part} for part in given)
    if not set(y) == set(p) == set(names):
        raise InputError(f"heads: found {', '.join(y)} and {', '.join(p)}; allowed: {', '.join(names)}, all of them")
    counts = dict(train_counts) if isinstance(train_counts, Mapping) else dict.fromkeys(names, train_counts)
    heads: dict[str, HeadPredictions] = {}
    for head, own in names.items():
        labels, scores = np.asarray(y[head]), np.asarray(p[head])
        if labels.ndim not in (1, 2) or scores.shape != (*labels.shape, len(own)):
            raise InputError(
                f"head {head!r}: found true {labels.shape} and probabilities {scores.shape}; allowed: (n,) and "
                f"(n, {len(own)}), or (n, L) and (n, L, {len(own)})"
            )
        rows = np.arange(len(labels)) if groups is None else np.asarray(groups)
        if rows.shape != labels.shape[:1]:
            raise InputError(f"groups: found shape {rows.shape}; allowed: {labels.shape[:1]}")
        length = 1 if labels.ndim == 1 else labels.shape[1]
        flat = labels.reshape(-1)
        scored = np.flatnonzero(flat != IGNORE)
        made = make_predictions(
            flat[scored],
            scores.reshape(-1, len(own))[scored],
            own,
            groups=np.repeat(rows, length)[scored],
            train_counts=counts.get(head),
        ).heads["target"]
        place = (scored % length).astype(np.int32)
        heads[head] = replace(
            made, sequence=scored // length, position=place, from_start=place, from_end=length - 1 - place
        )
    return Predictions(heads, {"labels_only": False})


def analyze(predictions: Predictions) -> ErrorAnalysis:
    """Every analysis of every head; of labels alone, those that count labels.

    Raises
    ------
    InputError
        If no head has a scored position.
    """
    return run_suite(predictions, labels_only=bool(predictions.meta.get("labels_only")))
