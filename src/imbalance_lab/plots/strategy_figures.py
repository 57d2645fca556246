"""Figures that set strategies side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from imbalance_lab.plots.style import (
    BASELINE,
    INK,
    MAX_ROWS,
    MUTED,
    Scope,
    bar_height,
    empty_figure,
    interval_errors,
    label,
    labels,
    legend_below,
    markers,
    new_figure,
    percent,
    rate_axis,
    rows_axis,
    strategy_colours,
    style_axes,
    titles,
)


def leaderboard(
    summary: pd.DataFrame,
    seeds: pd.DataFrame,
    scope: Scope,
    *,
    metric: str,
    baseline: str | None = None,
    trivial: Mapping[str, float] | None = None,
    headline: str | None = None,
) -> Figure:
    """Strategies by their mean: dots are seeds, bars intervals, lines the baseline and its free-lunch control.

    Parameters
    ----------
    summary : DataFrame with columns ``strategy, mean, low, high`` and optionally ``free_lunch``
        ``free_lunch`` is the mean after post-hoc correction of the same models (NaN where unknown).
    seeds : DataFrame with columns ``strategy, seed, value``; one dot per row
    metric : name of the metric, for the axis
    baseline : strategy whose mean (and free-lunch mean) is drawn across
    trivial : score of each trivial predictor, drawn as rows below the strategies
    headline : the verdict as the title; without it the title names the best mean and says no more
    """
    if summary.empty:
        return empty_figure("No strategy has been scored.", "Leaderboard: nothing to show", scope.subtitle())
    ordered = summary.sort_values("mean", ascending=False, kind="stable").reset_index(drop=True)
    top = ordered.head(MAX_ROWS)
    if baseline in set(ordered["strategy"]) - set(top["strategy"]):  # the reference is always on the figure
        top = pd.concat([top.iloc[:-1], ordered[ordered["strategy"] == baseline]], ignore_index=True)
    colours = strategy_colours(list(summary["strategy"]), baseline)
    bottom = dict(trivial or {})
    fig, axes = new_figure(height=bar_height(len(top) + len(bottom), 0.36, 1.2))
    ax = style_axes(axes[0, 0], "x")
    control = "free_lunch" in top and top["free_lunch"].notna().any()
    for i, row in enumerate(top.to_dict("records")):
        colour = colours[row["strategy"]]
        if np.isfinite(row["low"]) and np.isfinite(row["high"]):
            ax.barh(i, row["high"] - row["low"], left=row["low"], height=0.5, color=colour, alpha=0.3, lw=0)
        ax.plot([row["mean"]] * 2, [i - 0.27, i + 0.27], color=colour, lw=2.6)
        dots = seeds.loc[seeds["strategy"] == row["strategy"], "value"]
        ax.plot(dots, np.full(len(dots), i), "o", ms=6, color=colour, mec="white", mew=0.8)
        if control and np.isfinite(row["free_lunch"]):
            ax.plot([row["free_lunch"]], [i], marker="D", ms=6, mfc="none", mec=INK, mew=1.3, ls="")
    for j, value in enumerate(bottom.values()):
        ax.plot([value], [len(top) + j], marker="x", ms=8, mew=1.8, color=MUTED, ls="")
    names = [f"{s} (baseline)" if s == baseline else str(s) for s in top["strategy"]]
    rows_axis(ax, [*labels(names, 34), *(f"trivial: {label(n, 24)}" for n in bottom)], 60)
    ax.use_sticky_edges = False  # an interval ends inside the frame
    handles = [
        Line2D([], [], marker="o", ls="", color=MUTED, mec="white", ms=6, label="a seed"),
        Line2D([], [], color=MUTED, lw=7, alpha=0.3, label="95 % interval of the mean"),
    ]
    base = top[top["strategy"] == baseline]
    if len(base):
        ax.axvline(float(base["mean"].iloc[0]), color=BASELINE, lw=1.3, zorder=0)
        handles.append(Line2D([], [], color=BASELINE, lw=1.3, label="baseline"))
        if control and np.isfinite(base["free_lunch"].iloc[0]):
            ax.axvline(float(base["free_lunch"].iloc[0]), color=INK, lw=1.3, ls=(0, (4, 3)), zorder=0)
            handles.append(
                Line2D(
                    [], [], color=INK, lw=1.3, ls=(0, (4, 3)), label="baseline, corrected post hoc (costs no training)"
                )
            )
    if control:
        handles.append(
            Line2D([], [], marker="D", ls="", mfc="none", mec=INK, ms=6, label="same models, corrected post hoc")
        )
    legend_below(fig, handles, most=2)
    ax.set_xlabel(metric)
    if len(ordered) > len(top):
        ax.set_xlabel(f"{metric}  (and {len(ordered) - len(top)} more in the table)")
    best = ordered.iloc[0]
    title = (
        headline
        or f"Highest mean {metric}: {label(best['strategy'], 40)}, {best['mean']:.3f}"
        f" [{best['low']:.3f}, {best['high']:.3f}]"
    )
    return titles(fig, title, scope.subtitle("strategies by mean", "intervals over recordings and seeds"))


def recall_against_false_alarms(table: pd.DataFrame, scope: Scope, *, baseline: str | None = None) -> Figure:
    """What each strategy gains in recall of a class and what it pays in false alarms, one panel per class.

    Parameters
    ----------
    table : DataFrame with columns ``class, strategy, recall, false_alarms, support``
        and optionally ``recall_low, recall_high, false_alarms_low, false_alarms_high``.
        ``false_alarms`` is the share of the *other* classes' positions that are given this class.
    """
    if table.empty:
        return empty_figure(
            "Drawn where 2 to 12 classes can be told; recall and precision of each are in the table of differences.",
            "Recall and false alarms: nothing to show",
            scope.subtitle(),
        )
    classes = list(dict.fromkeys(table["class"]))
    shown = classes[:9]
    strategies = list(dict.fromkeys(table["strategy"]))
    strategies = [s for s in strategies if s == baseline] + [s for s in strategies if s != baseline]
    colours, shape = strategy_colours(strategies, baseline), markers(strategies)
    cols = 2 if len(shown) == 4 else min(3, len(shown))
    rows = -(-len(shown) // cols)
    legend_rows = -(-len(strategies) // 3)
    fig, axes = new_figure(
        rows, cols, width=max(5.0, 2.85 * cols), height=2.3 * rows + 0.5 + 0.23 * legend_rows, sharey=True
    )
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for i, (ax, name) in enumerate(zip(axes.flat, shown, strict=False)):
        part = table[table["class"] == name]
        style_axes(ax, "both")
        for row in part.to_dict("records"):
            key = row["strategy"]
            bars = {}
            if "recall_low" in row:
                bars["yerr"] = interval_errors([row["recall"]], [row["recall_low"]], [row["recall_high"]])
            if "false_alarms_low" in row:
                bars["xerr"] = interval_errors(
                    [row["false_alarms"]], [row["false_alarms_low"]], [row["false_alarms_high"]]
                )
            ax.errorbar(
                [row["false_alarms"]],
                [row["recall"]],
                fmt=shape[key],
                ms=7,
                color=colours[key],
                mec=INK,
                mew=0.5,
                ecolor=colours[key],
                elinewidth=1,
                **bars,
            )
        n = int(part["support"].iloc[0])
        ax.set_title(f"{label(name, 18)} (n={n:,})", loc="left", size=10, color=INK)
        ends = part["false_alarms_high"] if "false_alarms_high" in part else part["false_alarms"]
        rate_axis(ax, "recall" if i % cols == 0 else "", axis="y", low=-0.04, high=1.04)
        reached = np.fmax(ends.to_numpy(dtype=float), part["false_alarms"].to_numpy(dtype=float))
        # A class that no test position has, and that nobody predicts, has no number at all.
        high = max(0.002, 1.15 * float(np.nanmax(reached, initial=0.0, where=np.isfinite(reached))))
        rate_axis(ax, "false alarms" if i + cols >= len(shown) else "", low=-0.05 * high, high=high)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=3))
    handles = [
        Line2D([], [], marker=shape[s], ls="", color=colours[s], mec=INK, mew=0.5, ms=7, label=text)
        for s, text in zip(strategies, labels(strategies, 34), strict=True)
    ]
    legend_below(fig, handles, most=3)
    title = _recall_headline(table, baseline)
    extra = [f"and {len(classes) - len(shown)} more classes in the table"] if len(classes) > len(shown) else []
    return titles(
        fig, title, scope.subtitle("up and left is better", "false alarms: share of other classes' positions", *extra)
    )


def _recall_headline(table: pd.DataFrame, baseline: str | None) -> str:
    base = table[table["strategy"] == baseline].set_index("class")["recall"]
    rest = table[table["strategy"] != baseline]
    # With no other strategy the map is empty and has no number in it.
    gain = rest["recall"] - rest["class"].map(base).astype("float64")
    if len(rest) == 0 or not gain.notna().any():
        best = table.iloc[int(np.argmax(table["recall"]))]
        return f"Highest recall: {label(best['class'])} {percent(float(best['recall']))} with {label(best['strategy'])}"
    row = rest.iloc[int(np.argmax(gain.fillna(-np.inf)))]
    return (
        f"Largest gain in recall: {label(row['class'])} {100 * gain.max():+.0f} points with {label(row['strategy'])}, "
        f"for false alarms on {percent(float(row['false_alarms']))} of other positions"
    )
