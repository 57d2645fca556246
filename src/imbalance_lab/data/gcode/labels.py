"""Targets of every recording row: the effective motion command and the set of address letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.data.gcode.blocks import BlockColumn, modal_motion
from imbalance_lab.data.label_classes import RowLabels
from imbalance_lab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

COMMANDS = ("G0", "G1", "G2", "G3")
"""Classes of the command head of the steps task: TinyG's motion modes 0 to 3."""


def controller_motion(frame: pd.DataFrame) -> NDArray[np.int64]:
    """Motion mode by ``momo``: 0..3 as in :data:`COMMANDS`, -1 where it says none or nothing; shape (n,)."""
    if "momo" not in frame.columns:
        return np.full(len(frame), -1, dtype=np.int64)
    momo = frame["momo"].to_numpy(dtype=np.float64)
    known = np.isin(momo, np.arange(len(COMMANDS)))
    return np.where(known, momo, -1).astype(np.int64)


def motion_labels(
    frame: pd.DataFrame,
    blocks: BlockColumn,
    starts: NDArray[np.int64],
    source: str,
    place: Callable[[int], str],
    known: bool = False,
) -> RowLabels:
    """Heads ``command`` and ``addresses`` of each row of a recordings table.

    Parameters
    ----------
    frame, blocks : n rows, and their text
    starts : int64 array of shape (R,), first row of each recording
    source : ``controller`` or ``text``, see :func:`command_rows`
    place : row to where it is, for messages
    known : whether a model exists that knows the commands: rows without any can be scored then

    Raises
    ------
    InputError
        A motion mode that is none; no row with a label, or with a command.
    """
    if source == "controller":
        _require_known_motion(frame, place)
    command, origin = command_rows(frame, blocks, starts, source)
    addresses, classes = address_rows(blocks)
    without = command == IGNORE
    if without.all() and (addresses == IGNORE).all():
        raise InputError("no row carries a label: column 'gcode_string' is empty, and so is 'momo'")
    if without.all() and not known:
        raise InputError(
            f"no row has a command, which is taken from the {origin}; expected motion modes 0 to 3 in column 'momo', "
            "or motion commands (G0 to G3) in the text with data.labels: text"
        )
    heads = {"command": COMMANDS, "addresses": classes or ("none",)}
    facts = {"labels": origin, "rows_without_command": int(without.sum())}
    return RowLabels(heads, {"command": command, "addresses": addresses}, facts)


def _require_known_motion(frame: pd.DataFrame, place: Callable[[int], str]) -> None:
    """Refuse a ``momo`` that is none of TinyG's motion modes (0 to 4; 4 is none under way)."""
    if "momo" not in frame.columns:
        return
    momo = frame["momo"].to_numpy(dtype=np.float64)
    unknown = ~(np.isnan(momo) | np.isin(momo, np.arange(len(COMMANDS) + 1)))
    if unknown.any():
        row = int(unknown.argmax())
        raise InputError(
            f"{place(row)}: found the motion mode {momo[row]:g} in column 'momo' "
            f"({int(unknown.sum())} such rows), allowed: 0 to 3, 4 (none), or nothing; data.labels: text takes the "
            "commands from the text"
        )


def command_rows(
    frame: pd.DataFrame, blocks: BlockColumn, starts: NDArray[np.int64], source: str
) -> tuple[NDArray[np.int64], str]:
    """Command target of each row, int64 (n,), IGNORE where there is none; and where it came from.

    ``source`` ``controller`` falls back to the text where the table has no ``momo``.
    """
    if source == "controller" and "momo" in frame.columns:
        motion = controller_motion(frame)
        return np.where(motion >= 0, motion, IGNORE), "controller (momo)"
    codes, names = modal_motion(blocks, starts)
    table = np.array([COMMANDS.index(n) if n in COMMANDS else IGNORE for n in names] + [IGNORE], dtype=np.int64)
    target = np.where(blocks.codes >= 0, table[codes], IGNORE)
    return target, "text (modal commands)"


def address_rows(blocks: BlockColumn) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Address target of each row, int64 (n,), IGNORE without text; and the classes, sorted.

    A class is the letters of a block joined (``XYZ``); ``none`` for a block without addresses.
    """
    sets = ["".join(block.letters) or "none" for block in blocks.blocks]
    classes = tuple(sorted(set(sets)))
    return blocks.spread([classes.index(s) for s in sets], IGNORE), classes
