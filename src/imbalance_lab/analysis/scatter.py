"""Counting in place: codes and weights of a block of positions are added into one set of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def scatter(total: NDArray[Any], index: NDArray[np.int64], weights: Floats | int = 1) -> None:
    """Add ``weights`` into ``total`` at ``index``, in place.

    Parameters
    ----------
    total : C-contiguous int64 or float64 array
    index : int64 array of flat indices into ``total``, of any shape
    weights : array of the shape of ``index`` and the dtype of ``total``, or 1

    Notes
    -----
    ``np.add.at`` takes between a half and two thirds of the time of :func:`numpy.bincount` for these dtypes (forty
    times as much for others), and needs no array of counts per block.
    """
    np.add.at(total.reshape(-1), index.reshape(-1), weights if isinstance(weights, int) else weights.reshape(-1))


def scatter_runs(total: Floats, code: NDArray[np.integer[Any]], values: NDArray[np.floating[Any]]) -> None:
    """Add ``values`` (b,) into ``total`` at ``code`` (b,), summed first over stretches of equal codes.

    Rows come by sequence, so a code lasts for a while; adding one by one into one cell would wait
    for each addition before the next.
    """
    if len(code) == 0:
        return
    start = np.concatenate([[0], np.flatnonzero(code[1:] != code[:-1]) + 1])
    scatter(total, code[start].astype(np.int64), np.add.reduceat(values, start, dtype=np.float64))


def pick(p: NDArray[Any], column: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """``p[i, column[i]]`` of each row of the C-contiguous (b, K) array ``p``; a third of the time of fancy indexing."""
    return p.reshape(-1).take(np.arange(0, p.size, p.shape[1]) + column)


def row_max(p: NDArray[Any]) -> NDArray[Any]:
    """Largest value of each row of (b, K), K at least 1; by columns where rows are too short to reduce one by one."""
    if p.shape[1] > 32:
        return np.asarray(p.max(axis=1))
    out = p[:, 0].copy()
    for j in range(1, p.shape[1]):
        np.maximum(out, p[:, j], out=out)
    return out
