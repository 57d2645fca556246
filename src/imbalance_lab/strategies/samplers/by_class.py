"""Samplers: which training sequences an epoch sees, and how often."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from imbalance_lab.strategies.option_types import BalancingOptions, SamplerContext, SamplerOptions
from imbalance_lab.strategies.samplers.pools import (
    NaturalSampler,
    Pools,
    PoolSampler,
    WeighableSampler,
    position_pools,
    rarest_class,
)
from imbalance_lab.strategies.search_space import OneOf, Uniform

Floats = NDArray[np.float64]


def class_probabilities(counts: ArrayLike, q: float) -> Floats:
    """P(class) proportional to n_c^q over the classes with examples, shape (K,). Kang et al. 2020.

    q = 1 is natural, 1/2 square root, 0 balanced.
    """
    n = np.asarray(counts, dtype=np.float64)
    out = np.zeros_like(n)
    out[n > 0] = (n[n > 0] / n.max(initial=1.0)) ** q
    return out / max(out.sum(), np.finfo(np.float64).tiny)


def progressive_probabilities(counts: ArrayLike, fraction: float) -> Floats:
    """(1 - fraction) * natural + fraction * balanced, shape (K,). Kang et al. 2020.

    The paper slides with ``fraction`` e / T, the reference code with e / (T - 1).
    """
    return (1 - fraction) * class_probabilities(counts, 1) + fraction * class_probabilities(counts, 0)


Course = Literal["linear", "cosine", "convex"]


def curriculum_power(progress: float, course: Course = "cosine") -> float:
    """g(t), from 1 at the start to 0 at the end: the target distribution is pi^g. Wang et al. 2019.

    Cosine cos(pi t / 2), linear 1 - t, convex (1 - t)^2.
    """
    if course == "cosine":
        return float(np.cos(np.pi / 2 * progress))
    return (1 - progress) ** (1 if course == "linear" else 2)


class Natural(SamplerOptions):
    """Every sequence once per epoch.

    What: a new permutation per epoch.
    When: the baseline, and the last phase of a curriculum.
    Suggested values: no option.
    Cost: none.
    Source: common.
    """

    def bind(self, context: SamplerContext) -> WeighableSampler:
        """The sampler of one data set."""
        return NaturalSampler(len(context.target))


class ClassBalanced(BalancingOptions):
    """A class by n_c^q first, then a random position of it.

    What: P(class) proportional to n_c^q; the sequence that holds the position is drawn.
    When: rare classes are rarely in a batch. Sequences cannot balance tokens: see the shares seen.
    Suggested values: q 0 (balanced) or 0.5 (square root).
    Cost: an index of all positions.
    Source: Kang et al. 2020, Decoupling Representation and Classifier.
    """

    q: Annotated[float, Field(ge=0, le=1), Uniform(0.0, 0.9)] = 0.0
    head: str | None = None

    def prior_power(self) -> float | None:
        """Power of the prior that this sampler corrects for, 1 - q."""
        return 1.0 - self.q

    def bind(self, context: SamplerContext) -> WeighableSampler:
        """The sampler of one data set."""
        p = class_probabilities(context.counts, self.q)
        return PoolSampler(position_pools(context.target, len(p)), lambda progress: p, len(context.target))


class Progressive(BalancingOptions):
    """Slides from natural to balanced over the training.

    What: P(class) = (1 - t) n_c/N + t/C, with t the fraction of the training that is done.
    When: the representation should be learnt on the natural data and the decision on balanced data.
    Suggested values: reach 1 (balanced at the end).
    Cost: an index of all positions.
    Source: Kang et al. 2020.
    """

    moves: ClassVar[bool] = True
    reach: Annotated[float, Field(gt=0, le=1), Uniform(0.5, 1.0)] = 1.0
    head: str | None = None

    def prior_power(self) -> float | None:
        """Power of the prior that this sampler corrects for at its end."""
        return 1.0

    def bind(self, context: SamplerContext) -> WeighableSampler:
        """The sampler of one data set."""
        counts, reach = context.counts, self.reach
        return PoolSampler(
            position_pools(context.target, len(counts)),
            lambda progress: progressive_probabilities(counts, min(1.0, progress / reach)),
            len(context.target),
        )


class Dynamic(BalancingOptions):
    """The target distribution flattens as training goes: pi^g(t), g from 1 to 0.

    What: P(class) proportional to n_c^g(t), g cosine, linear or convex.
    When: as progressive, with a gentler slope for very rare classes.
    Suggested values: course cosine.
    Cost: an index of all positions.
    Source: Wang et al. 2019, Dynamic Curriculum Learning for Imbalanced Data Classification.
    """

    moves: ClassVar[bool] = True
    course: Annotated[Course, OneOf(("linear", "cosine", "convex"))] = "cosine"
    head: str | None = None

    def prior_power(self) -> float | None:
        """Power of the prior that this sampler corrects for at its end."""
        return 1.0

    def bind(self, context: SamplerContext) -> WeighableSampler:
        """The sampler of one data set."""
        counts, course = context.counts, self.course
        return PoolSampler(
            position_pools(context.target, len(counts)),
            lambda progress: class_probabilities(counts, curriculum_power(progress, course)),
            len(context.target),
        )


class RarestClass(BalancingOptions):
    """Sequences are weighted by the rarest class that they hold.

    What: weight of a sequence = n_r^-power, r the rarest class in it; 0 where nothing in it is scored.
    When: each sequence holds several classes and rare ones come with frequent ones.
    Suggested values: power 1 (inverse frequency); 0.5 is gentler.
    Cost: none.
    Source: the crisis experiments that this project started from (planned step 2).
    """

    power_of_frequency: Annotated[float, Field(ge=0, le=2), Uniform(0.25, 1.0)] = 1.0
    head: str | None = None

    def prior_power(self) -> float | None:
        """Power of the prior that this sampler corrects for: known once the data are."""
        return None if self.power_of_frequency > 0 else 0.0

    def bind(self, context: SamplerContext) -> WeighableSampler:
        """The sampler of one data set."""
        k = len(context.classes)
        rarest = rarest_class(context.target, context.counts)
        pools = Pools.of(rarest, np.arange(len(rarest)), k + 1)
        n = np.append(context.counts, 0).astype(np.float64)
        weight = np.zeros(k + 1)
        weight[n > 0] = pools.sizes[n > 0] * (n[n > 0] / n.max()) ** -self.power_of_frequency
        p = weight / weight.sum()
        return PoolSampler(pools, lambda progress: p, len(rarest))
