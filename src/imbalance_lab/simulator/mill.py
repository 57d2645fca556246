"""A simulated mill that writes recordings with the columns of the real ones.

The embedded default, and the ground truth of the tests: which channels and lags carry a
command is known (:func:`causal_channels`), and each artefact that the audit must find can be
planted (:func:`plant`). Nothing in here is measured, and every product made from it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.errors import InputError
from imbalance_lab.simulator.faults import FAULTS, FRAME_FAULTS, plant, plant_frame
from imbalance_lab.simulator.kinematics import Motion, plan, sample
from imbalance_lab.simulator.sensors import COUPLINGS, FRAMES, currents, frame_values, kind, lag
from imbalance_lab.simulator.toolpaths import COMMANDS, INCH, NONE, OPERATIONS, Toolpath, command_shares, toolpath

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FAULTS",
    "FRAME_FAULTS",
    "OPERATIONS",
    "SimulatedMill",
    "causal_channels",
    "plant",
    "plant_remaining",
    "simulate",
]

_STEP = 0.257  # s between status reports, as the real controller sends them
_JITTER = 0.003  # s, standard deviation
_MISSED = 0.03  # share of reports that are lost: the next one comes twice as late
_TABLE = np.array([87.4, 56.3, -25.9925])  # machine coordinates of the middle of the part, mm; z is the stock's top
_WARM_UP = 450.0  # s that the spindle has run before a recording, at most


@dataclass(frozen=True)
class SimulatedMill:
    """What to simulate.

    Attributes
    ----------
    n_recordings : number of programmes, dealt to ``operations`` in turn
    rows_per_recording : status reports of each, about (the programme's length decides)
    imbalance_ratio : share of the most frequent of G0..G3 over that of the rarest, about
        1 makes the four equally frequent; the default resembles a real mill (G1 about 85 %).
    noise : scale of the sensor noise
        0 is noiseless, 1 resembles real sensors, 30 drowns every command. Positions and the
        controller's own read-outs are exact at any noise.
    n_frames : sensor frames, 1..16
    seed : recording ``i`` depends on (seed, i) alone
    faults : fault name (one of :data:`FAULTS`) to its strength in [0, 1]
    operations : a subset of :data:`OPERATIONS`
    """

    n_recordings: int = 36
    rows_per_recording: int = 250
    imbalance_ratio: float = 25.0
    noise: float = 1.0
    n_frames: int = 4
    seed: int = 0
    faults: Mapping[str, float] = field(default_factory=dict)
    operations: tuple[str, ...] = OPERATIONS

    def __post_init__(self) -> None:
        _within("n_recordings", self.n_recordings, 1, 10_000)
        _within("rows_per_recording", self.rows_per_recording, 80, 100_000)
        _within("n_recordings x rows_per_recording", self.n_recordings * self.rows_per_recording, 1, 20_000_000)
        _within("imbalance_ratio", self.imbalance_ratio, 1, 1000)
        _within("noise", self.noise, 0, 1e6)
        _within("n_frames", self.n_frames, 1, len(FRAMES))
        _within("seed", self.seed, 0, 2**63 - 1)
        for name, strength in self.faults.items():
            if name not in FAULTS:
                raise InputError(f"simulated mill: unknown fault {name!r}; allowed are {', '.join(FAULTS)}")
            _within(f"strength of the fault {name!r}", strength, 0, 1)
        unknown = [op for op in self.operations if op not in OPERATIONS]
        if unknown or not self.operations:
            found = unknown[0] if unknown else "none"
            raise InputError(f"simulated mill: operations: found {found!r}; allowed are {', '.join(OPERATIONS)}")

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of the sensor frames."""
        return FRAMES[: self.n_frames]


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"simulated mill: {name} is {value}; allowed is {low:g} to {high:g}")


def simulate(options: SimulatedMill) -> pd.DataFrame:
    """Recordings of the simulated mill, one row per status report of the controller (about 4 Hz).

    Columns and units are those of the real recordings: work position in inches, machine
    position in mm, feed in mm/min, currents in A, and 17 values per sensor frame. The faults
    that live in the recordings (:data:`FRAME_FAULTS`) are in them; the others are planted in
    the loaded data by :func:`plant_remaining`.

    Returns
    -------
    pandas.DataFrame
        float32 and int32 columns, and the strings ``recording, t_console, gcode_string``.
    """
    import pandas as pd

    frame = pd.concat([_recording(options, i) for i in range(options.n_recordings)], ignore_index=True)
    for name in FRAME_FAULTS:
        if name in options.faults:
            frame = plant_frame(frame, name, options.faults[name], options.seed)
    return frame


def plant_remaining(loaded: LoadedData, options: SimulatedMill) -> LoadedData:
    """Plant those of ``options.faults`` that :func:`simulate` could not put into the recordings."""
    for name in FAULTS:
        if name in options.faults and name not in FRAME_FAULTS:
            loaded = plant(loaded, name, options.faults[name], options.seed)
    return loaded


