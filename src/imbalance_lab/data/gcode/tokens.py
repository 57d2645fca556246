"""Targets of the tokens task: the block of a window as a sequence of four-part tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.data.gcode.blocks import Block, BlockColumn
from imbalance_lab.data.gcode.vocabulary import TYPES, Vocabulary, legacy_targets, tokenize, unknown_share
from imbalance_lab.errors import InputError
from imbalance_lab.formats import percent
from imbalance_lab.names import natural_key

HEADS = ("type", "command", "param_type", "param_value")
MASKED_TYPES = ("end", "command", "parameter", "numeric")
MAX_UNKNOWN = 0.5
"""A vocabulary that misses more than this share of the tokens belongs to other data."""


@dataclass(frozen=True)
class TokenTable:
    """Four targets of every distinct block.

    Attributes
    ----------
    targets : head to int64 array of shape (n_blocks, L)
    lengths : int64 array of shape (n_blocks,), real positions (the rest is padding)
    heads : head to class names
    first_command : class name that the command head gives a block, "" where it gives none
    """

    targets: dict[str, NDArray[np.int64]]
    lengths: NDArray[np.int64]
    heads: dict[str, tuple[str, ...]]
    first_command: tuple[str, ...]


def leading(number: float, step: float) -> str:
    """Sign and leading digit of a number in steps of its quantisation: -0.1254 by 0.001 is ``-1``."""
    steps = round(number / step)
    return f"-{str(-steps)[0]}" if steps < 0 else str(steps)[0]


def masked_table(blocks: Sequence[Block], vocabulary: Vocabulary) -> TokenTable:
    """Tokens of each block, each head scored only where it applies, and ``end`` after the last.

    A command word is (command, its name); an address is two tokens, (parameter, letter) and
    (numeric, letter, sign and leading digit). Classes are those of all blocks, in natural order.
    """
    rows = [_masked_rows(block, vocabulary) for block in blocks]
    heads: dict[str, tuple[str, ...]] = {"type": MASKED_TYPES}
    for k, head in enumerate(HEADS[1:], start=1):
        names = {str(token[k]) for row in rows for token in row if token[k] is not None}
        heads[head] = tuple(sorted(names, key=natural_key))
    length = max((len(row) for row in rows), default=1)
    targets = {head: np.full((len(blocks), length), IGNORE, dtype=np.int64) for head in HEADS}
    for k, head in enumerate(HEADS):
        index = {name: i for i, name in enumerate(heads[head])}
        for i, row in enumerate(rows):
            for position, token in enumerate(row):
                if token[k] is not None:
                    targets[head][i, position] = index[str(token[k])]
    first = tuple(next((word for word in block.commands), "") for block in blocks)
    return TokenTable(targets, np.array([len(row) for row in rows], dtype=np.int64), heads, first)


def _masked_rows(block: Block, vocabulary: Vocabulary) -> list[tuple[str | None, ...]]:
    rows: list[tuple[str | None, ...]] = []
    for word in block.words:
        if word.letter in "GMT":
            rows.append(("command", word.command, None, None))
        else:
            value = leading(word.number, vocabulary.precision.get(word.letter, 1e-3))
            rows.append(("parameter", None, word.letter, None))
            rows.append(("numeric", None, word.letter, value))
    return [*rows, ("end", None, None, None)]


def legacy_table(column: BlockColumn, vocabulary: Vocabulary) -> tuple[TokenTable, float]:
    """Tokens of each block as the legacy preprocessing wrote them, fillers and padding as 0.

    Returns the table and the share of tokens (over rows) that the vocabulary does not hold.

    Raises
    ------
    InputError
        If the vocabulary holds fewer than half of the tokens.
    """
    tokens = [tokenize(block.text, vocabulary) for block in column.blocks]
    rows = np.bincount(column.codes[column.codes >= 0], minlength=len(tokens)).tolist()
    unknown = unknown_share(tokens, rows, vocabulary)
    if unknown > MAX_UNKNOWN:
        example = next(t for row in tokens for t in row if t not in vocabulary.tokens)
        raise InputError(
            f"the vocabulary does not match the data: it misses {percent(unknown, 0)} of the tokens, "
            f"for example {example!r}"
        )
    length = max((len(row) for row in tokens), default=1)
    values = np.zeros((len(HEADS), len(tokens), length), dtype=np.int64)
    for i, row in enumerate(tokens):
        for position, token in enumerate(row):
            values[:, i, position] = legacy_targets(token, vocabulary)
    heads = {
        "type": TYPES,
        "command": vocabulary.commands or ("none",),
        "param_type": vocabulary.parameters or ("none",),
        "param_value": tuple(str(i) for i in range(10**vocabulary.bucket_digits)),
    }
    is_command = values[0] == 1
    # Without a command token argmax is 0, and what stands there is the filler: class 0.
    first = tuple(heads["command"][c] for c in values[1][np.arange(len(tokens)), is_command.argmax(axis=1)])
    lengths = np.array([len(row) for row in tokens], dtype=np.int64)
    return TokenTable(dict(zip(HEADS, values, strict=True)), lengths, heads, first), unknown
