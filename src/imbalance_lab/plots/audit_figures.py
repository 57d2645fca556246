"""Figures of the audit: composition of the splits, placeholder classes, and the verdicts at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.plots.style import (
    ACCENT,
    ALARM,
    INK,
    MAX_ROWS,
    MUTED,
    Scope,
    bar_height,
    empty_figure,
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

_PLACEHOLDER_SHARE = 0.5  # share above which a class counts as placeholder

VERDICT_LOOK: Mapping[str, tuple[str, str]] = {
    Verdict.FAIL: ("#b23a00", "✖"),
    Verdict.WARN: ("#e69f00", "▲"),
    Verdict.INSUFFICIENT: ("#7a5ea8", "?"),
    Verdict.PASS: ("#0072b2", "●"),
    Verdict.NOT_APPLICABLE: ("#b8bec6", "–"),
}
"""Colour and mark of each verdict; the mark says it again without colour."""


def class_distribution(table: pd.DataFrame, scope: Scope, *, colours: Mapping[str, str] | None = None) -> Figure:
    """Positions and recordings of each class in each split, on a log scale; absences stand out.

    Parameters
    ----------
    table : DataFrame with columns ``class, split, positions, recordings``; one row per class and split
    """
    if table.empty or table["positions"].sum() == 0:
        return empty_figure("No labelled position.", "Classes by split: nothing to show", scope.subtitle())
    total = table.groupby("class", sort=False)["positions"].sum().sort_values(ascending=False, kind="stable")
    shown = list(total.index[:MAX_ROWS])
    splits = [s for s in ("train", "val", "test") if (table["split"] == s).any()]
    splits += [s for s in dict.fromkeys(table["split"]) if s not in splits]
    fig, axes = new_figure(1, len(splits), height=bar_height(len(shown), 0.32, 0.95), sharey=True, sharex=True)
    most = float(table["positions"].max())
    for ax, split in zip(axes[0], splits, strict=True):
        style_axes(ax, "x")
        part = table[table["split"] == split].set_index("class").reindex(shown)
        positions = part["positions"].fillna(0).to_numpy()
        ax.barh(range(len(shown)), positions, height=0.62, color=[(colours or {}).get(c, ACCENT) for c in shown])
        ax.set_xscale("log")
        ax.set_xlim(0.7, most * max(40.0, (most / 0.7) ** 0.75))  # room for the text
        ax.minorticks_off()
        ax.set_title(split, loc="left", size=10, color=INK)
        for i, (n, r) in enumerate(zip(positions, part["recordings"].fillna(0), strict=True)):
            text = f"{int(n):,} in {int(r)} rec." if n else "absent"
            ax.text(
                max(n, 0.7) * 1.3,
                i,
                text,
                va="center",
                size=9,
                color=INK if n else ALARM,
                weight="normal" if n else "bold",
            )
        ax.set_xlabel("positions (log scale)")
    rows_axis(axes[0, 0], labels(shown, 24), 40)
    more_note(fig, len(total) - len(shown))
    share = total.iloc[0] / total.sum()
    absent = table[(table["positions"] == 0) & table["class"].isin(total[total > 0].index)]
    title = f"{label(total.index[0])} has {percent(float(share), 1)} of all positions"
    if len(absent):
        names = ", ".join(
            f"{label(c, 16)} from {s}" for c, s in zip(absent["class"][:3], absent["split"][:3], strict=True)
        )
        title += f"; absent: {names}" + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
    elif len(total) > 1 and total.iloc[-1] > 0:
        ratio = total.iloc[0] / total.iloc[-1]
        title += (
            f", {label(total.index[-1])} {percent(float(total.iloc[-1] / total.sum()), 2)} (ratio {ratio:,.0f} to 1)"
        )
    return titles(fig, title, scope.subtitle("rec.: recordings"))


def placeholder(table: pd.DataFrame, scope: Scope) -> Figure:
    """How much of each class stands where its head does not apply.

    Parameters
    ----------
    table : DataFrame with columns ``class, n, filler, rate, low, high``
        ``filler`` of the ``n`` positions of the class are where the head does not apply.
    """
    table = table[table["n"] > 0] if len(table) else table
    if table.empty:
        return empty_figure("No labelled position.", "Placeholder: nothing to show", scope.subtitle())
    ordered = table.sort_values("n", ascending=False, kind="stable")
    top = ordered.head(MAX_ROWS).reset_index(drop=True)
    fig, axes = new_figure(height=bar_height(len(top), 0.36, 0.8))
    ax = style_axes(axes[0, 0], "x")
    y = np.arange(len(top))
    ax.barh(y, np.ones(len(top)), height=0.62, color="#d9dee4")
    ax.barh(
        y,
        top["rate"],
        height=0.62,
        color=[ALARM if r > _PLACEHOLDER_SHARE else MUTED for r in top["rate"]],
        hatch="///",
        edgecolor="white",
    )
    ax.errorbar(
        top["rate"],
        y,
        xerr=interval_errors(top["rate"], top["low"], top["high"]),
        fmt="none",
        ecolor=INK,
        capsize=3,
        lw=1.2,
    )
    ax.axvline(_PLACEHOLDER_SHARE, color=INK, lw=1, ls=(0, (4, 3)))
    for i, (n, filler) in enumerate(zip(top["n"], top["filler"], strict=True)):
        ax.text(1.015, i, f"{int(n - filler):,} real of {int(n):,}", va="center", size=9)
    rows_axis(ax, list(top["class"]))
    rate_axis(ax, "share of the class's positions where the head does not apply (hatched)", high=1.38)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    more_note(fig, len(ordered) - len(top))
    worst = ordered.iloc[int(np.argmax(ordered["rate"]))]
    if worst["rate"] > _PLACEHOLDER_SHARE:
        title = (
            f"{percent(float(worst['rate']), 1)} of “{label(worst['class'])}” is filler: "
            f"{int(worst['n'] - worst['filler']):,} of {int(worst['n']):,} positions are real"
        )
    else:
        most = percent(float(worst["rate"]), 1)
        title = f"No class is a placeholder: at most {most} of one ({label(worst['class'])}) is filler"
    return titles(fig, title, scope.subtitle(f"dashed: a class fails above {percent(_PLACEHOLDER_SHARE)}"))


def audit_overview(findings: Sequence[Finding], scope: Scope) -> Figure:
    """Each check with its verdicts, worst first; a number is how many findings share the verdict.

    Parameters
    ----------
    findings : what the checks returned, in the order of the checks
    """
    if not findings:
        return empty_figure("No check was run.", "Audit: nothing to show", scope.subtitle())
    ranks = list(VERDICT_LOOK)
    checks = list(dict.fromkeys(f.check for f in findings))
    counts = pd.crosstab(pd.Series([f.check for f in findings]), pd.Series([str(f.verdict) for f in findings]))
    counts = counts.reindex(index=checks, columns=[str(v) for v in ranks], fill_value=0)
    order = np.lexsort(tuple(-counts[c].to_numpy() for c in reversed(counts.columns[:4])))
    counts = counts.iloc[order]
    fig, axes = new_figure(height=bar_height(len(counts), 0.33, 0.55))
    ax = style_axes(axes[0, 0])
    for j, verdict in enumerate(ranks):
        colour, mark = VERDICT_LOOK[verdict]
        for i, n in enumerate(counts[str(verdict)]):
            if n:
                ax.text(
                    j,
                    i,
                    f"{mark} {n}" if n > 1 else mark,
                    ha="center",
                    va="center",
                    size=11,
                    color="white" if verdict in (Verdict.FAIL, Verdict.PASS, Verdict.INSUFFICIENT) else INK,
                    bbox={"boxstyle": "round,pad=0.28", "fc": colour, "ec": "none"},
                )
    for i in range(len(counts)):
        ax.axhline(i + 0.5, color="#eef0f3", lw=0.8, zorder=0)
    ax.set_xticks(range(len(ranks)), [str(v) for v in ranks])
    ax.set_xlim(-0.6, len(ranks) - 0.4)
    ax.xaxis.tick_top()
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    rows_axis(ax, list(counts.index), 32)
    bad, warned = int((counts["fail"] > 0).sum()), int(((counts["warn"] > 0) & (counts["fail"] == 0)).sum())
    names = ", ".join(counts.index[counts["fail"] > 0][:4])
    title = f"{bad} of {plural(len(counts), 'check')} failed" + (f" ({names})" if bad else "") + f", {warned} warned"
    return titles(fig, title, scope.subtitle(plural(len(findings), "finding"), "a number: findings with that verdict"))
