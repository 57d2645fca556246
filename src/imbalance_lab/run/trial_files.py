"""What the folder of a trial consists of: tables, figures, pages, the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imbalance_lab.analysis.report import to_report
from imbalance_lab.analysis.results import ErrorAnalysis
from imbalance_lab.analysis.suite import bundles, head_suffixes, run_suite, tables
from imbalance_lab.atomic import read_json, reading_own
from imbalance_lab.data.dataset import LoadedData, SequenceDataset
from imbalance_lab.errors import InputError
from imbalance_lab.learners.protocol import Learner
from imbalance_lab.plots.style import save_png
from imbalance_lab.predictions import Predictions
from imbalance_lab.report.assemble import Results
from imbalance_lab.report.galleries import galleries
from imbalance_lab.report.page import write
from imbalance_lab.report.run_figures import ROOT_FIGURES, scope_of
from imbalance_lab.report.run_report import render_run_report, results_of, verdict_of
from imbalance_lab.run.training_curves import Course, course_figure
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from imbalance_lab.strategies.language.catalogue import catalogue, names_used

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from imbalance_lab.models.predictor import Predictor

REPORT = "error_analysis_report.json"

_FIRST = ("macro_f1", "f1", "recall", "precision")


@dataclass(frozen=True)
class Origin:
    """The run that was predicted with, and the experiment that it logged: what a recommendation's command takes up."""

    run_id: str
    spec: ExperimentSpec

    def unfit(self) -> tuple[str, ...]:
        """Names of the catalogue that this experiment cannot take, such as a schedule of more phases than epochs."""
        return tuple(name for name in catalogue() if not self._takes(name))

    def _takes(self, name: str) -> bool:
        try:
            parse_experiment(self.spec.to_mapping(), where="", overrides={"strategies": {name: None}})
        except InputError:
            return False
        return True


@dataclass(frozen=True)
class Background:
    """What is known beside the predictions: the run, the inputs, how the training went; None where it is not.

    ``no_inputs`` says why ``dataset`` is None.
    """

    origin: Origin | None = None
    dataset: SequenceDataset | None = None
    course: Course | None = None
    no_inputs: str = "the inputs are not at hand: only a predictions table was given"


def write_analysis(
    test: Predictions,
    folder: Path,
    *,
    behind: Background = Background(),
    tried: Collection[str] = (),
    resamples: int = 1000,
    labels_only: bool = False,
    every: bool = True,
) -> str:
    """Run the suite on ``test`` and write everything under ``folder``; returns the verdict in one sentence.

    Not ``every`` draws what a trial of a grid draws (:data:`imbalance_lab.analysis.record.Drawn`), the first picture of
    the main head's gallery among it; the tables are all there.
    With ``labels_only``, for a classifier that gives no probabilities, whatever reads one is left out and said to be,
    and ``error_analysis_report.json`` is not written: its schema holds calibration.
    """
    origin, unfit = behind.origin, list[str]()
    if origin is not None:
        tried, unfit = (*tried, *names_used(origin.spec.strategies)), list(origin.unfit())
    analysis = run_suite(test, tried=tried, unfit=unfit, resamples=resamples, labels_only=labels_only)
    write_tables(tables(analysis), folder / "tables")
    for name, found in bundles(analysis).items():
        _write_bundle(found, folder / "tables" / f"{name}.json")
    results = results_of(analysis, every=every)
    extra = _galleries(analysis, test, behind, every=every)
    if behind.course is not None:
        drawn = course_figure(behind.course, scope_of(analysis, analysis.primary))
        extra = replace(extra, figures={**extra.figures, "training_curves": drawn})
    for head, suffix in head_suffixes(analysis).items():
        for name, figure in results[head].figures.items():
            at_root = ROOT_FIGURES.get(name) if head == analysis.primary else None
            save_png(figure, folder / (at_root or f"figures/{name}{suffix}.png"))
    for name, figure in extra.figures.items():
        save_png(figure, folder / "figures" / f"{name}.png")
    if not labels_only:
        report = json.dumps(to_report(analysis), indent=1)
        (folder / REPORT).write_text(report, encoding="utf-8")
    about = test.meta
    named = [str(about.get("strategy") or "predictions")]
    named += [f"seed {about['seed']}"] if about.get("seed") is not None else []
    named += [f"fold {about['fold']}"] if about.get("fold") is not None else []
    named += [f"all {about['folds']} folds"] if about.get("folds") and about.get("fold") is None else []
    named += [f"{about['split']} split"] if about.get("split") else []
    facts = {name: about[name] for name in ("experiment", "run_id", "digest") if about.get(name)}
    if not every and origin is not None and origin.run_id:
        facts["all figures of all heads"] = f"mlflow run . -e analyze -P run_id={origin.run_id}"
    page = render_run_report(
        analysis,
        title=", ".join([*named, "labels only"] if labels_only else named),
        results=results,
        extra=extra,
        facts=facts,
        experiment="" if origin is None else f"runs:/{origin.run_id}/spec.yaml",
        baseline="" if origin is None else origin.spec.baseline,
    )
    write(page, folder / "report" / "index.html")
    return verdict_of(analysis)[0]


