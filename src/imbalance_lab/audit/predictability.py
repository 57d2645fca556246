"""How much of a label one input tells, on recordings that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.target_positions import Positions

_DEPTH = 4
_RESAMPLES = 200
_MOST_BLOCKS = 200


@dataclass(frozen=True)
class Share:
    """What one input achieves.

    ``share`` is (balanced accuracy - floor) / (1 - floor): 0 is a constant (or the place alone),
    1 is perfect; ``low`` and ``high`` its 95 % cluster bootstrap interval. ``entropy_share`` is
    1 - H(label | input) / H(label) for discrete inputs (Theil's uncertainty coefficient), else None.
    """

    name: str
    share: float
    low: float
    high: float
    balanced_accuracy: float
    n: int
    entropy_share: float | None = None


def table_prediction(codes: NDArray[np.int64], labels: NDArray[np.int64], fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Out-of-fold prediction by the class that a code favours most over the class's own frequency, shape (n,)."""
    _, codes = np.unique(codes, return_inverse=True)
    n_classes = int(labels.max()) + 1
    out = np.zeros(len(labels), dtype=np.int64)
    for k in np.unique(fold):
        train, held = fold != k, fold == k
        counts = np.bincount(codes[train] * n_classes + labels[train], minlength=(int(codes.max()) + 1) * n_classes)
        table = counts.reshape(-1, n_classes) / np.maximum(np.bincount(labels[train], minlength=n_classes), 1)
        out[held] = table.argmax(axis=1)[codes[held]]
    return out


def tree_prediction(
    columns: NDArray[np.float32], labels: NDArray[np.int64], fold: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Out-of-fold prediction of a class-balanced decision tree of depth 4 (missing values as they are), shape (n,)."""
    from sklearn.tree import DecisionTreeClassifier

    out = np.zeros(len(labels), dtype=np.int64)
    for k in np.unique(fold):
        train, held = fold != k, fold == k
        tree = DecisionTreeClassifier(max_depth=_DEPTH, class_weight="balanced", min_samples_leaf=5, random_state=seed)
        out[held] = tree.fit(columns[train], labels[train]).predict(columns[held])
    return out


def gain_share(
    name: str,
    sample: Positions,
    predicted: NDArray[np.int64],
    floor: NDArray[np.int64] | None,
    seed: int,
    codes: NDArray[np.int64] | None = None,
) -> Share:
    """Share of the achievable gain in balanced accuracy, with its interval over recordings."""
    from imbalance_lab.metrics.intervals import cluster_bootstrap_weights, percentile_interval

    n_classes = int(sample.label.max()) + 1
    _, block = np.unique(sample.group, return_inverse=True)
    n_groups = int(block.max()) + 1
    if n_groups > _MOST_BLOCKS:
        block, n_groups = block % _MOST_BLOCKS, _MOST_BLOCKS
    draws = cluster_bootstrap_weights(n_groups, _RESAMPLES, np.random.default_rng([seed, n_groups]))
    draws = np.concatenate([np.ones((1, n_groups), dtype=np.int64), draws])

    def balanced(prediction: NDArray[np.int64]) -> NDArray[np.float64]:
        size = n_groups * n_classes
        flat = block * n_classes + sample.label
        total = draws @ np.bincount(flat, minlength=size).reshape(n_groups, -1)
        right = draws @ np.bincount(flat[prediction == sample.label], minlength=size).reshape(n_groups, -1)
        recall = np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)
        return np.nanmean(recall, axis=1)

    reached = balanced(predicted)
    base = np.full(len(draws), 1 / n_classes) if floor is None else balanced(floor)
    share = np.divide(reached - base, 1 - base, out=np.zeros(len(draws)), where=base < 1)
    low, high = percentile_interval(share[1:], n_groups=n_groups)
    told = None if codes is None else _entropy_share(codes, sample.label)
    return Share(name, float(share[0]), float(low), float(high), float(reached[0]), len(sample), told)


def _entropy_share(codes: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """1 - H(label | code) / H(label) with classes weighted alike."""
    _, codes = np.unique(codes, return_inverse=True)
    table = np.zeros((int(codes.max()) + 1, int(labels.max()) + 1))
    np.add.at(table, (codes, labels), 1)
    joint = table / np.maximum(table.sum(axis=0), 1) / table.shape[1]
    label_entropy = np.log(table.shape[1])
    given = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)
    conditional = -(joint * np.log(np.maximum(given, 1e-300))).sum()
    return float(1 - conditional / label_entropy)
