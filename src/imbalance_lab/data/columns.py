"""What a column of a table is: numbers, categories, times, identifiers; and the text of its labels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import texts_of
from imbalance_lab.data.files import Format, row_number
from imbalance_lab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "category", "time", "identifier", "empty"]

_EXACT = 2**53  # beyond it a float stands for several whole numbers
_MOSTLY = 0.5
_FEW = 20  # fewer values than this tell nothing about how often each is seen
_SHEET_ERROR = re.compile(r"#(?:[A-Z][A-Z0-9_/]*[!?]|N/A|GETTING_DATA|##+)")
_WORD_FOR_NUMBER = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_NUMBER_LIKE = re.compile(
    r"[^\w\s.,;:#/()-]?\s*[+-]?\s*[^\w\s.,;:#/()-]?\s*"
    r"(?:\d[\d.,'\s]*|[.,]\d+)(?:e[+-]?\d+)?\s*(?:%|‰|[^\w\s.,;:#/()-])?",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))"
    r"(?:[T ,]\s*\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[AaPp][Mm])?)?\s*(?:Z|UTC|[+-]\d{2}:?\d{2})?"
    r"|\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[AaPp][Mm])?"
)


@dataclass(frozen=True)
class Table:
    """Where the columns come from and how their text is to be read; whether its source has ``options`` for that."""

    path: Path
    form: Format
    thousands: str | None = None
    options: bool = True
    own: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    more: tuple[tuple[int, Path], ...] = ()  # first row and path of each further file

    def of(self, name: str) -> Table:
        """How a column is read that has a notation of its own, under ``own``: decimal sign and thousands sign."""
        if name not in self.own:
            return self
        decimal, thousands = self.own[name]
        return replace(self, form=replace(self.form, decimal=decimal), thousands=thousands)

    def place(self, row: int, name: str) -> str:
        """``FILE, row N, column 'NAME'`` for data row ``row`` (from 0)."""
        path, row = self.file(row)
        return f"{path}, row {row_number(path, row, self.form)}, column {name!r}"

    def file(self, row: int) -> tuple[Path, int]:
        """The file that holds data row ``row``, and the row's number in it, from 0."""
        start, path = next(((s, p) for s, p in reversed(self.more) if s <= row), (0, self.path))
        return path, row - start


def plain_column(column: Any, name: str, table: Table, needed: bool = False) -> Any:
    """A pyarrow column with dictionaries decoded, decimals as floats where they must be, and missing words as nulls.

    Raises
    ------
    InputError
        If its cells are lists, structs or bytes, or if a cell holds the error of a spreadsheet.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_primitive(column.type) and not pa.types.is_float16(column.type):
        return column
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_float16(column.type):  # of which pyarrow and pandas know half of the functions
        column = pc.cast(column, pa.float32())
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise InputError(
            f"{table.path}, column {name!r}: holds {kind} in each row, expected one number or text"
            + ("" if needed else "; leave it out with data.exclude")
        )
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"):
        return column
    column = pc.cast(column, pa.string())
    nothing = pc.is_in(column, value_set=pa.array(["", *table.form.missing], pa.string()))
    column = pc.if_else(nothing, pa.scalar(None, pa.string()), column)
    if pc.any(pc.starts_with(column, "#")).as_py():
        for row, text in enumerate(column.to_pylist()):
            if text is not None and _SHEET_ERROR.fullmatch(text.strip()):
                raise InputError(
                    f"{table.place(row, name)}: found {text!r}, the error of a spreadsheet; mend the cell"
                    + (f", or set data.missing: [{text!r}]" if table.options else "")
                )
    return column


def label_texts(column: Any, name: str, table: Table) -> NDArray[np.object_]:
    """The text of each label, group or category, None where it is missing; object array of shape (n,).

    It is the text of the cell in a CSV file, and in a Parquet file what a CSV file written from it
    holds (1.0 is ``1.0``, the whole number 1 is ``1``): the same rows have the same classes in both.

    Raises
    ------
    InputError
        If floats beyond 2^53 stand for labels: several whole numbers are one float there.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_decimal(kind):
        return _distinct(column, lambda value: format(value, "f"))
    if pa.types.is_floating(kind):
        values = column.to_numpy().astype(np.float64, copy=False)
        large = np.abs(values) >= _EXACT
        large &= np.isfinite(values)
        if large.any():
            row = int(large.argmax())
            raise InputError(
                f"{table.place(row, name)}: found the label {values[row]}, a float beyond 2^53, where several whole "
                "numbers are one; store the labels as text or as integers"
            )
        of_type = {pa.float64(): float, pa.float32(): np.float32}.get(kind, np.float16)  # 0.1 in float32 is called 0.1
        return _distinct(column, lambda value: str(of_type(value)))
    if pa.types.is_string(kind):
        return _distinct(without_nul(column, name, table), lambda text: text or None)
    return texts_of(series_of(column))


