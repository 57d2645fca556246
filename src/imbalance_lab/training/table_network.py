"""A classical classifier behind the part of a network's interface that predicts, so that both are interpreted alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import NetworkOutput
from imbalance_lab.training.table_trial import TableInputs, TableTrial, table_probabilities


@dataclass(frozen=True)
class ClassicalHead:
    """What is asked of a head: ``weight`` (K, 0) tells its number of classes; its scores are ready for a softmax."""

    weight: Tensor
    output_scale: float = 1.0


class ClassicalModel(nn.Module):
    """One fitted classifier per head.

    Parameters
    ----------
    inputs : how a row becomes features
    heads : head to number of classes
    models : head to the fitted classifier, or None for a head without a scored training row

    Its logits are log-probabilities; there are no features, no attention and no gradients.
    """

    has_attention = False
    decoder = None

    def __init__(self, inputs: TableInputs, heads: Mapping[str, int], models: Mapping[str, Any]) -> None:
        super().__init__()
        self.inputs, self.models = inputs, dict(models)
        self.encoder = nn.Identity()
        self._heads = {head: ClassicalHead(torch.empty(k, 0)) for head, k in heads.items()}

    def prepare(self, continuous: Tensor, categorical: Tensor) -> Prepared:
        """Coded (B, 1, C) with the training mean where a value is missing; no scaling."""
        observed = torch.isfinite(continuous)
        mean = torch.tensor(self.inputs.mean, dtype=torch.float64)
        return Prepared(torch.where(observed, continuous.double(), mean), observed, categorical)

    def run(self, inputs: Prepared, *, attention: bool = False, head_mask: Tensor | None = None) -> NetworkOutput:
        """Log-probabilities (B, 1, K) of every head; ``attention`` and ``head_mask`` have nothing to act on."""
        rows = self.inputs.features(inputs.values.numpy(), inputs.categorical.numpy())
        logits = {}
        for head, model in self.models.items():
            p = table_probabilities(model, rows, len(self._heads[head].weight))
            logits[head] = torch.from_numpy(np.log(np.maximum(p, 1e-30)).astype(np.float32)[:, None, :])
        return NetworkOutput(logits, torch.zeros(len(rows), 1, 0), None, None)

    def forward(self, continuous: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """Coded inputs to class scores (B, 1, K) of each head, ready for a softmax."""
        return dict(self.run(self.prepare(continuous, categorical)).logits)

    def classifier(self, head: str) -> ClassicalHead:
        """The head's number of classes and scale."""
        return self._heads[head]


def classical_model(trial: TableTrial) -> ClassicalModel:
    """The fitted classifiers of a trial."""
    heads = {head: len(classes) for head, classes in trial.loaded.dataset.heads.items()}
    return ClassicalModel(trial.inputs, heads, trial.models)
