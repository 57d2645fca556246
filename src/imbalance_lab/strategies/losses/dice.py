"""Self-adjusting dice loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from imbalance_lab.lazy import F, torch
from imbalance_lab.strategies.base import HeadLoss
from imbalance_lab.strategies.losses.bound_loss import HeadContext, stateless
from imbalance_lab.strategies.losses.masking import mean_over_scored, one_hot, position_weights, scored
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import OneOf, Uniform

if TYPE_CHECKING:
    from torch import Tensor

Over = Literal["position", "batch"]


def self_adjusting_dice(
    logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    smooth: float = 1.0,
    square_denominator: bool = True,
    over: Over = "position",
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
) -> Tensor:
    """Dice loss with easy positions decayed, q = (1 - p)^alpha p; a scalar.

    1 - (2 q y + smooth) / (q^a + y^a + smooth), a = 2 or 1, summed over classes. ``over`` says
    where numerator and denominator are summed: both in one ``position`` (then mean over
    scored positions), or both over the ``batch``; the reference code mixes the two.
    ``logits`` (..., K); with K = 1 a sigmoid takes the softmax's place. Li et al. 2020.
    """
    z, y, mask = scored(logits, target)
    one_column = z.shape[-1] == 1
    log_p = F.logsigmoid(z) if one_column else F.log_softmax(z, dim=-1)
    t = y.unsqueeze(-1).to(z.dtype) if one_column else one_hot(y, z)
    p = log_p.exp()
    rest = (torch.sigmoid(-z) if one_column else -torch.expm1(log_p)).clamp_min(torch.finfo(z.dtype).tiny)
    q = p * rest**alpha
    top, bottom = 2 * q * t, (q * q + t * t if square_denominator else q + t)
    weight = position_weights(torch.zeros_like(y) if one_column else y, class_weight, position_weight, z.dtype)
    if over == "position":
        return mean_over_scored((1 - (top + smooth) / (bottom + smooth)).sum(-1), mask, weight)
    share = mask.to(z.dtype) if weight is None else mask * weight
    top, bottom = (top * share.unsqueeze(-1)).flatten(0, -2), (bottom * share.unsqueeze(-1)).flatten(0, -2)
    return (1 - (top.sum(0) + smooth) / (bottom.sum(0) + smooth)).sum()


class Dice(LossOptions):
    """A soft F1 in place of the likelihood.

    What: 1 - (2 q y + smooth) / (q^2 + y^2 + smooth), q = (1 - p)^alpha p, summed over classes.
    When: F1 on rare classes is all that counts; probabilities come out uncalibrated.
    Suggested values: alpha 1, smooth 1.
    Cost: none.
    Source: Li et al. 2020, Dice Loss for Data-imbalanced NLP Tasks.
    """

    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(0.0, 1.0)] = 1.0
    smooth: Annotated[float, Field(gt=0, allow_inf_nan=False), OneOf((0.01, 0.1, 1.0))] = 1.0
    square_denominator: bool = True
    over: Over = "position"

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        return stateless(
            lambda x, s: self_adjusting_dice(
                x.logits,
                x.target,
                self.alpha,
                self.smooth,
                self.square_denominator,
                self.over,
                s.get("class_weight"),
                x.position_weight,
            ),
            context.constants(),
        )
