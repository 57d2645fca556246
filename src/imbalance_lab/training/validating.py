"""Forward passes without gradients: confusion counts and logits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.models.network import Network
from imbalance_lab.models.predictor import Predictor
from imbalance_lab.training.precision import matrix_products
from imbalance_lab.training.resident import Resident


def evaluation_batches(data: Resident) -> Iterator[tuple[int, int]]:
    """First sequence of each batch of a pass without gradients, and the first beyond it.

    A CPU gets 4096 steps at a time where sequences are long, so that their activations stay in its caches.
    """
    size = 256 if data.device.type != "cpu" else min(256, max(16, 4096 // data.source.steps))
    for start in range(0, len(data), size):
        yield start, min(start + size, len(data))


def confusion_on_device(logits: Tensor, target: Tensor, into: Tensor) -> Tensor:
    """Add the scored positions to ``into``, int64 (K, K), rows true, columns predicted; no host synchronisation.

    ``logits`` (..., K), ``target`` (...).
    """
    k = into.shape[-1]
    cell = torch.where(target != IGNORE, target * k + logits.argmax(dim=-1), k * k).flatten()
    flat = torch.zeros(k * k + 1, dtype=torch.int64, device=into.device)
    return into + flat.scatter_add_(0, cell, torch.ones_like(cell))[:-1].view(k, k)


@torch.inference_mode()
def confusions(network: Network, data: Resident) -> dict[str, Tensor]:
    """Confusion counts of every head on a resident split, int64 (K, K) each, on its device; computed in float32."""
    network.eval()
    device = data.device
    sizes = {head: network.n_classes(head) for head in data.targets}
    counts = {head: torch.zeros(k, k, dtype=torch.int64, device=device) for head, k in sizes.items()}
    with matrix_products(tf32=False):
        for start, stop in evaluation_batches(data):
            inputs, targets = data.batch(torch.arange(start, stop, device=device))
            for head, logits in network.run(inputs).logits.items():
                counts[head] = confusion_on_device(logits, targets[head], counts[head])
    return counts


@torch.inference_mode()
def predict_scores(network: Predictor, data: Resident) -> dict[str, NDArray[np.float32]]:
    """Class scores (logits ready for a softmax) of every head, float32 (n, L, K), computed in float32."""
    network.eval()
    parts: dict[str, list[Tensor]] = {head: [] for head in data.targets}
    with matrix_products(tf32=False):
        for start, stop in evaluation_batches(data):
            inputs, _ = data.batch(torch.arange(start, stop, device=data.device))
            for head, logits in network.run(inputs).logits.items():
                parts[head].append(logits.float() * network.output_scale(head))
    return {head: torch.cat(chunks).cpu().numpy() for head, chunks in parts.items()}
