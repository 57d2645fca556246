"""Recordings from a folder of CSV files, or from one file, into one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.channels import matching
from imbalance_lab.data.columns import (
    Table,
    cell_codes,
    input_column,
    label_texts,
    plain_column,
    shared_texts,
    values_of,
    without_nul,
)
from imbalance_lab.data.files import RECORDING_FORMAT, existing, read_columns, row_number
from imbalance_lab.data.freed import Freed
from imbalance_lab.data.scaling import fits_float32
from imbalance_lab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SUFFIX = "_aligned.csv"
_DROPPED = ("raw_json",)
_TEXT = ("recording", "t_console", "gcode_string")
_LABELS = ("momo",)  # never an input, but numbers


@dataclass(frozen=True)
class Recordings:
    """A tidy recordings table.

    ``frame`` has the columns ``recording`` (sorted, rows of a recording in their order),
    ``gcode_string`` (None where there is none) and number columns: float32 (NaN = missing), or the type
    of the file where float32 would lose their differences.
    ``facts`` tells what was dropped or missing on the way. ``sides`` maps each recording to the side
    (0 train, 1 val, 2 test, -1 to be drawn) that its file gives it; empty where there is one file.
    ``left_out`` are columns of other things than numbers, which are not in ``frame``.
    """

    frame: pd.DataFrame
    facts: Mapping[str, object] = field(default_factory=dict)
    sides: Mapping[str, int] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """How columns are read.

    Attributes
    ----------
    keep : columns of text to keep beside the block
    exclude : patterns of columns that are not inputs, and may hold anything
    inputs : columns that are inputs though they are excluded: those of a model that exists
    """

    keep: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    inputs: frozenset[str] = frozenset()

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that are read as text."""
        return _TEXT + self.keep

    @cached_property
    def excludes(self) -> Callable[[str], bool]:
        """Whether a column is neither an input nor what labels are made from."""
        known, excluded = self.inputs.union(_LABELS), matching(self.exclude)
        return lambda name: name not in known and excluded(name)


def read_sides(path: Path, further: Mapping[int, Path], reading: Reading = Reading()) -> Recordings:
    """Recordings of ``path``, and of further files or folders that are a side of the split (1 val, 2 test).

    Raises
    ------
    InputError
        As :func:`read_recordings`; a recording that two files hold.
    """
    import pandas as pd

    first = read_recordings(path, reading)
    if not further:
        return first
    read = {-1: first} | {side: read_recordings(other, reading) for side, other in further.items()}
    paths = {-1: path, **further}
    sides: dict[str, int] = {}
    for side, recordings in read.items():
        for name in recordings.frame["recording"].unique().tolist():
            if name in sides:
                raise InputError(
                    f"recording {name!r} is in {paths[sides[name]]} and in {paths[side]}; "
                    "allowed: one side of the split"
                )
            sides[name] = side
    frame = pd.concat([recordings.frame for recordings in read.values()], ignore_index=True)
    facts = {**first.facts, "files_of_the_split": ", ".join(str(other) for other in further.values())}
    left_out = frozenset().union(*(recordings.left_out for recordings in read.values()))
    return Recordings(tidy(frame, facts, reading.keep).frame, facts, sides, left_out)


def read_recordings(path: Path, reading: Reading = Reading()) -> Recordings:
    """Read a folder of ``*_aligned.csv`` or one CSV/Parquet file with a ``recording`` column.

    Raises
    ------
    InputError
        Missing path, empty folder, broken or empty file, no ``gcode_string``, text among numbers.
    """
    existing(path, "path")
    if not path.is_dir():
        numbers, text, ignored = _columns(path, reading, narrow=True)
        if "recording" not in text:
            raise InputError(f"{path} has no column 'recording', expected one that names the recording of each row")
        missing = text["recording"].null_count
        if missing:
            raise InputError(f"{path} has {missing} rows without a value in column 'recording'")
        facts = {"text_columns_ignored": ", ".join(ignored)} if ignored else {}
        return replace(tidy(_to_frame(numbers, text), facts, reading.keep), left_out=frozenset(ignored))
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        found = sorted(p.name for p in path.iterdir())[:3]
        raise InputError(f"folder {path} holds no *{SUFFIX} file (it holds {', '.join(found) or 'nothing'})")
    return _read_folder(files, reading)


