"""The figures of an error analysis, drawn by the records of its analyses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.analysis.record import Scene
from imbalance_lab.names import key
from imbalance_lab.plots.style import Scope, class_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_lab.analysis.results import ErrorAnalysis, HeadAnalysis

ROOT_FIGURES = {plot.name: plot.root for analysis in ANALYSES for plot in analysis.plots if plot.root}
"""Figures that people compare: the Compare page shows only artifacts of the root."""


def scope_of(analysis: ErrorAnalysis, head: str) -> Scope:
    """Head, split, strategy, seed, positions and recordings of one head of an analysis, for subtitles."""
    meta, found = analysis.meta, analysis.heads[head]
    seed = meta.get("seed")
    return Scope(
        head=head,
        split=str(meta.get("split") or ""),
        positions=found.positions,
        recordings=found.recordings,
        seeds=() if seed is None else (int(seed),),
        strategy=str(meta.get("strategy") or ""),
    )


def head_colours(head: HeadAnalysis) -> dict[str, str]:
    """Colours of a head's classes, by their order in the data set and the training counts."""
    return class_colours(head.classes, head.train_counts)


def figures_of(analysis: ErrorAnalysis, head: str, *, every: bool = True) -> tuple[dict[str, Figure], dict[str, str]]:
    """Every figure that the results of ``head`` allow, or those that a trial draws (``record.Drawn``).

    Returns
    -------
    figures : by name; the names are files of the run's ``figures``
    absent : name of a figure to the reason why there is none
    """
    found = analysis.heads[head]
    scene = Scene(scope_of(analysis, head), head_colours(found), found.error_rate)
    figures: dict[str, Figure] = {}
    absent: dict[str, str] = {}
    plots = [(record.name, plot) for record in ANALYSES if record.name in found.results for plot in record.plots]
    for name, plot in plots:
        if plot.draw is None or not (every or plot.wanted(main=head == analysis.primary)):
            continue
        drawn = plot.draw(found.results[name], scene)
        if isinstance(drawn, str):
            absent[plot.name] = drawn
        elif isinstance(drawn, Mapping):
            figures |= {f"{plot.name}_{key(part)}": figure for part, figure in drawn.items()}
        else:
            figures[plot.name] = drawn
    return figures, absent
