"""What changed between the test report of a model and its answers on later data, with intervals over recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.formats import listed, percent, plural
from imbalance_lab.metrics import counts as m
from imbalance_lab.metrics.clusters import (
    MIN_POSITIONS,
    MIN_RECORDINGS,
    bootstrap_weights,
    clusters_of,
    ratio,
    resampled,
    verdicts,
)
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
    intervals, widened for few recordings, of one measure at a time. There is none (NaN) with fewer than three
    recordings on a side, nor for recall (precision) of a class that on a side is true (predicted) at fewer than 20
    positions or in fewer than three recordings: a rate of one recording looks exact to the bootstrap. Heads without a
    position on either side are left out. ``overconfidence`` is mean confidence minus accuracy: a mean, whose bootstrap
    is sound, unlike that of binned errors.

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
    ends = percentile_interval(drawn[1] - drawn[0], n_groups=fewest)
    enough = _enough(first.counts, k) & _enough(second.counts, k)
    return np.where(enough, ends[0], np.nan), np.where(enough, ends[1], np.nan)


def _enough(counts: Floats, k: int) -> NDArray[np.bool_]:
    """(clusters, K * K + 2) -> (4 + 3 K,): the measures whose denominators have enough positions and recordings."""
    confusion = counts[:, : k * k].reshape(-1, k, k)
    of_class = np.concatenate([confusion.sum(axis=2), confusion.sum(axis=1)], axis=1)
    found = verdicts(of_class.sum(axis=0), (of_class > 0).sum(axis=0))
    return np.array([*[True] * (len(_OVERALL) + k), *(word == "ok" for word in found)])


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
    lines = []
    for head in (after.primary, *(name for name in after.heads if name != after.primary)):
        lines += _of_head(head, table[table["head"] == head], before, after, main=head == after.primary)
    measured = int(table["low"].notna().sum())
    if measured:
        told = int((table["verdict"] != "cannot tell").sum())
        lines.append(
            f"{told} of {plural(measured, 'interval')} of a difference leave out 0; each is of one number at a time, "
            "so about one in twenty would by chance alone."
        )
    for name, classes in unknown.items():
        counted = listed([f"{c!r} {n:,}" for c, n in classes.items()], _SHOWN)
        lines.append(f"{name}: positions of classes that the model does not know, not scored: {counted}.")
    return [*lines, *notes]


def _of_head(head: str, rows: pd.DataFrame, before: Predictions, after: Predictions, *, main: bool) -> list[str]:
    """What changed of one head: the main head in full, of another accuracy, macro F1 and the classes that moved."""
    new, old = after.heads[head], before.heads.get(head)
    size = f"{head}: {plural(len(new), 'position')} of {plural(len(np.unique(new.group)), 'recording')}"
    if old is None or rows.empty:
        lacking = "The data have no labels" if old else "The model's test report has no positions"
        return [f"{size}.", f"{lacking} of this head, so nothing can be compared."]
    plain = rows[rows["class"] == ""].to_dict("records")
    overall = {row["measure"]: f"{_WORDS[str(row['measure'])]} {_number(row)}" for row in plain}
    shares = rows[rows["measure"] == "share"]
    occur = [int((shares[side] > 0).sum()) for side in ("before", "after")]
    if occur[0] != occur[1]:
        overall["macro_f1"] += f" (mean of the classes that occur: {occur[0]} before, {occur[1]} now)"
    by_class = [
        _of_classes(rows[rows["measure"] == measure], what if main else f"{what} of {head}", main=main)
        for measure, what in (("share", "class shares"), ("recall", "recall"), ("precision", "precision"))
    ]
    if not main:
        return [f"{head}: {overall['accuracy']}; {overall['macro_f1']}.", *filter(None, by_class)]
    lines = [f"{size}; the test report has {len(old):,} of {plural(len(np.unique(old.group)), 'recording')}."]
    if rows["low"].isna().all():
        lines.append(
            f"With fewer than {MIN_RECORDINGS} recordings on a side there is no interval, so no difference can be "
            "told from chance; those of the classes are in tables/changes.json."
        )
        by_class = []
    return [*lines, *(f"{_capital(words)}." for words in overall.values()), *by_class]


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _number(row: Mapping[Any, Any]) -> str:
    a, b, low, high = (float(row[name]) for name in ("before", "after", "low", "high"))
    interval = f" (difference {low:+.3f} to {high:+.3f})" if np.isfinite(low) else ""
    return f"{a:.3f} before, {b:.3f} now{interval}: {row['verdict']}"


def _of_classes(rows: pd.DataFrame, what: str, *, main: bool) -> str:
    """The classes that moved; of the main head also that none did, and which have no interval."""
    moved = rows[rows["verdict"] != "cannot tell"]
    thin = listed(rows.loc[rows["low"].isna(), "class"].tolist(), _SHOWN) if main else ""
    few = f"; without an interval, for fewer than {MIN_POSITIONS} positions or {MIN_RECORDINGS} recordings: {thin}"
    if moved.empty:
        none = f"{_capital(what)}: no class differs by more than its interval{few if thin else ''}."
        return none if main else ""
    order = moved["difference"].abs().sort_values(ascending=False).index
    parts = [
        f"{row['class']} {percent(row['before'], 1)} -> {percent(row['after'], 1)} "
        f"({row['low'] * 100:+.1f} to {row['high'] * 100:+.1f} points)"
        for row in moved.loc[order].to_dict("records")
    ]
    return f"{_capital(what)}: {listed(parts, _SHOWN)}{few if thin else ''}."
