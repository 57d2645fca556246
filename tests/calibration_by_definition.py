"""Calibration scores straight from their definitions: what the counted ones are compared with."""

from __future__ import annotations

import numpy as np

BINS = 15


def _gap(share: np.ndarray, hit: np.ndarray, bins: np.ndarray) -> float:
    """Sum over bins of |sum of shares - number of hits|, as a share of all rows."""
    return sum(abs((share - hit)[bins == b].sum()) for b in np.unique(bins)) / len(share)


def _width_bins(share: np.ndarray) -> np.ndarray:
    """Equal-width bins closed on the right, the first one on both sides."""
    return np.maximum(np.ceil(share * BINS), 1)


def ece(p: np.ndarray, true: np.ndarray, mass: bool = False) -> float:
    """Expected calibration error of the top label; ``mass``: bins between quantiles, closed on the left."""
    top, hit = p.max(axis=1).astype(np.float64), p.argmax(axis=1) == true
    edges = np.quantile(top, np.linspace(0, 1, BINS + 1))
    return _gap(top, hit, np.searchsorted(edges[1:-1], top, side="right") if mass else _width_bins(top))


def classwise_ece(p: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([_gap(p[:, k], true == k, _width_bins(p[:, k])) for k in range(p.shape[1])]))


def brier(p: np.ndarray, true: np.ndarray) -> float:
    return float(((p - np.eye(p.shape[1])[true]) ** 2).sum(axis=1).mean())


def nll(p: np.ndarray, true: np.ndarray) -> float:
    """Clipped at the resolution of float32, as the product says it does."""
    return float(-np.log(np.maximum(p[np.arange(len(p)), true], np.finfo(np.float32).eps)).mean())
