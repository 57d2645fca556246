"""Which inputs are permuted together: sensor frames, groups of correlated channels, single channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import SequenceDataset

CORRELATED = 0.7
"""Channels join a correlated group while their average absolute rank correlation stays above this."""


@dataclass(frozen=True)
class Feature:
    """Inputs that are permuted together; ``kind`` is ``frame``, ``correlated``, ``channel`` or ``categorical``."""

    name: str
    kind: str
    continuous: tuple[int, ...] = ()
    categorical: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.continuous) + len(self.categorical)


def frames(dataset: SequenceDataset) -> tuple[Feature, ...]:
    """The sensor frames of the data set, the channels of none together, and all categorical channels."""
    place = {name: i for i, name in enumerate(dataset.channels)}
    found = [
        Feature(name, "frame", tuple(place[c] for c in members if c in place))
        for name, members in dataset.channel_groups.items()
    ]
    taken = {i for f in found for i in f.continuous}
    rest = tuple(i for i in range(len(dataset.channels)) if i not in taken)
    found.append(Feature("other channels", "frame", rest))
    found.append(Feature("categorical channels", "frame", (), tuple(range(len(dataset.categorical_channels)))))
    return tuple(f for f in found if f.size)


def channels(dataset: SequenceDataset) -> tuple[Feature, ...]:
    """Every continuous and every categorical channel alone."""
    return (
        *(Feature(name, "channel", (i,)) for i, name in enumerate(dataset.channels)),
        *(Feature(name, "categorical", (), (i,)) for i, name in enumerate(dataset.categorical_channels)),
    )


def correlated(values: NDArray[np.floating], names: Sequence[str]) -> tuple[Feature, ...]:
    """Groups of at least two channels that tell the same, by hierarchical clustering.

    Average linkage on 1 - abs(Spearman correlation), cut at ``1 - CORRELATED``: permuting one of two
    such channels alone leaves its information in the other, so both look unimportant.

    Parameters
    ----------
    values : array of shape (n, C), missing values filled
    names : the C channels
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform
    from scipy.stats import rankdata

    varying = np.flatnonzero(values.std(axis=0) > 0)
    if len(varying) < 2:
        return ()
    correlation = np.abs(np.corrcoef(rankdata(values[:, varying], axis=0), rowvar=False))
    distance = 1.0 - np.clip(correlation, 0.0, 1.0)
    np.fill_diagonal(distance, 0.0)
    label = fcluster(linkage(squareform((distance + distance.T) / 2), "average"), 1.0 - CORRELATED, "distance")
    found = []
    for group in np.unique(label):
        members = tuple(int(i) for i in varying[label == group])
        if len(members) > 1:
            title = f"{names[members[0]]} + {len(members) - 1} more"
            found.append(Feature(title, "correlated", members))
    return tuple(found)
