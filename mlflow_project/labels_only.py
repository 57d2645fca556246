"""The error analysis of a classifier that gives labels and no probabilities.

Whatever is counted from labels is shown; whatever reads a probability is left out and said to be.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from imbalance_lab.analysis.results import ErrorAnalysis
from imbalance_lab.analysis.suite import run_suite, tables
from imbalance_lab.plots.style import save_png
from imbalance_lab.predictions import Predictions
from imbalance_lab.report.cards import cards
from imbalance_lab.report.page import write
from imbalance_lab.report.run_figures import figures_of
from imbalance_lab.report.run_report import Results, assemble, numbers_of, verdict_of
from mlflow_project.run_artifacts import ROOT_FIGURES, write_tables

COUNTED = (
    "summary",
    "confusion",
    "confused_pairs",
    "per_class",
    "class_frequency",
    "frequency_groups",
    "families",
    "recordings",
    "worst_slices",
    "position",
    "transitions",
    "segments",
    "missed_segments",
    "missed_segments_by_class",
    "error_runs",
)
"""Tables that are counted from labels alone, beside ``slice_<name>``."""

COUNTED_FIGURES = ("per_class", "confusion", "confused_pairs", "class_frequency", "position", "transitions")
SCORED_COLUMNS = ("auprc",)
SCORED_ADVICE = ("calibration", "labels")
"""Categories of recommendations that rest on probabilities."""

_WHY = "the model gives labels without probabilities"
ABSENT = {
    "reliability": _WHY,
    "confidence_histogram": _WHY,
    "hard_examples": _WHY,
    "label_noise": _WHY,
}


def counted_tables(analysis: ErrorAnalysis) -> dict[str, pd.DataFrame]:
    """The tables of an analysis that do not read probabilities."""
    found = tables(analysis)
    return {
        name: t.drop(columns=[c for c in SCORED_COLUMNS if c in t.columns])
        for name, t in found.items()
        if name in COUNTED or name.startswith("slice_")
    }


def write_label_analysis(
    predictions: Predictions, folder: Path, *, tried: Collection[str] = (), resamples: int = 1000
) -> str:
    """Tables, figures and ``report/index.html`` of what labels alone allow; returns the verdict in one sentence.

    ``error_analysis_report.json`` is not written: its schema holds calibration.
    """
    analysis = run_suite(predictions, tried=tried, resamples=resamples)
    kept = counted_tables(analysis)
    write_tables(kept, folder / "tables")
    figures = {
        name: figure
        for name, figure in figures_of(analysis, analysis.primary).items()
        if name in COUNTED_FIGURES or name.startswith("slice_")
    }
    for name, figure in figures.items():
        save_png(figure, folder / "figures" / f"{name}.png")
        if name in ROOT_FIGURES:
            save_png(figure, folder / ROOT_FIGURES[name])
    verdict, tone = verdict_of(analysis)
    advice = [r for r in analysis.recommendations if r.category not in SCORED_ADVICE]
    lead = figures.pop("per_class", None)
    meta = predictions.meta
    page = assemble(
        {analysis.primary: Results(kept, figures, ABSENT)},
        title=f"{meta.get('strategy', 'predictions')}, {meta.get('split', '')} split, labels only",
        verdict=verdict,
        tone=tone,
        numbers=[n for n in numbers_of(analysis.heads[analysis.primary]) if "ECE" not in n.label],
        lead=lead,
        recommendations=cards(advice),
        facts={k: v for k, v in meta.items() if v not in (None, "", [], {})},
    )
    write(page, folder / "report" / "index.html")
    return verdict
