"""Is the trainer fast, and is what is fastest on this machine its default?

Command   python benchmarks/training.py [--size tiny|default|full] [--data RECORDINGS] [--device cpu] [--json FILE]
Duration  about four minutes on 2 cores at the default size
Result    sequences per second of the trainer and of a plain PyTorch loop (DataLoader, WeightedRandomSampler, one
          .item() per step, clip_grad_norm_, AdamW), same network, data and number of steps, as ratios; then threads x
          processes, batch sizes, bfloat16 and denormal numbers one at a time

Network and windows are those of experiments/gcode-motion.yaml, on simulated recordings unless --data names real ones.
All cases run in turn, A B C A B C ..., in processes that stay alive; ratios are medians of the ratios within a round.
Neither side validates (one window, to have a score), and what is done once per training is not in the figures.
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
from _common import CaseError, Outcome, Row, Timing, Workers, cores, in_turn, run, spread
from numpy.typing import NDArray
from torch import Tensor, nn

from imbalance_lab.data.dataset import IGNORE, LoadedData, SequenceDataset
from imbalance_lab.data.source_options import RecordingsOptions
from imbalance_lab.engine import plan_for
from imbalance_lab.errors import InputError
from imbalance_lab.learners.network_learner import NetworkLearner, prepare_network
from imbalance_lab.load import load_data
from imbalance_lab.metrics.counts import metric_by_name
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.models.network import Network
from imbalance_lab.predictions import primary_head
from imbalance_lab.simulator.mill_options import SimulatedOptions
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.strategies.bind import bind
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.strategies.samplers.pools import rarest_class
from imbalance_lab.training.fit import Selection, fit_steps
from imbalance_lab.training.precision import check_precision
from imbalance_lab.training.resident import make_resident
from imbalance_lab.training.training_config import TrainingConfig

EXCLUDE = ("line", "pos*", "feed", "momo")
BATCH = 32
ROUNDS = {"tiny": 1, "default": 5, "full": 9}
DRAWN = {"tiny": 64, "default": 1280, "full": 2560}  # sequences of one case: an epoch, whose own costs it carries
WARM_UP = 2  # steps


@dataclass(frozen=True)
class Case:
    """One way to train: which loop, in how many processes at the same time, and how."""

    loop: str = "trainer"
    processes: int = 1
    threads: int = 1
    batch: int = BATCH
    precision: str = "float32"
    flush_denormal: bool = True

    def keywords(self, size: str, data: str, device: str) -> dict[str, Any]:
        """What :func:`prepare` takes."""
        own = {k: getattr(self, k) for k in ("loop", "threads", "batch", "precision", "flush_denormal")}
        return own | {"size": size, "data": data, "device": device}


PLAIN = "plain loop"
CORES = cores()
CASES = {
    "trainer": Case(),
    "plain loop": Case(PLAIN, flush_denormal=False),
    "trainer, a thread per core": Case(threads=CORES),
    "plain loop, a thread per core": Case(PLAIN, threads=CORES, flush_denormal=False),
    "trainer, a process per core": Case(processes=CORES),
    "plain loop, a process per core": Case(PLAIN, processes=CORES, flush_denormal=False),
    "trainer, denormals kept": Case(flush_denormal=False),
    "trainer, bfloat16": Case(precision="bfloat16"),
    "trainer, batch 16": Case(batch=16),
    "trainer, batch 64": Case(batch=64),
    "trainer, batch 128": Case(batch=128),
}
TINY = ("trainer", "plain loop", "trainer, a process per core")
RATIOS = (
    ("trainer against plain loop, one thread each", "trainer", "plain loop"),
    (
        "trainer against plain loop, all cores as each comes (processes against threads)",
        "trainer, a process per core",
        "plain loop, a thread per core",
    ),
    (
        "trainer against plain loop, a process per core each",
        "trainer, a process per core",
        "plain loop, a process per core",
    ),
    ("a process per core against a thread per core", "trainer, a process per core", "trainer, a thread per core"),
    ("a process per core against one process", "trainer, a process per core", "trainer"),
    ("denormals flushed against kept, in the first steps of a network", "trainer", "trainer, denormals kept"),
    ("bfloat16 against float32", "trainer, bfloat16", "trainer"),
    ("batch 16 against 32", "trainer, batch 16", "trainer"),
    ("batch 64 against 32", "trainer, batch 64", "trainer"),
    ("batch 128 against 32", "trainer, batch 128", "trainer"),
)


@cache  # once per process; every case reads the same data
def load(size: str, data: str) -> LoadedData:
    """The windows: simulated, or the recordings at ``data``."""
    window = {"length": 16, "stride": 16} if size == "tiny" else {"length": 64, "stride": 16}
    common: dict[str, Any] = {"task": "steps", "window": window, "exclude": EXCLUDE}
    if data:
        return load_data(RecordingsOptions(source="recordings", path=data, **common))
    small = {"n_recordings": 9, "rows_per_recording": 80, "n_frames": 1}
    mill = small if size == "tiny" else {"n_recordings": 36, "n_frames": 6}
    return load_data(SimulatedOptions(source="simulated", **mill, **common))


def model_of(size: str) -> ModelConfig:
    """The network of experiments/gcode-motion.yaml, or a very small one."""
    return ModelConfig(hidden=16, attention_heads=2) if size == "tiny" else ModelConfig(hidden=128, attention_heads=4)


def strategy_of(dataset: SequenceDataset, index: NDArray[np.int64]) -> BoundStrategy:
    """Rarest-class sampling over the windows at ``index``."""
    return bind(
        parse_strategy("rarest-class-sampling", {"sampler": "rarest-class"}, where="benchmark"),
        heads=dataset.heads,
        targets={head: target[index] for head, target in dataset.targets.items()},
        primary=primary_head(dataset.heads),
        seed=0,
    )


def prepare(
    loop: str, threads: int, batch: int, precision: str, flush_denormal: bool, size: str, data: str, device: str
) -> Callable[[], int]:
    """Build network and data and warm up; what is returned trains and gives the number of drawn sequences."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(flush_denormal)
    loaded = load(size, data)
    index = np.resize(loaded.splits.train, DRAWN[size])
    config = TrainingConfig.model_validate(
        {"epochs": 1, "batch_size": batch, "device": device, "precision": precision, "warmup": 0}
    )
    trial = prepare_network(loaded, strategy_of(loaded.dataset, index), model_of(size), config, seed=0)
    build = _plain if loop == PLAIN else _trainer
    build(trial, index[: WARM_UP * batch])()
    return build(trial, index)


