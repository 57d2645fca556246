"""How long does a grid take against the same grid at an older commit?

Command   python benchmarks/against.py --commit COMMIT [--data RECORDINGS] [-P NAME=VALUE ...] [--rounds N]
                                       [--size tiny|default|full] [--json FILE]
Duration  default: one round of all 18 trials of gcode-motion at each commit, half an hour on 2 cores; full: three;
          tiny: one epoch of one trial, the commit HEAD
Result    wall and processor seconds of the whole process at both commits, of its trainings and of what follows them;
          ratios now to then, taken within each round (goal: at most 0.80)

Both run in this environment, the older code from a scratch folder, by turns: then and now, now and then. Without --data
the recordings are those of the simulated mill (see motion.py). -P takes flags of `run`, such as `-P epochs=3`, and
comes after those of the size. Both sides must know them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _common import ROOT, CaseError, Outcome, Row, run, spread
from grid import start
from motion import experiment_of

GOAL = 0.8
SIZES: dict[str, tuple[int, tuple[str, ...]]] = {
    "tiny": (1, ("strategies=cross-entropy", "seeds=0", "epochs=1", "jobs=1")),
    "default": (1, ()),
    "full": (3, ()),
}
MEASURED = ("seconds", "cpu_s", "training_s", "after_training_s")


def grid_seconds(root: Path, arguments: Sequence[str], folder: Path) -> Row:
    """Run a grid with the code under ``root``; its seconds, and those of its trials, summed."""
    folder.mkdir()
    before = os.times()
    parent, seconds = start(["-m", "mlflow_project", "run", *arguments], folder, root)
    after = os.times()
    files = [json.loads(file.read_text("utf-8")) for file in (folder / "outputs" / parent / "results").glob("*.json")]
    results = [content.get("kept", content) for content in files]  # an older commit wrote the result alone
    return {
        "seconds": seconds,
        "cpu_s": after.children_user + after.children_system - before.children_user - before.children_system,
        "training_s": sum(result["seconds"] for result in results),
        "after_training_s": sum(sum(result["phases"].values()) for result in results),
    }


def code_of(commit: str, folder: Path) -> Path:
    """The files of a commit, in ``folder``."""
    packed = folder.with_suffix(".tar")
    _git("archive", "--format=tar", f"--output={packed}", commit)
    shutil.unpack_archive(packed, folder, filter="data")
    return folder


def _git(*arguments: str) -> str:
    """What git prints.

    Raises
    ------
    CaseError
        If it fails: there is no such commit, or this is no clone.
    """
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CaseError(f"git {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()


def measure(arguments: argparse.Namespace) -> Outcome:
    """Both commits by turns, in rounds."""
    rounds, values = SIZES[arguments.size]
    rounds = arguments.rounds or rounds
    data = str(Path(arguments.data).resolve()) if arguments.data else ""
    commit = _git("rev-parse", "--short", arguments.commit or "HEAD")
    scratch = Path(tempfile.mkdtemp(prefix="imbalance-lab-against-"))
    rows: list[Row] = []
    try:
        trees = {"then": code_of(commit, scratch / "then"), "now": ROOT}
        flags = [f"--{value}" for value in (*values, *arguments.parameters, *([f"data={data}"] if data else []))]
        experiment = experiment_of(arguments.size, data, scratch)
        for number in range(rounds):
            order = ("then", "now") if number % 2 == 0 else ("now", "then")
            for of in order:
                folder = scratch / f"{of}-{number}"
                found = grid_seconds(trees[of], ["--experiment", str(experiment), *flags], folder)
                rows.append({"round": number + 1, "of": of, **found})
                shutil.rmtree(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    ratios: list[Row] = [{"of": name, **spread(_ratios(rows, name))} for name in MEASURED]
    facts = {
        "commit": commit,
        "data": "real recordings" if data else "simulated recordings",
        "parameters": " ".join([*values, *arguments.parameters]),
        "rounds": rounds,
        "ratio": ratios[0]["median"],
        "cpu_ratio": ratios[1]["median"],
        "goal": GOAL,
        "goal_met": ratios[0]["median"] <= GOAL,
    }
    return Outcome({"grids": rows, "ratios": ratios}, facts)


def _ratios(rows: Sequence[Row], name: str) -> list[float]:
    then, now = ({row["round"]: row[name] for row in rows if row["of"] == of} for of in ("then", "now"))
    return [now[number] / then[number] for number in then]


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commit", default="", help="the older commit (default: HEAD, which shows how much it varies)")
    parser.add_argument("--data", default="", help="folder or Parquet of real recordings instead of simulated ones")
    parser.add_argument(
        "-P", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="flag of `run`"
    )
    parser.add_argument("--rounds", type=int, default=0, help="instead of the size's own")


def main(argv: list[str] | None = None) -> int:
    return run("against", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
