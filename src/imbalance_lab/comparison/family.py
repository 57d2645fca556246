r"""Verdict, p and interval of a family of differences, by one procedure: studentised max-t, step-down.

All strategies are held against the same baseline on the same recordings, so their differences are correlated, and a
correction that knows how (the joint distribution of the studentised differences) loses less than one that must fear
the worst (Holm). The null distribution of :math:`T_m = (\hat d_m - d_m) / \hat s_m` is a multivariate t: normal draws
with the correlation that the joint bootstrap over recordings and the common seeds of the baseline give, each divided
by the root of a chi-square with that difference's degrees of freedom. The raw quantiles of the bootstrap would not
do: with a dozen recordings they know no t distribution (``benchmarks/comparison.py``).

Step-down: the largest :math:`|T|` is held against the largest of all, the next against the largest of the rest, and
so on until one is not rejected; those below it share its critical value. The interval of a difference is
:math:`\hat d \pm c\,\hat s` with the critical value that decided about it. So it holds 0 exactly where the verdict
cannot tell, and the chance of calling any of the family's equal strategies different is at most :math:`\alpha`. (All
intervals together cover with less than 95 % once a strategy is rejected; each one alone covers with at least 95 %.)

References
----------
Westfall & Young (1993), Resampling-based multiple testing. Romano & Wolf (2005), Exact and approximate stepdown
methods for multiple hypothesis testing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SEEN = 50  # draws beyond a quantile without which it is a guess: Bonferroni's then, exact enough so far out

DRAWS = 10_000
"""Draws of the null distribution: the critical value of a 5 % test then varies by about 1 %."""


@dataclass(frozen=True)
class Decided:
    """What the procedure says of each of P differences; arrays of shape (P,).

    ``critical`` is the value that |difference / se| was held against; ``p`` is corrected for the family.
    """

    critical: Array
    p: Array


def step_down(t: Array, df: Array, correlation: Array, alpha: float = 0.05, draws: int = DRAWS) -> Decided:
    """Critical values and corrected p of studentised differences.

    Parameters
    ----------
    t : array of shape (P,), difference / standard error; NaN where there is none (it takes no part)
    df : array of shape (P,), degrees of freedom of each standard error
    correlation : array of shape (P, P) of the differences
    alpha : family-wise error

    Returns
    -------
    Decided
        NaN where ``t`` is NaN.
    """
    from scipy.stats import t as student

    critical, p = np.full(len(t), np.nan), np.full(len(t), np.nan)
    at = np.flatnonzero(~np.isnan(t))
    if not at.size:
        return Decided(critical, p)
    null = np.abs(_null(df[at], correlation[np.ix_(at, at)], draws))
    size = np.abs(t[at])
    alone = 2.0 * student.sf(size, df[at])
    order = np.argsort(-size, kind="stable")
    # the largest of each set of what is left, from the smallest set to the whole
    largest = np.maximum.accumulate(null[:, order[::-1]], axis=1)[:, ::-1]
    quantile = -np.sort(-largest, axis=0)[int(alpha * draws)]  # |t| is above it where at most alpha draws reach |t|
    p_before, held = 0.0, np.nan
    for rank, i in enumerate(order):
        left = len(order) - rank
        # No less than for one comparison alone, no more than Bonferroni's: the draws are too few to see far tails.
        least, most = student.ppf([1 - alpha / 2, 1 - alpha / (2 * left)], df[at[i]])
        c = np.clip(quantile[rank], least, most) if alpha * draws >= _SEEN else most
        p_drawn = (largest[:, rank] >= size[i]).mean()
        p_before = max(p_before, float(np.clip(p_drawn, alone[i], min(1.0, alone[i] * left))))
        if np.isnan(held) and not size[i] > c:
            held = c
        critical[at[i]] = c if np.isnan(held) else held
        p[at[i]] = p_before
    return Decided(critical, p)


def _null(df: Array, correlation: Array, draws: int) -> Array:
    """Draws of the studentised differences where all are equal, shape (draws, P)."""
    rng = np.random.default_rng(0)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    normal = rng.standard_normal((draws, len(df))) @ root.T
    # One uniform for all: the standard errors share the baseline's runs and the recordings, and rise together.
    return np.asarray(normal / np.sqrt(chi_square_scale(rng.random(draws), df)))


_NODES = (80, 64)
"""Of the normal score and of log df: a relative error below 1e-11 for df from 1/4 to 1,000 (the tests hold it)."""
_FEW = 4  # columns that are as fast without interpolation


def chi_square_scale(u: Array, df: Array) -> Array:
    """Quantiles ``u`` (B,) of chi-square with ``df`` (P,) degrees of freedom, each over its df; shape (B, P).

    The inverse of the incomplete gamma function takes half a microsecond, and a family asks for a million values of
    it. Its logarithm is smooth in the normal score of u and in log df, so it is interpolated between Chebyshev nodes.
    """
    from numpy.polynomial.chebyshev import chebpts1, chebvander
    from scipy.special import gammaincinv, ndtr, ndtri

    if len(df) <= _FEW:
        return np.asarray(2.0 * gammaincinv(df / 2.0, u[:, None]) / df)
    grid, matrices, ends = [], [], []
    for values, nodes in zip((ndtri(u), np.log(df)), _NODES, strict=True):
        low, high = values.min() - 0.01, values.max() + 0.01
        grid.append((low + high) / 2 + (high - low) / 2 * chebpts1(nodes))
        ends.append(chebvander((2 * values - low - high) / (high - low), nodes - 1))
        matrix = chebvander(chebpts1(nodes), nodes - 1).T * (2.0 / nodes)  # values at the nodes to coefficients
        matrix[0] /= 2.0
        matrices.append(matrix)
    at, d = ndtr(grid[0])[:, None], np.exp(grid[1])
    coefficients = matrices[0] @ np.log(2.0 * gammaincinv(d / 2.0, at) / d) @ matrices[1].T
    return np.asarray(np.exp(ends[0] @ coefficients @ ends[1].T))
