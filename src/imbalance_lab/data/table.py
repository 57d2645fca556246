"""Any table with a target column: one sequence of one step per row."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coding, fit_coding
from imbalance_lab.data.dataset import LoadedData, SequenceDataset, Splits
from imbalance_lab.data.files import existing, first_line, read_arrow
from imbalance_lab.data.gcode import natural_key
from imbalance_lab.data.options import TableOptions
from imbalance_lab.data.splits import split_rows
from imbalance_lab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def load_table(options: TableOptions, base: Path, coding: Coding | None = None) -> LoadedData:
    """Load a CSV or Parquet table.

    ``coding`` is that of a model that exists: its columns are the inputs, as it codes them.
    Number columns are continuous inputs; text and boolean columns, and those named in
    ``categorical``, are categorical ones (code 0 = missing, or not seen in train). Classes are
    the sorted distinct values of a target column.

    Raises
    ------
    InputError
        Missing or broken file, unknown column, a target without value, a text among numbers.
    """
    path = existing(base / options.path, "file")
    arrow = read_arrow(path, text=_label_columns(options) | _text_columns(coding))
    frame: pd.DataFrame = arrow.to_pandas()
    _check_columns(frame, options, path)
    heads, targets = {}, {}
    for column in options.target:
        heads[column], targets[column] = _classes(frame[column], column, path)
    groups = _groups(frame, options.group, path)
    first = options.target[0]
    strata = (
        np.array(heads[first])[targets[first]] if options.split.stratify == "target" else np.full(len(frame), "all")
    )
    by_head = [target[:, None] for target in targets.values()]
    splits = split_rows(groups, strata, by_head, options.split.fractions, options.split.seed)
    return _assemble(frame, options, path, heads, targets, groups, splits, coding)


def _label_columns(options: TableOptions) -> set[str]:
    return {*options.target, *([options.group] if options.group else []), *options.categorical}


def _text_columns(coding: Coding | None) -> set[str]:
    return {name for name, kind in coding.types.items() if kind == "string"} if coding else set()


def _check_columns(frame: pd.DataFrame, options: TableOptions, path: Path) -> None:
    for role, names in (
        ("target", options.target),
        ("group", [options.group] if options.group else []),
        ("categorical", options.categorical),
    ):
        for name in names:
            if name not in frame.columns:
                raise InputError(f"{path} has no column {name!r} ({role}); it has {', '.join(map(str, frame.columns))}")


def _texts(column: pd.Series) -> NDArray[np.str_]:
    """Values as text; whole floats without their point, so that 1.0 and 1 are one class."""
    from pandas.api.types import is_float_dtype

    if is_float_dtype(column) and bool((column == column.round()).all()):
        column = column.astype("int64")
    return column.astype(str).to_numpy().astype(np.str_)


def _classes(column: pd.Series, name: str, path: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    missing = column.isna().to_numpy()
    if missing.any():
        row = int(missing.argmax()) + first_line(path)
        raise InputError(
            f"{path}, row {row}, column {name!r}: the label is missing ({int(missing.sum())} such rows), "
            "expected a class in every row"
        )
    texts = _texts(column)
    classes = tuple(sorted(set(texts.tolist()), key=natural_key))
    if len(classes) < 2:
        raise InputError(f"{path}, column {name!r}: found the one class {classes[0]!r}, expected at least two")
    if len(classes) > max(2, len(texts) // 2):
        raise InputError(
            f"{path}, column {name!r}: found {len(classes)} distinct values in {len(texts)} rows, "
            "expected classes, not quantities"
        )
    order = {c: i for i, c in enumerate(classes)}
    distinct, inverse = np.unique(texts, return_inverse=True)
    return classes, np.array([order[t] for t in distinct.tolist()], dtype=np.int64)[inverse]


def _groups(frame: pd.DataFrame, group: str | None, path: Path) -> NDArray[np.str_]:
    if group is None:
        width = len(str(len(frame)))
        return np.char.zfill(np.arange(len(frame)).astype(np.str_), width)
    missing = frame[group].isna().to_numpy()
    if missing.any():
        raise InputError(
            f"{path}, row {int(missing.argmax()) + first_line(path)}, column {group!r}: the group is missing, "
            "expected one in every row"
        )
    return _texts(frame[group])


def _assemble(
    frame: pd.DataFrame,
    options: TableOptions,
    path: Path,
    heads: dict[str, tuple[str, ...]],
    targets: dict[str, NDArray[np.int64]],
    groups: NDArray[np.str_],
    splits: Splits,
    known: Coding | None,
) -> LoadedData:
    coding, empty = (known, []) if known else _fit(frame, options, path, splits)
    n = len(frame)
    coded = coding.encode(frame)
    facts: dict[str, object] = {
        "rows": n,
        "duplicate_rows": int(frame.duplicated().sum()),
        "groups": options.group or "none given: each row is its own group",
        **coded.facts,
    }
    if empty:
        facts["empty_columns_dropped"] = ", ".join(empty)
    rows = np.arange(n, dtype=np.int64)
    dataset = SequenceDataset(
        continuous=coded.continuous[:, None, :],
        categorical=coded.categorical[:, None, :],
        targets={head: target[:, None] for head, target in targets.items()},
        heads=heads,
        groups=groups,
        channels=coding.channels,
        unit=rows,
        unit_position=np.zeros((n, 1), dtype=np.int64),
        unit_length=np.ones(n, dtype=np.int64),
        categorical_channels=coding.categorical_channels,
        categories=coding.categories,
        scaling=coding.scaling,
        column_types=coding.types,
        facts=facts,
    )
    return LoadedData(dataset, splits)


def _fit(frame: pd.DataFrame, options: TableOptions, path: Path, splits: Splits) -> tuple[Coding, list[str]]:
    """Inputs of the table, coded by its training rows, and the columns that hold nothing."""
    used = {*options.target, *([options.group] if options.group else [])}
    inputs = [c for c in map(str, frame.columns) if c not in used and not _excluded(c, options.exclude)]
    empty = [c for c in inputs if frame[c].isna().all()]
    inputs = [c for c in inputs if c not in empty]
    kinds = {c: c in options.categorical or _is_category(frame[c], c, path) for c in inputs}
    numbers = [c for c in inputs if not kinds[c]]
    categories = [c for c in inputs if kinds[c]]
    if not numbers and not categories:
        raise InputError(f"{path} has no input column beside target, group and exclude {list(options.exclude)}")
    return fit_coding({c: frame[c] for c in numbers}, {c: frame[c] for c in categories}, splits.train), empty


def _excluded(column: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(column, pattern) for pattern in patterns)


def _is_category(column: Any, name: str, path: Path) -> bool:
    """Text and booleans are categories; mostly numbers with some text among them is an error."""
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if is_numeric_dtype(column) and not is_bool_dtype(column):
        return False
    if is_bool_dtype(column):
        return True
    values = pd.Series(column, dtype="object")
    text = values.notna() & pd.to_numeric(values, errors="coerce").isna()
    if values.notna().any() and text.sum() < 0.5 * values.notna().sum():
        row = int(text.to_numpy().argmax())
        raise InputError(
            f"{path}, row {row + first_line(path)}, column {name!r}: found the text {str(values.iloc[row])!r}, "
            "expected a number as in most rows (or name the column under 'categorical')"
        )
    return True
