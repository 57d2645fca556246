"""The page of one run: verdict, the five sections of a meeting, then the deep dives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from imbalance_lab.formats import percent
from imbalance_lab.report.cards import cards
from imbalance_lab.report.catalogue import SECTIONS, TABLES, entry_of_table, section_of_figure
from imbalance_lab.report.images import figure_view
from imbalance_lab.report.page import Block, Note, Number, Page, Section, Text
from imbalance_lab.report.tables import table_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_lab.analysis.results import ErrorAnalysis, HeadAnalysis

_MEETING = ("overall", "per_class", "confusions", "confidence")


@dataclass(frozen=True)
class Results:
    """Tables and figures by name; the names decide their sections (:mod:`imbalance_lab.report.catalogue`).

    ``absent`` maps the name of a result to the reason why it was not computed.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


def render_run_report(
    analysis: ErrorAnalysis,
    *,
    title: str,
    figures: Mapping[str, Mapping[str, Figure]] | None = None,
    lead: str = "per_class",
    extra: Results | None = None,
    facts: Mapping[str, object] | None = None,
    base_command: str = "mlflow run .",
) -> Page:
    """Put an error analysis into a page.

    Parameters
    ----------
    title : what was analysed ("focal-2, seed 0, test split")
    figures : head to its figures by name; made here (:func:`imbalance_lab.report.run_figures.figures_of`)
        where None
    lead : name of the primary head's figure for the first screen; it is not repeated below
    extra : results that the analysis does not hold: galleries, training curves, interpretation
    facts : small print (run id, version); meta of the analysis is added
    base_command : start of the commands on the recommendation cards

    Returns
    -------
    Page
        To be written with :func:`imbalance_lab.report.page.write`.
    """
    from imbalance_lab.analysis.suite import tables
    from imbalance_lab.report.run_figures import absent_of, figures_of

    heads = {}
    for name, head in analysis.heads.items():
        alone = tables(replace(analysis, heads={name: head}, primary=name))
        own = {k: t for k, t in alone.items() if k not in ("exact_match", "joint_failures")}
        drawn = figures[name] if figures is not None else figures_of(analysis, name)
        heads[name] = Results(own, drawn, absent_of(head))
    shared = extra or Results()
    if len(analysis.heads) > 1:
        both = {"exact_match": analysis.cross_head.exact_match, "joint_failures": analysis.cross_head.pairs}
        shared = replace(shared, tables={**{k: t for k, t in both.items() if len(t)}, **shared.tables})
    first = heads[analysis.primary]
    opening = first.figures.get(lead)
    if opening is not None:
        rest = {k: f for k, f in first.figures.items() if k != lead}
        heads[analysis.primary] = replace(first, figures=rest)
    sentence, tone = verdict_of(analysis)
    unscored = {"heads without a scored position": ", ".join(analysis.unscored)} if analysis.unscored else {}
    small = {k: v for k, v in analysis.meta.items() if v not in (None, "", (), [], {})}
    return assemble(
        heads,
        title=title,
        verdict=sentence,
        tone=tone,
        numbers=numbers_of(analysis.heads[analysis.primary]),
        lead=opening,
        recommendations=cards(analysis.recommendations, base_command),
        overall=shared,
        facts={**(facts or {}), **small, **unscored},
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
        out.append(
            Number(
                f"{row['recall']:.3f}", f"Lowest recall: {row['class']}", f"{_interval(bounds)}n = {row['support']:,}"
            )
        )
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


def assemble(
    heads: Mapping[str, Results],
    *,
    title: str,
    verdict: str,
    tone: str = "open",
    numbers: Sequence[Number] = (),
    lead: Figure | None = None,
    recommendations: Sequence[Block] = (),
    overall: Results | None = None,
    facts: Mapping[str, object] | None = None,
) -> Page:
    """Put named tables and figures into the sections of a page; with one head they need no heading of its own."""
    shared = overall or Results()
    sections = []
    for key, name in SECTIONS.items():
        own = [*recommendations] if key == "recommendations" else _blocks(shared, key)
        parts = {head: blocks for head, results in heads.items() if (blocks := _blocks(results, key))}
        if len(heads) == 1:
            own, parts = [*own, *(b for blocks in parts.values() for b in blocks)], {}
        if not own and not parts:
            if key not in _MEETING:
                continue
            own = [Text("Nothing was computed for this section.", "absent")]
        inner = tuple(Section(f"Head {head}", tuple(blocks)) for head, blocks in parts.items())
        sections.append(Section(name, tuple(own), inner))
    return Page(
        title=title,
        verdict=verdict,
        numbers=tuple(numbers),
        figure=None if lead is None else figure_view("lead", lead),
        sections=tuple(sections),
        facts=tuple((str(k), str(v)) for k, v in (facts or {}).items()),
        tone=tone,
    )


def _blocks(results: Results, section: str) -> list[Block]:
    """Figures first, then tables each with its note, then what is absent and why."""
    blocks: list[Block] = [
        figure_view(name, figure) for name, figure in results.figures.items() if section_of_figure(name) == section
    ]
    order = {name: i for i, name in enumerate(TABLES)}
    for name in sorted(results.tables, key=lambda n: order.get(n, len(order))):
        entry, frame = entry_of_table(name), results.tables[name]
        if entry.section != section or (entry.fold and frame.empty):
            continue
        view = table_view(frame, entry.caption, columns=entry.columns, most=entry.most, where=f"tables/{name}.json")
        if entry.fold:
            blocks.append(Note(f"Table: {entry.caption}", entry.how, (view,)))
            continue
        blocks.append(view)
        if entry.how:
            blocks.append(Note("How this was computed", entry.how))
    for name, reason in results.absent.items():
        known = entry_of_table(name).section
        if (known if known != "more" else section_of_figure(name)) == section:
            blocks.append(Text(f"{name.replace('_', ' ').capitalize()} — {reason}.", "absent"))
    return blocks
