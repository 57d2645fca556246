"""Fitted classical classifiers behind what evaluation, interpretation and serving ask of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.data.coding import Coding, plain_texts
from imbalance_lab.errors import InputError
from imbalance_lab.learners.stored import StoredModel, write_about
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import NetworkOutput
from imbalance_lab.strategies.own_estimator import package_of, trusted_types
from imbalance_lab.strategies.table_methods import class_probabilities

Floats = NDArray[np.float64]

CLASSIFIERS = "classifiers"
"""Name of the folder of stored classifiers."""
_TRUSTED = frozenset(
    {
        "collections.OrderedDict",
        "collections.defaultdict",
        "imblearn.ensemble._bagging.BalancedBaggingClassifier",
        "imblearn.ensemble._easy_ensemble.EasyEnsembleClassifier",
        "imblearn.ensemble._forest.BalancedRandomForestClassifier",
        "imblearn.ensemble._weight_boosting.RUSBoostClassifier",
        "imblearn.pipeline.Pipeline",
        "imblearn.under_sampling._prototype_selection._random_under_sampler.RandomUnderSampler",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.tree._tree.Tree",
    }
)
"""What the classifiers of the catalogue hold beside the types that skops knows itself. One by one: a whole package
would bring functions that run what a file tells them (``numpy.testing`` has one)."""


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


def table_probabilities(model: Any | None, features: Floats, n_classes: int) -> Floats:
    """Probabilities (n, K) of one head; uniform for a head that no classifier could be fitted for."""
    if model is None:
        return np.full((len(features), n_classes), 1.0 / n_classes)
    return class_probabilities(model, features, n_classes)


@dataclass(frozen=True)
class ClassicalModel:
    """One fitted classifier per head; a :class:`~imbalance_lab.models.predictor.Predictor`.

    Attributes
    ----------
    inputs : how a row becomes features
    heads : head to number of classes
    models : head to the fitted classifier, or None for a head without a scored training row
    own : import path of the classifier where it is none of the catalogue's
    trust : further classes of its package that a stored classifier may hold

    Its logits are log-probabilities; there are no features, no attention and no gradients.
    """

    inputs: TableInputs
    heads: Mapping[str, int]
    models: Mapping[str, Any]
    own: str = ""
    trust: tuple[str, ...] = ()

    words: ClassVar[str] = "a classical classifier"
    has_attention: ClassVar[bool] = False
    has_features: ClassVar[bool] = False
    per_step: ClassVar[bool] = True
    rows_per_call: ClassVar[int | None] = 8192  # a call costs milliseconds, however few its rows
    as_network: ClassVar[None] = None
    device: ClassVar[torch.device] = torch.device("cpu")

    @property
    def packages(self) -> tuple[str, ...]:
        """See :class:`~imbalance_lab.models.predictor.Predictor`."""
        return ("imbalanced-learn", "skops", *(package_of(self.own) if self.own else ()))

    def eval(self) -> ClassicalModel:
        """Nothing is random in a fitted classifier."""
        return self

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
            p = table_probabilities(model, rows, self.heads[head])
            logits[head] = torch.from_numpy(np.log(np.maximum(p, 1e-30)).astype(np.float32)[:, None, :])
        return NetworkOutput(logits, torch.zeros(len(rows), 1, 0), None, None)

    def __call__(self, continuous: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """Coded inputs to class scores (B, 1, K) of each head, ready for a softmax."""
        return dict(self.run(self.prepare(continuous, categorical)).logits)

    def n_classes(self, head: str) -> int:
        """K of a head."""
        return self.heads[head]

    def output_scale(self, head: str) -> float:
        """1: log-probabilities are ready for a softmax."""
        return 1.0


def write_classifiers(
    folder: Path,
    model: ClassicalModel,
    heads: Mapping[str, tuple[str, ...]],
    coding: Coding,
    posthoc: Mapping[str, Any],
) -> None:
    """One ``<number>.skops`` per head and ``about.json`` (coding, classes, imputation, post-hoc steps)."""
    import skops.io

    about = {
        "heads": {head: list(classes) for head, classes in heads.items()},
        "coding": coding.to_mapping(),
        "mean": list(model.inputs.mean),
        "posthoc": dict(posthoc),
        **({"own": model.own, "trust": list(model.trust)} if model.own else {}),
    }
    write_about(folder, about)
    for number, head in enumerate(heads):
        if model.models[head] is not None:
            skops.io.dump(model.models[head], folder / f"{number}.skops")


def read_classifiers(folder: Path, about: Mapping[str, Any]) -> StoredModel:
    """The inverse of :func:`write_classifiers`.

    Raises
    ------
    InputError
        If a file holds types that no classifier of the catalogue has.
    """
    heads = {head: plain_texts(classes) for head, classes in about["heads"].items()}
    own, trust = about.get("own", ""), tuple(about.get("trust", ()))
    allowed = trusted_types(own, trust) if own else frozenset[str]()
    models = {head: _classifier(folder / f"{number}.skops", allowed) for number, head in enumerate(heads)}
    coding = Coding.from_mapping(about["coding"])
    inputs = TableInputs(tuple(about["mean"]), tuple(len(texts) + 1 for texts in coding.categories))
    model = ClassicalModel(inputs, {head: len(classes) for head, classes in heads.items()}, models, own, trust)
    return StoredModel(model, coding, 1, 1, heads, about["posthoc"])


def foreign_types(model: Any, allowed: frozenset[str]) -> list[str]:
    """Types that a stored ``model`` would hold and that would not be read back.

    Raises
    ------
    InputError
        If it cannot be stored at all.
    """
    import skops.io

    try:
        types = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    except Exception as error:  # skops meets objects of any package
        raise InputError(
            f"{type(model).__name__} cannot be stored by skops ({type(error).__name__}: {error})"
        ) from None
    return [t for t in types if t not in _TRUSTED and t not in allowed]


def _classifier(file: Path, allowed: frozenset[str]) -> Any | None:
    """The fitted classifier of a head; None where none could be fitted."""
    import skops.io

    if not file.exists():
        return None
    types = skops.io.get_untrusted_types(file=file)
    foreign = [t for t in types if t not in _TRUSTED and t not in allowed]
    if foreign:
        raise InputError(f"{file.name} holds {foreign[0]}, expected the types of the catalogue's classifiers")
    return skops.io.load(file, trusted=types)
