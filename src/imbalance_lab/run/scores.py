"""Numbers of predictions and epochs by name: the same key means the same number everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.analysis.tally import confidence_sums
from imbalance_lab.metrics import counts as m
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.names import key
from imbalance_lab.predictions import HeadPredictions, Predictions
from imbalance_lab.training.collapse import prediction_spread
from imbalance_lab.training.course import Epoch

MAX_CLASSES_AS_METRICS = 12
HEAD_METRICS = ("macro_f1", "balanced_accuracy", "accuracy", "weighted_f1", "mcc", "gmean")
"""Of every head, the two that a strategy is chosen by first."""


def head_metrics(confusion: NDArray[Any]) -> dict[str, float]:
    """The metrics of one head from its confusion counts (K, K)."""
    return {name: float(m.metric_by_name(name)(confusion)) for name in HEAD_METRICS}


def class_metrics(confusion: NDArray[Any], classes: tuple[str, ...]) -> dict[str, float]:
    """``recall/<class>``, ``precision/<class>``, ``f1/<class>`` where the head has at most 12 classes."""
    if len(classes) > MAX_CLASSES_AS_METRICS:
        return {}
    values = {"recall": m.recall(confusion), "precision": m.precision(confusion), "f1": m.f1(confusion)}
    return {
        f"{name}/{key(c)}": float(v)
        for name, column in values.items()
        for c, v in zip(classes, column, strict=True)
        if np.isfinite(v)
    }


def epoch_metrics(epoch: Epoch, heads: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Metrics of one epoch: losses, validation scores, how many classes are still predicted."""
    values = {
        "train/loss": epoch.loss,
        "train/learning_rate": epoch.learning_rate,
        "train/epoch_seconds": epoch.seconds,
    }
    values |= {f"train/loss_{key(head)}": loss for head, loss in epoch.head_loss.items() if len(heads) > 1}
    for head, classes in heads.items():
        confusion = np.asarray(epoch.confusion[head])
        spread = prediction_spread(confusion)
        at = f"val/{key(head)}"
        values |= {f"{at}/{name}": v for name, v in head_metrics(confusion).items()}
        values[f"{at}/classes_predicted"] = spread.classes_predicted
        values[f"{at}/prediction_entropy"] = spread.entropy
        if len(classes) <= MAX_CLASSES_AS_METRICS:
            recall = m.recall(confusion)
            values |= {f"{at}/recall/{key(c)}": float(r) for c, r in zip(classes, recall, strict=True)}
    return _finite(values)


def prediction_metrics(predictions: Predictions) -> dict[str, float]:
    """``<split>/<head>/<metric>`` of every head, the main one first; the finite ones."""
    split = key(str(predictions.meta.get("split") or "test"))
    values: dict[str, float] = {}
    for head in sorted(predictions.heads, key=lambda name: name != predictions.primary):
        p = predictions.heads[head]
        confusion = confusion_counts(p.true, p.pred, len(p.classes))
        found = head_metrics(confusion) | _calibration(predictions, head) | class_metrics(confusion, p.classes)
        values |= {f"{split}/{key(head)}/{name}": v for name, v in found.items()}
    return _finite(values)


def control_metrics(test: Predictions) -> dict[str, float]:
    """``test/<head>/free_lunch/<metric>``: after the logit adjustment that validation chose, the control of a trial."""
    return corrected_metrics(test.free_lunch())


def corrected_metrics(corrected: Predictions) -> dict[str, float]:
    """The values of :func:`control_metrics` from predictions that are corrected already."""
    values: dict[str, float] = {}
    for head, p in corrected.heads.items():
        found = head_metrics(confusion_counts(p.true, p.pred, len(p.classes)))
        values |= {f"test/{key(head)}/free_lunch/{name}": v for name, v in found.items()}
    return _finite(values)


def _calibration(predictions: Predictions, head: str) -> dict[str, float]:
    """Expected calibration error (15 equal-width bins) and mean log loss in nats, where there are probabilities."""
    table, meta = predictions.heads[head], predictions.meta
    if not len(table) or meta.get("labels_only"):
        return {}
    return confidence_sums(table, {"as predicted": None})["as predicted"].scores


def score_of(table: HeadPredictions, metric: str) -> float:
    """A metric of one head's predictions."""
    return float(m.metric_by_name(metric)(confusion_counts(table.true, table.pred, len(table.classes))))


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: v for name, v in values.items() if np.isfinite(v)}
