"""analyze, compare and promote on a finished grid; audit and train on their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from grid_fixture import STRATEGIES, tiny_grid, tiny_mapping  # noqa: F401 - the fixture is used by its name

from imbalance_lab.errors import InputError
from imbalance_lab.predictions import read_parquet, write_parquet
from mlflow_project.__main__ import _COMMANDS, main
from mlflow_project.commands.compare import baseline_of
from mlflow_project.commands.promote import choose_candidate, with_adjustment

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader"),
    pytest.mark.filterwarnings("ignore:::mlflow"),
]


@pytest.fixture
def client(tiny_grid):  # noqa: F811
    return mlflow.MlflowClient(tracking_uri=tiny_grid.uri)


def test_help_and_wrong_flags_and_files_are_told_before_anything_heavy_is_imported(tmp_path):
    (tmp_path / "wrong.yaml").write_text("name: x\nsorce: y\n")
    wrong = [["compare"], ["analyze"], ["interpret"], ["interpret", "--run_id", "a", "--budget", "all"], ["promote"]]
    wrong += [[name, "--experiment", str(tmp_path / "wrong.yaml")] for name in ("run", "audit", "train")]
    calls = [([name, "--help"], 0) for name in _COMMANDS] + [(call, 2) for call in wrong]
    program = (
        "import sys\nfrom mlflow_project.__main__ import main\n"
        f"for call, code in {calls!r}:\n"
        "    try:\n        found = main(call)\n"
        "    except SystemExit as end:\n        found = end.code\n"
        "    assert found == code, (call, found)\n"
        "    heavy = {'mlflow', 'torch', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (call, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def runs_with_role(client, grid, role):
    found = client.search_runs([grid.experiment_id], f"tags.role = '{role}'", order_by=["start_time DESC"])
    return [r for r in found if r.info.status == "FINISHED"]


def test_compare_a_grid(tiny_grid, client, capsys):  # noqa: F811
    assert main(["compare", "--run_ids", tiny_grid.parent]) == 0
    run = runs_with_role(client, tiny_grid, "comparison")[0]
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"comparison", "figures", "tables", "leaderboard.png", "verdict.json"} <= names
    parent = client.get_run(tiny_grid.parent)
    board = {k: v for k, v in parent.data.metrics.items() if k.startswith("leaderboard/")}
    assert board == {k: v for k, v in run.data.metrics.items() if k.startswith("leaderboard/")}
    verdict = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/verdict.json"))
    assert verdict["reason"] in capsys.readouterr().out
    assert run.data.tags["compared"].count(",") == 1
    assert "Simulated recordings" in run.data.tags["mlflow.note.content"]


def test_compare_by_filter_and_its_errors(tiny_grid, client, capsys):  # noqa: F811
    assert main(["compare", "--experiment_name", "nowhere"]) == 2
    assert "no experiment 'nowhere'" in capsys.readouterr().err
    assert main(["compare", "--experiment_name", "tiny", "--filter", "tags.strategy = 'none'"]) == 2
    assert "carries predictions/test.parquet" in capsys.readouterr().err
    assert main(["compare", "--experiment_name", "tiny", "--filter", "what ever"]) == 2
    assert "not a filter" in capsys.readouterr().err
    assert main(["compare"]) == 2
    assert main(["compare", "--run_ids", "f" * 32]) == 2
    assert "no run" in capsys.readouterr().err


def test_compare_refuses_other_data_and_runs_without_predictions(tiny_grid, client, capsys, tmp_path):  # noqa: F811
    first, second = (tiny_grid.children[s] for s in STRATEGIES)
    path = mlflow.artifacts.download_artifacts(f"runs:/{second}/predictions/test.parquet", dst_path=str(tmp_path))
    table = read_parquet(tmp_path / path)
    other = client.create_run(tiny_grid.experiment_id, tags={"strategy": "cross-entropy", "seed": "0"})
    other_id = other.info.run_id
    assert main(["compare", "--run_ids", f"{first},{other_id}"]) == 2
    assert f"run '{other_id}' carries no predictions/test.parquet" in capsys.readouterr().err
    write_parquet(replace(table, meta={**table.meta, "digest": "otherdata"}), tmp_path / "test.parquet")
    client.log_artifact(other_id, str(tmp_path / "test.parquet"), "predictions")
    assert main(["compare", "--run_ids", f"{first},{other_id}"]) == 2
    assert "otherdata) are of different data" in capsys.readouterr().err.replace("\n", " ")
    client.delete_run(other_id)


def test_analyze_a_run_and_a_file(tiny_grid, client, capsys, tmp_path):  # noqa: F811
    run_id = tiny_grid.children["logit-adjusted"]
    page = "report/index.html"
    client.log_text(run_id, "old", page)
    assert main(["analyze", "--run_id", run_id]) == 0
    assert len(mlflow.artifacts.load_text(f"runs:/{run_id}/{page}")) > 1000
    given = read_parquet(tiny_grid.work / "trials" / "logit-adjusted-s0" / "predictions" / "test.parquet")
    path = str(tmp_path / "table.parquet")
    write_parquet(replace(given, heads={"command": given.heads["command"]}), tmp_path / "table.parquet")
    client.create_experiment("tables", artifact_location=(tmp_path / "artifacts").as_uri())
    assert main(["analyze", "--predictions", path, "--experiment_name", "tables"]) == 0
    (made,) = client.search_runs([client.get_experiment_by_name("tables").experiment_id])
    assert (made.info.status, made.data.tags["role"]) == ("FINISHED", "analysis")
    trained = client.get_run(run_id).data.metrics
    assert made.data.metrics
    assert {k: trained[k] for k in made.data.metrics} == pytest.approx(made.data.metrics)
    assert main(["analyze"]) == 2
    assert main(["analyze", "--run_id", tiny_grid.parent]) == 2
    assert "carries no predictions/test.parquet" in capsys.readouterr().err


def test_analyze_keeps_the_training_curves(tiny_grid, client):  # noqa: F811
    """The course that is read back from the logged metrics is the one that training wrote."""
    run_id = tiny_grid.children["cross-entropy"]
    first = mlflow.artifacts.load_image(f"runs:/{run_id}/figures/training_curves.png")
    trained = mlflow.artifacts.load_text(f"runs:/{run_id}/report/index.html")
    client.log_text(run_id, "old", "figures/training_curves.png")
    assert main(["analyze", "--run_id", run_id]) == 0
    again = mlflow.artifacts.load_image(f"runs:/{run_id}/figures/training_curves.png")
    assert np.array_equal(np.asarray(first), np.asarray(again))
    analysed = mlflow.artifacts.load_text(f"runs:/{run_id}/report/index.html")
    assert "Best validation macro_f1" in trained
    assert analysed.count("<img") > trained.count("<img")  # all figures of all heads, as the trial's page says
    assert f"mlflow run . -e analyze -P run_id={run_id}" in trained
    assert "Best validation macro_f1" in analysed


def test_promote_says_which_or_refuses(tiny_grid, client, capsys):  # noqa: F811
    verdict = json.loads(mlflow.artifacts.load_text(f"runs:/{tiny_grid.parent}/verdict.json"))
    assert verdict["strategy"] is None  # one seed on two recordings cannot tell
    assert main(["promote", "--parent_run_id", tiny_grid.parent]) == 2
    assert "cannot distinguish" in capsys.readouterr().err
    assert main(["promote", "--parent_run_id", tiny_grid.parent, "--strategy", "best"]) == 2
    assert "cross-entropy, logit-adjusted" in capsys.readouterr().err
    assert main(["promote", "--parent_run_id", tiny_grid.children["cross-entropy"]]) == 2
    assert "holds no comparison" in capsys.readouterr().err
    assert not client.search_registered_models()


def test_promote_registers_model_alias_and_evidence(tiny_grid, client):  # noqa: F811
    command = ["promote", "--parent_run_id", tiny_grid.parent, "--strategy", "logit-adjusted", "--model_name", "mill"]
    assert main(command) == 0
    version = client.get_model_version_by_alias("mill", "champion")
    child = tiny_grid.children["logit-adjusted"]
    assert version.tags["promoted_run_id"] == child
    assert version.tags["verdict"] == "cannot distinguish"
    assert "someone said so" in version.description
    assert "Verdict" in version.description
    assert f"{client.get_run(child).data.metrics['test/command/macro_f1']:.4f}" in version.description
    model = mlflow.pyfunc.load_model("models:/mill@champion")
    assert model.metadata.run_id == child


def test_promoting_a_corrected_strategy_serves_the_correction(tiny_grid, client):  # noqa: F811
    run_id = tiny_grid.children["cross-entropy"]
    tag = "free_lunch_tau.command"
    before = client.get_run(run_id).data.tags[tag]
    client.set_tag(run_id, tag, "1.5")  # whatever validation chose, a correction that can be seen
    logged = client.get_logged_model(client.get_run(run_id).outputs.model_outputs[0].model_id)
    code = Path(logged.artifact_location.removeprefix("file://"), "serving_model.py")
    kept = code.read_bytes()
    try:
        code.write_text("raise SystemExit('code of the store was run')", encoding="utf-8")
        name = "cross-entropy + free lunch"
        command = ["promote", "--parent_run_id", tiny_grid.parent, "--strategy", name, "--model_name", "corrected"]
        assert main(command) == 0
    finally:
        client.set_tag(run_id, tag, before)
        code.write_bytes(kept)
    served = mlflow.pyfunc.load_model("models:/corrected@champion")
    model_id = client.get_run(run_id).outputs.model_outputs[0].model_id
    plain = mlflow.pyfunc.load_model(f"models:/{model_id}")
    example = plain.input_example
    p = np.asarray(plain.predict(example)["command_probabilities"], dtype=np.float64)
    q = np.asarray(served.predict(example)["command_probabilities"], dtype=np.float64)
    location = client.get_logged_model(model_id).artifact_location
    about = json.loads(mlflow.artifacts.load_text(f"{location}/artifacts/network/about.json"))
    counts = np.asarray(about["posthoc"]["command"]["train_counts"], dtype=np.float64)
    seen = counts > 0
    z = np.log(p[..., seen]) - 1.5 * np.log(counts[seen] / counts.sum())
    expected = np.exp(z - z.max(axis=-1, keepdims=True))
    share = q[..., seen] / q[..., seen].sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(share, expected / expected.sum(axis=-1, keepdims=True), atol=1e-5)
    assert not np.allclose(p, q, atol=1e-3)


def test_no_file_of_a_trial_is_stored_twice(tiny_grid, client):  # noqa: F811
    run = client.get_run(tiny_grid.children["cross-entropy"])
    model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
    folders = [Path(uri.removeprefix("file://")) for uri in (run.info.artifact_uri, model.artifact_location)]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    contents = Counter(path.read_bytes() for path in files)
    twice = {path.name for path in files if contents[path.read_bytes()] > 1}
    assert not twice
    assert {"weights.pt", "test.parquet", "index.html"} <= {path.name for path in files}
    assert not list((tiny_grid.work / "trials").rglob("weights.pt"))


ROWS = [
    {"strategy": "base", "seed": 0, "run_id": "a", "val_score": 0.5},
    {"strategy": "base", "seed": 1, "run_id": "b", "val_score": 0.7},
    {"strategy": "other", "seed": 0, "run_id": "c", "val_score": None},
]


def test_the_best_validation_seed_of_the_chosen_strategy_is_taken():
    decided = {"strategy": "base", "use_free_lunch": True, "reason": "Choose base. Because."}
    taken = choose_candidate(decided, ROWS, "")
    assert (taken.run_id, taken.seed, taken.correct) == ("b", 1, True)
    assert not choose_candidate(decided, ROWS, "base").correct
    undecided = {**decided, "strategy": None, "use_free_lunch": False}
    with pytest.raises(InputError, match="cannot distinguish"):
        choose_candidate(undecided, ROWS, "")
    with pytest.raises(InputError, match="no run of 'other' carries a validation score"):
        choose_candidate(undecided, ROWS, "other")


def test_adjustments_add_up_only_at_the_end():
    assert with_adjustment({}, 1.0) == {"logit-adjust": {"tau": 1.0}}
    assert with_adjustment({"logit-adjust": {"tau": 0.5}}, 1.0) == {"logit-adjust": {"tau": 1.5}}
    with pytest.raises(InputError, match="does not apply"):
        with_adjustment({"logit-adjust": {"tau": 0.5}, "temperature": {"temperature": 2.0}}, 1.0)


def test_baseline_must_be_named_where_nothing_says_it(tiny_grid, client):  # noqa: F811
    from mlflow_project.runs import record_of

    run = client.get_run(tiny_grid.children["logit-adjusted"])
    record = record_of(client, run, tiny_grid.work / "download")
    with pytest.raises(InputError, match="--baseline: found nothing"):
        baseline_of([run], [record])


def test_validation_ranks_by_the_metric_that_decides(tiny_grid, client):  # noqa: F811
    from sklearn.metrics import balanced_accuracy_score, f1_score

    from imbalance_lab.predictions import read_parquet
    from mlflow_project.runs import record_of

    run = client.get_run(tiny_grid.children["cross-entropy"])
    val = read_parquet(tiny_grid.work / "trials" / "cross-entropy-s0" / "predictions" / "val.parquet").heads["command"]
    found = {m: record_of(client, run, tiny_grid.work / "download", m) for m in ("macro_f1", "balanced_accuracy")}
    logged = [v for k, v in run.data.metrics.items() if k.startswith("val/") and k.endswith("/selected")]
    assert [found["macro_f1"].val_score] == logged
    macro = f1_score(val.true, val.pred, average="macro", labels=range(len(val.classes)), zero_division=0)
    assert found["macro_f1"].val_score == pytest.approx(macro)
    assert found["balanced_accuracy"].val_score == pytest.approx(balanced_accuracy_score(val.true, val.pred))


def experiment_file(folder, **changes):
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**tiny_mapping(), **changes}), encoding="utf-8")
    return str(path)


def test_audit_stops_with_3_only_where_the_experiment_says_so(tiny_grid, client, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path))
    data = {**tiny_mapping()["data"], "faults": {"placeholder-class": 0.5}}
    for on_fail, code in (("stop", 3), ("warn", 0)):
        path = experiment_file(tmp_path, data=data, audit={"budget": "quick", "on_fail": on_fail})
        assert main(["audit", "--experiment", path]) == code
        out = capsys.readouterr().out
        assert "Audit: " in out
        assert "index.html" in out
        assert "mlflow ui" in out
    runs = client.search_runs([tiny_grid.experiment_id], "tags.role = 'audit'", order_by=["start_time ASC"])
    assert [r.info.status for r in runs] == ["FAILED", "FINISHED"]
    assert all(r.data.tags["audit.failed"] == "True" for r in runs)
    assert runs[0].data.tags["mlflow.note.content"] in out


def test_train_one_strategy_is_the_grids_trial(tiny_grid, client, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path))
    path = experiment_file(tmp_path)
    assert main(["train", "--experiment", path, "--strategy", "nothing"]) == 2
    assert "allowed are cross-entropy, logit-adjusted" in capsys.readouterr().err
    assert main(["train", "--experiment", path, "--strategy", "logit-adjusted"]) == 0
    same = (
        f"tags.strategy = 'logit-adjusted' and tags.role = 'trial' and run_id != '{tiny_grid.children[STRATEGIES[1]]}'"
    )
    (run,) = client.search_runs([tiny_grid.experiment_id], same)
    assert run.info.status == "FINISHED"
    assert "mlflow.parentRunId" not in run.data.tags
    grids = client.get_run(tiny_grid.children["logit-adjusted"]).data.metrics
    tested = {k: v for k, v in run.data.metrics.items() if k.startswith("test/")}
    assert tested
    assert tested == {k: grids[k] for k in tested}


def test_final_metrics_are_logged_once_of_their_model_and_data_and_times_are_a_file(tiny_grid, client):  # noqa: F811
    for run_id in tiny_grid.children.values():
        run = client.get_run(run_id)
        tested = [name for name in run.data.metrics if name.startswith("test/")]
        assert "test/command/macro_f1" in tested
        (model,) = (client.get_logged_model(o.model_id) for o in run.outputs.model_outputs)
        of_model = {m.key: m for m in model.metrics}
        (data,) = (i.dataset for i in run.inputs.dataset_inputs)
        for name in tested:
            (point,) = client.get_metric_history(run_id, name)
            assert point.step == 0
            assert (name in of_model) == ("/free_lunch/" not in name)
            assert name not in of_model or of_model[name].dataset_digest == data.digest
    for run_id in (tiny_grid.parent, *tiny_grid.children.values()):
        run = client.get_run(run_id)
        assert not [name for name in run.data.metrics if name.startswith("time/")]
        seconds = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/time.json")
        assert min(seconds.values()) >= 0
    assert {"train", "predict", "analyse", "model", "log"} == set(seconds)
