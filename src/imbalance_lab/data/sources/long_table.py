"""Files of time steps into columns, part by part: most of a series is numbers, which are float32 from the start."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Texts
from imbalance_lab.data.columns import Table, label_texts, plain_column, series_of
from imbalance_lab.data.files import Format, existing, read_arrow, read_arrow_parts
from imbalance_lab.data.scaling import fits_float32
from imbalance_lab.errors import InputError
from imbalance_lab.formats import listed

SUFFIXES = (".csv", ".parquet")
_SMALL = 1 << 25  # bytes of a CSV file that is read at once, each column with the type that all of it has


@dataclass(frozen=True)
class Wanted:
    """Which columns are read, and as what.

    Attributes
    ----------
    texts : columns of labels, names and categories, needed in every file
    order : column of the order of the steps
    is_input : tells by its name whether any other column is read
    form : how text files are written
    optional : as ``texts``, but they may be missing
    """

    texts: frozenset[str]
    order: str | None
    is_input: Callable[[str], bool]
    form: Format
    optional: frozenset[str] = frozenset()

    @cached_property
    def as_text(self) -> frozenset[str]:
        """Columns that are read as text, where they are there."""
        return self.texts | self.optional

    def drops(self, name: str) -> bool:
        """Whether a column is not read."""
        return name not in self.as_text and name != self.order and not self.is_input(name)


@dataclass(frozen=True)
class LongTable:
    """The n rows of all files, one below the other.

    Attributes
    ----------
    numbers : column to float32 (n,), float64 where float32 would lose differences; NaN where missing
    texts : column to the text of its cells, None where missing
    order : number or time of each step (n,), None where no column is named
    loose : pyarrow columns of another kind (text, booleans, times)
    table : where a row is
    starts : first row of each file
    """

    numbers: dict[str, NDArray[Any]]
    texts: Mapping[str, Texts]
    order: NDArray[Any] | None
    loose: Mapping[str, Any]
    table: Table
    starts: NDArray[np.int64]
    rows: int
    facts: Mapping[str, object]


@dataclass(frozen=True)
class _File:
    path: Path
    rows: int
    numbers: dict[str, NDArray[Any]]
    texts: dict[str, Texts]
    order: NDArray[Any] | None
    loose: dict[str, Any]


def files_at(place: Path) -> list[Path]:
    """The file at ``place``, those of a folder, or those that a pattern names; sorted.

    Raises
    ------
    InputError
        If there is none.
    """
    if any(sign in place.name for sign in "*?[") and not place.exists():
        found = sorted(p for p in existing(place.parent, "folder").glob(place.name) if p.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"no .csv or .parquet file is called {place}")
        return found
    if not existing(place, "path").is_dir():
        return [place]
    found = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        names = ", ".join(sorted(p.name for p in place.iterdir())[:3])
        raise InputError(f"folder {place} holds no .csv and no .parquet file (it holds {names or 'nothing'})")
    return found


def read_long(paths: Sequence[Path], wanted: Wanted) -> LongTable:
    """Read files of time steps.

    Raises
    ------
    InputError
        Whatever is wrong with a file; a needed column that is missing; a column of numbers in one file and of text
        in another; an order that is text.
    """
    files = [_read(path, wanted) for path in paths]
    starts = np.cumsum([0, *(file.rows for file in files)])
    further = tuple(zip(starts[1:-1].tolist(), paths[1:], strict=True))
    table = Table(paths[0], wanted.form, options=False, more=further)
    facts: dict[str, object] = {"files": len(files)}
    numbers = _joined_numbers(files, facts)
    loose = _joined_loose(files, numbers)
    named = sorted({name for file in files for name in file.texts})
    texts = {n: np.concatenate([f.texts.get(n, np.full(f.rows, None, object)) for f in files]) for n in named}
    orders = [file.order for file in files if file.order is not None]
    if len({order.dtype.kind == "M" for order in orders}) > 1:
        raise InputError(f"column {wanted.order!r} holds times in one file and numbers in another; expected one kind")
    order = np.concatenate(orders) if orders else None
    return LongTable(numbers, texts, order, loose, table, starts[:-1], int(starts[-1]), facts)


def _read(path: Path, wanted: Wanted) -> _File:
    import pyarrow as pa

    def whole() -> _File:
        return _file(path, [read_arrow(path, wanted.drops, wanted.as_text, wanted.form)], wanted)

    if path.suffix.lower() == ".csv" and path.exists() and path.stat().st_size <= _SMALL:
        return whole()
    try:
        return _file(path, read_arrow_parts(path, wanted.drops, wanted.as_text, wanted.form), wanted)
    except (pa.ArrowInvalid, UnicodeError, csv.Error):  # a column changes its type on the way, or a row its length
        return whole()


def _file(path: Path, parts: Iterable[Any], wanted: Wanted) -> _File:
    import pyarrow as pa

    table = Table(path, wanted.form, options=False)
    numbers: dict[str, list[NDArray[Any]]] = {}
    others: dict[str, list[Any]] = {}
    for part in parts:
        for name in part.column_names:
            column = part[name]
            if name in wanted.as_text or name == wanted.order or not _is_number(column.type):
                others.setdefault(name, []).append(column)
            else:
                numbers.setdefault(name, []).append(_numbers(column))
    _require([*others, *numbers], wanted, path)
    rows = sum(map(len, next(iter([*others.values(), *numbers.values()]))))
    if not rows:
        raise InputError(f"{path} holds no rows")
    joined = {
        name: pa.chunked_array([c for column in others.pop(name) for c in column.chunks]) for name in list(others)
    }
    plain = {name: plain_column(column, name, table, needed=name in wanted.as_text) for name, column in joined.items()}
    texts = {name: label_texts(plain.pop(name), name, table) for name in sorted(wanted.as_text & {*plain})}
    order = None if wanted.order is None else _order(plain.pop(wanted.order), wanted.order, table)
    return _File(path, rows, {name: _join(numbers.pop(name)) for name in list(numbers)}, texts, order, plain)


def _require(names: Sequence[str], wanted: Wanted, path: Path) -> None:
    known = set(names)
    for name in (*sorted(wanted.texts), *([wanted.order] if wanted.order else [])):
        if name not in known:
            raise InputError(f"{path} has no column {name!r}; of those that are read it has {listed(names, 12)}")


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return any(t(kind) for t in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null))


def _numbers(column: Any) -> NDArray[Any]:
    """Numbers of a part, as float32 where it tells them apart."""
    import pyarrow as pa

    if not pa.types.is_float32(column.type):
        column = column.cast(pa.float64(), safe=False)
    values: NDArray[Any] = column.to_numpy()
    if values.dtype == np.float64 and fits_float32(values):
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and missing as that is
            return values.astype(np.float32)
    return np.array(values)


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The parts of a column, each in the widest of their types."""
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _first_odd(column: Any) -> int:
    """The row that makes a column text: the first that is no number among numbers, or no time among times."""
    import pandas as pd

    texts = pd.Series(column.to_pandas()).astype(str)
    numbers, times = pd.to_numeric(texts, errors="coerce"), pd.to_datetime(texts, errors="coerce", format="ISO8601")
    for read in (numbers, times):
        if read.notna().any():
            return int(read.isna().to_numpy().argmax())
    return 0


