"""What a comparison needs of one training, counted in one look at its predictions, which are then let go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.analysis.confidence import changes_of
from imbalance_lab.analysis.tally import ConfidenceSums, confidence_sums
from imbalance_lab.comparison.matching import Rows, aligned, match
from imbalance_lab.comparison.records import RunRecord, head_of
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.predictions import HeadPredictions, Predictions

_BLOCK = 1 << 15  # rows whose probabilities are corrected together: they stay in the cache


@dataclass(frozen=True)
class TrainingCounts:
    """One training on its n positions of G clusters, K classes.

    Attributes
    ----------
    pred : what it predicts in the rows' order, shape (n,), the smallest unsigned dtype that holds K classes
    confusion : int64 array of shape (G, K, K), rows = true, columns = predicted
    control : the same after the free post-hoc correction that validation chose; None without one
    confidence : sums of each variant that :func:`imbalance_lab.analysis.confidence.changes_of` knows
    """

    pred: NDArray[np.unsignedinteger[Any]]
    confusion: NDArray[np.int64]
    control: NDArray[np.int64] | None
    confidence: Mapping[str, ConfidenceSums]


def count_training(
    run: RunRecord, head: str, rows: Rows, cluster: NDArray[np.int64], n_clusters: int
) -> TrainingCounts:
    """Count a training, its predictions joined to ``rows`` one to one; ``cluster`` (n,) is that of each row.

    Raises
    ------
    InputError
        If the training is of other data than ``rows``.
    """
    h = head_of(run, head)
    order = match(rows, run, h)
    k = len(h.classes)

    def counts(pred: NDArray[Any]) -> NDArray[np.int64]:
        return confusion_counts(rows.true, aligned(pred, order), k, group=cluster, n_groups=n_clusters)

    changes, _ = changes_of(head, h, run.test.meta)
    return TrainingCounts(
        pred=aligned(h.pred, order).astype(np.min_scalar_type(k)),
        confusion=counts(h.pred),
        control=counts(free_lunch_pred(run.test, head, h)) if has_control(run, head) else None,
        confidence=confidence_sums(h, changes),
    )


def has_control(run: RunRecord, head: str) -> bool:
    """Whether the run (each of its folds) says what post-hoc correction validation chose."""
    return all(head in (part.test.meta.get("free_lunch") or {}) for part in run.trained)


def free_lunch_pred(table: Predictions, head: str, h: HeadPredictions) -> NDArray[np.int32]:
    """What ``Predictions.free_lunch`` predicts for the rows ``h`` of a head, without its probabilities.

    The correction multiplies the probabilities by a constant for each class and normalises: what
    it makes of one uniform row *is* that constant, so only one row goes through it.
    """
    k = len(h.classes)
    columns = {
        c: getattr(h, c)[:1] for c in ("sequence", "position", "from_start", "from_end", "group", "true", "pred")
    }
    row = replace(h, **columns, slices={}, probabilities=np.full((1, k), 1.0 / k, dtype=np.float32))
    factor = replace(table, heads={head: row}).free_lunch().heads[head].probabilities[0]
    out = np.empty(len(h), dtype=np.int32)
    for start in range(0, len(h), _BLOCK):
        part = slice(start, start + _BLOCK)
        out[part] = (h.probabilities[part] * factor).argmax(axis=1)
    return out


def calibration(run: RunRecord, head: str, found: tuple[Mapping[str, ConfidenceSums], ...]) -> dict[str, float]:
    """ECE and NLL of one run: as trained, at its validation temperature, with its prior shift undone.

    ``found`` has the sums of each training of the run. A correction that the run's ``meta`` does not hold gives NaN.
    Folds have a temperature each: the corrected numbers are means over them, weighted by their positions; as trained,
    all positions are binned together.
    """
    parts = []
    for training, sums in zip(run.trained, found, strict=True):
        scores = {variant: s.scores for variant, s in sums.items()}
        if (training.test.meta.get("prior_correction") or {}).get(head) == 0:  # there is no shift to undo
            scores["prior undone"] = scores["as predicted"]
        parts.append(scores)
    share = [sums["as predicted"].positions for sums in found]
    first, *rest = (sums["as predicted"] for sums in found)
    whole = sum(rest, first).scores
    out = dict(whole)
    for variant, suffix in {"temperature": "_temperature", "prior undone": "_prior_undone"}.items():
        for metric in whole:
            each = [part.get(variant, {}).get(metric, np.nan) for part in parts]
            out[f"{metric}{suffix}"] = float(np.average(each, weights=share)) if len(each) > 1 else each[0]
    return out
