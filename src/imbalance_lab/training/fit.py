"""The training loop: a generator that yields what happened in each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from imbalance_lab.models.network import Network
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import Augment, BoundStrategy, LossInputs, Phase, State
from imbalance_lab.strategies.masking import working
from imbalance_lab.training.config import TrainingConfig
from imbalance_lab.training.course import (
    Course,
    Epoch,
    EpochSummary,
    Selection,
    copied,
    learning_rate_at,
    moved,
    non_finite,
)
from imbalance_lab.training.evaluate import confusions
from imbalance_lab.training.feature_phase import FeatureBank, check_resampling, make_bank
from imbalance_lab.training.phases import make_optimizer, mixed, reset_heads, seen_counts
from imbalance_lab.training.resident import Resident

__all__ = ["Epoch", "Selection", "autocast_for", "fit", "learning_rate_at"]


def autocast_for(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """bfloat16 autocast where the configuration wants it, else one that does nothing."""
    wanted = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def fit(
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
) -> Iterator[Epoch]:
    """Train ``network`` in place; yield one :class:`Epoch` after another.

    When the generator ends, the network holds the weights of the best epoch of the last phase
    (earlier phases are a preparation: their epochs are never chosen). With ``checkpoint`` the state
    is saved after every epoch, and a later call with the same ``fingerprint`` yields the epochs that
    were done again (from the file, without training) and goes on; on a CPU the result is
    bit-identical to an uninterrupted run.

    Raises
    ------
    NonFiniteLossError
        If a training loss is NaN or infinite; names epoch and step.
    InputError
        If the checkpoint belongs to another trial, or a phase resamples features in a way that cannot work.
    """
    check_resampling(strategy)
    device = train.inputs.values.device
    autocast = autocast_for(config, device)
    steps = math.ceil(len(train) / config.batch_size)
    course = Course(strategy, config, selection, checkpoint, fingerprint)
    trainer = _Trainer(network, train, strategy, config, seed, denoising_weight, autocast, steps)
    initial = copied(network.state_dict())
    saved = course.resume()
    if saved:
        trainer.enter(course.phases[course.done - 1], {h: moved(s, device) for h, s in saved["loss_state"].items()})
        network.load_state_dict(saved["network"])
        trainer.optimizer.load_state_dict(saved["optimizer"])
        for done in saved["epochs"]:
            yield Epoch(**done)
    while not course.ended:
        if course.begins_phase:
            trainer.enter(course.phases[course.done])
        begun = time.perf_counter()
        summary = trainer.epoch(course.done)
        confusion = confusions(network, val, autocast)
        seconds = time.perf_counter() - begun
        epoch = course.add(summary, confusion, seconds, steps, lambda: copied(network.state_dict()))
        course.save(network.state_dict(), trainer.optimizer.state_dict(), trainer.loss_state, initial)
        yield epoch
    network.load_state_dict(initial if course.best_weights is None else course.best_weights)


class _Trainer:
    """The state that changes from step to step; private to :func:`fit`."""

    def __init__(
        self,
        network: Network,
        train: Resident,
        strategy: BoundStrategy,
        config: TrainingConfig,
        seed: int,
        denoising_weight: float,
        autocast: torch.autocast,
        steps_per_epoch: int,
    ) -> None:
        self.network, self.train, self.strategy, self.config = network, train, strategy, config
        self.seed, self.denoising_weight, self.autocast = seed, denoising_weight, autocast
        self.steps_per_epoch = steps_per_epoch
        self.device = train.inputs.values.device
        self.loss_state: dict[str, State] = {}
        self.phase_number = 0
        self.phase: Phase = strategy.phases[0]
        self.bank: FeatureBank | None = None
        self.augment: Augment | None = None
        self.optimizer: torch.optim.AdamW

    def enter(self, phase_number: int, losses: dict[str, State] | None = None) -> None:
        """Begin a phase: fresh optimiser and loss state, heads reset and encoder frozen as it says."""
        self.phase_number, self.phase, self.bank = phase_number, self.strategy.phases[phase_number], None
        if self.phase.reset_heads and losses is None:
            reset_heads(self.network, self.seed, phase_number)
        augment = self.phase.augment
        self.augment = None if augment is None else augment.on(self.device)
        self.optimizer = make_optimizer(self.network, self.phase, self.config)
        start = losses if losses is not None else {}
        self.loss_state = {h: start.get(h, loss.init_state(self.device)) for h, loss in self.phase.losses.items()}

    def epoch(self, e: int) -> EpochSummary:
        """One pass of ``len(train)`` drawn sequences."""
        config, device, n = self.config, self.device, len(self.train)
        # Frozen features are those of inference: no dropout, no input noise.
        self.network.train(not self.phase.freeze_encoder)
        generator = torch.Generator(device=device).manual_seed(derive_seed(self.seed, "sampler", e))
        bank = self._bank()
        order = self.phase.sampler.draw(n, generator, e / config.epochs)
        orders = bank.orders(generator) if bank is not None else {}
        total = torch.zeros((), device=device)
        bad_step = torch.full((), self.steps_per_epoch, dtype=torch.int64, device=device)
        head_total = {head: torch.zeros((), device=device) for head in self.phase.losses}
        rate = config.learning_rate
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(derive_seed(self.seed, "noise", e))
            for step in range(self.steps_per_epoch):
                progress = (e + step / self.steps_per_epoch) / config.epochs
                rate = learning_rate_at(progress, config)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                if bank is not None:
                    loss, per_head = self._feature_step(bank.batch(orders, step, self.steps_per_epoch), progress)
                else:
                    index = order[step * config.batch_size : (step + 1) * config.batch_size]
                    loss, per_head = self._step(index, progress, generator)
                total += loss
                for head, value in per_head.items():
                    head_total[head] += value
                bad_step = torch.where(torch.isfinite(loss), bad_step, torch.clamp(bad_step, max=step))
        first_bad = int(bad_step)
        if first_bad < self.steps_per_epoch:
            raise non_finite(self.strategy, e, first_bad, self.steps_per_epoch, rate)
        steps = self.steps_per_epoch
        return EpochSummary(
            loss=float(total) / steps,
            head_loss={h: float(v) / steps for h, v in head_total.items()},
            seen=seen_counts(self.network, self.train, order) if bank is None else dict(bank.seen),
            learning_rate=rate,
        )

    def _step(self, index: Tensor, progress: float, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets = self.train.batch(index)
        if self.augment is not None:
            inputs, targets = mixed(self.augment, inputs, targets, index, generator)
        with self.autocast:
            output = self.network.run(inputs)
            total = torch.zeros((), device=self.device)
            values: dict[str, Tensor] = {}
            for head, loss in self.phase.losses.items():
                logits, target = working(output.logits[head]), targets[head]
                arguments = LossInputs(logits, target, working(output.features), progress)
                value, self.loss_state[head] = loss(arguments, self.loss_state[head])
                values[head] = value.detach()
                total = total + value
            if output.reconstruction is not None:
                total = total + self.denoising_weight * output.reconstruction
        self._update(total)
        return total.detach(), values

    def _feature_step(
        self, batch: dict[str, tuple[Tensor, Tensor]], progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of the classifiers alone, on rows of the feature bank."""
        total = torch.zeros((), device=self.device)
        values: dict[str, Tensor] = {}
        for head, (features, target) in batch.items():
            logits = self.network.classifier(head)(features)
            arguments = LossInputs(logits, target, features, progress)
            value, self.loss_state[head] = self.phase.losses[head](arguments, self.loss_state[head])
            values[head] = value.detach()
            total = total + value
        if batch:
            self._update(total)
        return total.detach(), values

    def _bank(self) -> FeatureBank | None:
        """The phase's resampled features; made when first asked for, when a resumed network has its weights."""
        if self.phase.resample is not None and self.bank is None:
            self.bank = make_bank(self.network, self.train, self.strategy, self.phase_number, self.seed, self.autocast)
        return self.bank

    def _update(self, total: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(
            [p for p in self.network.parameters() if p.requires_grad], self.config.gradient_clip, foreach=True
        )
        self.optimizer.step()