def _order(column: Any, name: str, table: Table) -> NDArray[Any]:
    import pyarrow as pa

    kind, place = column.type, lambda row: table.place(row, name)
    if column.null_count:
        row = int(np.asarray(column.is_null()).argmax())
        raise InputError(f"{place(row)}: found nothing, expected the number or time of the step")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        unit = "ns" if pa.types.is_timestamp(kind) and kind.unit == "ns" else "us"
        return np.asarray(column.cast(pa.timestamp(unit)).to_numpy())
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        wide = pa.int32() if kind.bit_width == 32 else pa.int64()
        return np.asarray(column.cast(wide).to_numpy())
    if not _is_number(kind):
        row = _first_odd(column)
        raise InputError(
            f"{place(row)}: found the text {str(column[row].as_py())!r}, expected numbers or times (data.order)"
        )
    values = series_of(column).to_numpy()
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(f"{place(int(bad.argmax()))}: found {values[bad.argmax()]}, expected a number or time")
    return np.asarray(values)


def _joined_numbers(files: Sequence[_File], facts: dict[str, object]) -> dict[str, NDArray[Any]]:
    names = dict.fromkeys(name for file in files for name in file.numbers)
    lacking: list[str] = []
    out = {}
    for name in names:
        parts = []
        for file in files:
            found = file.numbers.pop(name, None)
            if found is None:
                other = file.loose.pop(name, None)
                if other is not None and other.null_count < len(other):
                    raise InputError(f"{file.path}, column {name!r}: found {other.type}, expected numbers as elsewhere")
                lacking += [name] if other is None else []
                found = np.full(file.rows, np.nan, dtype=np.float32)
            parts.append(found)
        out[name] = _join(parts)
    if lacking:
        facts["columns_lacking_in_some_files"] = ", ".join(dict.fromkeys(lacking))
    return out


def _joined_loose(files: Sequence[_File], numbers: Mapping[str, Any]) -> dict[str, Any]:
    import pyarrow as pa

    out = {}
    for name in dict.fromkeys(name for file in files for name in file.loose if name not in numbers):
        tables = [pa.table({name: file.loose.get(name, pa.nulls(file.rows))}) for file in files]
        try:
            out[name] = pa.concat_tables(tables, promote_options="permissive")[name]
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            kinds = ", ".join(f"{t[name].type} in {file.path}" for t, file in zip(tables, files, strict=True))
            raise InputError(f"column {name!r} is {kinds}; expected one type in all files") from error
    return out
