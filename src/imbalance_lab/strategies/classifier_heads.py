"""Classifier heads: their kinds, and tau-normalisation of a trained one."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from imbalance_lab.strategies.option_types import HeadOptions, PosthocOptions
from imbalance_lab.strategies.search_space import OneOf

Floats = NDArray[np.float64]

TAU_NORM_GRID: tuple[float, ...] = tuple(round(0.1 * i, 1) for i in range(11))
"""Exponents tried on validation; 0 leaves the classifier as it is."""


def tau_normalize(weight: ArrayLike, tau: float) -> Floats:
    """w_c / ||w_c||_2^tau of each row, (K, H) -> (K, H); a row of zeros stays zero. Kang et al. 2020."""
    w = np.asarray(weight, dtype=np.float64)
    norm = np.linalg.norm(w, axis=1, keepdims=True)
    return w / np.where(norm > 0, norm, 1.0) ** tau


def tau_normalized_logits(features: ArrayLike, weight: ArrayLike, tau: float, bias: ArrayLike | None = None) -> Floats:
    """Logits (n, K) of features (n, H) after tau-normalisation.

    The reference evaluation drops the bias; pass it to keep it (it is not rescaled).
    """
    logits = np.asarray(features, dtype=np.float64) @ tau_normalize(weight, tau).T
    return logits if bias is None else logits + np.asarray(bias, dtype=np.float64)


def fit_tau_norm(
    features: ArrayLike,
    true: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    metric: str = "macro_f1",
) -> float:
    """The tau of :data:`TAU_NORM_GRID` with the best ``metric`` on validation features (n, H); ties go to the smaller.

    With a bias, tau 0 is the classifier as trained, so that the choice can never be worse than it
    on validation.
    """
    from imbalance_lab.metrics.counts import confusion_counts, metric_by_name

    score, k = metric_by_name(metric), np.asarray(weight).shape[0]
    scores = [
        float(score(confusion_counts(true, tau_normalized_logits(features, weight, tau, bias).argmax(1), k)))
        for tau in TAU_NORM_GRID
    ]
    return TAU_NORM_GRID[int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))]


class Linear(HeadOptions):
    """An affine classifier.

    What: z = W h + b.
    When: the default.
    Suggested values: no option.
    Cost: none.
    Source: common.
    """

    def head(self) -> tuple[Literal["linear", "cosine"], float]:
        """Kind and scale."""
        return "linear", 1.0


class Cosine(HeadOptions):
    """Cosine between features and class vectors, times a scale.

    What: z_c = scale cos(w_c, h), so that every class vector counts with the same length.
    When: with ldam, which needs it; or where classifier norms follow the class frequencies.
    Suggested values: scale 30.
    Cost: two norms per position.
    Source: Cao et al. 2019; Gidaris & Komodakis 2018.
    """

    scale: Annotated[float, Field(gt=0, allow_inf_nan=False), OneOf((10.0, 20.0, 30.0))] = 30.0

    def head(self) -> tuple[Literal["linear", "cosine"], float]:
        """Kind and scale."""
        return "cosine", self.scale


class TauNorm(PosthocOptions):
    """Class vectors are shortened towards equal length after training.

    What: w_c / ||w_c||^tau, tau chosen on validation from 0, 0.1, ... 1 unless given.
    When: frequent classes have grown longer class vectors; needs no second training.
    Suggested values: tau auto.
    Cost: one pass over validation.
    Source: Kang et al. 2020 (tau-normalisation).
    """

    tau: Literal["auto"] | Annotated[float, Field(ge=0, le=2)] = "auto"
