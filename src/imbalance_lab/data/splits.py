"""Grouped, stratified, deterministic splits.

Every stratum is allotted to train, val and test by largest remainder, at least one group each
where it has three or more; strata with fewer than three groups are pooled. Which groups of a
stratum go where is a seeded permutation. Of a bounded number of permutations the one is kept
that (1) leaves the fewest classes absent from a split although the data have enough groups of
them (three for all splits, one for train), and (2) among those, brings the share of every class
in every split closest to the fractions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import Splits
from imbalance_lab.errors import InputError
from imbalance_lab.randomness import derive_seed

TRIES = 256
_WORK = 20_000_000  # bound on tries x groups x classes, so that many groups stay fast


def allot(n: int, fractions: Sequence[float], owed: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
    """Share n groups out by largest remainder; every part gets one where n >= the number of parts.

    Parameters
    ----------
    n : number of groups
    fractions : shares, summing to 1
    owed : how much each part has been short so far; decides between equal remainders

    Returns
    -------
    int64 array of shape (n_parts,), summing to n
    """
    quota = n * np.asarray(fractions, dtype=np.float64)
    parts = np.floor(quota + 1e-9).astype(np.int64)
    tie = np.zeros(len(parts)) if owed is None else owed
    order = np.lexsort((-np.arange(len(parts)), -tie, -np.round(quota - parts, 9)))
    parts[order[: n - parts.sum()]] += 1
    if n >= len(parts):
        for empty in np.flatnonzero(parts == 0):
            parts[parts.argmax()] -= 1
            parts[empty] += 1
    return parts


def assign_groups(
    strata: NDArray[np.str_],
    counts: NDArray[np.int64],
    fractions: Sequence[float],
    seed: int,
    tries: int = TRIES,
) -> NDArray[np.int64]:
    """Part (0 train, 1 val, 2 test) of each group.

    Parameters
    ----------
    strata : str array of shape (G,)
    counts : int64 array of shape (G, K), positions of each class (of all heads) in each group
    fractions : shares of train, val and test
    seed : see :func:`imbalance_lab.randomness.derive_seed`
    tries : permutations looked at, at most

    Returns
    -------
    int64 array of shape (G,)

    Raises
    ------
    InputError
        If there are fewer than three groups.
    """
    n_groups, n_classes = counts.shape
    if n_groups < 3:
        raise InputError(f"{n_groups} group(s) to split, at least 3 are needed: one each for train, val and test")
    pools = _pools(strata, fractions)
    rng = np.random.default_rng(derive_seed(seed, "split"))
    bounded = int(max(1, min(tries, _WORK // max(1, n_groups * max(1, n_classes)))))
    weights = np.concatenate([np.ones((n_groups, 1)), counts], axis=1).astype(np.float64)
    best, best_cost = np.zeros(n_groups, dtype=np.int64), (np.inf, np.inf)
    for _ in range(bounded):
        part = np.empty(n_groups, dtype=np.int64)
        for rows, label in pools:
            part[rows] = rng.permutation(label)
        cost = _cost(part, weights, np.asarray(fractions))
        if cost < best_cost:
            best, best_cost = part, cost
    return best


def _pools(strata: NDArray[np.str_], fractions: Sequence[float]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(groups of a stratum, the parts to deal out among them); strata below three groups are pooled."""
    _, codes, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    pools = [np.flatnonzero(codes == i) for i in np.flatnonzero(sizes >= 3)]
    rest = np.flatnonzero((sizes < 3)[codes])
    if rest.size:
        pools.append(rest)
    out, owed = [], np.zeros(len(fractions))
    for rows in pools:
        parts = allot(len(rows), fractions, owed)
        owed += len(rows) * np.asarray(fractions) - parts
        out.append((rows, np.repeat(np.arange(len(fractions)), parts)))
    return out


def _cost(part: NDArray[np.int64], weights: NDArray[np.float64], fractions: NDArray[np.float64]) -> tuple[float, float]:
    """(classes absent where they need not be, mean absolute deviation of class shares)."""
    onehot = np.eye(len(fractions))[part]
    groups = (weights > 0).T.astype(np.float64) @ onehot
    total = groups.sum(axis=1)
    absent = (groups[total >= 3] == 0).sum() + (groups[(total > 0) & (total < 3), 0] == 0).sum()
    mass = weights.T @ onehot
    mass = mass[total > 0] / mass[total > 0].sum(axis=1, keepdims=True)
    return float(absent), float(np.abs(mass - fractions).mean())


def split_rows(
    groups: NDArray[np.str_],
    strata: NDArray[np.str_],
    targets: Sequence[NDArray[np.int64]],
    fractions: Sequence[float],
    seed: int,
) -> Splits:
    """Split rows so that no group lies on two sides; the order of the rows does not matter.

    Parameters
    ----------
    groups, strata : str arrays of shape (n,); a group's stratum is that of most of its rows
    targets : per head an int64 array of shape (n, L), negative where not scored
    """
    names, group = np.unique(groups, return_inverse=True)
    strata_names, stratum = np.unique(strata, return_inverse=True)
    majority = np.zeros((len(names), len(strata_names)), dtype=np.int64)
    np.add.at(majority, (group, stratum), 1)
    counts = class_counts(group, len(names), targets)
    part = assign_groups(strata_names[majority.argmax(axis=1)], counts, fractions, seed)[group]
    return Splits(*(np.flatnonzero(part == i) for i in range(3)))


def class_counts(group: NDArray[np.int64], n_groups: int, targets: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Scored positions of each class of each head in each group, int64 array of shape (G, sum of K)."""
    columns = [np.zeros((n_groups, 0), dtype=np.int64)]
    for target in targets:
        k = int(target.max(initial=-1)) + 1
        scored = target >= 0
        keys = np.broadcast_to(group[:, None], target.shape)[scored] * k + target[scored]
        columns.append(np.bincount(keys, minlength=n_groups * k).reshape(n_groups, k))
    return np.concatenate(columns, axis=1)
