"""Standardisation and imputation of stored values, fitted on the rows it is told (train), held as plain arrays.

Stored values are those of :mod:`imbalance_lab.data.scaling`: near 0 and of order 1, whatever the units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.data.window_view import WindowView

CLIP = 10.0
"""Scaled values are clipped at this many standard deviations, so that one wild value cannot rule."""


@dataclass(frozen=True)
class Preprocessing:
    """Per-channel statistics of the stored values.

    Attributes
    ----------
    mean, std : float32 arrays of shape (C,)
        Over finite values. A constant channel has std 1, a channel without any value mean 0.
    fitted_on : ``"train"`` or ``"all"``
    n_rows : rows that the statistics were taken from
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    fitted_on: str
    n_rows: int

    def transform(self, continuous: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise stored values (..., C), clip at +-:data:`CLIP`, and set missing ones to 0 (the fitted mean)."""
        out = np.clip((continuous - self.mean) / self.std, -CLIP, CLIP)
        return np.where(np.isfinite(continuous), out, np.float32(0.0)).astype(np.float32)


def fit(dataset: SequenceDataset, index: NDArray[np.int64] | None, on: str = "train") -> Preprocessing:
    """Fit on the sequences at ``index`` (None: all of them).

    Rows that several windows share count once where the dataset says which rows they are
    (L = T, with ``unit`` and ``unit_position``); for token sequences (L != T) a row counts as
    often as windows hold it.

    Parameters
    ----------
    index : int64 array of sequence indices
    on : recorded as ``fitted_on``
    """
    chosen = np.arange(len(dataset)) if index is None else index
    inputs, channels = dataset.continuous, dataset.continuous.shape[2]
    if isinstance(inputs, WindowView):
        table, rows = inputs.table, _rows_of_view(dataset, inputs, chosen)
    else:
        table, rows = inputs.reshape(inputs.shape[0] * inputs.shape[1], channels), _rows_once(dataset, chosen)
    at = rows[rows >= 0]
    mean, std = np.zeros(channels, dtype=np.float32), np.ones(channels, dtype=np.float32)
    for channel in range(channels):  # one channel at a time: float64 without a float64 copy of all
        values = table[at, channel].astype(np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            mean[channel] = values.mean()
            spread = values.std()
            if spread > 1e-7 * abs(float(mean[channel])):  # below float32's resolution it is rounding
                std[channel] = spread
    return Preprocessing(mean, std, on, len(rows))


def _rows_once(dataset: SequenceDataset, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the flattened (N * T) inputs, padding left out, each true row once."""
    t = dataset.continuous.shape[1]
    flat = (index[:, None] * t + np.arange(t)).ravel()
    if dataset.target_length != t:
        return flat
    position = dataset.unit_position[index].ravel()
    real = np.flatnonzero(position >= 0)
    unit = np.repeat(dataset.unit[index], t)[real]
    keys = unit * (int(position.max(initial=0)) + 1) + position[real]
    _, first = np.unique(keys, return_index=True)
    return flat[real[np.sort(first)]]


def _rows_of_view(
    dataset: SequenceDataset, view: WindowView[np.float32], index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows of the view's table, as :func:`_rows_once` tells them; padding is -1 where it is not left out."""
    rows = view.rows(index).ravel()
    if dataset.target_length != view.steps:
        return rows
    rows = rows[rows >= 0]
    first = np.full(len(view.table), len(rows))
    first[rows[::-1]] = np.arange(len(rows))[::-1]  # of equal indices the one that is written last stays
    return rows[np.sort(first[first < len(rows)])]
