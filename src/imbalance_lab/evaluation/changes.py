"""What changed between the test report of a model and its answers on later data, with intervals over recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.formats import percent, plural
from imbalance_lab.metrics import counts as m
from imbalance_lab.metrics.clusters import MIN_RECORDINGS, bootstrap_weights, clusters_of, ratio, resampled
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.metrics.intervals import percentile_interval
from imbalance_lab.predictions import HeadPredictions, Predictions

_RESAMPLES = 1000

Floats = NDArray[np.float64]

COLUMNS = ("head", "measure", "class", "before", "after", "difference", "low", "high", "verdict")
"""``verdict``: higher or lower where the interval of the difference leaves out 0, else cannot tell."""

_SHOWN = 5
_OVERALL = ("accuracy", "macro_f1", "log_loss", "overconfidence")
_WORDS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss (nats)",
    "overconfidence": "mean confidence minus accuracy",
}


@dataclass(frozen=True)
class _Sums:
    """What the measures are made of, by cluster of recordings: (clusters, K * K + 2) and the draws of the bootstrap."""

    counts: Floats
    weights: Floats | None
    recordings: int


def changes(before: Predictions, after: Predictions) -> pd.DataFrame:
    """Measures of each head on both tables, and their differences.

    Both sets of recordings are resampled on their own, since they share none; intervals are 95 % percentile
    intervals, widened for few recordings, of one measure at a time; with fewer than three recordings on a side there is
    none (NaN). Heads without a position on either side are left
    out. ``overconfidence`` is mean confidence minus accuracy: a mean, whose bootstrap is sound, unlike that of binned
    errors.

    Returns
    -------
    DataFrame of :data:`COLUMNS`
    """
    rng = np.random.default_rng(0)
    rows = []
    for head, new in after.heads.items():
        old = before.heads.get(head)
        if old is None or not len(old) or not len(new):
            continue
        k = len(new.classes)
        first, second = (_sums(part, _RESAMPLES, rng) for part in (_in_order(old, new.classes), new))
        low, high = _difference(first, second, k)
        values = [_measures(s.counts.sum(axis=0, keepdims=True), k)[0] for s in (first, second)]
        names = [(n, "") for n in _OVERALL]
        names += [(n, c) for n in ("share", "recall", "precision") for c in new.classes]
        for i, (measure, label) in enumerate(names):
            a, b = float(values[0][i]), float(values[1][i])
            verdict = "higher" if low[i] > 0 else "lower" if high[i] < 0 else "cannot tell"
            rows.append((head, measure, label, a, b, b - a, float(low[i]), float(high[i]), verdict))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _in_order(head: HeadPredictions, classes: tuple[str, ...]) -> HeadPredictions:
    assert head.classes == classes, "a model and its own predictions have the same classes"
    return head


def _sums(head: HeadPredictions, resamples: int, rng: np.random.Generator) -> _Sums:
    k = len(head.classes)
    clusters = clusters_of(head.group, len(head.group_names), k * k + 2)
    code = clusters.codes(head.group)
    confusion = confusion_counts(head.true, head.pred, k, code, clusters.n).reshape(clusters.n, -1)
    loss = -np.log(np.maximum(head.true_prob.astype(np.float64), 1e-30))
    more = [np.bincount(code, w, clusters.n) for w in (loss, head.confidence.astype(np.float64))]
    weights = bootstrap_weights(clusters, resamples, rng)
    return _Sums(np.column_stack([confusion, *more]).astype(np.float64), weights, clusters.recordings)


def _measures(sums: Floats, k: int) -> Floats:
    """(block, K * K + 2) -> (block, 4 + 3 K): overall measures, then share, recall and precision of each class."""
    confusion = sums[:, : k * k].reshape(-1, k, k)
    n = confusion.sum(axis=(1, 2))
    right = np.trace(confusion, axis1=1, axis2=2)
    accuracy = ratio(right, n)
    loss, confidence = ratio(sums[:, -2], n), ratio(sums[:, -1], n)
    diagonal = np.diagonal(confusion, axis1=1, axis2=2)
    overall = np.stack([accuracy, m.macro_f1(confusion), loss, confidence - accuracy], axis=1)
    of_class = [
        ratio(confusion.sum(axis=2), n[:, None]),
        ratio(diagonal, confusion.sum(axis=2)),
        ratio(diagonal, confusion.sum(axis=1)),
    ]
    return np.concatenate([overall, *of_class], axis=1)


def _difference(first: _Sums, second: _Sums, k: int) -> tuple[Floats, Floats]:
    few = min(first.recordings, second.recordings) < MIN_RECORDINGS
    if few or first.weights is None or second.weights is None:
        nothing = np.full(len(_OVERALL) + 3 * k, np.nan)
        return nothing, nothing
    drawn = [
        resampled(s.counts, w, lambda x: _measures(x, k)) for s, w in ((first, first.weights), (second, second.weights))
    ]
    fewest = min(first.weights.shape[1], second.weights.shape[1])
    return percentile_interval(drawn[1] - drawn[0], n_groups=fewest)


def sentences(
    table: pd.DataFrame,
    before: Predictions,
    after: Predictions,
    unknown: Mapping[str, Mapping[str, int]],
    notes: list[str],
) -> list[str]:
    """What changed, in words: the main head first, then classes, then what the data lack.

    Parameters
    ----------
    table : of :func:`changes`
    unknown : head to the classes that the model does not know, with their positions
    notes : sentences on columns and categories
    """
    head = after.primary
    own = table[table["head"] == head]
    new = after.heads[head]
    old = before.heads.get(head)
    recordings = len(np.unique(new.group))
    lines = [f"{head}: {plural(len(new), 'position')} of {plural(recordings, 'recording')}."]
    if old is None or own.empty:
        lines.append("The model's test report has no positions of this head, so nothing can be compared.")
    else:
        lines[0] = (
            f"{lines[0][:-1]}; the test report has {len(old):,} of {plural(len(np.unique(old.group)), 'recording')}."
        )
        if own["low"].isna().all():
            lines.append(
                f"With fewer than {MIN_RECORDINGS} recordings on a side there is no interval, so no difference can be "
                "told from chance."
            )
        lines += [_overall(row) for row in own[own["class"] == ""].to_dict("records")]
        for measure, what in (("share", "class shares"), ("recall", "recall"), ("precision", "precision")):
            lines.append(_of_classes(own[own["measure"] == measure], what))
        told = int((table["verdict"] != "cannot tell").sum())
        lines.append(
            f"{told} of {len(table)} intervals of a difference leave out 0; each is of one number at a time, so about "
            "one in twenty would by chance alone."
        )
    for name, classes in unknown.items():
        listed = ", ".join(f"{c!r} {n:,}" for c, n in list(classes.items())[:_SHOWN])
        more = " ..." if len(classes) > _SHOWN else ""
        lines.append(f"{name}: positions of classes that the model does not know, not scored: {listed}{more}.")
    return [*lines, *notes]


def _overall(row: Mapping[Any, Any]) -> str:
    what = _WORDS[str(row["measure"])]
    return f"{what[0].upper()}{what[1:]}: {_number(row)}"


def _number(row: Mapping[Any, Any]) -> str:
    a, b, low, high = (float(row[name]) for name in ("before", "after", "low", "high"))
    interval = f" (difference {low:+.3f} to {high:+.3f})" if np.isfinite(low) else ""
    return f"{a:.3f} before, {b:.3f} now{interval}: {row['verdict']}."


def _of_classes(rows: pd.DataFrame, what: str) -> str:
    moved = rows[rows["verdict"] != "cannot tell"]
    if moved.empty:
        return f"{what[0].upper()}{what[1:]}: no class differs by more than its interval."
    order = moved["difference"].abs().sort_values(ascending=False).index
    parts = [
        f"{row['class']} {percent(row['before'], 1)} -> {percent(row['after'], 1)} "
        f"({row['low'] * 100:+.1f} to {row['high'] * 100:+.1f} points)"
        for row in moved.loc[order].head(_SHOWN).to_dict("records")
    ]
    more = f", and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
    return f"{what[0].upper()}{what[1:]}: {', '.join(parts)}{more}."
