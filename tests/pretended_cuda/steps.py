"""Runs a trial on the pretended device and cuts its training into steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from unittest import mock

from pretended_cuda.found import Found
from pretended_cuda.watch import Watch

from imbalance_lab.learners.network_learner import NetworkLearner
from imbalance_lab.training import graph
from imbalance_lab.training.course import Epoch, Selection


@dataclass
class Run:
    """A training that has ended.

    Attributes
    ----------
    first : of each epoch, its beginning (drawing, tables) and its first step, which is launched kernel by kernel
    steps : of each epoch, the other steps; with graphs each captured, where it is new, and replayed
    last : of each epoch, validation and reading the numbers of the epoch
    told : what the trainer yielded
    """

    first: list[Found] = field(default_factory=list)
    steps: list[list[Found]] = field(default_factory=list)
    last: list[Found] = field(default_factory=list)
    told: list[Epoch] = field(default_factory=list)

    @property
    def all_steps(self) -> list[Found]:
        """The steps of all epochs but the first of each."""
        return [step for steps in self.steps for step in steps]


def run(watch: Watch, trial: NetworkLearner, selection: Selection, *, graphs: bool = True) -> Run:
    """Train ``trial`` to its end; with ``graphs`` every step but the first of a batch size is one."""
    found, training, begun = Run(), trial.steps(selection, graphs=graphs), False
    with mock.patch.object(graph, "_WARM", 1):
        while True:
            with watch.watching() as stretch:
                try:
                    told = next(training)
                except StopIteration:
                    return found
            if told is not None:
                found.last.append(stretch)
                found.told.append(told)
                begun = False
            elif begun:
                found.steps[-1].append(stretch)
            else:
                found.first.append(stretch)
                found.steps.append([])
                begun = True
