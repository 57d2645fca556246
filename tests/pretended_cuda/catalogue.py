"""Every strategy of the catalogue, as an experiment file would say it."""

from __future__ import annotations

import json
from typing import Any

from pretended_cuda.cases import HEADS, PRIMARY
from strategy_settings import LOSSES

from imbalance_lab.strategies.language.registry import REGISTRY

TRAINED = ("weights", "loss", "sampler", "schedule", "head", "augment")
"""Slots that a step may depend on."""

_GIVEN: dict[tuple[str, str], Any] = {
    ("weights", "ratio"): {"ratio": 10},
    ("weights", "explicit"): {"explicit": {name: 1 + i for i, name in enumerate(HEADS[PRIMARY])}},
    ("schedule", "deferred"): {"deferred": {"start": 0.5, "weights": "balanced"}},
    ("schedule", "crt"): {"crt": {"start": 0.5}},
    ("schedule", "lws"): {"lws": {"start": 0.5}},
}
"""Entries that need an option, or whose second phase would begin after the last epoch."""


def single() -> dict[str, str]:
    """One slot filled, the others empty: every entry that takes part in training a network, losses with all options."""
    found: dict[str, str] = {}
    for entry in REGISTRY:
        if entry.slot not in TRAINED:
            continue
        values: list[Any] = [_GIVEN.get((entry.slot, entry.name), entry.name)]
        if entry.slot == "loss":
            values = [{entry.name: options} for options in LOSSES[entry.name]["options"]]
        for i, value in enumerate(values):
            slots = {entry.slot: value}
            if entry.name == "explicit":  # names the classes of one head
                slots = {"heads": {PRIMARY: slots}}
            found[f"{entry.slot} {entry.name}{f' {i}' if i else ''}"] = json.dumps(slots)
    return found


def phases() -> dict[str, str]:
    """Schedules of more than one slot: what changes between phases, and heads that are trained on features."""
    return {
        "curriculum": "schedule: [{for: 0.5, sampler: class-balanced}, {for: 0.5, sampler: natural, augment: remix}]",
        "deferred sampling": "{loss: ldam, schedule: {deferred: {start: 0.5, sampler: class-balanced}}}",
        "late augmentation": "schedule: {deferred: {start: 0.5, augment: mixup, loss: focal}}",
        "crt on resampled features": "schedule: {crt: {start: 0.5, resample: random-over-sampling}}",
        "crt on smote": "{head: cosine, schedule: {crt: {start: 0.5, resample: smote}}}",
        "lws with a loss": "{head: cosine, schedule: {lws: {start: 0.5, loss: focal}}}",
    }


def together() -> dict[str, str]:
    """Every loss with class weights, a sampler and an augmentation at once."""
    beside = {"weights": "inverse-sqrt", "sampler": "rarest-class", "augment": "remix", "allow_double_correction": True}
    return {f"{name} beside all": json.dumps({"loss": name, **beside}) for name in LOSSES}
