"""What evaluation and interpretation ask of a model: networks and classical classifiers both have it."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import NetworkOutput


class Predictor(Protocol):
    """See :class:`~imbalance_lab.models.network.Network` for what each method returns."""

    def eval(self) -> Any:
        """Switch dropout and noise off."""
        ...

    def prepare(self, continuous: Tensor, categorical: Tensor) -> Prepared:
        """Coded inputs to prepared ones."""
        ...

    def run(self, inputs: Prepared, *, attention: bool = False, head_mask: Tensor | None = None) -> NetworkOutput:
        """Forward pass from prepared inputs."""
        ...

    def classifier(self, head: str) -> Any:
        """Holds ``weight``, whose first size is the number of classes, and ``output_scale``."""
        ...
