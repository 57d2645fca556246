"""Table files (CSV, Parquet) read with pyarrow; whatever is wrong with them is an InputError."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imbalance_lab.errors import InputError

_NULLS = ["", "NaN", "nan", "NA", "N/A", "null", "NULL", "None"]


def existing(path: Path, what: str) -> Path:
    """Return ``path``, or raise an InputError that names the nearest folder that does exist."""
    if path.exists():
        return path
    parent = next((p for p in path.parents if p.exists()), Path("."))
    raise InputError(f"{what} {path} does not exist (the nearest existing folder is {parent})")


def is_index(name: str) -> bool:
    """Whether pandas wrote the column for its row index: a row number, never an input."""
    return not name or name.startswith(("__index_level_", "Unnamed: "))


def read_arrow(path: Path, drop: Iterable[str] = (), text: Iterable[str] = ()) -> Any:
    """Read a CSV or Parquet file as a ``pyarrow.Table``; index columns of pandas are left out.

    Parameters
    ----------
    path : file that ends in .csv or .parquet
    drop : columns that are not read
    text : columns that are read as text whatever they look like (CSV)

    Raises
    ------
    InputError
        If the file is missing, empty, broken, without rows, or names a column twice.
    """
    import pyarrow as pa

    existing(path, "file")
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a .csv or .parquet file")
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise InputError(f"{path} ends in {suffix or 'nothing'!r}, allowed: .csv, .parquet")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file")
    try:
        table = _read_csv(path, set(drop), set(text)) if suffix == ".csv" else _read_parquet(path, set(drop))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as {suffix[1:]}: {reason}") from error
    if table.num_rows == 0:
        raise InputError(f"{path} holds no rows")
    return table


def _read_parquet(path: Path, drop: set[str]) -> Any:
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    return pq.read_table(path, columns=[n for n in names if n not in drop and not is_index(n)])


def _read_csv(path: Path, drop: set[str], text: set[str]) -> Any:
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    with path.open(newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file), [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{path} names the column {twice[0]!r} twice in its header")
    convert = pa_csv.ConvertOptions(
        include_columns=[name for name in header if name not in drop and not is_index(name)],
        column_types={name: pa.string() for name in header if name in text},
        null_values=_NULLS,
        strings_can_be_null=True,
    )
    # One block for the whole file: the type of a column is inferred from its first block alone,
    # so that a text further down would otherwise surface as a conversion error without its row.
    size = path.stat().st_size + 1
    if size < 1 << 30:
        return pa_csv.read_csv(path, read_options=pa_csv.ReadOptions(block_size=size), convert_options=convert)
    return pa_csv.read_csv(path, convert_options=convert)


def first_line(path: Path) -> int:
    """Line (CSV, header included) or row (Parquet) number of the first data row, for messages."""
    return 2 if path.suffix.lower() == ".csv" else 1


def number_column(column: Any, path: Path, name: str) -> Any | None:
    """Cast a pyarrow column to float32; None when it is text throughout.

    Raises
    ------
    InputError
        If numbers and text are mixed, naming file, row, column and value.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return pc.cast(column, pa.float32(), safe=False)
    bad = _first_text(column)
    if bad is None:
        return None
    row, value = bad
    raise InputError(
        f"{path}, row {row + first_line(path)}, column {name!r}: found the text {value!r}, expected a number or nothing"
    )


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
