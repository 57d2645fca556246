"""How do time and memory grow with positions, classes, channels and strategies?

Command   python benchmarks/curves.py [--size tiny|default|full] [--json FILE]
Duration  about two minutes on 2 cores at the default size (up to 10^6 positions); full: up to 10^8, four minutes and
          as much memory as there is (sizes that would not fit are left out and named)
Result    seconds, processor seconds and peak memory of a training step, of the error analysis of one run and of the
          comparison of several, one quantity varied at a time, each point in a process of its own on one thread; the
          slope of each curve in log-log coordinates, over the range that it was measured in

The tables of predictions are drawn at random, every position its own: harder than real ones, which come in segments.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import CaseError, Outcome, Row, Timing, available_gib, memory_mib, one_by_one, run, slope

TRAINING = {"steps_per_window": 64, "batch": 32, "classes": 4, "channels": 113}
ANALYSIS = {"positions": 100_000, "classes": 4, "recordings": 40}
COMPARISON = {"positions": 100_000, "classes": 4, "recordings": 40, "strategies": 2}
SEEDS = 2  # runs of each strategy in a comparison
_STEPS = 5  # of one training call
ENOUGH_S = 0.5  # a call that is shorter is repeated, for the median
REPEATS = 3

Curve = tuple[str, str, tuple[int, ...]]
CURVES: dict[str, tuple[Curve, ...]] = {
    "tiny": (("training step", "channels", (2, 4)), ("comparison", "positions", (300, 600))),
    "default": (
        ("training step", "steps_per_window", (16, 32, 64, 128, 256)),
        ("training step", "channels", (16, 64, 256, 1024)),
        ("training step", "classes", (4, 32, 256, 2048)),
        ("analysis", "positions", (10**4, 10**5, 10**6)),
        ("analysis", "classes", (4, 16, 64)),
        ("analysis", "recordings", (10, 40, 160)),
        ("comparison", "positions", (10**4, 10**5, 10**6)),
        ("comparison", "classes", (4, 16, 64)),
        ("comparison", "recordings", (10, 40, 160)),
        ("comparison", "strategies", (2, 4, 8, 16)),
    ),
}
FULL = {
    ("analysis", "positions"): (10**5, 10**6, 10**7, 10**8),
    ("comparison", "positions"): (10**5, 10**6, 10**7, 10**8),
    ("comparison", "strategies"): (2, 4, 8, 16, 32, 64),
}
CURVES["full"] = tuple((what, by, FULL.get((what, by), values)) for what, by, values in CURVES["default"])
BASES = {"training step": TRAINING, "analysis": ANALYSIS, "comparison": COMPARISON}
SMALL: dict[str, dict[str, int]] = {
    "training step": {"steps_per_window": 4, "batch": 4, "classes": 3, "channels": 2},
    "analysis": {"positions": 300, "classes": 3, "recordings": 5},
    "comparison": {"positions": 300, "classes": 3, "recordings": 5, "strategies": 2},
}
"""The tiny size, and what each process does first: imports and first calls are not what is measured."""


def prepare(what: str, **quantities: int) -> Callable[[], dict[str, Any]]:
    """Make the data; what is returned times one to three calls.

    It gives (seconds, processor seconds) per unit of work of each call, and the memory in MiB that
    the process held before it had any data.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    makers: dict[str, Callable[..., Callable[[], object]]]
    makers = {"training step": _training, "analysis": _analysis, "comparison": _comparison}
    make = makers[what]
    make(**SMALL[what])()
    empty, _ = memory_mib()
    call = make(**quantities)
    units = _STEPS if what == "training step" else 1
    return lambda: {"calls": _repeated(call, units), "empty_mib": empty}


