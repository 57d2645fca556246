"""Which rows of a long table are a recording, and whether its steps are in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Texts
from imbalance_lab.data.sources.long_table import LongTable
from imbalance_lab.errors import InputError

Ints = NDArray[np.int64]

_GAP = 2.0  # a step is a gap where it is longer than this many times the usual one


@dataclass(frozen=True)
class RecordingRows:
    """Which rows belong together.

    Attributes
    ----------
    names : str array of shape (R,), in the order of the rows
    of_row : int64 array of shape (n,)
    starts, lengths : int64 arrays of shape (R,), in rows
    """

    names: NDArray[np.str_]
    of_row: Ints
    starts: Ints
    lengths: Ints

    def place(self, row: int) -> str:
        """Recording of a row, and its row there."""
        r = self.of_row[row]
        return f"recording {str(self.names[r])!r}, row {row - int(self.starts[r])} (from 0)"


def recordings_of(read: LongTable, column: str | None, files: Sequence[Path], least: int = 3) -> RecordingRows:
    """The recordings that ``column`` names, or the ``files`` where it is None.

    Raises
    ------
    InputError
        A row without a name, rows of recordings that interleave, fewer than ``least`` recordings.
    """
    if column is None:
        stems = [path.stem for path in files]
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise InputError(
                f"two files are called {twice[0]!r}, and a recording is called as its file; name the column of the "
                "recordings with data.recording"
            )
        names, starts = np.array(stems, dtype=np.str_), read.starts
        of_row = np.repeat(np.arange(len(stems)), np.diff(np.append(starts, read.rows)))
    else:
        names, of_row, starts = named_recordings(read.texts[column], lambda row: read.table.place(row, column))
    if len(names) < least:
        raise InputError(
            f"{len(names)} recording(s) found ({', '.join(names.tolist())}), at least 3 are needed (train, val, test); "
            "data.recording names the column that tells them apart"
        )
    return _recording_rows(names, of_row, starts, read.rows)


def named_recordings(texts: Texts, place: Callable[[int], str]) -> tuple[NDArray[np.str_], Ints, Ints]:
    """The recordings that the cells of a column name: names (R,), recording of each row (n,), first rows (R,).

    Raises
    ------
    InputError
        A row without a name, rows of recordings that interleave; ``place`` says where a row is.
    """
    import pandas as pd

    codes, distinct = pd.factorize(texts)
    if (codes < 0).any():
        raise InputError(f"{place(int((codes < 0).argmax()))}: found nothing, expected the name of the recording")
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])) if len(codes) else np.zeros(0, dtype=np.int64)
    if len(starts) > len(distinct):  # codes are numbered as they appear: a run of a smaller one goes on
        again = int(starts[np.flatnonzero(codes[starts] != np.arange(len(starts)))[0]])
        raise InputError(
            f"{place(again)}: recording {str(distinct[codes[again]])!r} goes on "
            f"after rows of {str(distinct[codes[again - 1]])!r}; expected all rows of a recording below each other"
        )
    return distinct.astype(np.str_), codes, starts


def recordings_of_rows(rows: int, texts: Texts | None, place: Callable[[int], str]) -> RecordingRows:
    """The recordings of a table of ``rows`` rows by the cells of a column, or one where there is no column.

    Raises
    ------
    InputError
        See :func:`named_recordings`.
    """
    if texts is not None:
        return _recording_rows(*named_recordings(texts, place), rows)
    nothing = np.zeros(min(rows, 1), dtype=np.int64)
    return _recording_rows(np.array(["all rows"][:rows], dtype=np.str_), np.zeros(rows, dtype=np.int64), nothing, rows)


def _recording_rows(names: NDArray[np.str_], of_row: Ints, starts: Ints, rows: int) -> RecordingRows:
    lengths = np.diff(np.append(starts, rows)).astype(np.int64)
    return RecordingRows(names, of_row.astype(np.int64), starts.astype(np.int64), lengths)


def check_order(order: NDArray[Any], recordings: RecordingRows, read: LongTable, name: str) -> dict[str, object]:
    """Sentences on repeated steps and on gaps, to be recorded with the data.

    Raises
    ------
    InputError
        At the first step that lies before the one above it.
    """
    refuse_falling(order, recordings, lambda row: read.table.place(row, name))
    step = order[1:] - order[:-1]
    inside = recordings.of_row[1:] == recordings.of_row[:-1]
    zero = np.zeros(1, dtype=step.dtype)[0]
    facts: dict[str, object] = {}
    repeated = np.flatnonzero(inside & (step == zero))
    if len(repeated):
        facts["steps_repeated"] = (
            f"{len(repeated):,} steps have the {name} of the step before them, the first in "
            f"{recordings.place(int(repeated[0]) + 1)}"
        )
    forward = step[inside & (step > zero)].astype(np.float64)
    usual = float(np.median(forward)) if len(forward) else 0.0
    gaps = np.flatnonzero(inside & (step.astype(np.float64) > _GAP * usual)) if usual else np.zeros(0, dtype=np.int64)
    if len(gaps):
        longest = int(gaps[step[gaps].argmax()]) + 1
        facts["gaps"] = (
            f"{len(gaps):,} steps of {name} are more than {_GAP:g} times as long as the usual one; the longest is "
            f"{float(step[longest - 1].astype(np.float64)) / usual:,.0f} times as long, before "
            f"{recordings.place(longest)}; windows run across them"
        )
    return facts


def refuse_falling(order: NDArray[Any], recordings: RecordingRows, place: Callable[[int], str]) -> None:
    """Refuse steps that lie before the one above them.

    Raises
    ------
    InputError
        At the first of them; ``place`` says where a row is.
    """
    inside = recordings.of_row[1:] == recordings.of_row[:-1]
    fallen = np.flatnonzero(inside & (order[1:] < order[:-1]))  # unsigned numbers wrap around: compared as they are
    if len(fallen):
        row = int(fallen[0]) + 1
        raise InputError(
            f"{place(row)}: found {order[row]} after {order[row - 1]} in recording "
            f"{str(recordings.names[recordings.of_row[row]])!r}; expected the steps of a recording in their order"
        )
