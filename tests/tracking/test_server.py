"""The same through a real ``mlflow server`` with proxied artifacts, and eight processes that log at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pytest
from browser_writers import KEYS, PARAMS, STEPS, TAGS, WRITERS, content, start_tagging, value, write_at_once

from imbalance_lab.metrics.counts import confusion_counts, macro_f1
from imbalance_lab.predictions import read_parquet
from mlflow_project import tracking
from mlflow_project.__main__ import main
from mlflow_project.tracking import RunLogger, Store, open_line, open_store, run_address

if TYPE_CHECKING:
    from browser_server import Served

HEAD = "digit"

pytest_plugins = ["browser_server"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader"),
    pytest.mark.filterwarnings("ignore:::mlflow"),
]


@pytest.fixture
def client(served: Served, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """A client of the server, which is the active store too."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 40)
    mlflow.set_tracking_uri(served.uri)
    yield mlflow.MlflowClient(tracking_uri=served.uri)
    mlflow.set_tracking_uri("")


def names(client: mlflow.MlflowClient, run_id: str, path: str | None = None) -> set[str]:
    return {item.path for item in client.list_artifacts(run_id, path)}


def test_grid_through_the_server(served: Served, client: mlflow.MlflowClient) -> None:
    parent = client.get_run(served.parent)
    assert parent.info.status == "FINISHED"
    assert parent.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert not list(served.work.rglob("mlflow.db")), "the trials wrote to a store of their own"
    assert {"comparison", "figures", "tables", "leaderboard.png", "verdict.json"} <= names(client, served.parent)
    assert len(served.children) == 4
    for name, run_id in served.children.items():
        child = client.get_run(run_id)
        assert (child.info.status, child.info.run_name) == ("FINISHED", name)
        assert child.data.tags["mlflow.parentRunId"] == served.parent
        assert {"report", "tables", "predictions", "confusion.png", "spec.yaml"} <= names(client, run_id)
        local = served.work / "trials" / name
        for path in ("predictions/test.parquet", "error_analysis_report.json"):
            fetched = Path(client.download_artifacts(run_id, path))
            assert fetched.read_bytes() == (local / path).read_bytes()
        head = read_parquet(local / "predictions" / "test.parquet").heads[HEAD]
        expected = macro_f1(confusion_counts(head.true, head.pred, len(head.classes)))
        assert child.data.metrics[f"test/{HEAD}/macro_f1"] == pytest.approx(float(expected))
        steps = [m.step for m in client.get_metric_history(run_id, "train/loss")]
        assert steps == [1, 2]


def test_tables_can_be_set_side_by_side(served: Served, client: mlflow.MlflowClient) -> None:
    table = client.load_table(served.experiment_id, "tables/per_class.json", list(served.children.values()), ["run_id"])
    assert set(table["run_id"]) == set(served.children.values())
    # The page opens a table with its first two columns, and text in others would hide rows.
    assert list(table.columns[:4]) == ["class", "f1", "recall", "precision"]
    raw = json.loads(
        Path(client.download_artifacts(served.children["cross-entropy-s0"], "tables/per_class.json")).read_text()
    )
    text = [name for name, value in zip(raw["columns"], raw["data"][0], strict=True) if isinstance(value, str)]
    assert text == ["class"]
    announced = json.loads(client.get_run(served.parent).data.tags["mlflow.loggedArtifacts"])
    assert announced == [{"path": "tables/leaderboard.json", "type": "table"}]


def test_who_and_from_where_stands_at_every_run(served: Served, client: mlflow.MlflowClient) -> None:
    parent = client.get_run(served.parent).data.tags
    assert parent["mlflow.user"]
    assert parent["mlflow.source.name"] == "mlflow_project"
    for run_id in served.children.values():
        child = client.get_run(run_id).data.tags
        assert child["mlflow.user"] == parent["mlflow.user"]
        assert child["mlflow.source.name"] == parent["mlflow.source.name"]


def test_model_of_the_server_predicts(served: Served, client: mlflow.MlflowClient) -> None:
    run = client.get_run(served.children["logit-adjusted-s0"])
    (output,) = run.outputs.model_outputs
    model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    answer = model.predict(model.input_example)
    head = read_parquet(served.work / "trials" / "logit-adjusted-s0" / "predictions" / "test.parquet").heads[HEAD]
    probabilities = np.asarray(answer[f"{HEAD}_probabilities"])
    assert probabilities.shape[-1] == len(head.classes)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, atol=1e-5)
    logged = {m.key: m.value for m in client.get_logged_model(output.model_id).metrics}
    assert logged[f"test/{HEAD}/macro_f1"] == run.data.metrics[f"test/{HEAD}/macro_f1"]


