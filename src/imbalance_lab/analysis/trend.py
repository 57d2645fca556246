"""Trend of an error rate along a number, with recordings as units."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.metrics.clusters import MIN_POSITIONS, MIN_RECORDINGS


@dataclass(frozen=True)
class Trend:
    """Slope of log odds of an error per unit of ``along``, with its 95 % interval and p; NaN where not fitted."""

    along: str
    verdict: str
    slope: float
    low: float
    high: float
    p: float
    n: int
    recordings: int


def cluster_trend(errors: NDArray[np.int64], n: NDArray[np.int64], x: NDArray[np.float64], along: str) -> Trend:
    """Binomial GLM of errors on x over counts, sandwich covariance by recording, t distribution.

    Parameters
    ----------
    errors, n : int arrays of shape (clusters, bins)
    x : float array of shape (bins,)
    """
    import statsmodels.api as sm

    cluster, cell = np.nonzero(n)
    k, m = errors[cluster, cell], n[cluster, cell]
    recordings, total = len(np.unique(cluster)), int(m.sum())
    nothing = (float("nan"),) * 4
    if len(np.unique(x[cell])) < 2:
        return Trend(along, "not applicable: one place only", *nothing, total, recordings)
    if total < MIN_POSITIONS or recordings < MIN_RECORDINGS:
        return Trend(along, "insufficient", *nothing, total, recordings)
    if k.sum() in (0, total):
        return Trend(along, "no trend: all positions are alike", *nothing, total, recordings)
    design = sm.add_constant(x[cell], has_constant="add")
    model = sm.GLM(np.stack([k, m - k], axis=1).astype(np.float64), design, family=sm.families.Binomial())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separation: the slope then runs off, which the verdict below says
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": cluster}, use_t=True)
        low, high = fit.conf_int()[1]
        slope, p = float(fit.params[1]), float(fit.pvalues[1])
    if not np.isfinite([slope, low, high, p]).all():
        return Trend(along, "not fitted: errors are separated by place", *nothing, total, recordings)
    verdict = "no trend beyond chance" if p >= 0.05 else "rises" if slope > 0 else "falls"
    return Trend(along, verdict, slope, float(low), float(high), p, total, recordings)
