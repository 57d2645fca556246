"""The frozen objects that one strategy of an experiment file becomes, and their way back to YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar, overload

from pydantic import BaseModel, Field, SerializeAsAny

from imbalance_lab.strategies.language import ledger, registry
from imbalance_lab.strategies.option_types import (
    AugmentOptions,
    HeadOptions,
    LossOptions,
    Options,
    PosthocOptions,
    SamplerOptions,
    ScheduleOptions,
    TableOptions,
    WeightOptions,
)

HEAD_SLOTS = ("weights", "loss", "head", "posthoc")
"""Slots that `heads: {command: {...}}` may override."""
PHASE_SLOTS = ("sampler", "weights", "loss", "augment")
"""Slots that a phase may override."""
PHASE_KEYS = ("for", *PHASE_SLOTS, "freeze_encoder", "reset_heads", "head_mode", "resample")
SLOTS = ("weights", "loss", "sampler", "schedule", "head", "augment", "posthoc", "table")
KEYS = (*SLOTS, "heads", "allow_double_correction", "tune")


Filling = TypeVar("Filling", bound=Options)


class Choice(BaseModel, Generic[Filling], frozen=True, extra="forbid"):
    """What fills a slot: a name of the registry and its options."""

    slot: str
    name: str
    options: SerializeAsAny[Filling]

    def to_value(self) -> Any:
        """The shortest YAML value that reads back as this choice."""
        given = self.options.model_dump(exclude_defaults=True)
        short = registry.lookup(self.slot, self.name, self.slot).shorthand
        if short is not None:
            return {self.name: given[short]}
        return {self.name: given} if given else self.name


class Tune(BaseModel, frozen=True, extra="forbid"):
    """How often to search for hyper-parameters on validation."""

    trials: int = Field(ge=1, le=10_000)


class HeadSpec(BaseModel, frozen=True, extra="forbid"):
    """Overrides of one head; None means "as the strategy says"."""

    weights: Choice[WeightOptions] | None = None
    loss: Choice[LossOptions] | None = None
    head: Choice[HeadOptions] | None = None
    posthoc: tuple[Choice[PosthocOptions], ...] | None = None


class PhaseSpec(BaseModel, frozen=True, extra="forbid"):
    """A stretch of the training, a fraction ``share`` of it, and the slots that it overrides."""

    share: float = Field(gt=0, le=1)
    sampler: Choice[SamplerOptions] | None = None
    weights: Choice[WeightOptions] | None = None
    loss: Choice[LossOptions] | None = None
    augment: Choice[AugmentOptions] | None = None
    freeze_encoder: bool = False
    reset_heads: bool = False
    head_mode: Literal["full", "scale"] = "full"
    resample: str | None = None

    def to_value(self) -> dict[str, Any]:
        """The YAML mapping of this phase."""
        out: dict[str, Any] = {"for": self.share}
        for key in PHASE_KEYS[1:]:
            value = getattr(self, key)
            if value != PhaseSpec.model_fields[key].default:
                out[key] = value.to_value() if isinstance(value, Choice) else value
        return out


class StrategySpec(BaseModel, frozen=True, extra="forbid"):
    """One strategy, every slot optional; an empty one is plain cross-entropy.

    ``phases`` is the schedule written out: one phase over the whole training where there is no
    schedule. ``schedule`` keeps the short form it came from, if any.
    """

    name: str
    weights: Choice[WeightOptions] | None = None
    loss: Choice[LossOptions] | None = None
    sampler: Choice[SamplerOptions] | None = None
    schedule: Choice[ScheduleOptions] | None = None
    phases: tuple[PhaseSpec, ...] = (PhaseSpec(share=1.0),)
    head: Choice[HeadOptions] | None = None
    augment: Choice[AugmentOptions] | None = None
    posthoc: tuple[Choice[PosthocOptions], ...] = ()
    table: Choice[TableOptions] | None = None
    heads: Mapping[str, HeadSpec] = Field(default_factory=dict)
    allow_double_correction: bool = False
    tune: Tune | None = None

    @overload
    def slot(self, slot: Literal["weights"], head: str | None, phase: PhaseSpec) -> Choice[WeightOptions] | None: ...

    @overload
    def slot(self, slot: Literal["loss"], head: str | None, phase: PhaseSpec) -> Choice[LossOptions] | None: ...

    def slot(self, slot: Literal["weights", "loss"], head: str | None, phase: PhaseSpec) -> Choice[Any] | None:
        """What fills ``slot`` for ``head`` in ``phase``: the head's own, else the phase's, else the strategy's."""
        own = self._own(head)
        return (own and getattr(own, slot)) or getattr(phase, slot) or getattr(self, slot)

    @property
    def least_epochs(self) -> int:
        """Epochs below which a part of the strategy would never begin: one for each phase.

        A sampler that moves in the course of the training moves from epoch to epoch.
        """
        samplers = [phase.sampler or self.sampler for phase in self.phases]
        moves = any(c is not None and c.options.moves for c in samplers)
        return max(len(self.phases), 2 if moves else 1)

    def head_posthoc(self, head: str | None) -> tuple[Choice[PosthocOptions], ...]:
        """Post-hoc steps of ``head``."""
        own = self._own(head)
        return self.posthoc if own is None or own.posthoc is None else own.posthoc

    def head_kind(self, head: str | None) -> Choice[HeadOptions] | None:
        """The classifier kind asked for, or None."""
        own = self._own(head)
        return (own and own.head) or self.head

    def _own(self, head: str | None) -> HeadSpec | None:
        return None if head is None else self.heads.get(head)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values that :func:`parse_strategy` reads back as an equal spec."""
        out: dict[str, Any] = {}
        for slot in SLOTS:
            value = getattr(self, slot)
            if isinstance(value, Choice):
                out[slot] = value.to_value()
        if self.schedule is None and self.phases != StrategySpec.model_fields["phases"].default:
            out["schedule"] = [p.to_value() for p in self.phases]
        if self.posthoc:
            out["posthoc"] = [c.to_value() for c in self.posthoc]
        if self.heads:
            out["heads"] = {name: _head_value(h) for name, h in self.heads.items()}
        if self.allow_double_correction:
            out["allow_double_correction"] = True
        if self.tune is not None:
            out["tune"] = {"trials": self.tune.trials}
        return out


def _head_value(head: HeadSpec) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for slot in ("weights", "loss", "head"):
        value = getattr(head, slot)
        if value is not None:
            out[slot] = value.to_value()
    if head.posthoc is not None:
        out["posthoc"] = [c.to_value() for c in head.posthoc]
    return out


PRIMARY = "command"
"""The head that samplers balance, as far as a spec alone can tell."""


def balances(sampler: Choice[SamplerOptions] | None, head: str | None, primary: str) -> bool:
    """Whether ``sampler`` balances ``head`` (None stands for the heads without a block of their own)."""
    aim = sampler.options.aim if sampler is not None else None
    return (aim or primary) == (head or primary)


def nominal_corrections(
    spec: StrategySpec, head: str | None, phase: PhaseSpec, primary: str = PRIMARY
) -> list[ledger.Correction]:
    """What the ledger can say of one head in one phase before it sees data.

    The sampler counts for the head that it balances; what it does to the other heads depends on the data.
    """
    weights, loss = spec.slot("weights", head, phase), spec.slot("loss", head, phase)
    sampler = phase.sampler or spec.sampler
    aimed = balances(sampler, head, primary) and not (head is None and primary in spec.heads)
    choices: tuple[Choice[Any] | None, ...] = (sampler if aimed else None, loss, *spec.head_posthoc(head), weights)
    out = [ledger.Correction(c.slot, c.name, c.options.prior_power()) for c in choices if c is not None]
    if phase.resample is not None:
        # Cleaning samplers take away single points; all others bring the classes to one size.
        cleans = phase.resample in ("tomek-links", "edited-nearest-neighbours")
        out.append(ledger.Correction("resample", phase.resample, 0.0 if cleans else 1.0))
    return out
