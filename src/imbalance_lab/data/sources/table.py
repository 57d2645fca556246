"""Any table with a target column: one sequence of one step per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.channels import matching
from imbalance_lab.data.coding import Coding, fit_coding
from imbalance_lab.data.columns import (
    Table,
    floats_of,
    input_column,
    label_texts,
    number_values,
    plain_column,
    seconds,
    series_of,
    share_seen_once,
)
from imbalance_lab.data.dataset import IGNORE, ByFold, LoadedData, SequenceDataset
from imbalance_lab.data.files import Format, existing, read_arrow
from imbalance_lab.data.label_classes import classes_of
from imbalance_lab.data.source_options import TableOptions
from imbalance_lab.data.split_plan import groups_of_rows, plan_split, sides_of_words, splits_of
from imbalance_lab.errors import InputError
from imbalance_lab.formats import listed, percent

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class _Read:
    """The columns of the table, or of its files one after the other."""

    columns: Mapping[str, Any]  # pyarrow columns of n rows
    table: Table
    side: NDArray[np.int64] | None  # (n,) side that its file gives a row, -1 where it is drawn

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values())))


def load_table(options: TableOptions, base: Path, coding: Coding | None = None) -> ByFold:
    """Load a CSV or Parquet table, fold by fold.

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
    if coding and coding.allow_missing:  # what is categorical is told by the coding then, and may be missing
        options = options.model_copy(update={"categorical": ()})
    read = _read(options, base, coding)
    columns, table, n = read.columns, read.table, read.rows
    wanted = _label_columns(options)
    texts = {name: label_texts(columns[name], name, table) for name in sorted(wanted)}
    heads, targets = {}, {}
    for column in options.target:
        heads[column], targets[column] = classes_of(texts[column], column, table, options, known=coding is not None)
    groups = _groups(texts.get(options.group) if options.group else None, options.group, table, n)
    _require_apart(groups, read)
    first = options.target[0]
    named = np.array([*heads[first], ""])  # "" is the stratum of what is not labelled
    strata = named[np.maximum(targets[first], -1)] if options.split.stratify == "target" else np.full(n, "all")
    by_head = {head: target[:, None] for head, target in targets.items()}
    of_groups, group = groups_of_rows(groups, strata, by_head, heads, read.side)
    part = options.split.column
    if part:
        given = sides_of_words(texts[part], group, of_groups.names, lambda row: table.place(row, part))
        of_groups = replace(of_groups, given=given)
    plan = plan_split(of_groups, options.split, options.split.fractions)
    plan = plan.of_data(chain([groups, *by_head.values()], (series_of(c).to_numpy() for c in columns.values())))
    used = {*options.target, options.group, part}
    inputs = {name: column for name, column in columns.items() if name not in used}
    found = _known_inputs(inputs, texts, options, table, coding) if coding else _inputs(inputs, texts, options, table)
    missing = {head: int((target == IGNORE).sum()) for head, target in targets.items()}
    roles = {name: texts[name] for name in (*options.target, options.group) if name}
    facts: dict[str, object] = {
        "rows": n,
        "duplicate_rows": _duplicates([*found.numbers.values(), *found.categories.values(), *roles.values()]),
        "groups": options.group or "none given: each row is its own group",
        **({"unlabelled": ", ".join(f"{head}: {k}" for head, k in missing.items())} if any(missing.values()) else {}),
        **plan.facts,
        **found.facts,
    }

    def of(fold: int | None) -> LoadedData:
        splits = splits_of(plan.side(fold), group)
        dataset = _dataset(
            found, heads, by_head, groups, coding or fit_coding(found.numbers, found.categories, splits.train)
        )
        return LoadedData(replace(dataset, facts={**facts, **dataset.facts}), splits, fold=plan.fold(fold))

    return of


def _read(options: TableOptions, base: Path, coding: Coding | None) -> _Read:
    paths = {-1: existing(base / options.path, "file")}
    paths |= {side: existing(base / path, "file") for side, path in options.split.files.items()}
    point, sign = options.notation()
    form = Format(options.separator, options.encoding, point, options.missing)
    own = {name: options.notation(name) for name in options.notation_columns}
    wanted = _label_columns(options)
    drop = _dropped(options, coding, wanted)
    parts: list[dict[str, Any]] = []
    for path in paths.values():
        table = Table(path, form, sign, own=own)
        arrow = read_arrow(path, drop, wanted | _text_columns(coding) | own.keys(), form)
        _check_columns(arrow.column_names, options, path)
        parts.append({name: plain_column(arrow[name], name, table, name in wanted) for name in arrow.column_names})
    sizes = [len(next(iter(part.values()))) for part in parts]
    files = tuple(paths.values())
    table = Table(files[0], form, sign, own=own, more=tuple(zip(np.cumsum(sizes).tolist(), files[1:], strict=False)))
    side = np.repeat(list(paths), sizes).astype(np.int64) if len(parts) > 1 else None
    return _Read(_joined(parts, files) if len(parts) > 1 else parts[0], table, side)


