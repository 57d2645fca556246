r"""How much the seeds of the trainings move a score: the variance that more recordings would not take away.

The runs of a grid are a two-way layout of strategies and seeds. Runs of one seed share their initial weights and the
order of the data, so the seed's common effect is taken out; what is left of each run is the noise of its training.

With two or three seeds the spread of one strategy says little: a t interval with one degree of freedom is thirteen
standard errors wide on either side. Strategies are trained alike, so their spreads are alike too, and without folds
each is drawn towards the common one as far as the strategies agree about it (moderated variance):

.. math:: \tilde s^2 = \frac{d_0 s_0^2 + d s^2}{d_0 + d}

with :math:`d_0` and :math:`s_0^2` fitted to the spreads of all strategies (an F distribution fitted by the moments of
log s^2). A strategy whose training is unstable keeps a large variance of its own.

Trainings that sometimes collapse have no normal noise. So a variance counts as no smaller than the mean of all, and its
degrees of freedom are the geometric mean of its own and Smyth's d_0 + d: with these, one of four equal strategies was
called different in .06 of the simulated grids with 2 to 5 seeds, with d_0 + d and no bound in .08 to .10 (docs/log.md,
"Four twins"). With folds there are K times as many trainings, and every strategy's own spread is taken.

References
----------
Smyth (2004), Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments: sections 4 and 6.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MIN_STRATEGIES = 3
"""With fewer spreads there is nothing to fit the common one to."""

_FLOOR = 1e-6  # a spread of exactly 0 counts as this share of the median one: its logarithm would rule the fit


@dataclass(frozen=True)
class Noise:
    """Variance of one run of each of P strategies for M statistics.

    Attributes
    ----------
    variance, df : arrays of shape (P, M); df is 0 where nothing is known (a single seed everywhere)
    most : degrees of freedom of all strategies together
    """

    variance: Array
    df: Array
    most: float


def run_noise(point: Array, runs: Sequence[NDArray[np.int64]], seeds: Sequence[NDArray[np.int64]]) -> Noise:
    """Noise of the trainings of P strategies.

    Parameters
    ----------
    point : array of shape (R, M), statistics of each run
    runs, seeds : of each strategy, indices into ``point`` and the numbers of their seeds

    Returns
    -------
    Noise
        The seed's common effect is taken out where all strategies that have several seeds have the same ones. A
        strategy with one seed takes the spread of the others.
    """
    variance, df, share = _spreads(point, runs, seeds)
    return _lent(variance, np.repeat(df[:, None], point.shape[1], axis=1), share, draw=True)


def fold_noise(
    shift: Array, fold: NDArray[np.int64], runs: Sequence[NDArray[np.int64]], seeds: Sequence[NDArray[np.int64]]
) -> Noise:
    r"""Noise of the trainings of P strategies, each trained once per seed and fold.

    A pooled score moves by the sum of what its trainings, one per fold, move it by; with a seed of their own they are
    independent. So the variance of one run is :math:`\sum_f s_f^2`, with the variance :math:`s_f^2` between seeds of
    the shifts that the clusters of fold f add up to. It has (S - 1) degrees of freedom for each of the folds that
    carry it: :math:`(\sum_f s_f^2)^2 / \sum_f s_f^4` of them (Satterthwaite), the s_f^2 taken as means over
    strategies.

    Parameters
    ----------
    shift : array of shape (G, R, M), see :func:`imbalance_lab.comparison.resampling.shifts`
    fold : int64 array of shape (G,), the fold of each cluster
    """
    m = shift.shape[2]
    folds = int(fold.max()) + 1
    within = np.zeros((folds, *shift.shape[1:]))
    np.add.at(within, fold, shift)
    by_fold, df, share = _spreads(_wide(within), runs, seeds)
    by_fold = by_fold.reshape(len(runs), folds, m)
    known = df > 0
    common = by_fold[known].mean(axis=0) if known.any() else np.zeros((folds, m))
    squares = (common**2).sum(axis=0)
    carrying = np.where(squares > 0, common.sum(axis=0) ** 2 / np.where(squares > 0, squares, 1.0), 1.0)
    return _lent(by_fold.sum(axis=1), df[:, None] * carrying, share, draw=False)


def _wide(shift: Array) -> Array:
    """(G, R, M) as (R, G M)."""
    return np.moveaxis(shift, 0, 1).reshape(shift.shape[1], -1)


def _spreads(
    point: Array, runs: Sequence[NDArray[np.int64]], seeds: Sequence[NDArray[np.int64]]
) -> tuple[Array, Array, float]:
    """Variance between the seeds of each strategy (P, M), its degrees of freedom (P,), and their share that is left.

    The common effect of a seed takes the rest of them, where it is taken out.
    """
    many = [i for i, own in enumerate(runs) if len(own) > 1]
    df, variance = np.zeros(len(runs)), np.zeros((len(runs), point.shape[1]))
    if not many:
        return variance, df, 1.0
    residual = {i: point[runs[i]] - point[runs[i]].mean(axis=0) for i in many}
    number = {i: np.sort(seeds[i]) for i in many}
    paired = len(many) > 1 and all(np.array_equal(number[many[0]], number[i]) for i in many)
    share = 1.0
    if paired:
        residual = {i: residual[i][np.argsort(seeds[i], kind="stable")] for i in many}
        common = np.mean(list(residual.values()), axis=0)
        residual = {i: r - common for i, r in residual.items()}
        share = (len(many) - 1) / len(many)
    for i, r in residual.items():
        df[i] = (len(r) - 1) * share
        variance[i] = (r**2).sum(axis=0) / df[i]
    return variance, df, share


def _lent(variance: Array, df: Array, share: float, *, draw: bool) -> Noise:
    """Variances (P, M) with degrees ``df`` (P, M), lent to strategies without; with ``draw`` towards the common one."""
    known = np.asarray((df > 0).any(axis=1))
    if not known.any():
        return Noise(np.zeros_like(variance), np.zeros_like(variance), 0.0)
    drawn, degrees = moderated(variance, df) if draw else (variance, df)
    if known.sum() < MIN_STRATEGIES:
        # Two strategies with the same seeds have one spread between them; one of several seeds lends it to the rest.
        degrees = np.repeat(df[known].min(axis=0, keepdims=True) / share, len(variance), axis=0)
    if known.sum() < MIN_STRATEGIES or not draw:
        drawn = np.where(known[:, None], drawn, drawn[known].mean(axis=0))
        degrees = np.where(known[:, None], degrees, degrees[known].min(axis=0))
    return Noise(drawn, degrees, float(df.sum(axis=0).max()))


def moderated(variance: Array, df: Array) -> tuple[Array, Array]:
    """Variances drawn towards their common value, and their degrees of freedom.

    Parameters
    ----------
    variance : array of shape (P, M), variances of P strategies for M statistics
    df : array of shape (P, M), degrees of freedom of each variance, 0 where a strategy has none

    Returns
    -------
    (P, M) variances and (P, M) degrees of freedom
        Variances of at least their mean, degrees of at most those of all strategies together. Where fewer than
        :data:`MIN_STRATEGIES` have a spread, those given. A strategy without a spread takes the common one.
    """
    out, degrees = variance.copy(), df.astype(np.float64)
    known = np.asarray((df > 0).any(axis=1))
    if known.sum() < MIN_STRATEGIES:
        return out, degrees
    for m in range(variance.shape[1]):
        own, d, every = variance[known, m], df[known, m].astype(np.float64), df[:, m]
        if not (own > 0).any() or not np.isfinite(own).all():
            continue
        prior, d0 = _fit(np.maximum(own, _FLOOR * np.median(own[own > 0])), d)
        most = d.sum()
        out[:, m] = np.where(
            known, (d0 * prior + every * variance[:, m]) / (d0 + every) if np.isfinite(d0) else prior, prior
        )
        out[:, m] = np.maximum(out[:, m], own.mean())
        least = np.where(known, every, d.min())
        degrees[:, m] = np.sqrt(least * np.minimum(d0 + every, most))
    return out, degrees


def _fit(variance: Array, df: Array) -> tuple[float, float]:
    """(s0^2, d0) of the common distribution of variances (n,) with ``df`` (n,); d0 is infinite where all agree."""
    from scipy.special import digamma, polygamma

    e = np.log(variance) - digamma(df / 2) + np.log(df / 2)
    mean = e.mean()
    excess = e.var(ddof=1) - polygamma(1, df / 2).mean()
    if excess <= 0:
        return float(np.exp(mean)), float("inf")
    d0 = 2.0 * _inverse_trigamma(excess)
    return float(np.exp(mean + digamma(d0 / 2) - np.log(d0 / 2))), d0


def _inverse_trigamma(y: float) -> float:
    """x with trigamma(x) = y > 0."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    return float(brentq(lambda x: float(polygamma(1, x)) - y, 1e-8, 1e8))
