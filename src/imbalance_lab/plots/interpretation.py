"""Which inputs and moments matter: permutation importance, attribution, time, ablation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imbalance_lab.formats import percent
from imbalance_lab.metrics.curves import enough
from imbalance_lab.plots.style import (
    ACCENT,
    INK,
    MAX_ROWS,
    MUTED,
    SEQUENTIAL,
    Scope,
    bar_height,
    empty_figure,
    ends,
    interval_errors,
    label,
    labels,
    legend_below,
    more_note,
    new_figure,
    rate_axis,
    rows_axis,
    style_axes,
    titles,
)

_HEAT_ROWS = 12


def importance(
    table: pd.DataFrame, scope: Scope, *, metric: str, what: str = "channel", base: float = np.nan
) -> Figure:
    """Drop of a metric per permuted feature, largest first.

    Parameters
    ----------
    table : DataFrame with columns ``feature, channels, drop, low, high``
    metric : its name in words ("macro F1")
    what : what a row is ("channel", "group of channels", "attention head")
    base : the metric with the inputs as they are
    """
    title = f"Importance of each {what}"
    if table.empty:
        return empty_figure(f"No {what} was permuted.", f"{title}: nothing to show", scope.subtitle())
    ordered = table.sort_values("drop", ascending=False, kind="stable")
    top = ordered.head(MAX_ROWS)
    fig, axes = new_figure(height=bar_height(len(top), 0.32, 0.8))
    ax = style_axes(axes[0, 0], "x")
    low, high = ends(top)
    above = low > 0
    y = np.arange(len(top))
    for mask, face in ((above, ACCENT), (~above, "white")):
        if mask.any():
            part = top[mask]
            errors = interval_errors(part["drop"], low[mask], high[mask])
            ax.errorbar(
                part["drop"], y[mask], xerr=errors, fmt="o", ms=7, color=ACCENT, mfc=face, ecolor=MUTED, capsize=3
            )
    ax.axvline(0, color=INK, lw=1)
    sizes = top["channels"] if "channels" in top else pd.Series(1, index=top.index)
    names = [f"{f} ({c} channels)" if c > 1 else f for f, c in zip(labels(top["feature"], 30), sizes, strict=True)]
    rows_axis(ax, names, 44)
    of = f" (of {base:.3f})" if np.isfinite(base) else ""
    ax.set_xlabel(f"{metric} lost{of}")
    more_note(fig, len(ordered) - len(top))
    first = top.iloc[0]
    if above[0]:
        title = f"{label(first['feature'], 40)} matters most: without it {metric} falls by {first['drop']:.3f}"
    else:
        title = f"No {what} stands out: the largest loss of {metric}, {first['drop']:.3f}, may be chance"
    notes = ["lines: 95 % interval", *(["hollow: the interval holds 0"] if not above.all() else [])]
    return titles(fig, title, scope.subtitle(*notes))


def cumulative(table: pd.DataFrame, scope: Scope, *, metric: str, what: str = "features") -> Figure:
    """The metric that is left when the k most important features are permuted together.

    Parameters
    ----------
    table : DataFrame with columns ``k, feature, left, low, high``; row k = 0 is the metric as it is
    """
    if len(table) < 2:
        return empty_figure("Fewer than two features.", "Cumulative importance: nothing to show", scope.subtitle())
    fig, axes = new_figure(height=3.2)
    ax = style_axes(axes[0, 0], "y")
    x = np.arange(len(table))
    low, high = ends(table)
    ax.fill_between(x, low, high, color=ACCENT, alpha=0.2, lw=0)
    ax.plot(x, table["left"], color=ACCENT, marker="o", ms=5, lw=1.8)
    names = [
        "as it is" if k == 0 else f"{k}: {f}" for k, f in zip(table["k"], labels(table["feature"], 20), strict=True)
    ]
    ax.set_xticks(x, names, rotation=35, ha="right", rotation_mode="anchor")
    ax.set_ylabel(metric)
    ax.set_ylim(min(0.0, float(np.nanmin(np.r_[low, table["left"]]))), None)
    ax.set_xlabel(f"{what} permuted together (the last one added)")
    first, last = table.iloc[0], table.iloc[-1]
    title = f"Permuting all {int(last['k'])} {what} leaves {last['left']:.3f} of {first['left']:.3f} {metric}"
    if (k := enough(table)) is not None and int(k["k"]) > 0:
        lost = first["left"] - k["left"]
        title = f"The first {int(k['k'])} of {int(last['k'])} {what} permuted together cost {lost:.3f} {metric}"
    return titles(fig, title, scope.subtitle("band: 95 % interval"))


def attribution_channels(table: pd.DataFrame, scope: Scope, *, sanity: str = "") -> Figure:
    """Share of the absolute attribution per channel: integrated gradients with intervals, saliency beside them.

    Parameters
    ----------
    table : DataFrame with columns ``method, class, channel, share, low, high, cases``
    sanity : result of the randomisation check in words, for the subtitle
    """
    chosen = table[(table["class"] == "all") & table["share"].notna()]
    integrated = chosen[chosen["method"] == "integrated gradients"]
    if integrated.empty:
        return empty_figure("No attribution.", "Attribution: nothing to show", scope.subtitle())
    top = integrated.sort_values("share", ascending=False, kind="stable").head(MAX_ROWS)
    saliency = chosen[chosen["method"] == "saliency"].set_index("channel")["share"].reindex(top["channel"])
    fig, axes = new_figure(height=bar_height(len(top), 0.3, 1.1))
    ax = style_axes(axes[0, 0], "x")
    y = np.arange(len(top))
    low, high = ends(top)
    ax.barh(y, top["share"], height=0.6, color=ACCENT)
    ax.errorbar(
        top["share"], y, xerr=interval_errors(top["share"], low, high), fmt="none", ecolor=INK, capsize=3, lw=1.2
    )
    marks = ax.plot(saliency, y, "D", ms=6, mfc="white", mec=INK, mew=1.3, label="gradient saliency", clip_on=False)
    rows_axis(ax, list(top["channel"]), 34)
    widest = float(np.nanmax(np.r_[np.fmax(top["share"], high), saliency.to_numpy(dtype=float)]))
    rate_axis(ax, "share of the absolute attribution", high=1.05 * widest)
    more_note(fig, len(integrated) - len(top))
    legend_below(fig, marks, left=True)
    first = top.iloc[0]
    title = (
        f"Integrated gradients give {label(first['channel'], 34)} {percent(first['share'], 0)} of the attribution "
        f"({percent(1 / len(integrated), 1)} if all were alike)"
    )
    return titles(
        fig, title, scope.subtitle(f"{int(first['cases'])} explained positions", "lines: 95 % interval", sanity)
    )


def attribution_heat(
    heat: Mapping[str, NDArray[np.float64]],
    names: tuple[str, ...],
    at: NDArray[np.int64],
    scope: Scope,
    *,
    cases: Mapping[str, int],
    per_step: bool = True,
) -> Figure:
    """Mean absolute integrated gradient, channel x time, one panel per class on one scale.

    Parameters
    ----------
    heat : class to float array (C, offsets)
    at : offsets from the scored position, or input steps where ``per_step`` is False
    cases : explained positions of each class
    """
    if not heat:
        return empty_figure("No attribution.", "Attribution over time: nothing to show", scope.subtitle())
    shown = list(heat)[:6]
    total = np.sum([heat[c] for c in shown], axis=0)
    top = np.argsort(-total.sum(axis=1), kind="stable")[:_HEAT_ROWS]
    ceiling = float(max(heat[c][top].max() for c in shown)) or 1.0
    cols = 2 if len(shown) in (2, 4) else min(len(shown), 3)
    rows = -(-len(shown) // cols)
    fig, axes = new_figure(rows, cols, height=rows * (0.24 * len(top) + 0.75) + 0.3, sharey=True, sharex=True)
    image = None
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, c in zip(axes.flat, shown, strict=False):
        edges = (at[0] - 0.5, at[-1] + 0.5, len(top) - 0.5, -0.5)
        image = ax.imshow(
            heat[c][top],
            aspect="auto",
            extent=edges,
            cmap=SEQUENTIAL,
            norm=PowerNorm(0.5, 0, ceiling),  # one strong cell would hide all others
            interpolation="nearest",
        )
        ax.set_title(f"{label(c, 18)} (n={cases.get(c, 0):,})", loc="left", size=9.5, color=INK)
        ax.set_yticks(range(len(top)), labels([names[i] for i in top], 24))
        if per_step:
            ax.axvline(0, color="white", lw=0.8, ls=(0, (2, 2)))
    for ax in axes[-1]:
        ax.set_xlabel("steps from the scored one" if per_step else "input step")
    if image is not None:
        bar = fig.colorbar(image, ax=axes, shrink=0.8, pad=0.01)
        bar.set_label("nats", size=9)
        bar.ax.tick_params(labelsize=9)
    peak = np.unravel_index(int(np.argmax(total)), total.shape)
    where = f"{'offset ' if per_step else 'step '}{at[peak[1]]:+d}" if per_step else f"step {at[peak[1]]}"
    title = f"The strongest input is {label(names[peak[0]], 34)} at {where}"
    hidden = len(names) - len(top)
    notes = [
        "integrated gradients",
        "colour: mean |contribution| to the log odds, square-root scale",
        *([f"{hidden} more channels in the table"] if hidden > 0 else []),
    ]
    return titles(fig, title, scope.subtitle(*notes))


def moments(
    offsets: pd.DataFrame | None, context: pd.DataFrame | None, profile: pd.DataFrame | None, scope: Scope
) -> Figure:
    """Which moments matter: probability lost per exchanged step, context needed, attribution over time.

    Parameters
    ----------
    offsets : DataFrame with columns ``offset, drop, low, high, n``
    context : DataFrame with columns ``reach, probability, low, high``
    profile : DataFrame with columns ``method, offset, share, low, high, cases``
    """
    parts = [p is not None and len(p) > 1 for p in (offsets, context, profile)]
    if not any(parts):
        return empty_figure("No time axis.", "Moments: nothing to show", scope.subtitle())
    fig, axes = new_figure(1, sum(parts), height=2.9)
    panels = iter(axes.flat)
    title = "Attribution over time"
    if offsets is not None and parts[0]:
        ax = style_axes(next(panels), "y")
        low, high = ends(offsets)
        ax.errorbar(
            offsets["offset"],
            offsets["drop"],
            yerr=interval_errors(offsets["drop"], low, high),
            fmt="o-",
            ms=4.5,
            color=ACCENT,
            ecolor=MUTED,
            lw=1.5,
            capsize=2,
        )
        ax.axhline(0, color=INK, lw=0.8)
        ax.set(xlabel="exchanged step, from the scored one", ylabel="probability of the true class lost")
        row = offsets.iloc[int(np.argmax(offsets["drop"]))]
        at = "the scored step" if row["offset"] == 0 else f"step {int(row['offset']):+d}"
        title = f"No single step counts: at most {row['drop']:.3f} of probability is lost ({at})"
        if low[int(np.argmax(offsets["drop"]))] > 0:
            title = f"Exchanging {at} costs the true class {row['drop']:.3f} of its probability, the most of all steps"
    if context is not None and parts[1]:
        ax = style_axes(next(panels), "y")
        low, high = ends(context)
        ax.fill_between(context["reach"], low, high, color=ACCENT, alpha=0.2, lw=0)
        ax.plot(context["reach"], context["probability"], color=ACCENT, marker="o", ms=4.5, lw=1.5)
        ax.set_xscale("symlog", base=2, linthresh=1)
        widest = int(context["reach"].iloc[-1])
        shown = [r for r in (0, *(2**i for i in range(24))) if r < widest / 1.6]
        shown.append(widest)
        ax.set_xticks(shown, [str(r) for r in shown])
        ax.minorticks_off()
        ax.set(xlabel="steps kept on either side", ylabel="probability of the true class", ylim=(0, None))
    if profile is not None and parts[2]:
        ax = style_axes(next(panels), "y")
        axis = "offset" if "offset" in profile else "step"
        part = profile[(profile["method"] == "integrated gradients")]
        if axis == "offset":
            part = part[part["offset"].abs() <= 16]
        low, high = ends(part)
        ax.fill_between(part[axis], low, high, color=ACCENT, alpha=0.2, lw=0)
        ax.plot(part[axis], part["share"], color=ACCENT, lw=1.5)
        rate_axis(ax, "share of the attribution", axis="y", high=1.1 * float(np.nanmax(np.r_[high, part["share"]])))
        ax.set_xlabel("steps from the scored one" if axis == "offset" else "input step")
    return titles(fig, title, scope.subtitle("lines and bands: 95 % interval"))


def blocks(table: pd.DataFrame, scope: Scope, *, metric: str) -> Figure:
    """Metric lost per block of input steps.

    Parameters
    ----------
    table : DataFrame with columns ``first_step, last_step, drop, low, high``
    """
    if table.empty:
        return empty_figure("No time axis.", "Blocks of the window: nothing to show", scope.subtitle())
    fig, axes = new_figure(height=2.6)
    ax = style_axes(axes[0, 0], "y")
    x = np.arange(len(table))
    ax.bar(x, table["drop"], color=ACCENT, width=0.7)
    ax.errorbar(
        x, table["drop"], yerr=interval_errors(table["drop"], *ends(table)), fmt="none", ecolor=INK, capsize=3, lw=1.2
    )
    ax.axhline(0, color=INK, lw=0.8)
    ax.set_xticks(x, [f"{a} to {b}" for a, b in zip(table["first_step"], table["last_step"], strict=True)])
    ax.set(xlabel="input steps exchanged", ylabel=f"{metric} lost")
    row = table.iloc[int(np.argmax(table["drop"]))]
    title = f"Steps {int(row['first_step'])} to {int(row['last_step'])} cost the most {metric}: {row['drop']:.3f}"
    return titles(fig, title, scope.subtitle("lines: 95 % interval"))
