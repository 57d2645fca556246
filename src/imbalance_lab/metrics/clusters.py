"""Recordings as the unit of evidence: clusters, their bootstrap, and rates that respect them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.metrics.intervals import cluster_bootstrap_weights, percentile_interval, wilson

_BLOCK_CELLS = 4_000_000  # cells worked on together: bounds the memory

Floats = NDArray[np.float64]

MIN_POSITIONS = 20
MIN_RECORDINGS = 3
MAX_CLUSTERS = 1000
MAX_CELLS = 20_000_000  # clusters x classes x max(classes, bins): bounds the memory of per-cluster counts


@dataclass(frozen=True)
class Clusters:
    """The groups that have positions, coded 0 .. n - 1.

    With more than ``MAX_CLUSTERS`` groups (every row of a table is its own), groups are united
    at random: a random union of independent groups is again independent of the others, so
    intervals stay valid while memory stays bounded. ``pooled`` says that this happened. ``sizes``
    counts the positions of each group code.
    """

    lookup: NDArray[np.int32]
    sizes: NDArray[np.int64]
    n: int
    recordings: int
    pooled: bool

    def codes(self, group: NDArray[np.int32]) -> NDArray[np.int32]:
        """Cluster of each position, from its group code."""
        return self.lookup.take(group)


def clusters_of(group: NDArray[np.int32], n_names: int, cells_per_cluster: int = 1) -> Clusters:
    """Clusters of positions from the codes of their groups, (n,), of ``n_names`` names.

    ``cells_per_cluster`` is the size of the largest count array per cluster.
    """
    sizes = np.bincount(group, minlength=n_names)
    present = sizes > 0
    n_groups = int(present.sum())
    cap = max(30, min(MAX_CLUSTERS, MAX_CELLS // max(cells_per_cluster, 1)))
    lookup = np.zeros(len(present), dtype=np.int32)
    lookup[present] = np.arange(n_groups)
    pooled = n_groups > cap
    if pooled:
        lookup[present] = np.random.default_rng(0).permutation(n_groups) % cap
    return Clusters(lookup, sizes, min(n_groups, cap), n_groups, pooled)


def bootstrap_weights(clusters: Clusters, resamples: int, rng: np.random.Generator) -> Floats | None:
    """Draws per cluster, shape (resamples, clusters); None with fewer than two clusters, which have no spread."""
    if clusters.n < 2 or resamples < 1:
        return None
    return cluster_bootstrap_weights(clusters.n, resamples, rng).astype(np.float64)


def resampled(counts: NDArray[np.generic], weights: Floats, function: Callable[[Floats], Floats]) -> Floats:
    """``function`` of the counts of each resample.

    Parameters
    ----------
    counts : array of shape (clusters, ...)
    weights : array of shape (resamples, clusters)
    function : maps (block, ...) to (block, ...); called on blocks of resamples, so that memory stays bounded
    """
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    step = max(1, _BLOCK_CELLS // max(flat.shape[1], 1))
    parts = []
    for i in range(0, len(weights), step):
        block = weights[i : i + step]
        parts.append(function((block @ flat).reshape(len(block), *counts.shape[1:])))
    return np.concatenate(parts)


def ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Floats:
    """Quotient as float64, NaN where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    out = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out


def ratio_interval(
    numerator: NDArray[np.generic], denominator: NDArray[np.generic], weights: Floats | None
) -> tuple[Floats, Floats]:
    """Cluster-bootstrap interval of sum(numerator) / sum(denominator); arrays (clusters, ...) -> (...)."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)[1:]
    if weights is None:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    both = np.stack(np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float)), axis=1)
    samples = resampled(both, weights, lambda x: ratio(x[:, 0], x[:, 1]))
    return percentile_interval(samples, n_groups=weights.shape[1])


def verdicts(n: NDArray[np.generic], recordings: NDArray[np.generic], enough: int = MIN_RECORDINGS) -> list[str]:
    """``"n/a"`` without positions, ``"insufficient"`` below 20 positions or 3 recordings, else ``"ok"``."""
    few = (np.asarray(n) < MIN_POSITIONS) | (np.asarray(recordings) < enough)
    return np.where(np.asarray(n) == 0, "n/a", np.where(few, "insufficient", "ok")).tolist()


def excess_test(errors: NDArray[np.generic], n: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Is the error rate of a slice other than that of the remaining positions?

    Parameters
    ----------
    errors, n : arrays of shape (clusters, S); column s counts the positions inside slice s.
        The last column must be the total over all positions.

    Returns
    -------
    difference, p : arrays of shape (S - 1,)
        Rate inside minus rate outside; two-sided p from the linearised difference with clusters
        as units (t with clusters of the slice - 1 degrees of freedom). The variance is never
        taken below the binomial one: with three clusters the estimate can be tiny by chance.
    """
    from scipy.stats import t

    e, m = errors[:, :-1].astype(np.float64), n[:, :-1].astype(np.float64)
    e_out, m_out = errors[:, -1:].astype(np.float64) - e, n[:, -1:].astype(np.float64) - m
    n_in, n_out = m.sum(axis=0), m_out.sum(axis=0)
    r_in, r_out = ratio(e.sum(axis=0), n_in), ratio(e_out.sum(axis=0), n_out)
    influence = ratio(e - r_in * m, n_in) - ratio(e_out - r_out * m_out, n_out)
    clusters = len(e)
    pooled = errors[:, -1].sum() / max(n[:, -1].sum(), 1)
    binomial = pooled * (1 - pooled) * (ratio(np.ones_like(n_in), n_in) + ratio(np.ones_like(n_in), n_out))
    variance = np.fmax((influence**2).sum(axis=0) * clusters / max(clusters - 1, 1), binomial)
    df = np.maximum((m > 0).sum(axis=0) - 1, 1)
    difference = r_in - r_out
    return difference, 2 * t.sf(np.abs(ratio(difference, np.sqrt(variance))), df)


def rate_table(
    names: Sequence[object], errors: NDArray[np.int64], n: NDArray[np.int64], weights: Floats | None, column: str
) -> pd.DataFrame:
    """Error rates with their denominators and intervals, one row per column of ``errors`` and ``n``.

    Parameters
    ----------
    names : the S values of ``column``
    errors, n : int arrays of shape (clusters, S)
    weights : bootstrap draws of shape (resamples, clusters), or None

    Returns
    -------
    DataFrame with ``column``, n, recordings, errors, rate, wilson_low, wilson_high, low, high (cluster
    bootstrap; NaN with one recording), verdict
    """
    total, wrong, recordings = n.sum(axis=0), errors.sum(axis=0), (n > 0).sum(axis=0)
    low, high = ratio_interval(errors, n, weights)
    wilson_low, wilson_high = wilson(wrong, total)
    return pd.DataFrame(
        {
            column: list(names),
            "n": total,
            "recordings": recordings,
            "errors": wrong,
            "rate": ratio(wrong, total),
            "wilson_low": wilson_low,
            "wilson_high": wilson_high,
            "low": low,
            "high": high,
            "verdict": verdicts(total, recordings),
        }
    )
