"""The training loop: a generator that yields what happened in each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.errors import NonFiniteLossError
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import Network
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import Augment, BoundStrategy, LossInputs, Phase, State
from imbalance_lab.training.checkpoint import load_checkpoint, save_checkpoint
from imbalance_lab.training.config import TrainingConfig
from imbalance_lab.training.evaluate import confusions
from imbalance_lab.training.feature_phase import FeatureBank, check_resampling, make_bank
from imbalance_lab.training.resident import Resident

ConfusionMetric = Callable[[NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True)
class Epoch:
    """What happened in one epoch; all plain values.

    ``number`` counts from 1. ``confusion[head]`` is that of validation, (K, K) nested lists;
    ``seen[head]`` counts the scored training positions of each class that the sampler brought;
    ``score`` is the selection metric; ``best`` says that this epoch is the choice so far;
    ``stopped`` is the reason when training ended here before its last epoch.
    """

    number: int
    phase: int
    loss: float
    score: float
    best: bool
    seconds: float
    steps: int
    learning_rate: float
    confusion: dict[str, list[list[int]]]
    seen: dict[str, list[int]]
    stopped: str = ""
    head_loss: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Which epoch to keep: the one with the largest ``metric`` of ``head`` on validation."""

    head: str
    metric: ConfusionMetric


