"""The same grid on every engine, against a tracking server, with a worker that is killed in the middle of a trial."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import engine_cases
import mlflow
import numpy as np
import pytest

from imbalance_lab.predictions import read_parquet

ROOT = Path(__file__).resolve().parents[2]
TRIALS = (engine_cases.FIRST, engine_cases.SECOND)
EPOCHS = 3


@dataclass(frozen=True)
class Server:
    """A tracking server with an SQL store; ``folder`` is where grids may keep their files."""

    uri: str
    folder: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
            found = Server(f"http://127.0.0.1:{port}", folder)
            sequential = launch(found, "sequential", "none", "--jobs", "1")  # beside the first of the others
            yield found
            sequential.kill()
            sequential.wait()
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)


def launch(server: Server, name: str, dying: str, *flags: str) -> subprocess.Popen[str]:
    """Start the tiny mill under an experiment name of its own; its output goes to a file."""
    folder = server.folder / name
    folder.mkdir()
    text = (ROOT / "tests" / "experiments" / "tiny-mill.yaml").read_text(encoding="utf-8")
    text = text.replace("name: tiny-mill", f"name: {name}").replace("epochs: 6", f"epochs: {EPOCHS}")
    if find_spec("optuna") is not None:
        text = text.replace("seeds: [0]", "seeds: [0]\ntune: {trials: 2}")
    if dying == "both":
        text += "  weights-inverse-sqrt: {weights: inverse-sqrt}\n"
    file = folder / "experiment.yaml"
    file.write_text(text, encoding="utf-8")
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": server.uri,
        "IMBALANCE_LAB_WORK": str(folder / "outputs"),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT, ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("MLFLOW_RUN_ID", None)
    command = [sys.executable, engine_cases.__file__, dying, "run", "--experiment", str(file), *flags]
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(command, env=environment, cwd=folder, text=True, stdout=output, stderr=output)


def finish(server: Server, name: str, process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code of a grid and what the terminal said."""
    try:
        code = process.wait(900)
    finally:
        process.kill()
    return code, (server.folder / name / "output").read_text(encoding="utf-8")


def runs_of(
    server: Server, name: str, trials: tuple[str, ...] = TRIALS
) -> tuple[mlflow.entities.Run, dict[str, mlflow.entities.Run]]:
    """The parent run and its children by name, each of which is there once."""
    client = mlflow.MlflowClient(tracking_uri=server.uri)
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    parents = [r for r in runs if r.data.tags["role"] == "grid"]
    children = [r for r in runs if r.data.tags["role"] == "trial"]
    assert len(parents) == 1
    if parents[0].info.status != "RUNNING":
        assert sorted(r.info.run_name for r in children) == sorted(trials)
    return parents[0], {r.info.run_name: r for r in children}


def check_as_sequential(server: Server, name: str, trial: str, trials: tuple[str, ...] = TRIALS) -> None:
    """A trial of grid ``name`` against the sequential grid: same predictions, same metrics, everything logged once."""
    client = mlflow.MlflowClient(tracking_uri=server.uri)
    deadline = time.monotonic() + 900
    while (reference := runs_of(server, "sequential"))[0].info.status == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (sequential, expected), (parent, got) = reference, runs_of(server, name, trials)
    assert sequential.info.status == "FINISHED", (server.folder / "sequential" / "output").read_text()[-3000:]
    ours, theirs = got[trial], expected[trial]
    assert ours.info.status == "FINISHED"
    assert ours.data.tags["mlflow.parentRunId"] == parent.info.run_id
    tables = [
        read_parquet(next((server.folder / where / "outputs").glob(f"*/trials/{trial}/predictions/test.parquet")))
        for where in (name, "sequential")
    ]
    for head in tables[1].heads:
        np.testing.assert_array_equal(tables[0].heads[head].probabilities, tables[1].heads[head].probabilities)
        np.testing.assert_array_equal(tables[0].heads[head].pred, tables[1].heads[head].pred)
    clock = re.compile("second|_per_|^time/")
    ours_steady, theirs_steady = (
        {k: v for k, v in r.data.metrics.items() if not clock.search(k)} for r in (ours, theirs)
    )
    assert ours_steady == theirs_steady
    assert ours.data.params == theirs.data.params
    assert ours.data.params.get("tune.trials") == ("2" if find_spec("optuna") is not None else None)
    for key in ours.data.metrics:
        steps = [[m.step for m in client.get_metric_history(r.info.run_id, key)] for r in (ours, theirs)]
        assert steps[0] == steps[1], key
    assert [m.step for m in client.get_metric_history(ours.info.run_id, "train/loss")] == [1, 2, 3]
    models = client.search_logged_models([ours.info.experiment_id], filter_string=f"source_run_id='{ours.info.run_id}'")
    assert len(models) == 1
    assert len(ours.inputs.dataset_inputs) == 1


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_grid_on_a_cluster_equals_the_sequential_one_though_a_worker_is_killed(engine: str, server: Server) -> None:
    module = {"dask": "distributed", "ray": "ray"}[engine]
    pytest.importorskip(module, reason=f"{module} is not installed: pip install 'imbalance-lab[{engine}]'")
    name = f"mill-{engine}"
    code, output = finish(server, name, launch(server, name, "second", "--jobs", "2", "--engine", engine))
    assert code == 0, output[-3000:]
    for trial in TRIALS:
        check_as_sequential(server, name, trial)
    parent, _ = runs_of(server, name)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["run_again"] == engine_cases.SECOND
    sentence = f"{engine_cases.SECOND} was started 2 times, because its worker died"
    assert sentence in output.splitlines()
    assert f"- {sentence}" in parent.data.tags["mlflow.note.content"].splitlines()
    assert "| strategy" in parent.data.tags["mlflow.note.content"]


def test_a_worker_that_dies_loses_its_trial_only_and_one_that_always_dies_is_given_up(server: Server) -> None:
    code, output = finish(server, "mill-local", launch(server, "mill-local", "both", "--jobs", "2"))
    assert code == 1
    untouched = "weights-inverse-sqrt-s0"
    check_as_sequential(server, "mill-local", engine_cases.FIRST, (*TRIALS, untouched))
    parent, children = runs_of(server, "mill-local", (*TRIALS, untouched))
    assert children[untouched].info.status == "FINISHED"
    assert parent.info.status == "FAILED"
    assert children[engine_cases.SECOND].info.status == "FAILED"
    assert children[engine_cases.SECOND].data.tags["failure"] == "its worker was killed 2 times"
    assert f"{engine_cases.SECOND} failed: its worker was killed 2 times" in output.splitlines()
    assert set(parent.data.tags["run_again"].split(", ")) == set(TRIALS)
    table = [line for line in parent.data.tags["mlflow.note.content"].splitlines() if line.startswith("| ")]
    assert any(line.startswith("| cross-entropy") for line in table)


def test_a_cluster_of_machines_needs_a_tracking_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from imbalance_lab.errors import InputError
    from imbalance_lab.spec import parse_experiment
    from mlflow_project.grid import run_grid_of

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{server.folder}/other.db")
    plain = {"name": "x", "data": {"source": "simulated"}, "strategies": {"a": {}}, "baseline": "a"}
    with pytest.raises(InputError, match="found an SQLite file with cluster 'tcp://h:1'"):
        run_grid_of(parse_experiment(plain, where="test"), None, "dask", "tcp://h:1")
    assert not (server.folder / "other.db").exists()
