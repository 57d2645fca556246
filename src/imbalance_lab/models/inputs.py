"""Coded inputs to network inputs: standardisation, imputation, first differences; part of the model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from imbalance_lab.data.preprocessing import CLIP


class Prepared(NamedTuple):
    """Network inputs.

    ``values`` float (B, T, C): scaled, missing = 0; ``observed`` bool (B, T, C);
    ``categorical`` int64 (B, T, K).
    """

    values: Tensor
    observed: Tensor
    categorical: Tensor


class InputScaler(nn.Module):
    """Standardise with statistics of the training rows; missing values become the training mean.

    Parameters
    ----------
    mean, std : float tensors of shape (C,), of stored values (:mod:`imbalance_lab.data.scaling`)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

    def forward(self, continuous: Tensor, categorical: Tensor) -> Prepared:
        """Standardise stored ``continuous`` (B, T, C; NaN = missing); ``categorical`` passes through."""
        observed = continuous.abs() < torch.inf  # isfinite, in half its operations
        values = (continuous - self.mean).div_(self.std).clamp_(-CLIP, CLIP)
        return Prepared(torch.where(observed, values, 0.0), observed, categorical)


class Differences(nn.Module):
    """First differences along time, on a scale that resolves slow and fast changes alike.

    A difference d becomes asinh(d / s), with s the channel's median absolute non-zero difference
    on train: linear for small steps, logarithmic for rapids, so that neither hides the other.
    The difference to a missing neighbour is 0.

    Parameters
    ----------
    scale : float tensor of shape (C,), in scaled units
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.float())

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """Differences of shape (B, T, C); the first step's is 0."""
        step = values[:, 1:] - values[:, :-1]
        step = _asinh(step.div_(self.scale)).mul_(observed[:, 1:] & observed[:, :-1])
        return nn.functional.pad(step, (0, 0, 1, 0))


def _asinh(x: Tensor) -> Tensor:
    """``torch.asinh``; on a CPU from vectorised functions, since PyTorch's own takes a sixteenth of a training step.

    Scaled values are clipped, so their square stays far from overflow. Where a gradient flows to the
    inputs PyTorch's own is taken: that of the absolute value is 0 at 0, where asinh has 1.
    """
    if x.device.type != "cpu" or (torch.is_grad_enabled() and x.requires_grad):
        return torch.asinh(x)
    size = x.abs()
    square = size.square()
    root = (square + 1).sqrt_().add_(1)
    return torch.log1p(size.add_(square.div_(root))).copysign_(x)


def difference_scale(values: Tensor, observed: Tensor) -> Tensor:
    """Median absolute non-zero first difference per channel, shape (C,); 1 for a constant channel.

    ``values`` are scaled, shape (N, T, C). At most 4096 sequences are looked at.
    """
    pick = slice(None, None, max(1, values.shape[0] // 4096))
    values, observed = values[pick], observed[pick]
    step = (values[:, 1:] - values[:, :-1]).abs()
    step = step.masked_fill(~(observed[:, 1:] & observed[:, :-1]) | (step < 1e-7), float("nan"))
    scale = step.flatten(0, 1).nanmedian(dim=0).values if step.shape[1] else torch.full_like(values[0, 0], float("nan"))
    return torch.nan_to_num(scale, nan=1.0)
