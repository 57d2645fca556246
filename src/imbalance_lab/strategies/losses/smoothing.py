"""Label smoothing, uniform and by class frequency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from imbalance_lab.lazy import F
from imbalance_lab.strategies.base import HeadLoss
from imbalance_lab.strategies.losses.bound_loss import HeadContext, stateless
from imbalance_lab.strategies.losses.masking import gather, mean_over_scored, position_weights, scored
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import Uniform

if TYPE_CHECKING:
    from torch import Tensor

Spread = Literal["all", "others"]
Shape = Literal["concave", "linear", "convex", "exp"]


def label_smoothing_loss(
    logits: Tensor,
    target: Tensor,
    smoothing: Tensor,
    spread: Spread = "all",
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy against (1 - e_y) onehot(y) + e_y / K, mean over scored positions, a scalar.

    ``smoothing`` e (K,) is read at the true class. ``spread`` says whether e_y goes to all K
    classes (Szegedy et al. 2016, and the reference code of Zhong et al. 2021) or to the K - 1
    others (Zhong et al.'s formula).
    """
    z, y, mask = scored(logits, target)
    log_p = F.log_softmax(z, dim=-1)
    own = -gather(log_p, y)
    e = smoothing.to(z.dtype)[y]
    k = z.shape[-1]
    rest = -log_p.mean(-1) if spread == "all" else (-log_p.sum(-1) - own) / max(k - 1, 1)
    return mean_over_scored((1 - e) * own + e * rest, mask, position_weights(y, class_weight, position_weight, z.dtype))


def smoothing_by_frequency(
    counts: ArrayLike, head: float = 0.4, tail: float = 0.1, shape: Shape = "concave", power: float = 2.0
) -> NDArray[np.float64]:
    """e_c between ``tail`` (rarest class) and ``head`` (most frequent), shape (K,).

    r = (n_c - n_min) / (n_max - n_min) over the classes seen, 0 where all counts are equal;
    concave tail + (head-tail) sin(pi r/2), linear, convex head + (head-tail) sin(3pi/2 + pi r/2),
    exp tail + (head-tail) r^power. Zhong et al. 2021.
    """
    n = np.asarray(counts, dtype=np.float64)
    seen = n[n > 0]
    low, high = (seen.min(), seen.max()) if len(seen) else (0.0, 0.0)
    r = np.clip((n - low) / (high - low), 0, 1) if high > low else np.zeros_like(n)
    span = head - tail
    if shape == "concave":
        return tail + span * np.sin(np.pi / 2 * r)
    if shape == "linear":
        return tail + span * r
    if shape == "convex":
        return head + span * np.sin(1.5 * np.pi + np.pi / 2 * r)
    return tail + span * r**power


def _bind(context: HeadContext, smoothing: NDArray[np.float64], spread: Spread) -> HeadLoss:
    return stateless(
        lambda x, s: label_smoothing_loss(
            x.logits, x.target, s["smoothing"], spread, s.get("class_weight"), x.position_weight
        ),
        context.constants(smoothing=smoothing),
    )


class LabelSmoothing(LossOptions):
    """A little probability is asked for on every class.

    What: cross-entropy against (1 - e) y + e / C.
    When: probabilities are overconfident or labels slightly noisy; it does not correct the prior.
    Suggested values: epsilon 0.1.
    Cost: none.
    Source: Szegedy et al. 2016, Rethinking the Inception Architecture.
    """

    epsilon: Annotated[float, Field(ge=0, lt=1), Uniform(0.01, 0.3)] = 0.1

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        return _bind(context, np.full(len(context.classes), self.epsilon), "all")


class LabelAware(LossOptions):
    """Frequent classes are smoothed more than rare ones.

    What: epsilon falls from `head` for the most frequent to `tail` for the rarest class, spread over the others.
    When: the model is overconfident on the frequent classes; made for the second stage (crt).
    Suggested values: head 0.4, tail 0.1, shape concave.
    Cost: none.
    Source: Zhong et al. 2021, Improving Calibration for Long-Tailed Recognition (MiSLAS).
    """

    head: Annotated[float, Field(ge=0, lt=1), Uniform(0.1, 0.5)] = 0.4
    tail: Annotated[float, Field(ge=0, lt=1), Uniform(0.0, 0.1)] = 0.1
    shape: Shape = "concave"
    power_of_exp: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    spread: Spread = "others"

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one head."""
        smoothing = smoothing_by_frequency(context.counts, self.head, self.tail, self.shape, self.power_of_exp)
        return _bind(context, smoothing, self.spread)
