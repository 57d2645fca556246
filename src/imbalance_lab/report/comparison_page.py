"""The page of a comparison: verdict, leaderboard, what each strategy gained and paid, links to the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from imbalance_lab.analysis.record import Table
from imbalance_lab.report.assemble import Layout, Results, sections_of
from imbalance_lab.report.images import figure_view
from imbalance_lab.report.page import Block, Number, Page, Text, facts_of, link_list
from imbalance_lab.report.page_tables import table_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    figures, tables : by name (:data:`COMPARISON`); others stand at the end
    links : strategy to the address of its report
    children : (name, address) of every run that was compared
    """
    board = table_view(leaderboard, "Leaderboard", links=links, headers=_HEADERS)
    said = [Text(f"{strategy}: {text}") for strategy, text in (sentences or {}).items()]
    runs: list[Block] = [link_list(list(children))] if children else []
    return Page(
        title=title,
        verdict=verdict,
        numbers=tuple(numbers),
        figure=None if lead is None else figure_view("leaderboard", lead),
        sections=sections_of(
            COMPARISON,
            Results(tables or {}, figures or {}),
            first={"strategies": [board, *said]},
            last={"runs": runs},
        ),
        facts=facts_of(facts or {}),
        tone=tone,
    )


_HEADERS: Mapping[str, str] = {
    "free_lunch": "corrected post hoc",
    "p": "p (all strategies)",
    "n": "n",
    "macro_f1": "macro F1",
    "mcc": "MCC",
    "ece": "ECE",
    "nll": "NLL",
}


def _record(name: str, section: str, at: str | None = None) -> Table:
    """A long table stands behind a disclosure triangle."""
    caption = name.replace("_", " ").capitalize()
    return Table(name, name if at is None else at, section, caption, (), most=200, fold_above=15)


TABLES = (
    _record("verdicts", "strategies", ""),
    _record("stopped", "strategies"),
    _record("differences", "strategies"),
    _record("bill", "gain"),
    _record("cost_ranges", "gain"),
    _record("flows", "flows"),
    _record("failures", "failures"),
    _record("runs", "runs"),
)
"""The tables beside the leaderboard, and where a comparison holds each (the verdicts depend on the metric)."""

COMPARISON = Layout(
    sections={
        "strategies": "Strategies",
        "gain": "What is gained and what it costs",
        "flows": "Positions fixed and broken",
        "failures": "Known failure modes",
        "runs": "Runs",
        "more": "More",
    },
    tables={table.name: table for table in TABLES},
    figures={"recall_against_false_alarms": "gain", "cost_ranges": "gain", "flows": "flows"},
    headers=_HEADERS,
)
