"""A recordings table, real or simulated, to windows, targets and splits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from imbalance_lab.data.channels import Inputs, matching, select_inputs
from imbalance_lab.data.coding import Coding
from imbalance_lab.data.dataset import (
    IGNORE,
    ByFold,
    LoadedData,
    Presence,
    RawText,
    SequenceDataset,
    Splits,
)
from imbalance_lab.data.gcode.blocks import BlockColumn, parse_column
from imbalance_lab.data.gcode.labels import COMMANDS, controller_motion, motion_labels
from imbalance_lab.data.gcode.tokens import TokenTable, legacy_table, masked_table
from imbalance_lab.data.gcode.vocabulary import Vocabulary, build_vocabulary, read_vocabulary
from imbalance_lab.data.source_options import EncodingOptions
from imbalance_lab.data.sources.labelled_rows import LabelledRows, count_labels, data_of_windows
from imbalance_lab.data.sources.recording_rows import RecordingRows, recordings_of_rows
from imbalance_lab.data.sources.recordings import Recordings, tidy
from imbalance_lab.data.split_plan import TRAIN, Groups, Plan, plan_split, sides_of_words, splits_of
from imbalance_lab.data.splits import assign_groups, class_counts
from imbalance_lab.data.windows import (
    Windows,
    apart_starts,
    covering_starts,
    cut,
    join,
    most_frequent_of,
    take,
    whole_starts,
)
from imbalance_lab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class _Table:
    """A tidy recordings table with what every encoding needs of it."""

    columns: dict[str, pd.Series]  # emptied where nothing reads them again
    frame: pd.DataFrame  # the columns of labels alone
    rows: RecordingRows  # sorted by name
    operation: NDArray[np.str_]  # (R,)
    blocks: BlockColumn
    facts: dict[str, object]
    coding: Coding | None  # of a model that exists
    given: NDArray[np.int64] | None  # (R,) side that a file or a column gives, -1 where it is drawn


def encode_recordings(
    recordings: Recordings, options: EncodingOptions, base_dir: Path | None = None, coding: Coding | None = None
) -> ByFold:
    """Cut windows, make targets, split and choose the inputs, fold by fold.

    Training windows overlap and score all their rows. Validation and test windows of the steps
    task overlap by half and score their centres, so that every row is scored exactly once with
    context on both sides; those of the tokens task share no row. With ``split.by: sequence``
    the windows of all recordings are cut as for training and shuffled. A unit has the same number
    in all folds and for all splits.

    Parameters
    ----------
    recordings : table with ``recording``, ``gcode_string`` and number columns, and its facts
    options : the encoding part of the ``data:`` section
    base_dir : folder that a relative ``vocabulary`` path starts from
    coding : of a model that exists: the inputs are its channels, coded as it knows them

    Raises
    ------
    InputError
        If nothing can be encoded: no label, no input left, too few recordings, malformed blocks.
    """
    table = _prepare(recordings, options, coding)
    if options.task == "steps":
        return _encode_steps(table, options)
    return _encode_tokens(table, options, base_dir)


def _prepare(recordings: Recordings, options: EncodingOptions, coding: Coding | None) -> _Table:
    column = options.split.column
    tidied = tidy(recordings.frame, recordings.facts, (column,) if column else ())
    frame = tidied.frame
    rows = recordings_of_rows(len(frame), frame["recording"].to_numpy(dtype=object), lambda row: f"row {row} (from 0)")
    if len(rows.names) < 3 and options.split.by == "recording" and not options.split.all_test:
        raise InputError(
            f"{len(rows.names)} recording(s) found, at least 3 are needed to split by recording (train, val, test)"
        )
    try:
        blocks = parse_column(frame["gcode_string"])
    except InputError as error:
        match = re.match(r"row (\d+): (.*)", str(error), re.DOTALL)
        if match is None:
            raise
        raise InputError(f"{rows.place(int(match.group(1)))}: {match.group(2)}") from error
    known = dict(tidied.facts)
    known["rows_without_text"] = int((blocks.codes < 0).sum())
    columns = recordings.left_out.union(map(str, frame.columns))
    unused = [p for p in options.exclude if p not in columns and not any(map(matching([p]), columns))]
    if unused and coding is None:
        known["exclude_patterns_without_a_column"] = ", ".join(unused)
    operation, unmatched = _operations(rows.names, options.operation)
    if unmatched:
        known["recordings_without_operation"] = unmatched
    of_file = recordings.sides
    given = np.array([of_file[n] for n in rows.names.tolist()], dtype=np.int64) if of_file else None
    if column:
        words = frame[column].to_numpy()
        given = sides_of_words(words, rows.of_row, rows.names, lambda row: f"{rows.place(row)}, column {column!r}")
        frame = frame.drop(columns=column)
    labels = frame[[name for name in ("momo",) if name in frame]]
    return _Table(
        {str(name): own for name, own in frame.items()}, labels, rows, operation, blocks, known, coding, given
    )


def _operations(names: NDArray[np.str_], pattern: str) -> tuple[NDArray[np.str_], int]:
    matches = [re.match(pattern, name) for name in names.tolist()]
    found = [m.group(1) if m and m.group(1) is not None else "unknown" for m in matches]
    return np.array(found, dtype=np.str_), sum(m is None for m in matches)


def _plan(
    table: _Table,
    options: EncodingOptions,
    counts: sparse.csr_array,
    heads: Mapping[str, Sequence[str]],
    held_out: sparse.csr_array | None = None,
) -> Plan:
    """Side of each recording; all of them train where the windows are shuffled later."""
    if options.split.by == "sequence":
        return Plan(np.zeros((1, len(table.rows.names)), dtype=np.int64))
    strata = table.operation if options.split.stratify == "operation" else np.full(len(table.rows.names), "all")
    classes = tuple((head, str(name)) for head, names in heads.items() for name in names)
    groups = Groups(table.rows.names, strata, counts, classes, held_out, table.given)
    plan = plan_split(groups, options.split, options.split.fractions)
    return plan.of_data(column.to_numpy() for column in table.columns.values())


def _splits(table: _Table, options: EncodingOptions, windows: Windows, part: NDArray[np.int64]) -> Splits:
    if options.split.by == "sequence":
        if len(windows) < 3:
            raise InputError(f"{len(windows)} window(s) found, at least 3 are needed to split by sequence")
        operation = table.operation[windows.recording]
        strata = operation if options.split.stratify == "operation" else np.full(len(windows), "all")
        nothing = np.zeros((len(windows), 0), dtype=np.int64)
        side = assign_groups(strata, nothing, options.split.fractions, options.split.seed, tries=1)
    else:
        side = part[windows.recording]
    splits = splits_of(side, np.arange(len(windows)))
    for name, index in splits.items():
        if not len(index) and not (options.split.all_test and name != "test"):
            raise InputError(f"the {name} split holds no window; give more recordings or a shorter window")
    return splits


def _inputs(table: _Table, options: EncodingOptions, train: NDArray[np.bool_]) -> Inputs:
    spend = options.split.folds is None  # else the next fold reads the columns again
    return select_inputs(
        table.columns, options.exclude, table.rows.of_row, train, options.min_coverage, table.coding, spend=spend
    )


def _raw_text(
    table: _Table,
    names: Sequence[str],
    encoded: NDArray[np.int64],
    vocabulary: Mapping[str, int] | None = None,
) -> RawText:
    """The text of the table; ``encoded`` is the place in ``names`` of each row's class, -1 where it has none."""
    rows = np.arange(len(table.rows.of_row)) - table.rows.starts[table.rows.of_row]
    return RawText(
        recording=_words(table.rows.names.tolist(), table.rows.of_row),
        row=rows.astype(np.int64),
        block=_words([block.text for block in table.blocks.blocks], table.blocks.codes),
        controller=_words(COMMANDS, controller_motion(table.frame)),
        encoded=_words(names, encoded),
        vocabulary=dict(vocabulary or {}),
    )


