"""Output heads side by side: accuracy, confidence, and whether they fail and doubt together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.cross_head import cross_head
from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.interpretation.scored import cluster_mean
from imbalance_lab.predictions import Predictions

_RESAMPLES = 400


@dataclass(frozen=True)
class HeadAssociation:
    """Result of :func:`head_association`.

    Attributes
    ----------
    heads : head, n, recordings, accuracy, low, high, confidence_right, confidence_wrong
    pairs : the joint failures of :func:`imbalance_lab.analysis.cross_head.cross_head` (phi given that
        both apply, p, q) with confidence_correlation (Spearman, same positions)
    """

    heads: pd.DataFrame
    pairs: pd.DataFrame


def head_association(
    predictions: Predictions,
    confidences: Mapping[str, NDArray[np.floating]],
    targets: Mapping[str, NDArray[np.int64]],
    *,
    seed: int = 0,
) -> HeadAssociation:
    """Compare heads on the positions where both apply.

    Parameters
    ----------
    confidences, targets : head to arrays of shape (n, L), the same windows for all heads
    """
    from scipy.stats import spearmanr

    rows = []
    for name, h in predictions.heads.items():
        if not len(h):
            continue
        accuracy, low, high = cluster_mean(h.right.astype(np.float64), h.group.astype(np.int64), seed)
        means = [float(h.confidence[m].mean()) if m.any() else float("nan") for m in (h.right, ~h.right)]
        rows.append((name, len(h), len(np.unique(h.group)), float(accuracy), float(low), float(high), *means))
    columns = ["head", "n", "recordings", "accuracy", "low", "high", "confidence_right", "confidence_wrong"]
    pairs = cross_head(predictions, _RESAMPLES, seed).pairs
    if len(pairs):
        known = {}
        for a, b in combinations(predictions.heads, 2):
            both = (targets[a] != IGNORE) & (targets[b] != IGNORE)
            x, y = confidences[a][both], confidences[b][both]
            varies = len(x) > 2 and x.std() > 0 and y.std() > 0
            known[a, b] = float(spearmanr(x, y).statistic) if varies else float("nan")
        pairs = pairs.assign(
            confidence_correlation=[known[a, b] for a, b in zip(pairs["head_a"], pairs["head_b"], strict=True)]
        )
    return HeadAssociation(pd.DataFrame(rows, columns=columns), pairs)
