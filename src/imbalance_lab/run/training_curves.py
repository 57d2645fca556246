"""How a training went, as its figure shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
    return Course(table, metric_name(selection), best, collapse_epoch, spreads[-1].label_entropy if spreads else None)


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


def metric_name(selection: str) -> str:
    """The metric in ``<head>/<metric>``."""
    return selection.rpartition("/")[2] or "score"
