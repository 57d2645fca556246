"""Positions whose label the model contradicts most: suspects, not verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import WILSON, Advice, Analysis, Rule, Table, columns
from imbalance_lab.analysis.rows import largest, row_table
from imbalance_lab.metrics.clusters import MIN_POSITIONS, ratio
from imbalance_lab.metrics.intervals import wilson

_MOST_SUSPECTS = 100

METHOD = "normalised margin (true probability minus the largest other), lowest first; counts by class thresholds"


@dataclass(frozen=True)
class LabelNoise:
    """Result of :func:`label_noise`.

    Attributes
    ----------
    suspects : the positions ranked by ``METHOD``, with self_confidence (true probability) and normalised_margin
    by_class : class, n, threshold (mean self-confidence of the class), suspects, rate, interval. A position is
        counted when its predicted class is another one and at least as probable as that class usually is.
    """

    method: str
    suspects: pd.DataFrame
    by_class: pd.DataFrame
    n_suspects: int


def label_noise(prepared: Prepared) -> LabelNoise:
    """Label-noise suspects from the model's own probabilities on this split.

    References
    ----------
    Northcutt, Jiang and Chuang (2021), Confident Learning: thresholds per class and the two scores.
    The count here looks at the predicted class alone, cleanlab's confident joint at all classes.
    """
    head, errors = prepared.head, prepared.errors
    support = prepared.confusion.sum(axis=1)
    threshold = ratio(prepared.tally.true_probability, support)
    margin = errors.true_prob - errors.best_other
    chosen = largest(-margin, _MOST_SUSPECTS)
    suspects = row_table(head, errors.row[chosen]).rename(columns={"true_prob": "self_confidence"})
    suspects["normalised_margin"] = margin[chosen]
    with np.errstate(invalid="ignore"):
        contradicted = errors.confidence >= threshold[errors.pred]  # False where a class has no threshold
    counts = np.bincount(errors.true[contradicted], minlength=len(support))
    low, high = wilson(counts, support)
    by_class = pd.DataFrame(
        {
            "class": list(head.classes),
            "n": support,
            "threshold": threshold,
            "suspects": counts,
            "rate": ratio(counts, support),
            "wilson_low": low,
            "wilson_high": high,
        }
    )
    by_class = by_class.sort_values("rate", ascending=False, kind="stable", na_position="last", ignore_index=True)
    return LabelNoise(METHOD, suspects, by_class, int(counts.sum()))


_SHARE = 0.01


def _suspects(found: LabelNoise, _: Mapping[str, Any]) -> Advice | None:
    t = found.by_class
    fired = t[(t["wilson_low"] > _SHARE) & (t["n"] >= MIN_POSITIONS)]
    if not len(fired):
        return None
    top = fired.iloc[0]
    return Advice(
        f"{top['suspects']} of {top['n']} positions labelled {top['class']} look like another class to the model.",
        "Have the ranked suspects looked at by someone who knows the machine before training on them again.",
        "Either corrected labels, or the knowledge that the model is at fault.",
        fired,
        f"lower end of the suspects' share above {_SHARE} in a class",
    )


ANALYSIS: Analysis[LabelNoise] = Analysis(
    "label_noise",
    label_noise,
    "`suspects` ranked by `method`, `by_class` counts. Suspects are what the model contradicts, not proven mistakes",
    section="label_noise",
    tables=(
        Table(
            "label_noise",
            "suspects",
            "noise",
            "Positions whose label is doubtful, most doubtful first",
            (
                *columns("count", "row", "sequence"),
                *columns("text", "recording"),
                *columns("count", "position"),
                *columns("text", "true", "pred"),
                *columns("score", "confidence", "self_confidence"),
                *columns("number", "normalised_margin"),
            ),
            most=15,
        ),
        Table(
            "label_noise_by_class",
            "by_class",
            "noise",
            "Label-noise suspects by class",
            (
                *columns("text", "class"),
                *columns("count", "n"),
                *columns("score", "threshold"),
                *columns("count", "suspects"),
                *columns("share", "rate"),
                *WILSON,
            ),
            most=30,
        ),
    ),
    needs_probabilities=True,
    rules=(Rule("label-noise", "labels", 4, _suspects),),
)
