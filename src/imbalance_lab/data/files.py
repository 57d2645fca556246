"""Table files (CSV, Parquet) read with pyarrow; whatever is wrong with them is an InputError."""

from __future__ import annotations

import codecs
import csv
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from imbalance_lab.data.freed import give_back
from imbalance_lab.errors import InputError
from imbalance_lab.memory import require_room

_BLOCK = 1 << 24  # bytes of a CSV file that are read at a time where it is read in parts
_TEXT = ("string", "large_string")
_MOST_COLUMNS = 50_000  # that are read
_LONGEST = csv.field_size_limit()  # letters of a cell: no label, category or name is longer


def existing(path: Path, what: str) -> Path:
    """Return ``path``, or raise an InputError that names the nearest folder that does exist."""
    if path.exists():
        return path
    parent = next((p for p in path.parents if p.exists()), Path("."))
    raise InputError(f"{what} {path} does not exist (the nearest existing folder is {parent})")


_FOLDER = 0x10  # of the attributes that MS-DOS gave a file; PyTorch goes by it wherever the archive was written


def check_archive(path: Path) -> None:
    """Refuse a zip archive whose members would fill the memory, or are not as they were written.

    Other files are not looked at, as PyTorch takes a file for an archive by the same four bytes.

    PyTorch compares neither the checksums nor the sizes of what it reads, and reads nothing that is marked as a folder:
    of a damaged ``.pt`` file it returns tensors with what lay in memory.

    Raises
    ------
    InputError
        Naming what is wrong.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            require_room(f"{path}: what is packed in it", sum(m.file_size for m in archive.infolist()), path)
            folders = [m.filename for m in archive.infolist() if m.external_attr & _FOLDER and m.file_size]
            bad = archive.testzip()
    except InputError:
        raise
    except Exception as error:  # of the directory, a header or a way of packing
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    if bad is not None:
        raise InputError(f"{path} is damaged: the checksum of {bad!r} in it does not fit")
    if folders:
        raise InputError(f"{path} is damaged: {folders[0]!r} in it is marked as a folder, but holds bytes")


def is_index(name: str) -> bool:
    """Whether pandas wrote the column for its row index: a row number, never an input."""
    return not name or name.startswith(("__index_level_", "Unnamed: "))


@dataclass(frozen=True)
class Format:
    """How a text file writes cells and numbers, and which words mean "no value" beside the empty cell."""

    separator: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    missing: tuple[str, ...] = ()


RECORDING_FORMAT = Format(missing=("NaN", "nan", "NA", "N/A", "null", "NULL", "None"))
"""Of recordings, whose known columns hold numbers and blocks: none of these words is a value there."""


def read_arrow(
    path: Path,
    drop: Callable[[str], bool] = lambda name: False,
    text: Iterable[str] = (),
    form: Format = RECORDING_FORMAT,
) -> Any:
    """Read a CSV or Parquet file as a ``pyarrow.Table``; index columns of pandas are left out.

    Parameters
    ----------
    path : file that ends in .csv or .parquet
    drop : tells by its name whether a column is not read
    text : columns that are read as text whatever they look like (CSV)
    form : how a CSV file is written

    Raises
    ------
    InputError
        If the file is missing, empty, broken, without rows, in another encoding or with another
        separator, has a row of another length than the header, or names a column twice or not at all.
    """
    suffix = _suffix(path)
    with _readable(path, form):
        table = _read_csv(path, drop, set(text), form) if suffix == ".csv" else _read_parquet(path, drop)
    if table.num_rows == 0:
        raise InputError(f"{path} holds no rows")
    return table


def read_columns(
    path: Path, drop: Callable[[str], bool], text: Iterable[str] = (), form: Format = RECORDING_FORMAT
) -> tuple[list[str], Iterator[tuple[str, Any]]]:
    """The columns that :func:`read_arrow` reads: their names, and each of them in turn.

    Of a Parquet file few columns are in memory at a time, one where they are long (all their row groups: those of all
    columns would be there twice, compressed and not); a CSV file is read whole, and given column by column.
    """
    if _suffix(path) == ".csv":
        table = read_arrow(path, drop, text, form)
        columns = {name: table[name] for name in table.column_names}
        return list(columns), ((name, columns.pop(name)) for name in list(columns))
    with _readable(path, form):
        names = _parquet_columns(path, drop)
    return names, _columns_in_turn(path, names, form)


def _columns_in_turn(path: Path, names: Sequence[str], form: Format) -> Iterator[tuple[str, Any]]:
    import pyarrow.parquet as pq

    with _readable(path, form), pq.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        if not rows:
            raise InputError(f"{path} holds no rows")
        many = max(1, _BLOCK // (8 * rows))  # each read looks at the whole schema
        for start in range(0, len(names), many):
            part = _validated(file.read(columns=names[start : start + many]), path)
            columns = dict(zip(part.column_names, part.columns, strict=True))
            del part
            for name in list(columns):
                yield name, columns.pop(name)
            give_back()


@contextmanager
def _readable(path: Path, form: Format) -> Iterator[None]:
    """Whatever pyarrow finds wrong with a file is an InputError."""
    import pyarrow as pa

    is_csv = path.suffix.lower() == ".csv"
    try:
        yield
    except (pa.ArrowException, csv.Error, OSError, UnicodeError) as error:
        if is_csv and isinstance(error, UnicodeError):
            raise InputError(_undecodable(path, form)) from None
        if is_csv:
            _explain(path, form)
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as {path.suffix[1:].lower()}: {reason}") from error


def _suffix(path: Path) -> str:
    """``.csv`` or ``.parquet``, of a file that is there and not empty."""
    existing(path, "file")
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a .csv or .parquet file")
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise InputError(f"{path} ends in {suffix or 'nothing'!r}, allowed: .csv, .parquet")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file")
    return suffix


def read_arrow_parts(path: Path, drop: Callable[[str], bool], text: Iterable[str], form: Format) -> Iterator[Any]:
    """What :func:`read_arrow` reads, part after part: tables of some rows (CSV) or of one column (Parquet).

    Whole numbers of a CSV file are floats here, unless they are under ``text``: a later part may hold fractions.

    Raises
    ------
    pyarrow.ArrowInvalid
        If a later part of a CSV file is of another type than its first; :func:`read_arrow` tells what is wrong.
    InputError
        As :func:`read_arrow`, for what the first part shows.
    """
    import pyarrow as pa

    if _suffix(path) == ".csv":
        yield from _csv_parts(path, drop, set(text), form)
        return
    for name, column in read_columns(path, drop, text, form)[1]:
        yield pa.table({name: column})


def _validated(table: Any, path: Path) -> Any:
    """A table as pyarrow read it, of which text and offsets are what they should be: it looks at them when asked to."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table.validate(full=True)
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if pa.types.is_primitive(kind):
            continue
        chunks = (chunk.dictionary if pa.types.is_dictionary(kind) else chunk for chunk in table[name].chunks)
        long = [chunk for chunk in chunks if chunk.nbytes > _LONGEST and str(chunk.type) in _TEXT]
        if any((pc.max(pc.binary_length(chunk)).as_py() or 0) > _LONGEST for chunk in long):
            raise InputError(f"{path}, column {name!r}: {_too_long()}")
    return table


