"""Bins of the place in the true sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DISTANCE_EDGES = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500)
"""Lower ends of the distance bins, in positions; the last bin is open."""
N_DISTANCE = len(DISTANCE_EDGES)
N_RELATIVE = 10
_LAST = DISTANCE_EDGES[-1]
_TABLE = np.searchsorted(DISTANCE_EDGES, np.arange(_LAST + 1), side="right") - 1


def distance_bin(distance: NDArray[Any]) -> NDArray[np.int64]:
    """Bin of a distance (in positions, 0 or more) to the true start or end."""
    return _TABLE.take(distance, mode="clip")


def distance_names() -> list[str]:
    """Name of each distance bin: ``"3"``, ``"5-6"``, ``"500+"``."""
    ends = [*DISTANCE_EDGES[1:], None]
    return [
        f"{a}+" if b is None else (str(a) if b == a + 1 else f"{a}-{b - 1}")
        for a, b in zip(DISTANCE_EDGES, ends, strict=True)
    ]


def relative_bin(from_start: NDArray[Any], from_end: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Tenth of the true sequence that a position lies in, and whether its sequence has more than one position."""
    last = from_start.astype(np.float64) + from_end
    # Division of float64 rounds correctly, so that its floor is that of the integers, and is vectorised.
    tenth = (from_start * np.float64(N_RELATIVE) / (last + 1.0)).astype(np.int64)
    return np.clip(tenth, 0, N_RELATIVE - 1), last > 0
