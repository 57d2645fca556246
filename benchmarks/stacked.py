"""What does a trial cost when many of one shape are trained together?

Command   python benchmarks/stacked.py [--size tiny|default|full] [--data RECORDINGS] [--device cpu|cuda] [--json FILE]
Duration  about two minutes on an idle core at the default size
Result    time per trial and step of stacks of K trials and of one trial trained alone, one thread, and their ratios;
          the same for smaller networks; on CUDA also the goal: 36 trials stacked in less than 3 times the time of one
          trial alone (with cuDNN's LSTM)

Network, windows, batch size and strategies are those of experiments/gcode-motion.yaml, on simulated recordings unless
--data names real ones; the trials are its strategies in turn, with one seed after another. The smaller ones, which
show from which size on stacking does not pay on a CPU, are the perceptron of experiments/digits.yaml and recurrent
networks on fewer, shorter windows. All cases run in turn,
A B C A B C ..., in one process that stays alive; ratios are medians of the ratios within a round. Nobody validates
(one window, to have a score), and what is done once per training is not in the figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import ROOT, Outcome, Row, Timing, Workers, in_turn, run, spread
from training import EXCLUDE, load, model_of

from imbalance_lab.analysis.metrics import metric_by_name
from imbalance_lab.data.dataset import LoadedData, primary_head
from imbalance_lab.data.load import load_data
from imbalance_lab.data.options import SimulatedOptions
from imbalance_lab.models.config import ModelConfig
from imbalance_lab.models.stacked import StackedNetwork
from imbalance_lab.spec import load_experiment
from imbalance_lab.strategies.bind import bind
from imbalance_lab.training.config import TrainingConfig
from imbalance_lab.training.fit import Selection, autocast_for, fit
from imbalance_lab.training.resident import Resident, make_resident
from imbalance_lab.training.stacked.layout import ParameterLayout
from imbalance_lab.training.stacked.member import Member
from imbalance_lab.training.stacked.stack import Stack
from imbalance_lab.training.trial import PreparedTrial, prepare_trial

EXPERIMENT = ROOT / "experiments" / "gcode-motion.yaml"
ALONE = 0  # K of a trial that the one-by-one trainer trains
ROUNDS = {"tiny": 1, "default": 3, "full": 7}
STEPS = {"tiny": 2, "default": 10, "full": 40}
WARM_UP = 2  # steps
GOAL_TRIALS, GOAL_FACTOR = 36, 3.0


def sizes_of(size: str, device: str) -> tuple[int, ...]:
    """The K that are measured; large stacks are for accelerators."""
    if size == "tiny":
        return (ALONE, 1, 2)
    return (ALONE, 1, 4, 12, GOAL_TRIALS) if device.startswith("cuda") else (ALONE, 1, 2, 4)


@dataclass(frozen=True)
class Shape:
    """A network and its data: windows of ``steps`` with ``frames`` sensor frames, or digits where ``steps`` is 1."""

    steps: int
    frames: int
    hidden: int


MOTION = "gcode-motion"
SMALLER = {
    "digits": Shape(1, 0, 64),
    "hidden 32, 16 steps": Shape(16, 1, 32),
    "hidden 64, 32 steps": Shape(32, 2, 64),
    "hidden 64, 64 steps": Shape(64, 2, 64),
}
SMALLER_K = (ALONE, 4, 12)


@cache  # once per process
def data_of(shape: str, size: str, data: str) -> tuple[LoadedData, ModelConfig]:
    """The data and the network of a shape."""
    if shape == MOTION:
        return load(size, data), model_of(size)
    s = SMALLER[shape]
    model = ModelConfig(hidden=s.hidden, attention_heads=4)
    if s.steps == 1:
        return load_data(load_experiment(ROOT / "experiments" / "digits.yaml").data), model
    window = {"length": s.steps, "stride": 16}
    mill: dict[str, Any] = {"n_recordings": 12, "rows_per_recording": 120, "n_frames": s.frames}
    return load_data(SimulatedOptions(source="simulated", task="steps", window=window, exclude=EXCLUDE, **mill)), model


def trials_of(loaded: LoadedData, model: ModelConfig, device: str, k: int) -> list[PreparedTrial]:
    """k trials: the experiment's strategies in turn, one seed after another."""
    spec = load_experiment(EXPERIMENT)
    names = list(spec.strategies)
    config = TrainingConfig.model_validate(
        {"epochs": 2, "batch_size": spec.training.batch_size, "device": device, "patience": 2}
    )
    dataset, train = loaded.dataset, loaded.splits.train
    targets = {head: target[train] for head, target in dataset.targets.items()}
    primary = primary_head(dataset.heads)
    return [
        prepare_trial(
            loaded,
            bind(
                spec.strategies[names[i % len(names)]],
                heads=dataset.heads,
                targets=targets,
                primary=primary,
                seed=i // len(names),
            ),
            model,
            config,
            i // len(names),
        )
        for i in range(k)
    ]


