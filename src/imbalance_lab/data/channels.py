"""Which columns of a recordings table are inputs, and what they are called together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coding, fit_coding
from imbalance_lab.errors import InputError
from imbalance_lab.formats import percent

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("momo", "gcode_*")
"""What the targets are made from: never an input."""

CONTROLLER_STATES = ("stat", "unit", "dist", "coor")
"""Read-outs of the controller that are codes, not quantities."""


def matching(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Tells whether a column is meant by one of the patterns, however many names without a sign are among them."""
    signs = [pattern for pattern in patterns if any(sign in pattern for sign in "*?[")]
    names, any_of = {*patterns}.difference(signs), re.compile("|".join(map(translate, signs)) or r"(?!)")
    return lambda column: column in names or any_of.match(column) is not None


_GROUPS = (
    ("machine position", matching(("mpo?",))),
    ("work position", matching(("pos?",))),
    ("motor", matching(("spindle", "spindle_A", "*_motor", "*_motor_A"))),
)
_GROUP_ORDER = (*(name for name, _ in _GROUPS), "other")


@dataclass(frozen=True)
class Inputs:
    """Inputs of every row of the table, before windows are cut.

    Attributes
    ----------
    continuous : float32 array of shape (n, C), NaN where missing
    categorical : int64 array of shape (n, K), 0 where missing or unknown
    coding : how the columns were coded
    groups : sensor frame to its channels
    """

    continuous: NDArray[np.float32]
    categorical: NDArray[np.int64]
    coding: Coding
    groups: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, object] = field(default_factory=dict)


def group_of(channel: str) -> str:
    """Sensor frame of a channel (what stands before the dot), or the kind of read-out it is."""
    if "." in channel:
        return channel.split(".", 1)[0]
    return next((name for name, meant in _GROUPS if meant(channel)), "other")


def channel_groups(
    channels: Sequence[str], given: Mapping[str, Sequence[str]] | None = None
) -> dict[str, tuple[str, ...]]:
    """Group to its channels: the first ``given`` group with a pattern of theirs, else :func:`group_of`."""
    own = {name: matching(patterns) for name, patterns in (given or {}).items()}
    groups: dict[str, list[str]] = {}
    for channel in channels:
        named = next((name for name, meant in own.items() if meant(channel)), None)
        groups.setdefault(named or group_of(channel), []).append(channel)
    return {name: tuple(listed) for name, listed in groups.items()}


def _order(channel: str) -> tuple[int, str, str]:
    group = group_of(channel)
    rank = _GROUP_ORDER.index(group) if group in _GROUP_ORDER else len(_GROUP_ORDER)
    return rank, group, channel


def select_inputs(
    table: dict[str, pd.Series],
    exclude: Sequence[str],
    recording: NDArray[np.int64],
    train: NDArray[np.bool_],
    min_coverage: float,
    known: Coding | None = None,
    spend: bool = False,
) -> Inputs:
    """Choose, group and code the input columns.

    Channels that too few *train* recordings have are dropped, for all recordings: otherwise the
    pattern of missing frames gives the operation away. The order of the channels depends on
    their names alone, not on the file they came from.

    Parameters
    ----------
    table : columns of a tidy recordings table of n rows
    exclude : glob patterns of columns that are not inputs
    recording : int64 array of shape (n,), index of each row's recording
    train : bool array of shape (n_recordings,)
    min_coverage : share of train recordings that must have at least one value
    known : coding of a model that exists; its channels are taken, whatever their coverage
    spend : whether ``table`` may be emptied, so that its values are not in memory twice

    Raises
    ------
    InputError
        If no input is left.
    """
    coding, facts = (known, {}) if known else _choose(table, exclude, recording, train, min_coverage)
    channels = coding.channels
    identical = ", ".join(_identical(table, channels))
    columns = coding.needed(table)
    if spend:
        table.clear()
    coded = coding.encode(columns, spend=spend)
    continuous = coded.continuous
    facts = {
        **facts,
        "constant_channels": ", ".join(_constant(continuous, channels)),
        "identical_channels": identical,
        "missing_share_of_inputs": round(_missing_share(continuous), 6),
        **coded.facts,
    }
    return Inputs(continuous, coded.categorical, coding, channel_groups(channels), facts)


def _missing_share(values: NDArray[np.float32]) -> float:
    missing = sum(int(np.isnan(values[:, c]).sum()) for c in range(values.shape[1]))
    return missing / values.size if values.size else 0.0


def _choose(
    table: Mapping[str, pd.Series],
    exclude: Sequence[str],
    recording: NDArray[np.int64],
    train: NDArray[np.bool_],
    min_coverage: float,
) -> tuple[Coding, dict[str, object]]:
    """The coding of the channels that enough train recordings have, and what was left out."""
    out = matching((*exclude, *LABELS, "recording", "gcode_string"))
    columns = [c for c in table if not out(c)]
    states = [c for c in CONTROLLER_STATES if c in columns]
    candidates = sorted((c for c in columns if c not in states), key=_order)
    starts = np.searchsorted(recording, np.arange(len(train)))
    coverage = np.array([_coverage(table[c], starts, train) for c in candidates])
    keep = (coverage >= min_coverage) & (coverage > 0)
    if not keep.any() and not states:
        raise InputError(
            f"no input channel is left: exclude {list(exclude)} and min_coverage {min_coverage:g} "
            f"drop all of the {len(columns)} columns"
        )
    numbers = {c: table[c] for c, k in zip(candidates, keep, strict=True) if k}
    coding = fit_coding(numbers, {c: table[c] for c in states}, train[recording])
    facts: dict[str, object] = {"channels_dropped_by_coverage": _by_frame(candidates, coverage, ~keep)}
    return coding, facts


def _coverage(column: pd.Series, starts: NDArray[np.int64], train: NDArray[np.bool_]) -> float:
    """Share of train recordings in which the column has a finite value."""
    has = np.logical_or.reduceat(np.isfinite(column.to_numpy(dtype=np.float64, na_value=np.nan)), starts)
    return float(has[train].mean())


def _by_frame(channels: Sequence[str], coverage: NDArray[np.float64], dropped: NDArray[np.bool_]) -> str:
    """``z_gant_1 (4 % of train recordings), ...``"""
    shares: dict[str, float] = {}
    for channel, share, drop in zip(channels, coverage, dropped, strict=True):
        if drop:
            name = channel.split(".", 1)[0]
            shares[name] = max(shares.get(name, 0.0), float(share))
    return ", ".join(f"{name} ({percent(share, 0)} of train recordings)" for name, share in shares.items())


def _constant(values: NDArray[np.float32], channels: Sequence[str]) -> list[str]:
    return [c for c, own in zip(channels, values.T, strict=True) if np.fmin.reduce(own) == np.fmax.reduce(own)]


def _identical(table: Mapping[str, pd.Series], channels: Sequence[str]) -> list[str]:
    """Pairs ``x_motor = x_motor_A`` that are equal wherever both have a value."""
    out, known = [], set(channels)
    for channel in channels:
        twin = f"{channel}_A"
        if twin in known and channel in table and twin in table:
            a, b = (table[c].to_numpy(dtype=np.float64, na_value=np.nan) for c in (channel, twin))
            both = np.isfinite(a) & np.isfinite(b)
            if both.any() and np.array_equal(a[both], b[both]):
                out.append(f"{channel} = {twin}")
    return out
