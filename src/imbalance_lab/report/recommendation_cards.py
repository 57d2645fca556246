"""Recommendations as cards: priority, what was seen, what to do, the command that tests it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from imbalance_lab.report.page import Block, Card, Note, Text
from imbalance_lab.report.page_tables import table_view
from imbalance_lab.strategies.language.catalogue import options_for_head, write_choice

if TYPE_CHECKING:
    from imbalance_lab.analysis.recommendations import Recommendation


OPEN_CARDS = 3
"""Cards that are shown whole; the first screen names these in short."""


def command_of(recommendation: Recommendation, experiment: str, baseline: str, *, several: bool = False) -> str:
    """The command that tests a recommendation's strategy beside the baseline, so that the two are compared.

    Parameters
    ----------
    experiment : file or URI of the experiment that is run again; "" where there is none, and so no command
    baseline : its baseline
    several : whether the data have several heads; the strategy then acts on the recommendation's head
    """
    if not recommendation.strategy or not experiment:
        return ""
    strategy, head = recommendation.strategy, recommendation.head
    chosen = write_choice({baseline: None, strategy: options_for_head(strategy, head) if head and several else None})
    return f"mlflow run . -P experiment={shlex.quote(experiment)} -P strategies={shlex.quote(chosen)}"


def cards(
    recommendations: Sequence[Recommendation], experiment: str = "", baseline: str = "", *, several: bool = False
) -> list[Block]:
    """A card for each recommendation, the most urgent first, each with its evidence behind a triangle.

    From the fourth on they are folded.

    Parameters
    ----------
    experiment, baseline, several : see :func:`command_of`
    """
    if not recommendations:
        return [Text("No finding reached the threshold of a recommendation.")]
    blocks: list[Block] = []
    for i, r in enumerate(sorted(recommendations, key=lambda r: r.priority)):
        blocks.append(
            Card(
                priority=f"Priority {r.priority}",
                title=f"{str(r.category).capitalize()}{f', head {r.head}' if r.head else ''}",
                seen=_seen(r),
                action=str(r.action),
                effect=str(r.effect or ""),
                command=command_of(r, experiment, baseline, several=several),
                note=_note(r),
                issue=str(r.issue),
                folded=i >= OPEN_CARDS,
            )
        )
    return blocks


def _note(recommendation: Recommendation) -> Note | None:
    """Threshold, what would test it, what was tried, and the evidence rows."""
    tried = recommendation.tried
    text = f"Fires at: {recommendation.threshold}." if recommendation.threshold not in (None, "") else ""
    text += f" Tested by the strategy {recommendation.strategy}." if recommendation.strategy else ""
    text += f" Already tried here: {', '.join(tried)}." if tried else ""
    rows = pd.DataFrame([dict(row) for row in recommendation.evidence])
    tables = (table_view(rows, "Evidence", most=20),) if len(rows) else ()
    return Note("Evidence and threshold", text.strip(), tables) if text or tables else None


def _seen(recommendation: Recommendation) -> str:
    """The issue, and the first evidence row's rate with its interval and n."""
    rows = [dict(row) for row in recommendation.evidence]
    text = str(recommendation.issue)
    return f"{text.rstrip('.')} ({found})." if rows and (found := _support(rows[0])) else text


def _support(row: Mapping[str, Any]) -> str:
    """``G3: recall 0.342, 95 % interval 0.19 to 0.51, n = 541, 30 recordings`` from what the row holds."""
    parts = []
    for name in ("rate", "recall", "precision", "f1", "share", "difference", "value", "ece"):
        value = row.get(name)
        ends = [(row.get(f"{p}low"), row.get(f"{p}high")) for p in (f"{name}_", "", f"{name}_wilson_", "wilson_")]
        known = [(low, high) for low, high in ends if _finite(low) and _finite(high)]
        if _finite(value) and known:
            parts.append(f"{name} {value:.3g}, 95 % interval {known[0][0]:.3g} to {known[0][1]:.3g}")
            break
    n = next((row[k] for k in ("n", "n_true", "support", "errors") if _finite(row.get(k))), None)
    if n is not None:
        parts.append(f"n = {int(n):,}")
    if _finite(row.get("recordings")):
        parts.append(f"{int(row['recordings']):,} recordings")
    named = next(iter(row.values()), "")  # the first column names the row
    return f"{named}: {', '.join(parts)}" if isinstance(named, str) and named and parts else ", ".join(parts)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
