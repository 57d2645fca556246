"""A small recurrent network that shows its features and its last layers, so that every strategy works with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from imbalance_lab.models.model_facts import ModelFacts


class GRUNetwork(nn.Module):
    """Embedded categories beside the channels, a bidirectional GRU, a linear layer per head."""

    def __init__(self, facts: ModelFacts, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(levels, 8) for levels in facts.categories)
        self.gru = nn.GRU(len(facts.channels) + 8 * len(facts.categories), hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.length = facts.target_length
        self.names = list(facts.classes)
        self.layers = nn.ModuleList(nn.Linear(2 * hidden, k) for k in facts.classes.values())

    def features(self, continuous: Tensor, categorical: Tensor) -> Tensor:
        """(B, T, C) and (B, T, K) to (B, L, H): each step's state, or the last ones where there are fewer positions."""
        parts = [continuous, *(e(categorical[..., k]) for k, e in enumerate(self.embeddings))]
        states, _ = self.gru(torch.cat(parts, dim=-1))
        return self.dropout(states[:, -self.length :])

    def last_layer(self, head: str) -> nn.Linear:
        """The layer that makes the logits of a head."""
        layer = self.layers[self.names.index(head)]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, continuous: Tensor, categorical: Tensor) -> Mapping[str, Tensor]:
        """Logits (B, L, classes) by head."""
        features = self.features(continuous, categorical)
        return {head: self.last_layer(head)(features) for head in self.names}


def build(facts: ModelFacts, hidden: int = 32, dropout: float = 0.1) -> nn.Module:
    """What ``model.factory`` names."""
    return GRUNetwork(facts, hidden, dropout)