def write_interpretation(
    network: Predictor,
    loaded: LoadedData,
    folder: Path,
    *,
    budget: Literal["quick", "full"],
    seed: int,
    title: str,
    progress: Callable[[str], None] | None = None,
) -> str:
    """Interpret ``network`` on the test split and write everything under ``folder``; returns one sentence.

    Writes ``interpretation.json`` with all tables, ``figures/interpretation_*.png`` and ``report/interpretation.html``.
    """
    from imbalance_lab.interpretation.interpreting import interpret
    from imbalance_lab.interpretation.parts import figures_of
    from imbalance_lab.report.interpretation_report import PREFIX, headline, render_interpretation, to_json

    found = interpret(network, loaded, budget, seed, progress=progress)
    figures = figures_of(found)
    for name, figure in figures.items():
        save_png(figure, folder / "figures" / f"{PREFIX}{name}.png")
    (folder / "interpretation.json").write_text(to_json(found), encoding="utf-8")
    write(render_interpretation(found, figures, title=title), folder / "report" / "interpretation.html")
    return headline(found)


def write_model(learner: Learner, posthoc: Mapping[str, Any], folder: Path) -> Path:
    """Write what was trained, with its coding and ``posthoc`` steps; returns its folder within ``folder``."""
    stored = folder / learner.folder_name
    learner.save(stored, posthoc)
    return stored


def _galleries(analysis: ErrorAnalysis, test: Predictions, behind: Background, *, every: bool) -> Results:
    """The galleries of all heads, or the first picture of the main one's, or why there are none."""
    if analysis.labels_only:
        return Results()
    dataset = behind.dataset
    if dataset is None:
        return Results(absent={"gallery": behind.no_inputs})
    figures: dict[str, Figure] = {}
    absent: dict[str, str] = {}
    for head, suffix in head_suffixes(analysis).items():
        if not every and head != analysis.primary:
            continue
        found, why = galleries(analysis, head, test.heads[head], dataset, **({} if every else {"most": 1}))
        figures |= {f"{name}{suffix}": f for name, f in found.items()}
        if why:
            absent[f"gallery of {head}"] = why
    return Results(figures=figures, absent=absent)


def trim(folder: Path) -> None:
    """Leave in the folder of a trial whose files are stored elsewhere what its grid reads again: a later comparison.

    That are the predictions and the report.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in ("predictions", REPORT):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_tables(found: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Each table as MLflow's table JSON, ``{"columns": ..., "data": ...}``.

    Scores stand right behind the first column, which names the row: MLflow's artifact view opens a
    table with its first two columns, and counts such as the support are the same in every run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in found.items():
        (folder / f"{name}.json").write_text(_table_json(table), encoding="utf-8")


def read_table(path: Path) -> pd.DataFrame:
    """A table that :func:`write_tables` wrote.

    Raises
    ------
    InputError
        If the file is not one.
    """
    import pandas as pd

    plain = read_json(path)
    with reading_own(str(path)):
        columns, rows = plain["columns"], plain["data"]
        if any(not isinstance(name, str) for name in columns) or any(len(row) != len(columns) for row in rows):
            raise ValueError("a name of a column is no text, or a row has more or fewer cells than there are columns")
        return pd.DataFrame(rows, columns=columns)


def _write_bundle(found: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Several tables in one file: name to what :func:`write_tables` writes."""
    body = ",\n".join(f"{json.dumps(name)}: {_table_json(table)}" for name, table in found.items())
    path.write_text(f"{{{body}}}\n", encoding="utf-8")


def _table_json(table: pd.DataFrame) -> str:
    columns = list(table.columns)
    scores = [column for column in _FIRST if column in columns[1:]]
    order = [*columns[:1], *scores, *(column for column in columns[1:] if column not in scores)]
    return str(table[order].reset_index(drop=True).to_json(orient="split", index=False))
