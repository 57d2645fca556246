"""What a bound strategy offers the training loop. Nothing here computes anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from imbalance_lab.errors import InputError
from imbalance_lab.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


State = dict[str, "Tensor"]
"""Tensors that a loss carries from step to step (online counts); saved in checkpoints."""


@dataclass(frozen=True)
class LossInputs:
    """What a loss sees in one step, for one head.

    Attributes
    ----------
    logits : tensor of shape (B, L, K); the cosines of a cosine head
    target : int64 tensor of shape (B, L), ``IGNORE`` where the head does not apply
    features : tensor of shape (B, L, H), input of the head's last layer
    progress : float64 scalar on the device of the logits, fraction of the training that is done, in [0, 1)
    position_weight : tensor of shape (B, L), or None for ones
        Multiplies each position's loss; the normalisation stays the number of scored
        positions. Mixup calls the loss twice, with w and 1 - w.
    """

    logits: Tensor
    target: Tensor
    features: Tensor
    progress: Tensor
    position_weight: Tensor | None = None


class HeadLoss(Protocol):
    """A loss of one head: mean over the scored positions, a scalar; masked positions give zero gradient.

    Must not synchronise with the host: masks, never boolean indexing or ``.item()``.
    """

    def init_state(self, device: torch.device) -> State:
        """Start values of the carried tensors, and the constants (weights, priors) on the device."""
        ...

    def __call__(self, inputs: LossInputs, state: State) -> tuple[Tensor, State]:
        """The loss and the state after this step (a new dict; the given one is not changed)."""
        ...


class Sampler(Protocol):
    """Chooses training sequences; drawn once per epoch, so that "natural" is a permutation."""

    def draw(self, size: int, generator: torch.Generator, progress: float) -> Tensor:
        """``size`` indices into the training split (0 .. n_train - 1), int64, on the generator's device."""
        ...


class Augment(Protocol):
    """Mixes a batch (mixup, remix); the training loop calls it only where a phase has one."""

    def on(self, device: torch.device) -> Augment:
        """The same with whatever tensors it holds on ``device``; asked for once, when a phase begins."""
        ...

    def mix(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Partner index, int64 of shape (B,), and weight of the own input, float of shape (B,)."""
        ...

    def target_weight(self, head: str, own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
        """Weight of the own label per position, shape (B, L): the loss is w*l(own) + (1-w)*l(partner)."""
        ...


@dataclass(frozen=True)
class Phase:
    """A stretch of the training, ``start <= progress < stop``.

    ``freeze_encoder`` trains the heads alone; ``reset_heads`` starts them afresh when the
    phase begins; ``head_mode`` ``"scale"`` trains only a scale per class (LWS). ``resample``
    names a feature resampler (:func:`imbalance_lab.strategies.table_methods.resample_features`) that
    the heads' training features pass through once, when a frozen phase begins.
    """

    start: float
    stop: float
    losses: Mapping[str, HeadLoss]
    sampler: Sampler
    augment: Augment | None = None
    freeze_encoder: bool = False
    reset_heads: bool = False
    head_mode: Literal["full", "scale"] = "full"
    resample: str | None = None


@dataclass(frozen=True)
class BoundStrategy:
    """A strategy bound to one data set.

    Attributes
    ----------
    phases : contiguous, from 0 to 1
    head_kinds : ``"linear"`` or ``"cosine"`` per head
    head_scales : of each cosine head; its logits are plain cosines during training (its loss scales
        them), and its probabilities are softmax(scale * cosine)
    prior_correction : per head, the power of the class prior that training already corrects
        for (0 cross-entropy, 1 balanced): what the prior ledger adds up to
    posthoc : per head, the post-hoc steps to fit on validation, for example
        ``{"logit-adjust": {"tau": "auto"}}``
    notes : per-strategy facts worth logging (achievable token shares, classes left out, ...)
    """

    name: str
    phases: tuple[Phase, ...]
    head_kinds: Mapping[str, Literal["linear", "cosine"]]
    prior_correction: Mapping[str, float]
    posthoc: Mapping[str, Mapping[str, Mapping[str, object]]] = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)
    head_scales: Mapping[str, float] = field(default_factory=dict)

    def phase_at(self, progress: float) -> Phase:
        """The phase that covers ``progress`` in [0, 1]."""
        for phase in self.phases:
            if progress < phase.stop:
                return phase
        return self.phases[-1]

    def layout(self, epochs: int) -> list[int]:
        """Number of the phase of each epoch: the one that covers its begin, and every phase at least once.

        A phase that covers the begin of none takes an epoch from the phase that has most of them.

        Raises
        ------
        InputError
            If there are fewer epochs than phases.
        """
        n = len(self.phases)
        if epochs < n:
            raise InputError(
                f"strategy {self.name!r}: found {epochs} epoch(s); allowed: {n} or more, one for each phase"
            )
        counts = [0] * n
        for e in range(epochs):
            counts[self.phases.index(self.phase_at(e / epochs))] += 1
        while 0 in counts:
            counts[counts.index(max(counts))] -= 1
            counts[counts.index(0)] += 1
        return [phase for phase, held in enumerate(counts) for _ in range(held)]