def without_nul(column: Any, name: str, table: Table) -> Any:
    """The column itself, unless it is text with the character of code 0.

    Raises
    ------
    InputError
        At the first such cell: arrays of text end there, and two names would become one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type) and pc.any(found := pc.match_substring(column, "\0")).as_py():
        row = int(np.asarray(pc.fill_null(found, False)).argmax())
        raise InputError(f"{table.place(row, name)}: found the text {column[row].as_py()!r}, which holds a NUL")
    return column


def shared_texts(column: Any) -> NDArray[np.object_]:
    """The cells of a column of text, None where there is nothing; equal ones are one object."""
    return _distinct(column, str)


def cell_codes(column: Any) -> NDArray[Any]:
    """Which of the distinct cells each row holds, NaN where nothing: equal cells have equal numbers."""
    codes: NDArray[Any] = _dictionary(column).indices.to_numpy(zero_copy_only=False)
    return codes


def _distinct(column: Any, text: Any) -> NDArray[np.object_]:
    import pandas as pd

    distinct, index = _distinct_cells(column)
    names = [None if pd.isna(value) else text(value) for value in distinct]
    codes = index.fillna(len(names)).to_numpy(dtype=np.int64)
    return np.array([*names, None], dtype=object)[codes]


def values_of(column: Any) -> pd.Series | NDArray[Any]:
    """Floats and whole numbers without a gap as an array, a tenth of the work; else as :func:`series_of`."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not column.null_count):
        values: NDArray[Any] = column.to_numpy()
        return values
    return series_of(column)


def floats_of(values: pd.Series | NDArray[Any]) -> NDArray[np.float64]:
    """Values as float64, NaN where they are missing."""
    import pandas as pd

    return pd.Series(values).to_numpy(np.float64, na_value=np.nan)


def series_of(column: Any) -> pd.Series:
    """As pandas holds it; whole numbers stay whole where some are missing."""
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_integer(column.type) and column.null_count:
        wide = pd.UInt64Dtype() if pa.types.is_unsigned_integer(column.type) else pd.Int64Dtype()
        return column.cast(pa.uint64() if wide == pd.UInt64Dtype() else pa.int64()).to_pandas(
            types_mapper={pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}.get
        )
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64(), safe=False)
    return column.to_pandas()


def input_column(column: Any, name: str, table: Table) -> tuple[Kind, pd.Series | NDArray[Any]]:
    """What an input column is, and its values; numbers are an array where :func:`values_of` says so.

    Text whose every cell is a number in the table's notation is numbers, as it is in a file without types.

    Raises
    ------
    InputError
        If most cells are numbers and one is not, or if they are numbers in another notation.
    """
    import pandas as pd
    import pyarrow as pa

    kind = column.type
    if column.null_count == len(column):
        return "empty", column.to_pandas()
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        return "category" if pa.types.is_boolean(kind) else "time", column.to_pandas()
    if not pa.types.is_string(kind):
        values = values_of(column)
        return ("empty" if pd.isna(values).all() else "number"), values
    return _text_input(column, name, table.of(name))


