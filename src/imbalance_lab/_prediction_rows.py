"""Rows of a predictions table that others wrote: refused before a cast could change what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.errors import InputError

_WHOLE: dict[str, type[np.signedinteger[Any]]] = {
    "sequence": np.int64,
    "position": np.int32,
    "from_start": np.int32,
    "from_end": np.int32,
}
_NAMES = frozenset({"head", "group"})
_NEEDED = frozenset({*_NAMES, *_WHOLE, "true", "pred", "probabilities"})
_SLACK = 1e-3  # probabilities that float32 or a CSV rounded stay within this of their range


def check_columns(schema: Any, where: str) -> None:
    """Refuse a predictions table that lacks a column, has one twice, or whose names of heads, groups and slices
    are no text.

    Raises
    ------
    InputError
        Naming the column.
    """
    import pyarrow.types as kinds

    if missing := _NEEDED - set(schema.names):
        raise InputError(f"{where}: predictions table lacks the columns {', '.join(sorted(missing))}")
    if twice := sorted(name for name, n in Counter(schema.names).items() if n > 1):
        raise InputError(f"{where}: predictions table has the column {twice[0]!r} twice")
    for name in filter(_is_name, schema.names):
        found = schema.field(name).type
        kind = found.value_type if kinds.is_dictionary(found) else found
        if not (kinds.is_string(kind) or kinds.is_large_string(kind) or str(kind) == "string_view"):
            raise InputError(f"{where}, column {name!r} is of type {found}; allowed is text")


def check_names(part: Any, rows: NDArray[np.int64], where: str) -> None:
    """Refuse the first of ``rows`` (int64 (n,), counted in the file) whose group or slice is missing.

    Raises
    ------
    InputError
        Naming the column and the row.
    """
    for name in filter(_is_name, part.column_names):
        if part[name].null_count:
            row = int(rows[np.asarray(part[name].is_null()).argmax()])
            raise InputError(f"{where}, column {name!r}, row {row}: found nothing, expected a name")


def _is_name(column: str) -> bool:
    return column in _NAMES or column.startswith("slice.")


def check_rows(part: Any, classes: Sequence[str], rows: NDArray[np.int64], where: str) -> None:
    """Refuse the first row of one head that is not a prediction.

    Parameters
    ----------
    part : pyarrow table, the n rows of the head
    classes : names of the K classes
    rows : int64 array of shape (n,), the place of each row in the file, from 0
    where : file and head, the beginning of each message

    Raises
    ------
    InputError
        If a class is given twice, a code is no whole number in range, probabilities are not K
        numbers in [0, 1], or a position is given twice.
    """
    if twice := sorted({str(c) for c in classes if list(classes).count(c) > 1}):
        raise InputError(f"{where} gives the class {twice[0]!r} twice; class names are unique")
    top = len(classes) - 1
    for name in ("true", "pred"):
        _check_whole(part[name], rows, f"{where}, column {name!r}", 0, top, f"class codes, 0 to {top}")
    for name, dtype in _WHOLE.items():
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        _check_whole(part[name], rows, f"{where}, column {name!r}", low, high, f"whole numbers ({np.dtype(dtype)})")
    _check_probabilities(part["probabilities"], rows, where, len(classes))
    places = np.stack([part[c].to_numpy().astype(np.int64) for c in ("sequence", "position")], axis=1)
    step = np.diff(places, axis=0)
    if ((step[:, 0] > 0) | ((step[:, 0] == 0) & (step[:, 1] > 0))).all():
        return  # in order, as tables mostly are: none is given twice
    order = np.lexsort((rows, places[:, 1], places[:, 0]))
    same = (places[order[1:]] == places[order[:-1]]).all(axis=1)
    if same.any():
        at = int(same.argmax())
        sequence, position = places[order[at]]
        raise InputError(
            f"{where}: rows {rows[order[at]]} and {rows[order[at + 1]]} both hold sequence {sequence}, "
            f"position {position}; each position is given once"
        )


def _check_whole(column: Any, rows: NDArray[np.int64], where: str, low: int, high: int, allowed: str) -> None:
    import pyarrow.types as kinds

    kind = column.type
    if not (kinds.is_integer(kind) or kinds.is_floating(kind)):
        raise InputError(f"{where} is of type {kind}; allowed are {allowed}")
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind in "iu" and (not len(values) or (values.min() >= low and values.max() <= high)):
        return
    with np.errstate(invalid="ignore"):
        bad = ~((values >= low) & (values <= high) & (values == np.floor(values)))
    if bad.any():
        at = int(bad.argmax())
        raise InputError(f"{where}, row {rows[at]}: found {values[at]}; allowed are {allowed}")


def _check_probabilities(column: Any, rows: NDArray[np.int64], where: str, k: int) -> None:
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    kind = column.type
    lists = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    if not lists or not (kinds.is_floating(kind.value_type) or kinds.is_integer(kind.value_type)):
        raise InputError(f"{where}, column 'probabilities' is of type {kind}; allowed are lists of {k} numbers")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    if (lengths != k).any():
        at = int((lengths != k).argmax())
        raise InputError(f"{where}, row {rows[at]}: found {lengths[at]} probabilities; expected {k}, one a class")
    values = pc.list_flatten(column).to_numpy().reshape(-1, k)
    if not len(values):
        return
    sums = values.sum(axis=1, dtype=np.float64)
    if values.min() >= 0 and values.max() <= 1 and sums.min() >= 1 - _SLACK and sums.max() <= 1 + _SLACK:
        return  # false with a NaN
    bad = ~((values >= -_SLACK) & (values <= 1 + _SLACK)).all(axis=1)  # also catches NaN
    if bad.any():
        at = int(bad.argmax())
        raise InputError(f"{where}, row {rows[at]}: found probabilities {values[at]}; allowed are 0 to 1")
    bad = np.abs(sums - 1) > _SLACK
    if bad.any():
        at = int(bad.argmax())
        raise InputError(f"{where}, row {rows[at]}: probabilities sum to {sums[at]:.6g}, expected 1 (+-{_SLACK})")
