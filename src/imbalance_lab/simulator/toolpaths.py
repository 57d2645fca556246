"""Toolpaths of the simulated mill: facing, pocket and adaptive passes as lists of G-code blocks.

A path is drawn by a pen that knows its position and heading. Cutting moves join tangentially
(line, arc, line) unless they turn a corner, where the machine stops. How many arcs and rapids
there are, and how long the lines between them, follows from the share of time that each
command is to have: the imbalance is a property of the programme, not of a resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

COMMANDS = ("G0", "G1", "G2", "G3")
NONE = 4
"""Motion mode of a block without motion (M30), as the controller counts it."""
OPERATIONS = ("face", "pocket", "adaptive")

RAPID_SPEED = 45.0  # mm/s
MAX_ACCELERATION = 250.0  # mm/s^2, of the tool as a whole; axes share it
TANGENTIAL = MAX_ACCELERATION / math.sqrt(2)  # so that with as much again across the path the sum keeps the limit
INCH = 25.4

_HOME_Z, _RETRACT_Z, _CLEAR_Z = 1.0233 * INCH, 0.6 * INCH, 0.05 * INCH  # mm above the stock
_PLUNGE_SPEED = 7.3 * INCH / 60  # mm/s
_FEED = 22.0  # inch/min, varied by recording
_SHORTEST_RAPID = 0.3  # s
_SECONDS_OF_NONE = 1.1  # M30 is reported a few times before the recording ends
_STEP_OVER = 1.5  # mm
_LONGEST_PASS = {"face": 85.0, "pocket": 55.0, "adaptive": 30.0}  # mm
_ARC_SECONDS = {"face": 0.6, "pocket": 0.6, "adaptive": 0.4}  # about one to three status reports, as on the real mill


@dataclass(frozen=True)
class Toolpath:
    """B blocks of a programme, in the order of execution; lengths in mm, times in s.

    Attributes
    ----------
    command : int64 array of shape (B,)
        0..3 for G0..G3, or :data:`NONE`.
    start, end : float64 arrays of shape (B, 3)
        Work coordinates.
    centre : float64 array of shape (B, 2); meaningless for lines
    turn : float64 array of shape (B,)
        Signed angle of an arc in rad, counter-clockwise positive; 0 for lines.
    speed : float64 array of shape (B,)
        Programmed speed in mm/s.
    tangent : bool array of shape (B,)
        Whether the block continues the direction of the one before (no stop between them).
    cutting : bool array of shape (B,)
    dwell : float64 array of shape (B,)
        Seconds that a block without motion lasts.
    feed : float64 array of shape (B,)
        Modal F word in force, mm/min.
    text : tuple of B strings
    """

    command: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    centre: NDArray[np.float64]
    turn: NDArray[np.float64]
    speed: NDArray[np.float64]
    tangent: NDArray[np.bool_]
    cutting: NDArray[np.bool_]
    dwell: NDArray[np.float64]
    feed: NDArray[np.float64]
    text: tuple[str, ...]


def command_shares(imbalance_ratio: float) -> NDArray[np.float64]:
    """Shares of time of G0..G3 whose largest is ``imbalance_ratio`` times the smallest.

    The four are spaced as in the recordings of a real mill (G1, then G0, G3, G2) by a power of
    the ratio, so that a ratio of 1 gives equal shares. Returns float64 of shape (4,), sum 1.
    """
    weights = imbalance_ratio ** np.array([0.2, 1.0, 0.0, 0.1])
    return weights / weights.sum()


def rapid_length(seconds: float) -> float:
    """Length in mm that a rapid from stop to stop covers in ``seconds`` (trapezoid, or triangle where short)."""
    ramp = RAPID_SPEED / TANGENTIAL
    return RAPID_SPEED * (seconds - ramp) if seconds > 2 * ramp else TANGENTIAL * seconds**2 / 4


def rapid_seconds(length: float) -> float:
    """Inverse of :func:`rapid_length`."""
    ramp = RAPID_SPEED / TANGENTIAL
    return length / RAPID_SPEED + ramp if length > RAPID_SPEED * ramp else 2 * math.sqrt(length / TANGENTIAL)


@dataclass
class _Pen:
    """Draws blocks; the position and the modal words are what a controller would remember."""

    feed_speed: float
    at: NDArray[np.float64] = field(default_factory=lambda: np.array([0.0, 0.0, _HOME_Z]))
    heading: float = 0.0
    mode: int | None = None
    feed_word: float = 0.0  # inch/min
    tangent_next: bool = False
    rows: list[tuple[object, ...]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def _add(self, command: int, end: NDArray[np.float64], speed: float, **more: object) -> None:
        centre = more.get("centre", (0.0, 0.0))
        radius = more.get("radius")
        prefix = str(more.get("prefix", ""))
        words = []
        if command != self.mode or prefix:
            words.append(f"{prefix}{COMMANDS[command]}")
        for axis, letter in enumerate("XYZ"):
            if abs(end[axis] - self.at[axis]) > 1e-9:
                words.append(letter + ("0." if prefix else number(end[axis] / INCH)))
        if radius is not None:
            words.append("R" + number(float(radius) / INCH))  # type: ignore[arg-type]
        feed = round(speed * 60 / INCH, 1)
        if command != 0 and feed != self.feed_word:
            words.append("F" + number(feed))
            self.feed_word = feed
        tangent = self.tangent_next and bool(more.get("tangent", True))
        cutting = command != 0 and end[2] <= 0
        feed_word = self.feed_word * INCH
        self.rows.append(
            (command, self.at, end, centre, more.get("turn", 0.0), speed, tangent, cutting, 0.0, feed_word)
        )
        self.text.append(" ".join(words))
        self.at, self.mode, self.tangent_next = end, command, command != 0

    def pause(self, command: int, seconds: float, text: str) -> None:
        self.rows.append((command, self.at, self.at, (0.0, 0.0), 0.0, 1.0, False, False, seconds, 0.0))
        self.text.append(text)
        self.mode, self.tangent_next = command, False

    def rapid(self, x: float, y: float, z: float, prefix: str = "") -> None:
        self._add(0, np.array([x, y, z]), RAPID_SPEED, prefix=prefix, tangent=False)

    def plunge(self, z: float) -> None:
        self._add(1, np.array([self.at[0], self.at[1], z]), _PLUNGE_SPEED)
        self.tangent_next = False

    def line(self, length: float, side: float = 0.0, tangent: bool = True) -> None:
        """Cut straight ahead, or sideways by ``side`` (to the left) without turning."""
        c, s = math.cos(self.heading), math.sin(self.heading)
        step = np.array([c * length - s * side, s * length + c * side, 0.0])
        self._add(1, self.at + step, self.feed_speed, tangent=tangent)
        self.tangent_next = side == 0.0

    def arc(self, radius: float, turn: float) -> None:
        """Cut an arc of ``turn`` rad to the left (G3) or right (G2) that continues the heading."""
        side = math.copysign(1.0, turn)
        h = self.heading
        centre = self.at[:2] + side * radius * np.array([-math.sin(h), math.cos(h)])
        h += turn
        end = centre - side * radius * np.array([-math.sin(h), math.cos(h)])
        command = 3 if turn > 0 else 2
        full = np.array([end[0], end[1], self.at[2]])
        self._add(command, full, self.feed_speed, centre=tuple(centre), turn=turn, radius=radius)
        self.heading = h


def number(value: float) -> str:
    """A G-code number in the style of the recordings: four decimals at most, ``0.`` for zero."""
    text = f"{value:.4f}".rstrip("0")
    return "0." if text in {"0.", "-0."} else text


def toolpath(
    rng: np.random.Generator, operation: str, shares: NDArray[np.float64] | Sequence[float], seconds: float
) -> Toolpath:
    """A programme of about ``seconds`` s in which G0..G3 take about ``shares`` of the time of motion.

    Parameters
    ----------
    rng : draws sizes, feed, order of the arcs and place of the part
    operation : one of :data:`OPERATIONS`
    shares : four shares, sum 1
    """
    motion = seconds - _SECONDS_OF_NONE
    time0, time1, time2, time3 = (float(s) * motion for s in shares)
    pen = _Pen(feed_speed=round(_FEED * rng.uniform(0.85, 1.15), 1) * INCH / 60)
    heading = rng.choice(4) * math.pi / 2
    links, rapid = _plan_rapids(time0)
    depth = -rng.uniform(0.02, 0.06) * INCH
    turns = _turns(rng, operation, time2, time3, pen.feed_speed)
    plunges = (links + 1) * (_CLEAR_Z - depth) / _PLUNGE_SPEED
    cut = max(time1 - plunges, 0.1 * time1) * pen.feed_speed  # mm of straight cutting
    groups = np.array_split(np.arange(len(turns)), links + 1)
    lengths = _line_lengths(rng, operation, [len(g) for g in groups], cut)

    for group, lines in zip(groups, lengths, strict=True):
        if pen.mode is not None:
            pen.rapid(pen.at[0], pen.at[1], _RETRACT_Z)
        # Back towards the middle of the part, so that the path stays on the table.
        away = math.atan2(-pen.at[1], -pen.at[0]) + rng.uniform(-0.5, 0.5)
        pen.rapid(pen.at[0] + rapid * math.cos(away), pen.at[1] + rapid * math.sin(away), pen.at[2])
        if pen.at[2] > _RETRACT_Z:
            pen.rapid(pen.at[0], pen.at[1], _RETRACT_Z)
        pen.rapid(pen.at[0], pen.at[1], _CLEAR_Z)
        pen.plunge(depth)
        pen.heading = heading if operation == "face" else rng.uniform(0, 2 * math.pi)
        for i, length in enumerate(lines):
            _pass(pen, rng, operation, length)
            if i < len(group):
                pen.arc(*turns[group[i]])
    pen.rapid(pen.at[0], pen.at[1], _RETRACT_Z)
    pen.rapid(pen.at[0], pen.at[1], _HOME_Z, prefix="G53 ")
    pen.pause(NONE, _SECONDS_OF_NONE, "M30")
    return _freeze(pen)


def _plan_rapids(time0: float) -> tuple[int, float]:
    """Number of retract-travel-plunge links between passes, and the length in mm of each travel."""
    down, up = rapid_seconds(_RETRACT_Z - _CLEAR_Z), rapid_seconds(_RETRACT_Z + 1.0)
    first_and_last = 2 * rapid_seconds(_HOME_Z - _RETRACT_Z) + down + up
    link = down + up
    links = max(0, round((time0 - first_and_last - _SHORTEST_RAPID) / (link + 1.5 * _SHORTEST_RAPID)))
    travel = (time0 - first_and_last - links * link) / (links + 1)
    return links, rapid_length(max(travel, _SHORTEST_RAPID))


def _turns(
    rng: np.random.Generator, operation: str, time2: float, time3: float, speed: float
) -> list[tuple[float, float]]:
    """(radius, signed angle) of every arc, in the order in which they are cut."""
    wanted = _ARC_SECONDS[operation]
    sides = []
    for seconds, side in ((time3, 1.0), (time2, -1.0)):
        # A share that is worth less than one arc is met over many recordings, not by invisible arcs.
        n = round(seconds / wanted) if seconds > wanted else int(rng.random() < seconds / wanted)
        each = seconds / n if seconds > wanted else wanted
        angle = {"face": np.full(n, math.pi), "pocket": np.full(n, math.pi / 2)}.get(operation)
        angle = rng.uniform(0.4, 1.0, n) * math.pi if angle is None else angle
        duration = each * rng.uniform(0.8, 1.2, n)
        if n:
            duration *= each * n / duration.sum()
        sides.append([(d * speed / a, side * a) for d, a in zip(duration, angle, strict=True)])
    left, right = sides
    if operation == "pocket":
        return left + right
    both = [t for i in range(max(len(left), len(right))) for s in sides for t in s[i : i + 1]]
    return [both[i] for i in rng.permutation(len(both))] if operation == "adaptive" else both


def _line_lengths(rng: np.random.Generator, operation: str, arcs: Sequence[int], total: float) -> list[list[float]]:
    """Lengths in mm of the lines of each group: one more than the group has arcs, ``total`` in all."""
    weights = [rng.uniform(0.9, 1.1, n + 1) for n in arcs]
    if operation == "pocket":  # spiral inwards
        weights = [w * np.linspace(1.0, 0.4, len(w)) for w in weights]
    elif operation == "adaptive":
        weights = [rng.gamma(4.0, 0.25, len(w)) + 0.1 for w in weights]
    scale = total / sum(float(w.sum()) for w in weights)
    return [(w * scale).tolist() for w in weights]


def _pass(pen: _Pen, rng: np.random.Generator, operation: str, length: float) -> None:
    """Cut ``length`` mm: back and forth where it is longer than the part, in short blocks where adaptive."""
    runs = math.ceil(length / _LONGEST_PASS[operation])
    for run in range(runs):
        if run:
            pen.line(0.0, side=_STEP_OVER, tangent=False)
            pen.heading += math.pi
            length -= _STEP_OVER / runs
        pieces = np.array([length / runs])
        if operation == "adaptive":
            pieces = rng.dirichlet(np.full(max(1, round(length / runs / (0.6 * pen.feed_speed))), 8.0)) * length / runs
        for piece in pieces:
            pen.line(float(piece))


def _freeze(pen: _Pen) -> Toolpath:
    command, start, end, centre, turn, speed, tangent, cutting, dwell, feed = zip(*pen.rows, strict=True)
    return Toolpath(
        command=np.array(command, dtype=np.int64),
        start=np.array(start),
        end=np.array(end),
        centre=np.array(centre),
        turn=np.array(turn, dtype=np.float64),
        speed=np.array(speed, dtype=np.float64),
        tangent=np.array(tangent, dtype=bool),
        cutting=np.array(cutting, dtype=bool),
        dwell=np.array(dwell, dtype=np.float64),
        feed=np.array(feed, dtype=np.float64),
        text=tuple(pen.text),
    )
