"""What does a training cost when many are trained on one device at once, and what does a step cost as a CUDA graph?

Command   python benchmarks/together.py [--size tiny|default|full] [--data RECORDINGS] [--device cpu|cuda] [--json FILE]
Duration  about two minutes on an idle core at the default size; on a GPU it ends within --seconds, seven minutes
Result    milliseconds of a step of one trial trained alone, of K trials at once, and of a plain PyTorch loop; on CUDA
          also of a step without a graph, and the goals: 36 trials at once in less than 3 times the time of one, a step
          as a graph at least 1.5 times as fast as without, the plain loop at least 2 times slower than one trial

Network, windows, batch size and strategies are those of experiments/gcode-motion.yaml, on simulated recordings unless
--data names real ones; the trials are its strategies in turn, with one seed after another. All cases run in turn,
A B C A B C ..., each in a process of its own; ratios are medians of the ratios within a round. Timed is what lies
between the moment in which all trials of a case have ended an epoch and the moment in which the first of them has
ended its last: the start, the capture of graphs and the last epochs are outside. Nobody validates (one window, to have
a score). The plain loop is that of training.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import ROOT, CaseError, Outcome, Row, Timing, fresh, run, spread
from training import load, model_of, plain_loop

from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.learners.network_learner import NetworkLearner, prepare_network
from imbalance_lab.metrics.counts import metric_by_name
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.predictions import primary_head
from imbalance_lab.spec import load_experiment
from imbalance_lab.strategies.bind import bind
from imbalance_lab.training.fit import Selection
from imbalance_lab.training.together import Done, Failed, Halved, Measured, Steps, Took, train_together
from imbalance_lab.training.training_config import TrainingConfig

EXPERIMENT = ROOT / "experiments" / "gcode-motion.yaml"
EPOCHS = 5
ROUNDS = {"tiny": 1, "default": 3, "full": 7}
STEPS = {"tiny": 2, "default": 20, "full": 40}  # of an epoch
AT_ONCE = {"tiny": (2,), "cpu": (2, 4), "cuda": (4, 12, 36)}
SECONDS = 420.0
ALONE, EAGER, PLAIN = "one trial", "one trial, no graph", "plain loop"


@dataclass(frozen=True)
class Goal:
    """The case ``slow`` takes less than ``factor`` times the case ``fast`` (``below``), or at least so much."""

    slow: str
    fast: str
    factor: float
    below: bool


GOALS = {
    "36 trials at once against one": Goal("36 trials", ALONE, 3.0, below=True),
    "a step without a graph against one with": Goal(EAGER, ALONE, 1.5, below=False),
    "the plain loop against one trial": Goal(PLAIN, ALONE, 2.0, below=False),
}
"""What is asked of one H100 or H200, for a step of all trials of a case."""


def name_of(k: int) -> str:
    return ALONE if k == 1 else f"{k} trials"


def cases_of(size: str, device: str) -> dict[str, dict[str, Any]]:
    """The cases by name, as keywords of :func:`prepare`."""
    cuda = device.startswith("cuda")
    at_once = AT_ONCE["tiny" if size == "tiny" else "cuda" if cuda else "cpu"]
    cases: dict[str, dict[str, Any]] = {ALONE: {"k": 1}}
    if cuda:
        cases[EAGER] = {"k": 1, "graphs": False}
    cases[PLAIN] = {"k": 0}
    return cases | {name_of(k): {"k": k} for k in at_once}


@cache  # once per process
def data_of(size: str, data: str) -> LoadedData:
    """The windows, as many for training as fill the steps of an epoch, and one for validation."""
    loaded = load(size, data)
    index = np.resize(loaded.splits.train, STEPS[size] * load_experiment(EXPERIMENT).training.batch_size)
    return LoadedData(loaded.dataset, type(loaded.splits)(index, loaded.splits.val[:1], loaded.splits.test))


def trial_of(i: int, loaded: LoadedData, model: ModelConfig, device: str, epochs: int = EPOCHS) -> NetworkLearner:
    """The i-th trial: the experiment's strategies in turn, one seed after another."""
    spec, dataset, train = load_experiment(EXPERIMENT), loaded.dataset, loaded.splits.train
    seed, strategy = divmod(i, len(spec.strategies))
    config = TrainingConfig.model_validate(
        {"epochs": epochs, "batch_size": spec.training.batch_size, "device": device, "patience": epochs}
    )
    bound = bind(
        list(spec.strategies.values())[strategy],
        heads=dataset.heads,
        targets={head: target[train] for head, target in dataset.targets.items()},
        primary=primary_head(dataset.heads),
        seed=seed,
    )
    return prepare_network(loaded, bound, model, config, seed)


