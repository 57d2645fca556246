"""One trial of a classical strategy on a table or on images: no network, the same predictions table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data import preprocessing
from imbalance_lab.data.dataset import IGNORE, LoadedData, SequenceDataset
from imbalance_lab.errors import InputError
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.predictions import Predictions
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.strategies.language.ledger import power_of_shares
from imbalance_lab.strategies.language.slots import StrategySpec
from imbalance_lab.strategies.table_methods import (
    ENSEMBLES,
    RESAMPLERS,
    class_probabilities,
    fit_table_model,
    too_few_rows,
)
from imbalance_lab.training.fit import Epoch, Selection
from imbalance_lab.training.predict import to_predictions

Floats = NDArray[np.float64]

_BALANCING = ("over_sampling", "combine")  # modules of imbalanced-learn whose samplers equalise the classes


@dataclass(frozen=True)
class TableInputs:
    """How a row becomes the features of a classical classifier.

    ``mean`` (C,) replaces missing values (the training rows' own); each categorical column
    becomes one 0/1 column per code of ``categorical_sizes``.
    """

    mean: tuple[float, ...]
    categorical_sizes: tuple[int, ...]

    @property
    def category_blocks(self) -> tuple[tuple[int, int], ...]:
        """First feature, and the one after the last, of the 0/1 columns of each categorical column."""
        stops = len(self.mean) + np.cumsum(self.categorical_sizes, dtype=np.int64)
        return tuple((int(stop) - size, int(stop)) for stop, size in zip(stops, self.categorical_sizes, strict=True))

    def features(self, continuous: NDArray[Any], categorical: NDArray[Any]) -> Floats:
        """Stored values (n, 1, C) and codes (n, 1, K) to finite floats of shape (n, F)."""
        values = np.asarray(continuous[:, 0], dtype=np.float64)
        columns = [np.where(np.isfinite(values), values, np.asarray(self.mean))]
        for k, size in enumerate(self.categorical_sizes):
            columns.append((np.asarray(categorical[:, 0, k])[:, None] == np.arange(size)).astype(np.float64))
        return np.concatenate(columns, axis=1)


@dataclass(frozen=True)
class TableTrial:
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

    def _features(self, index: NDArray[np.int64]) -> Floats:
        dataset = self.loaded.dataset
        return self.inputs.features(dataset.continuous[index], dataset.categorical[index])

    def _probabilities(self, index: NDArray[np.int64]) -> dict[str, Floats]:
        x = self._features(index)
        return {
            head: table_probabilities(self.models[head], x, len(classes))
            for head, classes in self.loaded.dataset.heads.items()
        }


def table_probabilities(model: Any | None, features: Floats, n_classes: int) -> Floats:
    """Probabilities (n, K) of one head; uniform for a head that no classifier could be fitted for."""
    if model is None:
        return np.full((len(features), n_classes), 1.0 / n_classes)
    return class_probabilities(model, features, n_classes)


def check_table(strategy: StrategySpec, dataset: SequenceDataset) -> None:
    """Refuse a classical strategy on sequences, and post-hoc steps that need a network.

    Raises
    ------
    InputError
        Naming strategy, key and what is allowed.
    """
    assert strategy.table is not None
    steps, length = dataset.continuous.shape[1], dataset.target_length
    where = f"strategy {strategy.name!r}, key table"
    if (steps, length) != (1, 1):
        raise InputError(
            f"{where}: found {strategy.table.name!r} on sequences of {steps} steps with {length} labels; "
            "allowed for table and digits data (one step, one label) only"
        )
    if any(step.name == "tau-norm" for step in strategy.posthoc):
        raise InputError(
            f"strategy {strategy.name!r}, key posthoc: found 'tau-norm' beside a table; it needs a network"
        )


def bind_table(strategy: StrategySpec, loaded: LoadedData, seed: int) -> BoundStrategy:
    """A classical strategy as the rest of a run sees it: no phases, notes and prior correction.

    The power of the prior is 1 where every class is brought to one size (over-sampling, random
    under-sampling, balanced ensembles, balanced weights) and 0 where rows are only cleaned.

    Raises
    ------
    InputError
        See :func:`check_table`.
    """
    check_table(strategy, loaded.dataset)
    assert strategy.table is not None
    heads, train = loaded.dataset.heads, loaded.splits.train
    counts = {h: loaded.dataset.class_counts(h, train) for h in heads}
    absent = {h: [c for c, m in zip(heads[h], n.tolist(), strict=True) if m == 0] for h, n in counts.items()}
    equal = _equalises(strategy.table.name, strategy.table.options.model_dump())
    shares = {h: (n > 0) / max(1, (n > 0).sum()) if equal else n / max(1, n.sum()) for h, n in counts.items()}
    return BoundStrategy(
        name=strategy.name,
        phases=(),
        head_kinds=dict.fromkeys(heads, "linear"),
        prior_correction={h: power_of_shares(shares[h], counts[h]) for h in heads},
        posthoc={h: {c.name: c.options.model_dump() for c in strategy.posthoc} for h in heads if strategy.posthoc},
        notes={
            "seed": seed,
            "table": strategy.table.name,
            "class_counts": {h: dict(zip(heads[h], n.tolist(), strict=True)) for h, n in counts.items()},
            "excluded_classes": {h: missing for h, missing in absent.items() if missing},
            "class_weights": {},
            "too_few_rows": _too_few(strategy.table.name, strategy.table.options.model_dump(), counts, heads),
            "expected_shares": {
                "phase 1": {h: dict(zip(heads[h], s.tolist(), strict=True)) for h, s in shares.items()}
            },
        },
    )


def _too_few(
    name: str, options: Mapping[str, Any], counts: Mapping[str, NDArray[np.int64]], heads: Mapping[str, tuple[str, ...]]
) -> dict[str, list[str]]:
    """Head to what is to be said of its classes with too few rows for the resampler."""
    if name not in RESAMPLERS:
        return {}
    said = {h: too_few_rows(name, n, heads[h], options.get("neighbours")) for h, n in counts.items()}
    return {head: sentences for head, sentences in said.items() if sentences}


def _equalises(name: str, options: Mapping[str, Any]) -> bool:
    if name == "plain":
        return options.get("class_weight") == "balanced"
    if name in ENSEMBLES:
        return True
    return RESAMPLERS[name][0] in _BALANCING or name in ("random-under-sampling", "near-miss", "cluster-centroids")


def prepare_table_trial(loaded: LoadedData, strategy: StrategySpec, bound: BoundStrategy, seed: int) -> TableTrial:
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
    return TableTrial(loaded, bound, strategy.table.name, strategy.table.options.model_dump(), seed, inputs)
