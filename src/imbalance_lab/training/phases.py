"""What a phase trains and on what: heads reset, parameters frozen, batches mixed."""

from __future__ import annotations

import torch
from torch import Tensor

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import Network
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import Augment, Phase
from imbalance_lab.training.resident import Resident
from imbalance_lab.training.training_config import TrainingConfig


def reset_heads(network: Network, seed: int, phase_number: int) -> None:
    """Draw the classifiers' weights afresh, seeded by ``seed`` and the number of the phase."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "reset-heads", phase_number))
        for head in network.head_names:
            network.classifier(head).reset_parameters()


def trains(phase: Phase, name: str) -> bool:
    """Whether a phase trains the parameter ``name`` of a network."""
    scale_only = phase.head_mode == "scale"
    in_head = name.startswith("classifiers.")
    is_scale = name.endswith("class_scale")
    return not ((phase.freeze_encoder and not in_head) or (is_scale != (scale_only and in_head) and in_head))


def make_optimizer(network: Network, phase: Phase, config: TrainingConfig, rate: float | Tensor) -> torch.optim.AdamW:
    """Mark what ``phase`` trains, and a fresh fused AdamW for that.

    A learning rate that is a tensor lies on the device, and is read there in each step: the step can then be captured.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trains(phase, name) and name not in network.fixed_parameters)
    trained = [p for p in network.parameters() if p.requires_grad]
    capturable = isinstance(rate, Tensor)
    return torch.optim.AdamW(trained, lr=rate, weight_decay=config.weight_decay, fused=True, capturable=capturable)


def mixed(
    augment: Augment, inputs: Prepared, targets: dict[str, Tensor], index: Tensor, generator: torch.Generator
) -> tuple[Prepared, dict[str, Tensor]]:
    """Mixed inputs; each position takes its own label with the mixing weight's probability, else the partner's.

    Its expectation is mixup's w l(own) + (1 - w) l(partner), for any loss, at the cost of one.
    """
    partner, weight = augment.mix(index, generator)
    w = weight.view(-1, 1, 1)
    values = inputs._replace(values=w * inputs.values + (1 - w) * inputs.values[partner])
    drawn = {}
    for head, own in targets.items():
        other = own[partner]
        chance = torch.rand(own.shape, generator=generator, device=own.device)
        drawn[head] = torch.where(chance < augment.target_weight(head, own, other, weight), own, other)
    return values, drawn


def seen_counts(network: Network, train: Resident, order: Tensor) -> dict[str, Tensor]:
    """Scored positions of each class of each head in the drawn sequences ``order``, int64 (n,): int64 (K,) by head."""
    seen = {}
    for head, target in train.targets.items():
        k = network.n_classes(head)
        drawn = target[order]
        cell = torch.where(drawn != IGNORE, drawn, k).flatten()
        counts = torch.zeros(k + 1, dtype=torch.int64, device=target.device)
        seen[head] = counts.scatter_add_(0, cell, torch.ones_like(cell))[:-1]
    return seen
