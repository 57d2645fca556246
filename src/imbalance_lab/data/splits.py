"""Grouped, stratified, deterministic splits.

Every stratum is allotted to train, val and test by largest remainder, at least one group each
where it has three or more; strata with fewer than three groups are pooled. Which groups of a
stratum go where is a seeded permutation. Of 256 permutations the one is kept that (1) leaves the
fewest faults: classes of three groups or more that a split lacks, and groups of rarer classes
outside of train, and (2) among those, brings the share of every class in every split closest to
the fractions. Data too large for that are dealt out class by class (:mod:`.stratify`). Faults that
are left are mended by exchanges of groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from imbalance_lab.data.dataset import Splits
from imbalance_lab.data.stratify import Demand, allot, deal, mend
from imbalance_lab.errors import InputError
from imbalance_lab.randomness import derive_seed

TRIES = 256
_SMALL = 20_000_000 // TRIES  # groups x classes up to which permutations are tried


def assign_groups(
    strata: NDArray[np.str_],
    counts: NDArray[np.int64] | sparse.csr_array,
    fractions: Sequence[float],
    seed: int,
    tries: int = TRIES,
    held_out: sparse.csr_array | None = None,
) -> NDArray[np.int64]:
    """Part (0 train, 1 val, 2 test) of each group.

    Parameters
    ----------
    strata : str array of shape (G,)
    counts : int64 array of shape (G, K), dense or sparse, positions of each class (of all heads) in each group
    fractions : shares of train, val and test
    seed : see :func:`imbalance_lab.randomness.derive_seed`
    tries : permutations looked at, at most
    held_out : as ``counts``, of a group that lies in val or test, where its positions differ then

    Returns
    -------
    int64 array of shape (G,)

    Raises
    ------
    InputError
        If there are fewer than three groups.
    """
    counts = sparse.csr_array(counts)
    n_groups, n_classes = counts.shape
    if n_groups < 3:
        raise InputError(f"{n_groups} group(s) to split, at least 3 are needed: one each for train, val and test")
    rng = np.random.default_rng(derive_seed(seed, "split"))
    codes = np.unique(strata, return_inverse=True)[1].reshape(-1).astype(np.int64)
    demand = Demand.of(counts, held_out, len(fractions))
    if n_groups * max(1, n_classes) > _SMALL:
        part = deal(counts, codes, fractions, rng, demand.few)
    else:
        part = _best_permutation(codes, counts, fractions, demand, rng, tries)
    size = np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
    return mend(part, demand, codes, size, fractions)


def _best_permutation(
    codes: NDArray[np.int64],
    counts: sparse.csr_array,
    fractions: Sequence[float],
    demand: Demand,
    rng: np.random.Generator,
    tries: int,
) -> NDArray[np.int64]:
    n_groups = len(codes)
    pools = _pools(codes, fractions)
    weights = np.concatenate([np.ones((n_groups, 1)), counts.toarray()], axis=1).astype(np.float64)
    weights = weights[:, weights.sum(axis=0) > 0]
    total = weights.sum(axis=0)[:, None]
    first, others = (demand.side(p).toarray().astype(np.float64) for p in (0, 1))
    best, best_cost = np.zeros(n_groups, dtype=np.int64), (np.inf, np.inf)
    for _ in range(tries):
        part = np.empty(n_groups, dtype=np.int64)
        for rows, label in pools:
            part[rows] = rng.permutation(label)
        placed = np.eye(len(fractions))[part]
        held = placed.T @ others
        held[0] = placed[:, 0] @ first
        mass = weights.T @ placed / total
        cost = float(demand.faults(held.astype(np.int64))), float(np.abs(mass - np.asarray(fractions)).mean())
        if cost < best_cost:
            best, best_cost = part, cost
    return best


def _pools(codes: NDArray[np.int64], fractions: Sequence[float]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(groups of a stratum, the parts to deal out among them); strata below three groups are pooled."""
    sizes = np.bincount(codes)
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
    counts = class_counts(group, len(names), targets)
    part = assign_groups(strata_names[_most_frequent(group, stratum)], counts, fractions, seed)[group]
    return Splits(*(np.flatnonzero(part == i) for i in range(3)))


def _most_frequent(group: NDArray[np.int64], stratum: NDArray[np.int64]) -> NDArray[np.int64]:
    """The stratum of most rows of each group, the first of equals; int64 array of shape (G,)."""
    width = int(stratum.max()) + 1
    pairs, rows = np.unique(group * width + stratum, return_counts=True)
    order = np.lexsort((pairs, -rows, pairs // width))
    of = pairs[order] // width
    return pairs[order][np.append(True, of[1:] != of[:-1])] % width


def class_counts(
    group: NDArray[np.int64],
    n_groups: int,
    targets: Sequence[NDArray[np.int64]],
    widths: Sequence[int] | None = None,
) -> sparse.csr_array:
    """Scored positions of each class of each head in each group, sparse int64 array of shape (G, sum of K).

    ``widths`` are the numbers of classes of the heads, by default up to the largest that occurs.
    """
    columns = [sparse.csr_array((n_groups, 0), dtype=np.int64)]
    for head, target in enumerate(targets):
        scored = target >= 0
        rows, label = np.broadcast_to(group[:, None], target.shape)[scored], target[scored]
        shape = (n_groups, int(target.max(initial=-1)) + 1 if widths is None else widths[head])
        columns.append(sparse.csr_array((np.ones(len(rows), dtype=np.int64), (rows, label)), shape=shape))
    return sparse.csr_array(sparse.hstack(columns, format="csr"))
