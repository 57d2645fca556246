"""A cross-validated grid: trials by fold, one run per strategy, and the commands that take it up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from grid_fixture import FoldGrid, run_with_folds, tiny_mapping

from imbalance_lab.comparison.folds import pool_predictions
from imbalance_lab.data.cache import load_cached
from imbalance_lab.load import load_data
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.predictions import read_parquet
from imbalance_lab.run.scores import head_metrics
from imbalance_lab.spec import TrialId, parse_experiment
from mlflow_project.__main__ import main
from mlflow_project.views import TAG, GridFacts, view_state

pytestmark = [pytest.mark.filterwarnings("ignore:::mlflow"), pytest.mark.filterwarnings("ignore:The ``noload`` loader")]

STRATEGIES = ("cross-entropy", "logit-adjusted")
FOLDS, SEEDS = (0, 1, 2), (0, 1)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FoldGrid]:
    """Run once: the file names another way to split, ``--folds`` cross-validates."""
    mapping = tiny_mapping() | {"name": "folds", "seeds": list(SEEDS), "comparison": {"margin": 0.07}}
    with run_with_folds(tmp_path_factory.mktemp("folds"), mapping) as found:
        yield found


def mapping_of(grid: FoldGrid) -> dict:
    return yaml.safe_load(Path(grid.file).read_text(encoding="utf-8"))


def table(grid: FoldGrid, name: str) -> pd.DataFrame:
    plain = grid.json(f"tables/{name}.json")
    return pd.DataFrame(plain["data"], columns=plain["columns"])


def test_trials_are_strategy_by_seed_by_fold_and_light(grid):
    trials = grid.children("trial")
    assert set(trials) == {f"{name}-s{s}-f{k}" for name in STRATEGIES for s in SEEDS for k in FOLDS}
    for name, run in trials.items():
        tags = run.data.tags
        assert name == f"{tags['strategy']}-s{tags['seed']}-f{tags['fold']}"
        assert run.data.params["fold"] == tags["fold"]
        paths = {item.path for item in grid.client.list_artifacts(run.info.run_id)}
        assert {"predictions", "spec.yaml"} <= paths
        assert not paths & {"report", "figures", "tables", "error_analysis_report.json", "network"}
        assert len(run.outputs.model_outputs) == 1
        assert f"fold {tags['fold']}" in tags["mlflow.note.content"]


def test_every_fold_has_data_of_its_own_and_tests_what_no_other_tests(grid):
    loaded = [load_cached(grid.workspace.data_of(k)) for k in FOLDS]
    tested = [set(d.dataset.groups[d.splits.test]) for d in loaded]
    assert sum(map(len, tested)) == len(set.union(*tested)) == 9
    assert len({d.dataset.digest for d in loaded}) == 3
    assert len({d.digest for d in loaded}) == 1
    for d in loaded:
        alone = load_data(
            parse_experiment(mapping_of(grid), where="t", overrides={"folds": 3}).data, fold=d.fold.number
        )
        assert d.dataset.digest == alone.dataset.digest
    for name, run in grid.children("trial").items():
        own = loaded[int(run.data.tags["fold"])]
        test = read_parquet(grid.workspace.root / "trials" / name / "predictions" / "test.parquet").heads["command"]
        assert {test.group_names[i] for i in np.unique(test.group)} <= set(own.dataset.groups[own.splits.test])
        assert run.data.params["data.digest"] == own.dataset.digest


def test_folds_begin_from_networks_of_their_own_and_strategies_share_one(grid):
    seeds = {(s, k): TrialId("a", s, k).randomness for s in SEEDS for k in FOLDS}
    assert len(set(seeds.values())) == len(seeds)
    assert TrialId("b", 1, 2).randomness == seeds[1, 2]
    assert TrialId("a", 7).randomness == 7


def test_a_strategy_is_one_run_with_the_scores_of_the_leaderboard(grid):
    runs, board = grid.children("strategy"), table(grid, "leaderboard").set_index("strategy")
    assert set(runs) == set(STRATEGIES)
    for name, run in runs.items():
        found = run.data.metrics
        assert run.info.status == "FINISHED"
        for metric in ("macro_f1", "balanced_accuracy", "mcc", "ece", "nll"):
            assert found[f"test/command/{metric}"] == pytest.approx(board.loc[name, metric], abs=1e-9), metric
        assert found["test/command/free_lunch/macro_f1"] == pytest.approx(board.loc[name, "free_lunch"], abs=1e-9)
        assert found["test/command/macro_f1/sd_seeds"] == pytest.approx(board.loc[name, "macro_f1_sd"], abs=1e-9)
        trials = [r for r in grid.children("trial").values() if r.data.tags["strategy"] == name]
        by_fold = [
            np.std([r.data.metrics["test/command/macro_f1"] for r in trials if r.data.tags["seed"] == str(s)], ddof=1)
            for s in SEEDS
        ]
        assert found["test/command/macro_f1/sd_folds"] == pytest.approx(np.mean(by_fold))
        assert {k for r in trials for k in r.data.metrics} >= {
            k for k in found if k.startswith("test/") and "/sd_" not in k
        }


def test_the_predictions_of_a_strategy_are_the_rows_of_its_folds_and_its_page_is_of_them(grid):
    run = grid.children("strategy")["logit-adjusted"]
    path = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/predictions/test.parquet")
    pooled = read_parquet(Path(path))
    parts = [
        read_parquet(grid.workspace.root / "trials" / f"logit-adjusted-s0-f{k}" / "predictions" / "test.parquet")
        for k in FOLDS
    ]
    whole = pooled.heads["command"]
    assert len(whole) == sum(len(p.heads["command"]) for p in parts)
    assert len(np.unique(whole.group)) == 9
    again = pool_predictions(parts).heads["command"]
    np.testing.assert_array_equal(again.pred, whole.pred)
    report = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/error_analysis_report.json"))
    macro = head_metrics(confusion_counts(whole.true, whole.pred, len(whole.classes)))["macro_f1"]
    assert any(abs(v - macro) < 1e-6 for v in _numbers(report)), "the report is of the pooled rows"
    page = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report/index.html")
    assert "all 3 folds" in page


def _numbers(node) -> Iterator[float]:
    if isinstance(node, dict):
        for value in node.values():
            yield from _numbers(value)
    elif isinstance(node, list):
        for value in node:
            yield from _numbers(value)
    elif isinstance(node, float):
        yield node


def test_the_comparison_is_of_pooled_rows_and_leads_to_the_strategies(grid):
    verdict = grid.json("verdict.json")
    assert verdict["facts"]["folds"] == 3
    assert verdict["facts"]["recordings"] == 9
    assert verdict["facts"]["margin"] == 0.07
    assert len(table(grid, "runs")) == 4
    note = grid.client.get_run(grid.parent).data.tags["mlflow.note.content"]
    for run in grid.children("strategy").values():
        assert run.info.run_id in note


def test_the_prepared_view_shows_the_strategies(grid):
    state = view_state(GridFacts("folds", grid.parent, 1, "command", ("G2",), role="strategy"))
    found = grid.client.search_runs([grid.experiment_id], state["searchFilter"])
    assert {run.info.run_name for run in found} == set(STRATEGIES)
    shown = {c["metricKey"] for c in state["compareRunCharts"] if "metricKey" in c}
    assert shown
    assert shown <= set(found[0].data.metrics), "no chart is empty"
    assert "metrics.`test/command/macro_f1/sd_folds`" in state["selectedColumns"]


def test_compare_takes_the_trials_of_the_grid_its_margin_and_says_the_same(grid, capsys):
    assert main(["compare", "--run_ids", grid.parent]) == 0
    assert grid.json("verdict.json")["reason"] in capsys.readouterr().out
    (run,) = grid.client.search_runs([grid.experiment_id], "tags.role = 'comparison'")
    again = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/verdict.json"))
    assert again["facts"]["margin"] == 0.07
    assert run.data.tags["compared"].count(",") == 11
    strategy = grid.children("strategy")["cross-entropy"].info.run_id
    assert main(["compare", "--run_ids", strategy]) == 2
    assert "sums up the folds" in capsys.readouterr().err
    assert main(["compare", "--run_ids", grid.parent, "--margin", "much"]) == 2
    assert "--margin: found 'much'" in capsys.readouterr().err


def test_promote_takes_the_fold_in_the_middle_and_says_which(grid, capsys):
    strategy = grid.children("strategy")["cross-entropy"].info.run_id
    assert main(["promote", "--parent_run_id", strategy]) == 2
    assert f"its grid is run '{grid.parent}'" in " ".join(capsys.readouterr().err.split())
    command = ["promote", "--parent_run_id", grid.parent, "--strategy", "cross-entropy", "--model_name", "folds"]
    assert main(command) == 0
    version = grid.client.get_model_version_by_alias("folds", "champion")
    trials = {n: r for n, r in grid.children("trial").items() if r.data.tags["strategy"] == "cross-entropy"}
    selected = {n: r.data.metrics["val/command/macro_f1/selected"] for n, r in trials.items()}
    by_seed = {s: [selected[f"cross-entropy-s{s}-f{k}"] for k in FOLDS] for s in SEEDS}
    seed = max(SEEDS, key=lambda s: np.mean(by_seed[s]))
    fold = int(np.argsort(by_seed[seed], kind="stable")[1])
    taken = trials[f"cross-entropy-s{seed}-f{fold}"]
    assert version.tags["promoted_run_id"] == version.run_id == taken.info.run_id
    assert (version.tags["seed"], version.tags["fold"]) == (str(seed), str(fold))
    assert f"model of fold {fold} of 3" in version.description
    assert f"- test/command/macro_f1: {taken.data.metrics['test/command/macro_f1']:.4f}" in version.description
    said = " ".join(capsys.readouterr().out.split())
    assert f"Registered cross-entropy, seed {seed}, fold {fold} as version 1" in said


def test_grids_with_different_folds_are_not_compared(grid, capsys):
    where = ["--experiment", grid.file, "--strategy", "logit-adjusted"]
    assert main(["train", *where, "--folds", "4", "--fold", "1"]) == 0
    assert main(["train", *where]) == 0
    runs = grid.client.search_runs([grid.experiment_id], "tags.role = 'trial'", order_by=["start_time DESC"])
    plain, four = [r.info.run_id for r in runs if "mlflow.parentRunId" not in r.data.tags]
    capsys.readouterr()
    for other, words in ((four, "(3 folds)"), (plain, "(one split)")):
        assert main(["compare", "--run_ids", f"{other},{grid.parent}"]) == 2
        message = capsys.readouterr().err
        assert "same folds can be compared" in message
        assert words in message
        assert message.count("\n") == 1
    assert grid.client.get_run(four).data.tags["fold"] == "1"


def views_of(grid):
    """The views in MLflow's menu of the grid's experiment, key to value."""
    tags = grid.client.get_experiment(grid.experiment_id).tags
    return {key: value for key, value in tags.items() if key.startswith(TAG)}


def test_a_missing_fold_is_trained_again_and_the_strategies_keep_their_runs(grid):
    name = "logit-adjusted-s1-f2"
    before, strategies = grid.children("trial"), grid.children("strategy")
    file = next(
        f for f in (grid.workspace.root / "results").glob("*.json") if json.loads(f.read_text())["name"] == name
    )
    file.unlink()
    views, theirs = views_of(grid), f"{TAG}1700000000000abcdefgh"
    assert len(views) == 1
    (own,) = views
    for key in (own, theirs):
        grid.client.set_experiment_tag(grid.experiment_id, key, "saved by hand")
    assert main(["run", "--resume", grid.parent, "--jobs", "1"]) == 0
    assert views_of(grid) == {**views, theirs: "saved by hand"}  # its own is written anew, another is left alone
    after = grid.children("trial")
    assert {n: r.info.run_id for n, r in after.items()} == {n: r.info.run_id for n, r in before.items()}
    again = {n for n in after if after[n].info.end_time != before[n].info.end_time}
    assert again == {name}
    assert {n: r.info.run_id for n, r in grid.children("strategy").items()} == {
        n: r.info.run_id for n, r in strategies.items()
    }
    assert after[name].data.metrics["test/command/macro_f1"] == before[name].data.metrics["test/command/macro_f1"]


def test_a_folds_run_is_interpreted_on_the_data_of_its_fold(grid, monkeypatch):
    seen = []

    def interpretation(network, loaded, folder, *, title, **_):
        seen.append((loaded.dataset.digest, title))
        folder.mkdir()
        return "Looked."

    monkeypatch.setattr("imbalance_lab.run.trial_files.write_interpretation", interpretation)
    run_id = grid.children("trial")["cross-entropy-s0-f1"].info.run_id
    assert main(["interpret", "--run_id", run_id, "--budget", "quick"]) == 0
    ((digest, title),) = seen
    assert digest == load_cached(grid.workspace.data_of(1)).dataset.digest
    assert "seed 0, fold 1" in title


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["run", "--folds", "1"], "--folds: found 1; allowed are integers from 2"),
        (["run", "--folds", "x"], "--folds: found 'x'"),
        (["run", "--folds", "10"], "the largest that works is folds: 9"),
        (["train", "--folds", "3", "--fold", "3"], "--fold: found 3; allowed: 0 to 2"),
        (["train", "--fold", "0"], "--fold: found 0; allowed: none, as data.split has no folds"),
    ],
)
def test_wrong_folds_are_one_sentence_before_a_run_exists(grid, flags, words, capsys):
    count = len(grid.client.search_runs([grid.experiment_id]))
    assert main([flags[0], "--experiment", grid.file, *flags[1:]]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert len(grid.client.search_runs([grid.experiment_id])) == count
    assert not list(grid.workspace.root.parent.glob("loading-*"))