def _repeated(call: Callable[[], object], units: int) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    while not found or (sum(wall for wall, _ in found) * units < ENOUGH_S and len(found) < REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        found.append(((time.perf_counter() - wall) / units, (time.process_time() - cpu) / units))
    return found


def _training(steps_per_window: int, batch: int, classes: int, channels: int) -> Callable[[], object]:
    """One epoch of five steps of the trainer on random windows."""
    from training import strategy_of

    from imbalance_lab.data.dataset import LoadedData, SequenceDataset, Splits
    from imbalance_lab.learners.network_learner import prepare_network
    from imbalance_lab.metrics.counts import metric_by_name
    from imbalance_lab.models.model_config import ModelConfig
    from imbalance_lab.training.fit import Selection, fit_steps
    from imbalance_lab.training.resident import make_resident
    from imbalance_lab.training.training_config import TrainingConfig

    rng = np.random.default_rng(0)
    n, t = _STEPS * batch + 1, steps_per_window
    index = np.arange(n, dtype=np.int64)
    names = tuple(f"c{i}" for i in range(channels))
    dataset = SequenceDataset(
        continuous=rng.standard_normal((n, t, channels), dtype=np.float32),
        categorical=np.zeros((n, t, 0), dtype=np.int64),
        targets={"command": rng.integers(0, classes, (n, t))},
        heads={"command": tuple(f"G{i}" for i in range(classes))},
        groups=index.astype(str),
        channels=names,
        channel_groups={f"frame {i}": names[i : i + 17] for i in range(0, channels, 17)},
        unit=index,
        unit_position=np.tile(np.arange(t, dtype=np.int64), (n, 1)),
        unit_length=np.full(n, t, dtype=np.int64),
    )
    loaded = LoadedData(dataset, Splits(index[:-1], index[-1:], index[-1:]))
    config = TrainingConfig(epochs=1, batch_size=batch, device="cpu", precision="float32", warmup=0)
    strategy = strategy_of(dataset, loaded.splits.train)
    trial = prepare_network(loaded, strategy, ModelConfig(hidden=128, attention_heads=4), config, seed=0)
    device = torch.device("cpu")
    train, val = (make_resident(trial.network, dataset, i, device) for i in (loaded.splits.train, loaded.splits.val))
    selection, weight = Selection("command", metric_by_name("accuracy")), trial.model.denoising.weight
    return lambda: list(
        fit_steps(trial.network, train, val, strategy, config, selection, seed=0, denoising_weight=weight)
    )


def _analysis(positions: int, classes: int, recordings: int) -> Callable[[], object]:
    from comparison import _tables

    from imbalance_lab.analysis.suite import run_suite

    (table,) = (record.test for record in _tables(positions, recordings, classes, 1, 1))
    return lambda: run_suite(table)


def _comparison(positions: int, classes: int, recordings: int, strategies: int) -> Callable[[], object]:
    from comparison import _tables

    from imbalance_lab.comparison import compare

    runs = list(_tables(positions, recordings, classes, strategies, SEEDS))
    return lambda: compare(runs, baseline="strategy-0", primary_head="command")


def measure(arguments: argparse.Namespace) -> Outcome:
    """Every curve, from its smallest value to its largest."""
    tiny = arguments.size == "tiny"
    rows: list[Row] = []
    gaps: list[str] = []
    with one_by_one(prepare, alone=not tiny) as timing_of:
        for what, by, values in CURVES[arguments.size]:
            base = SMALL[what] if tiny else BASES[what]
            points, missing = _curve(timing_of, what, by, values, base)
            rows += points
            gaps += missing
    slopes = [_slopes(what, by, points) for what, by, points in _curves_of(rows)]
    facts = {"batch": TRAINING["batch"], "seeds": SEEDS, "bases": {} if tiny else BASES}
    return Outcome({"points": rows, "slopes": slopes}, facts, tuple(gaps))


def _curve(
    timing_of: Callable[..., Timing], what: str, by: str, values: Sequence[int], base: dict[str, int]
) -> tuple[list[Row], list[str]]:
    """Points of one curve; it ends where the next point would not fit the memory, or failed."""
    points: list[Row] = []
    for value in values:
        title = f"{what.capitalize()} at {value:,} {by.replace('_', ' ')}"
        if points:
            last = points[-1]
            need = (last["data_mib"] + last["added_mib"]) * value / last["value"] / 1024
            if need > 0.85 * available_gib():
                return points, [f"{title}: it would need about {need:.0f} GiB, more than was free."]
        try:
            timing = timing_of(what=what, **base | {by: value})
        except CaseError as error:
            return points, [f"{title}: {error}."]
        points.append({"what": what, "against": by, "value": value} | _point(timing))
    return points, []


def _point(timing: Timing) -> Row:
    calls = timing.value["calls"]
    return {
        "seconds": median(wall for wall, _ in calls),
        "cpu_s": median(cpu for _, cpu in calls),
        "data_mib": max(0.0, timing.before - timing.value["empty_mib"]),
        "added_mib": max(0.0, timing.peak - timing.before),
        "peak_mib": timing.peak,
    }


def _curves_of(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    for what, by in dict.fromkeys((row["what"], row["against"]) for row in rows):
        yield what, by, [row for row in rows if (row["what"], row["against"]) == (what, by)]


def _slopes(what: str, by: str, points: Sequence[Row]) -> Row:
    """Slopes over the whole range, and of the seconds over its last two points, where overheads matter least."""
    x = [p["value"] for p in points]
    return {
        "what": what,
        "against": by,
        "from": x[0],
        "to": x[-1],
        "points": len(x),
        "seconds_slope": slope(x, [p["seconds"] for p in points]),
        "cpu_slope": slope(x, [p["cpu_s"] for p in points]),
        "last_seconds_slope": slope(x[-2:], [p["seconds"] for p in points[-2:]]),
        "memory_slope": slope(x, [p["added_mib"] for p in points]),
        "last_memory_slope": slope(x[-2:], [p["added_mib"] for p in points[-2:]]),
    }


def main(argv: list[str] | None = None) -> int:
    return run("curves", __doc__, measure, argv)


if __name__ == "__main__":
    sys.exit(main())
