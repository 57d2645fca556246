"""A tiny data set with something to learn, and what a trial on it needs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import yaml

from imbalance_lab.data.dataset import IGNORE, LoadedData, SequenceDataset, Splits
from imbalance_lab.learners.network_learner import NetworkLearner, prepare_network
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.predictions import primary_head
from imbalance_lab.strategies.bind import bind
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.training.course import selection_of
from imbalance_lab.training.training_config import TrainingConfig

CLASSES = ("G0", "G1", "G2")
MODEL = ModelConfig(hidden=16, attention_heads=2)


@cache
def tiny(length: int = 6, n: int = 48, seed: int = 0, blank: float = 0.2) -> LoadedData:
    """n sequences of ``length`` steps; the class moves two channels, G2 is rare; some positions are masked."""
    rng = np.random.default_rng(seed)
    target = rng.choice(3, p=[0.7, 0.22, 0.08], size=(n, length)).astype(np.int64)
    continuous = rng.normal(size=(n, length, 4)).astype(np.float32)
    continuous[..., 0] += 2.0 * target
    continuous[..., 1] -= 1.5 * (target == 2)
    continuous[rng.random(continuous.shape) < 0.02] = np.nan
    masked = target.copy()
    masked[rng.random(target.shape) < blank] = IGNORE
    index = np.arange(n, dtype=np.int64)
    dataset = SequenceDataset(
        continuous=continuous,
        categorical=np.zeros((n, length, 0), dtype=np.int64),
        targets={"command": masked, "side": (target > 0).astype(np.int64)},
        heads={"command": CLASSES, "side": ("off", "on")},
        groups=np.array([f"r{i:02d}" for i in index]),
        channels=("a", "b", "c", "d"),
        unit=index,
        unit_position=np.tile(np.arange(length, dtype=np.int64), (n, 1)),
        unit_length=np.full(n, length, dtype=np.int64),
    )
    cut = [n // 2, 3 * n // 4]
    return LoadedData(dataset, Splits(*np.split(index, cut)))


def config(**changes: Any) -> TrainingConfig:
    """A short training on the CPU."""
    values = {"epochs": 4, "batch_size": 8, "learning_rate": 0.01, "device": "cpu", **changes}
    return TrainingConfig(**values)


def trial_of(text: str, loaded: LoadedData | None = None, seed: int = 0, **changes: Any) -> NetworkLearner:
    """A strategy, written as in an experiment file, ready to be trained on the tiny data."""
    loaded = loaded or tiny()
    spec = parse_strategy("s", yaml.safe_load(text), where="test")
    targets = {h: t[loaded.splits.train] for h, t in loaded.dataset.targets.items()}
    primary = primary_head(loaded.dataset.heads)
    bound = bind(spec, heads=loaded.dataset.heads, targets=targets, primary=primary, seed=seed)
    return prepare_network(loaded, bound, MODEL, config(**changes), seed)


def selection(loaded: LoadedData | None = None, metric: str = "auto/macro_f1"):
    """The selection of the primary head."""
    heads = (loaded or tiny()).dataset.heads
    return selection_of(metric, heads, primary_head(heads))
