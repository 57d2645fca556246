"""The page of a comparison: verdict, leaderboard, what each strategy gained and paid, links to the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from imbalance_lab.report.images import figure_view
from imbalance_lab.report.page import Block, Note, Number, Page, Section, Text, link_list
from imbalance_lab.report.tables import table_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SECTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Strategies": ("", ("leaderboard", "verdicts", "differences")),
    "What is gained and what it costs": ("", ("recall", "false_alarms", "bill", "cost", "cost_ranges")),
    "Positions fixed and broken": ("", ("flows",)),
    "Classes": ("", ("per_class", "classes")),
    "Calibration": ("", ("calibration", "reliability")),
    "Known failure modes": ("", ("failures", "failure_modes", "tracking", "known")),
    "Runs": ("", ("runs",)),
}


def render_comparison_page(
    leaderboard: pd.DataFrame,
    *,
    title: str,
    verdict: str,
    tone: str = "open",
    numbers: Sequence[Number] = (),
    lead: Figure | None = None,
    figures: Mapping[str, Figure] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    sentences: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    children: Sequence[tuple[str, str]] = (),
    notes: Mapping[str, str] | None = None,
    facts: Mapping[str, object] | None = None,
) -> Page:
    """Put a comparison into a page.

    Parameters
    ----------
    leaderboard : one row per strategy, first column its name, best first; intervals as
        ``<metric>_low, <metric>_high`` or ``low, high``
    verdict : which strategy to choose, or that the data cannot tell, in one sentence
    tone : ``good`` (one is better), ``bad`` or ``open``
    sentences : verdict of each strategy in words
    figures, tables : by name; the beginning of the name decides the section, others stand at the end
    links : strategy to the address of its report
    children : (name, address) of every run that was compared
    notes : "how this was computed" by table name ("leaderboard" included)
    """
    figures, tables, notes = dict(figures or {}), dict(tables or {}), dict(notes or {})
    sections = []
    for name, (intro, stems) in _SECTIONS.items():
        blocks: list[Block] = [Text(intro)] if intro else []
        blocks += [figure_view(n, figures.pop(n)) for n in list(figures) if n.startswith(stems)]
        if name == "Strategies":
            blocks.append(table_view(leaderboard, "Leaderboard", links=links, headers=_HEADERS))
            blocks += _note(notes, "leaderboard")
            blocks += [Text(f"{s}: {text}") for s, text in (sentences or {}).items()]
        for n in [n for n in tables if n.startswith(stems)]:
            blocks += _table(n, tables.pop(n), notes)
        if name == "Runs" and children:
            blocks.append(link_list(list(children)))
        if blocks:
            sections.append(Section(name, tuple(blocks)))
    rest: list[Block] = [figure_view(n, f) for n, f in figures.items()]
    for n, table in tables.items():
        rest += _table(n, table, notes)
    if rest:
        sections.append(Section("More", tuple(rest)))
    return Page(
        title=title,
        verdict=verdict,
        numbers=tuple(numbers),
        figure=None if lead is None else figure_view("leaderboard", lead),
        sections=tuple(sections),
        facts=tuple((str(k).replace("_", " "), text) for k, v in (facts or {}).items() if (text := _plain(v))),
        tone=tone,
    )


_HEADERS: Mapping[str, str] = {
    "free_lunch": "corrected post hoc",
    "p_holm": "p (Holm)",
    "n": "n",
    "macro_f1": "macro F1",
    "mcc": "MCC",
    "ece": "ECE",
    "nll": "NLL",
}


def _table(name: str, frame: pd.DataFrame, notes: Mapping[str, str]) -> list[Block]:
    """A table and its note; a long one stands behind a disclosure triangle."""
    view = table_view(frame, _words(name), headers=_HEADERS, most=200, where=f"tables/{name}.json")
    if len(frame) > 15:
        return [Note(f"Table: {_words(name)} ({len(frame):,} rows)", notes.get(name, ""), (view,))]
    return [view, *_note(notes, name)]


def _note(notes: Mapping[str, str], name: str) -> list[Block]:
    return [Note("How this was computed", notes[name])] if name in notes else []


def _plain(value: object) -> str:
    """A fact in words: lists and counts without brackets and quotes, "" for none."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
