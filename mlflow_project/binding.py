"""A strategy of the spec, bound to the training split of a data set."""

from __future__ import annotations

import numpy as np

from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.learners.table_binding import bind_table
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.strategies.bind import bind
from imbalance_lab.strategies.language.parse import StrategySpec


def bind_strategy(strategy: StrategySpec, loaded: LoadedData, primary: str, seed: int) -> BoundStrategy:
    """Bind to the targets of train alone; a classical strategy is checked to fit the data."""
    if strategy.table is not None:
        return bind_table(strategy, loaded, seed)
    dataset, train = loaded.dataset, loaded.splits.train
    targets = {head: np.asarray(target[train]) for head, target in dataset.targets.items()}
    return bind(strategy, heads=dataset.heads, targets=targets, primary=primary, seed=seed)
