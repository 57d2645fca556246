"""Where a cumulative curve has lost most of what it loses."""

from __future__ import annotations

import numpy as np
import pandas as pd

_ENOUGH = 0.9  # of the whole loss


def enough(cumulative: pd.DataFrame) -> pd.Series | None:
    """The first row of a cumulative curve from which on at least nine tenths of the whole loss are lost.

    None where the whole permutation loses nothing, or only the last step reaches it.
    """
    lost = (cumulative["left"].iloc[0] - cumulative["left"]).to_numpy(dtype=float)
    if not lost[-1] > 0:
        return None
    below = np.flatnonzero(lost < _ENOUGH * lost[-1])
    k = int(below[-1]) + 1 if len(below) else 0
    return cumulative.iloc[k] if k < len(cumulative) - 1 else None
