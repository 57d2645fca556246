"""How long does it take until something happens?

Command   python benchmarks/startup.py [--size tiny|default|full] [--make-run] [--json FILE]
Duration  about half a minute at the default size; --make-run: some minutes and the network, because it installs
Result    seconds of `python -m mlflow_project --help` (goal: below 1 s) and of the imports, beside what an empty
          program, torch and MLflow cost alone; with --make-run the installation and `make run` in a fresh clone
          (goal after the installation: at most 60 s on two idle cores)
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import ROOT, CaseError, Outcome, in_turn, run, spread

GOAL_S = 1.0
MAKE_RUN_GOAL_S = 60.0
HELP = "python -m mlflow_project --help"
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    HELP: ("-m", "mlflow_project", "--help"),
    "python -m mlflow_project run --help": ("-m", "mlflow_project", "run", "--help"),
    "import imbalance_lab": ("-c", "import imbalance_lab"),
    "import imbalance_lab.spec": ("-c", "import imbalance_lab.spec"),
    "import imbalance_lab.training": ("-c", "import imbalance_lab.training"),
    "import imbalance_lab.training.fit": ("-c", "import imbalance_lab.training.fit"),
    "import torch (alone)": ("-c", "import torch"),
    "import mlflow (alone)": ("-c", "import mlflow"),
}
TINY = ("python -c pass", HELP, "import imbalance_lab")
REPEATS = {"tiny": 1, "default": 7, "full": 15}


def process_seconds(arguments: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of a whole Python process, started in ``folder``.

    Raises
    ------
    CaseError
        If it does not end with exit code 0.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    before = os.times()
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - begun
    after = os.times()
    if done.returncode:
        raise CaseError(f"python {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def cold_make_run(folder: Path) -> dict[str, float]:
    """Seconds of the installation and of ``make run`` after it, in a fresh clone of the last commit.

    Raises
    ------
    CaseError
        If a step fails.
    """
    clone = folder / "clone"
    python = getattr(sys, "_base_executable", sys.executable)  # a virtual environment cannot make one that outlives it
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "MLFLOW_TRACKING_URI")}
    steps: dict[str, list[str]] = {
        "clone": ["git", "clone", "--quiet", str(ROOT), str(clone)],
        "install": ["make", "-C", str(clone), ".venv/.installed", f"PYTHON={python}"],
        "make run": ["make", "-C", str(clone), "run", f"PYTHON={python}"],
    }
    seconds = {}
    for name, command in steps.items():
        begun = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CaseError(f"{name} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        seconds[name] = time.perf_counter() - begun
    return seconds


def measure(arguments: argparse.Namespace) -> Outcome:
    """Whole processes, in turn, from an empty folder; then, when asked for, the cold run."""
    names = TINY if arguments.size == "tiny" else tuple(COMMANDS)
    not_measured: list[str] = []
    facts: dict[str, Any] = {"goal_s": GOAL_S}
    folder = Path(tempfile.mkdtemp(prefix="imbalance-lab-startup-"))
    try:
        calls = {name: (lambda name=name: process_seconds(COMMANDS[name], folder)) for name in names}
        if arguments.size != "tiny":
            in_turn(calls, 1)  # byte code is written and files are read once before anything counts
        found = in_turn(calls, REPEATS[arguments.size])
        rows = []
        for name, pairs in found.items():
            wall = spread([w for w, _ in pairs])
            cpu = spread([c for _, c in pairs])["median"]
            rows.append(
                {"command": name, "seconds": wall["median"], "least": wall["min"], "most": wall["max"], "cpu_s": cpu}
            )
        tables = {"start": rows}
        facts["help_s"] = next(row["seconds"] for row in rows if row["command"] == HELP)
        facts["goal_met"] = facts["help_s"] < GOAL_S
        if arguments.make_run:
            seconds = cold_make_run(folder)
            tables["cold"] = [{"step": name, "seconds": value} for name, value in seconds.items()]
            facts["cold_s"] = sum(seconds.values())
            facts |= {"make_run_s": seconds["make run"], "make_run_goal_s": MAKE_RUN_GOAL_S}
            facts["make_run_goal_met"] = seconds["make run"] <= MAKE_RUN_GOAL_S
        else:
            not_measured.append("A cold `make run` was not measured in this run; `startup.py --make-run` does it.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(tables, facts, tuple(not_measured))


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--make-run", action="store_true", help="install and run in a fresh clone, too")


def main(argv: list[str] | None = None) -> int:
    return run("startup", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
