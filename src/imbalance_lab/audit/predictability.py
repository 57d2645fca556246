"""How much of a label one input tells, on recordings that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Fold:
    """A fold of whole recordings: the rows that a model is fitted on, those that it predicts, and balanced weights.

    Attributes
    ----------
    train, held : int64 arrays, rows of the sample
    weight : float64 array of the length of ``train``, n / (K n_c) of each row's class
    """

    train: NDArray[np.int64]
    held: NDArray[np.int64]
    weight: NDArray[np.float64]


def weighted_folds(labels: NDArray[np.int64], fold: NDArray[np.int64]) -> tuple[Fold, ...]:
    """The folds that ``fold`` (n,) numbers, once for all that is fitted on them."""
    from sklearn.utils.class_weight import compute_sample_weight

    parts = []
    for k in np.unique(fold):
        train = np.flatnonzero(fold != k)
        parts.append(Fold(train, np.flatnonzero(fold == k), compute_sample_weight("balanced", labels[train])))
    return tuple(parts)


def tree_prediction(
    columns: NDArray[np.float32], labels: NDArray[np.int64], folds: Sequence[Fold], seed: int
) -> NDArray[np.int64]:
    """Out-of-fold prediction of a class-balanced decision tree of depth 4 (missing values as they are), shape (n,)."""
    from sklearn.tree import DecisionTreeClassifier

    out = np.zeros(len(labels), dtype=np.int64)
    for fold in folds:
        tree = DecisionTreeClassifier(max_depth=_DEPTH, min_samples_leaf=5, random_state=seed)
        tree.fit(columns[fold.train], labels[fold.train], sample_weight=fold.weight)
        out[fold.held] = tree.predict(columns[fold.held])
    return out


@dataclass(frozen=True)
class Resampled:
    """A sample and resamples of its recordings, in which every prediction of it is scored.

    Attributes
    ----------
    sample : n positions
    cell : int64 array of shape (n,), recording and class of each position
    draws : int64 array of shape (1 + resamples, recordings), how often each recording counts; first all of them once
    total : positions of each class in each resample, shape (1 + resamples, K)
    base : balanced accuracy without the input in each resample: of a constant, or of the place alone
    """

    sample: Positions
    cell: NDArray[np.int64]
    draws: NDArray[np.int64]
    total: NDArray[np.int64]
    base: NDArray[np.float64]

    @classmethod
    def of(cls, sample: Positions, floor: NDArray[np.int64] | None, seed: int) -> Resampled:
        """``floor`` (n,) is the prediction from the place alone, where that is what an input must add to."""
        from imbalance_lab.metrics.intervals import cluster_bootstrap_weights

        n_classes = int(sample.label.max()) + 1
        _, block = np.unique(sample.group, return_inverse=True)
        n_groups = int(block.max()) + 1
        if n_groups > _MOST_BLOCKS:
            block, n_groups = block % _MOST_BLOCKS, _MOST_BLOCKS
        draws = cluster_bootstrap_weights(n_groups, _RESAMPLES, np.random.default_rng([seed, n_groups]))
        draws = np.concatenate([np.ones((1, n_groups), dtype=np.int64), draws])
        cell = block * n_classes + sample.label
        total = draws @ np.bincount(cell, minlength=n_groups * n_classes).reshape(n_groups, -1)
        whole = cls(sample, cell, draws, total, np.full(len(draws), 1 / n_classes))
        return whole if floor is None else replace(whole, base=whole.balanced_accuracy(floor))

    def balanced_accuracy(self, predicted: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of a prediction (n,), in the whole sample and in each resample: (1 + resamples,)."""
        n_groups, n_classes = self.draws.shape[1], self.total.shape[1]
        right = self.cell[predicted == self.sample.label]
        hits = self.draws @ np.bincount(right, minlength=n_groups * n_classes).reshape(n_groups, -1)
        recall = np.divide(hits, self.total, out=np.full(hits.shape, np.nan), where=self.total > 0)
        return np.nanmean(recall, axis=1)

    def share(self, name: str, predicted: NDArray[np.int64], codes: NDArray[np.int64] | None = None) -> Share:
        """Share of the achievable gain in balanced accuracy, with its interval over recordings."""
        from imbalance_lab.metrics.intervals import percentile_interval

        reached, base = self.balanced_accuracy(predicted), self.base
        share = np.divide(reached - base, 1 - base, out=np.zeros(len(base)), where=base < 1)
        low, high = percentile_interval(share[1:], n_groups=self.draws.shape[1])
        told = None if codes is None else _entropy_share(codes, self.sample.label)
        n = len(self.sample)
        return Share(name, float(share[0]), float(low), float(high), float(reached[0]), n, told)


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
