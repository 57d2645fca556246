"""The course of one training: its epochs so far, the epoch to keep, when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.errors import NonFiniteLossError
from imbalance_lab.metrics.counts import metric_by_name
from imbalance_lab.strategies.base import BoundStrategy, State
from imbalance_lab.training.checkpoint import load_checkpoint, save_checkpoint
from imbalance_lab.training.training_config import TrainingConfig

ConfusionMetric = Callable[[NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True)
class Epoch:
    """What happened in one epoch; all plain values.

    ``number`` counts from 1. ``confusion[head]`` is that of validation, (K, K) nested lists;
    ``seen[head]`` counts the scored training positions of each class that the sampler brought;
    ``score`` is the selection metric; ``best`` says that this epoch is the choice so far;
    ``stopped`` is the reason when training ended here before its last epoch. ``seconds`` is wall
    time; of an epoch that several trials trained together it is each one's equal share.
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
class EpochSummary:
    """What a pass over the training split tells: mean losses, classes seen, the last learning rate."""

    loss: float
    head_loss: dict[str, float]
    seen: dict[str, list[int]]
    learning_rate: float


@dataclass(frozen=True)
class Selection:
    """Which epoch to keep: the one with the largest ``metric`` of ``head`` on validation."""

    head: str
    metric: ConfusionMetric


def learning_rate_at(progress: float, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak; ``progress`` in [0, 1)."""
    if progress < config.warmup:
        return config.learning_rate * (0.04 + 0.96 * progress / config.warmup)
    rest = (progress - config.warmup) / (1.0 - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * rest)))


def non_finite(strategy: BoundStrategy, epoch: int, step: int, steps: int, rate: float) -> NonFiniteLossError:
    """The error of a training loss that became NaN or infinite; ``epoch`` and ``step`` count from 0."""
    return NonFiniteLossError(
        f"the training loss became non-finite in epoch {epoch + 1}, step {step + 1} of {steps} "
        f"(strategy {strategy.name}, learning rate {rate:.3g}): lower the learning rate or the weights"
    )


class Course:
    """Where one training stands; mutable, one per training.

    ``phases[e]`` is the phase of epoch e; ``done`` counts the epochs behind; ``best_weights`` are
    those of the best epoch of the last phase so far (earlier phases are a preparation: their epochs
    are never chosen), or None.
    """

    def __init__(
        self,
        strategy: BoundStrategy,
        config: TrainingConfig,
        selection: Selection,
        checkpoint: Path | None = None,
        fingerprint: str = "",
    ) -> None:
        self.config, self.selection = config, selection
        self.checkpoint, self.fingerprint = checkpoint, fingerprint
        self.phases = strategy.layout(config.epochs)
        self.history: list[dict[str, Any]] = []
        self.best_weights: Mapping[str, Tensor] | None = None
        self.best_score, self.since_best = -math.inf, 0

    @property
    def done(self) -> int:
        """Epochs that are behind."""
        return len(self.history)

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return self.done >= self.config.epochs or bool(self.history and self.history[-1]["stopped"])

    @property
    def begins_phase(self) -> bool:
        """Whether the next epoch is the first of a phase."""
        return self.done == 0 or self.phases[self.done] != self.phases[self.done - 1]

    def resume(self) -> dict[str, Any] | None:
        """Take up the checkpoint, if there is one, and return its content (network, optimizer, loss_state).

        Raises
        ------
        InputError
            If the file is not a checkpoint, or belongs to another trial.
        """
        saved = load_checkpoint(self.checkpoint, self.fingerprint) if self.checkpoint else None
        if saved:
            self.history = list(saved["epochs"])
            self.best_weights = saved["best_weights"]
            self.best_score, self.since_best = saved["best_score"], saved["since_best"]
        return saved

    def add(
        self,
        summary: EpochSummary,
        confusion: Mapping[str, NDArray[np.int64]],
        seconds: float,
        steps: int,
        weights: Callable[[], Mapping[str, Tensor]],
    ) -> Epoch:
        """Judge the epoch that has just been trained; ``weights`` is asked for a copy where it is the best so far."""
        e, last_phase = self.done, self.phases[-1]
        score = float(self.selection.metric(confusion[self.selection.head]))
        candidate = self.phases[e] == last_phase
        best = candidate and (score > self.best_score or self.best_score == -math.inf)
        if best:
            self.best_score, self.since_best, self.best_weights = score, 0, weights()
        elif candidate:
            self.since_best += 1
        patience = self.config.patience
        stops = self.since_best >= patience and e + 1 < self.config.epochs
        epoch = Epoch(
            number=e + 1,
            phase=self.phases[e],
            loss=summary.loss,
            head_loss=summary.head_loss,
            score=score,
            best=best,
            seconds=seconds,
            steps=steps,
            learning_rate=summary.learning_rate,
            confusion={h: c.tolist() for h, c in confusion.items()},
            seen=summary.seen,
            stopped=f"no better {self.selection.head} score for {patience} epochs" if stops else "",
        )
        self.history.append(asdict(epoch))
        return epoch

    def save(
        self,
        network: Mapping[str, Tensor],
        optimizer: Mapping[str, Any],
        loss_state: Mapping[str, State],
        initial: Mapping[str, Tensor],
    ) -> None:
        """Write the checkpoint, where one is wanted; ``initial`` stands in while there are no best weights."""
        if self.checkpoint:
            save_checkpoint(
                self.checkpoint,
                {
                    "fingerprint": self.fingerprint,
                    "epochs": self.history,
                    "network": network,
                    "optimizer": optimizer,
                    "loss_state": loss_state,
                    "best_weights": initial if self.best_weights is None else self.best_weights,
                    "best_score": self.best_score,
                    "since_best": self.since_best,
                },
            )


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detached copy of every tensor."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def moved(state: Mapping[str, Tensor], device: torch.device) -> State:
    """Every tensor on ``device``."""
    return {name: tensor.to(device) for name, tensor in state.items()}


def selection_of(metric: str, heads: Mapping[str, tuple[str, ...]], primary: str) -> Selection:
    """``head/metric`` of a spec to a :class:`Selection`; ``auto`` is the primary head."""
    head, _, name = metric.rpartition("/")
    return Selection(primary if head == "auto" else head, metric_by_name(name))
