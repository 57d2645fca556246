"""How a training went, as its figure shows it: from its epochs, or from what a run logged of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.names import key
from imbalance_lab.predictions import Predictions
from imbalance_lab.training.collapse import prediction_spread
from imbalance_lab.training.course import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_lab.plots.style import Scope


@dataclass(frozen=True)
class Course:
    """What :func:`imbalance_lab.plots.training.training_curves` draws.

    Attributes
    ----------
    epochs : DataFrame with epoch, train_loss, val_metric, pred_entropy (nats, of the main head)
    metric : name of the validation metric
    label_entropy : entropy of the main head's labels on validation in nats, None where it is not known
    """

    epochs: pd.DataFrame
    metric: str
    best_epoch: int | None
    collapse_epoch: int | None
    label_entropy: float | None


def course_of(epochs: Sequence[Epoch], head: str, selection: str, collapse_epoch: int | None) -> Course:
    """The course of a training that was followed; ``head`` is the main one, ``selection`` ``<head>/<metric>``."""
    spreads = [prediction_spread(np.asarray(e.confusion[head])) for e in epochs]
    table = pd.DataFrame(
        {
            "epoch": [e.number for e in epochs],
            "train_loss": [e.loss for e in epochs],
            "val_metric": [e.score for e in epochs],
            "pred_entropy": [s.entropy for s in spreads],
        }
    )
    best = max((e.number for e in epochs if e.best), default=None)
    return Course(table, _metric_name(selection), best, collapse_epoch, spreads[-1].label_entropy if spreads else None)


def logged_course(client: MlflowClient, run: Run, head: str, val: Predictions | None) -> Course | None:
    """The course of a finished run from the history of its metrics; None where it logged no loss (a classical fit).

    ``val`` are its validation predictions, whose labels the level to reach is taken from.
    """
    selected = [key for key in run.data.metrics if key.startswith("val/") and key.endswith("/selected")]
    series = {"train_loss": "train/loss", "pred_entropy": f"val/{key(head)}/prediction_entropy"}
    if len(selected) == 1:
        series["val_metric"] = selected[0].removesuffix("/selected")
    columns = {
        name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, key)} for name, key in series.items()
    }
    if not columns["train_loss"]:
        return None
    table = pd.DataFrame({name: column for name, column in columns.items() if column}).sort_index()
    label_entropy = None
    if val is not None and head in val.heads and len(val.heads[head]):
        labels = val.heads[head]
        label_entropy = prediction_spread(confusion_counts(labels.true, labels.pred, len(labels.classes))).label_entropy
    best, collapsed = run.data.metrics.get("train/best_epoch"), run.data.tags.get("collapse_epoch")
    return Course(
        epochs=table.rename_axis("epoch").reset_index(),
        metric=_metric_name(series.get("val_metric", "")),
        best_epoch=None if best is None else int(best),
        collapse_epoch=None if collapsed is None else int(collapsed),
        label_entropy=label_entropy,
    )


def course_figure(course: Course, scope: Scope) -> Figure:
    """The figure of a course; ``scope`` is that of the analysis, of which the validation split is shown."""
    from imbalance_lab.plots.training import training_curves

    about = replace(scope, split="validation", positions=None, recordings=None)
    return training_curves(
        course.epochs,
        about,
        metric=course.metric,
        collapse_epoch=course.collapse_epoch,
        best_epoch=course.best_epoch,
        label_entropy=course.label_entropy,
    )


def _metric_name(key: str) -> str:
    return key.rpartition("/")[2] or "score"
