"""The recurrent part of a stack: both forms of its steps, their graphs, and what is done without a fused kernel."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from imbalance_lab.models import lstm_steps
from imbalance_lab.models.lstm_steps import PLAIN, agrees, form_for, fused
from imbalance_lab.models.stacked_draws import Tape
from imbalance_lab.models.stacked_recurrent import StackableLSTM, Unrolled

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def cell(gates, hidden, before):
    """What PyTorch's fused kernel computes, written out; gates in the order input, forget, candidate, output."""
    keep_in, forget, candidate, out = (gates + hidden).chunk(4, dim=1)
    keep_in, forget, candidate, out = keep_in.sigmoid(), forget.sigmoid(), candidate.tanh(), out.sigmoid()
    after = forget * before + keep_in * candidate
    return out * after.tanh(), after, torch.cat([keep_in, forget, candidate, out], dim=1)


def cell_backward(grad_state, grad_after, before, after, active, has_bias):
    keep_in, forget, candidate, out = active.chunk(4, dim=1)
    squashed = after.tanh()
    total = grad_state * out * (1 - squashed**2) + (0 if grad_after is None else grad_after)
    gradients = [
        total * candidate * keep_in * (1 - keep_in),
        total * before * forget * (1 - forget),
        total * keep_in * (1 - candidate**2),
        grad_state * squashed * out * (1 - out),
    ]
    return torch.cat(gradients, dim=1), total * forget, None


FUSED = fused(cell, cell_backward)


class Recorded(torch.autograd.Function):
    """A call through buffers that stay, as a CUDA graph makes it."""

    @staticmethod
    def forward(ctx, static, gates, weight):
        ctx.static = static
        with torch.no_grad():
            for own, given in zip(static["inputs"], (gates, weight), strict=True):
                own.copy_(given)
        with torch.enable_grad():
            static["output"] = static["function"](*static["inputs"])
        return static["output"].detach()

    @staticmethod
    def backward(ctx, gradient):
        return None, *torch.autograd.grad(ctx.static["output"], ctx.static["inputs"], gradient)


def recorder(made):
    """Stands for ``torch.cuda.make_graphed_callables`` on a machine without CUDA; notes what was made."""

    def make(function, samples):
        made.append(samples[0].shape)
        # The real one warms up with a backward pass too, in the middle of the stack's forward pass.
        output = function(*samples)
        torch.autograd.grad(output, samples, torch.ones_like(output))
        static = {"function": function, "inputs": samples}
        return lambda gates, weight: Recorded.apply(static, gates, weight)

    return make


def test_the_forms_agree_and_a_wrong_one_is_found():
    assert agrees(FUSED, CPU)
    assert not agrees(fused(lambda g, h, c: cell(g.flip(1), h, c), cell_backward), CPU)
    assert not agrees(fused(cell, lambda s, a, b, *rest: cell_backward(s, None, b, *rest)), CPU)


def test_a_device_gets_a_form_that_is_right(monkeypatch):
    assert form_for(CPU) is PLAIN
    monkeypatch.setattr(lstm_steps, "agrees", lambda form, device: True)
    assert form_for(torch.device("cuda")) is not PLAIN
    monkeypatch.setattr(lstm_steps, "agrees", lambda form, device: False)
    with pytest.warns(UserWarning, match="differs here: stacked training takes the plain one"):
        assert form_for(torch.device("cuda")) is PLAIN

    def missing(form, device):
        raise NotImplementedError("no kernel for this device")

    monkeypatch.setattr(lstm_steps, "agrees", missing)
    with pytest.warns(UserWarning, match="no kernel for this device"):
        assert form_for(torch.device("cuda")) is PLAIN


@pytest.mark.parametrize("form", [PLAIN, FUSED], ids=["plain", "fused"])
@pytest.mark.parametrize("graphs", [False, True], ids=["step by step", "graph"])
def test_trials_get_what_their_own_lstm_gives(form, graphs):
    torch.manual_seed(0)
    k, b, t, width, h = 3, 4, 6, 5, 7
    lstms = [nn.LSTM(width, h, num_layers=2, bidirectional=True, batch_first=True).double() for _ in range(k)]
    x = torch.randn(k, b, t, width, dtype=torch.float64)
    together = StackableLSTM(lstms[0], Tape())
    made = []
    together._unrolled = [Unrolled(form, recorder(made) if graphs else None) for _ in range(2)]
    stacked = {
        name: torch.stack([dict(own.named_parameters())[name].detach() for own in lstms]).requires_grad_()
        for name, _ in lstms[0].named_parameters()
    }
    run = torch.vmap(lambda parameters, one: functional_call(together, parameters, (one,))[0])
    weighting = torch.randn(k, b, t, 2 * h, dtype=torch.float64)
    for _ in range(2):  # a graph is made in the first call and replayed in the second
        found = run(stacked, x)
        gradients = dict(
            zip(stacked, torch.autograd.grad((found * weighting).sum(), list(stacked.values())), strict=True)
        )
        for i, own in enumerate(lstms):
            expected = own(x[i])[0]
            torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-12)
            own.zero_grad()
            (expected * weighting[i]).sum().backward()
            for name, parameter in own.named_parameters():
                torch.testing.assert_close(gradients[name][i], parameter.grad, rtol=0, atol=1e-11)
    assert made == ([torch.Size((t, 2 * k, b, 4 * h))] * 2 if graphs else [])  # one for each layer


def test_graphs_are_made_once_per_shape_and_for_gradients_alone():
    made = []
    unrolled = Unrolled(PLAIN, recorder(made))
    weight = torch.randn(2, 12, 3, requires_grad=True)

    def call(n, b):
        gates = torch.randn(5, n, b, 12, requires_grad=True)
        return unrolled(gates, weight[:1].expand(n, 12, 3))

    with torch.no_grad():
        call(2, 4)
    unrolled(torch.randn(5, 2, 4, 12), weight)  # gates of a frozen encoder
    assert made == []
    for n, b in ((2, 4), (2, 3), (2, 4), (1, 4), (2, 4)):
        states = call(n, b)
        assert states.requires_grad
        assert states.shape == (5, n, b, 3)
    # another number of sequences lets the graphs of the old one go
    assert [tuple(shape[1:3]) for shape in made] == [(2, 4), (2, 3), (1, 4), (2, 4)]


@needs_cuda
def test_the_fused_kernel_and_its_graph_give_the_plain_result():
    device = torch.device("cuda")
    form = form_for(device)
    assert form is not PLAIN
    torch.manual_seed(0)
    gates = torch.randn(16, 6, 8, 4 * 32, device=device, requires_grad=True)
    weight = (torch.randn(6, 4 * 32, 32, device=device) / 6).requires_grad_()
    one_by_one, graph = Unrolled(form), Unrolled(form, torch.cuda.make_graphed_callables)
    for _ in range(3):
        found = []
        for run in (one_by_one, graph):
            states = run(gates, weight)
            found.append((states.detach().clone(), *torch.autograd.grad(states.square().sum(), (gates, weight))))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)
