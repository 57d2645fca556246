"""The page of one run: verdict, the five sections of a meeting, then the deep dives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.analysis.suite import head_suffixes, head_tables, shared_tables, table_file
from imbalance_lab.formats import percent
from imbalance_lab.report.assemble import Results, sections_of
from imbalance_lab.report.images import figure_view
from imbalance_lab.report.page import Card, Number, Page, facts_of
from imbalance_lab.report.page_sections import RUN
from imbalance_lab.report.recommendation_cards import OPEN_CARDS, cards
from imbalance_lab.report.run_figures import figures_of

if TYPE_CHECKING:
    from imbalance_lab.analysis.results import ErrorAnalysis, HeadAnalysis

_LEAD = "per_class"  # the primary head's figure on the first screen, which is not repeated below
_LABELS_ONLY = "the model gives labels without probabilities"


def results_of(analysis: ErrorAnalysis, *, every: bool = True) -> dict[str, Results]:
    """Tables and figures of each head, and what is absent and why; not ``every``: the figures that a trial draws."""
    out = {}
    for head, suffix in head_suffixes(analysis).items():
        figures, absent = figures_of(analysis, head, every=every)
        if analysis.labels_only:
            absent |= dict.fromkeys(_needing_probabilities(), _LABELS_ONLY)
        out[head] = Results(head_tables(analysis, head), figures, absent, f"tables/{table_file(suffix)}.json")
    return out


def _needing_probabilities() -> list[str]:
    """Names of the figures, and of the tables that no figure shows, that labels alone do not give."""
    found: list[str] = []
    for record in ANALYSES:
        if record.needs_probabilities:
            found += [plot.name for plot in record.plots]
        shown = [table for table in record.tables if table.name and not table.fold]
        found += [table.name for table in shown if record.needs_probabilities or table.needs_probabilities]
    return list(dict.fromkeys(found))


def render_run_report(
    analysis: ErrorAnalysis,
    *,
    title: str,
    results: Mapping[str, Results] | None = None,
    extra: Results | None = None,
    facts: Mapping[str, object] | None = None,
    experiment: str = "",
    baseline: str = "",
) -> Page:
    """Put an error analysis into a page.

    Parameters
    ----------
    title : what was analysed ("focal-2, seed 0, test split")
    results : of each head; default :func:`results_of`
    extra : results that the analysis does not hold: galleries, training curves, interpretation
    facts : small print (run id, version); meta of the analysis is added
    experiment, baseline : of the commands on the recommendation cards (`recommendation_cards.command_of`)

    Returns
    -------
    Page
        To be written with :func:`imbalance_lab.report.page.write`.
    """
    heads = dict(results_of(analysis) if results is None else results)
    shared = extra or Results()
    if len(analysis.heads) > 1:
        shared = replace(shared, tables={**shared_tables(analysis), **shared.tables})
    first = heads[analysis.primary]
    opening = first.figures.get(_LEAD)
    heads[analysis.primary] = replace(first, figures={k: f for k, f in first.figures.items() if k != _LEAD})
    several = len(analysis.heads) + len(analysis.unscored) > 1
    advised = cards(analysis.recommendations, experiment, baseline, several=several)
    sentence, tone = verdict_of(analysis)
    unscored = {"heads without a scored position": ", ".join(analysis.unscored)} if analysis.unscored else {}
    small = {k: v for k, v in analysis.meta.items() if v not in (None, "", (), [], {})}
    return Page(
        title=title,
        verdict=sentence,
        tone=tone,
        numbers=tuple(numbers_of(analysis.heads[analysis.primary])),
        figure=None if opening is None else figure_view(_LEAD, opening),
        advice=tuple(card for card in advised if isinstance(card, Card))[:OPEN_CARDS],
        advice_at=RUN.sections["recommendations"],
        sections=sections_of(RUN, shared, heads, {"recommendations": advised}),
        facts=facts_of({**(facts or {}), **small, **unscored}),
    )


def verdict_of(analysis: ErrorAnalysis) -> tuple[str, str]:
    """The analysis in one sentence, and its tone (``bad``, ``open`` or ``good``)."""
    head = analysis.heads[analysis.primary]
    collapse = head.summary.collapse
    if collapse.verdict in ("collapsed", "nearly collapsed"):
        share = percent(collapse.most_predicted_share)
        return (
            f"The model has {collapse.verdict}: it reads {share} of all positions as {collapse.most_predicted}.",
            "bad",
        )
    table = head.per_class.table
    judged = table[(table["sufficient"] == 1) & table["f1"].notna()]
    metrics = head.summary.metrics.set_index("metric")
    macro = metrics.loc["macro_f1"]
    trivial = float(np.nanmax([macro["majority"], macro["prior"], macro["uniform"]]))
    start = f"Macro F1 is {macro['value']:.3f}, against {trivial:.3f} without any input"
    if len(judged) == 0:
        return f"{start}; no class has enough positions and recordings to be judged alone.", "open"
    worst = judged.iloc[0]
    if worst["f1"] >= 1:
        return f"{start}; every class with enough positions is read without error.", "good"
    fails = (
        f"missed {percent(1 - worst['recall'])} of the time"
        if not worst["miss_share"] < 0.5
        else f"wrong {percent(1 - worst['precision'])} of the times it is read"
    )
    tone = "bad" if not macro["lift"] > 0 else "open"
    return f"{start}; the weakest class is {worst['class']}, {fails}.", tone


def numbers_of(head: HeadAnalysis) -> list[Number]:
    """Five numbers of the first screen: macro F1, balanced accuracy, accuracy, weakest recall, ECE."""
    metrics = head.summary.metrics.set_index("metric")
    out = []
    for key, name in (("macro_f1", "Macro F1"), ("balanced_accuracy", "Balanced accuracy"), ("accuracy", "Accuracy")):
        row = metrics.loc[key]
        best = float(np.nanmax([row["majority"], row["prior"], row["uniform"]]))
        out.append(Number(f"{row['value']:.3f}", name, f"{_interval(row)}best trivial {best:.3f}"))
    table = head.per_class.table
    judged = table[(table["sufficient"] == 1) & table["recall"].notna()]
    if len(judged):
        row = judged.iloc[int(np.argmin(judged["recall"]))]
        bounds = row.rename({"recall_low": "low", "recall_high": "high"})
        what = "Lowest recall" if len(judged) > 1 or len(table) == 1 else "Recall of the only class that can be judged"
        out.append(
            Number(f"{row['recall']:.3f}", f"{what}: {row['class']}", f"{_interval(bounds)}n = {row['support']:,}")
        )
    if "confidence" not in head.results:
        return out
    scores = head.confidence.scores
    ece = scores[(scores["metric"] == "ece") & (scores["variant"] == "as predicted")]
    if len(ece):
        out.append(
            Number(f"{ece.iloc[0]['value']:.3f}", "Calibration error (ECE)", _interval(ece.iloc[0]).rstrip(", "))
        )
    return out


def _interval(row: Any) -> str:
    low, high = float(row["low"]), float(row["high"])
    return f"95 %: {low:.3f} to {high:.3f}, " if np.isfinite(low) and np.isfinite(high) else ""