def _too_long() -> str:
    return f"found a cell of more than {_LONGEST:,} bytes, expected a number, a name or a class"


def _require_few(path: Path, names: Sequence[str], kept: int) -> None:
    """Refuse to read more columns than there is time and memory for; the header alone tells."""
    if kept > _MOST_COLUMNS:
        raise InputError(
            f"{path} has {len(names):,} columns, of which {kept:,} would be read; allowed are at most "
            f"{_MOST_COLUMNS:,}: data.exclude (table, series) leaves others out, data.include (series) names them"
        )


def _conversion(path: Path, drop: Callable[[str], bool], text: set[str], form: Format) -> Any:
    """How pyarrow reads the columns of a CSV file, once its header and its quotes were checked."""
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    odd = _quotes(path, form) % 2 == 1
    header = _header(path, form)
    names = [name for name in header if not is_index(name) and not drop(name)]
    _require_few(path, header, len(names))
    if odd:
        _check_quotes(path, form)
    return pa_csv.ConvertOptions(
        include_columns=names,
        column_types={name: pa.string() for name in header if name in text},
        null_values=["", *form.missing],
        strings_can_be_null=True,
        decimal_point=form.decimal,
    )


def _csv_parts(path: Path, drop: Callable[[str], bool], text: set[str], form: Format) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    convert = _conversion(path, drop, text, form)
    read = pa_csv.ReadOptions(encoding=form.encoding, block_size=_BLOCK)
    parse = pa_csv.ParseOptions(delimiter=form.separator, newlines_in_values=True)
    with pa_csv.open_csv(path, read, parse, convert) as first:
        kinds = {field.name: field.type for field in first.schema}
    if any(pa.types.is_null(kind) for kind in kinds.values()):
        raise pa.ArrowInvalid("the type of a column is not known from the first part")
    convert.column_types = {n: pa.float64() if pa.types.is_integer(kind) else kind for n, kind in kinds.items()}
    with pa_csv.open_csv(path, read, parse, convert) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _read_parquet(path: Path, drop: Callable[[str], bool]) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return _validated(file.read(columns=_parquet_columns(path, drop)), path)


