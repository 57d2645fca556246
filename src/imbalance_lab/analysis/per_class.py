"""Precision, recall, F1 and AUPRC of each class with intervals, worst first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import (
    BOOT,
    MASK,
    REBALANCE,
    Advice,
    Analysis,
    Column,
    Plot,
    Rule,
    Scene,
    Table,
    columns,
)
from imbalance_lab.formats import plural
from imbalance_lab.metrics import counts as metrics
from imbalance_lab.metrics.clusters import MIN_POSITIONS, MIN_RECORDINGS, ratio, resampled
from imbalance_lab.metrics.intervals import percentile_interval, wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
_ENDS, _WILSON_ENDS = ("_low", "_high"), ("_wilson_low", "_wilson_high")


@dataclass(frozen=True)
class PerClass:
    """Result of :func:`per_class_analysis`.

    Attributes
    ----------
    table : one row per class, worst F1 first, classes absent from the split last. ``class`` is the only text
        column. ``sufficient`` is 1 where the class has 20 positions in 3 recordings, else 0;
        ``miss_share`` is misses / (misses + false alarms): above 1/2 the class fails by being missed.
    auprc_method : how scores were ranked
    """

    table: pd.DataFrame
    auprc_method: str


def auprc_from_bins(scores: NDArray[np.int64], positives: NDArray[np.int64]) -> Floats:
    """Average precision from binned scores, shape (K,); NaN without positives.

    Parameters
    ----------
    scores, positives : int arrays of shape (K, bins)
        Positions, and positions of the class itself, by score; equal bins are ties, as in
        :func:`sklearn.metrics.average_precision_score`.
    """
    n = np.cumsum(scores[:, ::-1], axis=1)
    hits = positives[:, ::-1]
    precision_at = np.cumsum(hits, axis=1) / np.maximum(n, 1)
    return ratio((precision_at * hits).sum(axis=1), positives.sum(axis=1))


def per_class_analysis(prepared: Prepared) -> PerClass:
    """Support, rates and intervals of each class (Wilson for recall and precision; cluster bootstrap for all)."""
    head, per_cluster, c = prepared.head, prepared.tally.confusion, prepared.confusion
    support, predicted, hits = c.sum(axis=1), c.sum(axis=0), np.diagonal(c)
    recordings = (per_cluster.sum(axis=2) > 0).sum(axis=0)
    functions = {"precision": metrics.precision, "recall": metrics.recall, "f1": metrics.f1}
    absent = support == 0
    columns: dict[str, object] = {
        "class": list(head.classes),
        "support": support,
        "recordings": recordings,
        "predicted": predicted,
        "train_count": head.train_counts,
    }
    for name, function in functions.items():
        value = function(c)
        if name == "f1":
            value = np.where(absent, np.nan, value)
        columns[name] = value
        if name != "f1":
            columns[f"{name}_wilson_low"], columns[f"{name}_wilson_high"] = wilson(
                hits, predicted if name == "precision" else support
            )
        low = high = np.full(len(c), np.nan)
        if prepared.weights is not None:
            low, high = percentile_interval(
                resampled(per_cluster, prepared.weights, function), n_groups=prepared.clusters.n
            )
        columns[f"{name}_low"], columns[f"{name}_high"] = np.where(absent, np.nan, low), np.where(absent, np.nan, high)
    scores, positive = prepared.tally.scores, prepared.tally.positive_scores
    if scores is None or positive is None:
        columns["auprc"] = metrics.auprc(head.true, head.probabilities)
        method = "exact (scikit-learn)"
    else:
        columns["auprc"] = auprc_from_bins(scores, positive)
        method = "odds of the scores rounded to 7 bits of mantissa, ties as in scikit-learn"
    misses, alarms = support - hits, predicted - hits
    columns |= {
        "misses": misses,
        "false_alarms": alarms,
        "miss_share": ratio(misses, misses + alarms),
        "in_macro": prepared.macro.astype(np.int64),
        "sufficient": ((support >= MIN_POSITIONS) & (recordings >= MIN_RECORDINGS)).astype(np.int64),
    }
    table = pd.DataFrame(columns).sort_values("f1", kind="stable", na_position="last", ignore_index=True)
    return PerClass(table, method)


def _figure(found: PerClass, scene: Scene) -> Figure:
    from imbalance_lab.plots.class_figures import per_class

    return per_class(found.table, scene.scope, colours=scene.colours)


_RECALL, _PRECISION = 0.5, 0.5  # below which a class is missed, or read too often


def _classes(rows: pd.DataFrame, one: str, several: str) -> str:
    """``1 class is``, ``7 classes are``: a class for each of the rows, and its verb."""
    return f"{plural(len(rows), 'class')} {one if len(rows) == 1 else several}"


def _missed_classes(found: PerClass, _: Mapping[str, Any]) -> Advice | None:
    table = found.table[found.table["sufficient"] == 1]
    high = table["recall_high"].fillna(table["recall_wilson_high"])
    missed = table[(high < _RECALL) & (table["miss_share"] > 0.5)]
    if not len(missed):
        return None
    worst = missed.sort_values("recall", kind="stable").iloc[0]
    return Advice(
        f"{_classes(missed, 'is', 'are')} mostly missed; worst {worst['class']} with recall {worst['recall']:.2f} "
        f"(n = {worst['support']}, {worst['recordings']} recordings).",
        "Give these classes more weight or more samples; look at their most confused pairs.",
        f"Recall above {_RECALL}.",
        missed,
        f"upper end of the recall interval below {_RECALL}, more misses than false alarms",
    )


def _false_alarms(found: PerClass, _: Mapping[str, Any]) -> Advice | None:
    table = found.table[found.table["sufficient"] == 1]
    high = table["precision_high"].fillna(table["precision_wilson_high"])
    alarms = table[(high < _PRECISION) & (table["miss_share"] <= 0.5) & (table["predicted"] >= MIN_POSITIONS)]
    if not len(alarms):
        return None
    worst = alarms.sort_values("precision", kind="stable").iloc[0]
    return Advice(
        f"{_classes(alarms, 'is', 'are')} predicted too often; worst {worst['class']} with precision "
        f"{worst['precision']:.2f} ({worst['false_alarms']} false alarms).",
        "Correct the prior less, or set thresholds on validation under the cost matrix.",
        f"Precision above {_PRECISION} at little loss of recall.",
        alarms,
        f"upper end of the precision interval below {_PRECISION}, more false alarms than misses",
    )


def _too_few(found: PerClass, _: Mapping[str, Any]) -> Advice | None:
    t = found.table
    few = t[(t["sufficient"] == 0) & ((t["support"] > 0) | (t["train_count"] > 0))]
    if not len(few):
        return None
    return Advice(
        f"{_classes(few, 'has', 'have')} under 20 positions or 3 recordings in this split: nothing can be said about "
        f"{'it' if len(few) == 1 else 'them'}.",
        "Record more of them, or split so that each has three recordings here; state them as n/a until then.",
        "Intervals narrow enough to compare strategies on these classes.",
        few[["class", "support", "recordings", "train_count"]],
        "fewer than 20 positions or 3 recordings",
    )


ANALYSIS: Analysis[PerClass] = Analysis(
    "per_class",
    per_class_analysis,
    "`classes`, worst F1 first: support, precision, recall, F1, AUPRC, `misses`, `false_alarms`, `miss_share` (above "
    "0.5 the class fails by being missed), `in_macro` and `sufficient` (1 or 0); `auprc_method`",
    section="per_class",
    fields={"auprc_method": "auprc_method", "classes": "table"},
    tables=(
        Table(
            "per_class",
            "table",
            "per_class",
            "Per class, worst F1 first",
            (
                *columns("text", "class"),
                *columns("count", "support", "recordings", "predicted", "train_count"),
                *columns("share", *(f"precision{end}" for end in ("", *_WILSON_ENDS, *_ENDS))),
                *columns("share", *(f"recall{end}" for end in ("", *_WILSON_ENDS, *_ENDS))),
                *columns("score", *(f"f1{end}" for end in ("", *_ENDS))),
                Column("auprc", "score", needs_probabilities=True),
                *columns("count", "misses", "false_alarms"),
                *columns("share", "miss_share"),
                *columns("count", "in_macro", "sufficient"),
            ),
            f"{MASK} {BOOT} Precision is n/a for a class never predicted; a class absent from this split is n/a, not "
            "0. Miss share: misses / (misses + false alarms). Sufficient: at least 20 positions in 3 recordings.",
            (
                *("class", "support", "recordings", "recall", "precision", "f1", "auprc", "misses", "false_alarms"),
                *("miss_share", "train_count", "sufficient"),
            ),
        ),
    ),
    plots=(Plot("per_class", "per_class", _figure, root="per_class.png", drawn="main head"),),
    rules=(
        Rule("missed-classes", "imbalance", 2, _missed_classes, REBALANCE),
        Rule("false-alarms", "imbalance", 2, _false_alarms, ("thresholds", "inverse-sqrt", "tau-norm")),
        Rule("too-few-positions", "data", 5, _too_few),
    ),
)
