"""The page of an interpretation, and its numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from imbalance_lab.interpretation.contents import Interpretation
from imbalance_lab.interpretation.parts import PARTS, metric_words, tables
from imbalance_lab.report.assemble import Layout, Results, sections_of
from imbalance_lab.report.images import figure_view
from imbalance_lab.report.page import Number, Page, Text, facts_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = "interpretation_"
"""Of the files of figures, which lie beside those of the error analysis."""

INTERPRETATION = Layout(
    sections={
        "found": "What was found",
        **{part.key: part.heading for part in PARTS},
        "absent": "Not in this report",
    },
    tables={table.name: table for part in PARTS for table in part.tables},
    figures={name: part.key for part in PARTS for name in part.figures},
    always=("found",),
    folded=frozenset(("attribution", "attention", "features", "difficulty", "heads", "absent")),
    notes={part.key: part.how for part in PARTS},
    prefix=PREFIX,
)


def render_interpretation(i: Interpretation, figures: Mapping[str, Figure], *, title: str) -> Page:
    """The page: what was found in sentences, then one section per method, then what is absent and why.

    ``figures`` are those of :func:`imbalance_lab.interpretation.parts.figures_of`.
    """
    opening = next((n for n in ("importance_groups", "importance_channels") if n in figures), None)
    shown = {name: figure for name, figure in figures.items() if name != opening}
    rest = Results(tables(i), shown, file="interpretation.json")
    reasons = [Text(f"{name.capitalize()}: {why}.", "absent") for name, why in i.absent.items()]
    return Page(
        title=title,
        verdict=headline(i),
        numbers=tuple(_numbers(i)),
        figure=figure_view(f"{PREFIX}{opening}", figures[opening]) if opening else None,
        sections=sections_of(INTERPRETATION, rest, first={"found": [Text(s) for s in i.summary], "absent": reasons}),
        facts=facts_of({k: i.meta[k] for k in _FACTS if k in i.meta}),
    )


_FACTS = ("head", "split", "budget", "seed", "windows", "digest", "unknown_categories")


def headline(i: Interpretation) -> str:
    """The finding about inputs, or the first sentence that there is."""
    chosen = [s for s in i.summary if s.startswith(("Among", "No "))]
    return chosen[0] if chosen else i.summary[0] if i.summary else "Nothing could be measured."


def _numbers(i: Interpretation) -> Iterator[Number]:
    metric = metric_words(i)
    base = i.permutation.base[i.permutation.base["head"] == i.head]
    if len(base):
        row = base.iloc[0]
        yield Number(f"{row['value']:.3f}", f"{metric} of the windows looked at", _ends(row))
    table = i.permutation.table[i.permutation.table["head"] == i.head].sort_values("drop", ascending=False)
    if len(table):
        row = table.iloc[0]
        yield Number(f"{row['drop']:.3f}", f"lost without {row['feature']}", _ends(row))
    if i.attribution is not None:
        sanity = i.attribution.sanity
        part = sanity[(sanity["method"] == "integrated gradients") & (sanity["over"] == "channels")]
        if len(part):
            note = f"integrated gradients; {_ends(part.iloc[0])}"
            yield Number(f"{part.iloc[0]['correlation']:.2f}", "rank correlation with a randomised network", note)
    if i.embeddings is not None:
        s = i.embeddings.separation
        s = s[(s["measure"] == "probe recall") & (s["verdict"] == "ok")]
        if len(s):
            row = s.iloc[int(np.argmin(s["rate"]))]
            yield Number(f"{row['rate']:.3f}", f"probe recall of {row['value']}, the worst", _ends(row))


def _ends(row: Any) -> str:
    low, high = float(row["low"]), float(row["high"])
    return f"95 %: {low:.3f} to {high:.3f}" if np.isfinite(low) and np.isfinite(high) else "no interval"


def to_json(i: Interpretation) -> str:
    """Summary, facts, what is absent and the tables (``{"columns": ..., "data": ...}``), as JSON without NaN."""
    found = {name: json.loads(t.to_json(orient="split", index=False)) for name, t in tables(i).items()}
    meta = {k: list(v) if isinstance(v, tuple) else v for k, v in i.meta.items()}
    plain = {
        "meta": meta,
        "summary": list(i.summary),
        "absent": dict(i.absent),
        "seconds": dict(i.seconds),
        "tables": found,
    }
    if i.attribution is not None:
        delta = i.attribution.relative_delta
        plain["integrated_gradients"] = {
            "steps": i.attribution.steps,
            "relative_convergence_delta": delta if np.isfinite(delta) else None,
        }
    return json.dumps(plain, allow_nan=False)
