"""Windows over recordings: which rows each window holds, and which of them it scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.memory import require_memory

Ints = NDArray[np.int64]

_ROW = 16  # bytes of a row of a window: where it is, and whether it is scored, made once more on the way


@dataclass(frozen=True)
class Windows:
    """N windows of T rows.

    Attributes
    ----------
    recording : int64 array of shape (N,), index of the recording
    position : int64 array of shape (N, T), row within the recording, -1 for padding
    scored : bool array of shape (N, T), the rows whose targets this window scores
    """

    recording: Ints
    position: Ints
    scored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.recording)

    def rows(self, starts: Ints) -> Ints:
        """Rows in the whole table, shape (N, T), -1 for padding; ``starts`` is each recording's first row."""
        rows = self.position + starts[self.recording][:, None]
        rows[self.position < 0] = -1
        return rows

    def targets(self, of_row: Ints, rows: Ints, nothing: int) -> Ints:
        """Target of each step, shape (N, T), from those of the table's rows; ``nothing`` where none is scored."""
        found = of_row.take(rows, mode="wrap")
        found[~self.scored] = nothing
        return found


def covering_starts(n: int, length: int, stride: int) -> Ints:
    """Starts ``0, stride, ...`` and one last window that ends with the recording's n rows.

    A recording shorter than a window gets one window, padded at its end.
    """
    if n <= length:
        return np.zeros(min(n, 1), dtype=np.int64)
    starts = np.arange(0, n - length + 1, stride, dtype=np.int64)
    return starts if starts[-1] == n - length else np.append(starts, n - length)


def whole_starts(n: int, length: int, stride: int) -> Ints:
    """Starts ``0, stride, ...`` of whole windows only, as the legacy preprocessing had them."""
    return np.arange(0, n - length + 1, stride, dtype=np.int64)


def apart_starts(n: int, length: int, stride: int = 0) -> Ints:
    """As many windows as fit without sharing a row, spread evenly from the first row to the last.

    The end of a recording is where the rare program-end blocks are, so that both ends are
    covered and the rows left out lie between windows. ``stride`` is not used.
    """
    fit = n // length
    if fit == 0:
        return np.zeros(min(n, 1), dtype=np.int64)
    return np.arange(fit, dtype=np.int64) * (n - length) // max(1, fit - 1)


def cut(lengths: Ints, starts_of: Callable[[int, int, int], Ints], length: int, stride: int, centre: bool) -> Windows:
    """Cut windows from recordings of ``lengths`` rows; a window never crosses recordings.

    Parameters
    ----------
    lengths : int64 array of shape (n_recordings,)
    starts_of : one of the functions above
    length, stride : rows
    centre : score each row once, in the window whose centre is nearest; otherwise every window
        scores all its rows
    """
    per_recording = [starts_of(int(n), length, stride) for n in lengths]
    counts = np.array([len(s) for s in per_recording], dtype=np.int64)
    windows = int(counts.sum())
    require_memory(f"data.window: {windows:,} windows of {length:,} rows", _ROW * windows * length)
    recording = np.repeat(np.arange(len(lengths), dtype=np.int64), counts)
    start = np.concatenate([np.zeros(0, dtype=np.int64), *per_recording])
    position = start[:, None] + np.arange(length)
    real = position < lengths[recording][:, None]
    scored = real
    if centre:
        low, high = _score_bounds(recording, start, length)
        scored = real & (position >= low[:, None]) & (position < high[:, None])
    position[~real] = -1
    return Windows(recording, position, scored)


def _score_bounds(recording: Ints, start: Ints, length: int) -> tuple[Ints, Ints]:
    """First row a window scores, and the first it does not: neighbours meet halfway in their overlap."""
    low, high = start.copy(), start + length
    joined = recording[1:] == recording[:-1]
    meet = start[1:] + (start[:-1] + length - start[1:]) // 2
    low[1:] = np.where(joined, meet, low[1:])
    high[:-1] = np.where(joined, meet, high[:-1])
    return low, high


def join(parts: list[Windows]) -> Windows:
    """Windows of several calls of :func:`cut`, one after the other."""
    return Windows(
        np.concatenate([p.recording for p in parts]),
        np.concatenate([p.position for p in parts]),
        np.concatenate([p.scored for p in parts]),
    )


def step_windows(lengths: Ints, train: NDArray[np.bool_], length: int, stride: int) -> Windows:
    """Windows for labels of each step: those of train overlap by ``stride`` and score all their rows.

    The others overlap by half and score their centres, so that every row is scored exactly once with context
    on both sides.

    Parameters
    ----------
    lengths : int64 array of shape (n_recordings,)
    train : bool array of shape (n_recordings,)
    """
    seen, scored_once = np.where(train, lengths, 0), np.where(train, 0, lengths)
    return join(
        [
            cut(seen, covering_starts, length, stride, centre=False),
            cut(scored_once, covering_starts, length, max(1, length // 2), centre=True),
        ]
    )


def take(windows: Windows, keep: NDArray[np.bool_]) -> Windows:
    """The windows where ``keep`` is True."""
    return Windows(windows.recording[keep], windows.position[keep], windows.scored[keep])


def most_frequent_of(codes: Ints, rows: Ints) -> Ints:
    """Most frequent code of each window; ``codes`` are those of the table's rows, ``rows`` is :meth:`Windows.rows`."""
    return most_frequent(np.where(rows >= 0, codes[rows], -1))


def most_frequent(codes: Ints) -> Ints:
    """Most frequent code of each row of ``codes`` (N, T), the first to occur on ties; -1 is no code.

    Returns an int64 array of shape (N,), -1 where a row holds no code.
    """
    n, t = codes.shape
    out = np.full(n, -1, dtype=np.int64)
    flat = np.flatnonzero(codes.ravel() >= 0)
    if not flat.size:
        return out
    width = int(codes.max()) + 1
    keys = (flat // t) * width + codes.ravel()[flat]
    distinct, first, count = np.unique(keys, return_index=True, return_counts=True)
    window = distinct // width
    order = np.lexsort((first, -count, window))
    best = order[np.append(True, window[order][1:] != window[order][:-1])]
    out[window[best]] = distinct[best] % width
    return out
