"""A bidirectional LSTM of many trials at once: one batched matrix product per step for all of them.

``torch.vmap`` has no rule for ``nn.LSTM``. Here the input part of all steps is one product, the
recurrent part one product per step over trials and directions, and the gradient with respect to
the recurrent weights one product over all steps. On CUDA the steps are a fused kernel each and a
training pass replays them as a CUDA graph, so that the host does not launch them one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from imbalance_lab.models.lstm_steps import Form, form_for
from imbalance_lab.models.stacked_draws import Tape

Recurrent = Callable[[Tensor, Tensor], Tensor]
MakeGraph = Callable[[Recurrent, tuple[Tensor, ...]], Recurrent]


class Unrolled:
    """The recurrent part of one layer: (gates (T, N, B, 4h), weight (N, 4h, h)) -> states (T, N, B, h); mutable.

    With ``make_graph`` a call that gradients flow through runs as a graph, made once per shape. A graph's
    output is valid until the next call of that shape: one backward pass belongs to one forward pass.

    Parameters
    ----------
    form : how the steps are run
    make_graph : (function, sample arguments) -> the same function as a graph with its backward pass, such as
        :func:`torch.cuda.make_graphed_callables`; None runs the steps one by one
    """

    def __init__(self, form: Form, make_graph: MakeGraph | None = None) -> None:
        self.form, self._make_graph = form, make_graph
        self._graphs: dict[tuple[torch.Size, torch.dtype], Recurrent] = {}

    def __call__(self, gates: Tensor, weight: Tensor) -> Tensor:
        """The states of all steps."""
        if self._make_graph is None or not (torch.is_grad_enabled() and gates.requires_grad and weight.requires_grad):
            return self._step_by_step(gates, weight)
        key = (gates.shape, gates.dtype)
        if key not in self._graphs:
            # Another number of sequences is another stack: the graphs of the old one only hold memory.
            self._graphs = {k: graph for k, graph in self._graphs.items() if k[0][1] == gates.shape[1]}
            samples = tuple(torch.zeros_like(x, requires_grad=True) for x in (gates, weight))
            self._graphs[key] = self._make_graph(self._step_by_step, samples)
        return self._graphs[key](gates, weight)

    def _step_by_step(self, gates: Tensor, weight: Tensor) -> Tensor:
        states: Tensor = _Steps.apply(gates, weight, self.form)[0]
        return states


def _cuda_graph(function: Recurrent, samples: tuple[Tensor, ...]) -> Recurrent:
    return cast(Recurrent, torch.cuda.make_graphed_callables(function, samples))


class _Steps(torch.autograd.Function):
    """The steps of a form as one node of the autograd graph."""

    @staticmethod
    def forward(gates: Tensor, weight: Tensor, form: Form) -> tuple[Tensor, Tensor, Tensor]:
        return form.forward(gates, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Form], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(inputs[1], *output)
        ctx.mark_non_differentiable(*output[1:])
        ctx.form = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        return *ctx.form.backward(gradients[0], *ctx.saved_tensors), None


class _Recurrence(torch.autograd.Function):
    """The rule for vmap: the directions of all trials, (K, D), are so many independent sequences of steps."""

    @staticmethod
    def forward(gates: Tensor, weight: Tensor, unrolled: Unrolled) -> Tensor:
        """Never reached: networks are run under vmap, whose rule calls ``unrolled`` with what autograd knows."""
        raise RuntimeError("a stacked network runs under vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Unrolled], output: Tensor) -> None:
        """Nothing to keep: the steps are a node of their own."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None, None], gates: Tensor, weight: Tensor, unrolled: Unrolled
    ) -> tuple[Tensor, int]:
        """(T, D, B, 4h) and (D, 4h, h) of each trial -> states (T, K, D, B, h)."""
        k = info.batch_size
        at_gates, at_weight, _ = in_dims
        gates = gates.unsqueeze(1).expand(-1, k, *gates.shape[1:]) if at_gates is None else gates.movedim(at_gates, 1)
        weight = weight.expand(k, *weight.shape) if at_weight is None else weight.movedim(at_weight, 0)
        states = unrolled(gates.flatten(1, 2), weight.flatten(0, 1))
        return states.unflatten(1, (k, -1)), 1


class StackableLSTM(nn.Module):
    """The parameters of a bidirectional ``nn.LSTM`` under their own names, computed so that vmap can batch them."""

    def __init__(self, lstm: nn.LSTM, tape: Tape) -> None:
        super().__init__()
        self.layers, self.dropout, self.tape = lstm.num_layers, lstm.dropout, tape
        for name, parameter in lstm.named_parameters():
            self.register_parameter(name, parameter)
        device = next(lstm.parameters()).device
        form, make_graph = form_for(device), _cuda_graph if device.type == "cuda" else None
        self._unrolled = [Unrolled(form, make_graph) for _ in range(self.layers)]

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(B, T, I) -> (B, T, 2h), and None for the last state, which nobody reads."""
        for layer in range(self.layers):
            x = self._layer(x, layer)
            if layer + 1 < self.layers and self.training and self.dropout:
                x = x * self.tape.keep(x.transpose(0, 1), self.dropout).transpose(0, 1)  # nn.LSTM draws time first
        return x, None

    def _layer(self, x: Tensor, layer: int) -> Tensor:
        """Both directions of one layer, (B, T, I) -> (B, T, 2h)."""
        unrolled = self._unrolled[layer]

        def both(kind: str) -> list[Tensor]:
            return [unrolled.form.arrange(getattr(self, f"{kind}_l{layer}{suffix}")) for suffix in ("", "_reverse")]

        bias = [i + h for i, h in zip(both("bias_ih"), both("bias_hh"), strict=True)]
        gates = linear(x, torch.cat(both("weight_ih")), torch.cat(bias)).transpose(0, 1)  # (T, B, 2 * 4h)
        forward, backward = gates.chunk(2, dim=-1)
        gates, weight = torch.stack([forward, backward.flip(0)], dim=1), torch.stack(both("weight_hh"))
        # Cells add up over the steps, so the recurrent part keeps the precision of the weights under autocast.
        with torch.autocast(x.device.type, enabled=False):
            states = _Recurrence.apply(gates.to(weight.dtype), weight, unrolled)  # (T, 2, B, h)
        return torch.cat([states[:, 0].transpose(0, 1), states[:, 1].flip(0).transpose(0, 1)], dim=-1)
