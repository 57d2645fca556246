"""What does a grid cost beside its trainings, and how much of it is tracking?

Command   python benchmarks/grid.py [--size tiny|default|full] [--json FILE]
          python benchmarks/grid.py --store FOLDER --parent RUN_ID     # a grid that was run before
Duration  about two minutes on 2 cores at the default size; --store: seconds
Result    seconds of the whole grid against the sum of its runs; share of each part of a run: training, predictions,
          analysis, interpretation, model, logging, and what no clock covers; and, from a second grid in one process,
          the seconds of every call to the tracking store (goal: at most 2 % of the whole)

A real grid, started as users do (`python -m mlflow_project run`) with a store of its own in a scratch folder. --store
names the folder that a grid was started in: it holds outputs/RUN_ID, and mlflow.db where that was the store.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import ROOT, CaseError, Outcome, Row, run

GOAL = 0.02
GRIDS = {
    "tiny": ("tests/experiments/tiny-mill.yaml", ("--epochs", "1")),
    "default": ("experiments/default.yaml", ("--strategies", "cross-entropy,focal-2", "--seeds", "0,1")),
    "full": ("experiments/default.yaml", ()),
}
TRACKED = ("--strategies", "cross-entropy,curriculum", "--seeds", "0", "--jobs", "1")
"""What the grid with the clock on the store runs instead: two trials, in the process of the clock."""


@dataclass(frozen=True)
class Trial:
    """One run of a grid: seconds of its parts, and from its first to its last moment in the store (None: unknown)."""

    name: str
    parts: dict[str, float]
    wall: float | None


@dataclass(frozen=True)
class Grid:
    """A finished grid: its trials, the ``time.json`` of its parent run, and the seconds of the process that ran it."""

    trials: tuple[Trial, ...]
    parent: dict[str, float]
    process_seconds: float | None = None


def run_grid(size: str, folder: Path, tracked: bool = False) -> tuple[str, float]:
    """Run the grid of a size in ``folder``; returns the parent's id and the seconds of the process.

    With ``tracked`` two of its trials, with a clock on the store: ``tracked.json`` in ``folder``.

    Raises
    ------
    CaseError
        If it does not end with exit code 0.
    """
    experiment, changes = GRIDS[size]
    entry = [str(Path(__file__).with_name("_tracked.py")), "tracked.json"] if tracked else ["-m", "mlflow_project"]
    changes = (*changes, *TRACKED) if tracked else changes  # of a flag that is given twice the last one counts
    folder.mkdir()
    return start([*entry, "run", "--experiment", str(ROOT / experiment), *changes], folder)


def start(arguments: Sequence[str], folder: Path, root: Path = ROOT) -> tuple[str, float]:
    """Start Python with a grid's command line and the code under ``root``; store, work and files go to ``folder``.

    Returns the parent's id and the seconds of the process.

    Raises
    ------
    CaseError
        If it does not end with exit code 0.
    """
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_RUN_ID"}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "IMBALANCE_LAB_WORK": str(folder / "outputs"),
    }
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise CaseError(f"the grid ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    parents = sorted(path.parent.name for path in (folder / "outputs").glob("*/results"))
    if len(parents) != 1:
        raise CaseError(f"expected the results of one grid, found {len(parents)}")
    return parents[0], seconds


def read_grid(folder: Path, parent: str, process_seconds: float | None = None) -> Grid:
    """The results of a grid, and its runs where the store is ``mlflow.db`` in ``folder``.

    Raises
    ------
    CaseError
        If no result is there.
    """
    files = sorted((folder / "outputs" / parent / "results").glob("*.json"))
    if not files:
        raise CaseError(f"no results under outputs/{parent}/results")
    walls: dict[str, float] = {}
    clock: dict[str, float] = {}
    database = folder / "mlflow.db"
    if database.exists():
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        run_of = client.get_run(parent)
        with tempfile.TemporaryDirectory() as local:
            if any(item.path == "time.json" for item in client.list_artifacts(parent)):
                clock = json.loads(Path(client.download_artifacts(parent, "time.json", local)).read_text("utf-8"))
        children = client.search_runs(
            [run_of.info.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{parent}'", max_results=10_000
        )
        walls = {
            r.info.run_id: (r.info.end_time - r.info.start_time) / 1000 for r in children if r.info.end_time is not None
        }
    trials = []
    for file in files:
        result = json.loads(file.read_text(encoding="utf-8"))["kept"]
        parts = {"train": result["seconds"], **result["phases"]}
        trials.append(Trial(file.stem, parts, walls.get(result["run_id"])))
    return Grid(tuple(trials), clock, process_seconds)


def parts_of(grid: Grid) -> list[Row]:
    """Seconds and share of each part, summed over the trials; ``rest`` is what no clock of a trial covers."""
    names = list(dict.fromkeys(name for trial in grid.trials for name in trial.parts))
    total = {name: sum(trial.parts.get(name, 0.0) for trial in grid.trials) for name in names}
    walls = [trial.wall for trial in grid.trials]
    known = [w for w in walls if w is not None]
    if len(known) == len(walls):
        total["rest"] = max(0.0, sum(known) - sum(total.values()))
    whole = sum(total.values())
    return [
        {"part": name, "seconds": seconds, "seconds_per_trial": seconds / len(grid.trials), "share": seconds / whole}
        for name, seconds in total.items()
    ]


def summary_of(grid: Grid, parts: list[Row]) -> tuple[list[Row], dict[str, Any]]:
    """The clock of the whole grid, and the values that the document quotes."""
    trial_seconds = sum(row["seconds"] for row in parts)
    share = {row["part"]: row["share"] for row in parts}
    facts: dict[str, Any] = {
        "trials": len(grid.trials),
        "trial_seconds": trial_seconds,
        "training_share": share.get("train", 0.0),
        "log_share": share.get("log", 0.0),
        "goal_share": GOAL,
        "training_seconds_per_trial": next(row["seconds_per_trial"] for row in parts if row["part"] == "train"),
    }
    rows: list[Row] = [{"what": "sum of the trials", "seconds": trial_seconds}]
    named = {
        "training": "the trials until the last one is trained",
        "trials": "the trials, as run",
        "comparison": "the comparison",
        "total": "data, audit, trials and comparison",
    }
    rows += [{"what": about, "seconds": grid.parent[key]} for key, about in named.items() if key in grid.parent]
    if grid.process_seconds is not None:
        rows.append({"what": "the whole process", "seconds": grid.process_seconds})
    if "trials" in grid.parent:
        facts["grid_seconds"] = grid.parent["trials"]
        facts["grid_over_sum"] = grid.parent["trials"] / trial_seconds
        facts["grid_over_one"] = grid.parent["trials"] / (trial_seconds / len(grid.trials))
    if "total" in grid.parent:
        facts["around_trials_s"] = grid.parent["total"] - grid.parent.get("trials", 0.0)
    return [row | {"against_the_sum": row["seconds"] / trial_seconds} for row in rows], facts


def tracking_of(folder: Path, parent: str) -> tuple[list[Row], dict[str, Any]]:
    """What the clock on the store found, against the whole grid: data, audit, trials and comparison."""
    found = json.loads((folder / "tracked.json").read_text(encoding="utf-8"))
    grid = read_grid(folder, parent)
    whole = grid.parent["total"]
    facts = {
        "tracking_seconds": found["seconds"],
        "tracking_calls": found["calls"],
        "tracking_cpu_share": found["cpu_seconds"] / found["process_cpu_seconds"],
        "tracking_first_cpu_share": found["first_cpu_seconds"] / found["process_cpu_seconds"],
        "opening_seconds": found["opening"]["seconds"],
        "opening_cpu_share": found["opening"]["cpu_seconds"] / found["process_cpu_seconds"],
        "tracking_share": found["seconds"] / whole,
        "tracking_seconds_per_trial": found["seconds"] / len(grid.trials),
        "tracked_grid_seconds": whole,
        "goal_met": found["seconds"] / whole <= GOAL,
    }
    return found["by_call"][:6], facts


def measure(arguments: argparse.Namespace) -> Outcome:
    """Run a grid, then two of its trials with a clock on the store; or read a grid that was run before."""
    if arguments.parent:
        grid = read_grid(Path(arguments.store), arguments.parent)
        parts = parts_of(grid)
        clock, facts = summary_of(grid, parts)
        return Outcome({"parts": parts, "clock": clock}, facts)
    scratch = Path(tempfile.mkdtemp(prefix="imbalance-lab-grid-"))
    try:
        parent, seconds = run_grid(arguments.size, scratch / "grid")
        grid = read_grid(scratch / "grid", parent, seconds)
        parts = parts_of(grid)
        clock, facts = summary_of(grid, parts)
        parent, _ = run_grid(arguments.size, scratch / "tracked", tracked=True)
        calls, tracking = tracking_of(scratch / "tracked", parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    experiment, changes = GRIDS[arguments.size]
    facts |= tracking | {"grid": " ".join([experiment, *changes])}
    return Outcome({"parts": parts, "clock": clock, "calls": calls}, facts)


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", default=".", help="with --parent: the folder that the grid was started in")
    parser.add_argument("--parent", default="", help="id of the parent run of a grid that was run before")


def main(argv: list[str] | None = None) -> int:
    return run("grid", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
