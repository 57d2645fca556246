"""A bidirectional LSTM of many trials at once: one batched matrix product per step for all of them.

``torch.vmap`` has no rule for ``nn.LSTM``. Here the input part of all steps is one product, the
recurrent part one ``baddbmm`` per step over trials and directions, and the gradient with respect
to the recurrent weights one product over all steps. The element-wise derivatives of all steps are
computed at once before the backward loop, so that its steps are a few small operations each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from imbalance_lab.models.stacked_draws import Tape


class _Recurrence(torch.autograd.Function):
    """The recurrent part for independent sequences of steps: directions D, and trials before them under vmap.

    ``gates`` (T, *D, B, 4h): input part with biases; ``weight`` (*D, 4h, h). Gates are in the order
    input, forget, output, candidate. Returns the states (T, *D, B, h); start states are 0.
    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000 as in ``nn.LSTM``.
    """

    @staticmethod
    def forward(gates: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The states; and for the backward pass activations, cells and tanh of the cells."""
        t, width = gates.shape[0], gates.shape[-1]
        h = width // 4
        active = gates.clone(memory_format=torch.contiguous_format).flatten(1, -3)  # (T, D, B, 4h)
        recurrent = weight.flatten(0, -3).transpose(1, 2)
        states, cells, squashed = (active.new_empty(*active.shape[:-1], h) for _ in range(3))
        for s in range(t):
            if s:
                active[s].baddbmm_(states[s - 1], recurrent)
            active[s, ..., : 3 * h].sigmoid_()
            active[s, ..., 3 * h :].tanh_()
            keep_in, forget, out, candidate = active[s].split(h, dim=-1)
            torch.mul(keep_in, candidate, out=cells[s])
            if s:
                cells[s].addcmul_(forget, cells[s - 1])
            torch.tanh(cells[s], out=squashed[s])
            torch.mul(out, squashed[s], out=states[s])
        shape = gates.shape[:-1]
        return states.view(*shape, h), active.view(*shape, width), cells.view(*shape, h), squashed.view(*shape, h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        """Keep what the backward pass needs."""
        ctx.save_for_backward(inputs[1], *output)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients with respect to ``gates`` and ``weight``."""
        shape, weight_shape = ctx.saved_tensors[2].shape, ctx.saved_tensors[0].shape
        weight = ctx.saved_tensors[0].flatten(0, -3)
        states, active, cells, squashed = (x.flatten(1, -3) for x in ctx.saved_tensors[1:])
        t, d, b, width = active.shape
        h = width // 4
        grad_states = gradients[0].flatten(1, -3)
        keep_in, forget, out, candidate = active.split(h, dim=-1)
        # d(gate before its activation) = local * d(cell), and for the output gate local * d(state).
        local = active.new_empty(t, d, b, 4, h)
        torch.mul(keep_in - keep_in.square(), candidate, out=local[..., 0, :])
        torch.mul((forget - forget.square())[1:], cells[:-1], out=local[1:, ..., 1, :])
        local[0, ..., 1, :] = 0
        torch.mul(out - out.square(), squashed, out=local[..., 2, :])
        torch.mul(1 - candidate.square(), keep_in, out=local[..., 3, :])
        to_cell = out * (1 - squashed.square())
        grad_cell = active.new_zeros(d, b, h)
        for s in reversed(range(t)):  # each step's factors are replaced by its gradients
            grad_state = grad_states[s]
            if s + 1 < t:
                grad_state = torch.baddbmm(grad_state, local[s + 1].flatten(-2), weight)
                grad_cell = grad_cell * forget[s + 1]
            grad_cell = grad_cell.addcmul(grad_state, to_cell[s])
            local[s, ..., :2, :].mul_(grad_cell.unsqueeze(-2))
            local[s, ..., 2, :].mul_(grad_state)
            local[s, ..., 3, :].mul_(grad_cell)
        after, before = (x.transpose(0, 1).flatten(1, 2) for x in (local.flatten(-2)[1:], states[:-1]))
        return local.view(shape), torch.bmm(after.transpose(1, 2), before).view(weight_shape)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], gates: Tensor, weight: Tensor) -> tuple[Any, Any]:
        """Trials are more independent sequences: (T, D, ...) becomes (T, K, D, ...)."""
        k = info.batch_size
        at_gates, at_weight = in_dims
        gates = gates.unsqueeze(1).expand(-1, k, *gates.shape[1:]) if at_gates is None else gates.movedim(at_gates, 1)
        weight = weight.expand(k, *weight.shape) if at_weight is None else weight.movedim(at_weight, 0)
        return _Recurrence.apply(gates, weight), (1, 1, 1, 1)


class StackableLSTM(nn.Module):
    """The parameters of a bidirectional ``nn.LSTM`` under their own names, computed so that vmap can batch them."""

    def __init__(self, lstm: nn.LSTM, tape: Tape) -> None:
        super().__init__()
        self.layers, self.dropout, self.tape = lstm.num_layers, lstm.dropout, tape
        for name, parameter in lstm.named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(B, T, I) -> (B, T, 2h), and None for the last state, which nobody reads."""
        for layer in range(self.layers):
            x = self._layer(x, layer)
            if layer + 1 < self.layers and self.training and self.dropout:
                x = x * self.tape.keep(x.transpose(0, 1), self.dropout).transpose(0, 1)  # nn.LSTM draws time first
        return x, None

    def _layer(self, x: Tensor, layer: int) -> Tensor:
        """Both directions of one layer, (B, T, I) -> (B, T, 2h)."""

        def both(kind: str) -> list[Tensor]:
            return [_sigmoids_first(getattr(self, f"{kind}_l{layer}{suffix}")) for suffix in ("", "_reverse")]

        bias = [i + h for i, h in zip(both("bias_ih"), both("bias_hh"), strict=True)]
        gates = linear(x, torch.cat(both("weight_ih")), torch.cat(bias)).transpose(0, 1)  # (T, B, 2 * 4h)
        forward, backward = gates.chunk(2, dim=-1)
        gates, weight = torch.stack([forward, backward.flip(0)], dim=1), torch.stack(both("weight_hh"))
        # Cells add up over the steps, so the recurrent part keeps the precision of the weights under autocast.
        with torch.autocast(x.device.type, enabled=False):
            states = _Recurrence.apply(gates.to(weight.dtype), weight)[0]  # (T, 2, B, h)
        return torch.cat([states[:, 0].transpose(0, 1), states[:, 1].flip(0).transpose(0, 1)], dim=-1)


def _sigmoids_first(weight: Tensor) -> Tensor:
    """Gates in PyTorch's order (input, forget, candidate, output) with the three sigmoids side by side."""
    keep_in, forget, candidate, out = weight.chunk(4)
    return torch.cat([keep_in, forget, out, candidate])
