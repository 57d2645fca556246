"""Class weights: rules from counts to weights, and their scale.

Counts are of scored training targets. A class without training examples has weight 0: it is
excluded, never infinite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator

from imbalance_lab.errors import InputError
from imbalance_lab.strategies.option_types import WeightOptions
from imbalance_lab.strategies.search_space import LogUniform, OneOf

Floats = NDArray[np.float64]


def _on_seen(counts: ArrayLike, values: Floats) -> Floats:
    seen = np.asarray(counts) > 0
    out = np.zeros(seen.shape)
    out[seen] = values
    return out


def _seen(counts: ArrayLike) -> Floats:
    n = np.asarray(counts, dtype=np.float64)
    return n[n > 0]


def balanced(counts: ArrayLike) -> Floats:
    """N / (C n_c) over the C classes seen, shape (K,); scikit-learn's "balanced"."""
    n = _seen(counts)
    return _on_seen(counts, n.sum() / (max(len(n), 1) * n))


def inverse_power(counts: ArrayLike, power: float) -> Floats:
    """n_c ** -power of the classes seen, shape (K,), relative to the most frequent class."""
    n = _seen(counts)
    return _on_seen(counts, (n / n.max(initial=1.0)) ** -power)


def effective_number(counts: ArrayLike, beta: float | Literal["auto"] = 0.9999) -> Floats:
    """(1 - beta) / (1 - beta ** n_c) scaled to sum to the number of classes seen, shape (K,).

    ``beta="auto"`` is (N - 1) / N. Cui et al. 2019, "Class-Balanced Loss Based on Effective
    Number of Samples".
    """
    n = _seen(counts)
    if not len(n):
        return _on_seen(counts, n)
    gap = 1.0 / n.sum() if beta == "auto" else 1.0 - beta
    if gap >= 1.0:
        return _on_seen(counts, np.ones_like(n))
    # 1 - beta ** n without cancellation: at n = 1e6 and beta near 1 the plain form loses digits
    w = gap / -np.expm1(n * np.log1p(-gap))
    return _on_seen(counts, w * len(n) / w.sum())


def ratio(counts: ArrayLike, ratio: float) -> Floats:
    """1 for the most frequent class, ``ratio`` for the rarest, log-linear in n_c between, shape (K,)."""
    n = np.log(_seen(counts))
    span = np.ptp(n) if len(n) else 0.0
    place = (n.max(initial=0.0) - n) / span if span > 0 else np.zeros_like(n)
    return _on_seen(counts, ratio**place)


