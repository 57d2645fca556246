"""What predictors that ignore the input score: the floor under every metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def trivial_confusions(support: NDArray[np.int64], train_counts: NDArray[np.int64]) -> dict[str, Floats]:
    """Expected confusion counts of three predictors on a split.

    Parameters
    ----------
    support : true positions of each class in the split, shape (K,)
    train_counts : training positions of each class, shape (K,); all zero means unknown, and the
        split's own frequencies stand in

    Returns
    -------
    ``majority`` (always the most frequent class), ``prior`` (drawn with the training
    frequencies) and ``uniform``, each of shape (K, K)
    """
    counts = train_counts if train_counts.sum() else support
    k = len(support)
    shares = {
        "majority": np.eye(k)[int(counts.argmax())],
        "prior": counts / max(counts.sum(), 1),
        "uniform": np.full(k, 1.0 / k),
    }
    return {name: support[:, None] * share[None, :].astype(np.float64) for name, share in shares.items()}
