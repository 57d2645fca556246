"""The figures of an error analysis: its tables handed to the plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from imbalance_lab.plots import confidence, confusion, per_class, rates
from imbalance_lab.plots.style import Scope, class_colours
from imbalance_lab.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_lab.analysis.results import ErrorAnalysis, HeadAnalysis


def scope_of(analysis: ErrorAnalysis, head: str) -> Scope:
    """Head, split, strategy, seed, positions and recordings of one head of an analysis, for subtitles."""
    meta, summary = analysis.meta, analysis.heads[head].summary
    seed = meta.get("seed")
    return Scope(
        head=head,
        split=str(meta.get("split") or ""),
        positions=summary.n,
        recordings=summary.recordings,
        seeds=() if seed is None else (int(seed),),
        strategy=str(meta.get("strategy") or ""),
    )


def head_colours(head: HeadAnalysis) -> dict[str, str]:
    """Colours of a head's classes, by their order in the data set and the training counts."""
    counts = head.per_class.table.set_index("class")["train_count"]
    classes = head.confusion.classes
    return class_colours(classes, [int(counts[c]) for c in classes])


def figures_of(analysis: ErrorAnalysis, head: str) -> dict[str, Figure]:
    """Every figure that the tables of ``head`` allow; what does not apply is absent.

    Returns
    -------
    dict of name to Figure
        ``per_class, confusion, confused_pairs, reliability, confidence_histogram, failure_modes,
        slice_<name>, position, transitions, class_frequency``; the names are files of the run's ``figures``.
    """
    found, scope = analysis.heads[head], scope_of(analysis, head)
    colours = head_colours(found)
    wrong = float(1 - np.trace(found.confusion.counts) / max(1, found.confusion.counts.sum()))
    figures = {
        "per_class": per_class.per_class(found.per_class.table, scope, colours=colours),
        "confusion": confusion.confusion_matrix(found.confusion.counts, found.confusion.classes, scope),
        "confused_pairs": confusion.confused_pairs(_by_rate(found.confusion.pairs), scope, colours=colours),
        "reliability": _reliability(found, scope),
        "confidence_histogram": confidence.confidence_histogram(found.confidence.histogram, scope),
        "failure_modes": rates.failure_modes(found.failure_modes.primary, scope, tags=found.failure_modes.tags),
        "class_frequency": per_class.class_frequency(found.class_frequency.table, scope, colours=colours),
    }
    for name, table in found.slices.by_slice.items():
        figures[f"slice_{name}"] = rates.slices(table, scope, what=name, overall=wrong)
    if found.position.verdict == "ok":
        p_values = {t.along: t.p for t in found.position.trends}
        figures["position"] = rates.error_by_position(found.position.table, scope, overall=wrong, p_values=p_values)
    if found.segments.verdict == "ok":
        figures["transitions"] = rates.transitions(found.segments.transitions, scope, missed=found.segments.missed)
    return figures


def absent_of(head: HeadAnalysis) -> dict[str, str]:
    """What was not computed for a head, and why."""
    reasons = {"position": head.position.verdict, "transitions": head.segments.verdict}
    return {name: reason for name, reason in reasons.items() if reason != "ok"}


def _by_rate(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of classes with enough positions first, then by rate."""
    enough = pairs["verdict"].eq("ok") if "verdict" in pairs else pd.Series(True, index=pairs.index)
    return pairs.assign(_enough=enough).sort_values(["_enough", "rate"], ascending=False, kind="stable")


def _reliability(head: HeadAnalysis, scope: Scope) -> Figure:
    bins = head.confidence.reliability
    bins = bins[bins["kind"] == "width"]
    scores = head.confidence.scores
    curves: dict[str, pd.DataFrame] = {}
    for variant in dict.fromkeys(bins["variant"]):
        part = bins[bins["variant"] == variant]
        right = (part["accuracy"] * part["count"]).round()
        low, high = wilson(right.to_numpy(), part["count"].to_numpy())  # one recording has no cluster bootstrap
        known = part["low"].notna()
        curves[_variant(variant, head)] = part.assign(
            low=part["low"].where(known, low), high=part["high"].where(known, high)
        )
    ece: Mapping[str, float] = {
        _variant(v, head): float(x)
        for v, m, x in zip(scores["variant"], scores["metric"], scores["value"], strict=True)
        if m == "ece"
    }
    return confidence.reliability(curves, scope, ece=ece)


def _variant(name: str, head: HeadAnalysis) -> str:
    t = head.confidence.temperature
    return f"{name} {t:.2f}" if name == "temperature" and t is not None else name
