"""Any table with a target column: one sequence of one step per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coding, fit_coding
from imbalance_lab.data.columns import (
    Table,
    input_column,
    label_texts,
    number_values,
    plain_column,
    seconds,
    share_seen_once,
)
from imbalance_lab.data.dataset import LoadedData, SequenceDataset, Splits
from imbalance_lab.data.files import Format, existing, read_arrow
from imbalance_lab.data.source_options import TableOptions
from imbalance_lab.data.splits import split_rows
from imbalance_lab.errors import InputError
from imbalance_lab.formats import percent
from imbalance_lab.names import natural_key

if TYPE_CHECKING:
    import pandas as pd

_FRACTIONS = 20  # more distinct values with fractions than this are a measured quantity
_WHOLE = 50  # and so are more whole numbers than this, where they are also many for the rows
_ROWS_PER_CLASS = 10


def load_table(options: TableOptions, base: Path, coding: Coding | None = None) -> LoadedData:
    """Load a CSV or Parquet table.

    ``coding`` is that of a model that exists: its columns are the inputs, as it codes them.
    Number columns are continuous inputs; text and boolean columns, and those named in
    ``categorical``, are categorical ones (code 0 = missing, or not seen in train). Times and
    identifiers are left out, with a fact that says so. Classes are the sorted distinct texts of a
    target column; only an empty cell, or one of the words ``missing``, is no label.

    Raises
    ------
    InputError
        Missing or broken file, unknown column, a target without value, a measured quantity as
        target, a text among numbers, numbers in another notation.
    """
    path = existing(base / options.path, "file")
    point, group = options.notation()
    form = Format(options.separator, options.encoding, point, options.missing)
    table = Table(path, form, group, own={name: options.notation(name) for name in options.notation_columns})
    wanted = _label_columns(options)
    drop = _dropped(options, coding, wanted)
    arrow = read_arrow(path, drop, wanted | _text_columns(coding) | table.own.keys(), form)
    _check_columns(arrow.column_names, options, path)
    columns = {name: plain_column(arrow[name], name, table, name in wanted) for name in arrow.column_names}
    texts = {name: label_texts(columns[name], name, table) for name in sorted(wanted)}
    heads, targets = {}, {}
    for column in options.target:
        heads[column], targets[column] = _classes(texts[column], column, table, options.target_kind)
    n = arrow.num_rows
    groups = _groups(texts.get(options.group) if options.group else None, options.group, table, n)
    first = options.target[0]
    strata = np.array(heads[first])[targets[first]] if options.split.stratify == "target" else np.full(n, "all")
    by_head = [target[:, None] for target in targets.values()]
    splits = split_rows(groups, strata, by_head, options.split.fractions, options.split.seed)
    used = {*options.target, options.group}
    inputs = {name: column for name, column in columns.items() if name not in used}
    found = _known_inputs(inputs, texts, options, table, coding) if coding else _inputs(inputs, texts, options, table)
    return _assemble(found, texts, options, heads, targets, groups, splits, coding)


def _dropped(options: TableOptions, coding: Coding | None, wanted: set[str]) -> Any:
    """Which columns are not read: those excluded, unless they have a role of their own."""
    known = set(coding.columns) if coding else set()
    return lambda name: name not in wanted | known and any(fnmatchcase(name, p) for p in options.exclude)


def _label_columns(options: TableOptions) -> set[str]:
    return {*options.target, *([options.group] if options.group else []), *options.categorical}


def _text_columns(coding: Coding | None) -> set[str]:
    return {name for name, kind in coding.types.items() if kind == "string"} if coding else set()


def _check_columns(names: Sequence[str], options: TableOptions, path: Path) -> None:
    for role, wanted in (
        ("target", options.target),
        ("group", [options.group] if options.group else []),
        ("categorical", options.categorical),
        ("timestamps", options.timestamps),
        ("decimal or thousands", options.notation_columns),
    ):
        for name in wanted:
            if name in names:
                continue
            near = next((n for n in names if n.strip().casefold() == name.strip().casefold()), None)
            hint = f"; write {near!r} as the header does, blanks and case included" if near else ""
            raise InputError(f"{path} has no column {name!r} ({role}); it has {', '.join(map(str, names))}{hint}")


def _classes(
    texts: NDArray[np.object_], name: str, table: Table, kind: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    import pandas as pd

    codes, distinct = pd.factorize(texts)
    missing = codes < 0
    if missing.any():
        raise InputError(
            f"{table.place(int(missing.argmax()), name)}: the label is missing ({int(missing.sum())} such rows), "
            "expected a class in every row"
        )
    classes = tuple(sorted(distinct.tolist(), key=natural_key))
    if len(classes) < 2:
        raise InputError(f"{table.path}, column {name!r}: found the one class {classes[0]!r}, expected at least two")
    if kind == "auto":
        _refuse_quantity(classes, len(texts), name, table)
    order = {c: i for i, c in enumerate(classes)}
    return classes, np.array([order[t] for t in distinct.tolist()], dtype=np.int64)[codes]


def _refuse_quantity(classes: Sequence[str], rows: int, name: str, table: Table) -> None:
    """Many distinct numbers are a measurement, and nearly as many classes as rows are none."""
    numbers = [_as_number(text, table.of(name).form.decimal) for text in classes]
    numeric = all(number is not None for number in numbers)
    fractions = numeric and any(number is not None and number % 1 for number in numbers)
    many = max(2, rows // 2)
    if numeric:
        many = min(many, _FRACTIONS if fractions else max(_WHOLE, rows // _ROWS_PER_CLASS))
    if len(classes) > many:
        raise InputError(
            f"{table.path}, column {name!r}: found {len(classes)} distinct values in {rows} rows, "
            f"{classes[0]!r} to {classes[-1]!r}, expected classes, not quantities"
            f"{' or names' if not numeric else ''}; set data.target_kind: classes if each is a class of its own"
        )


def _as_number(text: str, decimal: str) -> float | None:
    try:
        return float(text.replace(decimal, "."))
    except ValueError:
        return None


def _groups(texts: NDArray[np.object_] | None, name: str | None, table: Table, rows: int) -> NDArray[np.str_]:
    if texts is None or name is None:
        return np.char.zfill(np.arange(rows).astype(np.str_), len(str(rows)))
    missing = np.array([text is None for text in texts])
    if missing.any():
        raise InputError(f"{table.place(int(missing.argmax()), name)}: the group is missing, expected one in every row")
    return texts.astype(np.str_)


@dataclass(frozen=True)
class _Inputs:
    """Input columns by kind, and what there is to say about them."""

    numbers: Mapping[str, Any]
    categories: Mapping[str, Any]
    facts: Mapping[str, object] = field(default_factory=dict)


def _inputs(
    columns: Mapping[str, Any], texts: Mapping[str, NDArray[np.object_]], options: TableOptions, table: Table
) -> _Inputs:
    numbers: dict[str, Any] = {}
    categories: dict[str, Any] = {}
    named: dict[str, list[str]] = {}
    for name, column in columns.items():
        if name in options.categorical:
            categories[name] = texts[name]
            continue
        if name in options.timestamps:
            numbers[name] = seconds(column, column.to_pandas(), name, table)
            continue
        kind, values = input_column(column, name, table)
        if kind == "number":
            numbers[name] = values
            _look_at(name, values, named)
        elif kind == "category":
            categories[name] = values
            if len(values.unique()) == 1:
                named.setdefault("constant_columns", []).append(name)
        elif kind == "empty":
            named.setdefault("empty_columns_dropped", []).append(name)
        else:
            named.setdefault("columns_left_out", []).append(_left_out(name, kind, values))
    if not numbers and not categories:
        left = "".join(f"; {said}" for said in named.get("columns_left_out", []))
        raise InputError(
            f"{table.path} has no input column beside target, group and exclude {list(options.exclude)}{left}"
        )
    between = {"columns_left_out": "; "}
    return _Inputs(numbers, categories, {fact: between.get(fact, ", ").join(words) for fact, words in named.items()})


def _look_at(name: str, values: pd.Series, named: dict[str, list[str]]) -> None:
    plain = values.to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = int(np.isinf(plain).sum())
    if infinite:
        named.setdefault("columns_with_infinite_values", []).append(f"{name} ({infinite})")
    if (values == values.iloc[0]).all():
        named.setdefault("constant_columns", []).append(name)


def _left_out(name: str, kind: str, values: pd.Series) -> str:
    """Sentence on a column that is no input."""
    if kind == "time":
        return f"column {name!r} left out: it holds times (data.timestamps: [{name}] takes them as seconds)"
    share = share_seen_once(values.value_counts().to_numpy())
    return (
        f"column {name!r} left out: {percent(share)} of its values are seen once, as in an identifier "
        f"(data.categorical: [{name}] takes it as categories)"
    )


def _known_inputs(
    columns: Mapping[str, Any],
    texts: Mapping[str, NDArray[np.object_]],
    options: TableOptions,
    table: Table,
    coding: Coding,
) -> _Inputs:
    """The columns that a model reads, whatever they look like here."""
    numbers: dict[str, Any] = {}
    for name in coding.channels:
        if name in columns:
            column = columns[name]
            timed = name in options.timestamps
            numbers[name] = (
                seconds(column, column.to_pandas(), name, table) if timed else number_values(column, name, table)
            )
    categories = {
        name: texts[name] if name in texts else label_texts(columns[name], name, table)
        for name in coding.categorical_channels
        if name in columns
    }
    return _Inputs(numbers, categories)


def _assemble(
    inputs: _Inputs,
    texts: Mapping[str, NDArray[np.object_]],
    options: TableOptions,
    heads: dict[str, tuple[str, ...]],
    targets: dict[str, NDArray[np.int64]],
    groups: NDArray[np.str_],
    splits: Splits,
    known: Coding | None,
) -> LoadedData:
    import pandas as pd

    coding = known or fit_coding(inputs.numbers, inputs.categories, splits.train)
    columns = {**inputs.numbers, **inputs.categories}
    coded = coding.encode(columns)
    n = len(groups)
    roles = {name: texts[name] for name in [*options.target, *([options.group] if options.group else [])]}
    facts: dict[str, object] = {
        "rows": n,
        "duplicate_rows": int(pd.DataFrame({**columns, **roles}).duplicated().sum()),
        "groups": options.group or "none given: each row is its own group",
        **coded.facts,
        **inputs.facts,
    }
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
