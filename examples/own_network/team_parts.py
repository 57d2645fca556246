"""A backbone and heads as a team may have them; nothing here knows of this project."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """(B, T, C) and (B, T, K) to hidden states (B, T, H)."""

    def __init__(self, channels: int, levels: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(n, 4) for n in levels)
        self.convolution = nn.Conv1d(channels + 4 * len(levels), hidden, 5, padding=2)

    def forward(self, continuous: Tensor, categorical: Tensor) -> Tensor:
        """Hidden states."""
        parts = [continuous, *(e(categorical[..., k]) for k, e in enumerate(self.embeddings))]
        return torch.relu(self.convolution(torch.cat(parts, dim=-1).transpose(1, 2))).transpose(1, 2)


class Heads(nn.Module):
    """Hidden states (B, T, H) to logits (B, T, classes) by head."""

    def __init__(self, hidden: int, classes: dict[str, int]) -> None:
        super().__init__()
        self.names = list(classes)
        self.layers = nn.ModuleList(nn.Linear(hidden, k) for k in classes.values())

    def forward(self, hidden: Tensor) -> dict[str, Tensor]:
        """Logits of every head."""
        return {name: layer(hidden) for name, layer in zip(self.names, self.layers, strict=True)}
