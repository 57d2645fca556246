"""What a loss is bound to, and the one class that carries every bound loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.lazy import torch
from imbalance_lab.strategies.base import HeadLoss, LossInputs, State
from imbalance_lab.strategies.losses.masking import working

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class HeadContext:
    """What the training data say about one head.

    Attributes
    ----------
    classes : names of the K classes
    counts : int64 array of shape (K,), scored training positions as the data has them
    prior : float64 array of shape (K,), expected shares *as sampled*; 0 for classes never seen
    class_weight : float64 array of shape (K,), mean 1 over the sampled data, or None
    """

    head: str
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    prior: NDArray[np.float64]
    class_weight: NDArray[np.float64] | None = None

    def constants(self, **arrays: NDArray[np.generic] | None) -> dict[str, Tensor]:
        """The named arrays and the class weight (if any) as tensors."""
        named = {"class_weight": self.class_weight, **arrays}
        return {name: torch.as_tensor(array) for name, array in named.items() if array is not None}


Step = Callable[[LossInputs, State], tuple["Tensor", State]]


@dataclass(frozen=True)
class FunctionLoss:
    """A head loss made of a pure step function and its start state.

    Constants live in the state, so that they move to the device once and no step copies
    anything from the host.
    """

    step: Step
    initial: Mapping[str, Tensor] = field(default_factory=dict)

    def init_state(self, device: torch.device) -> State:
        """The start state on ``device``."""
        return {name: tensor.to(device) for name, tensor in self.initial.items()}

    def __call__(self, inputs: LossInputs, state: State) -> tuple[Tensor, State]:
        """The loss of one step, a scalar, and the state after it."""
        return self.step(inputs, state)


def stateless(function: Callable[[LossInputs, State], Tensor], constants: Mapping[str, Tensor]) -> FunctionLoss:
    """A loss whose state is its constants and never changes."""
    return FunctionLoss(lambda inputs, state: (function(inputs, state), state), constants)


@dataclass(frozen=True)
class ScaledLogits:
    """A loss whose logits are ``scale`` times those given: any loss but ldam on a head of cosines."""

    loss: HeadLoss
    scale: float

    def init_state(self, device: torch.device) -> State:
        """The start state of the loss."""
        return self.loss.init_state(device)

    def __call__(self, inputs: LossInputs, state: State) -> tuple[Tensor, State]:
        """The loss of one step, a scalar, and the state after it."""
        return self.loss(replace(inputs, logits=working(inputs.logits) * self.scale), state)
