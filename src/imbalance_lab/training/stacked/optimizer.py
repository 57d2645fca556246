"""AdamW for K trials at once, each with its own learning rate, decay, step count, clip and frozen parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from imbalance_lab.models.network import Network
from imbalance_lab.strategies.base import Phase
from imbalance_lab.training.config import TrainingConfig
from imbalance_lab.training.phases import make_optimizer
from imbalance_lab.training.stacked.layout import ParameterLayout

BETAS = (0.9, 0.999)
"""PyTorch's defaults, which the one-by-one trainer uses."""
EPSILON = 1e-8


class Rates(NamedTuple):
    """What one step needs of every trial, each (K, 1).

    ``decay`` factor of the weights, ``size`` learning rate over the first bias correction,
    ``root`` square root of the second bias correction.
    """

    decay: Tensor
    size: Tensor
    root: Tensor


def rates_of(
    learning_rates: list[list[float]], decays: list[float], steps_done: list[int], like: Tensor
) -> list[Rates]:
    """The rates of each step of an epoch, in the dtype and on the device of ``like``.

    ``learning_rates[k][s]`` of trial k in step s; ``decays`` and ``steps_done`` (optimizer steps
    so far) of each trial. Worked out on the host before the epoch, so that no step waits for a copy.
    """
    rate = torch.tensor(learning_rates, dtype=torch.float64).T  # (S, K)
    number = torch.arange(1, len(rate) + 1)[:, None] + torch.tensor(steps_done)
    first, second = (1 - torch.tensor(beta, dtype=torch.float64) ** number for beta in BETAS)
    columns = (1 - rate * torch.tensor(decays, dtype=torch.float64), rate / first, second.sqrt())
    return [Rates(*step) for step in zip(*(column.unsqueeze(-1).to(like) for column in columns), strict=True)]


def clip_(gradient: Tensor, limit: Tensor) -> None:
    """Scale each row of ``gradient`` (K, P) to a norm of at most ``limit`` (K, 1), as ``clip_grad_norm_`` does."""
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    gradient.mul_((limit / (norm + 1e-6)).clamp(max=1.0))


def adamw_(rows: Tensor, gradient: Tensor, first: Tensor, second: Tensor, frozen: Tensor, rates: Rates) -> None:
    """One step of AdamW (Loshchilov & Hutter 2019) in place, equal to ``torch.optim.AdamW`` row by row.

    Parameters
    ----------
    rows, gradient, first, second : parameters, gradient, moments, each (K, P)
    frozen : bool (K, P), parameters that stay as they are; ``gradient`` is 0 there
    rates : of this step
    """
    rows.mul_(torch.where(frozen, 1.0, rates.decay))
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    spread = second.sqrt().div_(rates.root).add_(EPSILON)
    rows.addcdiv_(first * rates.size, spread, value=-1)


def to_optimizer_state(
    network: Network,
    phase: Phase,
    config: TrainingConfig,
    layout: ParameterLayout,
    moments: tuple[Tensor, Tensor],
    frozen: Tensor,
    steps: int,
    rate: float,
) -> dict[str, Any]:
    """The ``state_dict`` that the one-by-one trainer's AdamW would have, of moments and ``frozen`` (P,) each."""
    optimizer = make_optimizer(network, phase, config)
    optimizer.param_groups[0]["lr"] = rate
    plain = optimizer.state_dict()
    still = layout.parts(frozen)
    first, second = (layout.parts(m) for m in moments)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    plain["state"] = {
        i: {
            "step": torch.tensor(float(steps), dtype=torch.float32),
            "exp_avg": first[name].clone(),
            "exp_avg_sq": second[name].clone(),
        }
        for i, name in enumerate(trained)
        if steps and not still[name].all()  # the optimizer has no state of a parameter that never had a gradient
    }
    return plain


def from_optimizer_state(
    network: Network,
    phase: Phase,
    config: TrainingConfig,
    layout: ParameterLayout,
    saved: Mapping[str, Any],
    moments: tuple[Tensor, Tensor],
) -> int:
    """Read a state of :func:`to_optimizer_state` into ``moments`` (P,) each, in place; returns the steps done."""
    make_optimizer(network, phase, config)  # marks what is trained
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    first, second = (layout.parts(m) for m in moments)
    steps = 0
    for i, state in saved["state"].items():
        first[trained[i]].copy_(state["exp_avg"])
        second[trained[i]].copy_(state["exp_avg_sq"])
        steps = int(state["step"])
    return steps
