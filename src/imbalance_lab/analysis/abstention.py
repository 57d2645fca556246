"""Answering only above a confidence: what it saves in errors, and which classes go unanswered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.class_frequency import FEW
from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import BOOT, RATE, Advice, Analysis, Plot, Rule, Scene, Table, columns
from imbalance_lab.analysis.tally import BLOCK, FINE, width_bin
from imbalance_lab.formats import percent
from imbalance_lab.metrics.clusters import MIN_POSITIONS, rate_table, ratio

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLDS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Confidences above which a position is answered; multiples of 1 / 60, the bins that confidence is counted in."""
_ANSWERED = 0.7  # share of the positions that must still be answered for abstaining to be worth a recommendation


@dataclass(frozen=True)
class Abstention:
    """Result of :func:`abstention`.

    Attributes
    ----------
    table : threshold, coverage (share answered), the error rate among the answered, rare_coverage (of the classes
        below 1 % of training; NaN without them), and the class with at least 20 positions that is answered least
    """

    table: pd.DataFrame


def _answered_by_class(prepared: Prepared) -> NDArray[np.int64]:
    """Positions of each true class above each threshold, (K, thresholds)."""
    head, k = prepared.head, len(prepared.head.classes)
    counts = np.zeros(k * FINE, dtype=np.int64)
    for i in range(0, len(head), BLOCK):
        part = slice(i, i + BLOCK)
        counts += np.bincount(head.true[part] * FINE + width_bin(head.confidence[part], FINE), minlength=k * FINE)
    above = counts.reshape(k, FINE)[:, ::-1].cumsum(axis=1)[:, ::-1]
    return above[:, [round(t * FINE) for t in THRESHOLDS]]


def abstention(prepared: Prepared) -> Abstention:
    """Risk and coverage above thresholds of the confidence, for all positions and for rare classes.

    References
    ----------
    El-Yaniv and Wiener (2010), On the Foundations of Noise-free Selective Classification: risk and coverage.
    """
    fine = prepared.tally.calibration.fine  # (C, bins, wrong and right)
    above = fine[:, ::-1].cumsum(axis=1)[:, ::-1][:, [round(t * FINE) for t in THRESHOLDS]]
    errors, n = above[..., 0], above.sum(axis=2)
    table = rate_table(THRESHOLDS, errors, n, prepared.weights, "threshold")
    table.insert(1, "coverage", ratio(table["n"].to_numpy(), np.array(len(prepared.head))))
    answered = _answered_by_class(prepared)
    counts = prepared.head.train_counts
    rare = counts < FEW * counts.sum()
    table["rare_coverage"] = ratio(answered[rare].sum(axis=0), answered[rare, 0].sum())
    shares = np.where(answered[:, :1] >= MIN_POSITIONS, ratio(answered, answered[:, :1]), np.inf)
    least = shares.argmin(axis=0)
    known = np.isfinite(shares.min(axis=0))
    table["least_answered"] = np.where(known, np.asarray(prepared.head.classes, dtype=object)[least], "")
    table["least_coverage"] = np.where(known, shares.min(axis=0), np.nan)
    return Abstention(table)


def _figure(found: Abstention, scene: Scene) -> Figure:
    from imbalance_lab.plots import style

    table = found.table[found.table["n"] > 0]
    low, high = style.ends(table)
    fig, axes = style.new_figure(2, 1, width=6.6, height=4.6, sharex=True)
    top, below = style.style_axes(axes[0, 0], "y"), style.style_axes(axes[1, 0], "y")
    error = style.interval_errors(table["rate"], low, high)
    top.errorbar(table["threshold"], table["rate"], yerr=error, color=style.ALARM, marker="o", capsize=3)
    style.rate_axis(top, "wrong of the answered", axis="y", high=max(0.05, 1.1 * float(np.nanmax([*high, 0]))))
    below.plot(table["threshold"], table["coverage"], color=style.INK, marker="o", label="all positions")
    if table["rare_coverage"].notna().any():
        named = "classes below 1 % of training"
        below.plot(table["threshold"], table["rare_coverage"], color=style.ALARM, marker="s", ls="--", label=named)
    least = table["least_coverage"]
    below.plot(table["threshold"], least, color=style.ACCENT, marker="^", ls=":", label="the class answered least")
    style.legend_below(fig, below.get_legend_handles_labels()[0], most=2)
    style.rate_axis(below, "answered", axis="y", high=1.04)
    below.set(xlabel="answered above this confidence", xlim=(-0.02, 1.0))
    sure = table[table["threshold"] <= 0.8].iloc[-1]
    title = (
        f"Above confidence {sure['threshold']:g}: {style.percent(sure['coverage'])} are answered and "
        f"{style.percent(sure['rate'])} of them are wrong, of all {style.percent(scene.error_rate)}"
    )
    return style.titles(fig, title, scene.scope.subtitle("lines: 95 % interval"))


def _worth_asking(found: Abstention, _: Mapping[str, Any]) -> Advice | None:
    table = found.table
    every = table.iloc[0]
    upper = table["high"].fillna(table["wilson_high"])
    fired = table[(table["verdict"] == "ok") & (table["coverage"] >= _ANSWERED) & (upper <= every["rate"] / 2)]
    if not every["rate"] > 0 or not len(fired):
        return None
    at = fired.iloc[0]
    rare = at["rare_coverage"]
    named = f"of classes below 1 % of training {percent(rare, 1)}" if np.isfinite(rare) else ""
    least = f"of {at['least_answered']} {percent(at['least_coverage'], 1)}" if at["least_answered"] else ""
    answered = ", ".join(part for part in (f"{percent(at['coverage'], 1)} of the positions", named, least) if part)
    return Advice(
        f"Above confidence {at['threshold']:g} the error rate is {percent(at['rate'], 1)} instead of "
        f"{percent(every['rate'], 1)}; answered are {answered}.",
        "Where a person can decide, pass on what lies below a threshold chosen on validation; look first at which "
        "classes it passes on.",
        "At most half the error rate among what is answered.",
        fired,
        f"upper end of the error rate at most half of that of all positions, at least {percent(_ANSWERED, 0)} answered",
    )


ANALYSIS: Analysis[Abstention] = Analysis(
    "abstention",
    abstention,
    "`table`: share answered above a confidence, the error rate among the answered, the share answered of the classes "
    "below 1 % of training, and the class that is answered least",
    section="abstention",
    tables=(
        Table(
            "abstention",
            "table",
            "confidence",
            "Answering only above a confidence",
            (
                *columns("number", "threshold"),
                *columns("share", "coverage"),
                *RATE,
                *columns("share", "rare_coverage"),
                *columns("text", "least_answered"),
                *columns("share", "least_coverage"),
            ),
            "Rate: wrong of the answered. Rare: below 1 % of training. Least answered: of the classes with 20 "
            f"positions. {BOOT}",
            ("threshold", "coverage", "n", "rate", "rare_coverage", "least_answered", "least_coverage", "verdict"),
        ),
    ),
    plots=(Plot("abstention", "confidence", _figure),),
    rules=(Rule("worth-asking", "abstention", 4, _worth_asking),),
    needs_probabilities=True,
)
