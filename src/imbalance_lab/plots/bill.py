"""What a strategy fixed and broke against another, and at which costs it is the cheapest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from imbalance_lab.plots.style import (
    ACCENT,
    INK,
    MAX_ROWS,
    PlainLog,
    Scope,
    bar_height,
    empty_figure,
    label,
    labels,
    legend_below,
    new_figure,
    plural,
    rows_axis,
    strategy_colours,
    style_axes,
    titles,
)


def flows(table: pd.DataFrame, scope: Scope, *, first: str, second: str) -> Figure:
    """Positions that ``second`` fixed, broke, and still has wrong against ``first``, by class.

    Parameters
    ----------
    table : DataFrame with columns ``class, n, fixed, broken, still_wrong``
        Counts of positions, or their means over paired seeds.
    """
    if table.empty or table[["fixed", "broken", "still_wrong"]].to_numpy().sum() == 0:
        return empty_figure("Both are right on every position.", "Flows: no errors in either run", scope.subtitle())
    ordered = table.assign(_touched=table["fixed"] + table["broken"]).sort_values(
        ["_touched", "n"], ascending=False, kind="stable"
    )
    top = ordered.head(MAX_ROWS)
    fig, axes = new_figure(height=bar_height(len(top), 0.36, 1.1))
    ax = style_axes(axes[0, 0], "x")
    y, n = np.arange(len(top)), top["n"].clip(lower=1)
    wrong, fixed, broken = top["still_wrong"] / n, top["fixed"] / n, top["broken"] / n
    ax.barh(y, fixed, height=0.62, color=ACCENT, label="fixed")
    ax.barh(y, -broken, height=0.62, color="#d55e00", hatch="///", edgecolor="white", label="broken")
    ax.barh(y, wrong, left=fixed, height=0.62, color="#c9ced6", label="still wrong")
    ax.axvline(0, color=INK, lw=1)
    rows_axis(ax, [f"{c} (n={int(k):,})" for c, k in zip(labels(top["class"], 24), top["n"], strict=True)], 60)
    right, left = max(0.02, float((fixed + wrong).max())), float(broken.max())
    ax.set_xlim(-1.1 * left - 0.16 * (right + left), right + 0.24 * (right + left))
    ax.set_xticks(
        [tick for tick in ax.get_xticks() if abs(tick) <= 1 and left * -1.1 <= tick]
    )  # room for text is no share
    _share_ticks(ax)
    ax.set_xlabel("share of the class's positions (left: broken, right: fixed and still wrong)")
    room = 0.012 * (right + left)
    for i, row in enumerate(top.to_dict("records")):
        if row["broken"]:
            ax.text(-float(broken.iloc[i]) - room, i, f"−{_count(row['broken'])}", va="center", ha="right", size=9)
        text = f"+{_count(row['fixed'])}" + (f", {_count(row['still_wrong'])} still" if row["still_wrong"] else "")
        ax.text(float((fixed + wrong).iloc[i]) + room, i, text, va="center", size=9)
    legend_below(fig, ax.get_legend_handles_labels()[0])
    if len(ordered) > len(top):
        ax.set_xlabel(f"{ax.get_xlabel()}\nand {len(ordered) - len(top)} more in the table")
    gained, lost = round(table["fixed"].sum()), round(table["broken"].sum())
    gain = plural(gained, "position")
    title = f"{label(second, 60)} fixes {gain} of {label(first)} and breaks {lost:,} (net {_signed(gained - lost)})"
    return titles(fig, title, scope.subtitle(f"still wrong: {round(table['still_wrong'].sum()):,}"))


def _count(mean: float) -> str:
    """A mean of counts over seeds: a half is not written as nothing."""
    return f"{mean:,.0f}" if float(mean).is_integer() else f"{mean:,.1f}"


def _signed(n: int) -> str:
    return f"{n:+,}".replace("-", "−")


def _share_ticks(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * abs(v):g} %"))


def cost_ranges(
    table: pd.DataFrame,
    scope: Scope,
    *,
    order: Sequence[str] = (),
    baseline: str | None = None,
) -> Figure:
    """The range of cost ratios in which each strategy is the cheapest.

    Parameters
    ----------
    table : DataFrame with columns ``strategy, low, high``, the range of ratios (> 0, may be infinite)
        A strategy that wins nowhere has no row. Optional column ``clear`` (bool): the win holds
        beyond the interval.
    order : all strategies in the experiment's order, for their colours
    """
    if table.empty:
        return empty_figure("No cost range was computed.", "Costs: nothing to show", scope.subtitle())
    ranges = table.sort_values("low", kind="stable").reset_index(drop=True)
    names = list(dict.fromkeys([*order, *ranges["strategy"]]))
    colours = strategy_colours(names, baseline)
    finite = np.r_[ranges["low"], ranges["high"]]
    finite = finite[np.isfinite(finite) & (finite > 0)]
    left, right = (float(finite.min()) / 3, float(finite.max()) * 3) if finite.size else (0.1, 1000.0)
    fig, axes = new_figure(height=bar_height(ranges["strategy"].nunique(), 0.42, 0.9))
    ax = style_axes(axes[0, 0], "x")
    rows = list(dict.fromkeys(ranges["strategy"]))
    for row in ranges.to_dict("records"):
        i = rows.index(row["strategy"])
        start, stop = max(row["low"], left), min(row["high"], right)
        clear = bool(row.get("clear", True))
        ax.barh(
            i,
            stop - start,
            left=start,
            height=0.6,
            color=colours[row["strategy"]],
            alpha=1.0 if clear else 0.35,
            hatch="" if clear else "///",
            edgecolor="white",
        )
        text = f"{_ratio(row['low'])} to {_ratio(row['high'])}"
        middle = (start * stop) ** 0.5
        inside = np.log(stop / start) > 0.28 * np.log(right / left)
        ax.annotate(
            text,
            (middle if inside else stop, i),
            xytext=(0 if inside else 4, 0),
            textcoords="offset points",
            size=9,
            va="center",
            ha="center" if inside else "left",
            color=INK,
            bbox={"fc": "white", "ec": "none", "pad": 1.5, "alpha": 0.88} if inside else None,
        )
    ax.set_xscale("log")
    ax.set_xlim(left, right)
    ax.xaxis.set_major_formatter(PlainLog())
    ax.xaxis.set_minor_formatter(PlainLog())
    ax.set_xlabel("cost of a missed rare position, in false alarms")
    rows_axis(ax, labels(rows, 30), 40)
    silent = [n for n in names if n not in rows]
    widest = ranges.iloc[int(np.argmax(ranges["high"].clip(upper=right) / ranges["low"].clip(lower=left)))]
    span = f"{_ratio(widest['low'])} to {_ratio(widest['high'])}"
    title = f"{label(widest['strategy'], 40)} is the cheapest from {span} false alarms per miss"
    more = f" and {len(silent) - 4} more" if len(silent) > 4 else ""
    notes = [f"never cheapest: {', '.join(label(n) for n in silent[:4])}{more}"] if silent else []
    if "clear" in ranges and not ranges["clear"].all():
        notes.append("hatched: not beyond the interval")
    return titles(fig, title, scope.subtitle(*notes))


def _ratio(value: float) -> str:
    if not np.isfinite(value):
        return "∞"
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
