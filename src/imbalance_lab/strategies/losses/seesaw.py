"""Seesaw loss: softens the push of frequent classes on rare ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from imbalance_lab.lazy import F, torch
from imbalance_lab.strategies.base import HeadLoss, LossInputs, State
from imbalance_lab.strategies.losses.bound_loss import FunctionLoss, HeadContext
from imbalance_lab.strategies.losses.masking import IGNORE, gather, mean_over_scored, one_hot, position_weights, scored
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import Uniform

if TYPE_CHECKING:
    from torch import Tensor


def add_counts(counts: Tensor, target: Tensor) -> Tensor:
    """``counts`` (K,) plus the scored positions of each class in ``target``; a new tensor."""
    mask = target != IGNORE
    index = torch.where(mask, target, torch.zeros_like(target)).reshape(-1)
    return counts.scatter_add(0, index, mask.reshape(-1).to(counts.dtype))


def seesaw_loss(
    logits: Tensor,
    target: Tensor,
    counts: Tensor,
    p: float = 0.8,
    q: float = 2.0,
    eps: float = 0.01,
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
) -> Tensor:
    """Mean over scored positions of CE(z + log S_yj), a scalar; no gradient through S.

    S_ij = M_ij C_ij off the true class: M = (N_j/N_i)^p where N_j < N_i, C = (s_j/max(s_i, eps))^q
    where s_j > s_i. ``counts`` (K,) are the positions seen so far, this batch included, and
    count as at least 1. Wang et al. 2021; formula as in MMDetection.
    """
    z, y, mask = scored(logits, target)
    log_n = counts.clamp(min=1).log().to(z.dtype)
    mitigation = p * (log_n - log_n[y].unsqueeze(-1)).clamp(max=0)  # (..., K)
    log_s = F.log_softmax(z.detach(), dim=-1)
    own = gather(log_s, y).clamp(min=math.log(eps)).unsqueeze(-1)
    compensation = q * (log_s - own).clamp(min=0)
    off_true = 1 - one_hot(y, z)
    log_p = F.log_softmax(z + (mitigation + compensation) * off_true, dim=-1)
    weight = position_weights(y, class_weight, position_weight, z.dtype)
    return mean_over_scored(-gather(log_p, y), mask, weight)


class Seesaw(LossOptions):
    """Positions of frequent classes push rare classes down less, misclassified ones more.

    What: softmax whose negatives are scaled by (N_j/N_i)^p and (s_j/s_i)^q, with counts kept online.
    When: counts are unknown beforehand or change (curriculum), and rare classes vanish under negatives.
    Suggested values: p 0.8, q 2.
    Cost: one K x K look-up per position.
    Source: Wang et al. 2021, Seesaw Loss for Long-Tailed Instance Segmentation.
    """

    p: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(0.2, 1.2)] = 0.8
    q: Annotated[float, Field(ge=0, allow_inf_nan=False), Uniform(0.0, 3.0)] = 2.0

    def prior_power(self) -> float | None:
        """Power of the prior that this loss corrects for.

        For two classes its optimum decides at odds 2 r / (1 + r) with r = (n_1/n_0)^p, so about p.
        """
        return self.p

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head; it carries the counts seen so far."""

        def step(x: LossInputs, s: State) -> tuple[Tensor, State]:
            counts = add_counts(s["counts"], x.target)
            loss = seesaw_loss(
                x.logits, x.target, counts, self.p, self.q, 0.01, s.get("class_weight"), x.position_weight
            )
            return loss, {**s, "counts": counts}

        start = torch.zeros(len(context.classes), dtype=torch.float64)  # float32 stops counting at 2^24
        return FunctionLoss(step, {**context.constants(), "counts": start})
