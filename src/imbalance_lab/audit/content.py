"""Hashes of input content: equal rows, equal sequences, nearly equal sequences."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import SequenceDataset

_BLOCK_VALUES = 1 << 22
_PROJECTIONS = 12
_CELL = 0.02  # in standard deviations of a projection
_LEAST_PARTS = 8
_LEAST_VARYING = 32  # varying inputs per sequence below which projections meet by chance


def row_hashes(data: SequenceDataset) -> NDArray[np.uint64]:
    """64-bit hash of every input row, shape (N, T); missing values hash like one value."""
    n, t, c = data.continuous.shape
    k = data.categorical.shape[2]
    rng = np.random.default_rng(20240601)  # the hash function itself, not a draw of the run
    odd = _odd(rng, c + k)
    out = np.zeros((n, t), dtype=np.uint64)
    block = max(1, _BLOCK_VALUES // max(t * (c + k), 1))
    for start in range(0, n, block):
        bits = _float_bits(np.ascontiguousarray(data.continuous[start : start + block]))
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
    odd = _odd(rng, rows.shape[1])
    return _mix(rows * odd).sum(axis=1, dtype=np.uint64)


@dataclass(frozen=True)
class Part:
    """A part of the content of a sequence: channels (numbered continuous first) within a span of its steps."""

    channels: tuple[int, ...]
    start: int
    stop: int


def content_parts(data: SequenceDataset, *, by_row: bool) -> list[Part]:
    """Parts that vary on their own: each channel; columns of one category (0 and 1, never two at a time) are one part.

    Sequences of few channels are cut in time too, so that there are eight parts where they are long enough.
    """
    _, t, c = data.continuous.shape
    if t == 1:
        return [Part(tuple(own), 0, 1) for own in _one_hot_blocks(data)] + [
            Part((c + k,), 0, 1) for k in range(data.categorical.shape[2])
        ]
    width = c + data.categorical.shape[2]
    cuts = 1 if by_row else min(t, max(1, -(-_LEAST_PARTS // max(1, width))))
    edges = np.linspace(0, t, cuts + 1).astype(int).tolist()
    return [Part((i,), a, b) for i in range(width) for a, b in pairwise(edges)]


def _one_hot_blocks(data: SequenceDataset) -> list[list[int]]:
    """Continuous channels of a table, neighbours that code one category together."""
    blocks: list[list[int]] = []
    used = np.zeros(len(data), dtype=bool)
    for c in range(data.continuous.shape[2]):
        column = data.continuous[:, 0, c]
        binary = bool(((column == 0) | (column == 1)).all())
        on = column == 1
        if binary and blocks and used.any() and not (used & on).any():
            blocks[-1].append(c)
            used |= on
            continue
        blocks.append([c])
        used = on.copy() if binary else np.zeros(len(data), dtype=bool)
    return blocks


def part_hash(data: SequenceDataset, part: Part, units: NDArray[np.int64], *, by_row: bool) -> NDArray[np.uint64]:
    """64-bit hash of one part of the sequences ``units`` (with ``by_row`` of the rows n * T + t), (len(units),)."""
    c, t = data.continuous.shape[2], data.continuous.shape[1]
    rng = np.random.default_rng(20240604)
    odd, times = _odd(rng, c + data.categorical.shape[2]), _odd(rng, t)
    out = np.zeros(len(units), dtype=np.uint64)
    for channel in part.channels:
        if by_row:
            out += _mix(_bits(data, channel, units // t, units % t) * odd[channel])
            continue
        for step in range(part.start, part.stop):
            out += _mix(_mix(_bits(data, channel, units, step) * odd[channel]) * times[step])
    return out


def _odd(rng: np.random.Generator, n: int) -> NDArray[np.uint64]:
    drawn: NDArray[np.uint64] = rng.integers(1, 1 << 63, size=n, dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


def _bits(
    data: SequenceDataset, channel: int, rows: NDArray[np.int64], step: int | NDArray[np.int64]
) -> NDArray[np.uint64]:
    c = data.continuous.shape[2]
    if channel >= c:
        return data.categorical[rows, step, channel - c].astype(np.uint64) + np.uint64(1)
    return _float_bits(data.continuous[rows, step, channel])


def _float_bits(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """The bits of each value as one number; missing values are alike, and so are -0.0 and 0.0."""
    missing = np.isnan(values)
    plain = np.where(missing, np.float32(0), values) + missing * np.float32(1.7e38)
    return (plain + np.float32(0)).astype(np.float32).view(np.uint32).astype(np.uint64)


def holds_nothing(data: SequenceDataset) -> NDArray[np.bool_]:
    """Rows of which every value is missing or unknown, shape (N, T)."""
    n, t, _ = data.continuous.shape
    out = np.empty((n, t), dtype=bool)
    block = max(1, _BLOCK_VALUES // max(t * data.continuous.shape[2], 1))
    for start in range(0, n, block):
        stop = start + block
        nothing = np.isnan(data.continuous[start:stop]).all(axis=2)
        out[start:stop] = nothing & (data.categorical[start:stop] == 0).all(axis=2)
    return out


def near_signatures(data: SequenceDataset, seed: int) -> NDArray[np.uint64] | None:
    """A signature that sequences share when they differ by far less than one standard deviation.

    The standardised (T, C) content is projected on random directions, each rounded to cells of
    0.02 standard deviations. 0 marks sequences too empty to judge (over three quarters
    missing). None where fewer than 32 inputs of a sequence vary.
    """
    n, t, c = data.continuous.shape
    if not n or t * c < _LEAST_VARYING:
        return None
    chosen = np.random.default_rng([seed, 1]).permutation(n)[:2000]
    some = data.continuous[chosen].reshape(len(chosen), t * c)
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
        part = data.continuous[start : start + block].reshape(-1, t * c)
        known = np.isfinite(part)
        z = np.clip((np.where(known, part, mean) - mean) * scale, -20, 20).astype(np.float32)
        projected[start : start + block] = z @ directions
        empty[start : start + block] = (known & varying).sum(axis=1) < 0.25 * varying.sum()
    spread = np.maximum(projected.std(axis=0), 1e-12)
    cells = np.floor(projected / (spread * _CELL)).astype(np.int64).astype(np.uint64)
    return np.where(empty, np.uint64(0), sequence_hashes(cells) | np.uint64(1))