def _words(names: Sequence[str], codes: NDArray[np.int64]) -> pd.Categorical:
    """The name of each code, "" for -1."""
    import pandas as pd

    distinct, place = np.unique(np.array([*names, ""], dtype=np.str_), return_inverse=True)
    return pd.Categorical.from_codes(place[codes], distinct.tolist())


def _encode_steps(table: _Table, options: EncodingOptions) -> ByFold:
    labels = motion_labels(
        table.frame, table.blocks, table.rows.starts, options.labels, table.rows.place, table.coding is not None
    )
    _require_labels(table, options, np.all([target == IGNORE for target in labels.targets.values()], axis=0))
    command = labels.targets["command"]
    return LabelledRows(
        table.rows,
        labels,
        partial(_inputs, table, options),
        lambda windows, _: {"operation": table.operation[windows.recording]},
        _plan(table, options, count_labels(table.rows, labels), labels.heads),
        partial(_splits, table, options),
        options.window,
        table.facts,
        _raw_text(table, COMMANDS, np.where(command == IGNORE, -1, command)),
    ).of


def _require_labels(table: _Table, options: EncodingOptions, without: NDArray[np.bool_]) -> None:
    if options.unlabelled == "error" and without.any():
        raise InputError(
            f"{table.rows.place(int(without.argmax()))}: the label is missing ({int(without.sum())} such rows); "
            "set data.unlabelled: mask to leave them unscored"
        )


