"""What class frequencies do to logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def prior_shift(counts: ArrayLike, tau: float) -> Floats:
    """-tau log pi_c, shape (K,), to be added to logits. Menon et al. 2021.

    A class without training examples gets the smallest shift: no prior is known for it, and the
    reference code's +27 would make it win nearly always.
    """
    n = np.asarray(counts, dtype=np.float64)
    seen = n > 0
    out = np.zeros(n.shape)
    out[seen] = -tau * np.log(n[seen] / n[seen].sum())
    out[~seen] = out[seen].min() if seen.any() else 0.0
    return out
