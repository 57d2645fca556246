"""Inputs around a target position, as the columns of a table that a quick probe can read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.target_positions import Positions
from imbalance_lab.data.dataset import SequenceDataset

_REACH = 4


def per_step(data: SequenceDataset) -> bool:
    """Whether target position t belongs to input step t."""
    return data.target_length == data.continuous.shape[1]


def neighbours(data: SequenceDataset, positions: Positions, reach: int = 1) -> NDArray[np.float32]:
    """Values at lags -reach .. +reach of each position, shape (n, 2 * reach + 1, C); edges repeat."""
    last = data.continuous.shape[1] - 1
    steps = np.clip(positions.place[:, None] + np.arange(-reach, reach + 1), 0, last)
    return measured(data.continuous[positions.row[:, None], steps])


def measured(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """``values`` with infinities as NaN: no estimator can read them, and no sensor measures them."""
    return np.where(np.isinf(values), np.float32(np.nan), values)


def probe_features(data: SequenceDataset, positions: Positions) -> NDArray[np.float32]:
    """Features of the probe, shape (n, F).

    Per-step targets: value, first difference, and mean and standard deviation over +-4 steps of
    each channel (value alone where T = 1). Otherwise statistics of the whole window and the
    target's place. Categorical codes follow; NaN stays where nothing was measured.
    """
    if data.continuous.shape[1] == 1:
        codes = data.categorical[positions.row, 0].astype(np.float32)
        place = positions.place[:, None].astype(np.float32)
        return np.concatenate(
            [measured(data.continuous[positions.row, 0]), codes, *([place] if data.target_length > 1 else [])], axis=1
        )
    if per_step(data):
        around = neighbours(data, positions, _REACH)
        value = around[:, _REACH]
        mean, deviation = _moments(around)
        codes = data.categorical[positions.row, positions.place].astype(np.float32)
        return np.concatenate([value, value - around[:, _REACH - 1], mean, deviation, codes], axis=1)
    rows, inverse = np.unique(positions.row, return_inverse=True)
    window = measured(data.continuous[rows])
    mean, deviation = _moments(window)
    codes = data.categorical[rows]
    table = np.concatenate(
        [mean, deviation, window[:, 0], window[:, -1], codes[:, 0].astype(np.float32), codes[:, -1].astype(np.float32)],
        axis=1,
    )
    return np.concatenate([table[inverse], positions.place[:, None].astype(np.float32)], axis=1)


def _moments(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation over axis 1 of what was measured, NaN where nothing was; (n, C) each."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = np.where(known, values, 0).sum(axis=1, dtype=np.float32) / count
        centred = np.where(known, values - mean[:, None], 0)
        deviation = np.sqrt((centred**2).sum(axis=1, dtype=np.float32) / count)
    return mean.astype(np.float32), deviation.astype(np.float32)


def grouped_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], wanted: int, seed: int
) -> NDArray[np.int64] | None:
    """Fold of each row, shape (n,), recordings kept whole and classes spread; None with fewer than two recordings."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    n_groups = len(np.unique(groups))
    if n_groups < 2 or len(np.unique(labels)) < 2:
        return None
    k = min(wanted, n_groups)
    fold = np.zeros(len(labels), dtype=np.int64)
    if n_groups == len(labels):
        k = min(k, int(np.bincount(labels)[np.unique(labels)].min()))
        if k < 2:
            return None
        parts = StratifiedKFold(k, shuffle=True, random_state=seed).split(labels, labels)
    else:
        parts = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(labels, _cap(labels, k), groups)
    for i, (_, held_out) in enumerate(parts):
        fold[held_out] = i
    return fold


def _cap(labels: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Classes with fewer than k rows pooled: they cannot be spread, and scikit-learn warns of them."""
    rare = np.bincount(labels)[labels] < k
    return np.where(rare, int(np.bincount(labels).argmax()), labels)
