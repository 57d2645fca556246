"""How many inputs would be equal by chance? Few-valued inputs meet without any copy.

Where inputs repeat by chance, far more of them all but repeat: for each pair that is equal in
every input there are pairs that are equal in all inputs but one. If the value of that one input
were drawn anew in each pair, a share q of them would agree in it too, with q the share of all
pairs that agree in it. So ``near * q / (1 - q)`` equal pairs are to be expected from ``near`` pairs
that differ in that input alone, whatever the other inputs are and however they depend on each
other. Of the inputs the one is believed that expects most. Copies have no such neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.content import content_parts, part_hash
from imbalance_lab.data.dataset import SequenceDataset

_MOST_PARTS = 64
_MOST_VALUES = 25_000_000  # hashes held at a time
_SLACK = 2.0  # inputs depend on each other, so that one value is not quite drawn anew
_LEVEL = 1e-3

Hashes = NDArray[np.uint64]


def expected_twins(
    data: SequenceDataset, train: NDArray[np.int64], held: NDArray[np.int64], twins: int, *, by_row: bool
) -> float:
    """How many of ``held`` would equal one of ``train`` by chance.

    Parameters
    ----------
    train, held : int64 arrays, sequences (or rows, numbered n * T + t, with ``by_row``); of ``held`` one
        for each content
    twins : how many of ``held`` do equal one of ``train``
    """
    parts = content_parts(data, by_row=by_row)
    n = len(train) + len(held)
    most = max(2, min(_MOST_PARTS, _MOST_VALUES // max(1, n)))
    chosen = set(np.unique(np.linspace(0, len(parts) - 1, min(most, len(parts))).astype(np.int64)).tolist())
    units = np.concatenate([train, held])
    total, kept = np.zeros(n, dtype=np.uint64), []
    for i, part in enumerate(parts):
        hashed = part_hash(data, part, units, by_row=by_row)
        total += hashed
        if i in chosen:
            kept.append(hashed)
    equal = _pairs(total, len(train))
    if not equal:
        return 0.0
    expected = max(_expected(total, one, len(train), equal) for one in kept)
    return twins * expected / equal


def beyond_chance(twins: int, expected: float) -> bool:
    """Whether more inputs are equal than twice what is expected lets happen once in a thousand times (Poisson)."""
    from scipy.stats import poisson

    return twins > 0 and bool(poisson.sf(twins - 1, _SLACK * expected) < _LEVEL)


def _expected(total: Hashes, one: Hashes, n_train: int, equal: int) -> float:
    agree = _pairs(one, n_train) / (n_train * (len(one) - n_train))
    near = _pairs(total - one, n_train) - equal
    return near * agree / (1 - agree) if agree < 1 else 0.0


def _pairs(keys: Hashes, n_train: int) -> int:
    """Pairs of one of the first ``n_train`` keys and one of the others that are equal."""
    import pandas as pd

    codes, distinct = pd.factorize(keys)
    return int(np.bincount(codes[:n_train], minlength=len(distinct))[codes[n_train:]].sum())


def distinct_first(codes: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.int64]:
    """One of ``units`` for each code among them; ``codes`` is of shape (n_units,)."""
    return units[np.unique(codes[units], return_index=True)[1]]
