"""Losses that add the class prior to the logits: balanced softmax, logit adjustment, vector scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from imbalance_lab.lazy import torch
from imbalance_lab.strategies.base import HeadLoss
from imbalance_lab.strategies.losses.bound_loss import HeadContext, stateless
from imbalance_lab.strategies.losses.cross_entropy import cross_entropy
from imbalance_lab.strategies.losses.masking import IGNORE, working
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import Uniform

if TYPE_CHECKING:
    from torch import Tensor


def log_prior(counts: ArrayLike, tau: float = 1.0, eps: float = 0.0) -> NDArray[np.float64]:
    """tau * log(n_c / N), shape (K,); -inf marks a class without examples.

    With ``eps`` > 0 it is log(pi^tau + eps), as in the reference code of Menon et al. 2021.
    """
    n = np.asarray(counts, dtype=np.float64)
    prior = n / max(n.sum(), np.finfo(np.float64).tiny)
    if eps > 0:
        return np.log(prior**tau + eps)
    out = np.full(n.shape, -np.inf)
    out[n > 0] = tau * np.log(prior[n > 0])
    return out


def prior_cross_entropy(
    logits: Tensor,
    target: Tensor,
    offset: Tensor,
    scale: Tensor | None = None,
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
) -> Tensor:
    """Mean over scored positions of w_y CE(z * scale + offset, y), a scalar.

    ``logits`` (..., K), ``target`` (...), ``offset`` and ``scale`` (K,). A class whose offset
    is -inf (no training examples) takes no part in the softmax, gets no gradient, and
    positions of that class are not scored.
    """
    z = working(logits)
    seen = torch.isfinite(offset)
    shift = torch.where(seen, offset, torch.zeros_like(offset)).to(z.dtype)
    z = (z if scale is None else z * scale.to(z.dtype)) + shift
    z = torch.where(seen, z, torch.full((), torch.finfo(z.dtype).min, dtype=z.dtype, device=z.device))
    known = (target != IGNORE) & seen[torch.where(target == IGNORE, torch.zeros_like(target), target)]
    return cross_entropy(z, torch.where(known, target, IGNORE), class_weight, position_weight)


def vector_scaling_terms(
    counts: ArrayLike, gamma: float = 0.3, tau: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Delta_c = (n_c / n_max)^gamma and iota_c = tau log(n_c / N), both (K,). Kini et al. 2021."""
    n = np.asarray(counts, dtype=np.float64)
    delta = np.ones_like(n)
    delta[n > 0] = (n[n > 0] / n.max()) ** gamma
    return delta, log_prior(counts, tau)


def _bind(context: HeadContext, offset: NDArray[np.float64], scale: NDArray[np.float64] | None = None) -> HeadLoss:
    return stateless(
        lambda x, s: prior_cross_entropy(
            x.logits, x.target, s["offset"], s.get("scale"), s.get("class_weight"), x.position_weight
        ),
        context.constants(offset=offset, scale=scale),
    )


class BalancedSoftmax(LossOptions):
    """Softmax with the class counts inside: trains for a balanced test distribution.

    What: CE(z + log n_c); at inference z alone is used. Equals logit-adjusted with tau 1.
    When: rare classes matter as much as frequent ones; usually better than inverse weights.
    Suggested values: no option.
    Cost: none.
    Source: Ren et al. 2020, Balanced Meta-Softmax.
    """

    def prior_power(self) -> float | None:
        """Power of the prior that this loss corrects for."""
        return 1.0

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        return _bind(context, log_prior(context.prior))


class LogitAdjusted(LossOptions):
    """Softmax with tau times the log prior inside; tau sets how far to go towards balanced.

    What: CE(z + tau log pi_c), pi of the data as sampled; at inference z alone is used.
    When: a first choice; its post-hoc twin costs no training at all, so compare with the free-lunch control.
    Suggested values: tau 1; below 1 keeps more of the frequent classes' precision.
    Cost: none.
    Source: Menon et al. 2021, Long-tail Learning via Logit Adjustment.
    """

    tau: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(0.25, 2.0)] = 1.0

    def prior_power(self) -> float | None:
        """Power of the prior that this loss corrects for."""
        return self.tau

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        return _bind(context, log_prior(context.prior, self.tau))


class VectorScaling(LossOptions):
    """Logit adjustment with a factor per class beside the offset.

    What: CE(z Delta_c + tau log pi_c), Delta_c = (n_c / n_max)^gamma.
    When: the model can fit the training data entirely, where an offset alone stops acting.
    Suggested values: gamma 0.3 (0.05 to 0.3), tau 1.
    Cost: none.
    Source: Kini et al. 2021, Label-Imbalanced and Group-Sensitive Classification under Overparameterization.
    """

    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(0.0, 0.4)] = 0.3
    tau: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(0.25, 2.0)] = 1.0

    def prior_power(self) -> float | None:
        """Power of the prior that this loss corrects for: that of its offset."""
        return self.tau

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        delta, iota = vector_scaling_terms(context.prior, self.gamma, self.tau)
        return _bind(context, iota, delta)
