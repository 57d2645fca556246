"""The error analysis of one run as files: tables, figures, report; the folder is logged as it is."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalance_lab.analysis.suite import run_suite, tables, to_report
from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.plots.style import save_png
from imbalance_lab.predictions import Predictions
from imbalance_lab.report.galleries import galleries
from imbalance_lab.report.page import write
from imbalance_lab.report.run_figures import figures_of, scope_of
from imbalance_lab.report.run_report import Results, render_run_report, verdict_of
from mlflow_project.course import Course, course_figure

if TYPE_CHECKING:
    import pandas as pd

ROOT_FIGURES = {"confusion": "confusion.png", "per_class": "per_class.png", "reliability": "calibration.png"}
"""Figures that people compare: the Compare page shows only artifacts of the root."""

_FIRST = ("macro_f1", "f1", "recall", "precision")


def write_analysis(
    test: Predictions,
    folder: Path,
    *,
    tried: Collection[str] = (),
    dataset: SequenceDataset | None = None,
    course: Course | None = None,
    resamples: int = 1000,
) -> str:
    """Run the suite on ``test`` and write everything under ``folder``; returns the verdict in one sentence."""
    analysis = run_suite(test, tried=tried, resamples=resamples)
    write_tables(tables(analysis), folder / "tables")
    figures = {head: figures_of(analysis, head) for head in analysis.heads}
    extra_figures: dict[str, Any] = {}
    absent: dict[str, str] = {}
    if dataset is None:
        absent["gallery"] = "the inputs are not at hand: only a predictions table was given"
    else:
        for head in analysis.heads:
            found, why = galleries(analysis, head, test.heads[head], dataset)
            extra_figures |= {name if head == analysis.primary else f"{name}_{head}": f for name, f in found.items()}
            if why:
                absent[f"gallery of {head}"] = why
    if course is not None:
        extra_figures["training_curves"] = course_figure(course, scope_of(analysis, analysis.primary))
    for head, by_name in figures.items():
        suffix = "" if head == analysis.primary else f"_{head}"
        for name, figure in by_name.items():
            save_png(figure, folder / "figures" / f"{name}{suffix}.png")
    for name, figure in extra_figures.items():
        save_png(figure, folder / "figures" / f"{name}.png")
    for name, root in ROOT_FIGURES.items():
        if name in figures[analysis.primary]:
            save_png(figures[analysis.primary][name], folder / root)
    (folder / "error_analysis_report.json").write_text(json.dumps(to_report(analysis), indent=1), encoding="utf-8")
    about = test.meta
    title = f"{about.get('strategy', 'predictions')}, seed {about.get('seed', '?')}, {about.get('split', '')} split"
    facts = {name: test.meta[name] for name in ("experiment", "run_id", "digest") if test.meta.get(name)}
    page = render_run_report(
        analysis, title=title, figures=figures, extra=Results(figures=extra_figures, absent=absent), facts=facts
    )
    write(page, folder / "report" / "index.html")
    return verdict_of(analysis)[0]


def write_tables(found: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Each table as MLflow's table JSON (``{"columns": ..., "data": ...}``) and as CSV.

    Scores stand right behind the first column, which names the row: MLflow's artifact view opens a
    table with its first two columns, and counts such as the support are the same in every run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in found.items():
        columns = list(table.columns)
        scores = [column for column in _FIRST if column in columns[1:]]
        order = [*columns[:1], *scores, *(column for column in columns[1:] if column not in scores)]
        plain = table[order].reset_index(drop=True)
        (folder / f"{name}.json").write_text(plain.to_json(orient="split", index=False), encoding="utf-8")
        plain.to_csv(folder / f"{name}.csv", index=False)
