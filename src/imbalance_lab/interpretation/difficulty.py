"""Which classes (tokens) are hard: accuracy and confidence against training frequency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from imbalance_lab.metrics.clusters import bootstrap_weights, clusters_of, ratio, ratio_interval, verdicts
from imbalance_lab.metrics.intervals import wilson
from imbalance_lab.predictions import HeadPredictions, Predictions

_RESAMPLES = 400


@dataclass(frozen=True)
class Difficulty:
    """Result of :func:`token_difficulty`.

    Attributes
    ----------
    table : head, class, train_count, train_share, n, recordings, accuracy, low, high (cluster bootstrap; Wilson
        with one recording), true_prob, confidence (mean of the predicted class's probability), verdict; hardest
        first within a head. A class absent from the split has accuracy NaN.
    trend : head, correlation (Spearman, accuracy against training count over classes with enough
        positions), p, classes
    """

    table: pd.DataFrame
    trend: pd.DataFrame


def token_difficulty(predictions: Predictions, seed: int = 0) -> Difficulty:
    """Accuracy and confidence of every class of every head."""
    tables, trends = [], []
    for name, head in predictions.heads.items():
        if not len(head):
            continue
        table = _one_head(name, head, _RESAMPLES, seed)
        tables.append(table)
        trends.append(_trend(name, table))
    return Difficulty(
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(),
        pd.DataFrame(trends, columns=["head", "correlation", "p", "classes"]),
    )


def _one_head(name: str, head: HeadPredictions, resamples: int, seed: int) -> pd.DataFrame:
    k = len(head.classes)
    clusters = clusters_of(head.group, len(head.group_names), k)
    cell = clusters.codes(head.group).astype(np.int64) * k + head.true
    shape = (clusters.n, k)
    n = np.bincount(cell, minlength=clusters.n * k).reshape(shape)
    right = np.bincount(cell[head.right], minlength=clusters.n * k).reshape(shape)
    weights = bootstrap_weights(clusters, resamples, np.random.default_rng([seed, 7]))
    low, high = ratio_interval(right, n, weights)
    total, hits, recordings = n.sum(axis=0), right.sum(axis=0), (n > 0).sum(axis=0)
    wilson_low, wilson_high = wilson(hits, total)
    alone = recordings < 2
    sums = [np.bincount(head.true, v, minlength=k) for v in (head.true_prob, head.confidence)]
    table = pd.DataFrame(
        {
            "head": name,
            "class": head.classes,
            "train_count": head.train_counts,
            "train_share": ratio(head.train_counts, np.full(k, max(1, head.train_counts.sum()))),
            "n": total,
            "recordings": recordings,
            "accuracy": ratio(hits, total),
            "low": np.where(alone, wilson_low, low),
            "high": np.where(alone, wilson_high, high),
            "true_prob": ratio(sums[0], total),
            "confidence": ratio(sums[1], total),
            "verdict": verdicts(total, recordings),
        }
    )
    return table.sort_values(["accuracy", "train_count"], kind="stable", na_position="last")


def _trend(name: str, table: pd.DataFrame) -> tuple[str, float, float, int]:
    from scipy.stats import spearmanr

    judged = table[table["verdict"] == "ok"]
    varies = len(judged) >= 4 and judged["accuracy"].nunique() > 1 and judged["train_count"].nunique() > 1
    if not varies:
        return name, float("nan"), float("nan"), len(judged)
    found = spearmanr(judged["train_count"], judged["accuracy"])
    return name, float(found.statistic), float(found.pvalue), len(judged)
