"""The prior ledger: which slots of a strategy correct the class prior, and by how much.

Power 0 trains for the data's own frequencies, power 1 for balanced classes. Two corrections
that add up to more than 1 overshoot: the frequent classes then pay for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from imbalance_lab.errors import InputError


@dataclass(frozen=True)
class Correction:
    """One slot that corrects the prior; ``power`` None when only the data can tell (but above 0)."""

    slot: str
    name: str
    power: float | None

    def __str__(self) -> str:
        return f"{self.slot} {self.name} ({'some' if self.power is None else f'{self.power:.3g}'})"


def check(corrections: Sequence[Correction], allow: bool, where: str) -> None:
    """Refuse two or more corrections that together exceed power 1.

    Raises
    ------
    InputError
        Unless ``allow``.
    """
    active = [c for c in corrections if c.power is None or c.power > 1e-9]
    known = sum(c.power for c in active if c.power is not None)
    unknown = any(c.power is None for c in active)
    if allow or len(active) < 2 or not (known > 1 + 1e-6 or (unknown and known > 1 - 1e-6)):
        return
    raise InputError(
        f"{where}: the class prior is corrected {len(active)} times, by {' and '.join(map(str, active))}; together "
        f"at most power 1 is allowed unless allow_double_correction: true"
    )


def power_of_weights(weights: ArrayLike, counts: ArrayLike) -> float:
    """Power a with weights close to n_c^-a: the least-squares slope of log w on -log n.

    Over classes with a weight and a count; 0 where the counts differ by less than a factor 1.5:
    there is no imbalance to correct then, and the slope would be noise over nothing.
    """
    w, n = np.asarray(weights, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    use = (w > 0) & (n > 0)
    x, y = -np.log(n[use]), np.log(w[use])
    if len(x) < 2 or np.ptp(x) < np.log(1.5):
        return 0.0
    x = x - x.mean()
    return round(float((x * y).sum() / (x * x).sum()), 9)


def power_of_shares(shares: ArrayLike, counts: ArrayLike) -> float:
    """Power of the prior that sampling corrects for: 0 for the data's own shares, 1 for equal ones.

    A class counts as at least a hundredth of its natural share: one that sampling happens to leave
    out would rule the slope otherwise.
    """
    s, n = np.asarray(shares, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    factor = np.divide(s * n.sum(), n, out=np.zeros_like(s), where=n > 0)
    return power_of_weights(np.where(n > 0, np.maximum(factor, 0.01), 0.0), n)
