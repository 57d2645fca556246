"""Confusion matrix and most confused pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imbalance_lab.plots.style import (
    ALARM,
    INK,
    MAX_ROWS,
    MIN_N,
    MUTED,
    SEQUENTIAL,
    Scope,
    bar_height,
    empty_figure,
    ends,
    furthest,
    interval_errors,
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

_MOST = 12  # classes with a row of their own; the rest share one, so that each row still sums to 100 %


def confusion_matrix(counts: NDArray[np.integer], classes: Sequence[str], scope: Scope) -> Figure:
    """Counts and row shares; rows by support, the diagonal muted so that errors stand out.

    Parameters
    ----------
    counts : integer array of shape (K, K), rows true, columns predicted
    classes : names of the K classes
    scope : the data, for the subtitle

    Returns
    -------
    Figure
        Classes without support and never predicted are left out; with more than twelve left,
        the least supported are drawn together as one row and column.
    """
    cells: NDArray[np.int64] = np.asarray(counts, dtype=np.int64)
    shown = np.flatnonzero(cells.sum(axis=1) + cells.sum(axis=0))
    if shown.size == 0:
        return empty_figure("No scored position.", "Confusion: nothing to show", scope.subtitle())
    order = shown[np.lexsort((shown, -cells.sum(axis=1)[shown]))]
    names = [classes[i] for i in order]
    table = cells[np.ix_(order, order)]
    title = _headline(table, names, MIN_N)
    hidden = len(names) - _MOST
    if hidden > 1:
        fold = np.minimum(np.arange(len(names)), _MOST)
        table = _fold(table, fold)
        names = [*names[:_MOST], f"{hidden} other classes"]
    support = table.sum(axis=1, keepdims=True)
    share = np.divide(table, support, out=np.zeros(table.shape), where=support > 0)
    return titles(_draw(table, share, names), title, scope.subtitle("each row sums to 100 %"))


def _headline(table: NDArray[np.int64], names: Sequence[str], min_n: int) -> str:
    support, hits = table.sum(axis=1), np.diag(table)
    n = int(support.sum())
    if hits.sum() == n:
        return f"All {plural(n, 'position')} are predicted correctly"
    missed = np.where(support >= min_n, 1 - hits / np.maximum(support, 1), -1.0)
    if missed.max() <= 0:
        return f"{percent(1 - hits.sum() / n)} of positions are wrong; no class with errors has {min_n} positions"
    worst = int(missed.argmax())
    others = table[worst].copy()
    others[worst] = -1
    to = int(others.argmax())
    mostly = "always" if others[to] == support[worst] - hits[worst] else "mostly"
    rate = percent(float(missed[worst]))
    missed_one, taken_for = labels([names[worst], names[to]])
    return f"{missed_one} is missed {rate} of the time, {mostly} as {taken_for}"


def _fold(table: NDArray[np.int64], fold: NDArray[np.intp]) -> NDArray[np.int64]:
    out = np.zeros((fold.max() + 1,) * 2, dtype=np.int64)
    np.add.at(out, (fold[:, None], fold[None, :]), table)
    return out


def _draw(table: NDArray[np.int64], share: NDArray[np.float64], names: Sequence[str]) -> Figure:
    k = len(names)
    wrong = share.copy()
    np.fill_diagonal(wrong, 0.0)
    fig, axes = new_figure(width=max(8.0, 2.6 + 0.68 * k), height=1.5 + 0.46 * k)
    ax = axes[0, 0]
    cmap = colormaps[SEQUENTIAL + "_r"]
    norm = PowerNorm(0.5, 0, 1)  # the square root keeps shares of 1 % apart from 0
    shades = cmap(norm(wrong))
    strength = np.clip(0.12 + 1.5 * norm(wrong), 0, 1)[..., None]  # pale where rare: yellow is loud otherwise
    shades[..., :3] = 1 - strength * (1 - shades[..., :3])
    shades[wrong == 0] = 1.0
    shades[np.arange(k), np.arange(k)] = (0.93, 0.93, 0.93, 1.0)
    ax.imshow(shades, aspect="auto")
    ax.set_xticks(range(k), labels(names, 18), rotation=35 if k > 4 else 0, ha="right" if k > 4 else "center")
    if k > 4:
        for tick in ax.get_xticklabels():
            tick.set_rotation_mode("anchor")
    support = table.sum(axis=1)
    ax.set_yticks(range(k), [f"{n}  n={s:,}" for n, s in zip(labels(names, 22), support, strict=True)])
    ax.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    ax.grid(True, which="minor", color="white", linewidth=2)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="predicted", ylabel="true, most frequent first")
    for i, j in np.argwhere(table > 0):
        dark = i != j and norm(wrong[i, j]) > 0.55
        colour = "white" if dark else (MUTED if i == j else INK)
        text = f"{percent(float(share[i, j]))}\n{_compact(int(table[i, j]))}"
        ax.text(j, i, text, ha="center", va="center", size=9, color=colour, linespacing=1.05)
    for i in np.flatnonzero(support == 0):
        ax.text((k - 1) / 2, i, "not in this split", ha="center", va="center", size=9, color=MUTED, style="italic")
    return fig


def _compact(n: int) -> str:
    for limit, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if n >= limit:
            return f"{n / (1_000 if unit == 'k' else limit):.3g}{unit}"
    return f"{n:,}"


def confused_pairs(pairs: pd.DataFrame, scope: Scope, *, colours: Mapping[str, str] | None = None) -> Figure:
    """The most confused pairs as bars with intervals.

    Parameters
    ----------
    pairs : DataFrame with columns ``true, pred, count, n_true, rate, low, high``
        One row per pair in the order to draw; ``rate`` is count / n_true.
    colours : class name to colour of the bars (the true class)
    """
    pairs = pairs.reset_index(drop=True)
    if pairs.empty:
        return empty_figure("No two classes were confused.", "No confused pairs", scope.subtitle())
    top = pairs.head(MAX_ROWS)
    first = top.iloc[0]
    fig, axes = new_figure(height=bar_height(len(top)))
    ax = style_axes(axes[0, 0], "x")
    y = np.arange(len(top))
    fill = [(colours or {}).get(t, ALARM) for t in top["true"]]
    ax.barh(y, top["rate"], height=0.62, color=fill, alpha=0.85)
    ax.errorbar(
        top["rate"],
        y,
        xerr=interval_errors(top["rate"], *ends(top)),
        fmt="none",
        ecolor=INK,
        capsize=3,
        lw=1.2,
    )
    both = labels([*top["true"], *top["pred"]], 18)
    rows_axis(ax, [f"{t} → {p}" for t, p in zip(both[: len(top)], both[len(top) :], strict=True)], 40)
    right = float(furthest(top, "rate").max())
    rate_axis(ax, "share of the true class's positions", high=max(0.02, right * 1.22))
    places = furthest(top, "rate") + 0.012 * ax.get_xlim()[1]
    for i, (at, count, support) in enumerate(zip(places, top["count"], top["n_true"], strict=True)):
        ax.text(at, i, f"{count:,} of {support:,}", va="center", size=9)
    more_note(fig, len(pairs) - len(top))
    true, taken_for = labels([first["true"], first["pred"]])
    title = (
        f"{true} is taken for {taken_for} at "
        f"{percent(float(first['rate']))} of its {plural(int(first['n_true']), 'position')}"
    )
    return titles(fig, title, scope.subtitle("bars: rate", "lines: 95 % interval", "text: n"))
