"""How much of a metric is lost: differences of confusion counts with intervals over recordings and repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.interpretation.scored import Floats, bootstrap
from imbalance_lab.metrics.intervals import percentile_interval
from imbalance_lab.randomness import derive_seed

Metric = Callable[[NDArray[np.generic]], Floats]


@dataclass(frozen=True)
class Drop:
    """Metric lost: ``value`` with its 95 % interval, the metric that is left, and the spread over repeats."""

    value: float
    low: float
    high: float
    left: float
    left_low: float
    left_high: float
    repeat_sd: float


def metric_value(counts: NDArray[np.int64], metric: Metric, seed: int) -> tuple[float, float, float]:
    """The metric of counts (G, K, K) and its cluster-bootstrap interval (NaN ends with one cluster)."""
    value = float(metric(counts.sum(axis=0)))
    weights = bootstrap(len(counts), seed)
    if weights is None:
        return value, float("nan"), float("nan")
    low, high = percentile_interval(metric(_weighted(weights, counts)), n_groups=len(counts))
    return value, float(low), float(high)


def metric_drop(base: NDArray[np.int64], repeats: Sequence[NDArray[np.int64]], metric: Metric, seed: int) -> Drop:
    """Metric of ``base`` less the mean metric of ``repeats``.

    Parameters
    ----------
    base : counts (G, K, K) of the inputs as they are, by cluster of recordings
    repeats : counts (G, K, K) of each permutation

    Notes
    -----
    The interval resamples recordings, the same for both terms, and within each resample the repeats:
    it covers which recordings were seen and which permutations were drawn. With one cluster it is
    the t interval over repeats; with one cluster and one repeat there is none.
    """
    from scipy.stats import t

    values = np.array([float(metric(r.sum(axis=0))) for r in repeats])
    whole = float(metric(base.sum(axis=0)))
    left = float(values.mean())
    r = len(values)
    sd = float(values.std(ddof=1)) if r > 1 else float("nan")
    weights = bootstrap(len(base), seed)
    if weights is None:
        half = float(t.ppf(0.975, r - 1)) * sd / np.sqrt(r) if r > 1 else float("nan")
        return Drop(whole - left, whole - left - half, whole - left + half, left, left - half, left + half, sd)
    before = metric(_weighted(weights, base))  # (B,)
    after = np.stack([metric(_weighted(weights, x)) for x in repeats], axis=1)  # (B, R)
    drawn = np.random.default_rng(derive_seed(seed, "repeats")).integers(0, r, after.shape)
    after = np.take_along_axis(after, drawn, axis=1).mean(axis=1)
    low, high = percentile_interval(before - after, n_groups=len(base))
    left_low, left_high = percentile_interval(after, n_groups=len(base))
    return Drop(whole - left, float(low), float(high), left, float(left_low), float(left_high), sd)


def _weighted(weights: Floats, counts: NDArray[np.int64]) -> Floats:
    """(B, G) and (G, K, K) to the counts of each resample (B, K, K)."""
    flat = counts.reshape(len(counts), -1)
    # Most cells of many classes are empty; only the others need to be multiplied.
    used = flat.any(axis=0)
    out = np.zeros((len(weights), flat.shape[1]))
    out[:, used] = weights @ flat[:, used].astype(np.float64)
    return out.reshape(len(weights), *counts.shape[1:])
