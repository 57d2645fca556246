"""What follows the training of a trial: seconds of a core for its parts, what its folder holds, and what MLflow keeps.

Command   python benchmarks/trial_end.py [--size tiny|default|full] [--json FILE]
Duration  about a minute on one core at the default size
Result    processor seconds of the end of each trial (predict, analyse, interpret, draw, write), with the figures that a
          trial draws and with all of its analysis, in turn in one process; files and MiB of the folder; files and MB
          that are stored once the trial is logged, its model included (goal: under 80 and 4), and the largest of them

One thread. A first trial is ended and not counted: it imports what the others find imported.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from _common import MIB, ROOT, Outcome, Row, run

from imbalance_lab.load import load_data
from imbalance_lab.run import trial as trials
from imbalance_lab.run.binding import set_threads
from imbalance_lab.run.trial_files import write_analysis
from imbalance_lab.spec import TrialId, load_experiment
from mlflow_project import schema, tracking

GOAL_S = 4.0
GOAL_MB, GOAL_FILES = 4.0, 80
FIGURES = ("of a trial", "all of the analysis")
SIZES = {  # experiment, epochs (None: its own), rounds
    "tiny": ("tests/experiments/tiny-mill.yaml", 2, 1),
    "default": ("experiments/default.yaml", None, 3),
    "full": ("experiments/default.yaml", None, 10),
}


def end(ready: trials.ReadyTrial, training: trials.Training, *, every: bool) -> Row:
    """End a trial once, its analysis with the figures of a trial or with all; processor seconds, and what it left."""
    begun = time.process_time()
    with patch.object(trials, "write_analysis", partial(_analysis, every)):
        outcome = trials.finish(ready, training)
    cpu = time.process_time() - begun
    files = [path for path in Path(outcome.result.folder).rglob("*") if path.is_file()]
    return {
        "figures": FIGURES[every],
        "cpu_s": cpu,
        "drawn": sum(path.suffix == ".png" for path in files),
        "files": len(files),
        "mib": sum(path.stat().st_size for path in files) / MIB,
    }


def _analysis(wanted: bool, *arguments: Any, **options: Any) -> str:
    return write_analysis(*arguments, **{**options, "every": wanted})


def stored(ready: trials.ReadyTrial, training: trials.Training, folder: Path) -> list[Row]:
    """End a trial and log it to a store in ``folder``; every file that is kept of it, the largest first."""
    uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts"
    with patch.dict(os.environ, {"MLFLOW_TRACKING_URI": uri}):
        tracking.make_sqlite(uri)
        tracking.MlflowClient(uri).create_experiment("trial_end", artifacts.as_uri())
        store = tracking.open_store("trial_end")
        tracking.connect(store)
        with tracking.run(store, ready.trial.id.name, {}) as logger:
            schema.log_start(logger, ready)
            schema.log_outcome(logger, ready, trials.finish(ready, training, logger.run_id))
    files = [(path.stat().st_size, path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()]
    return [
        {
            "of": "model" if path.parts[0] == "models" else "run",
            "file": "/".join(path.parts[path.parts.index("artifacts") + 1 :]),
            "kb": size / 1e3,
        }
        for size, path in sorted(files, reverse=True)
    ]


def measure(arguments: argparse.Namespace) -> Outcome:
    """Train one trial; end it again and again, both ways in turn."""
    experiment, epochs, rounds = SIZES[arguments.size]
    overrides = {"training.device": "cpu", **({} if epochs is None else {"training.epochs": epochs})}
    spec = load_experiment(ROOT / experiment, overrides)
    set_threads(1)
    data = load_data(spec.data, ROOT)
    with tempfile.TemporaryDirectory(prefix="imbalance-lab-trial-") as folder:
        trial = trials.Trial(TrialId(next(iter(spec.strategies)), spec.seeds[0]), spec.to_mapping(), folder)
        ready = trials.prepare(trial, data)
        begun = time.process_time()
        epochs_done = [epoch for epoch in ready.steps() if epoch is not None]
        trained = time.process_time() - begun
        training = trials.training_of(epochs_done, ready.main_head)
        first = end(ready, training, every=False)
        rows = [end(ready, training, every=every) for _ in range(rounds) for every in (True, False)]
        kept = stored(ready, training, Path(folder))
    table = []
    for name in FIGURES[::-1]:
        own = [row for row in rows if row["figures"] == name]
        table.append({**own[0], "cpu_s": median(row["cpu_s"] for row in own), "rounds": len(own)})
    ratios = [few["cpu_s"] / every["cpu_s"] for every, few in zip(rows[::2], rows[1::2], strict=True)]
    facts = {
        "experiment": experiment,
        "training_cpu_s": trained,
        "first_cpu_s": first["cpu_s"],
        "end_cpu_s": table[1]["cpu_s"],
        "ratio": median(ratios),
        "goal_s": GOAL_S,
        "goal_met": table[1]["cpu_s"] <= GOAL_S,
        "stored_files": len(kept),
        "stored_mb": sum(row["kb"] for row in kept) / 1e3,
        "stored_model_mb": sum(row["kb"] for row in kept if row["of"] == "model") / 1e3,
        "goal_files": GOAL_FILES,
        "goal_mb": GOAL_MB,
        "stored_goal_met": len(kept) < GOAL_FILES and sum(row["kb"] for row in kept) < GOAL_MB * 1e3,
        "load_at_end": os.getloadavg()[0],
    }
    return Outcome({"ends": table, "stored": kept[:10]}, facts)


def main(argv: list[str] | None = None) -> int:
    return run("trial_end", __doc__, measure, argv)


if __name__ == "__main__":
    sys.exit(main())
