"""True neighbours: positions in the order of their sequence, cut where a position is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.predictions import HeadPredictions


@dataclass(frozen=True)
class Chains:
    """Scored positions as chains of true neighbours.

    Attributes
    ----------
    order : row of each kept position, shape (m,), by sequence and place; None when all rows are in order already
    first : bool of shape (m,), whether a chain begins here (new sequence, or the place before was not scored)
    repeated : rows left out because an earlier row scores the same place (overlapping windows)
    """

    order: NDArray[np.intp] | None
    first: NDArray[np.bool_]
    repeated: int

    def take(self, values: NDArray[Any]) -> NDArray[Any]:
        """``values`` of the kept positions in chain order."""
        return values if self.order is None else values[self.order]


def chains_of(head: HeadPredictions) -> Chains:
    """Order a head's positions; rows that come in order, as a run writes them, are not sorted."""
    sequence, position = head.sequence, head.position
    n = len(sequence)
    first = np.ones(n, dtype=bool)
    if n == 0:
        return Chains(None, first, 0)
    same, step = sequence[1:] == sequence[:-1], np.diff(position)
    if bool((step[same] > 0).all()) and bool((sequence[1:] >= sequence[:-1]).all()):
        np.logical_not(same & (step == 1), out=first[1:])
        return Chains(None, first, 0)
    order = np.lexsort((position, sequence))
    sequence, position = sequence[order], position[order]
    kept = np.ones(n, dtype=bool)
    kept[1:] = (sequence[1:] != sequence[:-1]) | (position[1:] != position[:-1])
    order, sequence, position = order[kept], sequence[kept], position[kept]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (sequence[1:] != sequence[:-1]) | (np.diff(position) != 1)
    return Chains(order, first, n - len(order))
