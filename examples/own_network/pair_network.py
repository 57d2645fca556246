"""A team's backbone and heads, put together. Strategies that need neither features nor the last layer work with it."""

from __future__ import annotations

from team_parts import Backbone, Heads
from torch import Tensor, nn

from imbalance_lab.models.model_facts import ModelFacts


class Pair(nn.Module):
    """backbone(continuous, categorical) to hidden states, heads(hidden) to a mapping of logits."""

    def __init__(self, backbone: Backbone, heads: Heads) -> None:
        super().__init__()
        self.backbone, self.heads = backbone, heads

    def forward(self, continuous: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """Logits (B, L, classes) by head; here L is T."""
        logits: dict[str, Tensor] = self.heads(self.backbone(continuous, categorical))
        return logits


def build(facts: ModelFacts, hidden: int = 32) -> nn.Module:
    """What ``model.factory`` names."""
    return Pair(Backbone(len(facts.channels), facts.categories, hidden), Heads(hidden, dict(facts.classes)))
