"""Labelled time series of any field: long tables of time steps to windows, targets and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.channels import Inputs, channel_groups, matching
from imbalance_lab.data.coding import Coding, Texts, fit_coding, texts_of
from imbalance_lab.data.columns import floats_of, input_column, number_values, series_of
from imbalance_lab.data.dataset import IGNORE, ByFold
from imbalance_lab.data.files import Format
from imbalance_lab.data.label_classes import RowLabels, classes_of
from imbalance_lab.data.source_options import SeriesOptions
from imbalance_lab.data.sources.labelled_rows import LabelledRows, count_labels
from imbalance_lab.data.sources.long_table import LongTable, Wanted, files_at, read_long
from imbalance_lab.data.sources.recording_rows import RecordingRows, check_order, recordings_of
from imbalance_lab.data.split_plan import Groups, plan_split, sides_of_words, splits_of
from imbalance_lab.data.windows import most_frequent_of
from imbalance_lab.errors import InputError
from imbalance_lab.formats import listed, percent

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Columns:
    """Input columns of n rows."""

    numbers: dict[str, NDArray[Any]]
    categories: Mapping[str, Texts]
    facts: Mapping[str, object]

    @property
    def all(self) -> dict[str, NDArray[Any]]:
        return {**self.numbers, **self.categories}


def load_series(options: SeriesOptions, base: Path, coding: Coding | None = None) -> ByFold:
    """Read long tables, fold by fold; windows are cut as those of recordings with a label in each row.

    ``coding`` is that of a model that exists: its channels are the inputs, as it codes them. Number columns are
    channels; text and boolean columns, and those named in ``categorical``, are categorical ones. Times and
    identifiers are left out, with a fact that says so.

    Raises
    ------
    InputError
        Whatever is wrong with a file; recordings that interleave; steps out of order; a target without classes; a
        pattern that no column has.
    """
    paths = {-1: files_at(base / options.path)}
    paths |= {side: files_at(base / path) for side, path in options.split.files.items()}
    files = [path for listed in paths.values() for path in listed]
    side_of_file = np.repeat(list(paths), [len(listed) for listed in paths.values()])
    read = read_long(files, _wanted(options, coding))
    recordings = recordings_of(read, options.recording, files, 1 if options.split.all_test else 3)
    facts: dict[str, object] = {**read.facts, "rows": read.rows, "recordings": len(recordings.names)}
    given = _given(read, recordings, options, side_of_file)  # before the order: a recording in two files falls in it
    if read.order is not None:
        facts |= check_order(read.order, recordings, read, str(options.order))
    heads, targets = {}, {}
    for name in options.target:
        heads[name], targets[name] = classes_of(read.texts[name], name, read.table, options, known=coding is not None)
    missing = {head: int((target == IGNORE).sum()) for head, target in targets.items()}
    if any(missing.values()):
        facts["unlabelled"] = ", ".join(f"{head}: {k}" for head, k in missing.items() if k)
    labels = RowLabels(heads, targets)
    columns = _columns(read, options, coding)
    slices = {name: _slice_codes(read.texts[name]) for name in options.slices}
    plan = plan_split(_groups(recordings, labels, options, given), options.split, options.split.fractions)
    return LabelledRows(
        recordings,
        labels,
        partial(_inputs, columns, recordings, options, coding),
        lambda _, rows: {name: names[most_frequent_of(codes, rows)] for name, (codes, names) in slices.items()},
        plan.of_data([recordings.of_row, *targets.values(), *columns.all.values()]),
        lambda windows, part: splits_of(part, windows.recording),
        options.window,
        facts,
    ).of


def _wanted(options: SeriesOptions, coding: Coding | None) -> Wanted:
    texts = {name for key, names in options.roles.items() if key != "order" for name in names}
    texts |= set(options.categorical)
    if coding:
        texts -= set(options.categorical) - set(coding.categorical_channels) - set(options.slices)
        known = set(coding.columns)
        optional = set(options.categorical) - set(options.slices) if coding.allow_missing else set()
        needed = frozenset(texts - optional)
        form = Format(missing=options.missing)
        return Wanted(needed, options.order, known.__contains__, form, frozenset(texts & optional))

    included, excluded = matching(options.include), matching(options.exclude)

    def is_input(name: str) -> bool:
        return included(name) and not excluded(name)

    return Wanted(frozenset(texts), options.order, is_input, Format(missing=options.missing))


def _columns(read: LongTable, options: SeriesOptions, coding: Coding | None) -> _Columns:
    if coding:
        numbers = {n: read.numbers[n] for n in coding.channels if n in read.numbers}
        loose = {n: read.loose[n] for n in coding.channels if n in read.loose}
        numbers |= {n: floats_of(number_values(c, n, read.table)) for n, c in loose.items()}
        there = {*read.numbers, *read.texts, *read.loose}
        texts = {n: _category(read, n) for n in coding.categorical_channels if n in there}
        return _Columns(numbers, texts, {})
    named: dict[str, list[str]] = {}
    numbers = {}
    for name in list(read.numbers):
        values = read.numbers.pop(name)
        if np.isfinite(values).any():
            numbers[name] = values
        else:
            named.setdefault("empty_columns_dropped", []).append(name)
    categories = {name: read.texts[name] for name in options.categorical}
    for name, column in read.loose.items():
        kind, found = input_column(column, name, read.table)
        if kind == "number":
            numbers[name] = floats_of(found)
        elif kind == "category":
            categories[name] = texts_of(found)
        elif kind == "empty":
            named.setdefault("empty_columns_dropped", []).append(name)
        else:
            what = "holds times" if kind == "time" else "looks like an identifier"
            named.setdefault("columns_left_out", []).append(f"column {name!r} left out: it {what}")
    _check_patterns(options, {*numbers, *categories, *named.get("empty_columns_dropped", ())}, read)
    return _Columns(numbers, categories, {fact: ", ".join(words) for fact, words in named.items()})


def _category(read: LongTable, name: str) -> Texts:
    if name in read.texts:
        return read.texts[name]
    return texts_of(series_of(read.loose[name]) if name in read.loose else read.numbers[name])


def _check_patterns(options: SeriesOptions, names: set[str], read: LongTable) -> None:
    if not names:
        raise InputError(
            f"{read.table.path} has no input column: include {list(options.include)} and exclude "
            f"{list(options.exclude)} leave none beside target, recording, order and slices"
        )
    groups = [
        (f"channel_groups.{key}", pattern) for key, listed in options.channel_groups.items() for pattern in listed
    ]
    for key, pattern in [*(("include", pattern) for pattern in options.include), *groups]:
        if pattern not in names and not any(map(matching([pattern]), names)):
            shown = listed(sorted(names), 12)
            raise InputError(f"data.{key}: no input column of {read.table.path} matches {pattern!r}; they are {shown}")


def _slice_codes(texts: Texts) -> tuple[Ints, NDArray[np.str_]]:
    """Code of each row, -1 without a text, and the name of each code; the last name is that of -1."""
    import pandas as pd

    codes, distinct = pd.factorize(texts)
    return codes.astype(np.int64), np.array([*distinct.tolist(), "none"], dtype=np.str_)


def _given(read: LongTable, recordings: RecordingRows, options: SeriesOptions, side_of_file: Ints) -> Ints | None:
    """Side of each recording that its file or a column gives it; None where all are drawn."""
    part = options.split.column
    if part:
        words, place = read.texts[part], read.table.place
        return sides_of_words(words, recordings.of_row, recordings.names, lambda row: place(row, part))
    if not options.split.files:
        return None
    first = np.searchsorted(read.starts, recordings.starts, side="right") - 1
    last = np.searchsorted(read.starts, recordings.starts + recordings.lengths - 1, side="right") - 1
    both = np.flatnonzero(side_of_file[first] != side_of_file[last])
    if len(both):
        r = int(both[0])
        row = int(recordings.starts[r])
        raise InputError(
            f"recording {str(recordings.names[r])!r} is in {read.table.file(row)[0]} and in "
            f"{read.table.file(row + int(recordings.lengths[r]) - 1)[0]}; allowed: one side of the split"
        )
    return side_of_file[first].astype(np.int64)


def _groups(recordings: RecordingRows, labels: RowLabels, options: SeriesOptions, given: Ints | None) -> Groups:
    n = len(recordings.names)
    counts = count_labels(recordings, labels)
    classes = tuple((head, name) for head, names in labels.heads.items() for name in names)
    strata = np.full(n, "all", dtype="<U24")
    if options.split.stratify == "target":
        # most steps of every recording are of the common classes: the rarest that it holds tells more
        rank = np.argsort(np.argsort(counts.sum(axis=0), kind="stable"), kind="stable")
        for r in range(n):
            held = counts.indices[counts.indptr[r] : counts.indptr[r + 1]]
            strata[r] = str(held[rank[held].argmin()]) if len(held) else "none"
    return Groups(recordings.names, strata, counts, classes, given=given)


def _inputs(
    columns: _Columns,
    recordings: RecordingRows,
    options: SeriesOptions,
    coding: Coding | None,
    train: NDArray[np.bool_],
) -> Inputs:
    """Inputs of every row, fitted on the recordings of ``train`` (R,) unless a ``coding`` is known."""
    chosen, left_out = (coding, {}) if coding else _fitted(columns, recordings, train, options)
    needed = chosen.needed(columns.all)
    if options.split.folds is None:  # nothing reads them again
        columns.numbers.clear()
    coded = chosen.encode(needed, spend=True)
    groups = channel_groups(chosen.channels, options.channel_groups)
    return Inputs(coded.continuous, coded.categorical, chosen, groups, {**columns.facts, **left_out, **coded.facts})


def _fitted(
    columns: _Columns, recordings: RecordingRows, train: NDArray[np.bool_], options: SeriesOptions
) -> tuple[Coding, dict[str, object]]:
    """The coding of the channels that enough recordings of train have, and what was left out."""
    shares = {
        name: float(np.logical_or.reduceat(np.isfinite(values), recordings.starts)[train].mean())
        for name, values in columns.numbers.items()
    }
    kept = {n: v for n, v in columns.numbers.items() if shares[n] >= options.min_coverage and shares[n] > 0}
    if not kept and not columns.categories:
        raise InputError(
            f"no input channel is left: data.min_coverage {options.min_coverage:g} drops all of {len(shares)} columns"
        )
    facts: dict[str, object] = {}
    dropped = [f"{n} ({percent(shares[n], 0)} of train recordings)" for n in shares if n not in kept]
    if dropped:
        facts["channels_dropped_by_coverage"] = ", ".join(dropped)
    constant = [n for n, values in kept.items() if np.fmin.reduce(values) == np.fmax.reduce(values)]
    if constant:
        facts["constant_columns"] = ", ".join(constant)
    return fit_coding(kept, columns.categories, train[recordings.of_row]), facts
