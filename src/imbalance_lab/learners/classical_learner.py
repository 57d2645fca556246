"""A classical strategy on a table or on images as a learner: no network, the same predictions table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data import preprocessing
from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.errors import InputError
from imbalance_lab.learners.classical_model import (
    CLASSIFIERS,
    ClassicalModel,
    Floats,
    TableInputs,
    table_probabilities,
    write_classifiers,
)
from imbalance_lab.learners.table_binding import check_table
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.predictions import Predictions
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.strategies.language.slots import StrategySpec
from imbalance_lab.strategies.own_estimator import ESTIMATOR
from imbalance_lab.strategies.table_methods import fit_table_model
from imbalance_lab.training.fit import Epoch, Selection
from imbalance_lab.training.predict import to_predictions


@dataclass(frozen=True)
class ClassicalLearner:
    """A classical strategy that is ready to be fitted on a data set; one classifier per head.

    ``models[head]`` is filled by :meth:`train`: the fitted classifier, or None for a head without a
    scored training row (its probabilities are uniform).
    """

    loaded: LoadedData
    strategy: BoundStrategy
    name: str
    options: Mapping[str, Any]
    seed: int
    inputs: TableInputs
    models: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    folder_name: ClassVar[str] = CLASSIFIERS
    has_course: ClassVar[bool] = False
    uses_device: ClassVar[bool] = False

    @property
    def predictor(self) -> ClassicalModel:
        """The fitted classifiers; see :class:`~imbalance_lab.learners.protocol.Learner`."""
        heads = {head: len(classes) for head, classes in self.loaded.dataset.heads.items()}
        own = {"own": self.options["path"], "trust": tuple(self.options["trust"])} if self.name == ESTIMATOR else {}
        return ClassicalModel(self.inputs, heads, dict(self.models), **own)

    def train(self, selection: Selection, checkpoint: Path | None = None, fingerprint: str = "") -> Iterator[Epoch]:
        """Fit every head; yields one :class:`~imbalance_lab.training.fit.Epoch` (a classical fit has no more).

        Its loss is NaN: the fit minimises none that could be compared with a network's. There is
        nothing to take up again half-way, so ``checkpoint`` and ``fingerprint`` are not used.

        Raises
        ------
        InputError
            If the sampler cannot work on these data; names strategy and head.
        """
        begun = time.perf_counter()
        dataset, splits = self.loaded.dataset, self.loaded.splits
        x = self._features(splits.train)
        seen = {}
        for head, classes in dataset.heads.items():
            y = dataset.targets[head][splits.train][:, 0]
            scored = y != IGNORE
            model, labels = None, y[scored]
            if scored.any():
                seed = self.seed if len(dataset.heads) == 1 else derive_seed(self.seed, head) % 2**32
                try:
                    model, labels = fit_table_model(
                        self.name, self.options, x[scored], y[scored], seed, classes, self.inputs.category_blocks
                    )
                except InputError as error:
                    raise InputError(f"strategy {self.strategy.name!r}, head {head!r}, key table: {error}") from None
            self.models[head] = model
            seen[head] = np.bincount(labels, minlength=len(classes)).tolist()
        probabilities = self._probabilities(splits.val)
        confusion = {}
        for head, p in probabilities.items():
            true = dataset.targets[head][splits.val][:, 0]
            scored = true != IGNORE
            confusion[head] = confusion_counts(true[scored], p[scored].argmax(axis=1), p.shape[1])
        yield Epoch(
            number=1,
            phase=0,
            loss=float("nan"),
            score=float(selection.metric(confusion[selection.head])),
            best=True,
            seconds=time.perf_counter() - begun,
            steps=1,
            learning_rate=float("nan"),
            confusion={h: np.asarray(c).tolist() for h, c in confusion.items()},
            seen=seen,
        )

    def steps(
        self, selection: Selection, checkpoint: Path | None = None, fingerprint: str = ""
    ) -> Iterator[Epoch | None]:
        """As :meth:`train`: a fit has one step."""
        return self.train(selection, checkpoint, fingerprint)

    def after_training(self, metric: str) -> dict[str, dict[str, float]]:
        """Nothing: tau-normalisation is of networks."""
        return {}

    def predict(self, split: str, meta: Mapping[str, Any]) -> Predictions:
        """The predictions table of one split (``val``, ``test`` or ``train``)."""
        index = getattr(self.loaded.splits, split)
        # log p is a score whose softmax is p again
        scores = {
            head: np.log(np.maximum(p, 1e-30)).astype(np.float32)[:, None, :]
            for head, p in self._probabilities(index).items()
        }
        return to_predictions(self.loaded.dataset, self.loaded.splits, index, scores, {"split": split, **meta})

    def save(self, folder: Path, posthoc: Mapping[str, Any]) -> None:
        """See :func:`~imbalance_lab.learners.classical_model.write_classifiers`."""
        dataset = self.loaded.dataset
        write_classifiers(folder, self.predictor, dataset.heads, dataset.coding, posthoc)

    def _features(self, index: NDArray[np.int64]) -> Floats:
        dataset = self.loaded.dataset
        return self.inputs.features(dataset.continuous[index], dataset.categorical[index])

    def _probabilities(self, index: NDArray[np.int64]) -> dict[str, Floats]:
        x = self._features(index)
        return {
            head: table_probabilities(self.models[head], x, len(classes))
            for head, classes in self.loaded.dataset.heads.items()
        }


def prepare_classical(loaded: LoadedData, strategy: StrategySpec, bound: BoundStrategy, seed: int) -> ClassicalLearner:
    """Fit the imputation on the training rows.

    Raises
    ------
    InputError
        See :func:`check_table`.
    """
    check_table(strategy, loaded.dataset)
    assert strategy.table is not None
    fitted = preprocessing.fit(loaded.dataset, loaded.splits.train)
    inputs = TableInputs(tuple(fitted.mean.tolist()), loaded.dataset.categorical_sizes)
    return ClassicalLearner(loaded, bound, strategy.table.name, strategy.table.options.model_dump(), seed, inputs)
