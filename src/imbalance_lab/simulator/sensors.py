"""Sensors of the simulated mill: which of them feel the motion, how late, and under how much noise.

One table, :data:`COUPLINGS`, holds every equation ``channel = base + sum of gain x state``; the
simulation and the statement of what causes what (``causal_channels``) both read it, so the
two cannot disagree. Channels without a row are nuisances: they wander, but not with the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

FRAMES = (
    "frame_r2", "y_bed__3", "spindle2", "frame_l3", "y_bed__4", "spindle1", "frame_r1", "frame_b2", "y_bed__1",
    "frame_l2", "y_bed__2", "z_gant_2", "frame_l1", "frame_b1", "xa_motor", "z_gant_1",
)  # fmt: skip
"""The sensor frames of the real mill, in the order in which ``n_frames`` takes them."""

FRAME_CHANNELS = (
    "Ax", "Ay", "Az", "Gx", "Gy", "Gz", "Mx", "My", "Mz",
    "Pressure", "Temperature", "Proximity", "ColorR", "ColorG", "ColorB", "ColorA", "RMS",
)  # fmt: skip
CURRENTS = ("spindle", "x_motor", "y_motor", "z_motor")

_LAGS = MappingProxyType({"frame": 1, "bed": 0, "head": 0})
"""Status reports by which each kind of frame reports late."""


@dataclass(frozen=True)
class Coupling:
    """One term of a channel: ``gain`` x ``state`` (``axis`` 0..2 of a vector, its absolute value if ``magnitude``).

    ``commands`` are the commands that the term tells apart from the others by its own equation.
    """

    channel: str
    state: str
    gain: float
    commands: tuple[str, ...]
    axis: int | None = None
    magnitude: bool = False


_RAPID = ("G0", "G1")  # a rapid is told from cutting
_TURN = ("G1", "G2", "G3")  # an arc is told from a line
_ALL = ("G0", "G1", "G2", "G3")

_CURRENT_COUPLINGS = (
    Coupling("spindle", "load", 0.25, _RAPID),
    *(Coupling(f"{a}_motor", "velocity", 0.0012, _ALL, i, True) for i, a in enumerate("xyz")),
    *(Coupling(f"{a}_motor", "acceleration", 0.0002, _ALL, i, True) for i, a in enumerate("xyz")),
)
_COMMON = (
    Coupling("Gz", "turning", 0.12, _TURN),
    Coupling("RMS", "load", 1500.0, _RAPID),
    Coupling("RMS", "speed", 15.0, _RAPID),
)
COUPLINGS: Mapping[str, tuple[Coupling, ...]] = MappingProxyType(
    {
        "current": _CURRENT_COUPLINGS,
        # The frame stands still: it feels the reaction to the drives, not the motion itself.
        "frame": (
            *_COMMON,
            Coupling("Ax", "acceleration", 1.5e-4, _ALL, 0),
            Coupling("Ay", "acceleration", 1.5e-4, _ALL, 1),
        ),
        "bed": (
            *_COMMON,
            Coupling("Ay", "acceleration", 4e-4, _ALL, 1),
            Coupling("My", "position", 0.1, _ALL, 1),
        ),
        "head": (
            *_COMMON,
            Coupling("Ax", "acceleration", 4e-4, _ALL, 0),
            Coupling("Az", "acceleration", 4e-4, _RAPID, 2),
            Coupling("Mx", "position", 0.1, _ALL, 0),
            Coupling("Mz", "position", 0.4, _RAPID, 2),
        ),
    }
)

# Standard deviations at noise 1, about those of the real recordings at rest.
_CURRENT_NOISE = MappingProxyType({"spindle": 0.1, "x_motor": 0.008, "y_motor": 0.008, "z_motor": 0.008})
_CURRENT_BASE = MappingProxyType({"spindle": 5.1, "x_motor": 0.2, "y_motor": 0.2, "z_motor": 0.2})
_NOISE = MappingProxyType(
    {
        "A": 0.012,
        "G": 0.25,
        "M": 0.8,
        "Pressure": 0.02,
        "Temperature": 0.03,
        "Proximity": 4.0,
        "Color": 3.0,
        "RMS": 400.0,
    }
)

# Mean and spread over frames of the values at rest, in the order Ax .. Mz (g, deg/s, uT).
_REST_MEAN = (-1.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0, 10.0, 0.0)
_REST_SPREAD = (0.01, 0.05, 0.02, 3.0, 2.5, 1.0, 20.0, 20.0, 50.0)


def kind(frame: str) -> str:
    """Where a frame is mounted: ``frame`` (stands still), ``bed`` (moves along y) or ``head`` (along x and z)."""
    if frame.startswith("y_bed"):
        return "bed"
    return "head" if frame.startswith(("spindle", "z_gant")) else "frame"


def lag(frame: str) -> int:
    """Status reports by which the frame's values trail the motion."""
    return _LAGS[kind(frame)]


