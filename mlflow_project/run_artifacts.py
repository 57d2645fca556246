"""The error analysis of one run as files: tables, figures, report; the folder is logged as it is."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalance_lab.analysis.suite import run_suite, tables, to_report
from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.plots.style import save_png
from imbalance_lab.plots.training import training_curves
from imbalance_lab.predictions import Predictions
from imbalance_lab.report.galleries import galleries
from imbalance_lab.report.page import write
from imbalance_lab.report.run_figures import figures_of, scope_of
from imbalance_lab.report.run_report import Results, render_run_report, verdict_of
from imbalance_lab.training.collapse import prediction_spread
from imbalance_lab.training.fit import Epoch

if TYPE_CHECKING:
    import pandas as pd

ROOT_FIGURES = {"confusion": "confusion.png", "per_class": "per_class.png", "reliability": "calibration.png"}
"""Figures that people compare: the Compare page shows only artifacts of the root."""


def write_analysis(
    test: Predictions,
    folder: Path,
    *,
    tried: Collection[str] = (),
    dataset: SequenceDataset | None = None,
    epochs: Sequence[Epoch] = (),
    selection: str = "",
    collapse_epoch: int | None = None,
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
    if epochs:
        extra_figures["training_curves"] = _curves(epochs, analysis, selection, collapse_epoch)
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
    """Each table as MLflow's table JSON (``{"columns": ..., "data": ...}``) and as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in found.items():
        plain = table.reset_index(drop=True)
        (folder / f"{name}.json").write_text(plain.to_json(orient="split", index=False), encoding="utf-8")
        plain.to_csv(folder / f"{name}.csv", index=False)


def _curves(epochs: Sequence[Epoch], analysis: Any, selection: str, collapse_epoch: int | None) -> Any:
    import numpy as np
    import pandas as pd

    head = analysis.primary
    spreads = [prediction_spread(np.asarray(e.confusion[head])) for e in epochs]
    frame = pd.DataFrame(
        {
            "epoch": [e.number for e in epochs],
            "train_loss": [e.loss for e in epochs],
            "val_metric": [e.score for e in epochs],
            "pred_entropy": [s.entropy for s in spreads],
        }
    )
    best = max((e.number for e in epochs if e.best), default=None)
    return training_curves(
        frame,
        replace(scope_of(analysis, head), split="validation", positions=None, recordings=None),
        metric=selection.rpartition("/")[2] or "score",
        collapse_epoch=collapse_epoch,
        best_epoch=best,
        label_entropy=spreads[-1].label_entropy,
    )
