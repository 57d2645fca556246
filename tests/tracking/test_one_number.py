"""One number, one meaning: wherever a run, its tables, its report, its page and its grid give a number, it is the same.

Of a small grid every logged key, every table, every number of the report, the page and the comparison is walked.
"""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from grid_fixture import tiny_mapping, undrawn
from sklearn.metrics import balanced_accuracy_score

from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.names import key
from imbalance_lab.predictions import read_parquet
from imbalance_lab.run import comparison_files
from imbalance_lab.spec import parse_experiment
from mlflow_project.__main__ import main
from mlflow_project.commands import promote as promoting
from mlflow_project.grid import run_grid_of

STRATEGIES = {
    "cross-entropy": {},
    "limits": {"posthoc": "thresholds"},  # predicts another class than the most probable one
    "sure": {"loss": "logit-adjusted", "posthoc": "temperature"},
}
MAPPING = {
    **tiny_mapping(),
    "name": "one number",
    "training": {"epochs": 2, "batch_size": 32, "device": "cpu", "learning_rate": 0.01},
    "selection": {"metric": "addresses/gmean"},  # neither the first head nor what the comparison goes by
    "strategies": STRATEGIES,
}
MAIN = "addresses"
Facts = dict[tuple[str, ...], dict[str, float]]

pytestmark = [
    pytest.mark.filterwarnings("ignore:::mlflow"),
    pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true"),
]


