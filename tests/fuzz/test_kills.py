"""A grid that is killed at random moments ends as one that nobody disturbed, however many its workers.

``make test`` kills :data:`FEW` times, ``make fuzz`` as often as ``FUZZ_KILLS`` says.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import stopping_cases as cases
import yaml

from imbalance_lab.predictions import read_parquet

pytestmark = [
    pytest.mark.filterwarnings("ignore:::mlflow"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]

FEW = 5
KILLS = int(os.environ.get("FUZZ_KILLS") or FEW)
SEED = int(os.environ.get("FUZZ_SEED") or 0)
_TIMED = ("second", "run_id", "time")  # what differs between any two grids


@dataclass(frozen=True)
class Whole:
    """An undisturbed grid: its experiment, what came out, and how long it took."""

    experiment: str
    store: Path
    outcome: dict[str, Any]
    seconds: float


def outcome(folder: Path) -> dict[str, Any]:
    """All that a finished grid says, without times and ids; whatever must not be is asserted on the way."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    client, found = cases.client_in(folder), {}
    runs = cases.runs_in(folder)
    ids = {run.info.run_id: name for name, run in runs.items()}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for name, run in runs.items():
        histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        for key, history in histories.items():
            steps = [point.step for point in history]
            assert len(steps) == len(set(steps)), (name, key, steps)
        metrics = {k: [(p.step, p.value) for p in h] for k, h in histories.items() if not _differs(k)}
        here = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, tracking_uri=f"sqlite:///{folder}/mlflow.db")
        files = {}
        for file in sorted(Path(here).rglob("*")):
            place = file.relative_to(here).as_posix()
            if file.suffix == ".parquet":
                heads = read_parquet(file).heads
                files[place] = {h: (p.true.tobytes(), p.probabilities.tobytes()) for h, p in heads.items()}
            elif file.name in ("audit.json", "verdict.json") or place.startswith("tables/"):
                files[place] = _without_times(json.loads(file.read_text(encoding="utf-8")), ids)
        found[name] = {"metrics": metrics, "files": files}
    return found


def _differs(name: object) -> bool:
    return isinstance(name, str) and any(word in name for word in _TIMED)


def _without_times(plain: Any, ids: dict[str, str]) -> Any:
    if isinstance(plain, dict):
        if isinstance(plain.get("columns"), list) and isinstance(plain.get("data"), list):
            kept = [i for i, name in enumerate(plain["columns"]) if not _differs(name)]
            plain = {"columns": plain["columns"], "data": [[row[i] for i in kept] for row in plain["data"]]}
        return {ids.get(k, k): _without_times(v, ids) for k, v in plain.items() if not _differs(k)}
    if isinstance(plain, list):
        return [_without_times(value, ids) for value in plain]
    return ids.get(plain, plain) if isinstance(plain, str) else plain


def finish(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out[-2000:] + err[-3000:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """One worker, and no number of threads in the environment."""
    folder = tmp_path_factory.mktemp("whole")
    plain = yaml.safe_load(cases.MILL.read_text(encoding="utf-8"))
    # The pages of a trial cost most of the time; its numbers, the audit and the comparison are all there without.
    plain |= {"seeds": [0, 1], "audit": {"budget": "quick", "on_fail": "warn"}, "analysis": {"trials": "light"}}
    plain["training"]["epochs"] = 3
    experiment = folder / "mill.yaml"
    experiment.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    store = cases.empty_store(folder)
    grid, begun = folder / "grid", time.monotonic()
    finish(cases.start(grid, "--experiment", str(experiment), "--jobs", "1", store=store, OMP_NUM_THREADS=None))
    seconds = time.monotonic() - begun
    return Whole(str(experiment), store, outcome(grid), seconds)


def test_figures_do_not_depend_on_the_number_of_workers(whole: Whole, tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    finish(cases.start(grid, "--experiment", whole.experiment, "--jobs", "4", store=whole.store, OMP_NUM_THREADS=None))
    found = outcome(grid)
    assert set(found) == set(whole.outcome)
    assert len(found) == 5
    _same(found, whole.outcome)


def _same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, run in expected.items():
        for kind in ("metrics", "files"):
            assert set(found[name][kind]) == set(run[kind]), (name, kind)
            for key, value in run[kind].items():
                assert found[name][kind][key] == value, (name, kind, key)


def test_a_grid_that_is_killed_at_random_ends_as_one_that_is_not(whole: Whole, tmp_path: Path) -> None:
    """Two workers; after each kill the grid goes on, and a grid that ended before its kill makes place for another."""
    rng, kills, number, moments = random.Random(SEED), 0, 0, list[float]()
    while kills < KILLS:
        grid, flags = tmp_path / f"grid-{number}", ("--experiment", whole.experiment)
        number += 1
        process = cases.start(grid, *flags, store=whole.store)
        while kills < KILLS:
            moment = rng.random() * whole.seconds
            try:
                process.wait(timeout=moment)
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills, moments = kills + 1, [*moments, moment]
            cases.wait_until_gone(process.pid)
            begun = any(run.data.tags.get("role") == "grid" for run in cases.runs_in(grid).values())
            process = cases.start(grid, *(("--resume", "last") if begun else ()), *flags)
        finish(process)
        try:
            _same(outcome(grid), whole.outcome)
        except AssertionError as error:
            error.add_note(f"FUZZ_SEED={SEED}; killed after {', '.join(f'{m:.2f} s' for m in moments)}")
            raise
