"""One trial of a stack: its course, its phase, its row of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imbalance_lab.strategies.base import Phase, State
from imbalance_lab.training.course import Course, Selection, copied, moved
from imbalance_lab.training.phases import reset_heads, trains
from imbalance_lab.training.stacked.layout import ParameterLayout
from imbalance_lab.training.stacked.optimizer import from_optimizer_state, to_optimizer_state
from imbalance_lab.training.trial import PreparedTrial


class Member:
    """A trial while it is trained in a stack; mutable.

    ``row``, ``first``, ``second`` (parameters and moments) and ``frozen`` (bool), each (P,), are
    its own tensors until it joins a stack, and then its rows of the stack's matrices.

    Raises
    ------
    InputError
        If the checkpoint belongs to another trial.
    """

    def __init__(
        self,
        place: int,
        trial: PreparedTrial,
        layout: ParameterLayout,
        selection: Selection,
        checkpoint: Path | None,
        fingerprint: str,
    ) -> None:
        self.place, self.trial, self.layout = place, trial, layout
        self.network, self.config, self.seed = trial.network, trial.training, trial.seed
        self.device = torch.device(trial.device)
        self.course = Course(trial.strategy, trial.training, selection, checkpoint, fingerprint)
        self.initial = copied(self.network.state_dict())
        self.loss_state: dict[str, State] = {}
        self.phase: Phase = trial.strategy.phases[0]
        self.steps = 0
        """Optimizer steps in this phase."""
        saved = self.course.resume()
        if saved:
            self.network.load_state_dict(saved["network"])
        self.row = layout.row(self.network)
        self.first, self.second = torch.zeros_like(self.row), torch.zeros_like(self.row)
        self.frozen = torch.zeros_like(self.row, dtype=torch.bool)
        if saved:
            self._take_up(saved)

    @property
    def epoch(self) -> int:
        """Number of the epoch that is trained next, from 0."""
        return self.course.done

    def trains(self, name: str) -> bool:
        """Whether a gradient reaches the parameter ``name`` in this phase: it is trained, and its head has a loss."""
        if not trains(self.phase, name):
            return False
        module, _, rest = name.partition(".")
        return module != "classifiers" or self.network.head_names[int(rest.partition(".")[0])] in self.phase.losses

    def enter(self) -> None:
        """Begin the phase of the next epoch: fresh moments and loss state, heads reset as it says."""
        number = self.course.phases[self.epoch]
        self._set_phase(number)
        if self.phase.reset_heads:
            self.layout.write(self.network, self.row)
            reset_heads(self.network, self.seed, number)
            self.row.copy_(self.layout.row(self.network))
        self.first.zero_()
        self.second.zero_()
        self.steps = 0
        self.loss_state = {h: loss.init_state(self.device) for h, loss in self.phase.losses.items()}

    def weights(self) -> dict[str, Tensor]:
        """A copy of the network's state as it stands."""
        return self.layout.state(self.network, self.row)

    def save(self, rate: float) -> None:
        """Write the checkpoint of a finished epoch, where one is wanted; as the one-by-one trainer does."""
        if self.course.checkpoint:
            optimizer = to_optimizer_state(
                self.network,
                self.phase,
                self.config,
                self.layout,
                (self.first, self.second),
                self.frozen,
                self.steps,
                rate,
            )
            self.course.save(self.weights(), optimizer, self.loss_state, self.initial)

    def finish(self) -> None:
        """Give the network the best weights."""
        self.network.load_state_dict(self.course.best_weights or self.initial)
        self.network.eval()

    def _set_phase(self, number: int) -> None:
        self.phase = self.trial.strategy.phases[number]
        self.frozen.copy_(self.layout.mask(lambda name: not self.trains(name), self.device))

    def _take_up(self, saved: dict[str, Any]) -> None:
        self._set_phase(self.course.phases[self.epoch - 1])
        self.loss_state = {
            h: moved(saved["loss_state"][h], self.device) if h in saved["loss_state"] else loss.init_state(self.device)
            for h, loss in self.phase.losses.items()
        }
        self.steps = from_optimizer_state(
            self.network, self.phase, self.config, self.layout, saved["optimizer"], (self.first, self.second)
        )
