"""What evaluation, interpretation and serving ask of a trained model, and what it can do."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import Network, NetworkOutput


class Predictor(Protocol):
    """A trained model; see :class:`~imbalance_lab.models.network.Network` for what each method returns.

    What a model can do is told by attributes, so that nobody asks for its type.
    """

    @property
    def words(self) -> str:
        """What sentences call it."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that a logged model needs beside those of every model."""
        ...

    @property
    def has_attention(self) -> bool:
        """Whether ``run`` can give attention weights."""
        ...

    @property
    def has_features(self) -> bool:
        """Whether ``run`` gives features of positions."""
        ...

    @property
    def per_step(self) -> bool:
        """Whether target position t is read off input step t."""
        ...

    @property
    def rows_per_call(self) -> int | None:
        """Rows of a call that use it well; None where that follows from the size of a row."""
        ...

    @property
    def as_network(self) -> Network | None:
        """The network whose gradients and layers can be looked at; None where there is none."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its inputs have to lie."""
        ...

    def eval(self) -> Any:
        """Switch dropout and noise off."""
        ...

    def prepare(self, continuous: Tensor, categorical: Tensor) -> Prepared:
        """Coded inputs to prepared ones."""
        ...

    def run(self, inputs: Prepared, *, attention: bool = False, head_mask: Tensor | None = None) -> NetworkOutput:
        """Forward pass from prepared inputs."""
        ...

    def __call__(self, continuous: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """Coded inputs to class scores (B, L, K) of each head, ready for a softmax."""
        ...

    def n_classes(self, head: str) -> int:
        """K of a head."""
        ...

    def output_scale(self, head: str) -> float:
        """What the logits of :meth:`run` are multiplied by before a softmax."""
        ...
