"""Error rate of a class against its frequency in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import (
    BOOT,
    MASK,
    RATE,
    REBALANCE,
    Advice,
    Analysis,
    Plot,
    Rule,
    Scene,
    Table,
    columns,
)
from imbalance_lab.analysis.trend import Trend, cluster_trend
from imbalance_lab.formats import percent
from imbalance_lab.metrics.clusters import rate_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY, FEW = 0.05, 0.01


@dataclass(frozen=True)
class ClassFrequency:
    """Result of :func:`class_frequency`.

    Attributes
    ----------
    table : class, train_count, train_share, group (many, medium, few, unseen), and its error rate
    groups : error rates of the groups; shares of training of at least 5 % are many, below 1 % few
    trend : of the error along log10 of the training count, recordings as units
    """

    table: pd.DataFrame
    groups: pd.DataFrame
    trend: Trend


def class_frequency(prepared: Prepared) -> ClassFrequency:
    """Error rates by training frequency with a fitted trend; classes unseen in training are left out of the trend."""
    head, confusion = prepared.head, prepared.tally.confusion
    n = confusion.sum(axis=2)
    errors = n - np.diagonal(confusion, axis1=1, axis2=2)
    counts = head.train_counts
    share = counts / max(counts.sum(), 1)
    group = np.select([counts == 0, share >= MANY, share < FEW], ["unseen", "many", "few"], default="medium")
    table = rate_table(head.classes, errors, n, prepared.weights, "class")
    table.insert(1, "train_count", counts)
    table.insert(2, "train_share", share)
    table.insert(3, "group", group)
    names = [g for g in ("many", "medium", "few", "unseen") if (group == g).any()]
    member = np.stack([group == g for g in names], axis=1).astype(np.int64)
    groups = rate_table(names, errors @ member, n @ member, prepared.weights, "group")
    groups.insert(1, "classes", member.sum(axis=0))
    seen = counts > 0
    log_counts = np.log10(np.maximum(counts[seen], 1).astype(np.float64))
    trend = cluster_trend(errors[:, seen], n[:, seen], log_counts, "log10 of the training count")
    return ClassFrequency(
        table.sort_values("train_count", ascending=False, kind="stable", ignore_index=True), groups, trend
    )


def _figure(found: ClassFrequency, scene: Scene) -> Figure:
    from imbalance_lab.plots.class_figures import class_frequency

    return class_frequency(found.table, scene.scope, colours=scene.colours)


def _rare_classes(found: ClassFrequency, _: Mapping[str, Any]) -> Advice | None:
    judged = found.groups[found.groups["verdict"] == "ok"]
    rows = {row["group"]: row for _, row in judged.iterrows()}
    if "few" not in rows or "many" not in rows:
        return None
    few, many = rows["few"], rows["many"]
    low = few["low"] if np.isfinite(few["low"]) else few["wilson_low"]
    high = many["high"] if np.isfinite(many["high"]) else many["wilson_high"]
    if not low > high:
        return None
    return Advice(
        f"Classes below 1 % of training are wrong {percent(few['rate'], 1)} of the time (n = {few['n']}), frequent "
        f"ones {percent(many['rate'], 1)}.",
        "Train with a correction of the class prior, and compare with the post-hoc correction, which costs nothing.",
        "Higher recall of rare classes; watch the false rare predictions it buys.",
        judged,
        "interval of the rare group's error rate above that of the frequent group",
    )


ANALYSIS: Analysis[ClassFrequency] = Analysis(
    "class_frequency",
    class_frequency,
    "`table`, `groups` (many: at least 5 % of training, few: below 1 %, medium, unseen), `trend` along log10 of the "
    "training count",
    section="class_frequency",
    tables=(
        Table(
            "class_frequency",
            "table",
            "frequency",
            "Error rate and training frequency",
            (
                *columns("text", "class"),
                *columns("count", "train_count"),
                *columns("share", "train_share"),
                *columns("text", "group"),
                *RATE,
            ),
            f"{MASK} {BOOT}",
            most=30,
        ),
        Table(
            "frequency_groups",
            "groups",
            "frequency",
            "Many (5 % of training or more), medium, few (below 1 %)",
            (*columns("text", "group"), *columns("count", "classes"), *RATE),
            BOOT,
        ),
    ),
    plots=(Plot("class_frequency", "frequency", _figure),),
    rules=(Rule("rare-classes", "imbalance", 2, _rare_classes, REBALANCE),),
)
