"""``mlflow run`` from another folder and from a git URI: everything lies where it was called, and can be opened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from conftest import ROOT

from imbalance_lab.errors import InputError
from imbalance_lab.run.launched import beside_store, store_folder
from imbalance_lab.run.workspace import work_root
from mlflow_project.__main__ import own_library_first
from mlflow_project.commands.options import experiment_file, fetch
from mlflow_project.tracking import open_store

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

OWN = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "IMBALANCE_LAB_WORK")


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As ``mlflow run`` starts a command: called in one folder, working in the project's."""
    for name in ("called", "project"):
        (tmp_path / name).mkdir()
    monkeypatch.delenv("IMBALANCE_LAB_WORK", raising=False)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/called/mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    return tmp_path / "called"


def test_outputs_lie_beside_the_store_that_mlflow_run_was_called_with(called, monkeypatch):
    assert store_folder() == called
    with beside_store():
        assert work_root() == called / "outputs"
    assert work_root() == Path("outputs")
    monkeypatch.setenv("IMBALANCE_LAB_WORK", "elsewhere")
    with beside_store():
        assert work_root() == Path("elsewhere")  # whoever says where is not overruled


@pytest.mark.parametrize(
    ("name", "value"),
    [("MLFLOW_RUN_ID", ""), ("MLFLOW_TRACKING_URI", "https://server"), ("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")],
)
def test_otherwise_they_lie_in_the_working_folder(name, value, called, monkeypatch):
    monkeypatch.setenv(name, value)
    assert store_folder() is None
    with beside_store():
        assert work_root() == Path("outputs")


def test_the_artifacts_of_a_new_experiment_lie_beside_the_store(called, monkeypatch):
    client = mlflow.MlflowClient(f"sqlite:///{called}/mlflow.db")
    launcher = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", launcher.info.run_id)
    store = open_store("mill 1")
    run = store.client().create_run(store.experiment_id)
    store.client().log_text(run.info.run_id, "here", "a.txt")
    (found,) = called.glob("mlruns/**/a.txt")
    assert found.read_text() == "here"
    assert list(Path.cwd().iterdir()) == []


def test_a_checkout_runs_with_its_own_library(tmp_path):
    """An environment that MLflow kept from another clone has that clone's library installed, or one that is gone."""
    other = tmp_path / "imbalance_lab" / "__init__.py"
    other.parent.mkdir()
    other.write_text("raise SystemExit('the library of another clone')\n")
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_project", "strategies", "--slot", "weights"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "inverse" in done.stdout


def test_processes_that_are_started_have_it_too_and_an_installed_package_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "mine")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)
    own_library_first(tmp_path / "site-packages" / "mlflow_project")
    assert (sys.path, os.environ["PYTHONPATH"]) == (before, "mine")
    own_library_first(ROOT / "mlflow_project")
    assert sys.path == [str(ROOT / "src"), *before]
    assert os.environ["PYTHONPATH"] == f"{ROOT / 'src'}{os.pathsep}mine"


def test_mlflow_run_of_a_git_uri(tmp_path):
    """MLflow clones what does not lie on this disk; git is told that this address does."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    source, bare, here = tmp_path / "source", tmp_path / "bare.git", tmp_path / "here"
    here.mkdir()
    for name in ("src", "mlflow_project", "tests/experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("MLproject", "python_env.yaml"):
        shutil.copy(ROOT / name, source / name)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(source)]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(source), str(bare)], check=True, capture_output=True)
    kept = {name: value for name, value in os.environ.items() if name not in OWN}
    kept |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{bare}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://git.invalid/lab.git",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", "https://git.invalid/lab.git#", "--env-manager", "local",
         "-e", "audit", "-P", "experiment=tests/experiments/tiny-mill.yaml"],
        cwd=here, env=kept | {"PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    last = next(line for line in reversed(done.stdout.splitlines()) if "Open with" in line)
    assert f"--backend-store-uri sqlite:///{here}/mlflow.db " in last
    page = last.removeprefix("Read ").split(". Open with")[0]
    run_id = last.partition("/runs/")[2].partition("?")[0]
    assert (here / "outputs" / run_id / "audit" / "index.html") == Path(page)
    assert Path(page).is_file()
    client = mlflow.MlflowClient(f"sqlite:///{here}/mlflow.db")
    assert (Path(client.download_artifacts(run_id, "audit/index.html", str(tmp_path)))).is_file()
    assert list(here.glob(f"mlruns/*/{run_id}/artifacts/audit/index.html"))


def test_files_are_looked_for_in_the_project_and_then_where_mlflow_run_was_called(called, monkeypatch):
    (called / "mine.yaml").write_text("name: mine")
    (called / "data").mkdir()
    assert experiment_file("mine.yaml") == called / "mine.yaml"
    assert fetch("data") == called / "data"
    assert fetch(str(called / "data")) == called / "data"
    Path("data").mkdir()
    assert fetch("data") == Path("data")  # what lies in the working folder comes first
    assert fetch("nowhere") == Path("nowhere")
    monkeypatch.delenv("MLFLOW_RUN_ID")
    with pytest.raises(InputError, match=r"mine\.yaml: no such experiment file"):
        experiment_file("mine.yaml")
