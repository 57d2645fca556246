"""Which channels are missing where, as one code per position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.probe_features import per_step
from imbalance_lab.audit.target_positions import Positions
from imbalance_lab.data.dataset import SequenceDataset

_BLOCK = 5_000


def missing_patterns(data: SequenceDataset, positions: Positions) -> NDArray[np.int64]:
    """Code of the set of missing channels of each position, shape (n,); one code only where none differ.

    Per-step targets: what is missing at the step; otherwise what is missing at every step.
    """
    n, c = len(positions), len(data.channels)
    odd = np.random.default_rng(20240603).integers(1, 1 << 62, size=c, dtype=np.uint64)
    steps = per_step(data)
    key = np.zeros(n, dtype=np.uint64)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        if steps:
            missing = np.isnan(data.continuous[positions.row[part], positions.place[part]])
            key[part] = (missing * odd).sum(axis=1, dtype=np.uint64)
        else:
            rows, inverse = np.unique(positions.row[part], return_inverse=True)
            never = np.isnan(data.continuous[rows]).all(axis=1)
            key[part] = (never * odd).sum(axis=1, dtype=np.uint64)[inverse]
    return np.unique(key, return_inverse=True)[1].reshape(-1).astype(np.int64)
