"""DataFrame -> TableView: headers, digits, intervals beside their value, bars for shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.formats import number, percent, share
from imbalance_lab.report.page import Cell, Column, TableView

_SHARES = frozenset(
    {
        *("rate", "share", "recall", "precision", "accuracy", "coverage", "error_rate", "false_alarms", "expected"),
        *("train_share", "share_of_errors", "miss_share", "wrong_rate", "row_share", "column_share", "rare_recall"),
        "share_of_recordings",
    }
)
_SCORES = frozenset(
    {
        *("f1", "auprc", "macro_f1", "weighted_f1", "balanced_accuracy", "gmean", "free_lunch", "confidence"),
        *("mean_confidence", "true_prob"),
    }
)
_P_VALUES = frozenset(("p", "q"))
_VALUES = (
    *("rate", "share", "wrong_rate", "accuracy", "error_rate", "ece", "difference", "delta", "mean", "value"),
    *("drop", "left", "probability", "correlation", "weight", "slope"),
)
_VERDICTS = frozenset(
    ("fail", "warn", "pass", "insufficient", "not applicable", "better", "worse", "cannot distinguish")
)


def table_view(
    frame: pd.DataFrame,
    caption: str,
    *,
    columns: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    links: Mapping[Any, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    most: int = 40,
    where: str = "",
) -> TableView:
    """A DataFrame as a table of a page, in its own order.

    Columns ``x_low, x_high`` (or ``low, high`` behind ``rate``, ``share``, ``mean`` ...) are the ends of
    ``x``'s interval and are written into its cell. Shares in [0, 1] get a bar. NaN reads "n/a".

    Parameters
    ----------
    columns : which columns, in which order; all when empty
    headers : column to header; others are their name with spaces
    kinds : column to its kind (:data:`imbalance_lab.analysis.record.Kind`); that of others follows from their name
    links : value of the first column to the address its cell links to
    most : rows that are shown; the note says how many more there are and ``where``
    """
    owners = _interval_columns(list(frame.columns))
    hidden = {end for names in owners.values() for pair in names for end in pair}
    names = [c for c in (columns or frame.columns) if c in frame.columns and c not in hidden]
    shown = frame.head(most)
    heads, cells = [], []
    for i, name in enumerate(names):
        series = shown[name]
        low, high = _ends(shown, owners.get(name, ()))
        right = i > 0 and _is_number(frame[name])
        header = (headers or {}).get(name, str(name).replace("_", " "))
        heads.append(Column(header, right))
        formatted = _format(_kind(str(name), frame[name], kinds or {}, right), series, frame[name], low, high)
        if i == 0 and links:
            formatted = [_linked(c, links.get(v, "")) for c, v in zip(formatted, series, strict=True)]
        cells.append(formatted)
    rows = tuple(zip(*cells, strict=True)) if cells else ()
    return TableView(caption, tuple(heads), rows, more=max(0, len(frame) - most), where=where)


def _linked(cell: Cell, href: str) -> Cell:
    from dataclasses import replace

    from imbalance_lab.report.page import check_href

    return replace(cell, href=check_href(href)) if href else cell


def _interval_columns(names: Sequence[Any]) -> dict[Any, tuple[tuple[str, str], ...]]:
    """Column to the pairs of columns that hold its interval, the preferred pair first."""
    ends = [i for i, name in enumerate(names) if name in ("low", "wilson_low")]
    before = [name for name in names[: min(ends, default=0)] if name in _VALUES]
    owner = before[-1] if before else next((v for v in _VALUES if v in names), None)
    found: dict[Any, list[tuple[str, str]]] = {}
    for kind in ("", "wilson_"):
        low, high = f"{kind}low", f"{kind}high"
        for n in names:
            if f"{n}_{low}" in names and f"{n}_{high}" in names:
                found.setdefault(n, []).append((f"{n}_{low}", f"{n}_{high}"))
        if owner is not None and low in names and high in names:
            found.setdefault(owner, []).append((low, high))
    return {n: tuple(pairs) for n, pairs in found.items()}


def _ends(frame: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> tuple[Any, Any]:
    """Interval ends, the later pairs standing in where the earlier are NaN; (None, None) without pairs."""
    if not pairs:
        return None, None
    out = []
    for side in (0, 1):
        values = np.full(len(frame), np.nan)
        for pair in reversed(pairs):
            given = frame[pair[side]].to_numpy(dtype=float)
            values = np.where(np.isfinite(given), given, values)
        out.append(values)
    return out[0], out[1]


def _is_number(series: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)


def _within_one(whole: pd.Series) -> bool:
    values = whole.to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() >= 0 and values.max() <= 1 + 1e-9)


def _kind(name: str, whole: pd.Series, kinds: Mapping[str, str], right: bool) -> str:
    """How a column is written: ``text``, ``count``, ``share`` (percent), ``score`` (0-1), ``p`` or ``number``.

    The first column names the row: whole numbers or a threshold.
    """
    if not _is_number(whole):
        return "text"
    if right:
        return kinds.get(name, _by_name(name, whole))
    return "count" if pd.api.types.is_integer_dtype(whole) else "number"


def _by_name(name: str, whole: pd.Series) -> str:
    """Kind of a column of a table without a record, such as the evidence of a finding."""
    if pd.api.types.is_integer_dtype(whole):
        return "count"
    stem = name.split("/", maxsplit=1)[0] if "/" in name else name
    if stem in _P_VALUES:
        return "p"
    if stem in _SCORES and _within_one(whole):
        return "score"
    return "share" if stem in _SHARES and _within_one(whole) else "number"


def _format(look: str, series: pd.Series, whole: pd.Series, low: Any, high: Any) -> list[Cell]:
    if look == "text":
        return [_text(v) for v in series]
    digits = {"count": 0, "share": 1, "score": 3, "p": 3}.get(look, _digits(whole))

    def write(value: float) -> str:
        if look == "share":
            return percent(value, 1)
        return share(value, digits) if look == "score" and 0 <= value <= 1 else number(value, digits)

    out = []
    for i, value in enumerate(series):
        if value is None or not np.isfinite(float(value)):
            out.append(Cell("n/a", None))
            continue
        text = write(float(value))
        if look == "p" and 0 <= value < 0.001:
            text = "<0.001"
        detail = ""
        if low is not None and np.isfinite(float(low[i])) and np.isfinite(float(high[i])):
            detail = f"{write(float(low[i])).removesuffix(' %')} to {write(float(high[i])).removesuffix(' %')}"
        bar = min(1.0, float(value)) if look in ("share", "score") else None
        out.append(Cell(text, float(value), bar=bar, detail=detail))
    return out


def _digits(whole: pd.Series) -> int:
    """The same number of decimals in the whole column, about three significant digits of its median value."""
    values = np.abs(whole.to_numpy(dtype=float))
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return 1
    return int(np.clip(2 - np.floor(np.log10(np.median(values))), 1, 5))


def _text(value: Any) -> Cell:
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return Cell("n/a", None)
    if isinstance(value, (bool, np.bool_)):
        return Cell("yes" if value else "no", str(bool(value)))
    if isinstance(value, (float, np.floating)):
        return Cell(f"{value:.4g}", float(value))
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return Cell(", ".join(map(str, value)), None)
    text = str(value)
    return Cell(text, text, tone=text if text in _VERDICTS else "")