def _parquet_columns(path: Path, drop: Callable[[str], bool]) -> list[str]:
    import pyarrow.parquet as pq

    about = pq.read_metadata(path)
    names = about.schema.to_arrow_schema().names
    twice = _named_twice(names)
    if twice:
        raise InputError(f"{path} names the column {twice!r} twice")
    kept = [n for n in names if not drop(n) and not is_index(n)]
    _require_few(path, names, len(kept))
    require_room(f"{path}", _declared(about, set(kept)), path)
    return kept


_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8}
_TEXT_WIDTH = 8  # of a text, at least


def _declared(about: Any, kept: Container[str]) -> int:
    """Bytes that columns take once they are read: a file with one value in all rows is tiny, however many they are."""
    total = 0
    for g in range(about.num_row_groups):
        group = about.row_group(g)
        for c in range(group.num_columns):
            column = group.column(c)
            if column.path_in_schema.partition(".")[0] in kept or column.path_in_schema in kept:
                total += column.num_values * _WIDTHS.get(column.physical_type, _TEXT_WIDTH)
    return total


def _read_csv(path: Path, drop: Callable[[str], bool], text: set[str], form: Format) -> Any:
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    convert = _conversion(path, drop, text, form)
    # One block for the whole file: the type of a column is inferred from its first block alone,
    # so that a text further down would otherwise surface as a conversion error without its row.
    # A transcoded file is longer than its bytes.
    size = path.stat().st_size * (1 if _is_utf8(form) else 4) + 1
    read = pa_csv.ReadOptions(encoding=form.encoding, **({"block_size": size} if size < 1 << 30 else {}))
    parse = pa_csv.ParseOptions(delimiter=form.separator, newlines_in_values=True)
    table = pa_csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        raise InputError(_undecodable(path, form))
    return table


def _is_utf8(form: Format) -> bool:
    return codecs.lookup(form.encoding).name in {"utf-8", "ascii"}


def _open(path: Path, form: Format) -> TextIO:
    return path.open(newline="", encoding="utf-8-sig" if _is_utf8(form) else form.encoding)


def _header(path: Path, form: Format) -> list[str]:
    with _open(path, form) as file:
        header = next(csv.reader(file, delimiter=form.separator), [])
    if len(header) == 1:
        other = next((sign for sign in (";", "\t", "|", ",") if sign != form.separator and sign in header[0]), None)
        if other:
            raise InputError(
                f"{path}: the header is one cell, {header[0][:80]!r}, with separator {form.separator!r}; "
                f"set data.separator: {json.dumps(other)}"
            )
    for i, name in enumerate(header):
        if not name.strip() and (i > 0 or name):  # pandas writes its row index under an empty first cell
            raise InputError(f"{path}: cell {i + 1} of the header is blank, expected the name of a column")
    twice = _named_twice(header)
    if twice:
        raise InputError(f"{path} names the column {twice!r} twice in its header")
    return header


