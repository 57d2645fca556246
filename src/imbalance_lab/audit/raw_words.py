"""G-code words in raw block text, and how raw rows join the targets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.target_positions import factorize, scored_positions
from imbalance_lab.data.dataset import RawText, SequenceDataset

MOTION = ("G0", "G1", "G2", "G3")
COMMAND_LETTERS = "GM"
_WORD = re.compile(r"([A-Z])\s*([-+]?\d*\.?\d*)")
_COMMENT = re.compile(r"\([^)]*\)|;.*$")


def words(block: str) -> tuple[tuple[str, str], ...]:
    """The (letter, number text) words of one block, comments left out (RS274/NGC)."""
    return tuple(_WORD.findall(_COMMENT.sub("", block.upper())))


def command_name(letter: str, number: str) -> str:
    """``G01`` is ``G1``; decimals stay (``G38.2``)."""
    number = number.rstrip(".")
    return letter + (str(int(number)) if number.isdigit() else number)


def commands(block: str) -> tuple[str, ...]:
    """Command words (G and M) of a block, normalised."""
    return tuple(
        command_name(letter, number) for letter, number in words(block) if letter in COMMAND_LETTERS and number
    )


@dataclass(frozen=True)
class WordCounts:
    """Distinct raw words with their counts over rows."""

    letter: tuple[str, ...]
    number: tuple[str, ...]
    count: NDArray[np.int64]


def word_counts(raw: RawText) -> WordCounts:
    """Every distinct word of the raw text and the rows that carry it."""
    codes, blocks = factorize(raw.block)
    rows = np.bincount(codes, minlength=len(blocks))
    total: dict[tuple[str, str], int] = {}
    for block, n in zip(blocks.tolist(), rows.tolist(), strict=True):
        for word in words(block):
            total[word] = total.get(word, 0) + n
    keys = sorted(total)
    return WordCounts(
        tuple(k[0] for k in keys), tuple(k[1] for k in keys), np.array([total[k] for k in keys], dtype=np.int64)
    )


def explicit_motion(raw: RawText) -> NDArray[np.int64]:
    """Index into :data:`MOTION` of each row's last motion word, -1 where it has none; shape (n_rows,)."""
    codes, blocks = factorize(raw.block)
    table = np.full(max(len(blocks), 1), -1, dtype=np.int64)
    for i, block in enumerate(blocks.tolist()):
        found = [c for c in commands(block) if c in MOTION]
        if found:
            table[i] = MOTION.index(found[-1])
    return table[codes]


def modal_motion(raw: RawText) -> NDArray[np.int64]:
    """The motion command in force at each row: the last explicit one of its recording; shape (n_rows,)."""
    import pandas as pd

    codes, _ = factorize(raw.recording)
    explicit = explicit_motion(raw)
    order = np.lexsort((raw.row, codes))
    filled = pd.Series(np.where(explicit < 0, np.nan, explicit)[order]).groupby(codes[order]).ffill()
    out = np.empty(len(codes), dtype=np.int64)
    out[order] = filled.fillna(-1).to_numpy().astype(np.int64)
    return out


def controller_motion(raw: RawText) -> NDArray[np.int64]:
    """Index into :data:`MOTION` of the controller's motion mode, -1 elsewhere; shape (n_rows,)."""
    codes, names = factorize(raw.controller)
    table = np.array([MOTION.index(n) if n in MOTION else -1 for n in names.tolist()] or [-1], dtype=np.int64)
    return table[codes]


@dataclass(frozen=True)
class Joined:
    """Per-step targets beside the raw row that they stand for; arrays of shape (n,)."""

    raw_row: NDArray[np.int64]
    label: NDArray[np.int64]
    group: NDArray[np.int64]


def motion_head(heads: Mapping[str, tuple[str, ...]]) -> str | None:
    """The head that names at least two motion commands among its classes, or None."""
    for head, classes in heads.items():
        if len(set(classes) & set(MOTION)) >= 2:
            return head
    return None


def join_rows(dataset: SequenceDataset, raw: RawText, head: str) -> Joined | None:
    """Targets of ``head`` joined with raw rows by (recording, row); None where targets are not per row."""
    if dataset.target_length != dataset.continuous.shape[1] or dataset.target_length == 1:
        return None
    positions = scored_positions(dataset, head)
    place = dataset.unit_position[positions.row, positions.place]
    codes, names = factorize(raw.recording)
    code_of = {name: i for i, name in enumerate(names.tolist())}
    recording = np.array([code_of.get(n, -1) for n in positions.group_names.tolist()], dtype=np.int64)[positions.group]
    longest = int(max(raw.row.max(initial=0), place.max(initial=0))) + 1
    raw_key = codes * longest + raw.row
    order = np.argsort(raw_key, kind="stable")
    key = recording * longest + place
    at = np.minimum(np.searchsorted(raw_key[order], key), max(len(order) - 1, 0))
    if not len(order):
        return None
    known = (recording >= 0) & (place >= 0) & (raw_key[order[at]] == key)
    if not known.any():
        return None
    return Joined(order[at][known], positions.label[known], positions.group[known])
