"""Passwords are told nowhere; a disk or a store that fails is one sentence."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
import requests
import yaml
from conftest import ROOT
from grid_fixture import tiny_mapping
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

from mlflow_project import tracking
from mlflow_project.__main__ import main, trouble
from mlflow_project.tracking import RunLogger, make_sqlite, open_store

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")
SECRET = "hunter2hunter2"


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(tiny_mapping()), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("scheme", ["http", "gopher"])  # a server that is not there; a kind that MLflow does not know
def test_no_command_tells_a_password(
    experiment: str, scheme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:{SECRET}@127.0.0.1:9/x")
    for command in (
        ["run", "--experiment", experiment],
        ["run", "--resume", "0123"],
        ["audit", "--experiment", experiment],
        ["train", "--experiment", experiment],
        ["analyze", "--run_id", "0123"],
        ["interpret", "--run_id", "0123"],
        ["compare", "--run_ids", "0123,4567"],
        ["promote", "--parent_run_id", "0123"],
    ):
        code = main(command)
        said = capsys.readouterr()
        assert code in (1, 2), command
        assert SECRET not in said.out + said.err, command
        assert said.err, command


def test_what_is_logged_holds_no_password(experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    store = open_store("x")
    address = f"postgresql://me:{SECRET}@db/x"
    with suppress(OSError), tracking.run(store, "a", {"from": address}) as logger:
        logger.params({"address": address})
        logger.text(f"address: {address}", "spec.yaml")
        raise OSError(f"no answer of {address}")
    run = logger.client.get_run(logger.run_id)
    assert run.data.tags["failure"] == "OSError: no answer of postgresql://db/x"
    assert run.data.params["address"] == "postgresql://db/x"
    found = [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert found == []


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space is left: /somewhere"),
        (errno.EROFS, "cannot be written to: /somewhere"),
        (errno.EFBIG, "no file may be so large: /somewhere"),
        (errno.EMFILE, "too many files are open: /somewhere"),
    ],
)
def test_a_disk_that_fails_is_one_sentence_with_the_command_that_goes_on(
    number: int,
    said: str,
    experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "told by the system", "/somewhere")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr("imbalance_lab.run.workspace.Workspace.take_data", fail)
    assert main(["run", "--experiment", experiment]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert "run --resume" in err
    assert "what was done is in outputs" in err


def test_a_run_that_is_taken_up_is_not_told_again_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = open_store("x")
    client = store.client()
    first = tracking.RunLogger(store, client.create_run(store.experiment_id).info.run_id)
    first.metrics({"trials/failed": 0, "other": 1})
    first.flush()
    again = tracking.take_up(store, first.run_id)
    again.metrics({"trials/failed": 0, "other": 2, "new": 3})
    again.flush()
    found = {key: [m.value for m in client.get_metric_history(first.run_id, key)] for key in again.before | {"new": 3}}
    assert found == {"trials/failed": [0], "other": [1, 2], "new": [3]}


def test_a_tag_that_is_gone_may_be_deleted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    store = open_store("x")
    logger = RunLogger(store, store.client().create_run(store.experiment_id, tags={"owner": "me"}).info.run_id)
    for _ in range(2):  # the answer to the first was lost
        logger.untag("owner")
    assert "owner" not in store.client().get_run(logger.run_id).data.tags
    store.client().delete_run(logger.run_id)
    with pytest.raises(MlflowException, match="active"):  # any other trouble is told
        logger.untag("owner")


def test_a_fault_of_the_program_keeps_its_traceback(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(f"x://me:{SECRET}@h")

    monkeypatch.setattr("mlflow_project.grid.kept_data", fail)
    assert main(["run", "--experiment", experiment]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: x://h" in err


def test_a_broken_database_is_one_sentence(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/half.db")
    with sqlite3.connect(tmp_path / "half.db") as half:  # as a kill in the middle left it
        half.execute("create table alembic_version (version_num varchar(32))")
        half.execute("insert into alembic_version values ('unknown')")
    assert main(["run", "--experiment", experiment]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert "half.db" in err
    assert "MLFLOW_TRACKING_URI" in err


def test_a_database_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    killed_within = (
        "import os, sys, signal\n"
        "from mlflow_project.tracking import make_sqlite\n"
        "os.fsync = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "make_sqlite(sys.argv[1])"
    )
    ended = subprocess.run([sys.executable, "-c", killed_within, uri], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len([*tmp_path.glob("mlflow.db.*.partial")]) == 1
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = open_store("x")
    logger = RunLogger(store, store.client().create_run(store.experiment_id).info.run_id)
    assert logger.client.get_run(logger.run_id).info.status == "RUNNING"


def test_a_new_database_is_the_one_that_mlflow_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # a connection for each step
    make_sqlite(f"sqlite:///{tmp_path}/mine.db")
    SqlAlchemyStore(f"sqlite:///{tmp_path}/its.db", "./mlruns").engine.dispose()
    mine, its = (_schema(tmp_path / name) for name in ("mine.db", "its.db"))
    assert mine == its
    assert "runs" in mine


def _schema(file: Path) -> dict[str, set[str]]:
    """The parts of each table and index; Alembic writes constraints in any order."""
    with closing(sqlite3.connect(file)) as store:
        return {
            name: set(re.split(r",\s*", " ".join((sql or "").split())))
            for name, sql in store.execute("select name, sql from sqlite_master")
        }


def test_files_tags_and_metrics_of_a_new_run_are_two_calls(tmp_path: Path) -> None:
    logger = RunLogger(tracking.Store("sqlite://", "0", "x"), "r", new=True)
    client = logger.client = Mock()
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "per_class.json").write_text("{}", encoding="utf-8")
    logger.metrics({"test/f1": 0.5})
    logger.folder(tmp_path, tags={"strategy": "focal"})
    logger.folder(tmp_path)  # the table is announced already
    assert [call[0] for call in client.method_calls] == ["log_artifacts", "log_batch", "log_artifacts"]
    sent = client.log_batch.call_args.kwargs
    tags = {tag.key: tag.value for tag in sent["tags"]}
    assert [metric.key for metric in sent["metrics"]] == ["test/f1"]
    assert tags["strategy"] == "focal"
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "tables/per_class.json", "type": "table"}]


def test_a_reader_that_leaves_is_no_failure() -> None:
    """``strategies | head -1``, with a reader that leaves before the first line, and nothing else is said."""
    listing = [sys.executable, "-m", "mlflow_project", "strategies"]
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(listing, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BrokenPipeError(errno.EPIPE, "of a worker"), ""),
        (ConnectionRefusedError(errno.ECONNREFUSED, "of a cluster"), ""),
        (KeyError("x"), ""),
        (MlflowException("a name that it does not take", INVALID_PARAMETER_VALUE), ""),
        (MlflowException("gone"), "the tracking store"),
        (requests.ConnectionError("no answer"), "the tracking store"),
        (requests.ReadTimeout("no answer in 120 s"), "the tracking store"),
        (OSError("1048576 requested and 512 written"), "no space is left"),
    ],
)
def test_only_what_the_store_does_is_called_its_failure(error: Exception, said: str) -> None:
    assert trouble(error).startswith(said)
    assert bool(trouble(error)) == bool(said)


def test_a_fault_that_has_nothing_to_do_with_an_earlier_one() -> None:
    def fail() -> None:
        try:
            raise MlflowException("gone")
        except MlflowException:
            raise KeyError("x") from None

    with pytest.raises(KeyError) as caught:
        fail()
    assert trouble(caught.value) == ""


def test_a_disk_that_is_full_leaves_the_store_whole(experiment: str, tmp_path: Path) -> None:
    """No file may be longer than the data take: NumPy then says how much it wrote, and no number of the system."""
    make_sqlite(f"sqlite:///{tmp_path}/mlflow.db")
    known = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "IMBALANCE_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "mlflow_project", "run", "--experiment", experiment, "--jobs", "1"],
        cwd=tmp_path,
        env={**known, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert re.match(r"imbalance-lab: (no space is left|no file may be so large): the disk", ended.stderr)
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert store.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert store.execute("select count(*) from runs").fetchone() == (0,)
