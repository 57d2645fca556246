"""Attention, embeddings and difficulty of classes as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imbalance_lab.plots.style import (
    ACCENT,
    INK,
    MAX_ROWS,
    MUTED,
    SEQUENTIAL,
    PlainLog,
    Scope,
    bar_height,
    empty_figure,
    ends,
    interval_errors,
    label,
    labels,
    legend_below,
    markers,
    more_note,
    new_figure,
    percent,
    rate_axis,
    rows_axis,
    spread_labels,
    style_axes,
    titles,
)

_COLOURS = ("#332288", "#44aa99", "#cc6677", "#999933", "#88ccee", "#882255", "#117733", "#aa4499")
_MAX_SERIES = 8
_NAME_GAP = 0.075  # of the height between two names


def attention(heads: pd.DataFrame, mean: NDArray[np.float32], scope: Scope, *, profile: pd.DataFrame | None) -> Figure:
    """Mean attention map of each head, and the mean weight by distance below.

    Parameters
    ----------
    heads : DataFrame with columns ``attention_head, entropy, low, high, entropy_uniform``, one layer
    mean : float array (heads, queries, keys), mean over windows
    profile : DataFrame with columns ``attention_head, offset, weight, low, high``, or None
    """
    n = min(len(mean), 4)
    if n == 0:
        return empty_figure("No attention layer.", "Attention: nothing to show", scope.subtitle())
    both = profile is not None and len(profile) > 0
    fig, axes = new_figure(
        2 if both else 1, n, height=4.1 if both else 2.4, sharey="row", height_ratios=[1.35, 1] if both else None
    )
    ceiling = float(np.quantile(mean[:n], 0.999))
    image = None
    for i in range(n):
        ax = axes[0, i]
        image = ax.imshow(mean[i], cmap=SEQUENTIAL, vmin=0, vmax=ceiling, interpolation="nearest", aspect="auto")
        row = heads[heads["attention_head"] == i].iloc[0]
        ax.set_title(f"head {i}: {row['entropy']:.2f} nats", loc="left", size=9.5, color=INK)
        ax.set_xlabel("key (step)")
        if profile is not None and both:
            below = style_axes(axes[1, i], "y")
            part = profile[profile["attention_head"] == i]
            low, high = ends(part)
            below.fill_between(part["offset"], low, high, color=ACCENT, alpha=0.25, lw=0)
            below.plot(part["offset"], part["weight"], color=ACCENT, lw=1.3)
            below.axhline(1 / mean.shape[2], color=MUTED, lw=1, ls=(0, (4, 3)))
            below.set_xlabel("key minus query")
            below.set_ylim(0, 1.15 * float(np.nanquantile(profile["high"].fillna(profile["weight"]), 0.99)))
    axes[0, 0].set_ylabel("query (step)" if both else "target position")
    if both:
        axes[1, 0].set_ylabel("mean weight")
    if image is not None:
        bar = fig.colorbar(image, ax=axes[0], shrink=0.9, pad=0.01)
        bar.ax.tick_params(labelsize=9)
        bar.set_label("mean weight", size=9)
    sharp = heads.iloc[int(np.argmin(heads["entropy"]))]
    title = (
        f"Attention head {int(sharp['attention_head'])} is the sharpest: entropy {sharp['entropy']:.2f} nats, "
        f"{sharp['entropy_uniform']:.2f} if it looked everywhere alike"
    )
    notes = [f"mean over {int(heads['windows'].iloc[0]):,} windows"]
    if both:
        notes += ["band: 95 % interval", "dashed: uniform"]
    if len(mean) > n:
        notes.append(f"{len(mean) - n} more heads in the table")
    return titles(fig, title, scope.subtitle(*notes))


def attention_cases(cases: pd.DataFrame, chosen: pd.DataFrame, scope: Scope) -> Figure:
    """Attention of single queries, one panel per case, heads as rows.

    Parameters
    ----------
    cases : DataFrame with columns ``case, attention_head, key, weight``
    chosen : DataFrame with columns ``case, label, pred, position``
    """
    if chosen.empty:
        return empty_figure("No case.", "Attention of single positions: nothing to show", scope.subtitle())
    shown = chosen.head(6)
    rows = -(-len(shown) // 2)
    fig, axes = new_figure(rows, min(2, len(shown)), height=1.6 * rows + 0.3, sharex=True)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for k, ax in enumerate(axes.flat[: len(shown)]):
        case = shown.iloc[k]
        part = cases[cases["case"] == case["case"]]
        grid = part.pivot(index="attention_head", columns="key", values="weight").to_numpy()
        ax.imshow(grid, cmap=SEQUENTIAL, vmin=0, vmax=grid.max(), aspect="auto", interpolation="nearest")
        ax.plot([case["position"]], [-0.5], "v", color=INK, ms=7, clip_on=False)
        true, pred = str(case["label"]), str(case["pred"])
        read = "read rightly" if true == pred else f"read as {label(pred, 24)}"
        ax.set_title(f"{label(true, 36)}\n{read} (peak {grid.max():.2f})", loc="left", size=9.5, color=INK)
        ax.set_yticks(range(len(grid)), [f"head {h}" for h in range(len(grid))])
    for ax in axes[-1]:
        ax.set_xlabel("key (step)")
    sharpest = cases.iloc[int(np.argmax(cases["weight"]))]
    title = f"Single positions: the largest weight is {sharpest['weight']:.2f}, on step {int(sharpest['key'])} for a "
    return titles(fig, f"{title}{label(sharpest['label'], 20)}", scope.subtitle("triangle: the scored position"))


def embedding(
    points: pd.DataFrame,
    by: str,
    colours: Mapping[str, str],
    scope: Scope,
    *,
    maps: pd.DataFrame,
    separation: pd.DataFrame,
) -> Figure:
    """PCA and t-SNE of the features, coloured by class or slice.

    Parameters
    ----------
    points : DataFrame with ``by``, ``pca_1, pca_2`` and perhaps ``tsne_1, tsne_2``
    colours : value of ``by`` to its colour; values without one are drawn in grey
    maps : DataFrame with columns ``map, trustworthiness``
    separation : rows of one measure with columns ``value, rate, low, high, chance, verdict``
    """
    if points.empty:
        return empty_figure("No point.", f"Embedding by {by}: nothing to show", scope.subtitle())
    found = [(m, s) for m, s in (("PCA", "pca"), ("t-SNE", "tsne")) if f"{s}_1" in points]
    fig, axes = new_figure(1, len(found), height=3.7)
    values = list(points[by].value_counts().index)
    known = [v for v in colours if v in values][:_MAX_SERIES]
    shapes, shown = markers(known), dict(zip(known, labels(known, 24), strict=True))
    for ax, (name, stem) in zip(axes.flat, found, strict=True):
        rest = points[~points[by].isin(known)]
        if len(rest):
            ax.plot(rest[f"{stem}_1"], rest[f"{stem}_2"], ".", ms=4, color="#c4c9cf", label=f"others (n={len(rest)})")
        for v in known:
            part = points[points[by] == v]
            ax.plot(
                part[f"{stem}_1"],
                part[f"{stem}_2"],
                shapes[v],
                ms=4.5,
                mfc=colours[v],
                mec="white",
                mew=0.4,
                ls="",
                label=f"{shown[v]} (n={len(part)})",
            )
        trust = float(maps.loc[maps["map"] == name, "trustworthiness"].iloc[0])
        ax.set_title(f"{name}, trustworthiness {trust:.3f}", loc="left", size=9.5, color=INK)
        ax.set_xticks([])
        ax.set_yticks([])
    legend_below(fig, axes.flat[0].get_legend_handles_labels()[0])
    judged = separation[(separation["verdict"] == "ok") & separation["rate"].notna()]
    title = f"Features by {by}: too few points to judge how far they separate"
    if len(judged):
        worst = judged.iloc[int(np.argmin(judged["rate"]))]
        apart = f"{percent(worst['rate'])} of its neighbours are its own, {percent(worst['chance'])} by chance"
        title = f"{label(worst['value'], 24)} is the least separate {by}: {apart}"
    notes = [f"{len(points):,} points, {by}es in equal parts" if by == "class" else f"{len(points):,} points"]
    return titles(fig, title, scope.subtitle(*notes, "neighbours from other recordings, all dimensions"))


def slice_colours(values: Sequence[str]) -> dict[str, str]:
    """Colours for at most 8 values of a slice, in the order given."""
    return dict(zip(values, _COLOURS, strict=False))


def separation(table: pd.DataFrame, scope: Scope) -> Figure:
    """Neighbour purity and probe recall of each class, against chance.

    Parameters
    ----------
    table : DataFrame with columns ``measure, value, rate, low, high, chance, n, verdict`` (by class)
    """
    table = table[table["rate"].notna()]
    measures = list(dict.fromkeys(table["measure"]))
    if not measures:
        return empty_figure("No class has points.", "Separation: nothing to show", scope.subtitle())
    order = list(dict.fromkeys(table["value"]))[:MAX_ROWS]
    fig, axes = new_figure(1, len(measures), height=bar_height(len(order), 0.34, 1.0), sharey=True)
    for ax, measure in zip(axes.flat, measures, strict=True):
        style_axes(ax, "x")
        part = table[table["measure"] == measure].set_index("value").reindex(order)
        y = np.arange(len(order))
        few = (part["verdict"] != "ok").to_numpy()
        for mask, face in ((~few, ACCENT), (few, "white")):
            if mask.any():
                p = part[mask]
                errors = interval_errors(p["rate"], *ends(p))
                ax.errorbar(
                    p["rate"], y[mask], xerr=errors, fmt="o", ms=7, color=ACCENT, mfc=face, ecolor=MUTED, capsize=3
                )
        chance = ax.plot(part["chance"], y, "|", ms=14, mew=2, color=INK, label="chance")
        rate_axis(ax, measure, high=1.02)
    rows_axis(axes[0, 0], order, 24)
    legend_below(fig, chance, left=True)
    more_note(fig, len(dict.fromkeys(table["value"])) - len(order))
    last = table[(table["measure"] == measures[-1]) & (table["verdict"] == "ok")]
    title = "Too few points of any class to judge how well the features separate"
    if len(last):
        worst, best = last.iloc[int(np.argmin(last["rate"]))], last.iloc[int(np.argmax(last["rate"]))]
        title = (
            f"{measures[-1].capitalize()} goes from {percent(worst['rate'])} ({label(worst['value'], 20)}) "
            f"to {percent(best['rate'])} ({label(best['value'], 20)})"
        )
    notes = ["lines: 95 % interval", *(["hollow: too few"] if (table["verdict"] != "ok").any() else [])]
    return titles(fig, title, scope.subtitle("probe and neighbours across recordings", *notes))


def difficulty(
    table: pd.DataFrame, scope: Scope, *, colours: Mapping[str, str], trend: tuple[float, float] | None = None
) -> Figure:
    """Accuracy of each class against its training frequency.

    Parameters
    ----------
    table : DataFrame with columns ``class, train_count, n, accuracy, low, high, confidence, verdict``
    trend : (Spearman correlation, p) over classes with enough positions
    """
    shown = table[table["n"] > 0]
    if shown.empty:
        return empty_figure("No scored position.", "Difficulty: nothing to show", scope.subtitle())
    fig, axes = new_figure(height=3.6)
    ax = style_axes(axes[0, 0], "y")
    x = np.maximum(shown["train_count"].to_numpy(dtype=float), 0.5)
    low, high = ends(shown)
    few = (shown["verdict"] != "ok").to_numpy()
    ax.errorbar(
        x, shown["accuracy"], yerr=interval_errors(shown["accuracy"], low, high), fmt="none", ecolor=MUTED, capsize=3
    )
    for i, (c, value) in enumerate(zip(shown["class"], shown["accuracy"].to_numpy(dtype=float), strict=True)):
        colour = colours.get(str(c), MUTED)
        ax.plot(x[i], value, "o", ms=8, mec=colour, mfc="white" if few[i] else colour, mew=1.6, clip_on=False)
    conf = ax.plot(x, shown["confidence"], "_", ms=13, mew=2, color=INK, label="mean confidence")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(PlainLog())
    ax.xaxis.set_minor_formatter(PlainLog())
    # Name the classes on the right, each at its own height, so that names never overlap.
    named = (shown[~few] if (~few).any() else shown).sort_values("accuracy", kind="stable").head(int(1 / _NAME_GAP))
    heights = spread_labels(named["accuracy"].to_numpy(dtype=float), _NAME_GAP, 0.0, 1.0)
    for value, at, c, n, start in zip(
        heights, named["accuracy"], labels(named["class"], 20), named["n"], named["train_count"], strict=True
    ):
        ax.annotate(
            f"{c} (n={int(n):,})",
            (max(float(start), 0.5), float(at)),
            xytext=(1.02, value),
            textcoords=("axes fraction", "data"),
            size=9,
            color=INK,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#c4c9cf", "lw": 0.7},
            annotation_clip=False,
        )
    rate_axis(ax, "accuracy", axis="y", low=-0.02, high=1.02)
    ax.set_xlabel("training positions of the class (log)")
    legend_below(fig, conf, left=True)
    judged = shown[~few]
    title = "No class has enough positions and recordings to be judged"
    if len(judged):
        worst = judged.iloc[int(np.argmin(judged["accuracy"]))]
        title = (
            f"{label(worst['class'], 24)} is the hardest: {percent(worst['accuracy'])} right with "
            f"{int(worst['train_count']):,} training positions"
        )
    notes = ["lines: 95 % interval", *(["hollow: too few"] if few.any() else [])]
    if trend is not None and np.isfinite(trend[0]):
        notes.append(f"rank correlation {trend[0]:.2f} (p = {trend[1]:.2g})")
    return titles(fig, title, scope.subtitle(*notes))
