"""Does the trainer compute on an accelerator what it computes on a CPU?

Command   python benchmarks/agreement.py [--size tiny|default|full] [--data RECORDINGS] [--device cuda] [--json FILE]
Duration  a minute; tiny: seconds
Result    for every strategy of experiments/gcode-motion.yaml the losses of each epoch on both devices, the largest
          relative difference, and the share of validation positions that lie in another cell of the confusion matrix

Float32 on both sides, the same initial weights. Random numbers differ from device to device, so nothing is drawn: no
dropout, no input noise, and the windows in their order instead of the strategy's sampler. What is left are the
network, the losses with their weights and states, the optimiser, and the way in which each device adds up.
With --device cpu both sides are the same, which checks this script.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Outcome, Row, run
from together import EXPERIMENT, trial_of
from torch import Tensor
from training import load, model_of

from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.metrics.counts import metric_by_name
from imbalance_lab.models.model_config import Denoising
from imbalance_lab.predictions import primary_head
from imbalance_lab.spec import load_experiment
from imbalance_lab.training.course import Epoch
from imbalance_lab.training.fit import Selection

EPOCHS = {"tiny": 2, "default": 3, "full": 6}
GOAL_LOSS, GOAL_POSITIONS = 0.01, 0.01


@dataclass(frozen=True)
class InOrder:
    """A sampler that draws nothing."""

    def draw(self, n: int, generator: torch.Generator, progress: float) -> Tensor:
        return torch.arange(n, device=generator.device)


def epochs_of(i: int, loaded: LoadedData, size: str, device: str) -> list[Epoch]:
    """The epochs of the i-th strategy without anything that is drawn."""
    quiet = Denoising(noise=0, frame_dropout=0)
    model = model_of(size).model_copy(update={"dropout": 0.0, "denoising": quiet})
    trial = trial_of(i, loaded, model, device, EPOCHS[size])
    phases = tuple(replace(phase, sampler=InOrder(), augment=None) for phase in trial.strategy.phases)
    config = trial.training.model_copy(update={"precision": "float32"})
    trial = replace(trial, strategy=replace(trial.strategy, phases=phases), training=config)
    head = primary_head(loaded.dataset.heads)
    return list(trial.train(Selection(head, metric_by_name("macro_f1"))))


def compared(strategy: str, a: list[Epoch], b: list[Epoch]) -> list[Row]:
    """A row per epoch: both losses, their relative difference, and the share of positions in another cell."""
    rows: list[Row] = []
    for x, y in zip(a, b, strict=True):
        moved = positions = 0
        for head, counts in x.confusion.items():
            p, q = np.asarray(counts), np.asarray(y.confusion[head])
            moved += int(np.abs(p - q).sum()) // 2  # each moved position leaves one cell and enters another
            positions += int(p.sum())
        rows.append(
            {
                "strategy": strategy,
                "epoch": x.number,
                "loss_cpu": x.loss,
                "loss_device": y.loss,
                "difference": abs(x.loss - y.loss) / abs(x.loss),
                "moved": moved / positions,
            }
        )
    return rows


def measure(arguments: argparse.Namespace) -> Outcome:
    """Every strategy on both devices."""
    size, device = arguments.size, arguments.device
    torch.set_flush_denormal(True)
    loaded = load(size, str(Path(arguments.data).resolve()) if arguments.data else "")
    rows: list[Row] = []
    for i, strategy in enumerate(load_experiment(EXPERIMENT).strategies):
        rows += compared(strategy, *(epochs_of(i, loaded, size, on) for on in ("cpu", device)))
    loss = max(row["difference"] for row in rows)
    share = max(row["moved"] for row in rows)
    facts: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "losses agree": {"goal": GOAL_LOSS, "value": loss, "met": loss <= GOAL_LOSS},
        "confusions agree": {"goal": GOAL_POSITIONS, "value": share, "met": share <= GOAL_POSITIONS},
    }
    return Outcome({"agreement": rows}, facts)


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="", help="folder or Parquet of real recordings instead of simulated ones")
    parser.add_argument("--device", default="cuda", help="what is compared with the CPU")


def main(argv: list[str] | None = None) -> int:
    return run("agreement", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
