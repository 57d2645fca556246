"""Real grids in processes of their own, to be stopped in the middle; used by the tests of interruptions."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow

ROOT = Path(__file__).resolve().parents[1]
MILL = ROOT / "tests" / "experiments" / "tiny-mill.yaml"
LONG = ("--epochs", "100000")


def empty_store(folder: Path) -> Path:
    """A tracking store without a run, to be copied: to make one takes seconds."""
    from mlflow_project.tracking import make_sqlite

    file = folder / "mlflow.db"
    make_sqlite(f"sqlite:///{file}")
    return file


def start(folder: Path, *flags: str, store: Path | None = None, **environment: str | None) -> subprocess.Popen[str]:
    """``run`` in ``folder``, in a process group of its own, with two workers and without pictures.

    A variable of the ``environment`` that is None is not set.
    """
    folder.mkdir(exist_ok=True)
    if store is not None:
        shutil.copy(store, folder / "mlflow.db")
    known = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), str(ROOT / "tests")])
    changed = {**known, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "engine_cases.py"), "none", "run", "--jobs", "2", *flags],
        cwd=folder,
        env={k: v for k, v in changed.items() if v is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_sigint,  # noqa: PLW1509 - it sets a signal, nothing else
    )


def _heed_sigint() -> None:
    """What a shell starts in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str], count: int = 1, seconds: float = 120) -> None:
    """Wait until so many files match; the process must not end before."""
    until = time.monotonic() + seconds
    while len(list(folder.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, f"no {pattern} in {seconds} s"
        time.sleep(0.02)


def members(group: int) -> list[int]:
    """The processes of a group that live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(entry.parent.name))
    return found


def wait_until_gone(group: int, seconds: float = 10) -> None:
    """Wait until a process group has no member."""
    until = time.monotonic() + seconds
    while left := members(group):
        assert time.monotonic() < until, f"still alive: {left}"
        time.sleep(0.05)


def runs_in(folder: Path) -> dict[str, Any]:
    """The runs of the store in ``folder``, by name."""
    client = client_in(folder)
    places = [one.experiment_id for one in client.search_experiments()]
    return {run.info.run_name: run for run in client.search_runs(places)}


def client_in(folder: Path) -> mlflow.MlflowClient:
    """A client of the store in ``folder``."""
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