@dataclass(frozen=True)
class Made:
    """The finished grid: its runs, and its local folder."""

    client: mlflow.MlflowClient
    work: Path
    parent: Any
    children: dict[str, Any]

    def trial(self, name: str) -> Path:
        """The files that a trial's run holds; its local folder keeps few of them."""
        return Path(self.children[name].info.artifact_uri.removeprefix("file://"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("one-number")
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.setenv("IMBALANCE_LAB_WORK", str(folder / "outputs"))
        undrawn(patch)
        client = mlflow.MlflowClient(tracking_uri=uri)
        identifier = client.create_experiment("one number", artifact_location=(folder / "artifacts").as_uri())
        assert run_grid_of(parse_experiment(MAPPING, where="test"), jobs=1) == 0
        (parent,) = client.search_runs([identifier], "tags.role = 'grid'")
        trials = client.search_runs([identifier], "tags.role = 'trial'")
        yield Made(
            client, folder / "outputs" / parent.info.run_id, parent, {r.data.tags["strategy"]: r for r in trials}
        )
        mlflow.set_tracking_uri("")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return _rows(json.loads(path.read_text(encoding="utf-8")))


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def head_rows(folder: Path, head: str, name: str) -> list[dict[str, Any]]:
    """The rows of a table of a head: a file of the main one's, a part of the one file of another."""
    if head == MAIN:
        return rows_of(folder / "tables" / f"{name}.json")
    return _rows(json.loads((folder / "tables" / f"head_{key(head)}.json").read_text(encoding="utf-8"))[name])


def same(facts: Facts) -> None:
    """Every number of one name is one number."""
    differing = {
        name: found
        for name, found in facts.items()
        if not np.allclose(list(found.values()), next(iter(found.values())), rtol=1e-7, atol=2e-10, equal_nan=True)
    }
    assert not differing


def of_metrics(run: Any, heads: dict[str, Any]) -> Facts:
    """The final test metrics of a run."""
    facts: Facts = defaultdict(dict)
    for name, value in run.data.metrics.items():
        parts = name.split("/")
        if parts[0] == "test":
            (head,) = [h for h in heads if key(h) == parts[1]]
            facts[head, *parts[2:]]["metric"] = value
    return facts


def of_tables(folder: Path, head: str) -> Facts:
    """The same names in the tables of a run."""
    facts: Facts = defaultdict(dict)
    for row in head_rows(folder, head, "summary"):
        facts[head, row["metric"]]["summary"] = row["value"]
    classes = head_rows(folder, head, "per_class")
    for row in classes:
        for name in ("recall", "precision", "f1"):
            if row[name] is not None:
                facts[head, name, key(row["class"])]["per_class"] = row[name]
    macro = [row["f1"] for row in classes if row["in_macro"]]
    facts[head, "macro_f1"]["mean of per_class"] = float(np.mean(macro))
    for row in head_rows(folder, head, "calibration"):
        facts[head, row["metric"], row["variant"]]["calibration"] = row["value"]
    return facts


def of_report(report: dict[str, Any]) -> Facts:
    facts: Facts = defaultdict(dict)
    for head, found in report["error_summary"]["heads"].items():
        for row in found["metrics"]:
            facts[head, row["metric"]]["report"] = row["value"]
    for head, found in report["per_class"]["heads"].items():
        for row in found["classes"]:
            for name in ("recall", "precision", "f1"):
                if row[name] is not None:
                    facts[head, name, key(row["class"])]["report"] = row[name]
    for head, found in report["calibration"]["heads"].items():
        for row in found["scores"]:
            facts[head, row["metric"], row["variant"]]["report"] = row["value"]
    return facts


def together(*parts: Facts) -> Facts:
    whole: Facts = defaultdict(dict)
    for part in parts:
        for name, found in part.items():
            whole[name] |= found
    return whole


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_metrics_tables_and_report_of_a_run_agree(made: Made, strategy: str) -> None:
    folder, run = made.trial(strategy), made.children[strategy]
    test = read_parquet(folder / "predictions" / "test.parquet")
    report = json.loads((folder / "error_analysis_report.json").read_text(encoding="utf-8"))
    facts = together(
        of_metrics(run, dict(test.heads)), *(of_tables(folder, head) for head in test.heads), of_report(report)
    )
    for head, p in test.heads.items():
        facts[head, "accuracy"]["counted"] = float((p.true == p.pred).mean())
        facts[head, "balanced_accuracy"]["scikit-learn"] = float(balanced_accuracy_score(p.true, p.pred))
        clipped = np.clip(p.true_prob.astype(np.float64), np.finfo(np.float32).eps, None)
        facts[head, "nll", "as predicted"]["counted"] = float(-np.log(clipped).mean())
        control = test.free_lunch().heads[head]
        facts[head, "free_lunch", "accuracy"]["counted"] = float((control.true == control.pred).mean())
    same(facts)
    shared = [name for name, found in facts.items() if len(found) > 1]
    assert {(MAIN, "macro_f1"), (MAIN, "nll", "as predicted"), ("command", "recall", "G1")} <= set(shared)
    logged = {name for name in run.data.metrics if name.startswith("test/")}
    assert len(logged) == sum("metric" in found for found in facts.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_table_of_the_report_is_that_of_the_file(made: Made, strategy: str) -> None:
    folder = made.trial(strategy)
    report = json.loads((folder / "error_analysis_report.json").read_text(encoding="utf-8"))
    compared = 0
    for record in ANALYSES:
        keys = {at: name for name, at in record.fields.items()}
        for table in record.tables if record.section else ():
            first, *inner = table.at.split(".")
            for head, result in report[record.section]["heads"].items():
                if not table.name or keys.get(first, first) not in result:
                    continue
                found = result[keys.get(first, first)]
                for part in inner:
                    found = found[part]
                many = found if isinstance(found, dict) else {None: found}
                for name, rows in many.items():
                    stem = table.name if name is None else f"{table.name}_{key(name)}"
                    written = head_rows(folder, head, stem)
                    assert len(written) == len(rows), stem
                    assert all(map(alike, written, rows)), stem
                    compared += 1
    assert compared > 40


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        np.isclose(v, other[k], rtol=1e-7, atol=2e-10)
        if isinstance(v, float) and other[k] is not None
        else v == other[k]
        for k, v in one.items()
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_page_shows_the_numbers_of_the_run(made: Made, strategy: str) -> None:
    folder, metrics = made.trial(strategy), made.children[strategy].data.metrics
    page = html.unescape((folder / "report" / "index.html").read_text(encoding="utf-8"))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for name, words in (("macro_f1", "Macro F1"), ("balanced_accuracy", "Balanced accuracy"), ("accuracy", "Accuracy")):
        assert re.search(
            rf"{metrics[f'test/{MAIN}/{name}']:.3f} {words}|{words} {metrics[f'test/{MAIN}/{name}']:.3f}", text
        )
    scores = rows_of(folder / "tables" / "calibration.json")
    (ece,) = [row["value"] for row in scores if (row["variant"], row["metric"]) == ("as predicted", "ece")]
    assert f"{ece:.3f}" in text
    note = made.children[strategy].data.tags["mlflow.note.content"]
    assert f"macro F1 {metrics[f'test/{MAIN}/macro_f1']:.3f}" in note
    assert f"`{MAIN}`" in note


def test_the_grid_compares_by_the_numbers_of_its_runs(made: Made) -> None:
    tables = made.work / "comparison" / "tables"
    board = {row["strategy"]: row for row in rows_of(tables / "leaderboard.json")}
    runs = {row["strategy"]: row for row in rows_of(tables / "runs.json")}
    facts: Facts = defaultdict(dict)
    for strategy, run in made.children.items():
        calibrated = {
            (r["variant"], r["metric"]): r["value"] for r in rows_of(made.trial(strategy) / "tables/calibration.json")
        }
        for name, value in run.data.metrics.items():
            parts = tuple(name.split("/"))
            if parts[:2] != ("test", key(MAIN)) or "free_lunch" in parts:
                continue
            column = "/".join(parts[2:])
            for table, where in ((runs, "runs"), (board, "leaderboard")):
                if column in table[strategy]:
                    facts[strategy, column] |= {"metric": value, where: table[strategy][column]}
            logged = made.parent.data.metrics.get(f"leaderboard/{key(MAIN)}/{column}/{key(strategy)}")
            if logged is not None:
                facts[strategy, column]["parent"] = logged
        free = run.data.metrics[f"test/{key(MAIN)}/free_lunch/macro_f1"]
        facts[strategy, "free_lunch"] = {
            "metric": free,
            "column": board[strategy]["free_lunch"],
            "row": board[f"{strategy} + free lunch"]["macro_f1"],
        }
        for metric in ("ece", "nll"):
            for variant, suffix in (
                ("as predicted", ""),
                ("temperature", "_temperature"),
                ("prior undone", "_prior_undone"),
            ):
                if (variant, metric) in calibrated:
                    facts[strategy, metric, variant] = {
                        "page": calibrated[variant, metric],
                        "leaderboard": board[strategy][f"{metric}{suffix}"],
                    }
        for name in ("val_score", "seconds"):
            facts[strategy, name] |= {"runs": runs[strategy][name], "leaderboard": board[strategy][name]}
        facts[strategy, "seconds"]["metric"] = run.data.metrics["train/seconds"]
    same(facts)
    assert {"metric", "runs", "leaderboard", "parent"} <= set(facts["limits", "macro_f1"])
    assert {"page", "leaderboard"} == set(facts["limits", "ece", "as predicted"])
    verdict = json.loads((made.work / "comparison" / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["facts"]["head"] == MAIN


def test_compare_and_the_grid_give_the_same_tables(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, list[dict[str, Any]]] = {}
    write = comparison_files.write_comparison

    def keep(found: Any, folder: Path, *rest: Any, **more: Any) -> None:
        write(found, folder, *rest, **more)
        kept.update({p.stem: rows_of(p) for p in (folder / "tables").glob("*.json")})

    monkeypatch.setattr(comparison_files, "write_comparison", keep)
    assert main(["compare", "--run_ids", made.parent.info.run_id, "--baseline", "cross-entropy"]) == 0
    for name in ("runs", "leaderboard", "differences"):
        rows = rows_of(made.work / "comparison" / "tables" / f"{name}.json")
        order = lambda row: tuple(str(row.get(k)) for k in ("strategy", "against", "metric", "class"))  # noqa: E731
        assert len(kept[name]) == len(rows)
        assert all(map(alike, sorted(kept[name], key=order), sorted(rows, key=order)))


def test_the_main_head_is_one(made: Made) -> None:
    run = made.children["limits"]
    test = read_parquet(made.trial("limits") / "predictions" / "test.parquet")
    assert (test.primary, test.meta["primary_head"]) == (MAIN, MAIN)
    assert f"val/{MAIN}/gmean/selected" in run.data.metrics
    report = json.loads((made.trial("limits") / "error_analysis_report.json").read_text(encoding="utf-8"))
    assert report["meta"]["primary_head"] == MAIN
    verdict = json.loads((made.work / "comparison" / "verdict.json").read_text(encoding="utf-8"))
    rows = rows_of(made.work / "comparison" / "tables" / "runs.json")
    candidate = promoting.choose_candidate(verdict, rows, "limits")
    said = promoting.describe(verdict, candidate, run, made.parent, told=True)
    assert f"test/{MAIN}/macro_f1: {run.data.metrics[f'test/{MAIN}/macro_f1']:.4f}" in said
    assert "test/command/" not in said