def _joined(parts: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> dict[str, Any]:
    """Columns of the first file, with those of the others below."""
    import pyarrow as pa

    out = {}
    for name, column in parts[0].items():
        pieces = [column]
        for part, path in zip(parts[1:], files[1:], strict=True):
            if name not in part:
                raise InputError(f"{path} has no column {name!r}, which {files[0]} has")
            pieces.append(part[name])
        try:
            tables = [pa.table({name: piece}) for piece in pieces]
            out[name] = pa.concat_tables(tables, promote_options="permissive")[name]
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            kinds = ", ".join(f"{piece.type} in {path}" for piece, path in zip(pieces, files, strict=True))
            raise InputError(f"column {name!r} is {kinds}; expected one type in all files") from error
    return out


def _require_apart(groups: NDArray[np.str_], read: _Read) -> None:
    """No group is in two files."""
    if read.side is None:
        return
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    other = np.flatnonzero(read.side != read.side[first][group])
    if len(other):
        row = int(other[0])
        raise InputError(
            f"group {str(names[group[row]])!r} is in {read.table.file(int(first[group[row]]))[0]} and in "
            f"{read.table.file(row)[0]}; allowed: one side of the split"
        )


def _dropped(options: TableOptions, coding: Coding | None, wanted: set[str]) -> Any:
    """Which columns are not read: those excluded, unless they have a role of their own."""
    kept, excluded = wanted.union(coding.columns if coding else ()), matching(options.exclude)
    return lambda name: name not in kept and excluded(name)


def _label_columns(options: TableOptions) -> set[str]:
    roles = (options.group, options.split.column)
    return {*options.target, *options.categorical, *(name for name in roles if name)}


def _text_columns(coding: Coding | None) -> set[str]:
    return {name for name, kind in coding.types.items() if kind == "string"} if coding else set()


def _check_columns(names: Sequence[str], options: TableOptions, path: Path) -> None:
    known = set(names)
    for role, wanted in (
        ("target", options.target),
        ("group", [options.group] if options.group else []),
        ("split.column", [options.split.column] if options.split.column else []),
        ("categorical", options.categorical),
        ("timestamps", options.timestamps),
        ("decimal or thousands", options.notation_columns),
    ):
        for name in wanted:
            if name in known:
                continue
            near = next((n for n in names if n.strip().casefold() == name.strip().casefold()), None)
            hint = f"; write {near!r} as the header does, blanks and case included" if near else ""
            raise InputError(f"{path} has no column {name!r} ({role}); it has {listed(names, 12)}{hint}")


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
    import pandas as pd

    numbers: dict[str, Any] = {}
    categories: dict[str, Any] = {}
    named: dict[str, list[str]] = {}
    timed, categorical = set(options.timestamps), set(options.categorical)
    for name, column in columns.items():
        if name in categorical:
            categories[name] = texts[name]
            continue
        if name in timed:
            numbers[name] = seconds(column, column.to_pandas(), name, table)
            continue
        kind, values = input_column(column, name, table)
        if kind == "number":
            numbers[name] = values
            _look_at(name, values, named)
        elif kind == "category":
            categories[name] = values
            if len(pd.unique(values)) == 1:
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


def _look_at(name: str, values: pd.Series | NDArray[Any], named: dict[str, list[str]]) -> None:
    first = values[0] if isinstance(values, np.ndarray) else values.iloc[0]
    infinite = int(np.isinf(values if isinstance(values, np.ndarray) else floats_of(values)).sum())
    if infinite:
        named.setdefault("columns_with_infinite_values", []).append(f"{name} ({infinite})")
    if (values == first).all():
        named.setdefault("constant_columns", []).append(name)


def _left_out(name: str, kind: str, values: pd.Series | NDArray[Any]) -> str:
    """Sentence on a column that is no input."""
    import pandas as pd

    if kind == "time":
        return f"column {name!r} left out: it holds times (data.timestamps: [{name}] takes them as seconds)"
    share = share_seen_once(pd.Series(values).value_counts().to_numpy())
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
    timed = set(options.timestamps)
    for name in coding.channels:
        if name in columns:
            column = columns[name]
            numbers[name] = (
                seconds(column, column.to_pandas(), name, table)
                if name in timed
                else number_values(column, name, table)
            )
    categories = {
        name: texts[name] if name in texts else label_texts(columns[name], name, table)
        for name in coding.categorical_channels
        if name in columns
    }
    return _Inputs(numbers, categories)


def _duplicates(columns: Sequence[Any]) -> int:
    """Rows of which one above holds the same in all columns; only those that agree so far are looked at again."""
    import pandas as pd

    rows = np.arange(len(columns[0]))
    alike = np.zeros(len(rows), dtype=np.int64)  # rows that agree in all columns so far have the same number
    for column in columns:
        codes = pd.factorize(column[rows] if isinstance(column, np.ndarray) else column.take(rows))[0]
        alike = pd.factorize(alike * (len(rows) + 1) + codes + 1)[0]
        several = np.bincount(alike)[alike] > 1
        rows, alike = rows[several], alike[several]
        if not len(rows):
            return 0
    return len(rows) - len(np.unique(alike))


def _dataset(
    inputs: _Inputs,
    heads: Mapping[str, tuple[str, ...]],
    targets: Mapping[str, NDArray[np.int64]],
    groups: NDArray[np.str_],
    coding: Coding,
) -> SequenceDataset:
    coded = coding.encode({**inputs.numbers, **inputs.categories})
    n = len(groups)
    return SequenceDataset(
        continuous=coded.continuous[:, None, :],
        categorical=coded.categorical[:, None, :],
        targets=targets,
        heads=heads,
        groups=groups,
        channels=coding.channels,
        unit=np.arange(n, dtype=np.int64),
        unit_position=np.zeros((n, 1), dtype=np.int64),
        unit_length=np.ones(n, dtype=np.int64),
        categorical_channels=coding.categorical_channels,
        categories=coding.categories,
        scaling=coding.scaling,
        column_types=coding.types,
        facts=coded.facts,
    )
