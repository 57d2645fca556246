"""Grids that are stopped, killed, locked and taken up again: real processes, real signals."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import mlflow
import pytest
import stopping_cases as cases
import yaml
from grid_fixture import tiny_mapping
from mlflow.entities import LoggedModelOutput

from imbalance_lab.errors import InputError
from imbalance_lab.spec import parse_experiment
from mlflow_project.__main__ import main
from mlflow_project.grid import spec_gone_on_with
from mlflow_project.models import logged_models, model_of
from mlflow_project.runs import last_grid

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader"),
    pytest.mark.filterwarnings("ignore:::mlflow"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cases.empty_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty store, which this process uses too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("IMBALANCE_LAB_WORK", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlflow.db").write_bytes(store.read_bytes())
    return tmp_path


@pytest.mark.parametrize(("number", "whom"), [(signal.SIGTERM, "parent"), (signal.SIGINT, "group")])
def test_a_signal_ends_workers_and_runs_and_names_what_goes_on(
    here: Path, number: signal.Signals, whom: str, capsys: pytest.CaptureFixture[str]
) -> None:
    process = cases.start(here, "--experiment", str(cases.MILL), *cases.LONG)
    try:
        cases.wait_for(here, "outputs/*/checkpoints/*.pt", process, count=2)
        (folder,) = (lock.parent for lock in (here / "outputs").glob("*/owner.json"))
        assert main(["run", "--resume", folder.name]) == 2  # it runs
        refused = capsys.readouterr().err
        assert f"process {process.pid} on" in refused
        assert "--force" in refused
        (os.killpg if whom == "group" else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=60)
        cases.wait_until_gone(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + number
    assert f"parent run {folder.name}" in out
    assert err.count("\n") == 1, err
    assert f"stopped by {number.name}; `python -m mlflow_project run --resume {folder.name}` goes on" in err
    found = cases.runs_in(here)
    assert set(found) == {"tiny-mill grid", "cross-entropy-s0", "curriculum-s0"}
    for run in found.values():
        assert run.info.status == "KILLED"
        assert run.data.tags["failure"] == f"stopped by {number.name}"
        assert number.name in run.data.tags["mlflow.note.content"]
    assert not (folder / "owner.json").exists()


def test_workers_end_with_a_parent_that_is_killed_and_its_lock_is_taken_over(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = cases.start(here, "--experiment", str(cases.MILL), *cases.LONG)
    cases.wait_for(here, "outputs/*/checkpoints/*.pt", process, count=2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cases.wait_until_gone(process.pid)
    process.communicate()
    (folder,) = (lock.parent for lock in (here / "outputs").glob("*/owner.json"))
    assert (folder / "owner.json").exists()
    again = cases.start(here, "--resume", "last", "--experiment", str(cases.MILL))
    try:
        assert again.stdout is not None
        assert "taken over from process" in again.stdout.readline()
        # A third takes it from the second, which lives.
        third = cases.start(here, "--resume", folder.name, "--force")
        try:
            _, err = again.communicate(timeout=60)
            assert again.returncode == 1
            assert f"process {third.pid} on" in err
            assert "has taken over" in err
            assert third.stdout is not None
            assert "which is told to end" in third.stdout.readline()
        finally:
            os.killpg(third.pid, signal.SIGKILL)
            third.communicate()
    finally:
        if again.poll() is None:
            os.killpg(again.pid, signal.SIGKILL)
            again.communicate()
    assert {run.info.status for run in cases.runs_in(here).values()} <= {"RUNNING", "SCHEDULED"}


def experiment(folder: Path, **changes: object) -> str:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**tiny_mapping(), **changes}), encoding="utf-8")
    return str(path)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The grids that would have been trained; nothing is."""
    reached: list[str] = []

    def train(grid: object, run_ids: object) -> int:
        reached.append(grid.logger.run_id)  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr("mlflow_project.grid._train_and_compare", train)
    return reached


