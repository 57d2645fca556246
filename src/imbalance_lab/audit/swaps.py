"""Could a class have been in a split? Yes, if exchanging two recordings would bring it there at no price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.positions import factorize, group_counts, scored_positions
from imbalance_lab.data.dataset import LoadedData

_MOST = 200  # candidates on each side; with more recordings than that one of them will do


@dataclass(frozen=True)
class Assignment:
    """Which recordings hold which classes, and where they are.

    Attributes
    ----------
    names : str array of shape (G,)
    held : bool array of shape (G, J), J classes of all heads one after the other
    start : head to the place of its first class among the J
    side : int64 array of shape (G,): 0 train, 1 val, 2 test, -1 in none or in several
    stratum : int64 array of shape (G,): recordings with the same slices
    required : bool array of shape (J,), classes with enough recordings to be in every split
    """

    names: NDArray[np.str_]
    held: NDArray[np.bool_]
    start: dict[str, int]
    side: NDArray[np.int64]
    stratum: NDArray[np.int64]
    required: NDArray[np.bool_]


def assignment(loaded: LoadedData, min_recordings: int) -> Assignment:
    """The recordings' classes, sides and strata."""
    data = loaded.dataset
    codes, names = factorize(data.groups)
    tables, start, place = [], {}, 0
    for head, classes in data.heads.items():
        tables.append(group_counts(scored_positions(data, head, distinct=False), len(classes)) > 0)
        start[head] = place
        place += len(classes)
    held = np.concatenate(tables, axis=1)
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
    return Assignment(names, held, start, side, stratum, held.sum(axis=0) >= min_recordings)


def mending_swap(given: Assignment, column: int, split: int) -> tuple[str, str] | None:
    """A recording of ``split`` and one outside that could change places to bring a class there.

    Both are of one stratum, so that the split keeps its size and its mixture, and no other class
    with enough recordings is lost anywhere: the number of missing (class, split) pairs falls.
    None where no such pair exists.
    """
    counts = np.stack([given.held[given.side == s].sum(axis=0) for s in range(3)])
    missing = int(((counts == 0) & given.required).sum())
    able = np.flatnonzero((given.side >= 0) & (given.side != split) & given.held[:, column])[:_MOST]
    for g in able:
        other = given.side[g]
        mine = np.flatnonzero((given.side == split) & (given.stratum == given.stratum[g]))[:_MOST]
        change = given.held[g].astype(np.int64) - given.held[mine]
        rest = [s for s in range(3) if s not in (split, other)]
        after = ((counts[split] + change == 0) & given.required).sum(axis=1)
        after += ((counts[other] - change == 0) & given.required).sum(axis=1)
        after += int(((counts[rest] == 0) & given.required).sum())
        if len(mine) and after.min() < missing:
            return str(given.names[mine[after.argmin()]]), str(given.names[g])
    return None
