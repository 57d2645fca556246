"""Runs a trial on the pretended device and cuts its training into steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from imbalance_lab.training.course import Epoch, Selection
from imbalance_lab.training.trial import PreparedTrial
from pretended_cuda.found import Found
from pretended_cuda.watch import Watch


@dataclass
class Run:
    """A training that has ended.

    Attributes
    ----------
    steps : of each epoch, what happened between the end of one optimiser step and the end of the next
    epochs : of each epoch, everything: drawing, steps, reading the results, evaluation
    told : what the trainer yielded
    """

    steps: list[list[Found]] = field(default_factory=list)
    epochs: list[Found] = field(default_factory=list)
    told: list[Epoch] = field(default_factory=list)

    @property
    def all_steps(self) -> list[Found]:
        """The steps of all epochs."""
        return [step for steps in self.steps for step in steps]


def run(watch: Watch, trial: PreparedTrial, selection: Selection) -> Run:
    """Train ``trial`` to its end."""
    found, training = Run(), trial.train(selection)
    while True:
        with watch.watching() as epoch, _cut(watch) as steps:
            told = next(training, None)
        if told is None:
            return found
        found.told.append(told)
        found.epochs.append(epoch)
        found.steps.append(steps)


@contextlib.contextmanager
def _cut(watch: Watch) -> Iterator[list[Found]]:
    """The stretches between the ends of an epoch's optimiser steps: one step each, without what frames them."""
    steps: list[Found] = []
    current = contextlib.ExitStack()
    opened: list[Found] = []

    def ended(*_: Any) -> None:
        current.close()
        steps.extend(opened)
        opened[:] = [current.enter_context(watch.watching())]

    handle = register_optimizer_step_post_hook(ended)
    try:
        yield steps
    finally:
        handle.remove()
        current.close()
