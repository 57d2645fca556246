"""Error rates by place, failure mode, slice and segment: horizontal bars and lines with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from imbalance_lab.plots.style import (
    ACCENT,
    ALARM,
    INK,
    MAX_ROWS,
    MIN_N,
    MUTED,
    Scope,
    bar_height,
    empty_figure,
    ends,
    furthest,
    interval_errors,
    label,
    labels,
    more_note,
    new_figure,
    percent,
    plural,
    rate_axis,
    rows_axis,
    style_axes,
    titles,
)

_ALONG = {
    "from_start": ("positions after the true start", "from the true start"),
    "from_end": ("positions before the true end", "before the true end"),
    "relative": ("relative position in the sequence", "of the sequence"),
}


def error_by_position(
    table: pd.DataFrame, scope: Scope, *, overall: float | None = None, p_values: Mapping[str, float] | None = None
) -> Figure:
    """Error rate by distance to the true start and end and by relative position.

    Parameters
    ----------
    table : DataFrame with columns ``along, bin, n, rate, low, high``
        ``along`` is ``from_start``, ``from_end`` or ``relative``; ``bin`` the name of the range, in order.
    overall : error rate of all positions; the mean of the rows where None
    p_values : of the cluster-robust tests for trend, by ``along``
    """
    table = table[table["n"] > 0] if len(table) else table
    kinds = [w for w in _ALONG if len(table) and (table["along"] == w).any()]
    if not kinds:
        return empty_figure("No position with a known place.", "Error by position: nothing to show", scope.subtitle())
    p_values = p_values or {}
    mean = float((table["n"] * table["rate"]).sum() / table["n"].sum()) if overall is None else overall
    fig, axes = new_figure(
        2, len(kinds), width=max(5.0, 3.1 * len(kinds)), height=4.2, sharey="row", sharex="col", height_ratios=[3, 1]
    )
    top = min(1.0, max(0.05, 1.12 * float(furthest(table, "rate").max())))
    for column, kind in enumerate(kinds):
        part = table[table["along"] == kind]
        ax, below = style_axes(axes[0, column], "y"), style_axes(axes[1, column])
        x = np.arange(len(part))
        ax.fill_between(x, *ends(part), color=ACCENT, alpha=0.22, lw=0)
        ax.plot(x, part["rate"], color=ACCENT, marker="o", ms=4, lw=1.6)
        ax.axhline(mean, color=MUTED, lw=1, ls=(0, (4, 3)))
        rate_axis(ax, "error rate" if column == 0 else "", axis="y", high=top)
        if np.isfinite(p_values.get(kind, np.nan)):
            ax.set_title(f"trend: p = {p_values[kind]:.2g}", loc="left", size=9, color=MUTED)
        below.bar(x, part["n"], width=0.8, color=MUTED)
        below.set(ylim=(0, None), yscale="symlog")
        below.set_xticks(x, [label(b, 10) for b in part["bin"]], rotation=90)
        below.minorticks_off()
        below.set_xlabel(_ALONG[kind][0])
        if column == 0:
            below.set_ylabel("n (log)")
        if kind == "from_end":
            below.invert_xaxis()
    axes[0, 0].text(
        0.02,
        mean,
        f"overall {percent(mean)}",
        transform=axes[0, 0].get_yaxis_transform(),
        size=9,
        color=MUTED,
        va="bottom",
    )
    judged = table[table["n"] >= 20]
    if len(judged) == 0:
        title = "No place has 20 positions: too few to judge any"
    elif p_values and all(not p < 0.05 for p in p_values.values()):
        least = min((p for p in p_values.values() if np.isfinite(p)), default=np.nan)
        title = f"No trend of errors with position (smallest p = {least:.2g}); {percent(mean)} wrong overall"
    else:
        worst = judged.iloc[int(np.argmax(judged["rate"]))]
        unit = "" if worst["along"] == "relative" else " positions"
        where = f"{worst['bin']}{unit} {_ALONG[worst['along']][1]}"
        title = f"Errors peak at {where}: {percent(float(worst['rate']))} wrong against {percent(mean)} overall"
    return titles(fig, title, scope.subtitle("band: 95 % interval", "dashed: overall"))


def failure_modes(primary: pd.DataFrame, scope: Scope, *, tags: pd.DataFrame | None = None) -> Figure:
    """Share of the errors that each mode has, against what chance would give.

    Parameters
    ----------
    primary : DataFrame with columns ``mode, count, share, low, high, expected``; modes are exclusive
        ``share`` of the wrong positions; ``expected`` under a permutation of the labels (NaN where
        it has none).
    tags : the same with ``tag`` in place of ``mode``; tags may overlap
    """
    if primary.empty or primary["count"].sum() == 0:
        return empty_figure("No error to sort into modes.", "Failure modes: no errors", scope.subtitle())
    frames = [primary.assign(tag_row=False)]
    if tags is not None and len(tags):
        frames.append(tags.rename(columns={"tag": "mode"}).assign(tag_row=True))
    modes = pd.concat(frames, ignore_index=True).head(MAX_ROWS)
    tag = modes["tag_row"].to_numpy(dtype=bool)
    fig, axes = new_figure(height=bar_height(len(modes), 0.36, 1.1))
    ax = axes[0, 0]
    _bars(ax, modes, "share", ["#9fb8cc" if t else ACCENT for t in tag])
    expected = modes["expected"].to_numpy(dtype=float)
    known = np.isfinite(expected)
    mark: dict[str, Any] = {"marker": "D", "ms": 7, "mfc": "white", "mec": INK, "mew": 1.4, "ls": ""}
    ax.plot(expected[known], np.flatnonzero(known), zorder=5, clip_on=False, **mark)
    rows_axis(ax, [f"{m} (tag)" if t else m for m, t in zip(modes["mode"], tag, strict=True)])
    _write_n(ax, np.fmax(furthest(modes, "share"), np.nan_to_num(expected)), [f"{int(c):,}" for c in modes["count"]])
    rate_axis(ax, "share of the errors", high=ax.get_xlim()[1])
    if known.any():
        handle = Line2D([], [], **mark)
        fig.legend(
            [handle], ["expected if labels were permuted"], loc="outside lower center", fontsize=9, frameon=False
        )
    first = primary.iloc[int(np.argmax(primary["share"]))]
    versus = f" ({percent(float(first['expected']))} expected by chance)" if np.isfinite(first["expected"]) else ""
    most = "Most errors are" if first["share"] > 0.5 else "The commonest failure is"
    share, total = percent(float(first["share"])), plural(_errors(primary), "error")
    title = f"{most} “{label(first['mode'])}”: {share} of {total}{versus}"
    notes = ["lines: 95 % interval", "numbers: errors", *(["tags may overlap"] if tag.any() else [])]
    return titles(fig, title, scope.subtitle(*notes))


def _few(table: pd.DataFrame, min_n: int) -> NDArray[np.bool_]:
    """Rows with too little support to judge, shape (rows,)."""
    few = table["n"].to_numpy() < min_n
    if "verdict" in table:
        few = few | (table["verdict"] == "insufficient").to_numpy()
    return few


def _errors(primary: pd.DataFrame) -> int:
    return int(primary["errors"].iloc[0]) if "errors" in primary else int(primary["count"].sum())


def slices(table: pd.DataFrame, scope: Scope, *, what: str = "slice", overall: float | None = None) -> Figure:
    """Error rate of each slice (operation, command family, recording), worst first.

    Parameters
    ----------
    table : DataFrame whose first column names the slice, with ``n, rate, low, high``
        ``rate`` is the error rate; slices below :data:`MIN_N` positions, or with the
        verdict ``insufficient`` in an optional column, are hollow and never the headline.
    what : what a row is, for the title ("operation")
    overall : error rate of all positions; computed from the rows where None
    """
    table = table[table["n"] > 0] if len(table) else table
    if table.empty:
        return empty_figure(f"No {what} has a scored position.", f"Error by {what}: nothing to show", scope.subtitle())
    column = table.columns[0]
    ordered = table.sort_values(["rate", "n"], ascending=False, kind="stable")
    top = ordered.head(MAX_ROWS)
    mean = float((table["n"] * table["rate"]).sum() / table["n"].sum()) if overall is None else overall
    fig, axes = new_figure(height=bar_height(len(top), 0.33))
    ax = style_axes(axes[0, 0], "x")
    few = _few(top, MIN_N)
    y = np.arange(len(top))
    for mask, face in ((~few, ACCENT), (few, "white")):
        part = top[mask]
        if len(part):
            ax.errorbar(
                part["rate"],
                y[mask],
                xerr=interval_errors(part["rate"], *ends(part)),
                fmt="o",
                ms=7,
                color=ACCENT,
                mfc=face,
                ecolor=MUTED,
                elinewidth=1.4,
                capsize=3,
            )
    ax.axvline(mean, color=INK, lw=1, ls=(0, (4, 3)))
    rows_axis(ax, [f"{v} (n={int(n):,})" for v, n in zip(labels(top[column], 34), top["n"], strict=True)], 60)
    high = float(furthest(top, "rate").max())
    rate_axis(ax, f"error rate (dashed: overall {percent(mean)})", high=max(0.02, min(1.03, 1.06 * max(high, mean))))
    more_note(fig, len(ordered) - len(top))
    judged = ordered[~_few(ordered, MIN_N)]
    if len(judged):
        worst = judged.iloc[0]
        verb = (
            "is the worst"
            if ends(judged)[0][0] > mean
            else "has the highest rate, within its interval of the overall rate"
        )
        rate = percent(float(worst["rate"]))
        title = f"{what.capitalize()} {label(worst[column])} {verb}: {rate} wrong, {percent(mean)} overall"
    else:
        title = f"No {what} has enough positions and recordings to be judged"
    return titles(
        fig,
        title,
        scope.subtitle("lines: 95 % interval", *(["hollow: too few positions or recordings"] if few.any() else [])),
    )


def transitions(places: pd.DataFrame, scope: Scope, *, missed: pd.DataFrame | None = None) -> Figure:
    """Errors near changes of the true class against errors inside segments, and segments missed by length.

    Parameters
    ----------
    places : DataFrame with columns ``place, n, rate, low, high`` ("within 1", ..., "inside")
    missed : DataFrame with columns ``length, segments, missed, rate, low, high``
        Share of the true segments of each length that no predicted segment overlaps, or None.
    """
    places = places[places["n"] > 0] if len(places) else places
    if places.empty:
        return empty_figure("No per-step labels with segments.", "Segments: nothing to show", scope.subtitle())
    both = missed is not None and len(missed) > 0
    most = max(len(places), len(missed) if missed is not None else 0)
    fig, axes = new_figure(1, 2 if both else 1, height=bar_height(most, 0.34, 0.85))
    ax = axes[0, 0]
    _bars(ax, places, "rate", ACCENT)
    rows_axis(ax, list(places["place"]), 30)
    _write_n(ax, furthest(places, "rate"), [f"n={int(n):,}" for n in places["n"]])
    rate_axis(ax, "error rate by steps from a true change", high=ax.get_xlim()[1])
    near, inside = places.iloc[0], places.iloc[-1]
    step = " step" if str(near["place"]) == "within 1" else ""
    title = (
        f"{percent(float(near['rate']))} wrong {label(near['place'])}{step} of a change of the class, "
        f"{percent(float(inside['rate']))} {label(inside['place'], 40)}"
    )
    if missed is not None and both:
        ax = axes[0, 1]
        _bars(ax, missed, "rate", ALARM)
        rows_axis(ax, [f"length {v}" for v in missed["length"]])
        text = [f"{int(m):,} of {int(s):,}" for m, s in zip(missed["missed"], missed["segments"], strict=True)]
        _write_n(ax, furthest(missed, "rate"), text)
        rate_axis(ax, "segments missed altogether", high=ax.get_xlim()[1])
        total, lost = int(missed["segments"].sum()), int(missed["missed"].sum())
        title += f"; {lost:,} of {plural(total, 'segment')} missed altogether"
    return titles(fig, title[0].upper() + title[1:], scope.subtitle("lines: 95 % interval"))


def _bars(ax: Axes, table: pd.DataFrame, value: str, colour: str | list[str]) -> None:
    style_axes(ax, "x")
    y = np.arange(len(table))
    ax.barh(y, table[value], height=0.62, color=colour)
    ax.errorbar(
        table[value], y, xerr=interval_errors(table[value], *ends(table)), fmt="none", ecolor=INK, capsize=3, lw=1.2
    )


def _write_n(ax: Axes, ends: ArrayLike, texts: list[str]) -> None:
    """Write ``texts`` right of the bars, and make room for them."""
    at = np.nan_to_num(np.asarray(ends, dtype=float))
    widest = max(0.02, float(at.max()))
    ax.set_xlim(0, widest * (1.06 + 0.035 * max(map(len, texts))))
    for i, (end, text) in enumerate(zip(at, texts, strict=True)):
        ax.text(end + 0.025 * widest, i, text, va="center", size=9, color=INK)
