"""What the parent run logs when its trials have ended: leaderboard, figures, page, description."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from imbalance_lab.comparison.comparing import Comparison, compare
from imbalance_lab.comparison.records import RunRecord
from imbalance_lab.comparison.verdict import METRIC_WORDS
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.names import inside, key
from imbalance_lab.plots.style import save_png
from imbalance_lab.predictions import read_parquet
from imbalance_lab.report.comparison_figures import board_of, figures_of_comparison, tables_of_comparison
from imbalance_lab.report.comparison_page import render_comparison_page
from imbalance_lab.report.page import Number, write
from imbalance_lab.spec import ExperimentSpec
from mlflow_project.run_artifacts import write_tables
from mlflow_project.runs import score_of
from mlflow_project.tracking import NOTE_LENGTH, RunLogger, experiment_path, run_address, run_path

if TYPE_CHECKING:
    from mlflow_project.task import TrialResult

ROOT_FIGURES = ("leaderboard", "recall_against_false_alarms")


def log_comparison(
    logger: RunLogger,
    spec: ExperimentSpec,
    results: Sequence[TrialResult],
    loaded: LoadedData,
    work: Path,
    failures: Sequence[tuple[str, str]] = (),
) -> None:
    """Compare the finished trials and log the result to the parent run."""
    metric = _metric(spec)
    runs = [
        record_of(result, work, metric if metric != spec.selection.metric.rpartition("/")[2] else "")
        for result in results
    ]
    head = runs[0].test.primary
    strategies = {run.strategy for run in runs}
    baseline = spec.baseline if spec.baseline in strategies else runs[0].strategy
    found = compare(
        runs,
        baseline=baseline,
        primary_head=head,
        costs=spec.costs.get(head),
        metric=metric,
        margin=spec.comparison.margin,
    )
    simulated = bool(loaded.dataset.facts.get("simulated"))
    folder = work / "comparison"
    experiments = dict.fromkeys((run.run_id for run in runs), logger.store.experiment_id)
    links = {run_id: run_address(logger.store.uri, lies_in, run_id) for run_id, lies_in in experiments.items()}
    title = f"{spec.name}: which strategy?"
    write_comparison(found, folder, links, title=title, metric=metric, simulated=simulated)
    logger.folder(folder)
    logger.metrics(board_metrics(found, head))
    only = f"tags.`mlflow.parentRunId` = '{logger.run_id}'"
    logger.describe(description(found, logger, experiments, failures, only=only, simulated=simulated))
    logger.tags({"chosen": found.choice.strategy or "cannot distinguish", "digest": loaded.dataset.digest})


def record_of(result: TrialResult, work: Path, metric: str = "") -> RunRecord:
    """The record of a finished trial, from its local files; ``metric`` scores it on validation, "": what it was by."""
    folder = inside(work / "trials", f"{result.strategy}-s{result.seed}")
    report = json.loads((folder / "error_analysis_report.json").read_text(encoding="utf-8"))
    test = read_parquet(Path(result.predictions))
    score = result.val_score
    if metric:
        score = score_of(read_parquet(folder / "predictions" / "val.parquet").heads[test.primary], metric)
    return RunRecord(
        strategy=result.strategy,
        seed=result.seed,
        run_id=result.run_id,
        test=test,
        val_score=score,
        seconds=result.seconds,
        report=report,
    )


def write_comparison(
    found: Comparison, folder: Path, links: Mapping[str, str], *, title: str, metric: str, simulated: bool = False
) -> None:
    """Tables, figures and ``comparison/index.html`` of a comparison under ``folder``.

    ``links`` is the address of each run by its id; the page leads to these.
    """
    tables = tables_of_comparison(found, metric=metric)
    write_tables(tables, folder / "tables")
    figures = figures_of_comparison(found, metric=metric, headline=found.choice.title)
    for name, figure in figures.items():
        save_png(figure, folder / "figures" / f"{name}.png")
        if name in ROOT_FIGURES:
            save_png(figure, folder / f"{name}.png")
    (folder / "verdict.json").write_text(
        json.dumps(
            {
                "strategy": found.choice.strategy,
                "use_free_lunch": found.choice.use_free_lunch,
                "selected": found.choice.selected,
                "reason": found.choice.reason,
                "case": found.choice.case,
                "evidence": found.choice.evidence,
                "facts": dict(found.facts),
            },
            indent=1,
            default=str,
        ),
        encoding="utf-8",
    )
    note = "Simulated recordings: every number here is of simulated data. " if simulated else ""
    headline, detail = found.choice.headline, found.choice.detail
    page = render_comparison_page(
        board_of(found, metric=metric),
        title=title,
        verdict=note + headline,
        sentences={"In detail": detail} if detail else {},
        tone="good" if found.choice.strategy else "open",
        numbers=_numbers(found, metric),
        lead=figures["leaderboard"],
        figures={name: f for name, f in figures.items() if name != "leaderboard"},
        tables={name: t for name, t in tables.items() if name != "leaderboard" and len(t)},
        children=[
            (f"{r.strategy}, seed {r.seed}", links[str(r.run_id)])
            for r in found.runs.itertuples()
            if str(r.run_id) in links
        ],
        facts=found.facts,
    )
    write(page, folder / "comparison" / "index.html")


def board_metrics(found: Comparison, head: str) -> dict[str, float]:
    """Leaderboard numbers as metrics of the parent: the chart view then shows them without configuration.

    Trained strategies only, and two numbers of each: a chart is drawn for every one. The table holds the rest.
    """
    values: dict[str, float] = {}
    board = found.leaderboard
    for row in board[board["kind"] == 0].to_dict("records"):
        for name in ("macro_f1", "balanced_accuracy"):
            value = row.get(name)
            if value is not None and _known(value):
                values[f"leaderboard/{key(head)}/{name}/{key(row['strategy'])}"] = value
    return values


def description(
    found: Comparison,
    logger: RunLogger,
    experiments: Mapping[str, str],
    failures: Sequence[tuple[str, str]] = (),
    *,
    only: str = "",
    simulated: bool = False,
) -> str:
    """The parent's description: the verdict in plain words, where to look on, the leaderboard.

    Parameters
    ----------
    logger : the run that holds the comparison
    experiments : the experiment that each compared run lies in, by run id
    only : MLflow's filter of just these runs within their experiment; default: by their ids, where they are few

    Returns
    -------
    Markdown of at most :data:`~mlflow_project.tracking.NOTE_LENGTH` characters. Where a long leaderboard does not
    fit, the links to the single runs go first, then the last rows.
    """
    headline, detail = found.choice.headline, found.choice.detail
    lines = [
        _views(found, logger, experiments, only),  # first: the page folds a description after a few lines
        "",
        f"{'**Simulated recordings.** ' if simulated else ''}**{headline.rstrip('.')}.**",
        *(["", detail] if detail else []),
        "",
    ]
    after = [f"\nHead `{found.facts['head']}`, test split, opened once per run; everything was chosen on validation."]
    after += [f"- {name} failed: {reason[:300]}" for name, reason in failures[:5]]
    if len(failures) > 5:
        after.append(f"- and {len(failures) - 5} more failed; their own descriptions say why")
    for linked in (experiments, {}):
        text = "\n".join([*lines, *_board_rows(found, linked), *after])
        if len(text) <= NOTE_LENGTH:
            return text
    rows, dropped = _board_rows(found, {}), 0
    while len(text) > NOTE_LENGTH and len(rows) > 3:
        rows.pop()
        dropped += 1
        text = "\n".join([*lines, *rows, f"\nand {dropped} more rows in `tables/leaderboard.json`", *after])
    return text[:NOTE_LENGTH]


def _board_rows(found: Comparison, experiments: Mapping[str, str]) -> list[str]:
    """The leaderboard as a Markdown table; seeds lead to their runs where ``experiments`` knows them."""
    names = ("strategy", "seeds", "macro F1", "95 % interval", "balanced accuracy", "against the baseline")
    rows = [_row(names), "|---|---|---|---|---|---|"]
    words: dict[Any, str] = {1.0: "better", 0.0: "cannot distinguish", -1.0: "worse"}
    for row in found.leaderboard.to_dict("records"):
        verdict = words.get(row.get("verdict"), "")
        low, high = row.get("macro_f1_low"), row.get("macro_f1_high")
        interval = f"{low:.3f} to {high:.3f}" if _known(low) else ""
        seeds = f"{row['seeds']:.0f}" if _known(row.get("seeds")) and row["seeds"] else ""
        runs = found.runs[found.runs["strategy"] == row["strategy"]]
        if experiments and len(runs):
            named = zip(runs["seed"], runs["run_id"].astype(str), strict=True)
            seeds = " ".join(f"[s{seed}]({run_path(experiments[run_id], run_id)})" for seed, run_id in named)
        cells = (row["strategy"], seeds, f"{row['macro_f1']:.3f}", interval, f"{row['balanced_accuracy']:.3f}", verdict)
        rows.append(_row(cells))
    return rows


def _row(cells: Sequence[str]) -> str:
    """A row of a Markdown table. MLflow sets the columns without a gap; an en space keeps their numbers apart."""
    return "| " + "&ensp;| ".join(cells) + " |"


def _views(found: Comparison, logger: RunLogger, experiments: Mapping[str, str], only: str) -> str:
    """One line of links: the page, and MLflow's own views of just these runs."""
    views = [("The whole comparison", run_path(logger.store.experiment_id, logger.run_id, "comparison/index.html"))]
    ids = [str(run_id) for run_id in found.runs["run_id"]]
    places = sorted(set(experiments.values()))
    few = len(ids) <= _MOST_LINKED
    if few and not only:
        only = f"attributes.run_id IN ({', '.join(map(repr, ids))})"
    if only and len(places) == 1:
        # Sorted by a metric the page lists the runs themselves; by time it would fold them under their parent.
        score = quote(f"metrics.`test/{key(str(found.facts['head']))}/macro_f1`")
        these = f"&searchFilter={quote(only)}&orderByKey={score}&orderByAsc=false"
        views += [
            ("per class, side by side", experiment_path(places[0], f"&compareRunsMode=ARTIFACT{these}")),
            ("charts", experiment_path(places[0], f"&compareRunsMode=CHART{these}")),
        ]
    if few and len(ids) >= 2:
        both = f"runs={quote(json.dumps(ids))}&experiments={quote(json.dumps(places))}"
        views.append(("parameters and metrics", f"#/compare-runs?{both}&workflowType=machine_learning"))
    return "Look at: " + " · ".join(f"[{name}]({path})" for name, path in views)


