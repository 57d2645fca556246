"""Ways to damage a small valid file: its bytes, or what it says while its form stays whole."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")
Draw = Callable[[SearchStrategy[Any]], Any]
Mutation = Callable[[Draw, bytes], bytes]

NUMBERS = (float("nan"), float("inf"), float("-inf"), -1, 0, 0.5, 1e-320, 1e308, 2**31, 2**40, 2**63 - 1, -(2**63))
WORDS = ("", " ", "x", "nan", "-1", "1e999", "9" * 400, "\x00", "é", "a" * 3000, '"', "1,5", "#REF!", "../../x", "=1+1")
PLAIN: tuple[Any, ...] = (*NUMBERS, *WORDS, None, True, False, 10**30, [], {}, [[1]], {"a": None}, ["x", 1], [None])


def pick(draw: Draw, options: Sequence[T]) -> T:
    return options[draw(st.integers(0, len(options) - 1))]


def _own(draw: Draw, values: Sequence[Any]) -> Any:
    """A copy: what a case holds is changed further, and the next case begins with the same values."""
    return copy.deepcopy(pick(draw, values))


# --- bytes ---------------------------------------------------------------------------------------------------------


def _place(draw: Draw, content: bytes) -> int:
    """Anywhere, and as often near the end: there some formats keep what the rest means."""
    near = draw(st.booleans())
    back = draw(st.integers(0, min(len(content), 600 if near else len(content))))
    return len(content) - back


def _span(draw: Draw, content: bytes) -> tuple[int, int]:
    start = _place(draw, content)
    return start, min(len(content), start + draw(st.integers(1, 64)))


def _flip(draw: Draw, content: bytes) -> bytes:
    at = min(_place(draw, content), len(content) - 1)
    return content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]


def _replace(draw: Draw, content: bytes) -> bytes:
    at = min(_place(draw, content), len(content) - 1)
    return content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]


def _truncate(draw: Draw, content: bytes) -> bytes:
    return content[: _place(draw, content)]


def _insert(draw: Draw, content: bytes) -> bytes:
    at = _place(draw, content)
    return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]


def _delete(draw: Draw, content: bytes) -> bytes:
    start, stop = _span(draw, content)
    return content[:start] + content[stop:]


def _double(draw: Draw, content: bytes) -> bytes:
    start, stop = _span(draw, content)
    return content[:stop] + content[start:stop] + content[stop:]


def _splice(draw: Draw, content: bytes) -> bytes:
    start, stop = _span(draw, content)
    at = _place(draw, content)
    return content[:at] + content[start:stop] + content[at + stop - start :]


def damaged(draw: Draw, content: bytes) -> bytes:
    """Up to three changes of bytes."""
    for _ in range(draw(st.integers(1, 3))):
        if content:
            content = pick(draw, (_flip, _replace, _truncate, _insert, _delete, _double, _splice))(draw, content)
    return content


def damaged_member(draw: Draw, content: bytes) -> bytes:
    """A zip archive whose checksums are right and one of whose members is damaged, left out or there twice."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = draw(st.integers(0, len(members) - 1))
    name, inner = members[at]
    what = draw(st.integers(0, 9))
    if what == 0:
        del members[at]
    elif what == 1:
        members.append((pick(draw, ("x", name + "x", members[0][0].partition("/")[0] + "/x")), inner))
    else:
        members[at] = (name, damaged(draw, inner))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for member, inside in members:
            archive.writestr(member, inside)
    return out.getvalue()


# --- plain values --------------------------------------------------------------------------------------------------


def _holders(plain: Any) -> list[tuple[Any, Any]]:
    """Each (mapping or list, key or index) within plain values."""
    if isinstance(plain, dict):
        keys: list[Any] = list(plain)
    elif isinstance(plain, list):
        keys = list(range(len(plain)))
    else:
        return []
    return [(plain, key) for key in keys] + [found for key in keys for found in _holders(plain[key])]


def changed_plain(draw: Draw, plain: Any, values: Sequence[Any] = PLAIN) -> Any:
    """Plain values of which one is dropped, replaced, renamed or doubled; ``plain`` itself is changed."""
    for _ in range(draw(st.integers(1, 2))):
        holders = _holders(plain)
        if not holders:
            return _own(draw, values)
        holder, key = pick(draw, holders)
        what = draw(st.integers(0, 5))
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[pick(draw, (*WORDS, *map(str, holder)))] = holder.pop(key)
        elif what == 2 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif what == 3:
            other, name = pick(draw, holders)
            holder[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else None))
        else:
            holder[key] = _own(draw, values)
    return plain


def json_value(draw: Draw, content: bytes) -> bytes:
    return json.dumps(changed_plain(draw, json.loads(content))).encode()


def yaml_value(draw: Draw, content: bytes) -> bytes:
    return yaml.safe_dump(changed_plain(draw, yaml.safe_load(content)), sort_keys=False).encode()


# --- tables --------------------------------------------------------------------------------------------------------

_TYPES = (
    pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(),
    pa.large_string(), pa.binary(), pa.null(), pa.decimal128(20, 3), pa.timestamp("ns"), pa.timestamp("s", "UTC"),
    pa.date32(), pa.time64("us"), pa.duration("ms"), pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.float64()),
    pa.struct([("a", pa.int64())]), pa.list_(pa.list_(pa.int64())),
)  # fmt: skip


