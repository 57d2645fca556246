"""Targets of every recording row: the effective motion command and the set of address letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.data.gcode.blocks import BlockColumn, modal_motion
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


def unknown_motion(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows whose ``momo`` is none of TinyG's motion modes (0 to 4; 4 is none under way); shape (n,)."""
    if "momo" not in frame.columns:
        return np.zeros(len(frame), dtype=bool)
    momo = frame["momo"].to_numpy(dtype=np.float64)
    return ~(np.isnan(momo) | np.isin(momo, np.arange(len(COMMANDS) + 1)))


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


def require_targets(heads: dict[str, NDArray[np.int64]]) -> None:
    """Raise an InputError when no row has any target."""
    if not any((target != IGNORE).any() for target in heads.values()):
        raise InputError("no row carries a label: column 'gcode_string' is empty, and so is 'momo'")
