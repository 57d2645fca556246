"""The recurrent part of independent LSTMs, step by step, forward and backward, in two forms of equal results.

Both work on N independent sequences of steps (directions of a layer, of one trial or of many). The
*plain* form is a few element-wise operations per step and runs everywhere. The *fused* form is one
kernel per step beside the matrix product: the one that PyTorch's own ``nn.LSTMCell`` uses on CUDA.
Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000 as in ``nn.LSTM``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Backward = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Form:
    """One way to run the steps.

    Attributes
    ----------
    arrange : brings the rows of a weight or bias, (4h, ...), from PyTorch's order of the gates (input,
        forget, candidate, output) into that of this form
    forward : (gates (T, N, B, 4h), the input part with biases; weight (N, 4h, h)) -> the states
        (T, N, B, h), start states 0, and for the backward pass the activated gates and the cells
    backward : (gradient of the states, weight, states, activated gates, cells) -> gradients of gates and weight
    """

    arrange: Callable[[Tensor], Tensor]
    forward: Forward
    backward: Backward


def _sigmoids_first(weight: Tensor) -> Tensor:
    """The three sigmoids side by side, so that one call activates them."""
    keep_in, forget, candidate, out = weight.chunk(4)
    return torch.cat([keep_in, forget, out, candidate])


def _plain_forward(gates: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    t, n, b, width = gates.shape
    h = width // 4
    active = gates.clone(memory_format=torch.contiguous_format)
    recurrent = weight.transpose(1, 2)
    states, cells = (active.new_empty(t, n, b, h) for _ in range(2))
    for s in range(t):
        if s:
            active[s].baddbmm_(states[s - 1], recurrent)
        active[s, ..., : 3 * h].sigmoid_()
        active[s, ..., 3 * h :].tanh_()
        keep_in, forget, out, candidate = active[s].split(h, dim=-1)
        torch.mul(keep_in, candidate, out=cells[s])
        if s:
            cells[s].addcmul_(forget, cells[s - 1])
        torch.tanh(cells[s], out=states[s])
        states[s].mul_(out)
    return states, active, cells


def _plain_backward(
    grad_states: Tensor, weight: Tensor, states: Tensor, active: Tensor, cells: Tensor
) -> tuple[Tensor, Tensor]:
    t, n, b, width = active.shape
    h = width // 4
    keep_in, forget, out, candidate = active.split(h, dim=-1)
    squashed = cells.tanh()
    # The derivatives of all steps at once, so that the loop below is a few small operations per step:
    # d(gate before its activation) = local * d(cell), and for the output gate local * d(state).
    local = active.new_empty(t, n, b, 4, h)
    torch.mul(keep_in - keep_in.square(), candidate, out=local[..., 0, :])
    torch.mul((forget - forget.square())[1:], cells[:-1], out=local[1:, ..., 1, :])
    local[0, ..., 1, :] = 0
    torch.mul(out - out.square(), squashed, out=local[..., 2, :])
    torch.mul(1 - candidate.square(), keep_in, out=local[..., 3, :])
    to_cell = out * (1 - squashed.square())
    grad_cell = active.new_zeros(n, b, h)
    for s in reversed(range(t)):  # each step's factors are replaced by its gradients
        grad_state = grad_states[s]
        if s + 1 < t:
            grad_state = torch.baddbmm(grad_state, local[s + 1].flatten(-2), weight)
            grad_cell = grad_cell * forget[s + 1]
        grad_cell = grad_cell.addcmul(grad_state, to_cell[s])
        local[s, ..., :2, :].mul_(grad_cell.unsqueeze(-2))
        local[s, ..., 2, :].mul_(grad_state)
        local[s, ..., 3, :].mul_(grad_cell)
    gradient = local.flatten(-2)
    return gradient, _weight_gradient(gradient, states)


def _weight_gradient(grad_gates: Tensor, states: Tensor) -> Tensor:
    """One product over all steps: (T, N, B, 4h), (T, N, B, h) -> (N, 4h, h)."""
    after, before = (x.transpose(0, 1).flatten(1, 2) for x in (grad_gates[1:], states[:-1]))
    return torch.bmm(after.transpose(1, 2), before)


PLAIN = Form(_sigmoids_first, _plain_forward, _plain_backward)

CellForward = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
CellBackward = Callable[[Tensor, Tensor | None, Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor, Any]]


def fused(cell: CellForward, cell_backward: CellBackward) -> Form:
    """The form made of a fused cell.

    Parameters
    ----------
    cell : (input part (R, 4h), recurrent part (R, 4h), cell before (R, h)) -> (state, cell, activated
        gates (R, 4h)), gates in PyTorch's order
    cell_backward : (gradient of the state, gradient of the cell or None, cell before, cell, activated
        gates, False) -> (gradient of the gates before activation, gradient of the cell before, any)
    """

    def forward(gates: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t, n, b, width = gates.shape
        gates, recurrent = gates.contiguous(), weight.transpose(1, 2)
        before = gates.new_zeros(n * b, width // 4)
        hidden = gates.new_zeros(n, b, width)
        steps: list[tuple[Tensor, Tensor, Tensor]] = []
        for s in range(t):
            if s:
                hidden = torch.bmm(steps[-1][0].view(n, b, -1), recurrent)
            state, before, active = cell(gates[s].view(n * b, width), hidden.view(n * b, width), before)
            steps.append((state, active, before))
        states, actives, cells = (torch.stack(x).view(t, n, b, -1) for x in zip(*steps, strict=True))
        return states, actives, cells

    def backward(
        grad_states: Tensor, weight: Tensor, states: Tensor, active: Tensor, cells: Tensor
    ) -> tuple[Tensor, Tensor]:
        t, n, b, width = active.shape
        flat_cells, flat_active = (x.reshape(t, n * b, -1) for x in (cells, active))
        start = torch.zeros_like(flat_cells[0])
        grad_cell: Tensor | None = None
        gradients: list[Tensor] = []  # of the last step first
        for s in reversed(range(t)):
            grad_state = grad_states[s]
            if gradients:
                grad_state = torch.baddbmm(grad_state, gradients[-1].view(n, b, width), weight)
            before = flat_cells[s - 1] if s else start
            flat = grad_state.reshape(n * b, -1)
            gradient, grad_cell, _ = cell_backward(flat, grad_cell, before, flat_cells[s], flat_active[s], False)
            gradients.append(gradient)
        grad_gates = torch.stack(gradients[::-1]).view(t, n, b, width)
        return grad_gates, _weight_gradient(grad_gates, states)

    return Form(lambda weight: weight, forward, backward)


def form_for(device: torch.device) -> Form:
    """The fastest form that gives the right result on a device.

    The fused kernel is a private operator of PyTorch, so it is tried against the plain form first; where
    it is missing, fails or differs, a warning says so and the plain form is taken.
    """
    if device.type != "cuda":
        return PLAIN
    try:
        form = fused(torch.ops.aten._thnn_fused_lstm_cell, torch.ops.aten._thnn_fused_lstm_cell_backward_impl)
        right = agrees(form, device)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        warnings.warn(f"no fused LSTM cell here ({error}): stacked training takes the plain one", stacklevel=2)
        return PLAIN
    if not right:
        warnings.warn("PyTorch's fused LSTM cell differs here: stacked training takes the plain one", stacklevel=2)
    return form if right else PLAIN


def agrees(form: Form, device: torch.device) -> bool:
    """Whether a form gives the plain form's states and gradients, in float64 on a small case."""
    generator = torch.Generator().manual_seed(0)
    t, n, b, h = 4, 2, 3, 5
    gates, weight, gradient = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(device)
        for shape in ((t, n, b, 4 * h), (n, 4 * h, h), (t, n, b, h))
    )
    found = []
    for one in (PLAIN, form):
        own_gates = one.arrange(gates.movedim(-1, 0)).movedim(0, -1)
        own_weight = one.arrange(weight.movedim(1, 0)).movedim(0, 1)
        states, active, cells = one.forward(own_gates, own_weight)
        grad_gates, grad_weight = one.backward(gradient, own_weight, states, active, cells)
        order = one.arrange(torch.arange(4 * h, device=device)).argsort()
        found.append((states, grad_gates[..., order], grad_weight[:, order]))
    return all(torch.allclose(a, b, atol=1e-10) for a, b in zip(*found, strict=True))
