"""From a data set to a network, and from plain values back to the same network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coding, plain_texts
from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.models.encoder import Layout, modalities_of
from imbalance_lab.models.inputs import InputScaler, difference_scale
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.models.model_facts import ModelFacts
from imbalance_lab.models.network import BuiltInNetwork, HeadKinds, HeadScales, Network
from imbalance_lab.models.own_network import make_own
from imbalance_lab.randomness import derive_seed

_SCALE_SAMPLE = 2048  # sequences that the difference scale is estimated from


@dataclass(frozen=True)
class Blueprint:
    """Everything but the weights: enough to build the network again and to name its inputs and outputs."""

    config: ModelConfig
    layout: Layout
    heads: Mapping[str, tuple[str, ...]]
    head_kinds: HeadKinds
    head_scales: HeadScales
    coding: Coding

    def to_mapping(self) -> dict[str, Any]:
        """Plain values (JSON)."""
        return {
            "config": self.config.model_dump(),
            "layout": asdict(self.layout),
            "heads": dict(self.heads),
            "head_kinds": dict(self.head_kinds),
            "head_scales": dict(self.head_scales),
            "coding": self.coding.to_mapping(),
        }

    @staticmethod
    def from_mapping(plain: Mapping[str, Any]) -> Blueprint:
        """The inverse of :meth:`to_mapping`."""
        layout = plain["layout"]
        return Blueprint(
            config=ModelConfig.model_validate(plain["config"]),
            layout=Layout(
                channels=layout["channels"],
                modalities=tuple(tuple(m) for m in layout["modalities"]),
                categorical_sizes=tuple(layout["categorical_sizes"]),
                steps=layout["steps"],
                target_length=layout["target_length"],
            ),
            heads={head: plain_texts(classes) for head, classes in plain["heads"].items()},
            head_kinds=plain["head_kinds"],
            head_scales=plain["head_scales"],
            coding=Coding.from_mapping(plain["coding"]),
        )


def make_blueprint(
    dataset: SequenceDataset, config: ModelConfig, head_kinds: HeadKinds, head_scales: HeadScales
) -> Blueprint:
    """The blueprint of a network for ``dataset``."""
    layout = Layout(
        channels=len(dataset.channels),
        modalities=modalities_of(dataset.channels, dict(dataset.channel_groups)),
        categorical_sizes=dataset.categorical_sizes,
        steps=dataset.continuous.shape[1],
        target_length=dataset.target_length,
    )
    return Blueprint(config, layout, dataset.heads, head_kinds, head_scales, dataset.coding)


def facts_of(blueprint: Blueprint) -> ModelFacts:
    """What a factory is told."""
    layout = blueprint.layout
    return ModelFacts(
        channels=blueprint.coding.channels,
        categories=layout.categorical_sizes,
        steps=layout.steps,
        target_length=layout.target_length,
        classes={head: len(classes) for head, classes in blueprint.heads.items()},
    )


def build_network(
    blueprint: Blueprint,
    mean: NDArray[np.floating[Any]],
    std: NDArray[np.floating[Any]],
    dataset: SequenceDataset,
    train: NDArray[np.int64],
    seed: int,
) -> Network:
    """A freshly initialised network (weights seeded by ``seed``) for the training rows ``train``.

    ``mean`` and ``std`` have shape (C,), of the stored values.
    """
    mean_t, std_t = torch.from_numpy(np.asarray(mean, np.float32)), torch.from_numpy(np.asarray(std, np.float32))
    rows = train[:: max(1, len(train) // _SCALE_SAMPLE)]
    sample = InputScaler(mean_t, std_t)(
        torch.from_numpy(dataset.continuous[rows]), torch.from_numpy(dataset.categorical[rows])
    )
    scale = difference_scale(sample.values, sample.observed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return _assemble(blueprint, mean_t, std_t, scale)


def rebuild_network(blueprint: Blueprint, state: Mapping[str, torch.Tensor]) -> Network:
    """The network of a blueprint with the weights of ``state``, in evaluation mode."""
    c = blueprint.layout.channels
    network = _assemble(blueprint, torch.zeros(c), torch.ones(c), torch.ones(c))
    network.load_state_dict(dict(state))
    return network.eval()


def _assemble(blueprint: Blueprint, mean: torch.Tensor, std: torch.Tensor, scale: torch.Tensor) -> Network:
    sizes = {head: len(classes) for head, classes in blueprint.heads.items()}
    if blueprint.config.factory is not None:
        facts = facts_of(blueprint)
        return make_own(blueprint.config, facts, blueprint.head_kinds, blueprint.head_scales, mean, std)
    return BuiltInNetwork(
        blueprint.config, blueprint.layout, sizes, blueprint.head_kinds, mean, std, scale, blueprint.head_scales
    )
