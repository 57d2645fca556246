"""Could a class have been in a split? Yes, if exchanging two recordings would bring it there at no price."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from imbalance_lab.audit.target_positions import factorize
from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.data.splits import class_counts
from imbalance_lab.data.stratify import Demand, faults_after

_MOST = 200  # candidates on each side; with more recordings than that one of them will do


@dataclass(frozen=True)
class Assignment:
    """Which recordings hold which classes, and where they are.

    Attributes
    ----------
    names : str array of shape (G,)
    demand : what the recordings hold on either side, J classes of all heads one after the other, and where
        a class with enough recordings has to be
    start : head to the place of its first class among the J
    side : int64 array of shape (G,): 0 train, 1 val, 2 test, -1 in none or in several
    stratum : int64 array of shape (G,): recordings with the same slices
    """

    names: NDArray[np.str_]
    demand: Demand
    start: dict[str, int]
    side: NDArray[np.int64]
    stratum: NDArray[np.int64]


def assignment(loaded: LoadedData, min_recordings: int) -> Assignment:
    """The recordings' classes, sides and strata."""
    data = loaded.dataset
    codes, names = factorize(data.groups)
    widths = [len(classes) for classes in data.heads.values()]
    start = dict(zip(data.heads, np.cumsum([0, *widths])[:-1].tolist(), strict=True))
    held = class_counts(codes, len(names), [np.where(t == IGNORE, -1, t) for t in _targets(loaded)], widths)
    demand = Demand.of(held, None, 3, min_recordings)
    if loaded.presence is not None:
        place = {name: i for i, name in enumerate(loaded.presence.names.tolist())}
        rows = [place[name] for name in names.tolist()]
        either = [
            sparse.csr_array(np.concatenate([side[head][rows] for head in data.heads], axis=1).astype(np.int64))
            for side in (loaded.presence.train, loaded.presence.held_out)
        ]
        demand = Demand.of(either[0], either[1], 3, min_recordings)
    demand = replace(demand, few=np.zeros_like(demand.few))  # where they lie is the splitter's choice, no loss
    sides = np.zeros((3, len(names)), dtype=bool)
    for i, (_, index) in enumerate(loaded.splits.items()):
        sides[i, codes[index]] = True
    side = np.where(sides.sum(axis=0) == 1, sides.argmax(axis=0), -1)
    stratum = np.zeros(len(names), dtype=np.int64)
    for values in data.slices.values():
        of_slice, distinct = factorize(values)
        last = np.zeros(len(names), dtype=np.int64)
        last[codes] = of_slice
        stratum = stratum * len(distinct) + last
    return Assignment(names, demand, start, side, stratum)


def _targets(loaded: LoadedData) -> list[NDArray[np.int64]]:
    return [loaded.dataset.targets[head] for head in loaded.dataset.heads]


def mending_swap(given: Assignment, column: int, split: int) -> tuple[str, str] | None:
    """A recording of ``split`` and one outside that could change places to bring a class there.

    Both are of one stratum, so that the split keeps its size and its mixture, and no other class
    with enough recordings is lost anywhere: the number of missing (class, split) pairs falls.
    None where no such pair exists.
    """
    demand, side = given.demand, given.side
    held = demand.held(side)
    now = demand.faults(held)
    matrix = demand.side(split)
    holding = np.zeros(len(side), dtype=bool)
    holding[matrix[:, [column]].nonzero()[0]] = True
    for g in np.flatnonzero(holding & (side >= 0) & (side != split))[:_MOST]:
        mine = np.flatnonzero((side == split) & (given.stratum == given.stratum[g]))[:_MOST]
        if not len(mine):
            continue
        after = faults_after(demand, held, int(g), mine, split, int(side[g]))
        if after.min() < now:
            return str(given.names[mine[after.argmin()]]), str(given.names[g])
    return None
