"""Which learner an experiment asks for, and which one wrote a folder: the only place that knows all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imbalance_lab.atomic import reading_own
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.learners.classical_learner import prepare_classical
from imbalance_lab.learners.classical_model import read_classifiers
from imbalance_lab.learners.network_learner import check_methods, prepare_network, read_network
from imbalance_lab.learners.protocol import Learner
from imbalance_lab.learners.stored import StoredModel, read_about
from imbalance_lab.learners.table_binding import bind_table
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.strategies.bind import bind
from imbalance_lab.strategies.language.slots import StrategySpec
from imbalance_lab.training.training_config import TrainingConfig


def bind_strategy(strategy: StrategySpec, loaded: LoadedData, primary: str, seed: int) -> BoundStrategy:
    """Bind to the targets of train alone, as the strategy's learner needs it.

    Raises
    ------
    InputError
        If the strategy does not fit the data.
    """
    if strategy.table is not None:
        return bind_table(strategy, loaded, seed)
    dataset, train = loaded.dataset, loaded.splits.train
    targets = {head: np.asarray(target[train]) for head, target in dataset.targets.items()}
    return bind(strategy, heads=dataset.heads, targets=targets, primary=primary, seed=seed)


def prepare_learner(
    loaded: LoadedData,
    strategy: StrategySpec,
    bound: BoundStrategy,
    model: ModelConfig,
    training: TrainingConfig,
    seed: int,
) -> Learner:
    """The learner of a strategy, ready to be trained.

    Raises
    ------
    InputError
        If the strategy does not fit the data.
    """
    if strategy.table is not None:
        return prepare_classical(loaded, strategy, bound, seed)
    learner = prepare_network(loaded, bound, model, training, seed)
    check_methods(model, learner.network, strategy, bound)
    return learner


def read_model(folder: Path) -> StoredModel:
    """The model that a learner saved in a folder.

    Raises
    ------
    InputError
        If a file holds types that no classifier of the catalogue has, or is not as a learner wrote it.
    """
    with reading_own(f"the model in {folder}"):
        about = read_about(folder)
        stored = read_network(folder, about) if "blueprint" in about else read_classifiers(folder, about)
        if not all(stored.heads.values()):
            raise ValueError("a head has no class")
        if any({"steps", "train_counts"} - told.keys() for told in stored.posthoc.values()):
            raise ValueError("post-hoc steps are not told with their training counts")
        return stored
