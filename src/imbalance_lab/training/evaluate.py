"""Forward passes without gradients: confusion counts and logits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.models.network import Network
from imbalance_lab.models.predictor import Predictor
from imbalance_lab.training.resident import Resident

EVALUATION_BATCH = 256


def confusion_on_device(logits: Tensor, target: Tensor, into: Tensor) -> Tensor:
    """Add the scored positions to ``into``, int64 (K, K), rows true, columns predicted; no host synchronisation.

    ``logits`` (..., K), ``target`` (...). For n models at once: ``logits`` (n, ..., K), ``into`` (n, K, K).
    """
    k, models = into.shape[-1], into.shape[:-2]
    scored = target != IGNORE
    cell = torch.where(scored, target * k + logits.argmax(dim=-1), k * k).reshape(*models, -1)
    flat = torch.zeros(*models, k * k + 1, dtype=torch.int64, device=into.device)
    flat.scatter_add_(-1, cell, torch.ones_like(cell))
    return into + flat[..., :-1].unflatten(-1, (k, k))


@torch.inference_mode()
def confusions(network: Network, data: Resident, autocast: torch.autocast) -> dict[str, NDArray[np.int64]]:
    """Confusion counts of every head on a resident split, shape (K, K) each."""
    network.eval()
    device = data.inputs.values.device
    counts = {
        head: torch.zeros(
            network.classifier(head).weight.shape[0],
            network.classifier(head).weight.shape[0],
            dtype=torch.int64,
            device=device,
        )
        for head in data.targets
    }
    for start in range(0, len(data), EVALUATION_BATCH):
        index = torch.arange(start, min(start + EVALUATION_BATCH, len(data)), device=device)
        inputs, targets = data.batch(index)
        with autocast:
            output = network.run(inputs)
        for head, logits in output.logits.items():
            counts[head] = confusion_on_device(logits, targets[head], counts[head])
    return {head: c.cpu().numpy() for head, c in counts.items()}


@torch.inference_mode()
def predict_scores(network: Predictor, data: Resident, autocast: torch.autocast) -> dict[str, NDArray[np.float32]]:
    """Class scores (logits ready for a softmax) of every head, float32 (n, L, K)."""
    network.eval()
    device = data.inputs.values.device
    parts: dict[str, list[Tensor]] = {head: [] for head in data.targets}
    for start in range(0, len(data), EVALUATION_BATCH):
        index = torch.arange(start, min(start + EVALUATION_BATCH, len(data)), device=device)
        with autocast:
            output = network.run(data.batch(index)[0])
        for head, logits in output.logits.items():
            parts[head].append(logits.float() * network.classifier(head).output_scale)
    return {head: torch.cat(chunks).cpu().numpy() for head, chunks in parts.items()}
