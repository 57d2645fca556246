"""The collapse monitor: does a model still predict more than one class?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PredictionSpread:
    """How many classes a head predicts.

    ``entropy`` and ``label_entropy`` are Shannon entropies in nats of the shares of predicted and of
    true classes; ``collapsed`` says that one class is predicted though the labels hold several.
    """

    classes_predicted: int
    entropy: float
    label_entropy: float
    collapsed: bool


def prediction_spread(confusion: NDArray[np.int64]) -> PredictionSpread:
    """Spread of the predictions in a confusion matrix (K, K), rows true, columns predicted."""
    predicted, true = confusion.sum(axis=0), confusion.sum(axis=1)
    n_predicted, n_true = int((predicted > 0).sum()), int((true > 0).sum())
    return PredictionSpread(n_predicted, _entropy(predicted), _entropy(true), n_predicted == 1 and n_true > 1)


def collapse_epoch(collapsed: Sequence[bool]) -> int | None:
    """First epoch (from 1) of the stretch of collapsed epochs that lasts to the end, or None."""
    if not collapsed or not collapsed[-1]:
        return None
    last_healthy = max((i for i, c in enumerate(collapsed) if not c), default=-1)
    return last_healthy + 2


def _entropy(counts: NDArray[np.int64]) -> float:
    p = counts[counts > 0] / max(1, counts.sum())
    return float(-(p * np.log(p)).sum()) + 0.0
