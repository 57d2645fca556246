"""Schedules with a name: what changes in the course of the training.

A list of phases (curriculum) needs no class: it is written out in the experiment file. The
schedules here are short forms of such lists; ``phases`` says which.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from imbalance_lab.strategies.option_types import ScheduleOptions
from imbalance_lab.strategies.search_space import Uniform

Phases = list[dict[str, Any]]


def _given(**slots: Any) -> dict[str, Any]:
    return {name: value for name, value in slots.items() if value is not None}


class Deferred(ScheduleOptions):
    """Weights or sampling only for the last part of the training (DRW, DRS).

    What: the strategy's other slots from the start; the slots named here are added after `start`.
    When: re-weighting from the start hurts the representation; usual partner of ldam.
    Suggested values: start 0.8, weights {effective-number: {beta: 0.9999}}.
    Cost: none.
    Source: Cao et al. 2019 (switch at epoch 160 of 200).
    """

    start: Annotated[float, Field(gt=0, lt=1), Uniform(0.5, 0.95)] = 0.8
    weights: Any = None
    sampler: Any = None
    loss: Any = None
    augment: Any = None

    def phases(self) -> Phases:
        """The schedule as a list of phases."""
        late = _given(weights=self.weights, sampler=self.sampler, loss=self.loss, augment=self.augment)
        return [{"for": self.start}, {"for": 1 - self.start, **late}]


class Crt(ScheduleOptions):
    """Two stages: then the classifier alone is trained afresh on balanced data.

    What: after `start` the encoder is frozen, the heads restart and see class-balanced batches; with
    `resample` they see features resampled by imbalanced-learn instead.
    When: the representation is good but the heads favour the frequent classes.
    Suggested values: start 0.67 (10 epochs of 30), sampler class-balanced; resample smote for few rare examples.
    Cost: the second stage is cheaper than the first.
    Source: Kang et al. 2020, Decoupling Representation and Classifier (cRT).
    """

    start: Annotated[float, Field(gt=0, lt=1), Uniform(0.5, 0.9)] = 0.67
    sampler: Any = None
    weights: Any = None
    loss: Any = None
    resample: str | None = None

    def phases(self) -> Phases:
        """The schedule as a list of phases."""
        sampler = self.sampler or ("natural" if self.resample else "class-balanced")
        late = _given(weights=self.weights, loss=self.loss, resample=self.resample)
        return [
            {"for": self.start},
            {"for": 1 - self.start, "sampler": sampler, "freeze_encoder": True, "reset_heads": True, **late},
        ]


class Lws(ScheduleOptions):
    """Two stages: then one scale per class is learnt on balanced data.

    What: after `start` encoder and heads are frozen; only a factor on each class's logit is trained.
    When: as crt, with so few rare examples that a whole classifier would overfit.
    Suggested values: start 0.67, sampler class-balanced.
    Cost: the second stage is cheaper than the first.
    Source: Kang et al. 2020 (learnable weight scaling).
    """

    start: Annotated[float, Field(gt=0, lt=1), Uniform(0.5, 0.9)] = 0.67
    sampler: Any = None
    weights: Any = None
    loss: Any = None

    def phases(self) -> Phases:
        """The schedule as a list of phases."""
        late = _given(weights=self.weights, loss=self.loss)
        last = {"sampler": self.sampler or "class-balanced", "freeze_encoder": True, "head_mode": "scale"}
        return [{"for": self.start}, {"for": 1 - self.start, **last, **late}]
