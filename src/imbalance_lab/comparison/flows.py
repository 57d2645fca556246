"""Flows between two runs on the same positions: fixed, broken, still wrong, still right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.comparison.run_counts import Joined

STATES = ("still_wrong", "fixed", "broken", "still_right")


def flows(joined: Joined, strategy: str, reference: str) -> pd.DataFrame:
    """From ``reference`` to ``strategy``: how many positions were fixed, broken, stayed wrong, stayed right.

    Returns
    -------
    pandas.DataFrame
        One row per class (``by`` = "class"), per value of every slice (``by`` = slice name) and one
        for all (``by`` = "all", ``name`` = ""), with ``strategy, reference, by, name, positions`` and,
        as a mean over the ``pairs`` paired seeds, ``fixed, broken, still_wrong, still_right``, ``net``
        = fixed - broken, and ``fixed_rate`` (of those that were wrong) and ``broken_rate`` (of those
        that were right). Seeds are paired where their numbers match; where none matches, every seed
        of one is paired with every seed of the other.
    """
    pairs = _pairs(joined, strategy, reference)
    keys = _keys(joined)
    right = {run: joined.pred[run] == joined.true for run in {r for pair in pairs for r in pair}}
    totals = [np.zeros((len(names), 4)) for _, names, _ in keys]
    for now, before in pairs:
        # 0 still wrong, 1 fixed, 2 broken, 3 still right: the index into STATES.
        state = right[now] + 2 * right[before]
        for total, (_, names, code) in zip(totals, keys, strict=True):
            np.add(total, np.bincount(code * 4 + state, minlength=4 * len(names)).reshape(-1, 4), out=total)
    frames = []
    for total, (by, names, _) in zip(totals, keys, strict=True):
        frame = pd.DataFrame(total / len(pairs), columns=list(STATES))
        frame.insert(0, "name", list(names))
        frame.insert(0, "by", by)
        frames.append(frame[total.sum(axis=1) > 0])
    out = pd.concat(frames, ignore_index=True)
    out.insert(0, "reference", reference)
    out.insert(0, "strategy", strategy)
    out["positions"] = out[list(STATES)].sum(axis=1).round().astype(np.int64)
    out["pairs"] = len(pairs)
    out["net"] = out["fixed"] - out["broken"]
    wrong, was_right = out["fixed"] + out["still_wrong"], out["broken"] + out["still_right"]
    out["fixed_rate"] = (out["fixed"] / wrong.where(wrong > 0)).astype(np.float64)
    out["broken_rate"] = (out["broken"] / was_right.where(was_right > 0)).astype(np.float64)
    return out


def _pairs(joined: Joined, strategy: str, reference: str) -> Sequence[tuple[int, int]]:
    now, before = joined.runs_of(strategy), joined.runs_of(reference)
    same = [(int(a), int(b)) for a in now for b in before if joined.seed[a] == joined.seed[b]]
    return same or [(int(a), int(b)) for a in now for b in before]


def _keys(joined: Joined) -> list[tuple[str, tuple[str, ...], NDArray[np.int64]]]:
    """(by, names, code per position) of all, the classes and each slice."""
    zero = np.zeros(len(joined.true), dtype=np.int64)
    keys = [("all", ("",), zero), ("class", joined.classes, joined.true.astype(np.int64))]
    keys += [(name, names, code.astype(np.int64)) for name, (names, code) in sorted(joined.slices.items())]
    return keys