def _plain(trial: NetworkLearner, index: NDArray[np.int64]) -> Callable[[], int]:
    return lambda: plain_loop(trial.network, trial.loaded.dataset, index, trial.training, trial.model.denoising.weight)


def _trainer(trial: NetworkLearner, index: NDArray[np.int64]) -> Callable[[], int]:
    dataset, device = trial.loaded.dataset, torch.device(trial.device)
    train = make_resident(trial.network, dataset, index, device)
    val = make_resident(trial.network, dataset, trial.loaded.splits.val[:1], device)
    selection = Selection(primary_head(dataset.heads), metric_by_name("accuracy"))
    strategy, weight = strategy_of(dataset, index), trial.model.denoising.weight

    def call() -> int:
        for _ in fit_steps(
            trial.network, train, val, strategy, trial.training, selection, seed=0, denoising_weight=weight
        ):
            pass
        return len(train)

    return call


class Windows(torch.utils.data.Dataset[tuple[Tensor, Tensor, dict[str, Tensor]]]):
    """One raw window at a time, as a data set is usually written."""

    def __init__(self, dataset: SequenceDataset, index: NDArray[np.int64]) -> None:
        self.continuous = torch.from_numpy(dataset.continuous[index])
        self.categorical = torch.from_numpy(dataset.categorical[index])
        self.targets = {head: torch.from_numpy(target[index]) for head, target in dataset.targets.items()}

    def __len__(self) -> int:
        return len(self.continuous)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return self.continuous[i], self.categorical[i], {head: target[i] for head, target in self.targets.items()}


def plain_loop(
    network: Network, dataset: SequenceDataset, index: NDArray[np.int64], config: TrainingConfig, denoising: float
) -> int:
    """One epoch of a training loop the way it is usually written; returns the number of drawn sequences."""
    device = next(network.parameters()).device
    head = primary_head(dataset.heads)
    counts = dataset.class_counts(head, index)
    weight = np.append(1.0 / np.maximum(counts, 1), 0.0)[rarest_class(dataset.targets[head][index], counts)]
    sampler = torch.utils.data.WeightedRandomSampler(weight.tolist(), len(index))
    loader = torch.utils.data.DataLoader(Windows(dataset, index), batch_size=config.batch_size, sampler=sampler)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")
    network.train()
    total, drawn = 0.0, 0
    for continuous, categorical, targets in loader:
        optimizer.zero_grad()
        with autocast:
            output = network.run(network.prepare(continuous.to(device), categorical.to(device)))
            loss = (
                denoising * output.reconstruction
                if output.reconstruction is not None
                else torch.zeros((), device=device)
            )
            for name, logits in output.logits.items():
                target = targets[name].to(device)
                loss = loss + nn.functional.cross_entropy(
                    logits.flatten(0, -2).float(), target.flatten(), ignore_index=IGNORE
                )
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
        total += loss.item()
        drawn += len(continuous)
    if not np.isfinite(total):
        raise CaseError("the loss of the plain loop is not finite")
    return drawn