_MOST_LINKED = 12  # runs whose ids an address holds, and that fit beside each other


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _metric(spec: ExperimentSpec) -> str:
    name = spec.selection.metric.rpartition("/")[2]
    return name if name in ("macro_f1", "balanced_accuracy", "mcc") else "macro_f1"


def _numbers(found: Comparison, metric: str) -> list[Number]:
    board = found.leaderboard
    rows = board[board["kind"] == 0]
    words = METRIC_WORDS.get(metric, metric)
    numbers = []
    for row in rows.head(2).to_dict("records"):
        numbers.append(Number(f"{row[metric]:.3f}", f"{words}, {row['strategy']}", _range(row, metric)))
    controls = board[board["kind"] == 1]
    if len(controls):
        best = controls.sort_values(metric, ascending=False).iloc[0].to_dict()
        numbers.append(Number(f"{best[metric]:.3f}", f"{words}, {best['strategy']}", _range(best, metric)))
    trivial = board[board["kind"] == 2]
    if len(trivial):
        best = trivial.sort_values(metric, ascending=False).iloc[0].to_dict()
        numbers.append(Number(f"{best[metric]:.3f}", f"{words} without any input ({best['strategy']})"))
    return numbers


def _range(row: Mapping[Any, Any], metric: str) -> str:
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    return f"95 % interval {low:.3f} to {high:.3f}" if _known(low) else ""
