"""Masks, normalisation and dtype of every loss: the part that all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imbalance_lab.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


IGNORE = -100
"""Target of a position that is not scored; PyTorch's ``ignore_index`` and the data set's."""


def working(values: Tensor) -> Tensor:
    """``values`` in at least float32: log-softmax in half precision loses a confident mistake."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def scored(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (..., K) with unscored rows set to 0, a target that can be gathered, and the mask (...).

    Replacing the rows, rather than multiplying their loss by 0, keeps their gradient exactly
    zero even where a logit is infinite or NaN.
    """
    mask = target != IGNORE
    clean = torch.where(
        mask.unsqueeze(-1), working(logits), torch.zeros((), dtype=working(logits).dtype, device=logits.device)
    )
    return clean, torch.where(mask, target, torch.zeros_like(target)), mask


def mean_over_scored(values: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of ``values * weight`` over scored positions divided by *their number*, a scalar.

    Dividing by the weights' sum instead (PyTorch's weighted mean) would cancel the weights
    in a batch of one class. 0 where nothing is scored.
    """
    values = torch.where(mask, values, torch.zeros_like(values))
    if weight is not None:
        values = values * weight.to(values.dtype)
    return values.sum() / mask.sum().clamp(min=1)


def gather(values: Tensor, index: Tensor) -> Tensor:
    """``values[..., index]`` along the last axis: (..., K) and (...) give (...)."""
    return values.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def one_hot(target: Tensor, like: Tensor) -> Tensor:
    """Indicator of ``target`` (...) in the shape and dtype of ``like`` (..., K).

    Unlike PyTorch's ``one_hot`` it never looks at the values on the host, so it works under vmap.
    """
    return (target.unsqueeze(-1) == torch.arange(like.shape[-1], device=target.device)).to(like.dtype)


def position_weights(
    target: Tensor, class_weight: Tensor | None, position_weight: Tensor | None, dtype: torch.dtype
) -> Tensor | None:
    """Product of the class weight of each gatherable target and the position weight; None means ones."""
    weight = None if class_weight is None else class_weight.to(dtype)[target]
    if position_weight is None:
        return weight
    return position_weight.to(dtype) if weight is None else weight * position_weight.to(dtype)


def one_minus_probability(log_p: Tensor) -> Tensor:
    """1 - exp(log_p) without cancellation, at least the smallest normal number.

    The floor has gradient 0, so that a power below 1 of it gives no NaN at p = 1.
    """
    return (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
