"""A wheel carries everything that a run needs, the experiments included, and works in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zipfile import ZipFile

import mlflow
import pytest
from conftest import ROOT

from imbalance_lab.errors import InputError
from mlflow_project.commands.options import experiment_file, shipped

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "src", "mlflow_project", "experiments")
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by pip without network, from a copy: a build leaves files beside its sources."""
    try:
        if int(version("setuptools").partition(".")[0]) < 77:
            pytest.skip("setuptools is older than 77, so no wheel can be built without network")
        version("pip")
    except PackageNotFoundError as error:
        pytest.skip(f"{error.name} is not installed, so no wheel can be built without network")
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "project" / name, ignore=IGNORED)
        else:
            (folder / "project").mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / "project" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--wheel-dir", str(folder), str(folder / "project")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_every_file_of_the_packages_and_every_experiment(wheel):
    def below(folder: Path) -> set[str]:
        files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        named = {path.relative_to(folder.parent).as_posix() for path in files if ".egg-info" not in str(path)}
        return {name for name in named if not name.endswith("/README.md")}  # they are for who reads the source

    wanted = below(ROOT / "src" / "imbalance_lab") | below(ROOT / "mlflow_project")
    wanted |= {f"mlflow_project/experiments/{path.name}" for path in (ROOT / "experiments").glob("*.yaml")}
    with ZipFile(wheel) as file:
        found = {name for name in file.namelist() if ".dist-info/" not in name}
        (about,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        text = file.read(about).decode()
    assert found == wanted
    assert {f"imbalance_lab/report/templates/page.{kind}" for kind in ("html", "css", "js")} <= found
    assert "mlflow_project/experiments/default.yaml" in found
    assert "# imbalance-lab" in text.splitlines()


def test_an_installed_wheel_works_in_an_empty_folder(wheel, tmp_path):
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    kept = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "IMBALANCE_LAB_WORK")}

    def project(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlflow_project", *words], cwd=empty, env=kept | {"PYTHONPATH": str(installed)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = project("audit")  # of the default experiment
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in empty.iterdir()} <= {"mlflow.db", "mlflow.db.lock", "mlruns", "outputs"}
    last = done.stdout.strip().splitlines()[-1]
    page, store, experiment, run = re.search(
        r"Read (\S+)\. Open with: mlflow ui --backend-store-uri (\S+) .*/experiments/(\w+)/runs/(\w+)", last
    ).groups()
    assert (empty / page).is_file()
    assert store == "sqlite:///mlflow.db"
    client = mlflow.MlflowClient(f"sqlite:///{empty}/mlflow.db")
    assert client.get_run(run).info.experiment_id == experiment
    assert (empty / "mlruns" / experiment / run / "artifacts" / "audit" / "index.html").is_file()

    named = project("run", "--experiment", "experiments/gcode-motion.yaml")
    assert named.returncode == 2
    assert "recordings.parquet" in named.stderr  # the experiment was found; its data are not here
    unknown = project("run", "--experiment", "experiments/no.yaml")
    assert unknown.returncode == 2
    assert "experiments/no.yaml: no such experiment file; with the project come" in unknown.stderr
    assert "experiments/gcode-motion.yaml" in unknown.stderr


def test_the_working_folder_comes_before_what_the_project_brings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {f"experiments/{path.name}" for path in (ROOT / "experiments").glob("*.yaml")} == set(shipped())
    assert experiment_file("experiments/default.yaml") == ROOT / "experiments" / "default.yaml"
    own = tmp_path / "experiments" / "default.yaml"
    own.parent.mkdir()
    own.write_text("name: own\n")
    assert experiment_file("experiments/default.yaml").resolve() == own
    with pytest.raises(InputError, match=r"default\.yaml"):
        experiment_file(str(tmp_path / "default.yaml"))
