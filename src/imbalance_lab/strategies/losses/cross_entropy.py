"""Weighted cross-entropy, and label smoothing as its special case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imbalance_lab.lazy import F
from imbalance_lab.strategies.base import HeadLoss
from imbalance_lab.strategies.losses.bound_loss import HeadContext, stateless
from imbalance_lab.strategies.losses.masking import gather, mean_over_scored, position_weights, scored
from imbalance_lab.strategies.option_types import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(
    logits: Tensor, target: Tensor, class_weight: Tensor | None = None, position_weight: Tensor | None = None
) -> Tensor:
    """Mean over scored positions of w_y * (-log softmax(z)_y), a scalar.

    ``logits`` (..., K), ``target`` int64 (...) with IGNORE = -100, ``class_weight`` (K,).
    Normalised by the number of scored positions, not by the weights' sum.
    """
    z, y, mask = scored(logits, target)
    loss = -gather(F.log_softmax(z, dim=-1), y)
    return mean_over_scored(loss, mask, position_weights(y, class_weight, position_weight, z.dtype))


class CrossEntropy(LossOptions):
    """Plain cross-entropy: the baseline.

    What: mean of -w_y log p_y over scored positions; the weights come from the `weights` slot.
    When: always run it; every other strategy is compared with it.
    Suggested values: no option.
    Cost: none.
    Source: PyTorch, with the mean over positions in place of the mean over weights.
    """

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        return stateless(
            lambda x, s: cross_entropy(x.logits, x.target, s.get("class_weight"), x.position_weight),
            context.constants(),
        )