def _read_folder(files: list[Path], reading: Reading) -> Recordings:
    import pyarrow as pa

    tables, present, ignored = [], {}, {}
    for file in files:
        found, text, texts_ignored = _columns(file, reading, narrow=False)  # decided on the rows of all files
        present[file.name] = set(found)
        ignored.update(dict.fromkeys(texts_ignored, file))
        rows = len(text["gcode_string"])
        recording = pa.array([file.name.removesuffix(SUFFIX)] * rows, pa.string())
        tables.append(pa.table({**text, "recording": recording, **found}))
        del found
    everywhere = set().union(*present.values())
    clash = sorted(name for name in set(ignored) & everywhere if not reading.excludes(name))
    if clash:
        raise InputError(
            f"{ignored[clash[0]]}, column {clash[0]!r}: found text, expected numbers as in the other files"
        )
    lacking = sum(columns != everywhere for columns in present.values())
    facts: dict[str, object] = {"files": len(files)}
    if lacking:
        absent = sorted({_frame_of(c) for columns in present.values() for c in everywhere - columns})
        facts["files_lacking_columns"] = lacking
        facts["columns_lacking_in_some_files"] = ", ".join(absent)
    if ignored:
        facts["text_columns_ignored"] = ", ".join(sorted(ignored))
    table = pa.concat_tables(tables, promote_options="permissive")  # whole numbers in one file, fractions in the next
    columns = {n: table[n] for n in table.column_names}
    tables.clear()
    del table
    text = {n: columns.pop(n) for n in reading.texts if n in columns}
    numbers = {n: _narrow(columns.pop(n)) for n in list(columns)}
    return replace(tidy(_to_frame(numbers, text), facts, reading.keep), left_out=frozenset(ignored))


def _frame_of(column: str) -> str:
    """Report a sensor frame, not its 17 columns."""
    return f"{column.partition('.')[0]}.*" if "." in column else column


def _columns(path: Path, reading: Reading, narrow: bool) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Number columns (``narrow``: as the table has them), the known text columns, and the names of all others."""
    names, columns = read_columns(path, _DROPPED.__contains__, reading.texts)
    if "gcode_string" not in names:
        raise InputError(
            f"{path} has no column 'gcode_string' (the block being executed); "
            f"it has {', '.join(names[:6])} and {max(0, len(names) - 6)} more"
        )
    for name in reading.keep:
        if name not in names:
            raise InputError(f"{path} has no column {name!r} (data.split.column)")
    text, numbers, ignored = {}, {}, []
    for name, column in columns:
        if name in reading.texts:
            text[name] = _text_column(column, path, name)
            continue
        try:
            found = _number_column(column, path, name)
        except InputError:
            if not reading.excludes(name):
                raise
            found = None
        if found is None:
            ignored.append(name)
        else:
            numbers[name] = _narrow(found) if narrow else found
    return numbers, {name: text[name] for name in reading.texts if name in text}, ignored


def _text_column(column: Any, path: Path, name: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = Table(path, RECORDING_FORMAT)
    if name != "t_console" and pa.types.is_floating(column.type):  # 1.0 is 1.0 as in a CSV file; pyarrow writes 1
        return pa.chunked_array([pa.array(label_texts(column, name, table), pa.string())])
    try:
        return without_nul(pc.cast(column, pa.string()), name, table)
    except pa.ArrowException:
        raise InputError(f"{path}, column {name!r}: holds {column.type} in each row, expected text") from None


def _number_column(column: Any, path: Path, name: str) -> Any | None:
    """A pyarrow column of numbers in its own type, which the coding of the inputs scales; None where it holds none.

    Raises
    ------
    InputError
        If numbers and text are mixed, or numbers are written in another notation.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column
    for has_type, as_type in (
        (pa.types.is_boolean, pa.int8()),
        (pa.types.is_null, pa.float32()),
        (pa.types.is_decimal, pa.float64()),
    ):
        if has_type(kind):
            return column.cast(as_type, safe=False)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return None
    table = Table(path, RECORDING_FORMAT, options=False)
    column = plain_column(column, name, table)
    bad = _first_text(column)
    if bad is not None:
        row, value = bad
        raise InputError(
            f"{path}, row {row_number(path, row)}, column {name!r}: found the text {value!r}, "
            "expected a number or nothing"
        )
    what, values = input_column(column, name, table)
    return pa.chunked_array([pa.array(values)]) if what == "number" else None


def _first_text(column: Any) -> tuple[int, str] | None:
    """First row whose value is no number, in a column that holds numbers too; None in a text column."""
    import pandas as pd

    values = pd.Series(column.to_pandas(), dtype="object")
    numbers = pd.to_numeric(values, errors="coerce")
    text = values.notna() & numbers.isna()
    if not text.any() or not numbers.notna().any():
        return None
    row = int(text.to_numpy().argmax())
    return row, str(values.iloc[row])


