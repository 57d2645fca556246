"""A grid with a race: the runs of a strategy that was stopped, and the commands that meet it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import mlflow
import pytest
from grid_fixture import FoldGrid, run_with_folds, tiny_mapping

from mlflow_project.__main__ import main
from mlflow_project.commands.promote import choose_candidate

pytestmark = [pytest.mark.filterwarnings("ignore:::mlflow"), pytest.mark.filterwarnings("ignore:The ``noload`` loader")]


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FoldGrid]:
    """A grid of three folds, in which ``bad`` is stopped after the second."""
    mapping = tiny_mapping() | {"name": "raced", "seeds": [0, 1], "comparison": {"race": True}}
    mapping["data"] = {**mapping["data"], "n_recordings": 60, "rows_per_recording": 100}
    mapping["training"] = {"epochs": 6, "batch_size": 16, "learning_rate": 1.0e-2, "device": "cpu"}
    mapping["strategies"] = {"cross-entropy": {}, "bad": {"loss": {"logit-adjusted": {"tau": 8.0}}}}
    with run_with_folds(tmp_path_factory.mktemp("raced"), mapping) as found:
        yield found


def test_trials_that_were_never_begun_have_no_run_and_the_others_say_why(raced):
    trials = raced.children("trial")
    assert sorted(name for name in trials if name.startswith("bad")) == [
        f"bad-s{s}-f{f}" for s in (0, 1) for f in (0, 1)
    ]
    assert len(trials) == 10
    assert {run.info.status for run in trials.values()} == {"FINISHED"}
    for name, run in trials.items():
        assert run.data.tags.get("stopped") == ("after 2 of 3 folds" if name.startswith("bad") else None)
    parent = raced.client.get_run(raced.parent)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials/never_begun"] == 2
    assert parent.data.metrics["trials/failed"] == 0
    assert parent.data.tags["stopped"] == "bad after 2 of 3 folds"


def test_the_run_of_a_stopped_strategy_says_so_and_has_no_score_beside_the_others(raced):
    runs = raced.children("strategy")
    assert set(runs) == {"cross-entropy", "bad"}
    bad = runs["bad"]
    assert (bad.info.status, bad.data.tags["stopped"]) == ("KILLED", "after 2 of 3 folds")
    (stop,) = raced.json("race.json")
    assert bad.data.tags["mlflow.note.content"].startswith("`bad` was stopped after 2 of 3 folds: worse than")
    assert bad.data.metrics["race/macro_f1/high"] == pytest.approx(stop["high"])
    assert stop["high"] < 0
    assert not [name for name in bad.data.metrics if name.startswith("test/")]
    assert runs["cross-entropy"].info.status == "FINISHED"
    assert runs["cross-entropy"].data.metrics["test/command/macro_f1"] > 0


def test_verdict_leaderboard_and_page_name_it(raced):
    verdict, note = raced.json("verdict.json"), raced.client.get_run(raced.parent).data.tags["mlflow.note.content"]
    assert verdict["facts"]["family_wise_error"] == 0.04
    assert verdict["evidence"]["stopped"] == {"bad": "after 2 of 3 folds"}
    assert "A race on validation stopped 1 strategy as worse than cross-entropy" in note
    assert "stopped after 2 of 3" in note
    assert raced.children("strategy")["bad"].info.run_id in note
    table = raced.json("tables/stopped.json")
    assert [row[0] for row in table["data"]] == ["bad"]
    page = raced.text("comparison/index.html")
    assert "stopped after 2 of 3" in page


def test_compare_and_promote_cope_with_it(raced, capsys):
    assert main(["compare", "--run_ids", raced.parent]) == 0
    assert "bad is not compared: the race stopped it after 2 of 3 folds" in capsys.readouterr().out
    (run,) = raced.client.search_runs([raced.experiment_id], "tags.role = 'comparison'")
    again = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/verdict.json"))
    assert again["facts"]["family_wise_error"] == 0.04
    alone = raced.children("trial")["bad-s0-f0"].info.run_id
    assert main(["compare", "--run_ids", alone]) == 2
    assert "which a race stopped" in capsys.readouterr().err
    table = raced.json("tables/runs.json")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    with pytest.raises(ValueError, match="found 'bad', which a race stopped after 2 of 3 folds"):
        choose_candidate(raced.json("verdict.json"), rows, "bad")


def test_a_grid_that_is_taken_up_again_decides_alike(raced, capsys):
    before, stop = raced.children("strategy"), raced.json("race.json")
    assert main(["run", "--resume", raced.parent, "--jobs", "1"]) == 0
    assert "bad: stopped after 2 of 3 folds" in capsys.readouterr().out
    assert raced.json("race.json") == stop
    after = raced.children("strategy")
    assert {n: r.info.run_id for n, r in after.items()} == {n: r.info.run_id for n, r in before.items()}
    assert after["bad"].info.status == "KILLED"
    assert len(raced.children("trial")) == 10
