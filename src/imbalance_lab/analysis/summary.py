"""Error summary of a head: metrics with intervals, lift over trivial predictors, confidence, collapse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import (
    BOOT,
    INTERVAL,
    MASK,
    REBALANCE,
    WILSON,
    Advice,
    Analysis,
    Rule,
    Table,
    columns,
)
from imbalance_lab.analysis.tally import FINE
from imbalance_lab.formats import percent
from imbalance_lab.metrics import counts as metrics
from imbalance_lab.metrics.clusters import ratio, ratio_interval, resampled, verdicts
from imbalance_lab.metrics.intervals import percentile_interval, wilson
from imbalance_lab.metrics.trivial import trivial_confusions

_CONFIDENT = (0.8, 0.9)  # from which an error counts as confident

Floats = NDArray[np.float64]
COLLAPSE_RATIO = 0.25


@dataclass(frozen=True)
class Collapse:
    """Does the model predict (almost) one class? Entropies in nats."""

    verdict: str
    classes_predicted: int
    classes_true: int
    prediction_entropy: float
    label_entropy: float
    most_predicted: str
    most_predicted_share: float


@dataclass(frozen=True)
class Summary:
    """Result of :func:`summarise`.

    Attributes
    ----------
    metrics : metric, value, low, high (cluster bootstrap), majority, prior, uniform, lift (value minus
        the best of those)
    confidence : mean confidence of right and wrong positions, and P(wrong | confidence above a threshold) with coverage
    """

    head: str
    n: int
    recordings: int
    clusters: int
    pooled: bool
    verdict: str
    metrics: pd.DataFrame
    confidence: pd.DataFrame
    collapse: Collapse
    macro_classes: tuple[str, ...]
    absent_classes: tuple[str, ...]


def _macro(values: Callable[[Floats], Floats], mask: NDArray[np.bool_]) -> Callable[[Floats], Floats]:
    """Mean over the macro classes that the (resampled) split holds; a class that was not drawn is n/a there, not 0."""

    def mean(confusion: Floats) -> Floats:
        chosen = mask & (confusion.sum(axis=-1) > 0)
        total = np.where(chosen, np.nan_to_num(values(confusion)), 0.0).sum(axis=-1)
        return ratio(total, chosen.sum(axis=-1))

    return mean


def head_metrics(macro: NDArray[np.bool_]) -> dict[str, Callable[[Floats], Floats]]:
    """The summary's metrics as functions of confusion counts, with the macro classes fixed."""

    def gmean(confusion: Floats) -> Floats:
        recalls = metrics.recall(confusion)
        kept = macro & ~np.isnan(recalls)
        logs = np.log(np.where(kept & (recalls > 0), recalls, 1.0)).sum(axis=-1)
        zero = (kept & (recalls == 0)).any(axis=-1)
        return np.where(zero, 0.0, np.exp(ratio(logs, kept.sum(axis=-1))))

    return {
        "accuracy": metrics.accuracy,
        "balanced_accuracy": _macro(metrics.recall, macro),
        "macro_f1": _macro(metrics.f1, macro),
        "weighted_f1": metrics.weighted_f1,
        "mcc": metrics.mcc,
        "gmean": gmean,
    }


def metric_table(prepared: Prepared) -> pd.DataFrame:
    """One row per metric: value, interval, trivial predictors, lift."""
    per_cluster, total = prepared.tally.confusion, prepared.confusion.astype(np.float64)
    functions = head_metrics(prepared.macro)
    floors = trivial_confusions(total.sum(axis=1).astype(np.int64), prepared.head.train_counts)
    intervals = np.full((len(functions), 2), np.nan)
    if prepared.weights is not None:
        samples = resampled(
            per_cluster, prepared.weights, lambda c: np.stack([f(c) for f in functions.values()], axis=-1)
        )
        intervals = np.stack(percentile_interval(samples, n_groups=prepared.clusters.n), axis=-1)
    rows = []
    for (name, function), (low, high) in zip(functions.items(), intervals, strict=True):
        value = float(function(total))
        floor = {key: float(function(c)) for key, c in floors.items()}
        lift = value - max(floor.values())
        rows.append({"metric": name, "value": value, "low": low, "high": high, **floor, "lift": lift})
    return pd.DataFrame(rows)


def confidence_table(prepared: Prepared) -> pd.DataFrame:
    """Mean confidence of right and wrong, and P(wrong | confidence > t) with its coverage; one row per quantity."""
    fine = prepared.tally.calibration.fine  # (C, 60, 2)
    n = fine.sum()
    rows = []
    for t in _CONFIDENT:
        above = fine[:, round(t * FINE) :].sum(axis=1)  # (C, 2) wrong, right
        wrong, covered = above[:, 0], above.sum(axis=1)
        low, high = ratio_interval(wrong[:, None], covered[:, None], prepared.weights)
        wilson_low, wilson_high = wilson(wrong.sum(), covered.sum())
        rows.append(
            {
                "threshold": t,
                "n": int(covered.sum()),
                "recordings": int((covered > 0).sum()),
                "coverage": covered.sum() / n,
                "wrong": int(wrong.sum()),
                "wrong_rate": float(ratio(wrong.sum(), covered.sum())),
                "wilson_low": float(wilson_low),
                "wilson_high": float(wilson_high),
                "low": low[0],
                "high": high[0],
            }
        )
    table = pd.DataFrame(rows)
    errors = prepared.errors
    wrong_sum = float(errors.confidence.sum(dtype=np.float64))
    all_sum = float(prepared.tally.calibration.fine_confidence.sum())
    table["mean_confidence_right"] = float(ratio(np.array(all_sum - wrong_sum), np.array(n - len(errors))))
    table["mean_confidence_wrong"] = float(ratio(np.array(wrong_sum), np.array(len(errors))))
    table["verdict"] = verdicts(table["n"].to_numpy(), table["recordings"].to_numpy())
    return table


