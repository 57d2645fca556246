"""The classifiers on top: one per head, linear or cosine."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Features (..., H) to logits (..., K).

    ``kind`` ``"linear"`` is an affine map; ``"cosine"`` returns cosines in [-1, 1] without a bias.
    ``output_scale`` is what its logits are multiplied by before a softmax (s of LDAM, Cao 2019).
    ``class_scale`` (K,) multiplies the class weights: 1 unless learnable weight scaling trains it
    (LWS, Kang et al. 2020) or tau-normalisation sets it.
    """

    class_scale: Tensor

    def __init__(
        self, hidden: int, classes: int, kind: Literal["linear", "cosine"] = "linear", output_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.kind = kind
        self.output_scale = output_scale
        self.weight = nn.Parameter(torch.empty(classes, hidden))
        self.bias = nn.Parameter(torch.zeros(classes)) if kind == "linear" else None
        self.class_scale = nn.Parameter(torch.ones(classes), requires_grad=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights afresh (Glorot uniform), bias 0, class scale 1."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        nn.init.ones_(self.class_scale)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of shape (..., K)."""
        if self.kind == "cosine":
            features = nn.functional.normalize(features, dim=-1)
            weight = nn.functional.normalize(self.weight, dim=-1)
            return nn.functional.linear(features, weight * self.class_scale[:, None])
        return nn.functional.linear(features, self.weight * self.class_scale[:, None], self.bias)
