"""The environment files are current, and MLproject's entry points are the commands' flags."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from mlflow_project.__main__ import module_of
from tools.environment import PYTHON, files, main, pinned

CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]


@pytest.mark.parametrize("name", ["python_env.yaml", "conda.yaml"])
def test_the_file_is_what_the_constraints_give(name):
    assert (ROOT / name).read_text(encoding="utf-8") == files(CONSTRAINTS)[name]


def test_both_files_install_the_same_lines_on_the_same_python():
    made = {name: yaml.safe_load(text) for name, text in files(CONSTRAINTS).items()}
    (pip,) = [d["pip"] for d in made["conda.yaml"]["dependencies"] if isinstance(d, dict)]
    assert pip == made["python_env.yaml"]["dependencies"]
    assert pip[-2:] == ["--constraint constraints.txt", "-e ."]
    assert made["python_env.yaml"]["python"] == PYTHON
    assert f"python={PYTHON}" in made["conda.yaml"]["dependencies"]


def test_a_change_of_one_pin_changes_what_mlflow_caches_by():
    changed = CONSTRAINTS.replace(f"numpy=={pinned(CONSTRAINTS)['numpy']}", "numpy==1.26.4")
    before, after = files(CONSTRAINTS), files(changed)
    assert yaml.safe_load(before["python_env.yaml"]) != yaml.safe_load(after["python_env.yaml"])
    assert before["conda.yaml"] != after["conda.yaml"]


def test_the_script_writes_both_files(tmp_path):
    (tmp_path / "constraints.txt").write_text("setuptools==80.9.0\nnumpy==2.0.0  # why\n", encoding="utf-8")
    assert main(tmp_path) == 0
    assert {f.name for f in tmp_path.iterdir()} == {"constraints.txt", "python_env.yaml", "conda.yaml"}
    assert pinned((tmp_path / "constraints.txt").read_text(encoding="utf-8"))["numpy"] == "2.0.0"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("make"), reason="PyPI's torch has CUDA on Linux only")
@pytest.mark.parametrize("code_of_uv", [0, 2])
def test_make_asks_for_the_torch_of_this_driver_and_goes_on_where_that_cannot_be_had(tmp_path, code_of_uv):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for program, code in (("python", 0), ("uv", code_of_uv)):
        script = tmp_path / ".venv" / "bin" / program
        script.write_text(f'#!/bin/sh\necho "{program} $*" >> calls\nexit {code}\n', encoding="utf-8")
        script.chmod(0o755)
    done = subprocess.run(["make", ".venv/.installed"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    uv, torch, package = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert uv.endswith("--constraint constraints.txt uv")
    assert re.fullmatch("uv pip install .*--torch-backend auto .*--constraint constraints.txt torch", torch)
    assert package.endswith("--constraint constraints.txt --editable .")
    assert ("\nPyTorch's own builds could not be had" in done.stdout) == (code_of_uv != 0)


def test_mlproject_names_one_environment():
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    assert project["python_env"] == "python_env.yaml"
    assert "conda_env" not in project


def test_every_command_is_an_entry_point():
    from mlflow_project.__main__ import _COMMANDS

    assert set(ENTRY_POINTS) == {"main", *_COMMANDS}


@pytest.mark.parametrize("name", sorted(ENTRY_POINTS))
def test_each_parameter_is_a_flag_with_the_same_default(name):
    entry = ENTRY_POINTS[name]
    words = shlex.split(re.sub(r"{(\w+)}", r"<\1>", entry["command"]))
    assert words[:3] == ["python", "-m", "mlflow_project"]
    parser = argparse.ArgumentParser()
    importlib.import_module(module_of(words[3])).add_arguments(parser)
    parameters = entry.get("parameters", {})
    pairs = dict(zip(words[4::2], words[5::2], strict=True))
    assert pairs == {f"--{p}": f"<{p}>" for p in parameters}
    defaults = vars(parser.parse_args([]))
    assert {p: about["default"] for p, about in parameters.items()} == defaults