def collapse(prepared: Prepared) -> Collapse:
    """Collapsed: several classes are true but one is predicted; nearly: under a quarter of the labels' entropy."""
    from scipy.stats import entropy

    c = prepared.confusion
    predicted, support = c.sum(axis=0), c.sum(axis=1)
    h_pred, h_true = float(entropy(predicted)), float(entropy(support))
    top = int(predicted.argmax())
    if (support > 0).sum() < 2:
        verdict = "not applicable: one true class"
    elif (predicted > 0).sum() == 1:
        verdict = "collapsed"
    elif h_pred < COLLAPSE_RATIO * h_true:
        verdict = "nearly collapsed"
    else:
        verdict = "not collapsed"
    return Collapse(
        verdict=verdict,
        classes_predicted=int((predicted > 0).sum()),
        classes_true=int((support > 0).sum()),
        prediction_entropy=h_pred,
        label_entropy=h_true,
        most_predicted=prepared.head.classes[top],
        most_predicted_share=float(predicted[top] / c.sum()),
    )


def summarise(prepared: Prepared) -> Summary:
    """Summary of one head; intervals are percentile intervals of a cluster bootstrap over recordings."""
    classes = prepared.head.classes
    n, recordings = len(prepared.head), prepared.clusters.recordings
    absent = prepared.confusion.sum(axis=1) == 0
    return Summary(
        head=prepared.name,
        n=n,
        recordings=recordings,
        clusters=prepared.clusters.n,
        pooled=prepared.clusters.pooled,
        verdict=verdicts(np.array([n]), np.array([recordings]))[0],
        metrics=metric_table(prepared),
        confidence=confidence_table(prepared),
        collapse=collapse(prepared),
        macro_classes=tuple(c for c, m in zip(classes, prepared.macro, strict=True) if m),
        absent_classes=tuple(c for c, a in zip(classes, absent, strict=True) if a),
    )


CONFIDENT_COLUMNS = (
    *columns("number", "threshold"),
    *columns("count", "n", "recordings"),
    *columns("share", "coverage"),
    *columns("count", "wrong"),
    *columns("share", "wrong_rate"),
    *WILSON,
    *INTERVAL,
    *columns("score", "mean_confidence_right", "mean_confidence_wrong"),
    *columns("text", "verdict"),
)


def _collapse_rule(found: Summary, _: Mapping[str, Any]) -> Advice | None:
    c = found.collapse
    if c.verdict not in ("collapsed", "nearly collapsed"):
        return None
    return Advice(
        f"The model is {c.verdict}: {percent(c.most_predicted_share, 1)} of the predictions are {c.most_predicted}, "
        f"{c.classes_predicted} of {c.classes_true} true classes are predicted.",
        "Check the audit for a placeholder class and cancelled weights first; then correct the prior.",
        "More than one class predicted; balanced accuracy above that of the majority predictor.",
        found.metrics,
        "one class predicted, or prediction entropy below 25 % of label entropy",
    )


def _no_better_than_trivial(found: Summary, _: Mapping[str, Any]) -> Advice | None:
    m = found.metrics.set_index("metric").loc["balanced_accuracy"]
    floor = max(m["majority"], m["prior"], m["uniform"])
    if found.verdict != "ok" or not (m["low"] <= floor) or found.collapse.verdict == "collapsed":
        return None
    return Advice(
        f"Balanced accuracy {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}] cannot be told from the {floor:.3f} "
        "of a predictor that ignores the inputs.",
        "Look at the audit's learnability check: without signal in the inputs no strategy can help.",
        "An interval that lies above the trivial predictors.",
        found.metrics,
        "the interval of balanced accuracy reaches the best trivial predictor",
    )


ANALYSIS: Analysis[Summary] = Analysis(
    "summary",
    summarise,
    "`metrics` (value, interval, the same metric for the majority, prior and uniform predictor, and `lift` over the "
    "best of them), `confidence` (P(wrong given confidence above 0.8, 0.9), coverage, mean confidence of right and "
    "wrong), `collapse`, `macro_classes` (which classes enter macro averages), `absent_classes`",
    section="error_summary",
    tables=(
        Table(
            "summary",
            "metrics",
            "overall",
            "Summary, beside what predictors without inputs score",
            (
                *columns("text", "metric"),
                *columns("number", "value", "low", "high", "majority", "prior", "uniform", "lift"),
            ),
            f"{MASK} {BOOT} Macro F1, balanced accuracy and G-mean run over the classes that the data set fixes and "
            "this split holds. Majority, prior and uniform are predictors that see no input; lift: value less the "
            "best of them.",
        ),
        Table(
            "confident_errors",
            "confidence",
            "overall",
            "Errors above a confidence",
            CONFIDENT_COLUMNS,
            f"Coverage: share of positions above it. {BOOT}",
            needs_probabilities=True,
        ),
    ),
    rules=(
        Rule("collapse", "collapse", 1, _collapse_rule, REBALANCE),
        Rule("no-better-than-trivial", "data", 1, _no_better_than_trivial),
    ),
)
