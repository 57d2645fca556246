"""How numbers are written for a reader: shares with enough digits, counts with their noun."""

from __future__ import annotations

import math
from collections.abc import Sequence

METRIC_WORDS = {"macro_f1": "macro F1", "balanced_accuracy": "balanced accuracy", "mcc": "MCC"}
"""How a metric is called in a sentence."""

_MOST_DIGITS = 4  # of a percentage; nearer to 0 or 100 it is written as a bound
_ROUNDING = 1e-9  # of a percentage: a sum of shares that misses 100 by less is 100


def percent(rate: float, digits: int | None = None) -> str:
    """A share as text that never rounds to 0 % or 100 % unless it is that: 99.996 %, 0.004 %.

    Parameters
    ----------
    rate : the share; differences of shares may be negative
    digits : digits after the point, more near 0 and 100 %; by default as few as a figure needs (none,
        or one below 10 % and above 99 %; "<0.1 %" for what is smaller)
    """
    if not math.isfinite(rate):
        return "n/a"
    value = 100 * float(rate)
    gap = min(abs(value), abs(100 - abs(value)))
    if gap < _ROUNDING:
        return f"{round(value)}.{'0' * digits} %" if digits else f"{round(value)} %"
    if digits is None:
        if abs(value) < 0.05:
            return "<0.1 %"
        digits = 1 if abs(value) < 10 or 99 < abs(value) < 100 else 0
    if gap < 10**-_MOST_DIGITS and 0 < value < 100:
        near = 10**-_MOST_DIGITS
        return f"<{near:.{_MOST_DIGITS}f} %" if value < 1 else f">{100 - near:.{_MOST_DIGITS}f} %"
    return f"{value:.{max(digits, min(_MOST_DIGITS, _needed(gap)))}f} %"


def share(rate: float, digits: int = 3) -> str:
    """A share as a number between 0 and 1 that never rounds to 0 or 1 unless it is that: 0.99996."""
    if not math.isfinite(rate):
        return "n/a"
    gap = min(abs(rate), abs(1 - rate))
    if gap < 10 ** -(_MOST_DIGITS + 4):
        return f"{rate:z.{digits}f}"
    return f"{rate:.{max(digits, _needed(gap))}f}"


def number(value: float, digits: int) -> str:
    """A number with so many digits after the point, with more where it would read as 0; no negative zero."""
    text = f"{value:z,.{digits}f}"
    if 0 < abs(value) < 10**-digits and not text.strip("0.,"):
        text = f"{value:z,.{min(_needed(abs(value)), _MOST_DIGITS + 1)}f}"
    return text if text.strip("-0.,") else f"{0:.{digits}f}"


def _needed(gap: float) -> int:
    """Digits after the point at which ``gap`` > 0 is not rounded away."""
    return max(0, -math.floor(math.log10(gap) + 1e-9))


def plural(n: int, noun: str) -> str:
    """``1 position``, ``12,345 positions``."""
    ending = "" if n == 1 else "es" if noun.endswith("s") else "s"
    return f"{n:,} {noun}{ending}"


def short(name: str, most: int = 40) -> str:
    """``name``, its middle cut where it has more than ``most`` characters: names of a family differ at either end."""
    if len(name) <= most:
        return name
    head = (most - 1) * 2 // 3
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def listed(names: Sequence[str], most: int = 8, room: int = 240) -> str:
    """``a, b and 3 more``: the first ``most`` names; of long ones as many as ``room`` characters take, at least one."""
    shown, length = 0, 0
    for name in names[:most]:
        length += len(name) + 2
        if shown and length > room:
            break
        shown += 1
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest:,} more" if rest else "")
