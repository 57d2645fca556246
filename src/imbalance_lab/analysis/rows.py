"""Single positions as table rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.predictions import HeadPredictions


def row_table(head: HeadPredictions, rows: NDArray[Any]) -> pd.DataFrame:
    """Where chosen positions lie and what was predicted there.

    Returns
    -------
    DataFrame with row (index into the head's arrays), sequence, recording, position, true, pred,
    confidence, true_prob
    """
    names, groups = np.asarray(head.classes, dtype=object), np.asarray(head.group_names, dtype=object)
    return pd.DataFrame(
        {
            "row": rows,
            "sequence": head.sequence[rows],
            "recording": groups[head.group[rows]],
            "position": head.position[rows],
            "true": names[head.true[rows]],
            "pred": names[head.pred[rows]],
            "confidence": head.probabilities[rows, head.pred[rows]],
            "true_prob": head.probabilities[rows, head.true[rows]],
        }
    )


def largest(values: NDArray[Any], k: int) -> NDArray[np.intp]:
    """Indices of the k largest values, largest first, ties by index."""
    chosen = np.argpartition(-values, k)[:k] if len(values) > k else np.arange(len(values))
    return chosen[np.lexsort((chosen, -values[chosen]))]
