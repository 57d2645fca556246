"""Mixup and remix: training on mixtures of two sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from imbalance_lab.lazy import torch
from imbalance_lab.strategies.base import Augment
from imbalance_lab.strategies.losses.masking import IGNORE
from imbalance_lab.strategies.option_types import AugmentOptions
from imbalance_lab.strategies.search_space import OneOf, Uniform

if TYPE_CHECKING:
    from torch import Tensor

_POINTS = 4097


def beta_quantiles(alpha: float) -> NDArray[np.float32]:
    """Quantiles of Beta(alpha, alpha) at 4097 equally spaced points of [0, 1], float32.

    PyTorch's Beta takes no generator; a uniform draw looked up here does.
    """
    from scipy.stats import beta

    return beta.ppf(np.linspace(0.0, 1.0, _POINTS), alpha, alpha).astype(np.float32)


def look_up(quantiles: Tensor, uniform: Tensor) -> Tensor:
    """Linear interpolation of ``quantiles`` (P,) at ``uniform`` in [0, 1), same shape as ``uniform``."""
    place = uniform * (len(quantiles) - 1)
    low = place.long().clamp(max=len(quantiles) - 2)
    return torch.lerp(quantiles[low], quantiles[low + 1], place - low)


def remix_weight(
    own: Tensor, partner: Tensor, weight: Tensor, counts: Tensor, kappa: float = 3.0, tau: float = 0.5
) -> Tensor:
    """Weight of the own label, same shape as ``own``. Chou et al. 2020.

    0 where the own class is at least ``kappa`` times as frequent as the partner's and
    ``weight`` < tau; 1 where it is at most 1/kappa as frequent and 1 - ``weight`` < tau; else ``weight``.
    """
    n = counts.to(torch.float32)
    ratio = n[own] / n[partner].clamp(min=1)
    to_partner = (ratio >= kappa) & (weight < tau)
    to_own = (ratio * kappa <= 1) & (1 - weight < tau)
    return torch.where(to_partner, torch.zeros_like(weight), torch.where(to_own, torch.ones_like(weight), weight))


@dataclass(frozen=True)
class Mix:
    """Bound mixup (``counts`` empty) or remix (class counts per head); ``quantiles`` of the mixing weight."""

    quantiles: Tensor
    counts: Mapping[str, Tensor]
    kappa: float = 3.0
    tau: float = 0.5

    def on(self, device: torch.device) -> Augment:
        """The same with its tables on ``device``: moved once, no step copies them."""
        return replace(
            self,
            quantiles=self.quantiles.to(device),
            counts={head: counts.to(device) for head, counts in self.counts.items()},
        )

    def mix(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Partner index, int64 (B,), and weight of the own input, float32 (B,)."""
        size = len(batch)
        partner = torch.randperm(size, generator=generator, device=generator.device)
        uniform = torch.rand(size, generator=generator, device=generator.device)
        return partner, look_up(self.quantiles, uniform)

    def target_weight(self, head: str, own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
        """Weight of the own label per position, (B, L), for targets (B, L) and input weights (B,).

        1 where the partner's position is not scored, so that no position loses its weight.
        """
        wide = weight.unsqueeze(-1).expand(own.shape)
        both = (own != IGNORE) & (partner != IGNORE)
        if head in self.counts:
            a, b = (torch.where(both, t, torch.zeros_like(t)) for t in (own, partner))
            wide = remix_weight(a, b, wide, self.counts[head], self.kappa, self.tau)
        return torch.where(both, wide, (own != IGNORE).to(wide.dtype))


class Mixup(AugmentOptions):
    """Train on convex mixtures of two sequences and of their losses.

    What: x = w x_i + (1 - w) x_j, loss = w l_i + (1 - w) l_j, w from Beta(alpha, alpha).
    When: the model overfits; helps calibration. It does not correct the prior.
    Suggested values: alpha 1; 0.2 for sequences whose positions must stay sharp.
    Cost: the losses are computed twice.
    Source: Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization.
    """

    alpha: Annotated[float, Field(gt=0, le=100), Uniform(0.1, 1.0)] = 1.0

    def bind(self, counts: Mapping[str, NDArray[np.int64]]) -> Augment:
        """The augmentation; ``counts`` (K,) per head are not needed."""
        return Mix(torch.as_tensor(beta_quantiles(self.alpha)), {})


class Remix(AugmentOptions):
    """Mixup whose label goes to the rarer of the two classes.

    What: the mixed input takes the rarer label where one class is kappa times as frequent and weighs enough.
    When: mixup blurs the rare classes away.
    Suggested values: alpha 1, kappa 3, tau 0.5.
    Cost: the losses are computed twice.
    Source: Chou et al. 2020, Remix: Rebalanced Mixup.
    """

    alpha: Annotated[float, Field(gt=0, le=100)] = 1.0
    kappa: Annotated[float, Field(ge=1, allow_inf_nan=False), OneOf((2.0, 3.0, 5.0, 10.0))] = 3.0
    tau: Annotated[float, Field(ge=0, le=1), Uniform(0.3, 0.9)] = 0.5

    def bind(self, counts: Mapping[str, NDArray[np.int64]]) -> Augment:
        """The augmentation for class counts (K,) per head."""
        tensors = {head: torch.as_tensor(n) for head, n in counts.items()}
        return Mix(torch.as_tensor(beta_quantiles(self.alpha)), tensors, self.kappa, self.tau)
