"""Trained models as files: weights (tensors only) or skops files, and plain JSON; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbalance_lab.data.coding import Coding
from imbalance_lab.errors import InputError
from imbalance_lab.models.build import Blueprint, rebuild_network
from imbalance_lab.models.network import Network
from imbalance_lab.training.table_network import ClassicalModel
from imbalance_lab.training.table_trial import TableInputs, TableTrial

_TRUSTED = frozenset(
    {
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
_ABOUT = "about.json"
_WEIGHTS = "weights.pt"


@dataclass(frozen=True)
class StoredModel:
    """A model that was read back, and what it reads and answers.

    Attributes
    ----------
    coding : the columns it reads, and how they become inputs
    steps, target_length : T and L
    heads : head to its classes
    posthoc : head to ``steps`` and ``train_counts`` (see :mod:`imbalance_lab.strategies.posthoc`)
    """

    model: Network | ClassicalModel
    coding: Coding
    steps: int
    target_length: int
    heads: Mapping[str, tuple[str, ...]]
    posthoc: Mapping[str, Any]


def write_network(folder: Path, network: Network, blueprint: Blueprint, posthoc: Mapping[str, Any]) -> None:
    """Weights and ``about.json`` (blueprint, post-hoc steps)."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.save({name: t.detach().cpu() for name, t in network.state_dict().items()}, folder / _WEIGHTS)
    _write_about(folder, {"blueprint": blueprint.to_mapping(), "posthoc": dict(posthoc)})


def write_classifiers(folder: Path, trial: TableTrial, posthoc: Mapping[str, Any]) -> None:
    """One ``<number>.skops`` per head and ``about.json`` (coding, classes, imputation, post-hoc steps)."""
    import skops.io

    folder.mkdir(parents=True, exist_ok=True)
    dataset = trial.loaded.dataset
    for number, head in enumerate(dataset.heads):
        if trial.models[head] is not None:
            skops.io.dump(trial.models[head], folder / f"{number}.skops")
    about = {
        "heads": {head: list(classes) for head, classes in dataset.heads.items()},
        "coding": dataset.coding.to_mapping(),
        "mean": list(trial.inputs.mean),
        "posthoc": dict(posthoc),
    }
    _write_about(folder, about)


def read_model(folder: Path) -> StoredModel:
    """The network or the classifiers of a folder.

    Raises
    ------
    InputError
        If a file holds types that no classifier of the catalogue has.
    """
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    if "blueprint" in about:
        import torch

        blueprint = Blueprint.from_mapping(about["blueprint"])
        state = torch.load(folder / _WEIGHTS, map_location="cpu", weights_only=True)
        layout = blueprint.layout
        network = rebuild_network(blueprint, state)
        heads = dict(blueprint.heads)
        return StoredModel(network, blueprint.coding, layout.steps, layout.target_length, heads, about["posthoc"])
    heads = {head: tuple(classes) for head, classes in about["heads"].items()}
    models = {head: _classifier(folder / f"{number}.skops") for number, head in enumerate(heads)}
    coding = Coding.from_mapping(about["coding"])
    inputs = TableInputs(tuple(about["mean"]), tuple(len(texts) + 1 for texts in coding.categories))
    model = ClassicalModel(inputs, {head: len(classes) for head, classes in heads.items()}, models)
    return StoredModel(model, coding, 1, 1, heads, about["posthoc"])


def with_posthoc(source: Path, folder: Path, posthoc: Mapping[str, Any]) -> None:
    """Copy a model's folder, with other post-hoc steps."""
    import shutil

    shutil.copytree(source, folder)
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    _write_about(folder, {**about, "posthoc": dict(posthoc)})


def _write_about(folder: Path, about: Mapping[str, Any]) -> None:
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _classifier(file: Path) -> Any | None:
    """The fitted classifier of a head; None where none could be fitted."""
    import skops.io

    if not file.exists():
        return None
    types = skops.io.get_untrusted_types(file=file)
    foreign = [t for t in types if t not in _TRUSTED]
    if foreign:
        raise InputError(f"{file.name} holds {foreign[0]}, expected the types of the catalogue's classifiers")
    return skops.io.load(file, trusted=types)
