"""Sequence weights that bring the expected token shares as close to a target as they can come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from imbalance_lab.errors import InputError
from imbalance_lab.strategies.losses.masking import IGNORE
from imbalance_lab.strategies.option_types import BalancingOptions, SamplerContext
from imbalance_lab.strategies.samplers.pools import Pools, PoolSampler, WeighableSampler
from imbalance_lab.strategies.search_space import OneOf

_ITERATIONS = 1000
_TOLERANCE = 1e-5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TokenBalance:
    """Solution of the token-balance problem over G distinct compositions.

    Attributes
    ----------
    sequence_share : float64 array of shape (G,), probability of drawing from each composition
    achievable : float64 array of shape (K,), the expected token shares that follow
    gap : upper bound of the distance to the optimum, in nats of KL(target, shares)
    divergence : KL(target, achievable) in nats
    """

    sequence_share: Floats
    achievable: Floats
    gap: float
    divergence: float


def capped(wish: Floats, limit: Floats) -> Floats:
    """The distribution min(limit, scale * wish), shape (G,), with the scale that makes it sum to 1.

    ``wish`` is positive, ``limit`` sums to at least 1.
    """
    order = np.argsort(limit / wish)  # entries reach their limit in this order as the scale grows
    before = np.concatenate([[0.0], np.cumsum(limit[order])[:-1]])
    left = np.cumsum(wish[order][::-1])[::-1]  # from the end: a difference of sums would lose the small ones
    scale = (1 - before) / left
    stays = np.flatnonzero(scale * wish[order] <= limit[order] * (1 + 1e-12))
    out = np.minimum(limit, (scale[stays[0]] if len(stays) else np.inf) * wish)
    return out / out.sum()


def _best_reward(pull: Floats, limit: Floats) -> float:
    """Largest mean of ``pull`` under any distribution within ``limit``."""
    order = np.argsort(-pull)
    before = np.concatenate([[0.0], np.cumsum(limit[order])[:-1]])
    return float((np.clip(1 - before, 0.0, limit[order]) * pull[order]).sum())


def solve_token_balance(
    compositions: NDArray[np.integer],
    multiplicity: NDArray[np.integer],
    target: Floats,
    max_repeats: float = np.inf,
) -> TokenBalance:
    """Minimise KL(target, token shares) over the probabilities of drawing each composition.

    With v_g the share of tokens that come from composition g, the shares are a mixture of
    the compositions' own shares, so this is the maximum likelihood of mixture proportions:
    convex, solved by expectation-maximisation, v_g <- v_g sum_c p_gc t_c / s_c, from the natural
    proportions. No v_g may exceed ``max_repeats`` times its natural value: the maximisation step
    then fills up to that limit (:func:`capped`). ``gap`` is the duality gap of the solution.

    Parameters
    ----------
    compositions : (G, K) tokens of each class in one sequence; every row holds at least one
    multiplicity : (G,) number of sequences of each composition
    target : (K,) sums to 1; classes that no composition holds must have target 0
    max_repeats : at least 1; without a limit the best weights may rest on a handful of sequences
    """
    lengths = compositions.sum(axis=1).astype(np.float64)
    p = compositions / lengths[:, None]  # (G, K)
    v = multiplicity * lengths
    v = v / v.sum()
    limit = np.minimum(v * max_repeats, 1.0)
    wanted = target > 0
    shares, gap = v @ p, np.inf
    for step in range(_ITERATIONS):
        pull = p[:, wanted] @ (target[wanted] / np.maximum(shares[wanted], 1e-300))  # (G,)
        if step % 10 == 0:
            gap = _best_reward(pull, limit) - float(v @ pull)
            if gap <= _TOLERANCE:
                break
        v = capped(np.maximum(v * pull, 1e-300), limit)
        shares = v @ p
    per_draw = v / lengths
    achieved = np.where(shares > 0, shares, 1.0)
    divergence = float((target[wanted] * np.log(target[wanted] / achieved[wanted])).sum())
    return TokenBalance(per_draw / per_draw.sum(), shares, gap, divergence)


def distinct_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First index of each distinct row, and each row's number among them: (G,) and (n,).

    By a 64-bit hash of the row, checked; sorting whole rows takes far longer.
    """
    key = np.random.default_rng(0).integers(1, 2**63, size=rows.shape[1], dtype=np.uint64) | np.uint64(1)
    hashed = (rows.astype(np.uint64) * key).sum(axis=1, dtype=np.uint64)
    _, first, inverse = np.unique(hashed, return_index=True, return_inverse=True)
    if not (rows[first[inverse]] == rows).all():
        _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, inverse


