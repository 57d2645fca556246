"""Search spaces of hyper-parameters, written beside the field they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Uniform:
    """A float between ``low`` and ``high``."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class LogUniform:
    """A float between ``low`` and ``high``, uniform in its logarithm."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} (logarithmic)"


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.values))


Distribution = Uniform | LogUniform | OneOf


def optuna_distributions(space: Mapping[str, Distribution]) -> dict[str, Any]:
    """The space in Optuna's terms, for ``study.ask(fixed_distributions)``; needs optuna."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    def convert(d: Distribution) -> Any:
        if isinstance(d, OneOf):
            return CategoricalDistribution(d.values)
        return FloatDistribution(d.low, d.high, log=isinstance(d, LogUniform))

    return {path: convert(d) for path, d in space.items()}