def _cast(column: Any, kind: Any) -> Any:
    try:
        return column.cast(kind, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        pass
    value: Any = [[1]] if pa.types.is_list(kind) and pa.types.is_list(kind.value_type) else None
    value = [1.5] if value is None and pa.types.is_list(kind) else value
    value = {"a": 1} if pa.types.is_struct(kind) else value
    return pa.chunked_array([pa.array([value] * len(column), kind)])


def _with_value(draw: Draw, column: Any) -> Any:
    """One cell of a column changed, of all columns' types the nearest that holds it."""
    row = draw(st.integers(0, len(column) - 1))
    cells = column.to_pylist()
    cells[row] = pick(draw, (None, *NUMBERS, *WORDS[:6], [], [1.0], 0, 1))
    for kind in (column.type, pa.float64(), None, pa.string()):
        try:
            return pa.chunked_array([pa.array(cells, kind)])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError):
            continue
    return pa.chunked_array([pa.array([None if c is None else str(c) for c in cells], pa.string())])


def changed_table(draw: Draw, table: Any) -> Any:
    """A table of which a column, a cell or the rows are changed."""
    for _ in range(draw(st.integers(1, 2))):
        if not table.num_columns:
            return table
        i = draw(st.integers(0, table.num_columns - 1))
        name, column = table.column_names[i], table.column(i)
        what = draw(st.integers(0, 9))
        if what == 0:
            table = table.remove_column(i)
        elif what == 1:
            names = list(table.column_names)
            names[i] = pick(draw, (*names, *WORDS, name.upper()))
            table = table.rename_columns(names)
        elif what == 2:
            table = table.append_column(name, column)
        elif what == 3:
            rows = draw(st.integers(0, table.num_rows))
            table = pick(draw, (table.slice(0, rows), table.slice(rows)))
        elif what == 4:
            table = pa.concat_tables([table, table.slice(draw(st.integers(0, table.num_rows)))])
        elif what == 5:
            table = table.take(pa.array(np.arange(table.num_rows)[::-1]))
        elif what in (6, 7) or not table.num_rows:
            table = table.set_column(i, name, _cast(column, pick(draw, _TYPES)))
        else:
            table = table.set_column(i, name, _with_value(draw, column))
    return table


def parquet_table(draw: Draw, content: bytes) -> bytes:
    table = pq.read_table(io.BytesIO(content))
    meta = dict(table.schema.metadata or {})
    meta.pop(b"pandas", None)
    if b"imbalance_lab" in meta and draw(st.integers(0, 2)) == 0:
        meta[b"imbalance_lab"] = json_value(draw, meta[b"imbalance_lab"])
    else:
        table = changed_table(draw, table)
    out = io.BytesIO()
    table = table.replace_schema_metadata(meta)
    try:
        pq.write_table(table, out, row_group_size=pick(draw, (7, 1 << 20)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a table that no Parquet file can hold
        return content[:-1]
    return out.getvalue()


def csv_cell(draw: Draw, content: bytes) -> bytes:
    """A text of lines and cells of which a cell, a line or a column is changed."""
    lines = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(draw(st.integers(1, 2))):
        row = draw(st.integers(0, len(lines) - 1))
        i = draw(st.integers(0, len(lines[row]) - 1)) if lines[row] else 0
        what = draw(st.integers(0, 7))
        if what == 0:
            lines = [line[:i] + line[i + 1 :] for line in lines]
        elif what == 1:
            lines = [[*line, *line[i : i + 1]] for line in lines]
        elif what == 2:
            lines.insert(row, list(lines[row]))
        elif what == 3 and len(lines) > 1:
            del lines[row]
        elif what == 4:
            lines = lines[: row + 1]
        elif i < len(lines[row]):
            lines[row][i] = str(pick(draw, (*NUMBERS, *WORDS)))
    end = pick(draw, ("\n", "\r\n"))
    return (end.join(",".join(line) for line in lines) + pick(draw, (end, ""))).encode()


# --- arrays --------------------------------------------------------------------------------------------------------


def _changed_array(draw: Draw, array: Any) -> Any:
    what = draw(st.integers(0, 4))
    if what == 0:
        try:
            with np.errstate(all="ignore"):
                return array.astype(pick(draw, ("?", "b", "u1", "u8", "e", "f", "F", "i8", "S4", "U4", "O", "M8[s]")))
        except (ValueError, TypeError):
            return array
    if what == 1 and array.ndim:
        shapes = (array.ravel(), array[None], array[..., None], array[:0], array[..., :0], array.T, array[1:],
                  array[0] if len(array) else array, np.concatenate([array, array]))  # fmt: skip
        return pick(draw, shapes)
    out = array.copy()
    if out.size:
        place = draw(st.integers(0, out.size - 1))
        value: Any = pick(draw, NUMBERS) if out.dtype.kind != "U" else pick(draw, WORDS)
        if out.dtype.kind in "iu" and not (isinstance(value, int) and np.iinfo(out.dtype).min <= value):
            out = out.astype(np.float64)
        with suppress(ValueError, TypeError, OverflowError):  # an array that cannot hold it stays as it is
            out.flat[place] = value
    return out


def changed_arrays(draw: Draw, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Named arrays of which one is dropped, renamed, doubled, or of another type, shape or value."""
    out = dict(arrays)
    for _ in range(draw(st.integers(1, 2))):
        if not out:
            break
        name = pick(draw, list(out))
        what = draw(st.integers(0, 7))
        if what == 0:
            del out[name]
        elif what == 1:
            out[pick(draw, ("mask", "tokens", "x_targets", "_targets", "channels", "categorical", "x"))] = out[name]
        else:
            out[name] = _changed_array(draw, out[name])
    return out