def scaled_to_data(weights: ArrayLike, counts: ArrayLike) -> Floats:
    """``weights`` times a factor that makes their mean over the data, sum(n_c w_c) / N, equal 1."""
    w, n = np.asarray(weights, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    total = (w * n).sum()
    return w * (n.sum() / total) if total > 0 else np.zeros_like(w)


class Balanced(WeightOptions):
    """Every class has the same total weight.

    What: w_c = N / (C n_c), scaled to mean 1 over the data.
    When: the rare classes matter as much as the frequent ones, and imbalance is below about 100:1.
    Suggested values: no option; beyond 100:1 prefer inverse-sqrt, for weights in the thousands make gradients noisy.
    Cost: none.
    Source: scikit-learn, compute_class_weight.
    """

    exact_power: ClassVar[bool] = True

    def prior_power(self) -> float | None:
        """Power of the prior that the weights correct for."""
        return 1.0

    def weights(self, counts: NDArray[np.int64], classes: tuple[str, ...], where: str) -> Floats:
        """Weights of the K classes, not yet scaled, shape (K,)."""
        return balanced(counts)


class InverseSqrt(WeightOptions):
    """Half-way to balanced: weights fall with the root of the count.

    What: w_c = n_c ** -1/2, scaled to mean 1 over the data.
    When: a first choice for strong imbalance; gains rare recall without giving up the frequent classes.
    Suggested values: power 0.5; 0 is cross-entropy, 1 is balanced.
    Cost: none.
    Source: common practice (Mahajan et al. 2018 use the same root for sampling).
    """

    power: Annotated[float, Field(ge=0, le=2), OneOf((0.25, 0.5, 0.75, 1.0))] = 0.5
    exact_power: ClassVar[bool] = True

    def prior_power(self) -> float | None:
        """Power of the prior that the weights correct for."""
        return self.power

    def weights(self, counts: NDArray[np.int64], classes: tuple[str, ...], where: str) -> Floats:
        """Weights of the K classes, not yet scaled, shape (K,)."""
        return inverse_power(counts, self.power)


class EffectiveNumber(WeightOptions):
    """Weights by the effective number of samples.

    What: w_c proportional to (1 - beta) / (1 - beta ** n_c).
    When: many near-duplicate examples; beta sets where more data stops counting.
    Suggested values: beta 0.9999 up to 10^4 examples a class; "auto" = (N - 1) / N for more.
    Cost: none.
    Source: Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples.
    """

    beta: Annotated[
        Literal["auto"] | Annotated[float, Field(ge=0, lt=1)], OneOf((0.9, 0.99, 0.999, 0.9999, "auto"))
    ] = 0.9999

    def prior_power(self) -> float | None:
        """Power of the prior that the weights correct for: none at beta 0, else known once the data are."""
        return 0.0 if self.beta == 0 else None

    def weights(self, counts: NDArray[np.int64], classes: tuple[str, ...], where: str) -> Floats:
        """Weights of the K classes, not yet scaled, shape (K,)."""
        return effective_number(counts, self.beta)


class Ratio(WeightOptions):
    """The rarest class weighs r times the most frequent.

    What: 1 for the most frequent, r for the rarest class, log-linear in the count between.
    When: you know how much more a rare mistake costs.
    Suggested values: 3 to 30; at 100,000 the loss sees the rare classes alone.
    Cost: none.
    Source: the crisis experiments that this project started from.
    """

    shorthand: ClassVar[str] = "ratio"
    ratio: Annotated[float, Field(gt=0, allow_inf_nan=False), LogUniform(2, 100)]

    def prior_power(self) -> float | None:
        """Power of the prior that the weights correct for: none up to a ratio of 1, else known once the data are."""
        return 0.0 if self.ratio <= 1 else None

    def weights(self, counts: NDArray[np.int64], classes: tuple[str, ...], where: str) -> Floats:
        """Weights of the K classes, not yet scaled, shape (K,)."""
        return ratio(counts, self.ratio)


class Explicit(WeightOptions):
    """Weights as given, one per class name.

    What: the given weights, scaled to mean 1 over the data.
    When: a cost table fixes them, or an old experiment is to be repeated.
    Suggested values: none; every class with training examples needs one.
    Cost: none.
    Source: the user.
    """

    shorthand: ClassVar[str] = "explicit"
    explicit: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]

    @field_validator("explicit")
    @classmethod
    def _some_weight(cls, value: dict[str, float]) -> dict[str, float]:
        if not any(value.values()):
            raise ValueError("at least one weight must be above 0")
        return value

    def weights(self, counts: NDArray[np.int64], classes: tuple[str, ...], where: str) -> Floats:
        """Weights of the K classes, not yet scaled, shape (K,).

        Raises
        ------
        InputError
            If a name is not a class of the head, or a class with training examples has no weight.
        """
        _check_names(self.explicit, classes, counts, where)
        return np.array([self.explicit.get(c, 0.0) for c in classes]) * (np.asarray(counts) > 0)


def _check_names(given: Mapping[str, float], classes: tuple[str, ...], counts: ArrayLike, where: str) -> None:
    if unknown := [name for name in given if name not in classes]:
        raise InputError(f"{where}: weight for unknown class {unknown[0]!r}; allowed: {', '.join(classes)}")
    lacking = [c for c, n in zip(classes, np.asarray(counts).tolist(), strict=True) if n > 0 and c not in given]
    if lacking:
        raise InputError(f"{where}: no weight for class {lacking[0]!r}; every class with training examples needs one")
