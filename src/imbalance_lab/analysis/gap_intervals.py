"""Intervals of calibration errors: sums of absolute gaps, which noise can only raise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.metrics.intervals import percentile_tail

_CONFIDENCE = 0.95

Floats = NDArray[np.float64]
_LEAST_VARIANCE = 1e-4  # of the largest of the row: what hardly varied in the resamples is not known for sure


def absolute_sum_interval(gaps: Floats, deviations: Floats, n_groups: int) -> tuple[Floats, Floats]:
    """Interval of sum_b |gap_b| of the population, by inverting a test of each possible value.

    The sum of absolute values of noisy gaps lies above that of the true gaps, and that of a resample
    lies above both: percentiles of resampled calibration errors leave out the truth wherever a
    model is nearly calibrated. Here a value s lies in the interval unless the sum that was observed
    is in a tail of its distribution under s: gaps with the sum s plus the resampled deviations. Of
    all gaps with that sum those nearest to the observed ones are taken (distance in units of each
    gap's variance: absolute gaps are lowered, or raised, by a multiple of their variances, and stop
    at 0), as a profile likelihood would.

    Parameters
    ----------
    gaps : array of shape (rows, bins), signed: confidence minus share right, times the bin's share of positions
    deviations : array of shape (resamples, rows, bins), gaps of each resample minus ``gaps``
    n_groups : recordings; the tails are those of :func:`imbalance_lab.metrics.intervals.percentile_interval`

    Returns
    -------
    low, high : float64 arrays of shape (rows,). The observed sum may lie above ``high``, as all of it may be noise.

    References
    ----------
    Chuang and Lai (2000), Hybrid resampling methods for confidence intervals; Bröcker (2012),
    Estimating reliability and resolution of probability forecasts, on the bias of binned scores.
    """
    size, sign = np.abs(gaps), np.where(gaps < 0, -1.0, 1.0)
    observed, variance = size.sum(axis=1), deviations.var(axis=0)
    largest = variance.max(axis=1)
    low, high = observed.copy(), observed.copy()
    rows = np.flatnonzero(largest > 0)  # without any spread the sum is what was observed
    if len(rows) == 0:
        return low, high
    size, sign, observed = size[rows], sign[rows], observed[rows]
    noise = np.ascontiguousarray(deviations[:, rows].transpose(2, 1, 0))  # (bins, rows, resamples): sums run fast
    # An empty bin has no variance and stays empty.
    step = np.where(variance[rows] > 0, np.maximum(variance[rows] / largest[rows, None], _LEAST_VARIANCE), 0.0)
    zero = np.divide(size, step, out=np.zeros_like(size), where=step > 0).max(axis=1)  # gaps are 0 from here on
    far = -(1.01 * np.abs(noise).sum(axis=0).max(axis=1) + 1e-300) / step.sum(axis=1)  # beyond any deviation
    tail = percentile_tail(_CONFIDENCE, n_groups)
    for end, q in ((low, 1 - tail), (high, tail)):
        end[rows] = _sum_at_quantile(size, sign, step, observed, noise, q, far, zero)
    return low, high


def _sum_at_quantile(
    size: Floats, sign: Floats, step: Floats, observed: Floats, noise: Floats, q: float, far: Floats, zero: Floats
) -> Floats:
    """Sum of the gaps under which the observed sum is the ``q`` quantile; the least where that still lies above it."""
    from scipy.optimize import elementwise

    def excess(lowered: Floats, row: NDArray[Any]) -> Floats:
        row = row.astype(np.int64)
        moved = sign[row] * np.maximum(size[row] - lowered[:, None] * step[row], 0.0)
        part = noise if len(row) == noise.shape[1] else noise[:, row]
        sums = sum(np.abs(m[:, None] + n) for m, n in zip(moved.T, part, strict=True))
        return np.asarray(np.quantile(np.sort(sums, axis=1), q, axis=1)) - observed[row]

    lowered = zero.copy()
    some = np.flatnonzero(excess(zero, np.arange(len(size))) < 0)
    if len(some):
        tolerances = {"xrtol": 1e-4, "fatol": 1e-6}
        found = elementwise.find_root(excess, (far[some], zero[some]), args=(some,), tolerances=tolerances)
        lowered[some] = found.x
    return np.asarray(np.maximum(size - lowered[:, None] * step, 0.0).sum(axis=1))
