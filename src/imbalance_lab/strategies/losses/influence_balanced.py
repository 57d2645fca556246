"""Influence-balanced loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from imbalance_lab.lazy import F, torch
from imbalance_lab.strategies.base import HeadLoss, LossInputs, State
from imbalance_lab.strategies.losses.bound_loss import HeadContext, stateless
from imbalance_lab.strategies.losses.cross_entropy import cross_entropy
from imbalance_lab.strategies.losses.masking import (
    gather,
    mean_over_scored,
    one_minus_probability,
    position_weights,
    scored,
    working,
)
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import LogUniform, Uniform

if TYPE_CHECKING:
    from torch import Tensor


def influence_balanced_loss(
    logits: Tensor,
    target: Tensor,
    feature_norm: Tensor,
    alpha: float = 1000.0,
    epsilon: float = 0.001,
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
    detach: bool = False,
) -> Tensor:
    """Mean over scored positions of w_y CE alpha / (|p - onehot|_1 h + epsilon), a scalar.

    ``logits`` (..., K), ``target`` and ``feature_norm`` h (...), the L1 norm of the last
    layer's input. Park et al. 2021; as in their code the gradient flows through the
    factor, unless ``detach``.
    """
    z, y, mask = scored(logits, target)
    log_p = gather(F.log_softmax(z, dim=-1), y)
    h = mask * working(feature_norm).nan_to_num()
    factor = alpha / (2 * one_minus_probability(log_p) * h + epsilon)  # |p - onehot|_1 = 2 (1 - p_y)
    loss = -log_p * (factor.detach() if detach else factor)
    return mean_over_scored(loss, mask, position_weights(y, class_weight, position_weight, z.dtype))


class InfluenceBalanced(LossOptions):
    """Positions that bend the decision boundary most are damped, late in training.

    What: CE / (|p - y|_1 |h|_1 + 0.001) after `start`, plain cross-entropy before.
    When: frequent classes overfit the boundary; combine with `weights` as the paper does.
    Suggested values: alpha 1000, start 0.5.
    Cost: one norm of the features per position.
    Source: Park et al. 2021, Influence-Balanced Loss for Imbalanced Visual Classification.
    """

    needs_features: ClassVar[bool] = True
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False), LogUniform(10, 10_000)] = 1000.0
    start: Annotated[float, Field(ge=0, lt=1), Uniform(0.25, 0.75)] = 0.5
    detach: bool = False

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""

        def loss(x: LossInputs, s: State) -> Tensor:
            weight = s.get("class_weight")
            plain = cross_entropy(x.logits, x.target, weight, x.position_weight)
            h = working(x.features).abs().sum(-1)
            damped = influence_balanced_loss(
                x.logits, x.target, h, self.alpha, 0.001, weight, x.position_weight, self.detach
            )
            # Both are computed: which one counts is known on the device alone, so that a step can be replayed.
            return torch.where(x.progress < self.start, plain, damped)

        return stateless(loss, context.constants())
