"""A strategy meets a data set: counts become weights, priors, margins and samplers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.errors import InputError
from imbalance_lab.strategies.base import Augment, BoundStrategy, HeadLoss, Phase
from imbalance_lab.strategies.language import ledger
from imbalance_lab.strategies.language.slots import Choice, PhaseSpec, StrategySpec, nominal_corrections
from imbalance_lab.strategies.losses.bound_loss import HeadContext, ScaledLogits
from imbalance_lab.strategies.losses.cross_entropy import CrossEntropy
from imbalance_lab.strategies.losses.masking import IGNORE
from imbalance_lab.strategies.option_types import LossOptions, SamplerContext
from imbalance_lab.strategies.samplers.by_class import Natural
from imbalance_lab.strategies.samplers.pools import WeighableSampler, expected_shares
from imbalance_lab.strategies.table_methods import too_few_rows
from imbalance_lab.strategies.weights import scaled_to_data

Floats = NDArray[np.float64]
Counts = dict[str, NDArray[np.int64]]


def bind(
    spec: StrategySpec,
    *,
    heads: Mapping[str, tuple[str, ...]],
    targets: Mapping[str, NDArray[np.int64]],
    primary: str,
    seed: int,
) -> BoundStrategy:
    """Bind ``spec`` to the training split.

    Parameters
    ----------
    heads : class names by head
    targets : int64 training targets (n_train, L) by head, IGNORE = -100 where a head does not apply
    primary : the head that samplers balance
    seed : recorded in the notes; samplers draw from the generators that the training loop passes

    Raises
    ------
    InputError
        A head that does not exist, weights that do not fit the classes, two prior corrections, or a
        primary head without training examples under a sampler that needs them.
    """
    for head in (*spec.heads, primary):
        if head not in heads:
            raise InputError(f"strategy {spec.name!r}, head {head!r}: no such head; allowed: {', '.join(heads)}")
    if spec.table is not None:
        raise InputError(
            f"strategy {spec.name!r}, key table: found {spec.table.name!r}; allowed for table and digits data"
        )
    counts = {h: _counts(targets[h], len(c)) for h, c in heads.items()}
    kinds = {h: _kind(spec, h) for h in heads}
    bound, shares, corrections = [], [], []
    facts: dict[str, Mapping[str, object]] = {}
    weights: dict[str, dict[str, dict[str, float]]] = {}
    start = 0.0
    for i, phase in enumerate(spec.phases):
        stop = 1.0 if i == len(spec.phases) - 1 else start + phase.share
        sampler = _sampler(spec, phase, heads, targets, counts, primary)
        chance = sampler.sequence_probabilities((start + stop) / 2)
        seen = {h: expected_shares(targets[h], len(c), chance) for h, c in heads.items()}
        contexts = {h: _context(spec, phase, h, heads[h], counts[h], seen[h]) for h in heads}
        for h, context in contexts.items():
            if context.class_weight is not None:
                named = zip(heads[h], context.class_weight.tolist(), strict=True)
                weights.setdefault(f"phase {i + 1}", {})[h] = dict(named)
        losses = {h: _loss(spec.slot("loss", h, phase), c, *kinds[h]) for h, c in contexts.items()}
        bound.append(_phase(spec, phase, (start, stop), losses, sampler, counts))
        corrections.append({h: _corrections(spec, phase, c, primary) for h, c in contexts.items()})
        shares.append(seen)
        if sampler.facts:
            facts[f"phase {i + 1}"] = sampler.facts
        start = stop
    return BoundStrategy(
        name=spec.name,
        phases=tuple(bound),
        head_kinds={h: kind for h, (kind, _) in kinds.items()},
        head_scales={h: scale for h, (kind, scale) in kinds.items() if kind == "cosine"},
        prior_correction={h: _total(spec, h, c) for h, c in corrections[-1].items()},
        posthoc={h: {c.name: c.options.model_dump() for c in steps} for h in heads if (steps := spec.head_posthoc(h))},
        notes={
            **_notes(heads, counts, shares, corrections, weights, seed),
            "too_few_rows": _too_few(spec, heads, counts),
            **({"sampler": facts} if facts else {}),
        },
    )


def _too_few(spec: StrategySpec, heads: Mapping[str, tuple[str, ...]], counts: Counts) -> dict[str, list[str]]:
    """Head to what is to be said of its classes with too few rows for the resampler of a phase."""
    names = {phase.resample for phase in spec.phases if phase.resample is not None}
    said = {h: [line for name in sorted(names) for line in too_few_rows(name, counts[h], heads[h])] for h in heads}
    return {head: lines for head, lines in said.items() if lines}


def _counts(target: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    return np.bincount(target[target != IGNORE], minlength=n_classes)


def _sampler(
    spec: StrategySpec,
    phase: PhaseSpec,
    heads: Mapping[str, tuple[str, ...]],
    targets: Mapping[str, NDArray[np.int64]],
    counts: Counts,
    primary: str,
) -> WeighableSampler:
    choice = phase.sampler or spec.sampler
    options = Natural() if choice is None else choice.options
    head = options.aim or primary
    where = f"strategy {spec.name!r}, head {head!r}, key sampler"
    if head not in heads:
        raise InputError(f"{where}.head: found {head!r}; allowed: {', '.join(heads)}")
    if choice is not None and options.balances and not counts[head].any():
        raise InputError(f"{where}: found {choice.name!r} but the head has no training example; allowed: natural")
    return options.bind(SamplerContext(targets[head], heads[head], counts[head], where))


def _context(
    spec: StrategySpec,
    phase: PhaseSpec,
    head: str,
    classes: tuple[str, ...],
    counts: NDArray[np.int64],
    shares: Floats,
) -> HeadContext:
    choice = spec.slot("weights", head, phase)
    weight = None
    if choice is not None:
        where = f"strategy {spec.name!r}, head {head!r}, key weights.{choice.name}"
        raw = choice.options.weights(counts, classes, where)
        weight = scaled_to_data(raw, shares)
    return HeadContext(head, classes, counts, shares, weight)


def _loss(choice: Choice[LossOptions] | None, context: HeadContext, kind: str, scale: float) -> HeadLoss:
    options = CrossEntropy() if choice is None else choice.options
    loss = options.bind(context)
    if kind == "cosine" and options.cosine_scale is None:
        return ScaledLogits(loss, scale)  # cosines alone make a softmax that is nearly flat
    return loss


def _phase(
    spec: StrategySpec,
    phase: PhaseSpec,
    span: tuple[float, float],
    losses: Mapping[str, HeadLoss],
    sampler: WeighableSampler,
    counts: Counts,
) -> Phase:
    choice = phase.augment or spec.augment
    augment: Augment | None = None if choice is None else choice.options.bind(counts)
    return Phase(
        start=span[0],
        stop=span[1],
        losses=losses,
        sampler=sampler,
        augment=augment,
        freeze_encoder=phase.freeze_encoder,
        reset_heads=phase.reset_heads,
        head_mode=phase.head_mode,
        resample=phase.resample,
    )


def _corrections(spec: StrategySpec, phase: PhaseSpec, context: HeadContext, primary: str) -> list[ledger.Correction]:
    """The ledger of one head in one phase, with what only the data can tell now measured.

    It refuses by what a slot means to do, and reports what it does to this head's tokens.
    """
    sampled = max(0.0, ledger.power_of_shares(context.prior, context.counts))
    weights = spec.slot("weights", context.head, phase)
    exact = weights is not None and weights.options.exact_power
    intended, measured = [], []
    for c in nominal_corrections(spec, context.head, phase, primary):
        power = c.power
        if c.slot == "weights" and context.class_weight is not None and not exact:
            power = ledger.power_of_weights(context.class_weight, context.counts)
        elif c.slot == "sampler" and power is None:
            power = sampled
        intended.append(ledger.Correction(c.slot, c.name, power))
        if c.slot != "sampler":
            measured.append(intended[-1])
    ledger.check(intended, spec.allow_double_correction, f"strategy {spec.name!r}, head {context.head!r}")
    sampler = phase.sampler or spec.sampler
    if sampler is not None:
        power = ledger.power_of_shares(context.prior, context.counts)
        measured.append(ledger.Correction("sampler", sampler.name, power))
    return measured


def _total(spec: StrategySpec, head: str, corrections: list[ledger.Correction]) -> float:
    """Power of the prior that training corrects for: losses act on what the sampler left of it.

    A resampler of features comes after the losses were bound to the natural shares, so that both count in full.
    """
    by_slot = {c.slot: float(c.power or 0.0) for c in corrections if c.slot != "posthoc"}
    sampler, loss = by_slot.get("sampler", 0.0), by_slot.get("loss", 0.0)
    return sampler + by_slot.get("resample", 0.0) + by_slot.get("weights", 0.0) + loss * (1 - sampler)


def _kind(spec: StrategySpec, head: str) -> tuple[Literal["linear", "cosine"], float]:
    choice = spec.head_kind(head)
    if choice is not None:
        return choice.options.head()
    for phase in spec.phases:
        loss = spec.slot("loss", head, phase)
        if loss is not None and loss.options.cosine_scale is not None:
            return "cosine", loss.options.cosine_scale
    return "linear", 1.0


def _notes(
    heads: Mapping[str, tuple[str, ...]],
    counts: Counts,
    shares: list[dict[str, Floats]],
    corrections: list[dict[str, list[ledger.Correction]]],
    weights: Mapping[str, Any],
    seed: int,
) -> dict[str, object]:
    """Facts worth logging, as plain values."""
    names = [f"phase {i + 1}" for i in range(len(shares))]
    excluded = {h: [c for c, n in zip(heads[h], counts[h].tolist(), strict=True) if n == 0] for h in heads}
    return {
        "seed": seed,
        "class_counts": {h: dict(zip(heads[h], n.tolist(), strict=True)) for h, n in counts.items()},
        "excluded_classes": {h: e for h, e in excluded.items() if e},
        "class_weights": dict(weights),
        "expected_shares": {
            n: {h: dict(zip(heads[h], s.tolist(), strict=True)) for h, s in seen.items()}
            for n, seen in zip(names, shares, strict=True)
        },
        "ledger": {
            n: {h: [str(c) for c in entries if c.power] for h, entries in by_head.items()}
            for n, by_head in zip(names, corrections, strict=True)
        },
    }