def measure(arguments: argparse.Namespace) -> Outcome:
    """All cases in turn, in two processes that stay alive."""
    data = str(Path(arguments.data).resolve()) if arguments.data else ""
    names, left_out = _possible(TINY if arguments.size == "tiny" else tuple(CASES), arguments.device)
    with Workers(prepare, CORES) as workers:

        def call(case: Case) -> list[Timing]:
            keywords = case.keywords(arguments.size, data, arguments.device)
            return workers.time(*[keywords] * case.processes)

        calls = {name: (lambda case=CASES[name]: call(case)) for name in names}
        workers.time(*[Case().keywords(arguments.size, data, arguments.device)] * CORES)  # each loads its data
        found = in_turn(calls, ROUNDS[arguments.size])
    rates = {name: [sum(t.value / t.wall for t in timings) for timings in rounds] for name, rounds in found.items()}
    rows = [_row(name, CASES[name], rates[name], found[name]) for name in names]
    ratios: list[Row] = [
        {"ratio": about} | _ratio(rates[a], rates[b]) for about, a, b in RATIOS if a in rates and b in rates
    ]
    facts: dict[str, Any] = {r["ratio"]: r["median"] for r in ratios}
    dataset = load(arguments.size, data).dataset
    facts |= {
        "data": "real recordings" if data else "simulated recordings",
        "window": dataset.continuous.shape[1],
        "channels": dataset.continuous.shape[2],
        "hidden": model_of(arguments.size).hidden,
        "drawn_per_case": DRAWN[arguments.size],
        "rounds": ROUNDS[arguments.size],
        "device": arguments.device,
    }
    facts |= _default_is_fastest(rates)
    gaps = () if arguments.device.startswith("cuda") else ("CUDA: not measured, this run used the CPU.",)
    return Outcome({"cases": rows, "ratios": ratios}, facts, gaps + left_out)


def _possible(names: Sequence[str], device: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cases whose precision the device can compute, and a sentence about each of the others."""
    possible, left_out = [], []
    for name in names:
        try:
            check_precision(TrainingConfig.model_validate({"device": device, "precision": CASES[name].precision}))
        except InputError as error:
            left_out.append(f"{name}: not measured, {error}.")
        else:
            possible.append(name)
    return tuple(possible), tuple(left_out)


def _row(name: str, case: Case, rates: Sequence[float], rounds: Sequence[Sequence[Timing]]) -> Row:
    steps = rounds[0][0].value / case.batch
    cpu = median(sum(t.cpu for t in timings) / len(timings) for timings in rounds)
    found = spread(rates)
    return {
        "case": name,
        "processes": case.processes,
        "threads": case.threads,
        "batch": case.batch,
        "precision": case.precision,
        "sequences_per_s": found["median"],
        "least": found["min"],
        "most": found["max"],
        "ms_per_step": 1000 * median(median(t.wall for t in timings) for timings in rounds) / steps,
        "cpu_ms_per_step": 1000 * cpu / steps,
    }


def _ratio(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    return spread([x / y for x, y in zip(a, b, strict=True)])


def _default_is_fastest(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Which division of the cores trains most sequences per second, and whether the engine picks it."""
    ways = {
        "trainer": "1 x 1",
        "trainer, a thread per core": f"1 x {CORES}",
        "trainer, a process per core": f"{CORES} x 1",
    }
    measured = {ways[name]: median(values) for name, values in rates.items() if name in ways}
    plan = plan_for(None, 1000)
    return {
        "fastest_processes_x_threads": max(measured, key=lambda way: measured[way]),
        "default_processes_x_threads": f"{plan.jobs} x {plan.threads}",
    }


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="", help="folder or Parquet of real recordings instead of simulated ones")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def main(argv: list[str] | None = None) -> int:
    return run("training", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
