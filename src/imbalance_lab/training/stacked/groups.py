"""Which trials can be trained together."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence

from imbalance_lab.errors import InputError
from imbalance_lab.training.trial import PreparedTrial


def can_stack(trial: object) -> bool:
    """Whether a trial can train together with others of its shape."""
    return isinstance(trial, PreparedTrial) and not why_alone(trial)


def worth_stacking(trial: object) -> bool:
    """Whether such trials train together unless told otherwise: on CUDA (expected, not measured), not on a CPU.

    On a CPU a stack of 4 costs 1.5 times one trial of gcode-motion alone and .6 to 1.1 times that of
    small networks (``docs/performance.md``), and results would then differ by rounding with the
    number of workers, where one by one they are the same to the bit.
    """
    return isinstance(trial, PreparedTrial) and can_stack(trial) and trial.device != "cpu"


def stack_groups(trials: Sequence[object], most: int | None = None) -> list[list[int]]:
    """Places of the trials that :func:`~imbalance_lab.training.stacked.fit.fit_stacked` can train together.

    Trials share a group where data (the same object), network, classifier kinds, batch size, device
    and precision are the same; strategy, seed, learning rate, decay, clip, warm-up, epochs and
    patience may differ. A trial that cannot be stacked is a group of its own: tables, and phases
    that resample features. Groups come in the order of their first members; one with more than
    ``most`` trials is divided into equal parts.
    """
    groups: dict[str, list[int]] = {}
    for place, trial in enumerate(trials):
        key = shape_key(trial) if isinstance(trial, PreparedTrial) and can_stack(trial) else f"alone {place}"
        groups.setdefault(key, []).append(place)
    return [part for places in groups.values() for part in _divided(places, most)]


def _divided(places: list[int], most: int | None) -> list[list[int]]:
    parts = 1 if most is None else math.ceil(len(places) / most)
    edges = [len(places) * i // parts for i in range(parts + 1)]
    return [places[a:b] for a, b in itertools.pairwise(edges)]


def why_alone(trial: PreparedTrial) -> str:
    """Why a trial cannot be stacked; empty where it can."""
    for number, phase in enumerate(trial.strategy.phases, 1):
        if phase.resample is not None:
            return f"phase {number} resamples features ({phase.resample!r})"
    return ""


def shape_key(trial: PreparedTrial) -> str:
    """Equal for trials that can be trained together; valid while their data are in memory."""
    plain = trial.blueprint.to_mapping()
    plain.pop("head_scales")  # a factor of the cosines in the loss and when scores are read, no shape
    training = trial.training
    return json.dumps(
        [id(trial.loaded), plain, trial.device, training.batch_size, training.precision], sort_keys=True, default=str
    )


def check_group(trials: Sequence[PreparedTrial]) -> None:
    """Refuse trials that cannot be trained together.

    Raises
    ------
    InputError
        Naming the first trial that does not fit and why.
    """
    for place, trial in enumerate(trials):
        who = f"trial {place + 1} ({trial.strategy.name}, seed {trial.seed})"
        if why := why_alone(trial):
            raise InputError(f"{who}: {why}, which cannot be stacked; train it alone")
        if shape_key(trial) != shape_key(trials[0]):
            raise InputError(
                f"{who}: found other data, network, batch size, device or precision than trial 1 has; "
                "allowed in one stack: the same"
            )
