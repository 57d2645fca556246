"""Calibration and confidence."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from imbalance_lab.plots.style import (
    ACCENT,
    ALARM,
    INK,
    MAJORITY,
    MUTED,
    Scope,
    empty_figure,
    interval_errors,
    legend_below,
    new_figure,
    percent,
    plural,
    rate_axis,
    style_axes,
    titles,
)

_SERIES = ((ALARM, "o", "-"), (ACCENT, "s", "--"), ("#009e73", "^", ":"), ("#000000", "D", "-."))


def reliability(curves: Mapping[str, pd.DataFrame], scope: Scope, *, ece: Mapping[str, float] | None = None) -> Figure:
    """Share right against stated confidence, counts below; the first curve makes the headline.

    Parameters
    ----------
    curves : name ("as trained", "after temperature 1.8") to DataFrame with columns
        ``mean_confidence, accuracy, count`` and optionally ``low, high``; one row per bin that
        holds positions. Points lie at the bin's mean confidence, not at its centre.
    ece : expected calibration error of each curve, written beside its name
    """
    filled = {name: c[c["count"] > 0] for name, c in curves.items() if len(c) and c["count"].sum() > 0}
    if not filled:
        return empty_figure("No scored position.", "Calibration: nothing to show", scope.subtitle())
    fig, axes = new_figure(2, 1, width=6.6, height=5.4, sharex=True, height_ratios=[3.2, 1])
    top, below = style_axes(axes[0, 0], "both"), style_axes(axes[1, 0], "y")
    top.plot([0, 1], [0, 1], color=MUTED, lw=1.2, ls=(0, (4, 3)), label="confidence = share right")
    for (name, bins), (colour, marker, line) in zip(filled.items(), _SERIES, strict=False):
        text = name + (f": ECE {ece[name]:.3f}" if ece and name in ece else "")
        error = interval_errors(bins["accuracy"], bins["low"], bins["high"]) if "low" in bins else None
        top.errorbar(
            bins["mean_confidence"],
            bins["accuracy"],
            yerr=error,
            color=colour,
            marker=marker,
            ls=line,
            ms=6,
            mec="white",
            mew=0.6,
            lw=1.8,
            elinewidth=1.1,
            capsize=3,
            label=text,
        )
        below.plot(bins["mean_confidence"], bins["count"], color=colour, marker=marker, ls=line, ms=4, lw=1.4)
    legend_below(fig, top.get_legend_handles_labels()[0], most=2)
    rate_axis(top, "share right", axis="y", low=-0.02, high=1.04)
    below.set_yscale("log")
    below.set_ylabel("positions\n(log)")
    least = min(float(c["count"].min()) for c in filled.values())
    most = max(float(c["count"].max()) for c in filled.values())
    below.set_ylim(max(0.5, least / 2), most * 3)
    rate_axis(below, "mean confidence of the bin", low=0.0, high=1.02)
    below.minorticks_off()
    bins = next(iter(filled.values()))
    weight = bins["count"] / bins["count"].sum()
    stated, right = float((bins["mean_confidence"] * weight).sum()), float((bins["accuracy"] * weight).sum())
    points = 100 * (stated - right)
    if abs(points) < 1:
        title = f"Confidence is honest on average: {percent(stated, 1)} stated, {percent(right, 1)} right"
    else:
        way = "high" if points > 0 else "low"
        title = (
            f"Confidence is {abs(points):.1f} points too {way}: {percent(stated, 1)} stated, {percent(right, 1)} right"
        )
    notes = ["lines: 95 % interval"] if "low" in bins else []
    return titles(fig, title, scope.subtitle("points at the mean of their bin", *notes))


_CONFIDENT = 0.8  # from which an error counts as confident; an edge of the bins


def confidence_histogram(table: pd.DataFrame, scope: Scope) -> Figure:
    """How confident the model was where it was right and where it was wrong.

    Parameters
    ----------
    table : DataFrame with columns ``bin_low, bin_high, right, wrong``
        Bin edges of the confidence and the number of positions right and wrong in each bin.
    """
    if table.empty or (table["right"].sum() + table["wrong"].sum()) == 0:
        return empty_figure("No scored position.", "Confidence: nothing to show", scope.subtitle())
    edges, widths = table["bin_low"].to_numpy(float), (table["bin_high"] - table["bin_low"]).to_numpy(float)
    fig, axes = new_figure(2, 1, height=4.0, sharex=True)
    for ax, column, colour, hatch in ((axes[0, 0], "right", MAJORITY, ""), (axes[1, 0], "wrong", ALARM, "///")):
        style_axes(ax, "y")
        n = int(table[column].sum())
        share = table[column].to_numpy(float) / max(n, 1)
        ax.bar(edges, share, widths, align="edge", color=colour, edgecolor="white", hatch=hatch, lw=0.6)
        ax.set_title(f"{column}: {plural(n, 'position')}", loc="left", size=10, color=INK)
        ax.axvline(_CONFIDENT, color=INK, lw=1, ls=(0, (2, 2)))
        rate_axis(ax, f"share of the {column}", axis="y", high=max(0.05, 1.1 * float(share.max())))
    rate_axis(axes[1, 0], "confidence (probability of the predicted class)", low=min(0.0, float(edges.min())), high=1.0)
    sure = table["bin_low"] >= _CONFIDENT - 1e-9
    wrong, n_sure = int(table.loc[sure, "wrong"].sum()), int(table.loc[sure, ["right", "wrong"]].to_numpy().sum())
    total = int(table["wrong"].sum())
    if total == 0:
        title = "No position is predicted wrongly"
    else:
        title = (
            f"{percent(wrong / total)} of the errors ({wrong:,} of {total:,}) are made with confidence of "
            f"{percent(_CONFIDENT)} or more"
        )
    said = f"above the line: {percent(wrong / n_sure)} of {n_sure:,} are wrong" if n_sure else "nothing above the line"
    return titles(fig, title, scope.subtitle(said))
