"""Intervals, corrections for several looks, and resampling of recordings: thin over scipy and statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CONFIDENCE = 0.95

Floats = NDArray[np.float64]


def wilson(successes: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson score interval of proportions, without continuity correction.

    Parameters
    ----------
    successes, n : array-like, broadcast together
    confidence : coverage of the interval

    Returns
    -------
    low, high : float64 arrays of the broadcast shape; NaN where ``n`` is 0

    References
    ----------
    Wilson (1927), Probable inference; computed by ``statsmodels.stats.proportion.proportion_confint``.
    """
    from statsmodels.stats.proportion import proportion_confint

    k, m = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    low, high = np.full(k.shape, np.nan), np.full(k.shape, np.nan)
    some = m > 0
    if some.any():
        low[some], high[some] = proportion_confint(k[some], m[some], alpha=1 - confidence, method="wilson")
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values in the order given; NaN stays NaN and is not counted."""
    return _adjusted(p, "holm")


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Benjamini-Hochberg adjusted p-values (false discovery rate); NaN stays NaN and is not counted."""
    return _adjusted(p, "fdr_bh")


def _adjusted(p: ArrayLike, method: str) -> Floats:
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p, dtype=np.float64)
    out = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    if known.any():
        out[known] = multipletests(values[known], method=method)[1]
    return out


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact McNemar p-value from the two discordant counts (binomial test at 1/2); 1 if both are 0."""
    from scipy.stats import binomtest

    return float(binomtest(min(b, c), b + c, 0.5).pvalue) if b + c else 1.0


def wilcoxon(x: ArrayLike, y: ArrayLike, **options: Any) -> tuple[float, float]:
    """Wilcoxon signed rank test on ``x - y``: (statistic, p); options go to :func:`scipy.stats.wilcoxon`."""
    from scipy.stats import wilcoxon as scipy_wilcoxon

    result = scipy_wilcoxon(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), **options)
    return float(result.statistic), float(result.pvalue)


def cluster_bootstrap_weights(n_groups: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each group is drawn in each resample, shape (resamples, n_groups); rows sum to n_groups."""
    return rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=resamples)


def percentile_tail(confidence: float, n_groups: int | None = None) -> float:
    """Share of resamples beyond each end of a percentile interval; smaller with few groups, as there."""
    from scipy.special import ndtr, stdtrit

    tail = (1 - confidence) / 2
    if n_groups is None or n_groups < 2:
        return tail
    return float(ndtr(np.sqrt(n_groups / (n_groups - 1)) * stdtrit(n_groups - 1, tail)))


def percentile_interval(samples: ArrayLike, axis: int = 0, n_groups: int | None = None) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval along ``axis``; NaN samples (a class that was not drawn) are left out.

    With ``n_groups`` the percentiles are widened for a small number of groups: the nominal
    quantile z of the normal becomes that of Student's t with n_groups - 1 degrees of freedom
    times sqrt(n_groups / (n_groups - 1)).

    References
    ----------
    Hesterberg (2015), What Teachers Should Know about the Bootstrap, "expanded percentile interval".
    """
    values = np.asarray(samples, dtype=np.float64)
    tail = percentile_tail(_CONFIDENCE, n_groups)
    moved = np.moveaxis(values, axis, -1)
    # Sorted along contiguous memory (NaN last), the quantiles cost a third of what they do along the first axis.
    flat = np.sort(moved.reshape(-1, moved.shape[-1]), axis=1)
    out = np.full((2, len(flat)), np.nan)
    whole = ~np.isnan(flat[:, -1])
    partly = ~whole & ~np.isnan(flat[:, 0])
    for chosen, quantile in ((whole, np.quantile), (partly, np.nanquantile)):
        if chosen.any():
            out[:, chosen] = quantile(flat[chosen], [tail, 1 - tail], axis=1)
    low, high = out.reshape(2, *moved.shape[:-1])
    return low, high
