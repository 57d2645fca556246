"""Numbers and rows to Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import Any


def number(value: Any) -> str:
    """Three significant digits, no exponent; whole numbers in full; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if value == 0:
        return "0"
    size = floor(log10(abs(value)))
    if size < -3:
        return "< 0.001" if value > 0 else "> -0.001"
    rounded = round(value, 2 - size)
    return f"{rounded:,.{max(0, 2 - size)}f}"


def percent(share: float | None) -> str:
    """A share as a percentage with two significant digits below ten."""
    if share is None:
        return ""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def count(value: int) -> str:
    """A number of things; powers of ten from ten thousand on as such."""
    power = round(log10(value)) if value > 0 else 0
    return f"10^{power}" if value >= 10_000 and value == 10**power else f"{value:,}"


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    shown: Mapping[str, Any] | None = None,
) -> str:
    """A Markdown table: ``columns`` maps a key to its heading, ``shown`` a key to its own format."""
    shown = shown or {}
    present = [key for key in columns if any(row.get(key) is not None for row in rows)]
    lines = ["| " + " | ".join(columns[key] for key in present) + " |"]
    # text stands left, numbers right
    right = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in present]
    lines.append("|" + "|".join("---:" if r else "---" for r in right) + "|")
    for row in rows:
        cells = [shown.get(key, number)(row[key]) if row.get(key) is not None else "" for key in present]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
