"""What an interpretation consists of, and how much of it a budget allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.interpretation.attention_maps import AttentionMaps
from imbalance_lab.interpretation.difficulty import Difficulty
from imbalance_lab.interpretation.embeddings import Embeddings
from imbalance_lab.interpretation.head_pairs import HeadAssociation
from imbalance_lab.interpretation.permutation import PermutationImportance


@dataclass(frozen=True)
class Budget:
    """How much work each method may do.

    Attributes
    ----------
    windows : windows that permutations, attention and ablation run on, at most
    repeats : permutations of each feature; ``cumulative_repeats`` of each step of the cumulative curve
    all_channels : whether every channel is permuted alone, or ``channels`` of the two most important frames
    correlated : whether groups of correlated channels are permuted
    cases : explained positions of each class; ``case_classes`` classes at most, the rarest first
    steps : integration steps, four times as many where these leave more than 5 % unexplained;
        ``random_steps`` for the randomised network
    temporal_cases : positions of each class whose moments are exchanged
    offsets, reaches : steps from the scored position
    points : points of each class in the maps; ``tsne`` iterations (0: no t-SNE)
    """

    windows: int
    repeats: int
    cumulative_repeats: int
    all_channels: bool
    channels: int
    correlated: bool
    cases: int
    case_classes: int
    steps: int
    random_steps: int
    temporal_cases: int
    offsets: tuple[int, ...]
    reaches: tuple[int, ...]
    points: int
    tsne: int


BUDGETS: Mapping[str, Budget] = {
    "quick": Budget(
        windows=32,
        repeats=3,
        cumulative_repeats=1,
        all_channels=False,
        channels=4,
        correlated=False,
        cases=3,
        case_classes=6,
        steps=16,
        random_steps=6,
        temporal_cases=8,
        offsets=(-8, -4, -2, -1, 0, 1, 2, 4, 8),
        reaches=(0, 1, 2, 4, 8, 16),
        points=60,
        tsne=0,
    ),
    "full": Budget(
        windows=4000,
        repeats=10,
        cumulative_repeats=5,
        all_channels=True,
        channels=0,
        correlated=True,
        cases=32,
        case_classes=24,
        steps=64,
        random_steps=64,
        temporal_cases=64,
        offsets=tuple(range(-16, 17)),
        reaches=(0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48),
        points=400,
        tsne=1000,
    ),
}


@dataclass(frozen=True)
class Attribution:
    """Attribution of one head.

    Attributes
    ----------
    channels, time, cases : tables of :mod:`imbalance_lab.interpretation.attribution`
    heat : class to mean absolute integrated gradient, float array (C, offsets)
    heat_offsets : int array, steps from the scored position (or input steps where there is no such position)
    channel_names : the C channels
    relative_delta : summed abs(convergence delta) over summed abs(change of the score)
    steps : integration steps
    sanity : table of :func:`imbalance_lab.interpretation.randomised.sanity_check`
    """

    channels: pd.DataFrame
    time: pd.DataFrame
    cases: pd.DataFrame
    heat: Mapping[str, NDArray[np.float64]]
    heat_offsets: NDArray[np.int64]
    channel_names: tuple[str, ...]
    relative_delta: float
    steps: int
    sanity: pd.DataFrame


@dataclass(frozen=True)
class Interpretation:
    """Everything that was measured about one trained network.

    A part that does not apply is None, and ``absent`` says why. ``seconds`` holds the wall time of each
    part; ``meta`` the head, classes, split, metric, budget, seed, and on how much data it rests.
    """

    meta: Mapping[str, Any]
    permutation: PermutationImportance
    cumulative: pd.DataFrame
    groups: pd.DataFrame
    attention: AttentionMaps | None
    ablation: pd.DataFrame | None
    attribution: Attribution | None
    offsets: pd.DataFrame | None
    context: pd.DataFrame | None
    blocks: pd.DataFrame | None
    embeddings: Embeddings | None
    difficulty: Difficulty
    association: HeadAssociation
    summary: tuple[str, ...]
    absent: Mapping[str, str]
    seconds: Mapping[str, float]

    @property
    def head(self) -> str:
        """The head that single-head methods explain."""
        return str(self.meta["head"])
