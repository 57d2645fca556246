"""Faults that are planted into a step: each kind must be found, or the suites above prove nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretended_cuda import budgets, cases
from pretended_cuda.device import pretended_cuda
from pretended_cuda.found import faults
from pretended_cuda.steps import Run, run
from torch import Tensor, nn

from imbalance_lab.models.encoder import Corruption, Encoder

Step = Callable[..., Run]


@pytest.fixture
def step() -> Step:
    """Train for an epoch, kernel by kernel or with a graph, with whatever has been planted by then."""

    def trained(graphs: bool = False) -> Run:
        with pretended_cuda() as watch:
            return run(watch, cases.trial("steps", "{}", epochs=1), cases.selection(), graphs=graphs)

    return trained


def planted(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    """Let ``change`` work on the noise of the inputs, (B, T, C), in each step."""
    drawn = Corruption.forward

    def forward(self: Corruption, values: Tensor) -> Any:
        noise, shown = drawn(self, values)
        return change(noise), shown

    monkeypatch.setattr(Corruption, "forward", forward)


def test_without_a_fault_nothing_is_found(step):
    found = step()
    assert found.all_steps
    assert faults(found.all_steps) == []


READS = {
    "item": lambda x: x if x.sum().item() else -x,
    "int": lambda x: x * int(x.numel() + x.sum()),
    "bool": lambda x: x if (x > 9).any() else -x,
    "tolist": lambda x: x + max(x[0, 0].tolist()),
    "nonzero": lambda x: x * len(torch.nonzero(x)),
    "cpu": lambda x: x + x.mean().cpu().to(x.device),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_number_that_the_host_waits_for(monkeypatch, step, read):
    planted(monkeypatch, read)
    found = faults(step().all_steps)
    assert any(f.startswith(("host read", "copy to the host")) for f in found)
    assert all("imbalance_lab/models/encoder.py" in f for f in found), "the line of the product is named"


@pytest.mark.parametrize("read", [READS["item"], READS["cpu"]], ids=["item", "cpu"])
def test_a_step_that_cannot_become_a_graph_says_so_and_goes_on(monkeypatch, step, read):
    planted(monkeypatch, read)
    with pytest.warns(RuntimeWarning, match="cannot be captured as a CUDA graph") as said:
        found = step(graphs=True)
    assert re.search("when stream is capturing: (host read|copy to the host).*encoder.py", str(said[0].message))
    assert len(said) == 1
    assert all(s.launches > 1 and not s.replayed for s in found.all_steps)


def test_a_tensor_of_the_host_among_those_of_the_device(monkeypatch, step):
    planted(monkeypatch, lambda x: torch.randn(x.shape))
    with pytest.raises(RuntimeError, match="on the same device"):
        step()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_list_that_is_copied_to_the_device(monkeypatch, step, blocking):
    def scaled(x: Tensor) -> Tensor:
        factors = [1.0] * x.shape[-1]
        return x * (
            torch.tensor(factors, device=x.device)
            if blocking
            else torch.tensor(factors).to(x.device, non_blocking=True)
        )

    planted(monkeypatch, scaled)
    assert [f for f in faults(step().all_steps) if f.startswith("copy from the host")]


def test_an_index_of_the_host(monkeypatch, step):
    planted(monkeypatch, lambda x: x[:, torch.arange(x.shape[1])])
    assert any("an index on the host" in f for f in faults(step().all_steps))


@pytest.mark.parametrize(
    "masked",
    [lambda x: x + x[x > 0].sum(), lambda x: x.masked_select(x > 0).sum() + x],
    ids=["index", "masked_select"],
)
def test_a_boolean_mask_whose_count_is_a_shape(monkeypatch, step, masked):
    planted(monkeypatch, masked)
    assert any(f.startswith("host read") for f in faults(step().all_steps))


def test_a_generator_of_the_host(monkeypatch, step):
    planted(monkeypatch, lambda x: torch.randn(x.shape, generator=torch.Generator(), device=x.device))
    assert any(f.startswith("generator of another device") for f in faults(step().all_steps))


def test_a_backward_pass_of_cudnn_in_evaluation_mode(monkeypatch, step):
    monkeypatch.setattr(nn.LSTM, "train", lambda self, mode=True: nn.Module.train(self, False))
    with pytest.raises(RuntimeError, match="can only be called in training mode"):
        step()


def test_more_kernels_than_the_budget_allows(monkeypatch, step):
    encoded = Encoder.forward

    def forward(self: Encoder, inputs: Any, **options: Any) -> Any:
        for _ in range(3):
            inputs = inputs._replace(values=inputs.values * 1.0)
        return encoded(self, inputs, **options)

    monkeypatch.setattr(Encoder, "forward", forward)
    assert max(s.work for s in step(graphs=True).all_steps) > budgets.STEP["steps"]