def test_a_grid_that_its_audit_stopped_stays_stopped(
    here: Path, untrained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = {**tiny_mapping()["data"], "faults": {"placeholder-class": 0.5}}  # type: ignore[dict-item]
    path = experiment(here, data=data, audit={"budget": "quick", "on_fail": "stop"})
    assert main(["run", "--experiment", path]) == 3
    run = cases.runs_in(here)["tiny grid"]
    for _ in range(2):
        assert main(["run", "--resume", run.info.run_id]) == 3
        assert "nothing was trained" in capsys.readouterr().err
        assert untrained == []
    assert main(["run", "--resume", run.info.run_id, "--on_fail", "warn"]) == 0
    assert untrained == [run.info.run_id]
    after = cases.runs_in(here)["tiny grid"]
    assert (after.info.status, "failure" in after.data.tags) == ("FINISHED", False)
    assert main(["run", "--resume", run.info.run_id, "--on_fail", "go"]) == 2


@pytest.mark.parametrize(
    "killed_in",
    [
        "mlflow_project.grid.log_spec",
        "imbalance_lab.run.workspace.Workspace.take_data",
        "mlflow_project.grid.run_audit",
    ],
)
def test_a_grid_that_was_killed_before_its_audit_ended_has_one_made(
    here: Path, untrained: list[str], killed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Dead

    path = experiment(here, audit={"budget": "quick", "on_fail": "warn"})
    with monkeypatch.context() as patch:
        patch.setattr(killed_in, die)
        with pytest.raises(Dead):
            main(["run", "--experiment", path])
    run = cases.runs_in(here)["tiny grid"]
    assert "audit" not in run.data.tags
    assert main(["run", "--resume", "last", "--experiment", path]) == 0
    assert untrained == [run.info.run_id]
    assert "audit" in cases.runs_in(here)["tiny grid"].data.tags
    names = {item.path for item in cases.client_in(here).list_artifacts(run.info.run_id, "audit")}
    assert {"audit/index.html", "audit/audit.json"} <= names


def test_the_model_of_a_run_is_the_one_that_exists_and_is_whole(here: Path) -> None:
    client = cases.client_in(here)
    mlflow.set_tracking_uri(f"sqlite:///{here}/mlflow.db")
    place = client.create_experiment("models")
    run = client.create_run(place)
    run_id = run.info.run_id
    with pytest.raises(InputError, match="holds no model"):
        model_of(client, run)
    deleted, whole, half = (client.create_logged_model(place, name, source_run_id=run_id) for name in "abc")
    for model in (deleted, whole):
        client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(m.model_id, 0) for m in (whole, half, deleted)])
    client.delete_logged_model(deleted.model_id)
    run = client.get_run(run_id)
    assert {o.model_id for o in run.outputs.model_outputs} == {m.model_id for m in (deleted, whole, half)}
    assert model_of(client, run).model_id == whole.model_id
    assert {m.model_id for m in logged_models(client, run)} == {whole.model_id, half.model_id}
    mlflow.set_tracking_uri("")


def test_the_last_grid_is_that_of_the_experiment_whatever_its_name(here: Path) -> None:
    client = cases.client_in(here)
    place = client.create_experiment("any")
    with pytest.raises(InputError, match="it holds no grid"):
        last_grid(client, "it's")
    made = {}
    for moment, name in enumerate(["it's", "it's", "its"], start=1):
        tags = {"role": "grid", "experiment_name": name}
        made[moment] = client.create_run(place, start_time=moment, tags=tags).info.run_id
    assert last_grid(client, "it's").info.run_id == made[2]
    with pytest.raises(InputError, match=r"no grid of 'it' in .*; --experiment names the file of one .*: its, it's$"):
        last_grid(client, "it")


def test_flags_that_a_grid_was_not_begun_with_are_refused_when_it_is_resumed() -> None:
    begun = {**tiny_mapping(), "seeds": [0, 1]}
    same = {
        "seeds": [0, 1],
        "training.epochs": begun["training"]["epochs"],
        "strategies": dict.fromkeys(begun["strategies"]),
    }
    assert spec_gone_on_with(begun, "spec.yaml", same) == parse_experiment(begun, where="spec.yaml")
    assert spec_gone_on_with(begun, "spec.yaml", {"audit.on_fail": "warn"}).audit.on_fail == "warn"
    for change in ({"folds": 3}, {"seeds": [0]}, {"training.epochs": 99}, {"training.device": "auto"}):
        (key,) = change
        with pytest.raises(InputError, match=rf"^--resume: found {key}: .*, with which the grid was not begun; leave"):
            spec_gone_on_with(begun, "spec.yaml", {**same, **change})
    with pytest.raises(InputError, match=r"source 'simulated' reads no file; found '\.' as its data"):
        spec_gone_on_with(begun, "spec.yaml", {"data.path": "."})
    recordings = {**begun, "data": {"source": "recordings", "path": "a/../b.csv"}}
    assert spec_gone_on_with(recordings, "spec.yaml", {"data.path": "b.csv"}).data.path == "a/../b.csv"
    with pytest.raises(InputError, match=r"found data\.path: 'c\.csv'"):
        spec_gone_on_with(recordings, "spec.yaml", {"data.path": "c.csv"})
