"""What a trial, its run and its search ask of whatever is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.models.predictor import Predictor
from imbalance_lab.predictions import Predictions
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.training.course import Epoch, Selection


class Learner(Protocol):
    """A model that is ready to be trained on a data set with a strategy and a seed.

    What it can do is told by attributes, so that nobody asks for its type.
    """

    @property
    def loaded(self) -> LoadedData:
        """The data that it is trained on."""
        ...

    @property
    def strategy(self) -> BoundStrategy:
        """The strategy, bound to the data."""
        ...

    @property
    def seed(self) -> int:
        """What all randomness comes from."""
        ...

    @property
    def device(self) -> str:
        """Where it is trained."""
        ...

    @property
    def predictor(self) -> Predictor:
        """What was trained: it predicts, is interpreted and served."""
        ...

    @property
    def folder_name(self) -> str:
        """Name of its folder among a run's files."""
        ...

    @property
    def has_course(self) -> bool:
        """Whether its epochs have losses that can be drawn."""
        ...

    @property
    def uses_device(self) -> bool:
        """Whether ``training.device`` of the experiment says where it is trained."""
        ...

    def train(self, selection: Selection, checkpoint: Path | None = None, fingerprint: str = "") -> Iterator[Epoch]:
        """Train; yields every epoch."""
        ...

    def steps(
        self, selection: Selection, checkpoint: Path | None = None, fingerprint: str = ""
    ) -> Iterator[Epoch | None]:
        """As :meth:`train`, beside others in one thread; see :data:`imbalance_lab.training.together.Steps`."""
        ...

    def after_training(self, metric: str) -> dict[str, dict[str, float]]:
        """What is changed in the model once, after training and on validation: head to what was chosen."""
        ...

    def predict(self, split: str, meta: Mapping[str, Any]) -> Predictions:
        """The predictions table of one split (``val``, ``test`` or ``train``)."""
        ...

    def save(self, folder: Path, posthoc: Mapping[str, Any]) -> None:
        """Write the trained model; :func:`imbalance_lab.learners.all_learners.read_model` reads it."""
        ...
