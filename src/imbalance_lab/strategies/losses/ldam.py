"""Label-distribution-aware margins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from imbalance_lab.lazy import torch
from imbalance_lab.strategies.base import HeadLoss
from imbalance_lab.strategies.losses.bound_loss import HeadContext, stateless
from imbalance_lab.strategies.losses.cross_entropy import cross_entropy
from imbalance_lab.strategies.losses.masking import IGNORE, working
from imbalance_lab.strategies.option_types import LossOptions
from imbalance_lab.strategies.search_space import Uniform

if TYPE_CHECKING:
    from torch import Tensor


def ldam_margins(counts: ArrayLike, max_margin: float = 0.5) -> NDArray[np.float64]:
    """max_margin * n_c^-1/4 / max_j n_j^-1/4, shape (K,); 0 for a class without examples."""
    n = np.asarray(counts, dtype=np.float64)
    root = np.zeros_like(n)
    root[n > 0] = n[n > 0] ** -0.25
    return max_margin * root / root.max(initial=np.finfo(np.float64).tiny)


def ldam_loss(
    cosines: Tensor,
    target: Tensor,
    margins: Tensor,
    scale: float = 30.0,
    class_weight: Tensor | None = None,
    position_weight: Tensor | None = None,
) -> Tensor:
    """Mean over scored positions of w_y CE(s (z - m_y onehot(y)), y), a scalar.

    ``cosines`` (..., K) in [-1, 1], ``target`` (...), ``margins`` (K,). Cao et al. 2019.
    """
    z = working(cosines)
    y = torch.where(target == IGNORE, torch.zeros_like(target), target).unsqueeze(-1)
    margin = margins.to(z.dtype)[y]
    return cross_entropy(scale * z.scatter_add(-1, y, -margin), target, class_weight, position_weight)


class Ldam(LossOptions):
    """Larger margins for rarer classes, on a cosine head.

    What: CE(s (cos - m_y)), m_c = m_max n_c^-1/4 / max.
    When: rare classes overfit; usually together with `schedule: {deferred: {weights: ...}}` (LDAM-DRW).
    Suggested values: max_margin 0.5, scale 30; the head becomes cosine when none is named.
    Cost: none.
    Source: Cao et al. 2019, Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss.
    """

    max_margin: Annotated[float, Field(gt=0, allow_inf_nan=False), Uniform(0.1, 0.9)] = 0.5
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False), Uniform(10.0, 40.0)] = 30.0

    @property
    def cosine_scale(self) -> float | None:
        """The scale that this loss gives the cosines."""
        return self.scale

    def bind(self, context: HeadContext) -> HeadLoss:
        """The loss of one cosine head, whose logits are the cosines."""
        return stateless(
            lambda x, s: ldam_loss(
                x.logits, x.target, s["margins"], self.scale, s.get("class_weight"), x.position_weight
            ),
            context.constants(margins=ldam_margins(context.counts, self.max_margin)),
        )
