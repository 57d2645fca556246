"""Operations that are other kernels on CUDA than on a CPU, with the rules that they have there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pretended_cuda.watch import Watch
from torch import Tensor


class _CudnnLstm(torch.autograd.Function):
    """One kernel forward, two backward (data, weights), and no backward pass in evaluation mode."""

    @staticmethod
    def forward(
        ctx: Any, watch: Watch, x: Tensor, layers: int, directions: int, training: bool, *weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        devices = {str(t.device) for t in (x, *weights)}
        if len(devices) > 1:
            raise RuntimeError(f"Input and parameter tensors are not at the same device, found {sorted(devices)}")
        ctx.watch, ctx.training = watch, training
        ctx.save_for_backward(x, *weights)
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
        if dtype is not x.dtype:
            watch.count("_to_copy", 1 + len(weights))
        watch.count("cudnn_lstm")
        batch, steps, hidden = x.shape[0], x.shape[1], weights[1].shape[1]
        end = x.new_empty(layers * directions, batch, hidden, dtype=dtype)
        return x.new_empty(batch, steps, directions * hidden, dtype=dtype), end, torch.empty_like(end)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        if not ctx.training:
            raise RuntimeError("cudnn RNN backward can only be called in training mode")
        ctx.watch.count("cudnn_lstm backward", 2)
        x, *weights = ctx.saved_tensors
        return None, torch.empty_like(x), None, None, None, *(torch.empty_like(w) for w in weights)


def lstm(watch: Watch, on_cpu: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for ``torch._VF.lstm`` on batches."""

    def run(x: Tensor, hx: Any, weights: Any, bias: Any, layers: int, dropout: float, *rest: bool) -> Any:
        training, bidirectional, _ = rest
        if x.device.type != "cuda" or not torch.backends.cudnn.enabled:
            return on_cpu(x, hx, weights, bias, layers, dropout, *rest)
        return _CudnnLstm.apply(watch, x, layers, 2 if bidirectional else 1, training, *weights)

    return run


class _FusedAttention(torch.autograd.Function):
    """One kernel forward, two backward."""

    @staticmethod
    def forward(ctx: Any, watch: Watch, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.watch = watch
        ctx.save_for_backward(q, k, v)
        watch.count("fused attention")
        return q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.watch.count("fused attention backward", 2)
        return None, *(torch.empty_like(t) for t in ctx.saved_tensors)


def attention(watch: Watch, on_cpu: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for ``scaled_dot_product_attention`` without mask and dropout."""

    def run(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
        if q.device.type != "cuda" or args or kwargs:
            return on_cpu(q, k, v, *args, **kwargs)
        devices = {str(t.device) for t in (q, k, v)}
        if len(devices) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {sorted(devices)}")
        return _FusedAttention.apply(watch, q, k, v)

    return run