def test_compare_two_experiments_links_each_run_to_its_own(
    served: Served, client: mlflow.MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = client.create_experiment("elsewhere")
    moved = client.create_run(there, run_name="moved", tags={"strategy": "logit-adjusted", "seed": "0"}).info.run_id
    table = client.download_artifacts(served.children["logit-adjusted-s0"], "predictions/test.parquet", str(tmp_path))
    client.log_artifact(moved, table, "predictions")
    client.set_terminated(moved)
    here = served.children["cross-entropy-s0"]
    assert main(["compare", "--run_ids", f"{here},{moved}"]) == 0
    assert served.uri in capsys.readouterr().out
    (made,) = client.search_runs([served.experiment_id], "tags.role = 'comparison'")
    page = Path(client.download_artifacts(made.info.run_id, "comparison/index.html")).read_text(encoding="utf-8")
    assert run_address(served.uri, served.experiment_id, here) in page
    assert run_address(served.uri, there, moved) in page
    assert run_address(served.uri, served.experiment_id, moved) not in page
    described = made.data.tags["mlflow.note.content"]
    assert f"#/experiments/{there}/runs/{moved}" in described
    assert f"#/experiments/{served.experiment_id}/runs/{moved}" not in described
    client.delete_run(made.info.run_id)


def test_other_data_is_refused_with_one_sentence(
    served: Served, client: mlflow.MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from imbalance_lab.predictions import write_parquet

    own = served.children["cross-entropy-s0"]
    table = read_parquet(served.work / "trials" / "cross-entropy-s0" / "predictions" / "test.parquet")
    write_parquet(replace(table, meta={**table.meta, "digest": "otherdata"}), tmp_path / "test.parquet")
    other = client.create_run(served.experiment_id, tags={"strategy": "logit-adjusted", "seed": "0"}).info.run_id
    client.log_artifact(other, str(tmp_path / "test.parquet"), "predictions")
    assert main(["compare", "--run_ids", f"{own},{other}"]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "otherdata) are of different data" in said.err
    client.delete_run(other)


def test_links_carry_no_password() -> None:
    store = Store("https://me:secret@tracking.example:8443/team/", "7", "x")
    assert open_line(store, "abc").startswith("Open https://tracking.example:8443/team/#/experiments/7/runs/abc")
    assert "secret" not in run_address(store.uri, "7", "abc")


@pytest.fixture(params=["server", "one SQLite file"])
def empty_store(
    request: pytest.FixtureRequest, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Store, RunLogger]]:
    """An experiment with a parent run, as a grid makes them before its workers start."""
    uri = served.uri if request.param == "server" else f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    store = open_store("eight writers")
    with tracking.run(store, "writers", {}) as parent:
        yield store, parent


def test_nothing_is_lost_when_eight_write_at_once(empty_store: tuple[Store, RunLogger], tmp_path: Path) -> None:
    store, parent = empty_store
    assert write_at_once(store, parent.run_id, tmp_path) == [0] * WRITERS
    client = store.client()
    runs = client.search_runs([store.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'")
    assert sorted(run.data.tags["writer"] for run in runs) == [str(i) for i in range(WRITERS)]
    points = 0
    for run in runs:
        writer, run_id = int(run.data.tags["writer"]), run.info.run_id
        assert run.info.status == "FINISHED"
        assert run.data.params == {f"p{i}": f"{writer}-{i}" for i in range(PARAMS)}
        assert {f"t{i}": run.data.tags.get(f"t{i}") for i in range(TAGS)} == {
            f"t{i}": f"{writer}-{i}" for i in range(TAGS)
        }
        assert run.data.tags["mlflow.note.content"] == f"writer {writer}"
        for k, key in enumerate(KEYS):
            history = client.get_metric_history(run_id, key)
            assert {m.step: m.value for m in history} == {s: value(writer, k, s) for s in range(STEPS)}
            points += len(history)
        assert Path(client.download_artifacts(run_id, "data/content.bin")).read_bytes() == content(writer)
    assert points == WRITERS * STEPS * len(KEYS)


def test_writers_of_one_sqlite_file_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    store = open_store("waiting")
    with tracking.run(store, "run", {}) as logger:
        run_id = logger.run_id
    with store.writing():
        other = start_tagging(store, run_id)
        other.join(2)
        assert other.is_alive()
        assert "waited" not in store.client().get_run(run_id).data.tags
    other.join(60)
    assert other.exitcode == 0
    assert store.client().get_run(run_id).data.tags["waited"] == "yes"
