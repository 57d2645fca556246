"""The losses of all trials of a stack: those that are the same function of their inputs in one call."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from imbalance_lab.strategies.base import HeadLoss, LossInputs, State
from imbalance_lab.strategies.binding import FunctionLoss, ScaledLogits
from imbalance_lab.strategies.masking import working

_CATALOGUE = "imbalance_lab.strategies."


class LossGroup:
    """The loss of one head for one or more trials; mutable: it carries their states through an epoch.

    Parameters
    ----------
    rows : places of the trials in the stack
    loss : of the first of them; that of the others is the same function
    states : of each; they hold the constants (weights, priors) too, so these may differ
    """

    def __init__(self, head: str, rows: Sequence[int], loss: HeadLoss, states: Sequence[State]) -> None:
        self.head, self.rows, self.loss = head, list(rows), loss
        self._state = states[0] if len(states) == 1 else {n: torch.stack([s[n] for s in states]) for n in states[0]}

    def __call__(self, logits: Stacked, target: Stacked, features: Stacked, progress: float) -> list[Tensor]:
        """The loss of each row; the states go on."""
        if len(self.rows) == 1:
            k = self.rows[0]
            inputs = LossInputs(logits.one(k), target.one(k), features.one(k), progress)
            value, self._state = self.loss(inputs, self._state)
            return [value]

        def one(z: Tensor, y: Tensor, h: Tensor, state: State) -> tuple[Tensor, State]:
            return self.loss(LossInputs(z, y, h, progress), state)

        z, y, h = (tensor.some(self.rows) for tensor in (logits, target, features))
        values, self._state = torch.vmap(one)(z, y, h, self._state)
        return list(values.unbind())

    def states(self) -> list[State]:
        """The state of each row as it stands."""
        if len(self.rows) == 1:
            return [self._state]
        return [{name: tensor[i].clone() for name, tensor in self._state.items()} for i in range(len(self.rows))]


class Stacked:
    """A tensor (K, ...) that is read by rows; its backward pass is one stack however many rows are read one by one."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = working(tensor)
        self._rows: tuple[Tensor, ...] | None = None

    def one(self, k: int) -> Tensor:
        """Row k."""
        if self._rows is None:
            self._rows = self.tensor.unbind()
        return self._rows[k]

    def some(self, rows: Sequence[int]) -> Tensor:
        """The given rows, (len(rows), ...)."""
        if len(rows) == len(self.tensor):
            return self.tensor
        return torch.stack([self.one(k) for k in rows])


def loss_groups(
    head: str, losses: Mapping[int, HeadLoss], states: Mapping[int, State], times: Mapping[int, Hashable]
) -> list[LossGroup]:
    """Group the rows of a stack by the loss of one head.

    Rows share a group where their losses are the same function of the catalogue, their states have the
    same shapes, and they are equally far (``times``), since a loss may look at its progress. Losses from
    elsewhere are called one by one: only the catalogue's are known to work under vmap.
    """
    found: dict[Hashable, list[int]] = {}
    for k, loss in losses.items():
        function = function_of(loss)
        shapes = tuple((n, tuple(t.shape), t.dtype) for n, t in sorted(states[k].items()))
        key: Hashable = ("alone", k) if function is None else (function, shapes, times[k])
        found.setdefault(key, []).append(k)
    return [LossGroup(head, rows, losses[rows[0]], [states[k] for k in rows]) for rows in found.values()]


def function_of(loss: HeadLoss) -> Hashable | None:
    """Equal for losses of the catalogue that are the same function of inputs and state; None for any other loss.

    Two functions are the same if they have the same code and close over equal values.
    """
    try:
        if isinstance(loss, ScaledLogits):
            inner = function_of(loss.loss)
            return None if inner is None else ("scaled", loss.scale, inner)
        if isinstance(loss, FunctionLoss):
            key = _same_function(loss.step)
            hash(key)
            return key
    except TypeError:  # closes over something that cannot be compared
        pass
    return None


def _same_function(value: Any) -> Hashable:
    if not isinstance(value, FunctionType):
        return (type(value), value)
    if not value.__module__.startswith(_CATALOGUE):
        raise TypeError(value.__module__)
    inside = tuple(_same_function(cell.cell_contents) for cell in value.__closure__ or ())
    return (value.__module__, value.__code__, value.__defaults__, inside)
