"""What follows the training of a trial: seconds of a core for its parts, and what its folder holds.

Command   python benchmarks/trial_end.py [--size tiny|default|full] [--json FILE]
Duration  about a minute on one core at the default size
Result    processor seconds of the end of each trial (predict, analyse, interpret, draw, write), with the figures that a
          trial draws and with all of its analysis, in turn in one process; files and MiB of the folder

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

GOAL_S = 4.0
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
        "load_at_end": os.getloadavg()[0],
    }
    return Outcome({"ends": table}, facts)


def main(argv: list[str] | None = None) -> int:
    return run("trial_end", __doc__, measure, argv)


if __name__ == "__main__":
    sys.exit(main())
