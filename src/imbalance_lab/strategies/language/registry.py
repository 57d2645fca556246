"""The one table of everything that a strategy can be made of: adding an entry is one line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from imbalance_lab.errors import InputError
from imbalance_lab.strategies import (
    augment,
    classifier_heads,
    own_estimator,
    posthoc,
    schedules,
    table_methods,
    weights,
)
from imbalance_lab.strategies.losses import (
    cross_entropy,
    dice,
    equalization,
    focal,
    ghm,
    influence_balanced,
    ldam,
    prior,
    seesaw,
    smoothing,
)
from imbalance_lab.strategies.option_types import Options
from imbalance_lab.strategies.samplers import by_class, token_balance
from imbalance_lab.strategies.search_space import Distribution, LogUniform, OneOf, Uniform


@dataclass(frozen=True)
class Entry:
    """One value that a slot can take: its name in the experiment file and the model of its options.

    The docstring of ``options`` is the card.
    """

    slot: str
    name: str
    options: type[Options]

    @property
    def summary(self) -> str:
        """The card's first line."""
        return (self.options.__doc__ or "").strip().splitlines()[0]

    @property
    def shorthand(self) -> str | None:
        """The option that takes the whole value, as in ``{ratio: 10}``, or None."""
        return self.options.shorthand

    @property
    def search(self) -> dict[str, Distribution]:
        """Search space by option."""
        found = {name: _distribution(info) for name, info in self.options.model_fields.items()}
        return {name: d for name, d in found.items() if d is not None}


def _distribution(info: FieldInfo) -> Distribution | None:
    return next((m for m in info.metadata if isinstance(m, Uniform | LogUniform | OneOf)), None)


REGISTRY: tuple[Entry, ...] = (
    Entry("weights", "balanced", weights.Balanced),
    Entry("weights", "inverse-sqrt", weights.InverseSqrt),
    Entry("weights", "effective-number", weights.EffectiveNumber),
    Entry("weights", "ratio", weights.Ratio),
    Entry("weights", "explicit", weights.Explicit),
    Entry("loss", "cross-entropy", cross_entropy.CrossEntropy),
    Entry("loss", "focal", focal.Focal),
    Entry("loss", "focal-sigmoid", focal.FocalSigmoid),
    Entry("loss", "ldam", ldam.Ldam),
    Entry("loss", "balanced-softmax", prior.BalancedSoftmax),
    Entry("loss", "logit-adjusted", prior.LogitAdjusted),
    Entry("loss", "vector-scaling", prior.VectorScaling),
    Entry("loss", "seesaw", seesaw.Seesaw),
    Entry("loss", "ghm", ghm.Ghm),
    Entry("loss", "influence-balanced", influence_balanced.InfluenceBalanced),
    Entry("loss", "equalization-v2", equalization.EqualizationV2),
    Entry("loss", "dice", dice.Dice),
    Entry("loss", "label-smoothing", smoothing.LabelSmoothing),
    Entry("loss", "label-aware", smoothing.LabelAware),
    Entry("sampler", "natural", by_class.Natural),
    Entry("sampler", "class-balanced", by_class.ClassBalanced),
    Entry("sampler", "progressive", by_class.Progressive),
    Entry("sampler", "dynamic", by_class.Dynamic),
    Entry("sampler", "rarest-class", by_class.RarestClass),
    Entry("sampler", "token-balanced", token_balance.TokenBalanced),
    Entry("schedule", "deferred", schedules.Deferred),
    Entry("schedule", "crt", schedules.Crt),
    Entry("schedule", "lws", schedules.Lws),
    Entry("head", "linear", classifier_heads.Linear),
    Entry("head", "cosine", classifier_heads.Cosine),
    Entry("augment", "mixup", augment.Mixup),
    Entry("augment", "remix", augment.Remix),
    Entry("posthoc", "logit-adjust", posthoc.LogitAdjust),
    Entry("posthoc", "thresholds", posthoc.Thresholds),
    Entry("posthoc", "temperature", posthoc.Temperature),
    Entry("posthoc", "tau-norm", classifier_heads.TauNorm),
    Entry("table", "plain", table_methods.Plain),
    Entry("table", own_estimator.ESTIMATOR, own_estimator.OwnEstimator),
    *(Entry("table", name, table_methods.Resampled) for name in table_methods.RESAMPLERS),
    *(Entry("table", name, table_methods.Ensemble) for name in table_methods.ENSEMBLES),
)


def names(slot: str) -> tuple[str, ...]:
    """Names that ``slot`` can take, in the registry's order."""
    return tuple(e.name for e in REGISTRY if e.slot == slot)


def lookup(slot: str, name: str, where: str) -> Entry:
    """The entry of that slot and name.

    Raises
    ------
    InputError
        If there is none; the message begins with ``where`` and names what is allowed.
    """
    for entry in REGISTRY:
        if (entry.slot, entry.name) == (slot, name):
            return entry
    raise InputError(f"{where}: found {name!r}; allowed: {', '.join(names(slot))}")


def one_line_cards() -> list[tuple[str, str, str]]:
    """(slot, name, summary) of every entry, for listings."""
    return [(e.slot, e.name, e.summary) for e in REGISTRY]


def defaults(entry: Entry) -> dict[str, Any]:
    """Default of each option that has one."""
    fields = entry.options.model_fields.items()
    return {name: info.default for name, info in fields if not info.is_required()}