def _text_input(column: Any, name: str, table: Table) -> tuple[Kind, pd.Series]:
    distinct, index = _distinct_cells(column)
    counts = np.bincount(index.dropna().to_numpy(dtype=np.int64), minlength=len(distinct))
    numbers = [_number(text, table) for text in distinct]
    plain = np.array([number is not None for number in numbers])
    if plain.all():
        return "number", _spread(numbers, index)
    seen = counts.sum()
    if counts[plain].sum() < seen and _share_numberlike(distinct, counts, plain) >= _MOSTLY * seen:
        first = int(np.flatnonzero(~plain)[0])  # the dictionary is in the order of the rows
        row = int((index == first).to_numpy().argmax())
        raise InputError(f"{table.place(row, name)}: {_not_a_number(distinct[first], table)}")
    if counts[[bool(_TIME.fullmatch(text.strip())) for text in distinct]].sum() > _MOSTLY * seen:
        return "time", column.to_pandas()
    if seen >= _FEW and share_seen_once(counts) > _MOSTLY:
        return "identifier", column.to_pandas()
    return "category", column.to_pandas()


def number_values(column: Any, name: str, table: Table) -> pd.Series | NDArray[Any]:
    """The values of a column that holds numbers, as :func:`values_of` gives them.

    Raises
    ------
    InputError
        At the first cell that is none.
    """
    import pyarrow as pa

    if not pa.types.is_string(column.type):
        return values_of(column)
    table = table.of(name)
    distinct, index = _distinct_cells(column)
    numbers = [_number(text, table) for text in distinct]
    if None in numbers:
        first = numbers.index(None)
        row = int((index == first).to_numpy().argmax())
        raise InputError(f"{table.place(row, name)}: {_not_a_number(distinct[first], table)}")
    return _spread(numbers, index)


def _distinct_cells(column: Any) -> tuple[list[Any], pd.Series]:
    """Distinct values in the order of the rows, and which of them each row holds (missing where none)."""
    codes = _dictionary(column)
    return codes.dictionary.to_pylist(), codes.indices.to_pandas()


