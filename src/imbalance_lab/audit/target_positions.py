"""Scored target positions as flat arrays, counted once each, with their recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE, SequenceDataset, Words

_PRIME = np.uint64(0x100000001B3)


@dataclass(frozen=True)
class Positions:
    """n scored positions of one head.

    Attributes
    ----------
    row, place : int64 arrays of shape (n,)
        Sequence and column of each position in ``targets[head]``; ``row`` does not decrease.
    label : int64 array of shape (n,)
    group : int64 array of shape (n,), code into ``group_names``
    """

    row: NDArray[np.int64]
    place: NDArray[np.int64]
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    group_names: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Positions:
        """The positions at ``index``."""
        return Positions(self.row[index], self.place[index], self.label[index], self.group[index], self.group_names)


def factorize(values: Words) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Codes of shape (n,) and the distinct values, in order of appearance.

    Strings are hashed to 64 bits column by column: sorting 10^7 strings would take longer than
    the rest of the audit.
    """
    import pandas as pd

    if isinstance(values, pd.Categorical):
        codes, found = pd.factorize(values.codes)
        return codes.astype(np.int64), values.categories.to_numpy(dtype=np.str_)[found]
    array = np.ascontiguousarray(values)
    if not len(array) or array.dtype.kind != "U":
        codes, names = pd.factorize(array)
        return codes.astype(np.int64), np.asarray(names)
    start = np.flatnonzero(np.append(True, array[1:] != array[:-1]))  # recordings mostly lie together
    some = array[start] if len(start) < len(array) // 2 else array
    characters = np.ascontiguousarray(some).view(np.uint32).reshape(len(some), -1)
    hashed = np.full(len(some), 0xCBF29CE484222325, dtype=np.uint64)
    for column in range(characters.shape[1]):
        hashed = (hashed ^ characters[:, column]) * _PRIME
    codes, distinct = pd.factorize(hashed)
    first = np.empty(len(distinct), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(some) - 1, -1, -1)  # the last write is the first appearance
    if len(some) < len(array):
        codes = np.repeat(codes, np.diff(np.append(start, len(array))))
    return codes.astype(np.int64), some[first]


def scored_positions(
    dataset: SequenceDataset, head: str, index: NDArray[np.int64] | None = None, *, distinct: bool = True
) -> Positions:
    """Scored positions of ``head`` in the sequences ``index`` (all by default).

    With ``distinct`` a row of a recording that several overlapping windows hold counts once, so
    that the window's stride does not change what is counted. Padding that is scored (place -1)
    has no row of its own and stays.
    """
    rows = np.arange(len(dataset)) if index is None else np.asarray(index, dtype=np.int64)
    target = dataset.targets[head] if index is None else dataset.targets[head][rows]
    at, place = np.nonzero(target != IGNORE)
    label = target[at, place]
    row = rows[at]
    codes, names = factorize(dataset.groups)
    if distinct and _units_repeat(dataset.unit, rows):
        keep = _first_occurrence(dataset, row, place)
        row, place, label = row[keep], place[keep], label[keep]
    return Positions(row, place.astype(np.int64), label, codes[row], names)


def _units_repeat(unit: NDArray[np.int64], rows: NDArray[np.int64]) -> bool:
    return bool(len(rows)) and int(np.bincount(unit[rows]).max()) > 1


def _first_occurrence(dataset: SequenceDataset, row: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.bool_]:
    import pandas as pd

    position = dataset.unit_position[row, place]
    longest = int(position.max(initial=0)) + 1
    key = dataset.unit[row] * longest + position
    return ~pd.Series(key).duplicated().to_numpy() | (position < 0)


def count_table(positions: Positions, n_classes: int) -> dict[str, NDArray[np.int64]]:
    """Positions, sequences and recordings that hold each class; int64 arrays of shape (n_classes,)."""
    by_group = group_counts(positions, n_classes)
    sequences = np.zeros(n_classes, dtype=np.int64)
    for c in np.flatnonzero(by_group.sum(axis=0)):
        rows = positions.row[positions.label == c]  # in order
        sequences[c] = 1 + int((np.diff(rows) != 0).sum())
    return {"positions": by_group.sum(axis=0), "sequences": sequences, "recordings": (by_group > 0).sum(axis=0)}


def group_counts(positions: Positions, n_classes: int) -> NDArray[np.int64]:
    """Positions of each class in each recording, int64 array of shape (n_groups, n_classes)."""
    n_groups = len(positions.group_names)
    flat = np.bincount(positions.group * n_classes + positions.label, minlength=n_groups * n_classes)
    return flat.reshape(n_groups, n_classes).astype(np.int64)


def stratified_sample(
    labels: NDArray[np.int64], limit: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most ``limit`` positions, all of the rare classes, and each one's inverse inclusion rate.

    Every class gives ``min(n_c, quota)`` positions with one quota for all. Returns the sorted
    index and the weights, both of shape (m,).
    """
    counts = np.bincount(labels)
    if len(labels) <= limit:
        return np.arange(len(labels)), np.ones(len(labels))
    quota, left, budget = 0, np.sort(counts[counts > 0]), limit
    for i, n in enumerate(left):
        quota = budget // (len(left) - i)
        if n > quota:
            break
        budget -= int(n)
    order = np.random.default_rng([seed, len(labels)]).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    start = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - start[labels[by_class]]
    chosen = np.sort(by_class[rank < max(quota, 1)])
    taken = np.bincount(labels[chosen], minlength=len(counts))
    return chosen, (counts / np.maximum(taken, 1))[labels[chosen]]
