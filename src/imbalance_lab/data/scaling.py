"""Numbers of a file as float32 without losing their differences: centred and scaled in float64, then rounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SAMPLE = 4096  # values of a channel that centre and scale are chosen from, spread evenly over train
_FAR = 1024.0  # typical deviations from 0 beyond which float32 (24 bits) keeps fewer than 14 bits of one
_TOO_FAR = 16384.0  # and beyond which it keeps fewer than 10
_EXPONENT = 1000  # of 2, at most: float64 ends at 1023
_EXACT = 1 << 53  # integers up to here are distinct in float64
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Scaling:
    """Where 0 lies on each of C channels, and how long 1 is: ``stored = (value - centre) / scale``.

    Float32 has 24 bits, finest around 0: a counter near 1.7e9 would be rounded to multiples of 128. So
    the values are centred first, in float64 (integers in int64), on the rows of train. Channels
    that do not lie far from 0 keep 0 as their centre, which leaves small values among large ones
    apart; scales are powers of two, so that scaling rounds nothing. Both are order statistics:
    every machine chooses the same. This is how values are *stored*; standardisation by mean and
    deviation belongs to the model (:mod:`imbalance_lab.data.preprocessing`).

    Attributes
    ----------
    centre, scale : float64 arrays of shape (C,), in the channels' own units; scales are above 0
    """

    centre: Floats
    scale: Floats

    def stored(self, values: NDArray[Any], channel: int) -> NDArray[np.float32]:
        """Values of one channel, of any shape and number type, as float32; what is not finite becomes NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            out = _minus(values, float(self.centre[channel]))
            out = np.divide(out, self.scale[channel], out=out if out.ndim else None)  # of its own: _minus makes it
            finite = np.isfinite(out)
            out = np.minimum(out, _LARGEST, out=out if out.ndim else None)
            out = np.maximum(out, -_LARGEST, out=out if out.ndim else None)
            stored: NDArray[np.float32] = out.astype(np.float32)
        return stored if finite.all() else np.where(finite, stored, np.float32(np.nan))

    def native(self, stored: NDArray[Any], channels: Any = slice(None)) -> Floats:
        """Stored values (..., C), or of the ``channels`` at these indices, in their own units."""
        return np.asarray(stored, dtype=np.float64) * self.scale[channels] + self.centre[channels]

    def to_mapping(self) -> dict[str, list[float]]:
        """Plain values (JSON keeps float64 exactly)."""
        return {"centre": self.centre.tolist(), "scale": self.scale.tolist()}

    @staticmethod
    def from_mapping(plain: Mapping[str, Any]) -> Scaling:
        """The inverse of :meth:`to_mapping`."""
        return Scaling(np.asarray(plain["centre"], dtype=np.float64), np.asarray(plain["scale"], dtype=np.float64))


def unscaled(channels: int) -> Scaling:
    """Values in their own units."""
    return Scaling(np.zeros(channels), np.ones(channels))


def centre_and_scale(values: NDArray[Any]) -> tuple[float, float]:
    """Centre and scale of one channel, from its training values of any shape; NaN and infinities are passed over.

    The centre is the median of the *distinct* values, so that zeros which mark missing readings do not
    count by their number, if it lies more than 1,024 typical deviations from 0, else 0. A typical
    deviation is the median of the distances to it that are not 0. The scale is the power of two
    nearest to the typical deviation (of a constant channel: to its value).
    """
    distinct = np.unique(sample_of(values))
    if not distinct.size:
        return 0.0, 1.0
    middle = float(distinct[len(distinct) // 2])
    away = np.sort(np.abs(_minus(distinct, middle)))
    away = away[(away > 0) & np.isfinite(away)]
    typical = float(away[len(away) // 2]) if away.size else abs(middle)
    centre = middle if abs(middle) > _FAR * typical else 0.0
    exponent = min(max(round(float(np.log2(typical))), -_EXPONENT), _EXPONENT) if typical else 0
    return centre, math.ldexp(1.0, exponent)


def fits_float32(values: NDArray[Any]) -> bool:
    """Whether float32 rounds the values of a channel by less than a thousandth of a typical deviation."""
    centre, scale = centre_and_scale(values)
    return abs(centre) <= _TOO_FAR * scale


def sample_of(values: NDArray[Any]) -> NDArray[Any]:
    """At most 4,096 finite values, spread evenly."""
    flat = np.ravel(values)
    if flat.dtype.kind == "f" and not (finite := np.isfinite(flat)).all():
        flat = flat[finite]
    return flat[:: max(1, -(-len(flat) // _SAMPLE))]


def _minus(values: NDArray[Any], centre: float) -> Floats:
    """``values - centre`` in float64; integers are subtracted as such, which is exact beyond 2^53 too."""
    if values.dtype.kind in "iu" and values.size and centre == np.floor(centre):
        low, high = int(values.min()) - int(centre), int(values.max()) - int(centre)
        if max(-int(values.min()), int(values.max())) >= _EXACT and -(1 << 62) < low <= high < 1 << 62:
            # Two's complement wraps back to the true difference, which fits.
            return (values.astype(np.uint64) - np.uint64(int(centre) % (1 << 64))).astype(np.int64).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, dtype=np.float64) - centre