def _dictionary(column: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_float16(column.type):  # arrow codes none of these
        column = column.cast(pa.float32())
    codes = pa.chunked_array([column.combine_chunks().dictionary_encode()]).combine_chunks()
    return codes.chunk(0) if isinstance(codes, pa.ChunkedArray) else codes


def _share_numberlike(distinct: list[str], counts: NDArray[np.int64], plain: NDArray[np.bool_]) -> int:
    like = plain.copy()
    for i in np.flatnonzero(~plain):
        text = unicodedata.normalize("NFKC", distinct[i]).strip().replace("\u2212", "-")
        like[i] = bool(_NUMBER_LIKE.fullmatch(text)) and not _TIME.fullmatch(text)
    return int(counts[like].sum())


def share_seen_once(counts: NDArray[np.integer[Any]]) -> float:
    """Share of the rows whose value no other row has."""
    return float((counts == 1).sum() / max(1, counts.sum()))


def _spread(numbers: list[int | float | None], index: pd.Series) -> pd.Series:
    import pandas as pd

    whole = all(isinstance(number, int) and abs(number) < 2**63 for number in numbers)
    codes, missing = index.fillna(0).to_numpy(dtype=np.int64), index.isna().to_numpy()
    values = np.array(numbers, dtype=np.int64 if whole else np.float64)[codes]
    if not whole:
        return pd.Series(np.where(missing, np.nan, values))
    return pd.Series(pd.arrays.IntegerArray(values, missing)) if missing.any() else pd.Series(values)


def _number(text: str, table: Table) -> int | float | None:
    """The number that a cell writes in the table's notation, None where it writes none."""
    cell = text.strip(" \t")
    if _WORD_FOR_NUMBER.fullmatch(cell):
        return float(cell)
    if not re.fullmatch(_grammar(table.form.decimal, table.thousands), cell, re.ASCII):
        return None
    if table.thousands:
        cell = re.sub(_group_signs(table.thousands), "", cell)
    cell = cell.replace(table.form.decimal, ".")
    return int(cell) if re.fullmatch(r"[+-]?\d+", cell) else float(cell)


def _grammar(decimal: str, thousands: str | None) -> str:
    groups = rf"\d{{1,3}}(?:{_group_signs(thousands)}\d{{3}})+|" if thousands else ""
    point = re.escape(decimal)
    return rf"[+-]?(?:(?:{groups}\d+)(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"


def _group_signs(thousands: str) -> str:
    # A blank between groups is often a no-break or a thin one, an apostrophe a typographic one.
    alike = {" ": "[ \u00a0\u2009\u202f]", "'": "['\u2019]"}
    return alike.get(thousands, re.escape(thousands))


def _not_a_number(text: str, table: Table) -> str:
    """Sentence on a cell that is no plain number in a column where most are."""
    found = f"found the text {text!r}, expected a number such as 1{table.form.decimal}5 as in most rows"
    if not table.options:
        return f"{found}; write plain numbers in the file"
    other = _other_notation(text, table)
    cell = unicodedata.normalize("NFKC", text).strip()
    if other:
        how = f"set {other}"
    elif re.search(r"\d", cell):
        how = "write plain digits in the file"
    else:
        how = f"set data.missing: [{text!r}] if it means that there is no value"
    return f"{found}; {how} (or name the column under data.categorical)"


def _other_notation(text: str, table: Table) -> str:
    cell = text.strip()
    for decimal, thousands in ((".", ","), (",", "."), (".", " "), (".", "'"), (",", " "), (",", "'")):
        groups = re.escape(thousands)
        marked = re.search(_group_signs(thousands), cell) is not None
        if decimal == "." and thousands == "," and re.fullmatch(r"[+-]?\d{1,3},\d{3}", cell):
            return "data.thousands: ',' (or data.decimal: ',' if it is a fraction)"
        if decimal == "," and thousands == "." and re.fullmatch(r"[+-]?\d{1,3}(?:\.\d{3})+", cell):
            return "data.thousands: '.' and data.decimal: ','" if table.form.decimal == "." else "data.thousands: '.'"
        if re.fullmatch(_grammar(decimal, thousands), cell, re.ASCII) and (marked or decimal in cell):
            parts = [f'data.thousands: "{thousands}"'] if marked and groups else []
            return " and ".join([*parts, *([f"data.decimal: '{decimal}'"] if decimal != table.form.decimal else [])])
    return ""


def seconds(column: Any, values: pd.Series, name: str, table: Table) -> pd.Series:
    """A column of times as float64 seconds: since 1970 (UTC unless it says otherwise), or since midnight.

    Text is ISO 8601, DD.MM.YYYY or MM/DD/YYYY (DD/MM/YYYY where a first number is above 12), with a time of day or
    without.

    Raises
    ------
    InputError
        At the first cell that is no time.
    """
    import datetime

    import pandas as pd
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return series_of(column)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        # the epoch in nanoseconds is exact as an integer
        stamps = pd.to_datetime(values, utc=True)
    elif pa.types.is_time(kind):
        zero = datetime.date(1970, 1, 1)
        stamps = values.map(lambda t: datetime.datetime.combine(zero, t), na_action="ignore")
        stamps = pd.to_datetime(stamps, utc=True)
    elif pa.types.is_duration(kind):
        return values.dt.total_seconds()
    else:
        texts = values.str.strip()
        clock = texts.str.fullmatch(r"\d{1,2}:\d{2}.*", na=False)
        texts = texts.where(~clock, "1970-01-01 " + texts)
        slashed = texts.str.extract(r"^(\d{1,2})[/-]\d{1,2}[/-]\d{2,4}")[0].astype(float)
        day_first = bool(texts.str.match(r"\d{1,2}\.", na=False).any()) or bool((slashed > 12).any())
        stamps = pd.to_datetime(texts, errors="coerce", utc=True, format="mixed", dayfirst=day_first)
        numeric = pd.to_numeric(texts, errors="coerce")
        if numeric.notna().sum() == texts.notna().sum():
            return numeric
        bad = texts.notna() & stamps.isna()
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise InputError(f"{table.place(row, name)}: found {values.iloc[row]!r}, expected a time")
    return (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
