"""G-code blocks: words, explicit commands, and the modal state they leave behind.

Words follow the NIST RS274/NGC interpreter (Kramer, Proctor, Messina, NISTIR 6556): a letter and
a number, white space without meaning, comments in parentheses or after a semicolon.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.errors import InputError

MOTION = frozenset(
    ["G0", "G1", "G2", "G3", "G33", "G38.2", "G38.3", "G38.4", "G38.5", "G73", "G76", *(f"G8{i}" for i in range(1, 10))]
)
"""Modal group 1: the motion commands that stay in force until another one (or G80) comes."""

CANCEL = frozenset(["G80", "M2", "M30"])
"""Commands after which no motion command is in force."""

_COMMENT = re.compile(r"\([^()]*\)|;.*$", re.MULTILINE)
_CHECKSUM = re.compile(r"\*\s*\d+\s*$")
_WORD = re.compile(r"([A-Za-z])\s*([-+]?(?:\d+\.?\d*|\.\d+))")
_COMMAND_LETTERS = frozenset("GMT")


class Word(NamedTuple):
    """A letter with its number: ``X-0.1254`` is ``Word("X", -0.1254, "X-0.1254")``."""

    letter: str
    number: float
    raw: str

    @property
    def command(self) -> str:
        """Canonical name of a G, M or T word: ``G01`` is ``G1``, ``G38.20`` is ``G38.2``."""
        return f"{self.letter}{self.number:g}"


@dataclass(frozen=True)
class Block:
    """One parsed block (line) of G-code.

    Attributes
    ----------
    text : the block as it was given
    words : every word but the line number, in order
    motion : the explicit motion command (``G0`` ...; the last one if several), or None
    commands : canonical names of all G, M and T words, in order
    letters : the address letters (all but G, M, N, T), sorted, each once
    """

    text: str
    words: tuple[Word, ...]
    motion: str | None
    commands: tuple[str, ...]
    letters: tuple[str, ...]

    @property
    def cancels(self) -> bool:
        """Whether no motion command is in force after this block."""
        return not CANCEL.isdisjoint(self.commands)


def parse_block(text: str) -> Block:
    """Parse one block.

    Raises
    ------
    InputError
        If anything but words, comments, a leading ``/`` (block delete), ``%`` or a trailing
        checksum is left.
    """
    body = _CHECKSUM.sub("", _COMMENT.sub(" ", text)).strip().lstrip("/").strip("% \t\r\n")
    rest = _WORD.sub(" ", body).split()
    if rest:
        raise InputError(
            f"G-code block {text!r} holds {rest[0]!r}, expected words of a letter and a number such as X-0.5"
        )
    words = tuple(
        Word(letter.upper(), float(number), f"{letter.upper()}{number}")
        for letter, number in _WORD.findall(body)
        if letter not in "Nn"
    )
    commands = tuple(word.command for word in words if word.letter in _COMMAND_LETTERS)
    motions = [command for command in commands if command in MOTION]
    return Block(
        text=text,
        words=words,
        motion=motions[-1] if motions else None,
        commands=commands,
        letters=tuple(sorted({word.letter for word in words if word.letter not in _COMMAND_LETTERS})),
    )


@dataclass(frozen=True)
class BlockColumn:
    """A column of blocks in which each distinct text was parsed once.

    ``codes`` has one int64 entry per row, an index into ``blocks``; -1 where there is no text.
    """

    codes: NDArray[np.int64]
    blocks: tuple[Block, ...]

    def flag(self, values: Sequence[bool]) -> NDArray[np.bool_]:
        """One value per distinct block, spread over the rows; False where there is no text."""
        return np.append(np.asarray(values, dtype=bool), False)[self.codes]

    def spread(self, values: Sequence[int], missing: int) -> NDArray[np.int64]:
        """One integer per distinct block, spread over the rows; ``missing`` where there is no text."""
        return np.append(np.asarray(values, dtype=np.int64), missing)[self.codes]


def parse_column(texts: Any) -> BlockColumn:
    """Parse a column of texts (missing or blank ones allowed), each distinct text once.

    Raises
    ------
    InputError
        Naming the first row (counted from 0) that holds a malformed block.
    """
    import pandas as pd

    column = pd.Series(texts, dtype="object")
    column = column.where(column.notna(), "").astype(str).str.strip()
    codes, distinct = pd.factorize(column)
    blocks: list[Block] = []
    for code, text in enumerate(distinct):
        try:
            blocks.append(parse_block(text))
        except InputError as error:
            raise InputError(f"row {int(np.argmax(codes == code))}: {error}") from error
    # A text of comments only says as little about the motion as no text at all.
    kept = [i for i, block in enumerate(blocks) if block.words]
    remap = np.full(len(blocks), -1, dtype=np.int64)
    remap[kept] = np.arange(len(kept))
    return BlockColumn(remap[codes], tuple(blocks[i] for i in kept))


def modal_motion(column: BlockColumn, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Effective motion command of every row: explicit, or carried forward within its recording.

    Parameters
    ----------
    column : parsed rows, n of them
    starts : int64 array of shape (n_recordings,)
        First row of each recording, where the modal state begins empty.

    Returns
    -------
    codes : int64 array of shape (n,), index into the names, -1 where no motion command is in force
    names : the motion commands that occur, sorted
    """
    names = tuple(sorted({block.motion for block in column.blocks if block.motion is not None}))
    explicit = column.spread([names.index(b.motion) if b.motion else -1 for b in column.blocks], -1)
    cancels = column.flag([b.cancels for b in column.blocks])
    rows = np.arange(len(column.codes))
    event = (explicit >= 0) | cancels
    event[starts] = True
    last = np.maximum.accumulate(np.where(event, rows, 0)) if len(rows) else rows
    # A block may move and end the program: it moves itself, and nothing is in force afterwards.
    out = np.where(cancels[last] & (last != rows), -1, explicit[last])
    return out, names
