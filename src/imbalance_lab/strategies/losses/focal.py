"""Focal loss, softmax and sigmoid form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from imbalance_lab.lazy import F, torch
from imbalance_lab.strategies.base import HeadLoss
from imbalance_lab.strategies.losses.bound_loss import HeadContext, stateless
from imbalance_lab.strategies.losses.masking import (
    gather,
    mean_over_scored,
    one_hot,
    one_minus_probability,
    position_weights,
    scored,
    working,
)
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import Uniform

if TYPE_CHECKING:
    from torch import Tensor


def focal_loss(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
) -> Tensor:
    """Mean over scored positions of -alpha_y (1 - p_y)^gamma log p_y, a scalar.

    p_y comes from the *unweighted* softmax: exp(-weighted CE) is no probability.
    ``logits`` (..., K), ``target`` (...), ``class_weight`` alpha (K,). Lin et al. 2017.
    """
    z, y, mask = scored(logits, target)
    log_p = gather(F.log_softmax(z, dim=-1), y)
    loss = -(one_minus_probability(log_p) ** gamma) * log_p
    return mean_over_scored(loss, mask, position_weights(y, class_weight, position_weight, z.dtype))


def sigmoid_focal_elements(logits: Tensor, positive: Tensor, gamma: float = 2.0) -> Tensor:
    """(1 - p_t)^gamma * binary cross-entropy of each element; ``positive`` is 0 or 1, same shape."""
    signed = torch.where(positive > 0, working(logits), -working(logits))
    log_p = F.logsigmoid(signed)
    # 1 - p_t = sigmoid(-signed), exact where p_t rounds to 1
    tiny = torch.finfo(log_p.dtype).tiny
    return -(torch.sigmoid(-signed).clamp_min(tiny) ** gamma) * log_p


def sigmoid_focal_loss(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
) -> Tensor:
    """Sum over classes of the sigmoid focal loss, mean over scored positions, a scalar.

    The one-against-the-rest form of Cui et al. 2019. ``logits`` (..., K), ``target`` (...).
    """
    z, y, mask = scored(logits, target)
    elements = sigmoid_focal_elements(z, one_hot(y, z), gamma)
    return mean_over_scored(elements.sum(-1), mask, position_weights(y, class_weight, position_weight, z.dtype))


class Focal(LossOptions):
    """Focal loss: positions that are already right count less.

    What: -alpha_y (1 - p_y)^gamma log p_y, p_y from the unweighted softmax, alpha from the `weights` slot.
    When: many easy positions drown the hard ones; it does not correct the prior by itself.
    Suggested values: gamma 2; 0 is cross-entropy; from 5 on, learning starts very slowly.
    Cost: none.
    Source: Lin et al. 2017, Focal Loss for Dense Object Detection.
    """

    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(0.5, 5.0)] = 2.0

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        return stateless(
            lambda x, s: focal_loss(x.logits, x.target, self.gamma, s.get("class_weight"), x.position_weight),
            context.constants(),
        )


class FocalSigmoid(LossOptions):
    """Focal loss with one sigmoid per class.

    What: sum over classes of (1 - p_t)^gamma BCE, one class against the rest.
    When: many classes that hardly compete; logits are no softmax scores, so calibrate before reading probabilities.
    Suggested values: gamma 2.
    Cost: none.
    Source: Lin et al. 2017; Cui et al. 2019 (class-balanced form).
    """

    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(0.5, 5.0)] = 2.0

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        return stateless(
            lambda x, s: sigmoid_focal_loss(x.logits, x.target, self.gamma, s.get("class_weight"), x.position_weight),
            context.constants(),
        )
