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

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

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
    """Part (0 train, 1 val, 2 test) of each group; with two fractions train and val alone.

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
    if n_groups < len(fractions):
        names = "train, val and test" if len(fractions) == 3 else "train and val"
        raise InputError(f"{n_groups} group(s) to split, at least {len(fractions)} are needed: one each for {names}")
    rng = np.random.default_rng(derive_seed(seed, "split"))
    codes = np.unique(strata, return_inverse=True)[1].reshape(-1).astype(np.int64)
    demand = Demand.of(counts, held_out, len(fractions))
    if n_groups * max(1, n_classes) > _SMALL:
        part = deal(counts, codes, fractions, rng, demand.few)
    else:
        pools = _pools(codes, fractions)
        part = _best((_permuted(pools, n_groups, rng) for _ in range(tries)), counts, fractions, demand)
    size = np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
    return mend(part, demand, codes, size, fractions)


def assign_folds(
    strata: NDArray[np.str_],
    counts: NDArray[np.int64] | sparse.csr_array,
    folds: int,
    seed: int,
) -> NDArray[np.int64]:
    """The fold (0 ... folds - 1) that tests each group, int64 array of shape (G,); see :func:`assign_groups`.

    A class lies in as many folds as it can: in all of them, or each of its groups in one of its own.
    Folds differ by at most one group.
    """
    counts = sparse.csr_array(counts)
    n_groups, n_classes = counts.shape
    rng = np.random.default_rng(derive_seed(seed, "folds"))
    codes = np.unique(strata, return_inverse=True)[1].reshape(-1).astype(np.int64)
    fractions = [1 / folds] * folds
    demand = Demand.spread(counts, folds)
    if n_groups * max(1, n_classes) > _SMALL:
        part = _levelled(deal(counts, codes, fractions, rng), folds)
    else:
        part = _best((_dealt_in_turn(codes, folds, rng) for _ in range(TRIES)), counts, fractions, demand)
    size = np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
    return mend(part, demand, codes, size, fractions)


def _dealt_in_turn(codes: NDArray[np.int64], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Each stratum, in a drawn order, goes to the folds in turn."""
    order = np.lexsort((rng.permutation(len(codes)), rng.permutation(codes.max() + 1)[codes]))
    part = np.empty(len(codes), dtype=np.int64)
    part[order] = rng.permutation(folds)[np.arange(len(codes)) % folds]
    return part


def _levelled(part: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """``part`` with the surplus of large folds given to small ones, so that sizes differ by one at most."""
    part, sizes = part.copy(), np.bincount(part, minlength=folds)
    due = np.full(folds, len(part) // folds)
    due[np.argsort(-sizes, kind="stable")[: len(part) % folds]] += 1
    surplus = [np.flatnonzero(part == k)[due[k] :] for k in range(folds)]
    part[np.concatenate(surplus)] = np.repeat(np.arange(folds), np.maximum(due - sizes, 0))
    return part


def _permuted(
    pools: list[tuple[NDArray[np.int64], NDArray[np.int64]]], n_groups: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    part = np.empty(n_groups, dtype=np.int64)
    for rows, label in pools:
        part[rows] = rng.permutation(label)
    return part


def _best(
    candidates: Iterable[NDArray[np.int64]],
    counts: sparse.csr_array,
    fractions: Sequence[float],
    demand: Demand,
) -> NDArray[np.int64]:
    """The candidate of the fewest faults, and of those the one whose shares of every class are closest."""
    n_groups = counts.shape[0]
    weights = np.concatenate([np.ones((n_groups, 1)), counts.toarray()], axis=1).astype(np.float64)
    weights = weights[:, weights.sum(axis=0) > 0]
    total = weights.sum(axis=0)[:, None]
    first, others = (demand.side(p).toarray().astype(np.float64) for p in (0, 1))
    best, best_cost = np.zeros(n_groups, dtype=np.int64), (np.inf, np.inf)
    for part in candidates:
        placed = np.eye(len(fractions))[part]
        held = placed.T @ others
        held[0] = placed[:, 0] @ first
        mass = weights.T @ placed / total
        cost = float(demand.faults(held.astype(np.int64))), float(np.abs(mass - np.asarray(fractions)).mean())
        if cost < best_cost:
            best, best_cost = part, cost
    return best


def _pools(codes: NDArray[np.int64], fractions: Sequence[float]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(groups of a stratum, the parts to deal out among them); strata of fewer groups than parts are pooled."""
    sizes, least = np.bincount(codes), len(fractions)
    pools = [np.flatnonzero(codes == i) for i in np.flatnonzero(sizes >= least)]
    rest = np.flatnonzero((sizes < least)[codes])
    if rest.size:
        pools.append(rest)
    out, owed = [], np.zeros(len(fractions))
    for rows in pools:
        parts = allot(len(rows), fractions, owed)
        owed += len(rows) * np.asarray(fractions) - parts
        out.append((rows, np.repeat(np.arange(len(fractions)), parts)))
    return out


def group_strata(group: NDArray[np.int64], strata: NDArray[np.str_]) -> NDArray[np.str_]:
    """The stratum of most rows of each group, str array of shape (G,); ``group`` and ``strata`` have shape (n,)."""
    names, stratum = np.unique(strata, return_inverse=True)
    return names[_most_frequent(group, stratum)]


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

    ``targets`` have shape (n,) or (n, L); ``widths`` are the numbers of classes of the heads, by default up to the
    largest that occurs.
    """
    columns = [sparse.csr_array((n_groups, 0), dtype=np.int64)]
    for head, target in enumerate(targets):
        scored = target >= 0
        rows, label = np.broadcast_to(group, target.T.shape).T[scored], target[scored]
        shape = (n_groups, int(target.max(initial=-1)) + 1 if widths is None else widths[head])
        columns.append(sparse.csr_array((np.ones(len(rows), dtype=np.int64), (rows, label)), shape=shape))
    return sparse.csr_array(sparse.hstack(columns, format="csr"))