def _to_frame(numbers: dict[str, Any], text: Mapping[str, Any]) -> pd.DataFrame:
    """The columns as a frame sorted by recording, which holds the arrays of ``numbers``; equal texts are one object.

    Sorted one column after the other: a frame would be in memory twice.
    """
    import pandas as pd

    # of the time it is only asked whether it is that of the row before
    texts = {n: cell_codes(column) if n == "t_console" else shared_texts(column) for n, column in text.items()}
    names = texts["recording"]
    if (names[1:] < names[:-1]).any():
        order = np.argsort(names, kind="stable")
        texts = {name: values[order] for name, values in texts.items()}
        freed = Freed()
        for name in list(numbers):
            values = numbers.pop(name)
            held = isinstance(values, np.ndarray)
            numbers[name] = values[order] if held else values.take(order).reset_index(drop=True)
            size = values.nbytes
            del values
            freed.add(size)
    plain = {name: pd.Series(values, dtype=values.dtype) for name, values in texts.items()}
    return pd.DataFrame({**plain, **numbers}, copy=False)


def _narrow(column: Any) -> pd.Series | NDArray[np.float32]:
    """Half the memory where that costs no difference; a file in float32 and one in text then hold equal values."""
    import pandas as pd
    import pyarrow as pa

    values = values_of(column)
    known = values if isinstance(values, np.ndarray) else values.dropna().to_numpy()
    if not pa.types.is_float32(column.type) and not fits_float32(known):
        return pd.Series(values)
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    narrow: NDArray[np.float32] = np.array(values.to_numpy(dtype=np.float32, na_value=np.nan))
    return narrow


def tidy(frame: pd.DataFrame, facts: Mapping[str, object] | None = None, keep: tuple[str, ...] = ()) -> Recordings:
    """Sort by recording, drop repeated rows, always-empty columns and what is never an input.

    A row is a repetition when all its values, the time ``t_console`` included, equal those of
    the row before it in the same recording; without a time column nothing is dropped, because
    a machine at rest repeats its values honestly.

    Parameters
    ----------
    frame : table with ``recording``, ``gcode_string`` and number columns
    facts : what is already known about the source
    keep : further columns of text to keep
    """
    import pandas as pd

    for name in ("recording", "gcode_string"):
        if name not in frame.columns:
            raise InputError(f"the recordings table has no column {name!r}")
    out: dict[str, object] = dict(facts or {})
    names = frame["recording"].to_numpy()
    if (names[1:] < names[:-1]).any():
        frame = frame.sort_values("recording", kind="stable", ignore_index=True)
    repeated = _repeated_rows(frame)
    if repeated.any():
        rows = np.flatnonzero(repeated)
        out["duplicate_rows_dropped"] = int(repeated.sum())
        out["first_duplicate_row"] = f"{frame['recording'].iloc[rows[0]]}, row {_row_in_recording(frame, rows[0])}"
        frame = frame.loc[~repeated].reset_index(drop=True)
    else:
        out.setdefault("duplicate_rows_dropped", 0)
    others = {str(c): column for c, column in frame.items() if c not in _TEXT and c not in _DROPPED}
    numbers = [c for c, column in others.items() if _is_number(column)]
    empty = {c for c in numbers if pd.isna(others[c].to_numpy()).all()}
    others.clear()
    if empty:
        out["empty_columns_dropped"] = ", ".join(sorted({_frame_of(c) for c in empty}))
    kept = [c for c in numbers if c not in empty]
    out["rows"], out["recordings"] = len(frame), int(frame["recording"].nunique())
    wanted = ["recording", "gcode_string", *keep, *(c for c in kept if c not in keep)]
    return Recordings(frame if wanted == frame.columns.tolist() else frame[wanted], out)


def _is_number(column: pd.Series) -> bool:
    from pandas.api.types import is_numeric_dtype

    return bool(is_numeric_dtype(column))


def _row_in_recording(frame: pd.DataFrame, row: int) -> int:
    recording = frame["recording"].to_numpy()
    return int(row - np.flatnonzero(recording == recording[row])[0])


def _repeated_rows(frame: pd.DataFrame) -> NDArray[np.bool_]:
    repeated = np.zeros(len(frame), dtype=bool)
    if "t_console" not in frame.columns:
        return repeated
    recording, time = frame["recording"].to_numpy(), frame["t_console"]
    same = (recording[1:] == recording[:-1]) & (time.notna().to_numpy()[1:])
    same &= np.asarray(time.to_numpy()[1:] == time.to_numpy()[:-1], dtype=bool)
    rows = np.flatnonzero(same) + 1
    if rows.size:
        # Missing equals missing here, hence the comparison of frames and not of values.
        now, before = frame.iloc[rows].reset_index(drop=True), frame.iloc[rows - 1].reset_index(drop=True)
        equal = (now == before) | (now.isna() & before.isna())
        repeated[rows] = equal.all(axis=1).to_numpy()
    return repeated