def _vocabulary(table: _Table, options: EncodingOptions, base_dir: Path | None) -> Vocabulary:
    if options.vocabulary is not None:
        return read_vocabulary((base_dir or Path()) / options.vocabulary)
    codes = table.blocks.codes
    rows = np.bincount(codes[codes >= 0], minlength=len(table.blocks.blocks))
    return build_vocabulary({b.text: int(n) for b, n in zip(table.blocks.blocks, rows, strict=True)})


@dataclass(frozen=True)
class _TokenWindows:
    """All windows that any split could use, with the block that each is about."""

    windows: Windows
    label: NDArray[np.int64]  # (N,) block, -1 where a window holds no text
    in_train: NDArray[np.bool_]  # (N,) cut as for training

    def chosen(self, part: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Windows of training cut for recordings in train, the others for those outside; shape (N,)."""
        return self.in_train == (part[self.windows.recording] == TRAIN)


def _encode_tokens(table: _Table, options: EncodingOptions, base_dir: Path | None) -> ByFold:
    if not table.blocks.blocks:
        raise InputError("no row carries a label: column 'gcode_string' is empty")
    _require_labels(table, options, table.blocks.codes < 0)
    vocabulary = _vocabulary(table, options, base_dir)
    legacy = options.encoding == "legacy"
    facts: dict[str, object] = {"encoding": options.encoding, "vocabulary_size": len(vocabulary.tokens)}
    if legacy:
        tokens, facts["unknown_token_share"] = legacy_table(table.blocks, vocabulary)
    else:
        tokens = masked_table(table.blocks.blocks, vocabulary)
    length, stride = options.window.length, options.window.stride
    starts_of = whole_starts if legacy else covering_starts
    cuts = [cut(table.rows.lengths, starts_of, length, stride, centre=False)]
    if options.split.by == "recording":
        cuts.append(cut(table.rows.lengths, apart_starts, length, length, centre=False))
    labels = [most_frequent_of(table.blocks.codes, windows.rows(table.rows.starts)) for windows in cuts]
    counts, held_out = (_token_counts(table, cuts[i], labels[i], tokens) for i in (0, -1))
    plan = _plan(table, options, counts, tokens.heads, held_out)
    ends = np.cumsum([len(classes) for classes in tokens.heads.values()])[:-1]
    sides = [dict(zip(tokens.heads, np.split(c.toarray() > 0, ends, axis=1), strict=True)) for c in (counts, held_out)]
    presence = Presence(table.rows.names, *sides) if options.split.by == "recording" else None
    in_train = np.repeat([True, False], [len(cuts[0]), sum(map(len, cuts[1:]))])
    candidates = _TokenWindows(join(cuts), np.concatenate(labels), in_train)
    raw = _raw_text(table, tokens.first_command, table.blocks.codes, vocabulary.tokens)

    def of(fold: int | None) -> LoadedData:
        part = plan.side(fold)
        dataset, windows = _token_data(table, options, candidates, part, tokens, {**facts, **plan.facts})
        splits = _splits(table, options, windows, part)
        return LoadedData(dataset, splits, raw, "all" if legacy else "train", presence, fold=plan.fold(fold))

    return of


def _token_counts(table: _Table, windows: Windows, label: NDArray[np.int64], tokens: TokenTable) -> sparse.csr_array:
    """Positions of each class of each head in each recording, of the windows that hold text."""
    told = label >= 0
    targets = [tokens.targets[head][label[told]] for head in tokens.heads]
    widths = [len(classes) for classes in tokens.heads.values()]
    return class_counts(windows.recording[told], len(table.rows.names), targets, widths)


def _token_data(
    table: _Table,
    options: EncodingOptions,
    candidates: _TokenWindows,
    part: NDArray[np.int64],
    tokens: TokenTable,
    facts: dict[str, object],
) -> tuple[SequenceDataset, Windows]:
    """The data set, and its windows: of those that fit the sides the ones that hold text."""
    chosen, told = candidates.chosen(part), candidates.label >= 0
    facts["windows_without_text_dropped"] = int((chosen & ~told).sum())
    kept = chosen & told
    windows, label = take(candidates.windows, kept), candidates.label[kept]
    facts["windows"] = len(windows)
    lengths = np.where(told, tokens.lengths[candidates.label], 0)  # a unit is a window, whether it is used or not
    longest = int(lengths.max(initial=1))
    place = np.arange(longest)
    inputs = _inputs(table, options, part == TRAIN)
    dataset = data_of_windows(
        table.rows,
        inputs,
        windows,
        heads=tokens.heads,
        targets={head: target[label][:, :longest] for head, target in tokens.targets.items()},
        units=(np.flatnonzero(kept), np.where(place < tokens.lengths[label][:, None], place, -1), lengths),
        slices={"operation": table.operation[windows.recording]},
        facts={**table.facts, **inputs.facts, **facts},
    )
    return dataset, windows
