"""What a step must be to become a CUDA graph, and that each thing that a graph cannot hold is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretended_cuda import cases
from pretended_cuda.device import CUDA, pretended_cuda
from pretended_cuda.found import Found
from pretended_cuda.watch import NotCapturable
from torch import Tensor

from imbalance_lab.training.resident import make_resident

Change = Callable[[Tensor], Tensor]


def captured(change: Change = lambda x: x, *, register: bool = True, capturable: bool = True) -> Found:
    """Capture forward, loss, backward and optimiser of one batch, its values changed by ``change``; replay it."""
    with pretended_cuda() as watch:
        trial = cases.trial("steps", "{}")
        network, loss = trial.network.train(), trial.strategy.phases[0].losses[cases.PRIMARY]
        data = make_resident(network, trial.loaded.dataset, trial.loaded.splits.train, CUDA)
        rate = torch.full((), 1e-3).to(CUDA) if capturable else 1e-3
        optimiser = torch.optim.AdamW(
            [p for p in network.parameters() if p.requires_grad], lr=rate, fused=True, capturable=capturable
        )
        generator = torch.Generator(device=CUDA).manual_seed(0)
        state = loss.init_state(CUDA)

        def step() -> None:
            order = torch.randperm(len(data), generator=generator, device=CUDA)
            inputs, targets = data.batch(order[: cases.BATCH])
            output = network.run(inputs._replace(values=change(inputs.values)))
            arguments = _inputs(output.logits[cases.PRIMARY], targets[cases.PRIMARY], output.features)
            value, _ = loss(arguments, state)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()

        step()  # as a warm-up does, so that the optimiser's state is there
        graph = torch.cuda.CUDAGraph()
        if register:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            step()
        with watch.watching() as found:
            graph.replay()
        return found


def _inputs(logits: Tensor, target: Tensor, features: Tensor) -> Any:
    from imbalance_lab.strategies.base import LossInputs

    return LossInputs(logits, target, features, 0.5)


def test_a_captured_step_is_one_launch():
    found = captured()
    assert found.launches == 1
    assert found.replayed.total() > 100


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: x if x.sum().item() else -x, "host read"),
        (lambda x: x + x[x > 0].sum(), "host read"),
        (lambda x: x * torch.tensor([1.0], device=x.device), "copy from the host"),
        (lambda x: x + x.mean().cpu().to(x.device), "copy to the host"),
        (lambda x: x * torch.ones(()), "host scalar"),
        (
            lambda x: x + torch.randn(x.shape, generator=torch.Generator(), device=x.device),
            "generator of another device",
        ),
    ],
    ids=["item", "boolean mask", "list", "cpu", "number of the host", "CPU generator"],
)
def test_what_a_graph_cannot_hold_is_refused(change, kind):
    with pytest.raises(NotCapturable, match=f"when stream is capturing: {kind}"):
        captured(change)


def test_a_generator_that_the_graph_does_not_know_is_refused():
    with pytest.raises(NotCapturable, match="register_generator_state"):
        captured(register=False)


def test_an_optimiser_that_counts_its_steps_on_the_host_is_refused():
    with pytest.raises(RuntimeError, match="capturable"):
        captured(capturable=False)