def prepare(k: int, shape: str, size: str, data: str, device: str) -> Callable[[], int]:
    """Build k trials and warm up; what is returned trains one epoch and gives its steps."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    batch = load_experiment(EXPERIMENT).training.batch_size
    loaded, model = data_of(shape, size, data)

    def resized(steps: int) -> LoadedData:
        """The data with as many training windows as fill the steps; each sampler knows them."""
        index = np.resize(loaded.splits.train, steps * batch)
        return LoadedData(loaded.dataset, type(loaded.splits)(index, loaded.splits.val[:1], loaded.splits.test))

    _epoch_of(trials_of(resized(WARM_UP), model, device, max(k, 1)), k)()
    return _epoch_of(trials_of(resized(STEPS[size]), model, device, max(k, 1)), k)


def _epoch_of(trials: Sequence[PreparedTrial], k: int) -> Callable[[], int]:
    first, device = trials[0], torch.device(trials[0].device)
    loaded = first.loaded
    selection = Selection(primary_head(loaded.dataset.heads), metric_by_name("accuracy"))
    train, val = (
        make_resident(first.network, loaded.dataset, i, device) for i in (loaded.splits.train, loaded.splits.val)
    )
    steps = -(-len(train) // first.training.batch_size)
    if k == ALONE:
        return lambda: _alone(first, train, val, selection, steps)
    layout = ParameterLayout.of(first.network)
    members = [Member(i, trial, layout, selection, None, "") for i, trial in enumerate(trials)]
    stack = Stack(StackedNetwork(first.network), members, autocast_for(first.training, device))

    def together() -> int:
        for member in members:
            member.enter()
        stack.train_epoch(train)
        stack.confusions(val)
        return steps

    return together


def _alone(trial: PreparedTrial, train: Resident, val: Resident, selection: Selection, steps: int) -> int:
    weight = trial.model.denoising.weight
    course = fit(
        trial.network, train, val, trial.strategy, trial.training, selection, seed=trial.seed, denoising_weight=weight
    )
    next(course)
    return steps


def measure(arguments: argparse.Namespace) -> Outcome:
    """All sizes of stacks in turn."""
    size, device = arguments.size, arguments.device
    data = str(Path(arguments.data).resolve()) if arguments.data else ""
    cases = [(MOTION, k) for k in sizes_of(size, device)]
    if size != "tiny":
        cases += [(shape, k) for shape in SMALLER for k in SMALLER_K]
    with Workers(prepare) as workers:

        def call(shape: str, k: int) -> Timing:
            return workers.time({"shape": shape, "k": k, "size": size, "data": data, "device": device})[0]

        calls = {f"{shape}/{k}": (lambda shape=shape, k=k: call(shape, k)) for shape, k in cases}
        results = in_turn(calls, ROUNDS[size])
    timings = dict(zip(cases, results.values(), strict=True))
    rows = [_row(k, timings[shape, k], timings[shape, ALONE]) for shape, k in cases if shape == MOTION]
    smaller = [
        {"network": shape, "parameters_x_positions": _work(shape, size, data)}
        | _row(k, timings[shape, k], timings[shape, ALONE])
        for shape, k in cases
        if shape != MOTION
    ]
    found = {k: timings[shape, k] for shape, k in cases if shape == MOTION}
    dataset = data_of(MOTION, size, data)[0].dataset
    tables = {"stacks": rows} | ({"smaller networks": smaller} if smaller else {})
    facts: dict[str, Any] = {
        "data": "real recordings" if data else "simulated recordings",
        "window": dataset.continuous.shape[1],
        "channels": dataset.continuous.shape[2],
        "hidden": model_of(size).hidden,
        "steps_per_case": STEPS[size],
        "rounds": ROUNDS[size],
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "fastest": min(rows, key=lambda row: row["ms_per_trial_and_step"])["trained"],
    }
    if GOAL_TRIALS not in found:
        return Outcome(tables, facts, (_NOT_MEASURED,))
    factor = median(a.wall / b.wall for a, b in zip(found[GOAL_TRIALS], found[ALONE], strict=True))
    facts |= {"trials_stacked_against_one_alone": factor, "goal": GOAL_FACTOR, "goal_met": factor < GOAL_FACTOR}
    return Outcome(tables, facts)


_NOT_MEASURED = (
    f"CUDA: not measured, this run used the CPU; whether {GOAL_TRIALS} stacked trials take less than "
    f"{GOAL_FACTOR:g} times as long as one alone is open."
)


def _work(shape: str, size: str, data: str) -> int:
    """Parameters times positions of a batch: how much work a step is."""
    trial = trials_of(*data_of(shape, size, data), "cpu", 1)[0]
    positions = trial.training.batch_size * trial.blueprint.layout.steps
    return positions * sum(p.numel() for p in trial.network.parameters())


def _row(k: int, timings: Sequence[Timing], alone: Sequence[Timing]) -> Row:
    """Time per trial and step; ratios are those of a trial in the stack to one trained alone."""
    trials = max(k, 1)
    wall = spread([1000 * t.wall / t.value / trials for t in timings])
    return {
        "trained": "alone" if k == ALONE else f"stack of {k}",
        "ms_per_trial_and_step": wall["median"],
        "least": wall["min"],
        "most": wall["max"],
        "cpu_ms_per_trial_and_step": median(1000 * t.cpu / t.value / trials for t in timings),
        "ratio": median(t.wall / trials / a.wall for t, a in zip(timings, alone, strict=True)),
        "cpu_ratio": median(t.cpu / trials / a.cpu for t, a in zip(timings, alone, strict=True)),
    }


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="", help="folder or Parquet of real recordings instead of simulated ones")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def main(argv: list[str] | None = None) -> int:
    return run("stacked", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
