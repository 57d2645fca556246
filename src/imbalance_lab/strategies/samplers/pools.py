"""Drawing sequences by pools: the machinery under every sampler.

Every weighted sampler draws a *pool* first (a class, a rarest class, a composition), then an
index within the pool: two integers from a generator, exact for 10^8 sequences. A
multinomial over samples stops at 2^24 categories and loses digits long before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbalance_lab.lazy import torch
from imbalance_lab.strategies.base import Sampler
from imbalance_lab.strategies.losses.masking import IGNORE

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pools:
    """G pools of entries; pool g holds entries ``offsets[g] .. offsets[g + 1] - 1``.

    ``order`` maps an entry to its sequence, int32 or int64 of shape (entries,); None means that
    entry and sequence are the same number (data sorted by pool).
    """

    offsets: Tensor
    order: Tensor | None = None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Entries of each pool, int64, shape (G,)."""
        return np.diff(self.offsets.numpy())

    @classmethod
    def of(cls, pool: NDArray[np.integer], sequence: NDArray[np.integer], n_pools: int) -> Pools:
        """Pools of entries with the given pool numbers (0 .. n_pools - 1) and sequences, each (entries,)."""
        offsets = np.concatenate([[0], np.cumsum(np.bincount(pool, minlength=n_pools))]).astype(np.int64)
        small = np.int32 if not len(sequence) or sequence.max() < 2**31 else np.int64
        # a stable sort of small integers is a radix sort: linear in the entries
        key = pool.astype(np.int16) if n_pools < 2**15 else pool
        order = sequence.astype(small)[np.argsort(key, kind="stable")]
        return cls(torch.as_tensor(offsets), torch.as_tensor(order))


def draw_from_pools(pools: Pools, probabilities: ArrayLike, size: int, generator: torch.Generator) -> Tensor:
    """``size`` sequences, int64: a pool by ``probabilities`` (G,), then an entry of it, uniform.

    Empty pools must have probability 0.
    """
    device = generator.device
    p = torch.as_tensor(np.asarray(probabilities, dtype=np.float64), device=device)
    edges = p.cumsum(0)
    last = int(np.flatnonzero(np.asarray(probabilities))[-1])
    uniform = torch.rand(size, generator=generator, device=device, dtype=torch.float64) * edges[-1]
    pool = torch.searchsorted(edges, uniform, right=True).clamp(max=last)
    offsets = pools.offsets.to(device)
    # 62 random bits modulo a pool of at most 2^31 entries: the bias is below 2^-31
    bits = torch.randint(0, 2**62, (size,), generator=generator, device=device)
    entry = offsets[pool] + bits % (offsets[pool + 1] - offsets[pool])
    return entry if pools.order is None else pools.order.to(device)[entry].long()


class WeighableSampler(Sampler, Protocol):
    """A sampler that can say how likely it draws each sequence."""

    @property
    def facts(self) -> Mapping[str, object]:
        """What is worth logging about it, as plain values."""
        ...

    def sequence_probabilities(self, progress: float) -> Floats:
        """Probability of each training sequence in one draw, shape (n_train,)."""
        ...


@dataclass(frozen=True)
class NaturalSampler:
    """Every sequence once per epoch, in a new order."""

    n: int

    @property
    def facts(self) -> Mapping[str, object]:
        """Nothing to log."""
        return {}

    def draw(self, size: int, generator: torch.Generator, progress: float) -> Tensor:
        """The first ``size`` of as many permutations as it takes."""
        rounds = [
            torch.randperm(self.n, generator=generator, device=generator.device) for _ in range(-(-size // self.n))
        ]
        return torch.cat(rounds)[:size]

    def sequence_probabilities(self, progress: float) -> Floats:
        """1 / n for every sequence."""
        return np.full(self.n, 1.0 / self.n)


@dataclass(frozen=True)
class PoolSampler:
    """A pool by probabilities that may change with the progress, then a uniform entry of it; ``facts`` for the log."""

    pools: Pools
    probabilities: Callable[[float], Floats]
    n: int
    facts: Mapping[str, object] = field(default_factory=dict)

    def draw(self, size: int, generator: torch.Generator, progress: float) -> Tensor:
        """``size`` sequences with replacement."""
        return draw_from_pools(self.pools, self.probabilities(progress), size, generator)

    def sequence_probabilities(self, progress: float) -> Floats:
        """Sum over a sequence's entries of P(pool) / size of the pool."""
        sizes = self.pools.sizes
        per_entry = np.divide(self.probabilities(progress), sizes, out=np.zeros(len(sizes)), where=sizes > 0)
        weight: Floats = np.repeat(per_entry, sizes)
        if self.pools.order is None:
            return weight
        return np.bincount(self.pools.order.numpy(), weight, self.n).astype(np.float64, copy=False)


def position_pools(target: NDArray[np.int64], n_classes: int) -> Pools:
    """One pool per class; its entries are the scored positions of that class. ``target`` (n, L)."""
    flat = target.reshape(-1)
    places = np.flatnonzero(flat != IGNORE)
    return Pools.of(flat[places], places // target.shape[1], n_classes)


def expected_shares(target: NDArray[np.int64], n_classes: int, sequence_probabilities: Floats) -> Floats:
    """Expected share of each class among the scored positions of drawn sequences, shape (K,).

    ``target`` (n, L), ``sequence_probabilities`` (n,). All 0 where nothing is scored.
    """
    mask = target != IGNORE
    weight = np.broadcast_to(sequence_probabilities[:, None], target.shape)[mask]
    total = np.bincount(target[mask], weight, n_classes)
    return total / max(total.sum(), np.finfo(np.float64).tiny)


def rarest_class(target: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rarest class of each sequence by ``counts`` (K,), shape (n,); K where nothing is scored."""
    order = np.argsort(counts, kind="stable")
    rank = np.empty(len(counts) + 1, dtype=np.int64)
    rank[order] = np.arange(len(counts))
    rank[-1] = len(counts)
    best = rank[np.where(target == IGNORE, len(counts), target)].min(axis=1)
    return np.append(order, len(counts))[best]
