"""Small data sets of every shape that a network is built for, and trials on them."""

from __future__ import annotations

from functools import cache

import numpy as np
import yaml

from imbalance_lab.data.dataset import IGNORE, LoadedData, SequenceDataset, Splits
from imbalance_lab.learners.network_learner import NetworkLearner, prepare_network
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.strategies.bind import bind
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.training.course import Selection, selection_of
from imbalance_lab.training.training_config import TrainingConfig

PRIMARY = "command"
HEADS = {PRIMARY: ("G0", "G1", "G2", "G3"), "side": ("off", "on")}
SHAPES = {"steps": (8, 8), "tokens": (8, 5), "table": (1, 1)}
"""Input steps and target positions: a sequence with a label per step, one with a token sequence, a row."""
FRAMES = {"position": 1, "motor": 2, "left": 2, "right": 2, "front": 2, "back": 2, "spindle": 2, "bed": 2}
"""Sensor frames and their channels: as many modalities as the recordings of the mill have."""

N, BATCH = 96, 24


@cache
def data(shape: str, without: str = "") -> LoadedData:
    """Two heads, eight frames, four categorical channels, missing values, positions without a label.

    ``without`` leaves out the ``continuous`` or the ``categorical`` channels.
    """
    steps, length = SHAPES[shape]
    rng = np.random.default_rng(0)
    target = rng.choice(4, p=[0.55, 0.25, 0.15, 0.05], size=(N, length)).astype(np.int64)
    frames = {} if without == "continuous" else FRAMES
    names = tuple(f"{frame}_{i}" for frame, n in frames.items() for i in range(n))
    categories = () if without == "categorical" else ("mode", "state", "tool", "unit")
    values = rng.normal(size=(N, steps, len(names))).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    side = (target > 0).astype(np.int64)
    target[rng.random(target.shape) < 0.1] = IGNORE
    index = np.arange(N, dtype=np.int64)
    dataset = SequenceDataset(
        continuous=values,
        categorical=rng.integers(0, 3, (N, steps, len(categories))),
        targets={PRIMARY: target, "side": side},
        heads=HEADS,
        groups=np.array([f"r{i % 12:02d}" for i in index]),
        channels=names,
        unit=index,
        unit_position=np.tile(np.arange(length, dtype=np.int64), (N, 1)),
        unit_length=np.full(N, length, dtype=np.int64),
        slices={"operation": np.array([f"op{i % 2}" for i in index])},
        categorical_channels=categories,
        categories=tuple(tuple(map(str, range(size - 1))) for size in (6, 3, 3, 4)[: len(categories)]),
        channel_groups={f: tuple(n for n in names if n.startswith(f"{f}_")) for f in frames},
    )
    return LoadedData(dataset, Splits(*np.split(index, [N // 2, 3 * N // 4])))


def trial(
    shape: str, strategy: str, *, epochs: int = 2, precision: str = "float32", without: str = "", device: str = "cuda"
) -> NetworkLearner:
    """A strategy, written as in an experiment file, on a device; an epoch has two steps."""
    loaded = data(shape, without)
    spec = parse_strategy("s", yaml.safe_load(strategy), where="test")
    targets = {head: target[loaded.splits.train] for head, target in loaded.dataset.targets.items()}
    bound = bind(spec, heads=loaded.dataset.heads, targets=targets, primary=PRIMARY, seed=0)
    training = TrainingConfig(epochs=epochs, batch_size=BATCH, device=device, precision=precision)
    return prepare_network(loaded, bound, ModelConfig(hidden=16, attention_heads=2), training, 0)


def selection() -> Selection:
    """Macro F1 of the primary head."""
    return selection_of("auto/macro_f1", HEADS, PRIMARY)
