"""Intervals of rates that respect recordings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST_GROUPS = 2000  # above, the bootstrap's normal limit is as good and a thousand times cheaper


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """Wilson score interval (95 %) of one proportion (Wilson 1927); (0, 1) where n is 0."""
    from imbalance_lab.metrics.intervals import wilson

    if n == 0:
        return 0.0, 1.0
    low, high = wilson(successes, n)
    return float(low), float(high)


def rate_interval(hits: NDArray[np.int64], totals: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """95 % interval of ``hits.sum() / totals.sum()``, with recordings as the unit of evidence.

    Parameters
    ----------
    hits, totals : int64 arrays of shape (n_groups,)
        Positions counted per recording, and their denominators.

    Notes
    -----
    Wilson where every recording has one position or there is one recording only; otherwise the
    percentile cluster bootstrap (1000 resamples), and beyond 2000 recordings the linearised
    ratio estimator's normal interval (Cochran 1977, 6.3), its large-sample limit. A bootstrap
    of a rate of 0 or 1 is a point: Wilson with recordings as n is given then.
    """
    used = totals > 0
    hits, totals = hits[used], totals[used]
    n = int(totals.sum())
    if n == 0:
        return 0.0, 1.0
    rate = hits.sum() / n
    if len(totals) < 2 or totals.max() == 1:
        return wilson_interval(float(hits.sum()), n)
    if rate in (0.0, 1.0):
        return wilson_interval(rate * len(totals), len(totals))
    if len(totals) > _MOST_GROUPS:
        residual = hits - rate * totals
        se = np.sqrt((residual**2).sum() * len(totals) / (len(totals) - 1)) / n
        return max(0.0, float(rate - 1.96 * se)), min(1.0, float(rate + 1.96 * se))
    from imbalance_lab.metrics.intervals import cluster_bootstrap_weights, percentile_interval

    weights = cluster_bootstrap_weights(len(totals), 1000, np.random.default_rng([seed, len(totals)]))
    drawn = weights @ totals
    samples = np.divide(weights @ hits, drawn, out=np.full(len(drawn), np.nan), where=drawn > 0)
    low, high = percentile_interval(samples, n_groups=len(totals))
    return float(low), float(high)
