"""Deal groups out to parts so that every class is where it can be: rarest class first, then exchanges.

:func:`deal` is iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011) with all groups of a
class dealt out at once; :func:`mend` exchanges groups until no exchange brings a class to where it
is missing. Both work on sparse counts and for any number of parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[np.int64]
_PAIRS = 2_000_000  # classes x pairs of groups looked at for one missing class
_MOST = 200  # groups looked at on each side of an exchange
_LEAST_LEFT = 0.5  # of its due size, what a part keeps when groups are taken from it without exchange


def allot(n: int, fractions: Sequence[float], owed: NDArray[np.float64] | None = None) -> Ints:
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


@dataclass(frozen=True)
class Demand:
    """Which groups hold which classes, and where a class has to be.

    Attributes
    ----------
    first, others : sparse int64 arrays of shape (G, K), 1 where a group holds a class if it lies in
        part 0, or in another part (windows of held-out recordings can be cut differently)
    required : bool array of shape (P, K), the parts in which a class has to be
    few : bool array of shape (K,), classes of fewer groups than parts: all of them belong in part 0
    """

    first: sparse.csr_array
    others: sparse.csr_array
    required: NDArray[np.bool_]
    few: NDArray[np.bool_]

    @classmethod
    def of(
        cls, counts: sparse.csr_array, held_out: sparse.csr_array | None, parts: int, least: int | None = None
    ) -> Demand:
        """The demand of classes with ``counts`` (and ``held_out`` outside of part 0), both (G, K).

        A class of ``least`` groups (default: one for each part) has to be in every part.
        """
        least = parts if least is None else least
        first = _ones(counts)
        others = first if held_out is None else _ones(held_out)
        groups, outside = (_column_sums(m) for m in (first, others))
        required = np.tile((groups >= least) & (outside >= parts - 1), (parts, 1))
        required[0] = groups >= least
        return cls(first, others, required, (groups > 0) & (groups < least))

    @classmethod
    def spread(cls, counts: sparse.csr_array, parts: int) -> Demand:
        """The demand that a class lies in as many parts as it has groups; one group cannot be divided."""
        held = _ones(counts)
        groups = _column_sums(held)
        return cls(held, held, np.tile(groups >= 2, (parts, 1)), np.zeros(len(groups), dtype=bool))

    def held(self, part: Ints) -> Ints:
        """Groups of each part that hold each class, int64 array of shape (P, K)."""
        parts = len(self.required)
        return np.stack([_column_sums(self.side(p)[part == p]) for p in range(parts)])

    def side(self, p: int) -> sparse.csr_array:
        """What the groups hold if they lie in part ``p``, sparse array of shape (G, K)."""
        return self.first if p == 0 else self.others

    @cached_property
    def groups(self) -> Ints:
        """Groups that hold each class, int64 array of shape (K,)."""
        return _column_sums(self.first)

    def faults(self, held: Ints) -> int:
        """Classes missing where they have to be, and groups of classes with few that lie outside of part 0."""
        return int((self.required & (held == 0)).sum() + (self.groups - held[0])[self.few].sum())


def _ones(counts: sparse.csr_array) -> sparse.csr_array:
    found = (counts > 0).astype(np.int64)
    return sparse.csr_array(found)


def _column_sums(matrix: sparse.csr_array) -> Ints:
    return np.bincount(matrix.indices, weights=matrix.data, minlength=matrix.shape[1]).astype(np.int64)


def deal(
    counts: sparse.csr_array,
    strata: Ints,
    fractions: Sequence[float],
    rng: np.random.Generator,
    few: NDArray[np.bool_] | None = None,
) -> Ints:
    """Part of each group: the class with the fewest groups left is dealt out first, to the parts that lack it most.

    Parameters
    ----------
    counts : sparse array of shape (G, K), positions of each class in each group
    strata : int64 array of shape (G,); each is dealt out like a class
    fractions : shares of the P parts
    few : bool array of shape (K,), classes whose groups go to part 0 first

    Returns
    -------
    int64 array of shape (G,)

    Notes
    -----
    Within a class the parts follow each other evenly through its groups in the order of stratum and
    size, so that each part gets groups of each stratum and size. Ties are drawn from ``rng``.
    """
    n_groups, n_parts = counts.shape[0], len(fractions)
    part = np.full(n_groups, -1, dtype=np.int64)
    in_stratum = sparse.csr_array((np.ones(n_groups, dtype=np.int64), (np.arange(n_groups), strata)))
    everything = sparse.csr_array(np.ones((n_groups, 1), dtype=np.int64))
    table = sparse.csr_array(sparse.hstack([counts, in_stratum, everything], format="csr"))
    holds, by_class = _ones(table), sparse.csc_array(table)
    total = _column_sums(holds)
    size = np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
    draw = rng.permutation(n_groups)
    have = np.zeros((n_parts, len(total)), dtype=np.int64)

    def give(rows: Ints, to: Ints) -> None:
        part[rows] = to
        for p in range(n_parts):
            have[p] += _column_sums(holds[rows[to == p]])

    if few is not None and few.any():
        rows = _first_rows(holds, total, few, draw)[: _capacity(n_groups, fractions)]
        give(rows, np.zeros(len(rows), dtype=np.int64))
    left = total - have.sum(axis=0)
    open_ = total >= n_parts
    while open_.any():
        c = int(np.where(open_, left, np.iinfo(np.int64).max).argmin())
        open_[c] = False
        rows = by_class.indices[by_class.indptr[c] : by_class.indptr[c + 1]]
        rows = rows[part[rows] < 0].astype(np.int64)
        if not len(rows):
            continue
        owed = have[:, -1].sum() * np.asarray(fractions) - have[:, -1]
        due = allot(int(total[c]), fractions, owed)
        quotas = _quotas(len(rows), due - have[:, c], have[:, c] == 0)
        order = np.lexsort((draw[rows], -size[rows], strata[rows]))
        give(rows[order], _spread(quotas))
        left = total - have.sum(axis=0)
    return np.where(part < 0, 0, part)


def _first_rows(holds: sparse.csr_array, total: Ints, few: NDArray[np.bool_], draw: Ints) -> Ints:
    """Groups that hold a class of few groups, those of the rarest class first."""
    least = np.full(holds.shape[0], np.iinfo(np.int64).max)
    columns = holds.indices
    rare = np.append(few, np.zeros(holds.shape[1] - len(few), dtype=bool))[columns]
    rows = np.repeat(np.arange(holds.shape[0]), np.diff(holds.indptr))[rare]
    np.minimum.at(least, rows, total[columns[rare]])
    found = np.unique(rows)
    return found[np.lexsort((draw[found], least[found]))]


def _capacity(n_groups: int, fractions: Sequence[float]) -> int:
    """Groups that part 0 can take while every other part keeps half of what is due to it, and one at least."""
    return n_groups - int(sum(max(1, np.ceil(_LEAST_LEFT * f * n_groups)) for f in fractions[1:]))


def _quotas(n: int, lacking: Ints, without: NDArray[np.bool_]) -> Ints:
    """n groups shared out in proportion to what the parts lack, one at least to each part ``without`` any."""
    want = np.maximum(lacking, 0)
    exact = n * want / max(int(want.sum()), 1)
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    quotas[without & (quotas == 0) & (want > 0)] = 1
    while quotas.sum() > n:
        quotas[(quotas - exact + (quotas > 1) * len(quotas)).argmax()] -= 1
    while quotas.sum() < n:
        quotas[(exact - quotas).argmax()] += 1
    return quotas


def _spread(quotas: Ints) -> Ints:
    """Parts in an order in which each comes evenly, int64 array of shape (sum of quotas,)."""
    parts = np.repeat(np.arange(len(quotas)), quotas)
    place = np.concatenate([(np.arange(q) + 0.5) / max(q, 1) for q in quotas.tolist()])
    return parts[np.argsort(place, kind="stable")]


def mend(part: Ints, demand: Demand, strata: Ints, size: Ints, fractions: Sequence[float]) -> Ints:
    """Exchange groups until no exchange of two lowers the number of faults; see :meth:`Demand.faults`.

    Groups of one stratum change places where that helps, of any strata otherwise. A group of a class
    with few goes to part 0 without exchange where none helps, while its own part keeps half of its size.

    Parameters
    ----------
    part : int64 array of shape (G,), what to start from; not changed
    strata, size : int64 arrays of shape (G,); of equally good partners the one most like in size is taken
    """
    part = part.copy()
    held = demand.held(part)
    most = min(_MOST, max(8, int(np.sqrt(_PAIRS / max(1, demand.first.shape[1])))))
    by_class = (sparse.csc_array(demand.first), sparse.csc_array(demand.others))
    mended = True
    while mended and demand.faults(held):
        mended = False
        for p, c in _faulty(demand, held):
            if demand.required[p, c] and held[p, c]:
                continue  # an earlier exchange has brought it
            column = by_class[min(p, 1)]
            able = column.indices[column.indptr[c] : column.indptr[c + 1]].astype(np.int64)
            able = able[part[able] != p][:most]
            moved = _exchange(part, demand, held, able, p, strata, size, most)
            if not moved and demand.few[c]:
                moved = _move(part, able, fractions)
            if moved:
                held, mended = demand.held(part), True
    return part


def _faulty(demand: Demand, held: Ints) -> list[tuple[int, int]]:
    """(part, class) of every fault, the rarest class first."""
    groups = demand.groups
    lacking = demand.required & (held == 0)
    if demand.first is demand.others:  # each group of a class in a part of its own: no exchange brings it to more
        lacking &= held.max(axis=0) > 1
    lacking[0] |= demand.few & (held[0] < groups)
    p, c = np.nonzero(lacking)
    order = np.lexsort((p, c, groups[c]))
    return list(zip(p[order].tolist(), c[order].tolist(), strict=True))


def _exchange(part: Ints, demand: Demand, held: Ints, able: Ints, p: int, strata: Ints, size: Ints, most: int) -> bool:
    """Exchange one of ``able`` with a group of part ``p`` if the faults grow fewer; whether it was done."""
    now = demand.faults(held)
    for alike in (True, False):
        for g in able.tolist():
            q = int(part[g])
            mine = np.flatnonzero((part == p) & (strata == strata[g]) if alike else part == p)
            mine = mine[np.lexsort((mine, np.abs(size[mine] - size[g])))][:most]
            if not len(mine):
                continue
            after = faults_after(demand, held, g, mine, p, q)
            best = int(after.argmin())  # the first of equals is the most alike in size
            if after[best] < now:
                part[g], part[mine[best]] = p, q
                return True
    return False


def faults_after(demand: Demand, held: Ints, g: int, mine: Ints, p: int, q: int) -> Ints:
    """Faults if group g of part q changed places with each of ``mine`` of part p, shape (len(mine),)."""
    after = np.zeros(len(mine), dtype=np.int64)
    for side, sign in ((p, 1), (q, -1)):
        matrix = demand.side(side)
        change = sign * (matrix[[g]].toarray() - matrix[mine].toarray())
        counts = held[side] + change
        after += ((counts == 0) & demand.required[side]).sum(axis=1)
        if side == 0:
            after += (demand.groups - counts)[:, demand.few].sum(axis=1)
    for side in range(len(held)):
        if side not in (p, q):
            after += int(((held[side] == 0) & demand.required[side]).sum())
            if side == 0:
                after += int((demand.groups - held[0])[demand.few].sum())
    return after


def _move(part: Ints, able: Ints, fractions: Sequence[float]) -> bool:
    """Take the first of ``able`` into part 0 whose part can spare it; whether it was done."""
    for g in able.tolist():
        q = int(part[g])
        if (part == q).sum() - 1 >= max(1, np.ceil(_LEAST_LEFT * fractions[q] * len(part))):
            part[g] = 0
            return True
    return False
