"""Gradient-harmonising classification loss (GHM-C)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from imbalance_lab.lazy import F, torch
from imbalance_lab.strategies.base import HeadLoss, LossInputs, State
from imbalance_lab.strategies.losses.bound_loss import FunctionLoss, HeadContext
from imbalance_lab.strategies.losses.masking import one_hot, position_weights, scored
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import OneOf, Uniform

if TYPE_CHECKING:
    from torch import Tensor


def ghm_loss(
    logits: Tensor,
    target: Tensor,
    accumulated: Tensor,
    momentum: float = 0.75,
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sigmoid cross-entropy in which every bin of gradient lengths weighs the same.

    g = |sigmoid(z) - t| of each of the n * K elements falls into one of ``len(accumulated)``
    bins; its weight is tot / (elements in the bin) / (bins that are not empty), tot = n * K
    scored elements; the loss is the weighted sum over tot. With momentum m > 0 the number in
    a bin is the moving sum ``accumulated`` (bins,), updated where this batch hits.
    Returns the loss (a scalar) and the new ``accumulated``. Li, Liu & Wang 2019.
    """
    z, y, mask = scored(logits, target)
    t = one_hot(y, z)
    bins = accumulated.shape[0]
    valid = mask.unsqueeze(-1).expand_as(z)
    g = (torch.sigmoid(z.detach()) - t).abs()
    index = (g * bins).long().clamp(max=bins - 1)  # (..., K)
    hits = torch.zeros_like(accumulated).scatter_add(0, index.reshape(-1), valid.reshape(-1).to(accumulated.dtype))
    hit = hits > 0
    if momentum > 0:
        accumulated = torch.where(hit, momentum * accumulated + (1 - momentum) * hits, accumulated)
        density = accumulated
    else:
        density = hits
    per_bin = torch.where(hit, 1 / density.clamp(min=torch.finfo(density.dtype).tiny), 0) / hit.sum().clamp(min=1)
    bce = F.binary_cross_entropy_with_logits(z, t, reduction="none") * per_bin.to(z.dtype)[index]
    extra = position_weights(y, class_weight, position_weight, z.dtype)
    if extra is not None:
        bce = bce * extra.unsqueeze(-1)
    return torch.where(valid, bce, torch.zeros_like(bce)).sum(), accumulated


class Ghm(LossOptions):
    """Both the very easy and the hopeless positions count less.

    What: sigmoid cross-entropy divided by the density of gradient lengths.
    When: labels are noisy, so that focal loss would chase the wrong ones.
    Suggested values: 10 bins, momentum 0.75.
    Cost: a histogram of the batch per step. Logits are no softmax scores: calibrate before reading probabilities.
    Source: Li, Liu & Wang 2019, Gradient Harmonized Single-stage Detector.
    """

    bins: Annotated[int, Field(ge=1, le=10_000), OneOf((5, 10, 30))] = 10
    momentum: Annotated[float, Field(ge=0, lt=1), Uniform(0.0, 0.9)] = 0.75

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head; it carries the moving histogram."""

        def step(x: LossInputs, s: State) -> tuple[Tensor, State]:
            loss, accumulated = ghm_loss(
                x.logits, x.target, s["accumulated"], self.momentum, s.get("class_weight"), x.position_weight
            )
            return loss, {**s, "accumulated": accumulated}

        start = torch.zeros(self.bins, dtype=torch.float64)
        return FunctionLoss(step, {**context.constants(), "accumulated": start})
