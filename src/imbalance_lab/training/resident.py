"""A split, prepared once and resident on the training device: no DataLoader in the hot loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.predictor import Predictor

_CHUNK = 4096  # sequences that are copied at a time


@dataclass(frozen=True)
class Resident:
    """Prepared inputs and targets of one split on a device; ``targets[head]`` int64 (n, L)."""

    inputs: Prepared
    targets: dict[str, Tensor]

    def __len__(self) -> int:
        return self.inputs.values.shape[0]

    def batch(self, index: Tensor) -> tuple[Prepared, dict[str, Tensor]]:
        """The sequences at ``index``, int64 on the same device."""
        inputs = Prepared(*(x.index_select(0, index) for x in self.inputs))
        return inputs, {head: target.index_select(0, index) for head, target in self.targets.items()}


def make_resident(
    network: Predictor, dataset: SequenceDataset, index: NDArray[np.int64], device: torch.device
) -> Resident:
    """Scale the sequences at ``index`` with the network's own scaler and keep them on ``device``."""
    parts = []
    for start in range(0, len(index), _CHUNK):
        rows = index[start : start + _CHUNK]
        raw = torch.from_numpy(dataset.continuous[rows]).to(device)
        parts.append(network.prepare(raw, torch.from_numpy(dataset.categorical[rows]).to(device)))
    targets = {head: torch.from_numpy(target[index]).to(device) for head, target in dataset.targets.items()}
    return Resident(Prepared(*(torch.cat(columns) for columns in zip(*parts, strict=True))), targets)