def causal_channels(options: SimulatedMill) -> dict[str, tuple[tuple[str, int], ...]]:
    """Channels that carry each command, with their lags: the ground truth of interpretation.

    Read from the same table of couplings that :func:`simulate` uses. A pair ``(channel, k)``
    means that the channel's value ``k`` rows after a row carries that row's command; a
    channel that follows a *position* tells motion by its change, so it appears at three lags.
    The controller's read-outs (``mpo*, pos*, line, feed, stat, unit, coor, momo``) follow the
    programme exactly and are left out, except for ``none`` (M30), which they alone carry. All
    other sensor channels are nuisances.

    Returns
    -------
    dict of ``G0, G1, G2, G3, none`` to tuples of (channel, lag), currents first, then frame by frame
    """
    named = [("", "current", 0), *((f"{frame}.", kind(frame), lag(frame)) for frame in options.frames)]
    causes: dict[str, tuple[tuple[str, int], ...]] = {}
    for command in COMMANDS:
        pairs: dict[tuple[str, int], None] = {}
        for prefix, where, delay in named:
            for c in COUPLINGS[where]:
                if command not in c.commands:
                    continue
                copies = (c.channel, f"{c.channel}_A") if where == "current" else (prefix + c.channel,)
                lags = (delay - 1, delay, delay + 1) if c.state == "position" else (delay,)
                pairs |= {(copy, k): None for copy in copies for k in lags}
        causes[command] = tuple(pairs)
    causes["none"] = (("stat", 0), ("unit", 0), ("coor", 0))
    return causes


def _recording(options: SimulatedMill, index: int) -> pd.DataFrame:
    import pandas as pd

    # One generator per purpose: the programme does not depend on the noise or the number of frames.
    rng = {name: np.random.default_rng([options.seed, index, k]) for k, name in enumerate(("path", "time", "sensors"))}
    operation = options.operations[index % len(options.operations)]
    seconds = options.rows_per_recording * _STEP * (1 + _MISSED)
    path = toolpath(rng["path"], operation, command_shares(options.imbalance_ratio), seconds)
    profile = plan(path)
    end = profile.begin[-1] + profile.duration[-1]
    times = _report_times(rng["time"], end)
    motion = sample(path, profile, times)
    b = motion.block
    corners = np.concatenate([path.start, path.end])
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    offset = _TABLE - middle * [1, 1, 0] + rng["path"].uniform([-10, -10, 0], [10, 10, 0])
    speed = np.linalg.norm(motion.velocity, axis=1)
    load = np.where(path.cutting[b], speed / np.max(path.speed[path.cutting], initial=1e-9), 0.0)
    # A controller that homes leaves the work coordinates; sensors feel the machine's.
    state = {
        "position": motion.position, "velocity": motion.velocity, "acceleration": motion.acceleration,
        "turning": motion.turning, "load": load, "speed": speed,
    }  # fmt: skip
    columns: dict[str, object] = {"recording": f"{operation}_{index + 1:03d}"}
    columns |= _controller(path, motion, offset, times, index)
    columns |= currents(rng["sensors"], state, options.noise)
    running = rng["time"].uniform(0, _WARM_UP) + times
    for k, frame in enumerate(options.frames):
        frame_rng = np.random.default_rng([options.seed, index, 100 + k])
        columns |= frame_values(frame_rng, frame, state, options.noise, running)
    return pd.DataFrame(columns)


def _report_times(rng: np.random.Generator, end: float) -> NDArray[np.float64]:
    """Times of the status reports in s, increasing, from 0 to ``end``."""
    n = int(end / _STEP * 1.1) + 8
    step = np.maximum(_STEP + _JITTER * rng.standard_normal(n), 0.2) * (1 + (rng.random(n) < _MISSED))
    times = np.cumsum(step) - step[0]
    return times[times < end]


def _controller(
    path: Toolpath, motion: Motion, offset: NDArray[np.float64], times: NDArray[np.float64], index: int
) -> dict[str, object]:
    """What the controller reports: block text, state, positions, modes."""
    b = motion.block
    done = path.command[b] == NONE
    machine = motion.position + offset
    work = np.where(done[:, None], machine, motion.position / INCH)  # after M30: machine coordinates in mm
    line = (b + 12).astype(np.int32)
    clock = np.round((10 * 3600 + 300 * index + times) * 1000).astype(np.int64)  # ms of the day
    hour, rest = np.divmod(clock, 3_600_000)
    minute, rest = np.divmod(rest, 60_000)
    second, milli = np.divmod(rest, 1000)
    stamp = [f"{h % 24:02d}:{m:02d}:{s:02d}.{ms:03d}" for h, m, s, ms in zip(hour, minute, second, milli, strict=True)]
    constant = {
        "unit": np.where(done, 1, 0).astype(np.int32),
        "dist": np.zeros(len(b), dtype=np.int32),
        "coor": np.where(done, 1, 2).astype(np.float32),
    }
    return {
        "t_console": stamp,
        "gcode_line": line.astype(np.float32),
        "gcode_string": np.array(path.text, dtype=object)[b],
        "stat": np.where(done, 3, 5).astype(np.int32),
        "line": line,
        **{f"pos{a}": work[:, i].astype(np.float32) for i, a in enumerate("xyz")},
        **{f"mpo{a}": machine[:, i].astype(np.float32) for i, a in enumerate("xyz")},
        "feed": path.feed[b].astype(np.float32),
        **constant,
        "momo": path.command[b].astype(np.float32),
    }