def _driven(
    couplings: tuple[Coupling, ...], channel: str, state: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    total = np.zeros(len(state["speed"]))
    for c in couplings:
        if c.channel == channel:
            value = state[c.state] if c.axis is None else state[c.state][:, c.axis]
            total += c.gain * (np.abs(value) if c.magnitude else value)
    return total


def currents(
    rng: np.random.Generator, state: Mapping[str, NDArray[np.float64]], noise: float
) -> dict[str, NDArray[np.float32]]:
    """Motor currents in A, shape (n,), and their ``_A`` duplicates as the real files hold them."""
    out = {}
    for name in CURRENTS:
        value = _CURRENT_BASE[name] + _driven(COUPLINGS["current"], name, state)
        value += noise * _CURRENT_NOISE[name] * rng.standard_normal(len(value))
        out[name] = value.astype(np.float32)
    return out | {f"{name}_A": out[name] for name in CURRENTS}


def frame_values(
    rng: np.random.Generator,
    frame: str,
    state: Mapping[str, NDArray[np.float64]],
    noise: float,
    spindle_seconds: NDArray[np.float64],
) -> dict[str, NDArray[np.float32]]:
    """The 17 values of one frame, each float32 of shape (n,): g, deg/s, uT, kPa, degrees C, counts.

    ``state`` maps each name of a coupling's state to its values at the status reports;
    ``spindle_seconds`` is the time the spindle has run. Draws do not depend on ``noise``, so
    that two noise levels differ in amplitude alone.
    """
    n = len(spindle_seconds)
    late = np.maximum(np.arange(n) - lag(frame), 0)
    delayed = {name: values[late] for name, values in state.items()}
    # Where and how a frame is mounted is the same in every recording, but for a little.
    mount = np.random.default_rng([FRAMES.index(frame), 17])
    rest = dict(zip(FRAME_CHANNELS[:9], mount.normal(_REST_MEAN, _REST_SPREAD), strict=True))
    rest = {name: value + rng.normal(0.0, 0.3 * _NOISE[name[0]]) for name, value in rest.items()}
    light = np.exp(rng.normal(0, 0.3) + 0.2 * _wander(rng, n))
    base = {
        **rest,
        "Pressure": rng.uniform(99.8, 101.5) + 0.05 * _wander(rng, n),
        "Temperature": rng.uniform(26.0, 34.0) + 1.5 * (1 - np.exp(-spindle_seconds / 900.0)),
        "Proximity": rng.uniform(0, 150) + 10 * _wander(rng, n),
        **{f"Color{c}": level * light for c, level in zip("RGBA", (55, 50, 45, 140), strict=True)},
        "RMS": 450.0,
    }
    out = {}
    for channel in FRAME_CHANNELS:
        scale = _NOISE.get(channel) or _NOISE["Color" if channel.startswith("Color") else channel[0]]
        value = base[channel] + _driven(COUPLINGS[kind(frame)], channel, delayed)
        value = value + noise * scale * rng.standard_normal(n)
        if channel == "RMS" or channel.startswith(("Color", "Prox")):
            value = np.maximum(value, 0.0)
        out[f"{frame}.{channel}"] = np.asarray(value, dtype=np.float32)
    return out


def _wander(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A slow nuisance of unit size: a sum of three sines with random periods of 20 s and more."""
    t = np.arange(n) / 4.0
    period, phase = rng.uniform(20, 200, (3, 1)), rng.uniform(0, 2 * np.pi, (3, 1))
    return np.sin(2 * np.pi * t / period + phase).sum(axis=0) / np.sqrt(1.5)
