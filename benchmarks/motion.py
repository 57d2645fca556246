"""Where does the time of the gcode-motion grid go, run as a user runs it?

Command   python benchmarks/motion.py [--size tiny|default|full] [--data RECORDINGS] [--device auto] [--json FILE]
Duration  that of the grid: 18 trials take 18 minutes on 2 cores; tiny: one trial of one epoch, half a minute
Result    seconds of the whole process, of the part until the last trial is trained, of all trials, and of the
          comparison; and what each part of a trial took, summed: training, predictions, analysis and its pages,
          interpretation, model, logging

`mlflow run . --env-manager local` with experiments/gcode-motion.yaml, its store in a scratch folder. Without --data the
recordings are those of the simulated mill, as many and as long as the real ones; a path of --data is not kept.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from _common import ROOT, Outcome, run
from grid import parts_of, read_grid, start, summary_of

EXPERIMENTS = {"tiny": "tests/experiments/tiny-mill.yaml"}
MOTION = "experiments/gcode-motion.yaml"
MILL = {"source": "simulated", "n_recordings": 108, "rows_per_recording": 560, "n_frames": 6}
"""As many recordings, rows and input channels as the recordings have."""


def experiment_of(size: str, data: str, folder: Path) -> Path:
    """The experiment file: the project's own, or in ``folder`` a copy of it on the simulated mill."""
    file = ROOT / EXPERIMENTS.get(size, MOTION)
    if data or size == "tiny":
        return file
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    kept = {key: value for key, value in content["data"].items() if key not in ("source", "path")}
    copy = folder / "gcode-motion-simulated.yaml"
    copy.write_text(yaml.safe_dump({**content, "name": copy.stem, "data": {**MILL, **kept}}), encoding="utf-8")
    return copy


def measure(arguments: argparse.Namespace) -> Outcome:
    """Run the grid and read its clocks."""
    from mlflow.tracking import MlflowClient

    data = str(Path(arguments.data).resolve()) if arguments.data else ""
    folder = Path(tempfile.mkdtemp(prefix="imbalance-lab-motion-"))
    try:
        experiment = experiment_of(arguments.size, data, folder)
        # A project runs in its own folder; the experiment that it finds says where its files go.
        client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        name = yaml.safe_load(experiment.read_text(encoding="utf-8"))["name"]
        client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
        values = {"experiment": str(experiment), "data": data, "device": arguments.device}
        values |= {"epochs": "1", "strategies": "cross-entropy"} if arguments.size == "tiny" else {}
        parameters = [part for key, value in values.items() if value for part in ("-P", f"{key}={value}")]
        parent, seconds = start(["-m", "mlflow", "run", str(ROOT), "--env-manager", "local", *parameters], folder)
        grid = read_grid(folder, parent, seconds)
        described = client.get_run(parent).data.tags.get("mlflow.note.content", "")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    parts = parts_of(grid)
    clock, facts = summary_of(grid, parts)
    facts |= {
        "data": "real recordings" if data else "simulated recordings",
        "experiment": EXPERIMENTS.get(arguments.size, MOTION),
        "device": arguments.device,
    }
    remarks: list[dict[str, Any]] = [
        {"remark": line[2:]} for line in described.splitlines() if line.startswith("- cuda")
    ]
    return Outcome({"clock": clock, "parts": parts} | ({"remarks": remarks} if remarks else {}), facts)


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="", help="folder or Parquet of real recordings instead of simulated ones")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def main(argv: list[str] | None = None) -> int:
    return run("motion", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
