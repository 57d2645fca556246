"""Motion of the simulated mill: trapezoidal speed over the blocks of a toolpath, sampled at given times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.simulator.toolpaths import TANGENTIAL, Toolpath


@dataclass(frozen=True)
class Profile:
    """Speed along each of B blocks: accelerate from ``entry`` to ``peak``, cruise, brake to ``exit``.

    Arrays of shape (B,); speeds in mm/s, times in s, ``length`` in mm. ``begin`` is the time at
    which the block starts, ``duration`` how long it lasts.
    """

    length: NDArray[np.float64]
    entry: NDArray[np.float64]
    peak: NDArray[np.float64]
    exit: NDArray[np.float64]
    begin: NDArray[np.float64]
    duration: NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """State of the tool at n sampled times; mm, mm/s, mm/s^2, rad/s.

    ``block`` int64 (n,); ``position, velocity, acceleration`` float64 (n, 3); ``turning``
    float64 (n,) is the rate at which the direction of motion turns, counter-clockwise positive.
    """

    block: NDArray[np.int64]
    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    turning: NDArray[np.float64]


def _radius(path: Toolpath) -> NDArray[np.float64]:
    return np.hypot(*(path.start[:, :2] - path.centre).T)


def plan(path: Toolpath) -> Profile:
    """Look-ahead plan: as fast as programmed, within the acceleration limit, stopping at corners.

    An arc is taken no faster than its centripetal acceleration v^2 / r allows, and changes of
    speed use the other half of the (squared) limit, so that the sum never exceeds it.
    """
    arc = path.turn != 0
    radius = _radius(path)
    length = np.where(arc, np.abs(path.turn) * radius, np.linalg.norm(path.end - path.start, axis=1))
    limit = np.where(arc, np.minimum(path.speed, np.sqrt(TANGENTIAL * radius)), path.speed)
    junction = np.zeros(len(length) + 1)  # speed before each block, and after the last
    junction[1:-1] = np.where(path.tangent[1:], np.minimum(limit[:-1], limit[1:]), 0.0)
    reach = 2 * TANGENTIAL * length
    # Two sweeps over the blocks (not the samples): each depends on its neighbour's result.
    for b in range(len(length)):
        junction[b + 1] = min(junction[b + 1], np.sqrt(junction[b] ** 2 + reach[b]))
    for b in range(len(length) - 1, -1, -1):
        junction[b] = min(junction[b], np.sqrt(junction[b + 1] ** 2 + reach[b]))
    entry, leave = junction[:-1], junction[1:]
    peak = np.minimum(limit, np.sqrt((reach + entry**2 + leave**2) / 2))
    ramps = (2 * peak**2 - entry**2 - leave**2) / (2 * TANGENTIAL)
    moving = (2 * peak - entry - leave) / TANGENTIAL + np.maximum(length - ramps, 0.0) / np.maximum(peak, 1e-12)
    duration = np.where(length > 0, moving, path.dwell)
    return Profile(length, entry, peak, leave, np.concatenate([[0.0], np.cumsum(duration)[:-1]]), duration)


def sample(path: Toolpath, profile: Profile, times: NDArray[np.float64]) -> Motion:
    """State of the tool at ``times`` (float64, shape (n,), seconds from the start)."""
    b = np.clip(np.searchsorted(profile.begin, times, side="right") - 1, 0, len(profile.begin) - 1)
    t = np.clip(times - profile.begin[b], 0.0, profile.duration[b])
    entry, peak, leave, a = profile.entry[b], profile.peak[b], profile.exit[b], TANGENTIAL
    moving = profile.length[b] > 0
    up, down = (peak - entry) / a, (peak - leave) / a
    brake = profile.duration[b] - down
    rest = profile.duration[b] - t
    speeding, braking = t < up, t > brake
    speed = np.where(speeding, entry + a * t, np.where(braking, leave + a * rest, peak))
    cruise = (entry + peak) / 2 * up + peak * (t - up)
    along = np.where(speeding, entry * t + a * t**2 / 2, np.where(braking, 0.0, cruise))
    along = np.where(braking, profile.length[b] - leave * rest - a * rest**2 / 2, along)
    speed = np.where(moving, speed, 0.0)
    push = np.where(moving & speeding, a, np.where(moving & braking, -a, 0.0))

    share = (along / np.maximum(profile.length[b], 1e-12))[:, None]
    direction = (path.end - path.start)[b] / np.maximum(profile.length[b], 1e-12)[:, None]
    position = path.start[b] + share * (path.end - path.start)[b]
    arc = (path.turn != 0)[b]
    radius = np.maximum(_radius(path)[b], 1e-12)
    offset = (path.start[:, :2] - path.centre)[b]
    angle = np.arctan2(offset[:, 1], offset[:, 0]) + share[:, 0] * path.turn[b]
    outward = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    side = np.sign(path.turn[b])
    ahead = side[:, None] * np.stack([-outward[:, 1], outward[:, 0], outward[:, 2]], axis=1)
    direction = np.where(arc[:, None], ahead, direction)
    round_ = np.stack([path.centre[b, 0], path.centre[b, 1], path.start[b, 2]], axis=1) + radius[:, None] * outward
    position = np.where(arc[:, None], round_, position)
    inward = np.where(arc, speed**2 / radius, 0.0)[:, None] * -outward
    return Motion(
        block=b,
        position=position,
        velocity=speed[:, None] * direction,
        acceleration=push[:, None] * direction + inward,
        turning=np.where(arc, side * speed / radius, 0.0),
    )
