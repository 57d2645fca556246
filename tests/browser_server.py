"""A real ``mlflow server`` on a free port, and a finished grid that was logged through it."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

NAME = "tiny-served"
HEAD = "digit"
EXPERIMENT = {
    "name": NAME,
    "data": {"source": "digits", "split": {"test_fraction": 0.3, "val_fraction": 0.15, "seed": 0}},
    "audit": {"budget": "off"},
    "interpret": {"budget": "off"},
    "model": {"name": "mlp", "hidden": 16},
    "training": {"epochs": 2, "batch_size": 128, "device": "cpu"},
    "seeds": [0, 1],
    "strategies": {"cross-entropy": {}, "logit-adjusted": {"loss": {"logit-adjusted": {"tau": 1.0}}}},
}


@dataclass(frozen=True)
class Served:
    """A server, and the runs of a grid that was logged through it.

    ``children`` are run ids by name; ``store`` is the folder of database and artifacts, which only the server opens;
    ``said`` is what the grid printed.
    """

    uri: str
    store: Path
    work: Path
    experiment_id: str
    parent: str
    children: dict[str, str]
    said: str
    name: str = NAME


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Address of an ``mlflow server``: SQLite store, artifacts through the server; stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'server.db'}",
        "--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "OMP_NUM_THREADS": "1"}
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")} | own
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _wait(f"{uri}/health", server, log)
            yield uri
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # the server's workers are processes of their own
            server.wait(20)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


def run_served_grid(uri: str, folder: Path) -> Served:
    """Run a grid of two strategies and two seeds on scikit-learn's digits through the server."""
    import mlflow

    import mlflow_project.grid as grid
    from imbalance_lab.spec import parse_experiment

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.setenv("IMBALANCE_LAB_WORK", str(folder / "outputs"))
        patch.setattr("imbalance_lab.plots.style.DPI", 40)  # nobody looks at the pictures
        assert grid.run_grid_of(parse_experiment(EXPERIMENT, where=NAME), jobs=1) == 0
    mlflow.set_tracking_uri("")
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r.info.run_id for r in runs if r.data.tags["role"] == "grid"]
    children = {r.info.run_name: r.info.run_id for r in runs if r.data.tags["role"] == "trial"}
    return Served(uri, folder, folder / "outputs" / parent, experiment.experiment_id, parent, children, said.getvalue())


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server with the finished grid, for every module that names this one in ``pytest_plugins``."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    with running_server(folder) as uri:
        yield run_served_grid(uri, folder)