def prepare(k: int, size: str, data: str, device: str, graphs: bool = True) -> Callable[[], Any]:
    """Load the data; what is returned trains and gives seconds per step of each trial, and MiB of the first."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data_of(size, data)
    if k == 0:
        return lambda: (_plain(size, data, device), None)
    starts = [partial(_steps, i, size, data, device, graphs) for i in range(k)]
    return lambda: _timed(starts, device, STEPS[size])


def _steps(i: int, size: str, data: str, device: str, graphs: bool) -> Steps:
    trial = trial_of(i, data_of(size, data), model_of(size), device)
    selection = Selection(primary_head(trial.loaded.dataset.heads), metric_by_name("accuracy"))
    return trial.steps(selection, graphs=graphs)


def _timed(starts: Sequence[Callable[[], Steps]], device: str, steps: int) -> tuple[float, float | None]:
    """Seconds per step of each trial while all are trained at once, and what the first took in MiB, where known."""
    seen: set[int] = set()
    begun = ended = 0.0
    epochs, mib = 0, None
    for event in train_together(starts, device):
        match event:
            case Took(trial):
                if len(seen) == len(starts):
                    epochs += 1
                seen.add(trial)
                if len(seen) == len(starts) and not begun:
                    begun = time.perf_counter()
            case Done():
                ended = ended or time.perf_counter()
                if not begun:
                    raise CaseError("the first trial had ended before the last one began: too little memory")
                break
            case Measured(at_once, size):
                mib = size / 2**20
                if at_once < len(starts):
                    raise CaseError(f"the memory of the device holds {at_once} trials at once")
            case Halved():
                raise CaseError("the memory of the device ran out")
            case Failed(_, error):
                raise CaseError(f"{type(error).__name__}: {error}")
    return (ended - begun) / (epochs / len(starts)) / steps, mib


def _plain(size: str, data: str, device: str) -> float:
    trial = trial_of(0, data_of(size, data), model_of(size), device)
    loaded, weight = trial.loaded, trial.model.denoising.weight
    epoch = partial(plain_loop, trial.network, loaded.dataset, loaded.splits.train, trial.training, weight)
    epoch()
    begun = time.perf_counter()
    for _ in range(EPOCHS - 2):
        epoch()  # reads a loss from the device in every step, so that nothing is left to wait for
    return (time.perf_counter() - begun) / (EPOCHS - 2) / STEPS[size]


def measure(arguments: argparse.Namespace) -> Outcome:
    """All cases in turn, as many rounds as the time allows, one at least."""
    size, device = arguments.size, arguments.device
    data = str(Path(arguments.data).resolve()) if arguments.data else ""
    found: dict[str, list[Timing]] = {}
    gaps: list[str] = []
    cases = cases_of(size, device)
    begun = time.perf_counter()
    for number in range(ROUNDS[size]):
        spent = time.perf_counter() - begun
        if number and spent * (number + 1) / number > arguments.seconds:
            gaps.append(f"{ROUNDS[size]} rounds were asked for; the time of {arguments.seconds:g} s held {number}.")
            break
        for name, case in tuple(cases.items()):
            try:
                timing = fresh(prepare, **case, size=size, data=data, device=device)
            except CaseError as error:
                gaps.append(f"{name}: {error}.")
                del cases[name]
                found.pop(name, None)
            else:
                found.setdefault(name, []).append(timing)
    rows = [_row(name, case["k"], found[name]) for name, case in cases.items()]
    ratios, facts = ratios_of({name: [t.value[0] for t in timings] for name, timings in found.items()})
    dataset = load(size, data).dataset
    facts |= {
        "data": "real recordings" if data else "simulated recordings",
        "window": dataset.continuous.shape[1],
        "channels": dataset.continuous.shape[2],
        "hidden": model_of(size).hidden,
        "steps_per_epoch": STEPS[size],
        "rounds": max((len(timings) for timings in found.values()), default=0),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }
    if not device.startswith("cuda"):
        gaps.append("CUDA: not measured, this run used the CPU.")
    return Outcome({"cases": rows, "ratios": ratios}, facts, tuple(gaps))


def _row(name: str, k: int, timings: Sequence[Timing]) -> Row:
    steps = spread([1000 * t.value[0] for t in timings])
    return {
        "case": name,
        "ms_per_step_of_all": steps["median"],
        "least": steps["min"],
        "most": steps["max"],
        "ms_per_trial_and_step": steps["median"] / max(k, 1),
        "trial_mib": timings[0].value[1],
    }


def ratios_of(seconds: dict[str, list[float]]) -> tuple[list[Row], dict[str, Any]]:
    """Each case against one trial, round by round; and the goals that can be judged, as facts."""
    rows: list[Row] = []
    for name, values in seconds.items():
        if name != ALONE and ALONE in seconds:
            ratio = spread([a / b for a, b in zip(values, seconds[ALONE], strict=False)])
            rows.append({"ratio": f"{name} against {ALONE}", **ratio})
    facts: dict[str, Any] = {}
    for about, g in GOALS.items():
        if g.slow in seconds and g.fast in seconds:
            value = median(a / b for a, b in zip(seconds[g.slow], seconds[g.fast], strict=False))
            met = value < g.factor if g.below else value >= g.factor
            facts[about] = {"goal": g.factor, "value": value, "met": met}
    return rows, facts


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="", help="folder or Parquet of real recordings instead of simulated ones")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="begin no round that would end after this time")


def main(argv: list[str] | None = None) -> int:
    return run("together", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
