"""Equalization loss v2: gradients of positives and negatives balanced per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from imbalance_lab.lazy import F, torch
from imbalance_lab.strategies.base import HeadLoss, LossInputs, State
from imbalance_lab.strategies.losses.bound_loss import FunctionLoss, HeadContext
from imbalance_lab.strategies.losses.masking import mean_over_scored, one_hot, position_weights, scored
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import Uniform

if TYPE_CHECKING:
    from torch import Tensor


def equalization_start(n_classes: int) -> State:
    """Accumulated gradients and their ratio before the first step; each (K,), float64."""
    zeros = torch.zeros(n_classes, dtype=torch.float64)
    return {"pos_grad": zeros, "neg_grad": zeros.clone(), "pos_neg": torch.full_like(zeros, 100.0)}


def equalization_loss(
    logits: Tensor,
    target: Tensor,
    state: State,
    gamma: float = 12.0,
    mu: float = 0.8,
    alpha: float = 4.0,
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
    background: bool = False,
) -> tuple[Tensor, State]:
    """Weighted sigmoid cross-entropy summed over classes, mean over scored positions.

    Negatives of class c weigh 1 / (1 + exp(-gamma (r_c - mu))), positives 1 + alpha (1 - that);
    r_c is the ratio of weighted positive to negative gradient so far. ``background``: the
    last column is background, weighs 1 and has no ratio. Returns the loss and the new
    state (see :func:`equalization_start`). Tan et al. 2021.
    """
    z, y, mask = scored(logits, target)
    t = one_hot(y, z)
    neg = torch.sigmoid(gamma * (state["pos_neg"] - mu)).to(z.dtype)
    pos = 1 + alpha * (1 - neg)
    if background:
        one = torch.ones_like(neg[:1])
        neg, pos = torch.cat([neg, one]), torch.cat([pos, one])
    weight = t * pos + (1 - t) * neg
    bce = F.binary_cross_entropy_with_logits(z, t, reduction="none") * weight
    loss = mean_over_scored(bce.sum(-1), mask, position_weights(y, class_weight, position_weight, z.dtype))
    grad = ((torch.sigmoid(z.detach()) - t).abs() * weight * mask.unsqueeze(-1)).reshape(-1, z.shape[-1])
    flat = t.reshape(-1, z.shape[-1])
    k = state["pos_neg"].shape[0]
    pos_grad = state["pos_grad"] + (grad * flat).sum(0)[:k].to(state["pos_grad"].dtype)
    neg_grad = state["neg_grad"] + (grad * (1 - flat)).sum(0)[:k].to(state["neg_grad"].dtype)
    new = {"pos_grad": pos_grad, "neg_grad": neg_grad, "pos_neg": pos_grad / (neg_grad + 1e-10)}
    return loss, {**state, **new}


class EqualizationV2(LossOptions):
    """Each class's positive and negative gradients are brought into balance as training goes.

    What: one sigmoid per class; negatives of classes that get too few positive gradients are damped.
    When: very many classes with a long tail.
    Suggested values: gamma 12, mu 0.8, alpha 4.
    Cost: two sums per class and step. Logits are no softmax scores: calibrate before reading probabilities.
    Source: Tan et al. 2021, Equalization Loss v2.
    """

    gamma: Annotated[float, Field(gt=0, allow_inf_nan=False), Uniform(6.0, 24.0)] = 12.0
    mu: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.8
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(1.0, 8.0)] = 4.0

    def prior_power(self) -> float | None:
        """Power of the prior that this loss corrects for, nominally: it balances gradients of each class."""
        return 1.0

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head; it carries the accumulated gradients."""

        def step(x: LossInputs, s: State) -> tuple[Tensor, State]:
            return equalization_loss(
                x.logits, x.target, s, self.gamma, self.mu, self.alpha, s.get("class_weight"), x.position_weight
            )

        return FunctionLoss(step, {**context.constants(), **equalization_start(len(context.classes))})
