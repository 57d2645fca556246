"""Windows of rows as an array that looks its rows up when it is asked for them: no row is stored twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.windows import Windows

Scalar = TypeVar("Scalar", bound=np.generic)

_BLOCK = 1 << 24  # values that are looked at together


@dataclass(frozen=True, eq=False)
class WindowView(Generic[Scalar]):
    """Values of N windows of T rows, shape (N, T, C), over a table of n rows that the windows share.

    Indexed like the array that it stands for, it gives a new array: the first two indices choose rows (integers,
    slices, integer or bool arrays that go together as numpy's do), the third columns. It cannot be written to.

    Attributes
    ----------
    table : array of shape (n, C)
    start, stop : int64 arrays of shape (N,), first row of each window and the first beyond its recording
    steps : T
    padding : value of the steps of a window that lie beyond its recording
    """

    table: NDArray[Scalar]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    steps: int
    padding: Any

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, T, C)."""
        return len(self.start), self.steps, self.table.shape[1]

    @property
    def dtype(self) -> np.dtype[Scalar]:
        """Type of a value."""
        return self.table.dtype

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, key: Any) -> Any:
        *place, columns = _three(key)
        if np.ndim(columns) and all(isinstance(part, slice) for part in place):
            return self[*place][..., columns]  # indices of columns alone go with no index of rows
        rows = self.rows(*place)
        if not self._padded:
            return self._found(rows, columns)
        found = np.asarray(self._found(np.maximum(rows, 0), columns))
        found[rows < 0] = self.padding
        return found if found.ndim else found[()]

    def rows(self, *place: Any) -> NDArray[np.int64]:
        """Rows of the table that indices of windows and steps choose, -1 for padding."""
        rows = np.asarray(self._grid(self.start[:, None])[place] + self._grid(np.arange(self.steps))[place])
        if self._padded:
            return np.where(rows < self._grid(self.stop[:, None])[place], rows, -1)
        return rows

    def _grid(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """``values`` for each step of each window: what numpy's own rules of indices are asked of."""
        return np.broadcast_to(values, (len(self), self.steps))

    def _found(self, rows: NDArray[np.int64], columns: Any) -> Any:
        if not (isinstance(columns, slice) and columns == slice(None)):
            return self.table[rows, columns]
        if self.table.flags.c_contiguous:  # take is several times as fast as an index, and would copy other tables
            return self.table.take(rows, axis=0)
        return np.ascontiguousarray(np.moveaxis(self.table.T.take(rows, axis=1), 0, -1))

    @cached_property
    def _padded(self) -> bool:
        return bool((self.stop - self.start < self.steps).any())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("windows are no array in memory; a copy is needed")
        return np.asarray(self[:], dtype=dtype)


def _three(key: Any) -> tuple[Any, ...]:
    """A key for all three axes, with ``:`` for those that it leaves out; a mask of windows and steps is for two."""
    parts = key if isinstance(key, tuple) else (key,)
    gap = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    before, after = parts[:gap], parts[gap + 1 :]
    masks = [np.ndim(p) for p in (*before, *after) if isinstance(p, np.ndarray) and p.dtype.kind == "b"]
    axes = len(before) + len(after) + sum(masks) - len(masks)
    return (*before, *(slice(None),) * (3 - axes), *after)


Inputs = NDArray[Scalar] | WindowView[Scalar]
"""Values of shape (N, T, C), held or looked up."""


def view_of(table: NDArray[Scalar], windows: Windows, starts: NDArray[np.int64], padding: Any) -> WindowView[Scalar]:
    """The rows of ``windows`` in ``table``; ``starts`` is each recording's first row."""
    first = starts[windows.recording]
    rows = (windows.position >= 0).sum(axis=1)  # padding is at the end
    begin = first + windows.position[:, 0]
    return WindowView(table, begin, begin + rows, windows.position.shape[1], padding)


def in_blocks(inputs: Inputs[Scalar]) -> Iterator[tuple[slice, NDArray[Scalar]]]:
    """Sequences of ``inputs``, some at a time: their place, and an array of shape (m, T, C)."""
    n, steps, width = inputs.shape
    size = max(1, _BLOCK // max(1, steps * width))
    for begin in range(0, n, size):
        part = slice(begin, min(begin + size, n))
        yield part, inputs[part]