def sequence_class_counts(target: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Scored positions of each class in each sequence, (n, K), for targets (n, L)."""
    n = len(target)
    mask = target != IGNORE
    row = np.broadcast_to(np.arange(n)[:, None], target.shape)[mask]
    return np.bincount(row * n_classes + target[mask], minlength=n * n_classes).reshape(n, n_classes)


class TokenBalanced(BalancingOptions):
    """Sequence weights solved so that the expected token shares come closest to a target.

    What: minimises KL(target, expected shares) over sequence weights of at most `max_repeats` times the natural
    one; logs target, achievable shares (with and without that limit) and the number of sequences in play.
    When: sequences hold several classes, so that class-balanced drawing of sequences leaves tokens unbalanced.
    Suggested values: target uniform; "sqrt" is gentler; explicit shares as a mapping of class to share. max_repeats
    10: without a limit the optimum may rest on a handful of sequences, which the model then learns by heart.
    Cost: a small convex problem before training, over the distinct compositions of sequences.
    Source: this project.
    """

    target: Annotated[
        Literal["uniform", "sqrt"] | dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]],
        OneOf(("uniform", "sqrt")),
    ] = "uniform"
    max_repeats: Annotated[float, Field(ge=1), OneOf((3.0, 10.0, 30.0))] = 10.0
    head: str | None = None

    def prior_power(self) -> float | None:
        """Power of the prior that this sampler corrects for: known once the data are."""
        return None

    def shares(self, context: SamplerContext) -> Floats:
        """The target shares, (K,), 0 for classes without training examples.

        Raises
        ------
        InputError
            If a named class is not one of the head, or no named class has training examples.
        """
        n = context.counts.astype(np.float64)
        if isinstance(self.target, Mapping):
            if unknown := [c for c in self.target if c not in context.classes]:
                raise InputError(
                    f"{context.where}: share for unknown class {unknown[0]!r}; allowed: {', '.join(context.classes)}"
                )
            wish = np.array([self.target.get(c, 0.0) for c in context.classes])
        else:
            wish = n**0.5 if self.target == "sqrt" else np.ones_like(n)
        wish = np.where(n > 0, wish, 0.0)
        if wish.sum() <= 0:
            raise InputError(f"{context.where}: the target shares name no class with training examples")
        return wish / wish.sum()

    def bind(self, context: SamplerContext) -> WeighableSampler:
        """The sampler of one data set."""
        k = len(context.classes)
        counts = sequence_class_counts(context.target, k)
        first, inverse = distinct_rows(counts)
        pools = Pools.of(inverse, np.arange(len(inverse)), len(first))
        holds = counts[first].sum(axis=1) > 0
        target, size = self.shares(context), pools.sizes
        solved = solve_token_balance(counts[first][holds], size[holds], target, self.max_repeats)
        free = solve_token_balance(counts[first][holds], size[holds], target)
        p = np.zeros(len(first))
        p[holds] = solved.sequence_share
        named: dict[str, object] = {
            name: dict(zip(context.classes, shares.tolist(), strict=True))
            for name, shares in (
                ("target", target),
                ("achievable", solved.achievable),
                ("without_limit", free.achievable),
            )
        }
        effective = 1 / float((p[holds] ** 2 / size[holds]).sum())
        facts = {**named, "gap_nats": solved.gap, "effective_sequences": effective, "sequences": len(inverse)}
        return PoolSampler(pools, lambda progress: p, len(inverse), facts)