def _named_twice(names: Iterable[str]) -> str | None:
    """The first name, in their order as texts, that stands there more than once."""
    return min((name for name, n in Counter(names).items() if n > 1), default=None)


def _check_quotes(path: Path, form: Format) -> None:
    """Refuse a CSV file whose last cell opens a quote that is never closed: pyarrow reads the rest as that cell.

    Quotes of cells come in pairs, so that only a file with an odd number of them is looked at row by row (a quote may
    stand within a cell that is not quoted).
    """
    end = "end of the file"
    last: list[str] = []
    begun = line = 0
    with _open(path, form) as file:
        reader = csv.reader(chain(file, ["\n", end]), delimiter=form.separator)
        for row in reader:
            begun, line, last = line + 1, reader.line_num, row
    if last != [end]:  # it was read as a part of the quoted cell
        raise InputError(f"{path}, row {begun}: a quote is opened and never closed; the file seems to be cut off")


def _quotes(path: Path, form: Format) -> int:
    """Number of quotes in a file.

    Raises
    ------
    InputError
        At a cell that is too long, which pyarrow would hold several times, and Python would not read.
    """
    as_bytes = '"'.encode(form.encoding) == b'"'  # not in UTF-16 and its kin
    quotes, line = 0, 1
    with path.open("rb") if as_bytes else _open(path, form) as file:
        rest: Any = b"" if as_bytes else ""
        signs: tuple[Any, ...] = ('"', "\n", "\r", form.separator)
        quote, end, *_ = signs = tuple(sign.encode(form.encoding) for sign in signs) if as_bytes else signs
        while part := file.read(_BLOCK):
            quotes += part.count(quote)
            part = rest + part
            at = 0
            while len(part) - at > _LONGEST:  # to the last sign that a cell of this length would lie before
                found = max(part.rfind(sign, at, at + _LONGEST + 1) for sign in signs[1:])
                if found < 0:
                    raise InputError(f"{path}, line {line + part.count(end, 0, at)}: {_too_long()}")
                at = found + 1
            line += part.count(end, 0, at)
            rest = part[at:]
    return quotes


def _undecodable(path: Path, form: Format) -> str:
    """Sentence on a text file that is not in the encoding it is read in."""
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return f"{path} is written in UTF-16, not in {form.encoding}; set data.encoding: utf-16"
        for number, line in enumerate(file, start=1):
            try:
                line.decode(form.encoding)
            except UnicodeError as error:
                at = getattr(error, "start", 0)
                return (
                    f"{path}, line {number}: found the byte 0x{line[at]:02x}, which {form.encoding} has not; "
                    "set data.encoding, for example latin-1 or cp1252"
                )
    return f"{path} cannot be read in the encoding {form.encoding}; set data.encoding"


def _explain(path: Path, form: Format) -> None:
    """Raise the error that a person can act on, where there is one: a byte, or a row of another length."""
    try:
        with _open(path, form) as file:
            reader = csv.reader(file, delimiter=form.separator)
            header = next(reader, [])
            before = reader.line_num
            for row in reader:
                if row and len(row) != len(header):
                    raise InputError(
                        f"{path}, row {before + 1}: found {len(row)} cells, expected {len(header)} as in the header"
                    )
                before = reader.line_num
    except UnicodeError:
        raise InputError(_undecodable(path, form)) from None
    except csv.Error:
        return


def row_number(path: Path, row: int, form: Format = RECORDING_FORMAT) -> int:
    """What a person calls data row ``row`` (from 0): the line of a CSV file, the row from 1 of a Parquet file."""
    if path.suffix.lower() != ".csv":
        return row + 1
    with _open(path, form) as file:
        reader = csv.reader(file, delimiter=form.separator)
        next(reader, None)
        before = reader.line_num
        for cells in reader:
            if cells:
                if row == 0:
                    return before + 1
                row -= 1
            before = reader.line_num
    return before + 1