def autocast_for(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """bfloat16 autocast where the configuration wants it, else one that does nothing."""
    wanted = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def learning_rate_at(progress: float, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak; ``progress`` in [0, 1)."""
    if progress < config.warmup:
        return config.learning_rate * (0.04 + 0.96 * progress / config.warmup)
    rest = (progress - config.warmup) / (1.0 - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * rest)))


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
    steps_per_epoch = math.ceil(len(train) / config.batch_size)
    phases = [strategy.phases.index(strategy.phase_at(e / config.epochs)) for e in range(config.epochs)]
    trainer = _Trainer(network, train, strategy, config, seed, denoising_weight, autocast, steps_per_epoch)
    best_weights = _copy(network.state_dict())
    best_score, since_best, start = -math.inf, 0, 0
    saved = load_checkpoint(checkpoint, fingerprint) if checkpoint else None
    if saved:
        start = len(saved["epochs"])
        trainer.enter(phases[start - 1], losses={h: _to(s, device) for h, s in saved["loss_state"].items()})
        network.load_state_dict(saved["network"])
        trainer.optimizer.load_state_dict(saved["optimizer"])
        best_weights, best_score, since_best = saved["best_weights"], saved["best_score"], saved["since_best"]
        for done in saved["epochs"]:
            yield Epoch(**done)
        if saved["epochs"][-1]["stopped"]:
            start = config.epochs
    history = list(saved["epochs"]) if saved else []
    for e in range(start, config.epochs):
        if e == 0 or phases[e] != phases[e - 1]:
            trainer.enter(phases[e])
        begun = time.perf_counter()
        summary = trainer.epoch(e)
        confusion = confusions(network, val, autocast)
        score = float(selection.metric(confusion[selection.head]))
        candidate = phases[e] == phases[-1]
        best = candidate and (score > best_score or best_score == -math.inf)
        if best:
            best_score, since_best, best_weights = score, 0, _copy(network.state_dict())
        elif candidate:
            since_best += 1
        done_early = since_best >= config.patience and e + 1 < config.epochs
        epoch = Epoch(
            number=e + 1,
            phase=phases[e],
            loss=summary.loss,
            head_loss=summary.head_loss,
            score=score,
            best=best,
            seconds=time.perf_counter() - begun,
            steps=steps_per_epoch,
            learning_rate=summary.learning_rate,
            confusion={h: c.tolist() for h, c in confusion.items()},
            seen=summary.seen,
            stopped=f"no better {selection.head} score for {config.patience} epochs" if done_early else "",
        )
        history.append(asdict(epoch))
        if checkpoint:
            save_checkpoint(
                checkpoint,
                {
                    "fingerprint": fingerprint,
                    "epochs": history,
                    "network": network.state_dict(),
                    "optimizer": trainer.optimizer.state_dict(),
                    "loss_state": trainer.loss_state,
                    "best_weights": best_weights,
                    "best_score": best_score,
                    "since_best": since_best,
                },
            )
        yield epoch
        if done_early:
            break
    network.load_state_dict(best_weights)


@dataclass(frozen=True)
class _EpochSummary:
    loss: float
    head_loss: dict[str, float]
    seen: dict[str, list[int]]
    learning_rate: float


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
        self.optimizer: torch.optim.AdamW

    def enter(self, phase_number: int, losses: dict[str, State] | None = None) -> None:
        """Begin a phase: fresh optimiser and loss state, heads reset and encoder frozen as it says."""
        self.phase_number, self.phase, self.bank = phase_number, self.strategy.phases[phase_number], None
        if self.phase.reset_heads and losses is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed(self.seed, "reset-heads", phase_number))
                for head in self.network.head_names:
                    self.network.classifier(head).reset_parameters()
        scale_only = self.phase.head_mode == "scale"
        for name, parameter in self.network.named_parameters():
            in_head = name.startswith("classifiers.")
            is_scale = name.endswith("class_scale")
            frozen = (self.phase.freeze_encoder and not in_head) or (is_scale != (scale_only and in_head) and in_head)
            parameter.requires_grad_(not frozen)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        fused = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=fused
        )
        start = losses if losses is not None else {}
        self.loss_state = {h: start.get(h, loss.init_state(self.device)) for h, loss in self.phase.losses.items()}

    def epoch(self, e: int) -> _EpochSummary:
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
            raise NonFiniteLossError(
                f"the training loss became non-finite in epoch {e + 1}, step {first_bad + 1} of {self.steps_per_epoch} "
                f"(strategy {self.strategy.name}, learning rate {rate:.3g}): lower the learning rate or the weights"
            )
        steps = self.steps_per_epoch
        return _EpochSummary(
            loss=float(total) / steps,
            head_loss={h: float(v) / steps for h, v in head_total.items()},
            seen=self._seen(order) if bank is None else dict(bank.seen),
            learning_rate=rate,
        )

    def _step(self, index: Tensor, progress: float, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets = self.train.batch(index)
        if self.phase.augment is not None:
            inputs, targets = self._mixed(self.phase.augment, inputs, targets, index, generator)
        with self.autocast:
            output = self.network.run(inputs)
            total = torch.zeros((), device=self.device)
            values: dict[str, Tensor] = {}
            for head, loss in self.phase.losses.items():
                logits, target = output.logits[head].float(), targets[head]
                arguments = LossInputs(logits, target, output.features.float(), progress)
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

    def _mixed(
        self, augment: Augment, inputs: Prepared, targets: dict[str, Tensor], index: Tensor, generator: torch.Generator
    ) -> tuple[Prepared, dict[str, Tensor]]:
        """Mixed inputs; each position takes its own label with the mixing weight's probability, else the partner's.

        Its expectation is mixup's w l(own) + (1 - w) l(partner), for any loss, at the cost of one.
        """
        partner, weight = augment.mix(index, generator)
        w = weight.view(-1, 1, 1)
        mixed = inputs._replace(values=w * inputs.values + (1 - w) * inputs.values[partner])
        drawn = {}
        for head, own in targets.items():
            other = own[partner]
            chance = torch.rand(own.shape, generator=generator, device=own.device)
            drawn[head] = torch.where(chance < augment.target_weight(head, own, other, weight), own, other)
        return mixed, drawn

    def _seen(self, order: Tensor) -> dict[str, list[int]]:
        seen = {}
        for head, target in self.train.targets.items():
            k = self.network.classifier(head).weight.shape[0]
            drawn = target[order]
            cell = torch.where(drawn != IGNORE, drawn, k).flatten()
            counts = torch.zeros(k + 1, dtype=torch.int64, device=self.device)
            counts.scatter_add_(0, cell, torch.ones_like(cell))
            seen[head] = counts[:-1].tolist()
        return seen


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _to(state: Mapping[str, Tensor], device: torch.device) -> State:
    return {name: tensor.to(device) for name, tensor in state.items()}
