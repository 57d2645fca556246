"""The training loop: a generator that yields what happened in each epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.models.network import Network
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.training.course import (
    Course,
    Epoch,
    EpochSummary,
    Selection,
    copied,
    learning_rate_at,
    non_finite,
)
from imbalance_lab.training.feature_phase import FeatureBank, check_resampling, make_bank
from imbalance_lab.training.graph import Launcher
from imbalance_lab.training.noise_stream import NoiseStream
from imbalance_lab.training.phases import reset_heads, seen_counts
from imbalance_lab.training.resident import Resident
from imbalance_lab.training.step import Step
from imbalance_lab.training.training_config import TrainingConfig
from imbalance_lab.training.validating import confusions

__all__ = ["Epoch", "Selection", "fit_steps", "learning_rate_at"]


def fit_steps(
    network: Network,
    train: Resident,
    val: Resident,
    strategy: BoundStrategy,
    config: TrainingConfig,
    selection: Selection,
    *,
    seed: int,
    denoising_weight: float = 0.0,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    graphs: bool = True,
) -> Iterator[Epoch | None]:
    """Train ``network`` in place, step by step, so that several trainings of one device can share a thread.

    Yields None after each step that was launched (on CUDA it is not computed yet, and nothing was read back), and
    while the device still works on the numbers of an epoch; then the :class:`Epoch`. Between two yields nothing
    of the process is changed: the default generators are as they were, the current stream too. All work goes to the
    stream that is current at the first ``next``, or to a new one where that is CUDA's default stream.

    When the generator ends, the network holds the weights of the best epoch of the last phase
    (earlier phases are a preparation: their epochs are never chosen). With ``checkpoint`` the state
    is saved after every epoch, and a later call with the same ``fingerprint`` yields the epochs that
    were done again (from the file, without training) and goes on; on a CPU the result is
    bit-identical to an uninterrupted run.

    Parameters
    ----------
    graphs : whether steps are captured as CUDA graphs (no part of the result; off for measurements)

    Raises
    ------
    NonFiniteLossError
        If a training loss is NaN or infinite; names epoch and step.
    InputError
        If the checkpoint belongs to another trial, or a phase resamples features in a way that cannot work.
    """
    check_resampling(strategy)
    trainer = _Trainer(network, train, val, strategy, config, seed, denoising_weight, graphs)
    course = Course(strategy, config, selection, checkpoint, fingerprint)
    initial = copied(network.state_dict())
    saved = course.resume()
    if saved:
        network.load_state_dict(saved["network"])
        trainer.enter(course.phases[course.done - 1], saved)
        for done in saved["epochs"]:
            yield Epoch(**done)
    while not course.ended:
        if course.begins_phase:
            trainer.enter(course.phases[course.done])
        begun = time.perf_counter()
        yield from trainer.epoch(course.done)
        summary, confusion = trainer.summary(course.done)
        seconds = time.perf_counter() - begun
        steps = trainer.steps
        epoch = course.add(summary, confusion, seconds, steps, lambda: copied(network.state_dict()))
        step = trainer.step
        course.save(network.state_dict(), step.optimizer.state_dict(), step.loss_state, initial)
        yield epoch
    network.load_state_dict(initial if course.best_weights is None else course.best_weights)


class _Trainer:
    """The state that changes from epoch to epoch; private to :func:`fit_steps`."""

    def __init__(
        self,
        network: Network,
        train: Resident,
        val: Resident,
        strategy: BoundStrategy,
        config: TrainingConfig,
        seed: int,
        denoising_weight: float,
        graphs: bool,
    ) -> None:
        self.network, self.train, self.val = network, train, val
        self.strategy, self.config, self.seed, self.denoising_weight = strategy, config, seed, denoising_weight
        self.graphs = graphs
        self.device = train.device
        self.steps = math.ceil(len(train) / config.batch_size)
        self.noise = NoiseStream(self.device)
        self.stream: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            current = torch.cuda.current_stream(self.device)
            own = current != torch.cuda.default_stream(self.device)
            self.stream = current if own else torch.cuda.Stream(self.device)
            self.stream.wait_stream(current)
        self.phase_number = 0
        self.bank: FeatureBank | None = None
        self.step: Step
        self.launch: Launcher

    def enter(self, phase_number: int, saved: Mapping[str, Any] | None = None) -> None:
        """Begin a phase (fresh optimiser and loss state, heads reset as it says), or go on in it from a checkpoint."""
        phase = self.strategy.phases[phase_number]
        self.phase_number, self.bank = phase_number, None
        if phase.reset_heads and saved is None:
            reset_heads(self.network, self.seed, phase_number)
        self.step = Step(self.network, self.train, phase, self.config, self.denoising_weight)
        if saved is not None:
            self.step.take(saved["loss_state"], saved["optimizer"])
        self.launch = Launcher(self.step, self.noise, self.stream, self.graphs)

    def epoch(self, e: int) -> Iterator[None]:
        """One pass of ``len(train)`` drawn sequences, then validation; yields after each launch."""
        config, step, phase = self.config, self.step, self.step.phase
        step.generator.manual_seed(derive_seed(self.seed, "sampler", e))
        self.noise.seed(derive_seed(self.seed, "noise", e))
        if phase.resample is not None and self.bank is None:
            # Made when first asked for, when a resumed network has its weights.
            self.bank = make_bank(self.network, self.train, self.strategy, self.phase_number, self.seed)
            if self.graphs and self.stream is not None:
                logging.getLogger(__name__).warning(
                    "phase %d of strategy %r trains on resampled features: its steps are launched kernel by kernel, "
                    "not as a CUDA graph",
                    self.phase_number + 1,
                    self.strategy.name,
                )
        # Frozen features are those of inference: no dropout, no input noise.
        self.network.train(not phase.freeze_encoder)
        progress = [(e + i / self.steps) / config.epochs for i in range(self.steps)]
        with self.launch.on_stream():
            order = phase.sampler.draw(len(self.train), step.generator, e / config.epochs)
            orders = self.bank.orders(step.generator) if self.bank is not None else {}
            step.begin(order, progress, [learning_rate_at(p, config) for p in progress])
        for number in range(self.steps):
            if self.bank is not None:
                with self.launch.on_stream(), self.noise():
                    step.launch_features(number, self.bank.batch(orders, number, self.steps))
            else:
                self.launch(number)
            yield None
        yield from self._read_back(order)

    def _read_back(self, order: Tensor) -> Iterator[None]:
        """All numbers of the epoch come to the host in one copy; others may launch work until it is there."""
        with self.launch.on_stream():
            counted = {} if self.bank is not None else seen_counts(self.network, self.train, order)
            found = confusions(self.network, self.val)
            step = self.step
            parts = [step.bad, step.total, *step.head_total.values(), *counted.values(), *found.values()]
            packed = torch.cat([part.reshape(-1).double() for part in parts])  # counts stay exact up to 2^53
            if self.stream is None:
                numbers = packed
            else:
                numbers = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
                numbers.copy_(packed, non_blocking=True)
                there = torch.cuda.Event()
                there.record(self.stream)
        if self.stream is not None:
            while not there.query():
                yield None
        values = iter(numbers.split([part.numel() for part in parts]))
        self._bad, self._total = int(next(values)), float(next(values))
        self._head_total = {head: float(next(values)) for head in step.head_total}
        self._seen = {head: next(values).long().tolist() for head in counted}
        self._confusion = {head: next(values).long().numpy().reshape(c.shape) for head, c in found.items()}

    def summary(self, e: int) -> tuple[EpochSummary, dict[str, NDArray[np.int64]]]:
        """What the epoch that has just been trained tells, and the confusion counts of validation.

        Raises
        ------
        NonFiniteLossError
            If a loss of the epoch was not finite.
        """
        rates = self.step.host_rates
        if self._bad < self.steps:
            raise non_finite(self.strategy, e, self._bad, self.steps, rates[-1])
        summary = EpochSummary(
            loss=self._total / self.steps,
            head_loss={h: v / self.steps for h, v in self._head_total.items()},
            seen=self._seen if self.bank is None else dict(self.bank.seen),
            learning_rate=rates[-1],
        )
        return summary, self._confusion
