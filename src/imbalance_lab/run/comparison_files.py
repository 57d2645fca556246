"""The comparison of trials as files: leaderboard, figures, page, verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imbalance_lab.atomic import read_json
from imbalance_lab.comparison.comparing import Comparison, compare
from imbalance_lab.comparison.leaderboard import KIND_CONTROL, KIND_STRATEGY, KIND_TRIVIAL
from imbalance_lab.comparison.racing import Stop
from imbalance_lab.comparison.records import RunRecord
from imbalance_lab.comparison.study import CONTROL
from imbalance_lab.formats import METRIC_WORDS
from imbalance_lab.plots.style import save_png
from imbalance_lab.predictions import open_parquet
from imbalance_lab.report.comparison_figures import board_of, figures_of_comparison, tables_of_comparison
from imbalance_lab.report.comparison_page import render_comparison_page
from imbalance_lab.report.page import Number, write
from imbalance_lab.run.scores import score_of
from imbalance_lab.run.trial_files import REPORT, write_tables
from imbalance_lab.run.workspace import TrialResult
from imbalance_lab.spec import ExperimentSpec

ROOT_FIGURES = ("leaderboard", "recall_against_false_alarms")


def compare_trials(spec: ExperimentSpec, results: Sequence[TrialResult], stopped: Sequence[Stop] = ()) -> Comparison:
    """Compare the finished trials of a grid, from their local files, without ``stopped`` strategies."""
    metric = deciding_metric(spec)
    scored = metric if metric != spec.selection.metric.rpartition("/")[2] else ""
    records = [record_of(result, scored) for result in results]
    head = records[0].test.primary
    strategies = {record.strategy for record in records}
    baseline = spec.baseline if spec.baseline in strategies else records[0].strategy
    return compare(
        records,
        baseline=baseline,
        primary_head=head,
        costs=spec.costs.get(head),
        metric=metric,
        margin=spec.comparison.margin,
        raced=spec.comparison.race,
        stopped=stopped,
    )


def whole_trials(
    spec: ExperimentSpec, results: Sequence[TrialResult], stopped: Sequence[Stop] = ()
) -> tuple[list[TrialResult], list[str]]:
    """The finished trials of those strategies and seeds that have all folds, and a line for each that has not.

    Without folds every trial is whole. Strategies that were ``stopped`` are left out without a line.
    """
    out = {stop.strategy for stop in stopped}
    results = [result for result in results if result.id.strategy not in out]
    folds: dict[tuple[str, int], set[int | None]] = {}
    for result in results:
        folds.setdefault((result.id.strategy, result.id.seed), set()).add(result.id.fold)
    lacking = {key: [f for f in spec.folds if f not in own] for key, own in folds.items()}
    lines = [
        f"{strategy}, seed {seed}, is not compared: fold {', '.join(map(str, gone))} did not finish"
        for (strategy, seed), gone in lacking.items()
        if gone
    ]
    return [r for r in results if not lacking[r.id.strategy, r.id.seed]], lines


def record_of(result: TrialResult, metric: str = "") -> RunRecord:
    """The record of a finished trial, from its local files; ``metric`` scores it on validation, "": what it was by.

    Its predictions are read from the file whenever they are asked for.
    """
    file = Path(result.folder) / REPORT  # a light trial has none
    report = read_json(file) if file.is_file() else None
    test = open_parquet(result.predictions("test"))
    score = result.val_score
    if metric:
        score = score_of(open_parquet(result.predictions("val")).heads[test.primary], metric)
    return RunRecord(
        strategy=result.id.strategy,
        seed=result.id.seed,
        run_id=result.run_id,
        test=test,
        val_score=score,
        seconds=result.seconds,
        report=report,
        fold=result.id.fold,
    )


def deciding_metric(spec: ExperimentSpec) -> str:
    """What strategies are compared by: the metric of the selection where it is one of the three that can decide."""
    name = spec.selection.metric.rpartition("/")[2]
    return name if name in ("macro_f1", "balanced_accuracy", "mcc") else "macro_f1"


def write_comparison(
    found: Comparison,
    folder: Path,
    links: Mapping[str, str],
    *,
    title: str,
    metric: str,
    simulated: bool = False,
    strategies: Mapping[str, str] | None = None,
) -> None:
    """Tables, figures and ``comparison/index.html`` of a comparison under ``folder``.

    ``links`` is the address of each run by its id; the page leads to these, or to the ``strategies``' own runs where
    their addresses are given.
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
                "case": found.choice.case,
                "strategy": found.choice.strategy,
                "use_free_lunch": found.choice.use_free_lunch,
                "selected": found.choice.selected,
                "reason": found.choice.reason,
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
        children=list(strategies.items())
        if strategies
        else [
            (f"{r.strategy}, seed {r.seed}", links[str(r.run_id)])
            for r in found.runs.itertuples()
            if str(r.run_id) in links
        ],
        facts=found.facts,
    )
    write(page, folder / "comparison" / "index.html")


def board_lines(found: Comparison, metric: str) -> list[str]:
    """The leaderboard for a terminal, in aligned columns: metric with its interval, verdict against the baseline."""
    rows = [("strategy", "seeds", METRIC_WORDS.get(metric, metric), "95 % interval", "against the baseline")]
    for row in found.leaderboard.sort_values(metric, ascending=False, kind="stable").to_dict("records"):
        if row["kind"] == KIND_TRIVIAL:
            continue
        low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
        interval = f"{low:.3f} to {high:.3f}" if _known(low) else ""
        verdict = found.choice.verdicts.get(row["strategy"], "")
        rows.append((row["strategy"], f"{row['seeds']:.0f}", f"{row[metric]:.3f}", interval, verdict))
    for row in found.stopped.to_dict("records"):
        rows.append((row["strategy"], "", "", "", row["sentence"]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _numbers(found: Comparison, metric: str) -> list[Number]:
    """What the verdict speaks of: the choice, the baseline, the best trained, corrected and trivial ones."""
    board = found.leaderboard.sort_values(metric, ascending=False, kind="stable")
    rows = {row["strategy"]: row for row in board.to_dict("records")}
    best = {kind: str(own.iloc[0]["strategy"]) for kind, own in board.groupby("kind", sort=False)}
    baseline, strategy = str(found.facts["baseline"]), found.choice.strategy or ""
    chosen = f"{strategy}{CONTROL}" if found.choice.use_free_lunch else strategy
    roles = {baseline: "baseline", chosen: "chosen"}
    words = METRIC_WORDS.get(metric, metric)
    numbers = []
    for name in dict.fromkeys(
        (chosen, baseline, *(best.get(kind, "") for kind in (KIND_STRATEGY, KIND_CONTROL, KIND_TRIVIAL)))
    ):
        if name not in rows:
            continue
        row = rows[name]
        role = f" ({roles[name]})" if name in roles else ""
        label = f"{words} without any input ({name})" if row["kind"] == KIND_TRIVIAL else f"{words}, {name}{role}"
        numbers.append(Number(f"{row[metric]:.3f}", label, _range(row, metric)))
    return numbers


def _range(row: Mapping[Any, Any], metric: str) -> str:
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    return f"95 % interval {low:.3f} to {high:.3f}" if _known(low) else ""
