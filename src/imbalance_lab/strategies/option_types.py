"""What the options of each slot must offer: a strategy of the registry is a subclass of one of these.

Whatever depends on the choice in a slot (the power of the prior that it corrects for, the head that it needs) is a
method here, so that nothing asks for the name of a choice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

if TYPE_CHECKING:
    from imbalance_lab.strategies.base import Augment, HeadLoss
    from imbalance_lab.strategies.losses.bound_loss import HeadContext
    from imbalance_lab.strategies.samplers.pools import WeighableSampler


class Options(BaseModel, frozen=True, extra="forbid"):
    """Options of one choice; the docstring of a subclass is its card."""

    shorthand: ClassVar[str | None] = None
    """The option that takes the whole value, as in ``{ratio: 10}``."""


class Correcting(Options):
    """Options of a choice that may correct the class prior."""

    def prior_power(self) -> float | None:
        """Power of the class prior that it corrects for (0 none, 1 all); None when only the data can tell."""
        return 0.0


class WeightOptions(Correcting):
    """A rule for class weights."""

    exact_power: ClassVar[bool] = False
    """Whether ``prior_power`` holds for any data; else it is measured on the weights that came out."""

    @abstractmethod
    def weights(self, counts: NDArray[np.int64], classes: tuple[str, ...], where: str) -> NDArray[np.float64]:
        """Weights of the K classes, not yet scaled, shape (K,).

        Parameters
        ----------
        counts : int64 array of shape (K,), scored training positions
        where : begins the message of an error

        Raises
        ------
        InputError
            If the options do not fit the classes.
        """


class LossOptions(Correcting):
    """A loss; ``needs_features`` where it reads the input of the head's last layer."""

    needs_features: ClassVar[bool] = False

    @property
    def cosine_scale(self) -> float | None:
        """Scale of the head of cosines that this loss needs and applies itself; None where any head will do."""
        return None

    @abstractmethod
    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler is bound to: ``target`` int64 (n, L) of the head that it balances, and where to complain."""

    target: NDArray[np.int64]
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    where: str


class SamplerOptions(Correcting):
    """A sampler of training sequences."""

    balances: ClassVar[bool] = False
    """Whether it looks at the classes of a head, which must then have training examples."""
    moves: ClassVar[bool] = False
    """Whether it changes from epoch to epoch, so that one epoch would never see it move."""

    @property
    def aim(self) -> str | None:
        """The head that it balances; None is the main head of the experiment."""
        return None

    @abstractmethod
    def bind(self, context: SamplerContext) -> WeighableSampler:
        """The sampler of one data set."""


class BalancingOptions(SamplerOptions):
    """A sampler that balances the classes of a head."""

    balances: ClassVar[bool] = True

    @property
    def aim(self) -> str | None:
        """The option ``head``, which each of these samplers has after its own options."""
        head: str | None = getattr(self, "head", None)
        return head


class ScheduleOptions(Options):
    """A schedule with a name: the short form of a list of phases."""

    @abstractmethod
    def phases(self) -> list[dict[str, Any]]:
        """The schedule as a list of phases, as an experiment file writes them."""


class HeadOptions(Options):
    """A kind of classifier."""

    @abstractmethod
    def head(self) -> tuple[Literal["linear", "cosine"], float]:
        """Kind and scale."""


class AugmentOptions(Options):
    """A way to mix two training sequences."""

    @abstractmethod
    def bind(self, counts: Mapping[str, NDArray[np.int64]]) -> Augment:
        """The augmentation, for scored training positions of each class, int64 (K,), by head."""


class PosthocOptions(Correcting):
    """A correction after training, fitted on validation."""


class TableOptions(Options):
    """A classical strategy for tables."""
