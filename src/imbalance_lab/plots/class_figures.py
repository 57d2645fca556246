"""Precision, recall and F1 of each class, and error rate against class frequency."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from imbalance_lab.plots.style import (
    ACCENT,
    GRID,
    INK,
    MAX_ROWS,
    MIN_N,
    MUTED,
    Scope,
    bar_height,
    empty_figure,
    ends,
    interval_errors,
    label,
    labels,
    markers,
    more_note,
    new_figure,
    percent,
    plural,
    rate_axis,
    rows_axis,
    spread_labels,
    style_axes,
    titles,
)

_NAME_GAP = 0.062  # of the height between two names


def per_class(table: pd.DataFrame, scope: Scope, *, colours: Mapping[str, str] | None = None) -> Figure:
    """Recall, precision and F1 with intervals, one row per class, worst F1 first, then those that cannot be judged.

    Parameters
    ----------
    table : DataFrame with columns ``class, support`` and, for each of ``recall, precision, f1``,
        the value and its ends ``<metric>_low, <metric>_high`` (NaN where undefined)
    colours : class name to colour

    A class with a support below :data:`MIN_N` is drawn hollow and not made the headline; a column ``sufficient``
    (0 or 1) overrides it.
    """
    table = table[table["support"] > 0] if len(table) else table
    if table.empty:
        return empty_figure("No class has a scored position.", "Per class: nothing to show", scope.subtitle())
    ordered = table.assign(_few=_few(table, MIN_N)).sort_values(
        ["_few", "f1", "support"], ascending=[True, True, False], na_position="first", kind="stable"
    )
    top = ordered.head(MAX_ROWS)
    enough = ordered[~ordered["_few"]]
    fig, axes = new_figure(1, 3, height=bar_height(len(top), 0.34, 0.85), sharey=True)
    names = [f"{c} (n={int(s):,})" for c, s in zip(labels(top["class"], 24), top["support"], strict=True)]
    for ax, metric in zip(axes[0], ("recall", "precision", "f1"), strict=True):
        _dots(style_axes(ax, "x"), top, metric, colours or {}, MIN_N)
        if metric == "f1":
            ax.set(xlabel="F1", xlim=(-0.03, 1.03))
        else:
            rate_axis(ax, metric, low=-0.03, high=1.03)
        ax.set_xticks([0, 0.5, 1])
    rows_axis(axes[0, 0], names, 60)
    more_note(fig, len(ordered) - len(top))
    if len(enough):
        worst = enough.iloc[0]
        side = "false alarms" if worst["precision"] < worst["recall"] else "misses"
        title = (
            f"Weakest class: {labels(table['class'])[list(table.index).index(worst.name)]}, F1 {_number(worst['f1'])} "
            f"(recall {percent(worst['recall'])}, precision {percent(worst['precision'])}"
            + (f": mostly {side})" if worst["recall"] != worst["precision"] else ")")
        )
        others = len(table) - len(enough)
        if len(enough) == 1 and others:
            title = (
                f"Only {label(worst['class'])} can be judged (F1 {_number(worst['f1'])}): too few positions of "
                f"{'the other class' if others == 1 else f'the other {others} classes'}"
            )
        elif not worst["f1"] < 1:
            title = (
                f"{'The only class is' if len(enough) == 1 else f'All {len(enough)} classes are'} read without error"
            )
    else:
        title = f"No class has {MIN_N} positions in 3 recordings: too few to judge any"
    notes = ["lines: 95 % interval"]
    if _few(top, MIN_N).any():
        notes.append(f"hollow: too few positions or recordings (n < {MIN_N} or under 3 recordings)")
    return titles(fig, title, scope.subtitle(*notes))


def _dots(ax: Axes, table: pd.DataFrame, metric: str, colours: Mapping[str, str], min_n: int) -> None:
    value = table[metric].to_numpy(dtype=float)
    low, high = ends(table, metric)
    few = _few(table, min_n)
    for i, name in enumerate(table["class"]):
        colour = colours.get(name, ACCENT)
        if not np.isfinite(value[i]):
            why = "never predicted" if metric == "precision" else "n/a"
            ax.text(0, i, why, va="center", size=9, color=MUTED, style="italic")
            continue
        error = interval_errors([value[i]], [low[i]], [high[i]])
        ax.errorbar(
            [value[i]],
            [i],
            xerr=error,
            fmt="o",
            ms=7,
            color=colour,
            mec=INK,
            mew=0.6,
            mfc="white" if few[i] else colour,
            ecolor=MUTED,
            elinewidth=1.4,
            capsize=3,
        )


def _few(table: pd.DataFrame, min_n: int) -> NDArray[np.bool_]:
    """Rows with too little support to judge, shape (rows,)."""
    if "sufficient" in table:
        return table["sufficient"].to_numpy() == 0
    return table["support"].to_numpy() < min_n


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "n/a"


def class_frequency(
    table: pd.DataFrame,
    scope: Scope,
    *,
    colours: Mapping[str, str] | None = None,
    trend: pd.DataFrame | None = None,
) -> Figure:
    """Error rate of each class against its share of the training positions.

    Parameters
    ----------
    table : DataFrame with columns ``class, train_share, n, rate, low, high``; ``rate`` is the error rate
    trend : DataFrame with columns ``train_share, rate``, the fitted curve, or None
    """
    usable = table[(table["train_share"] > 0) & (table["n"] > 0)] if len(table) else table
    if usable.empty:
        return empty_figure(
            "No class was both trained on and scored.", "Class frequency: nothing to show", scope.subtitle()
        )
    fig, axes = new_figure(height=3.9)
    ax = style_axes(axes[0, 0], "y")
    x, y = usable["train_share"].to_numpy(float), usable["rate"].to_numpy(float)
    error = interval_errors(y, *ends(usable))
    shape = markers(list(table["class"]))
    if trend is not None and len(trend):
        ax.plot(trend["train_share"], trend["rate"], color=MUTED, lw=1.6, ls="--", zorder=1)
    for i, name in enumerate(usable["class"]):
        few = usable["n"].iloc[i] < MIN_N
        colour = (colours or {}).get(name, ACCENT)
        ax.errorbar(
            [x[i]],
            [y[i]],
            yerr=error[:, i : i + 1],
            fmt=shape[name],
            ms=7,
            color=colour,
            mec=INK,
            mew=0.6,
            mfc="white" if few else colour,
            ecolor=MUTED,
            capsize=3,
            zorder=2,
        )
    ax.set_xscale("log")
    ax.set_xlabel("share of training positions (log scale)")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    low, high = min(x.min() / 2, 0.5), 2.0
    ax.set_xlim(low, high)
    rate_axis(ax, "error rate (1 − recall)", axis="y", low=-0.03, high=1.05)
    worst_first = np.lexsort((-y, usable["n"].to_numpy() < MIN_N))  # no more names than have room
    named = np.sort(worst_first[: int(1 / _NAME_GAP)])
    at = spread_labels(y[named], _NAME_GAP, 0.0, 1.0)
    _names_beside(ax, usable.iloc[named], x[named], y[named], at)
    rare = usable[usable["train_share"] < 0.01]
    n_rare, wrong = int(rare["n"].sum()), float((rare["n"] * rare["rate"]).sum())
    if n_rare >= MIN_N:
        rate = percent(wrong / n_rare)
        title = f"Classes below 1 % of training are wrong {rate} of the time ({plural(n_rare, 'position')})"
    else:
        worst = usable.iloc[int(np.nanargmax(y))]
        title = (
            f"{label(worst['class'])} ({percent(float(worst['train_share']))} of training) has the highest error rate: "
            f"{percent(float(worst['rate']))}"
        )
    return titles(
        fig,
        title,
        scope.subtitle("lines: 95 % interval", *([f"hollow: n < {MIN_N}"] if (usable["n"] < MIN_N).any() else [])),
    )


def _names_beside(
    ax: Axes, table: pd.DataFrame, x: NDArray[np.float64], y: NDArray[np.float64], at: NDArray[np.float64]
) -> None:
    for i, (name, n) in enumerate(zip(labels(table["class"], 22), table["n"], strict=True)):
        left = x[i] > 0.2
        ax.annotate(
            f"{name} (n={int(n):,})",
            (x[i], y[i]),
            xytext=(x[i] / 1.12 if left else x[i] * 1.12, at[i]),
            textcoords="data",
            size=9,
            color=INK,
            va="center",
            ha="right" if left else "left",
            arrowprops={"arrowstyle": "-", "color": GRID, "lw": 0.8} if abs(at[i] - y[i]) > 0.03 else None,
        )
