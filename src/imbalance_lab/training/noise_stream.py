"""The random numbers of a training's forward passes (dropout, input noise), on the default generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class NoiseStream:
    """A state of the device's default generator that belongs to one training.

    Layers draw from the default generator and take no other. Trainings that go on side by side would disturb each
    other there, so each puts its own state in place for as long as it launches work.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        if self._cuda:
            torch.cuda.init()
            self._default = torch.cuda.default_generators[
                torch.cuda.current_device() if device.index is None else device.index
            ]
            self._own = self._default.clone_state()
        else:
            self._default = torch.default_generator
            self._state = self._default.get_state()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """While the context is open the default generator is this training's."""
        if self._cuda:
            # The state itself changes hands, not its numbers: a captured graph reads seed and offset from it.
            before = self._default.graphsafe_get_state()
            self._default.graphsafe_set_state(self._own)
            try:
                yield
            finally:
                self._default.graphsafe_set_state(before)
            return
        saved = self._default.get_state()
        self._default.set_state(self._state)
        try:
            yield
        finally:
            self._state = self._default.get_state()
            self._default.set_state(saved)

    def seed(self, seed: int) -> None:
        """Begin anew from ``seed``."""
        with self():
            self._default.manual_seed(seed)
