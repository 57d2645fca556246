"""Hashes of input content: equal rows, equal sequences, nearly equal sequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import SequenceDataset

_BLOCK_VALUES = 1 << 22
_PROJECTIONS = 12
_CELL = 0.02  # in standard deviations of a projection
_LEAST_VARYING = 32  # varying inputs per sequence below which projections meet by chance


def row_hashes(data: SequenceDataset) -> NDArray[np.uint64]:
    """64-bit hash of every input row, shape (N, T); missing values hash like one value."""
    n, t, c = data.continuous.shape
    k = data.categorical.shape[2]
    rng = np.random.default_rng(20240601)  # the hash function itself, not a draw of the run
    odd = rng.integers(1, 1 << 63, size=c + k, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    out = np.zeros((n, t), dtype=np.uint64)
    block = max(1, _BLOCK_VALUES // max(t * (c + k), 1))
    for start in range(0, n, block):
        part = np.ascontiguousarray(data.continuous[start : start + block])
        part = np.where(np.isnan(part), np.float32(0), part) + np.isnan(part) * np.float32(1.7e38)
        bits = (part + np.float32(0)).view(np.uint32).astype(np.uint64)  # + 0 makes -0.0 and 0.0 equal
        mixed = _mix((bits * odd[:c]) if c else bits).sum(axis=2, dtype=np.uint64)
        codes = data.categorical[start : start + block].astype(np.uint64) + np.uint64(1)
        out[start : start + block] = mixed + _mix(codes * odd[c:]).sum(axis=2, dtype=np.uint64)
    return out


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014), one round: spreads high bits to low ones."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(27))


def sequence_hashes(rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash of each sequence from its :func:`row_hashes`, shape (N,); the order of rows counts."""
    rng = np.random.default_rng(20240602)
    odd = rng.integers(1, 1 << 63, size=rows.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return _mix(rows * odd).sum(axis=1, dtype=np.uint64)


def near_signatures(data: SequenceDataset, seed: int) -> NDArray[np.uint64] | None:
    """A signature that sequences share when they differ by far less than one standard deviation.

    The standardised (T, C) content is projected on random directions, each rounded to cells of
    0.02 standard deviations. 0 marks sequences too empty to judge (over three quarters
    missing). None where fewer than 32 inputs of a sequence vary.
    """
    n, t, c = data.continuous.shape
    if not n or t * c < _LEAST_VARYING:
        return None
    flat = data.continuous.reshape(n, t * c)
    some = flat[np.random.default_rng([seed, 1]).permutation(n)[:2000]]
    seen = np.isfinite(some)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, some, 0).sum(axis=0, dtype=np.float64) / count
    deviation = np.sqrt((np.where(seen, some - mean, 0) ** 2).sum(axis=0, dtype=np.float64) / count)
    varying = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-12)
    if varying.sum() < _LEAST_VARYING:
        return None
    scale = np.where(varying, 1 / np.maximum(deviation, 1e-30), 0)
    directions = np.random.default_rng([seed, 2]).standard_normal((t * c, _PROJECTIONS)).astype(np.float32)
    projected = np.empty((n, _PROJECTIONS), dtype=np.float32)
    empty = np.empty(n, dtype=bool)
    block = max(1, _BLOCK_VALUES // (t * c))
    for start in range(0, n, block):
        part = flat[start : start + block]
        known = np.isfinite(part)
        z = np.clip((np.where(known, part, mean) - mean) * scale, -20, 20).astype(np.float32)
        projected[start : start + block] = z @ directions
        empty[start : start + block] = (known & varying).sum(axis=1) < 0.25 * varying.sum()
    spread = np.maximum(projected.std(axis=0), 1e-12)
    cells = np.floor(projected / (spread * _CELL)).astype(np.int64).astype(np.uint64)
    return np.where(empty, np.uint64(0), sequence_hashes(cells) | np.uint64(1))
