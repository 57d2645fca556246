"""Stacked training: a generator that yields what happened in each epoch of each trial."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from imbalance_lab.errors import InputError, NonFiniteLossError
from imbalance_lab.models.stacked import StackedNetwork
from imbalance_lab.training.course import Epoch, Selection
from imbalance_lab.training.fit import autocast_for
from imbalance_lab.training.resident import Resident, make_resident
from imbalance_lab.training.stacked.groups import check_group
from imbalance_lab.training.stacked.layout import ParameterLayout
from imbalance_lab.training.stacked.member import Member
from imbalance_lab.training.stacked.stack import Stack
from imbalance_lab.training.trial import PreparedTrial

Outcome = Epoch | NonFiniteLossError | InputError

_CHECKPOINT_SHARE = 0.05
"""Checkpoints of a stack take at most this share of the time: an epoch of many small networks on a GPU is shorter
than writing all of them."""


def fit_stacked(
    trials: Sequence[PreparedTrial],
    selection: Selection,
    *,
    checkpoints: Sequence[Path | None] | None = None,
    fingerprints: Sequence[str] | None = None,
    size: int | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Train trials of one shape together; yield (place of the trial, epoch) as epochs end.

    Every trial gets what :func:`imbalance_lab.training.fit.fit` would give it: the same draws of its
    sampler and, on a CPU, of noise and dropout; its own losses, learning rate, decay, clip, phases,
    early stopping and checkpoint (which either trainer can take up). Results differ by rounding alone.
    A checkpoint is written when a trial ends, and before that whenever it is worth its time; what came
    after it is trained again.
    Before a trial's last epoch is yielded (``stopped``, or the last of its configuration), its network
    holds the weights of its best epoch, so it can be scored while the others go on.

    A trial that cannot go on (its loss became non-finite, its checkpoint is another trial's) yields
    the error in place of an epoch, once; its network must not be used then.

    Parameters
    ----------
    trials : a group of :func:`~imbalance_lab.training.stacked.groups.stack_groups`
    checkpoints, fingerprints : of each trial; see :func:`~imbalance_lab.training.fit.fit`
    size : most trials at a time; when one ends, the next takes its place. None trains all at once.

    Raises
    ------
    InputError
        If the trials cannot be trained together.
    """
    if size is not None and size < 1:
        raise InputError(f"size: found {size}; allowed are integers from 1")
    check_group(trials)
    if not trials:
        return
    first = trials[0]
    device, splits = torch.device(first.device), first.loaded.splits
    train = make_resident(first.network, first.loaded.dataset, splits.train, device)
    val = make_resident(first.network, first.loaded.dataset, splits.val, device)
    autocast = autocast_for(first.training, device)
    layout, network = ParameterLayout.of(first.network), StackedNetwork(first.network)
    waiting = deque(range(len(trials)))
    members: list[Member] = []
    stack: Stack | None = None
    pace = _Pace()
    while waiting or members:
        while waiting and (size is None or len(members) < size):
            place = waiting.popleft()
            checkpoint = checkpoints[place] if checkpoints is not None else None
            fingerprint = fingerprints[place] if fingerprints is not None else ""
            try:
                member = Member(place, trials[place], layout, selection, checkpoint, fingerprint)
            except InputError as error:
                yield place, error
                continue
            done = [Epoch(**epoch) for epoch in member.course.history]
            if member.course.ended:
                member.finish()
            else:
                members.append(member)
            for epoch in done:
                yield place, epoch
        if not members:
            continue
        if stack is None or stack.members != members:
            # Who has ended leaves at once, so that the others do not pay for it.
            stack = Stack(network, members, autocast)
        outcomes = _epoch(stack, train, val, pace)
        members = [m for m, outcome in outcomes if isinstance(outcome, Epoch) and not m.course.ended]
        for member, outcome in outcomes:
            yield member.place, outcome


class _Pace:
    """Says when checkpoints are due; mutable."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        """Whether so much time has gone by that writing is within its share."""
        return time.perf_counter() >= self._next

    def wrote(self, seconds: float) -> None:
        """What writing all of them took."""
        self._next = time.perf_counter() + seconds / _CHECKPOINT_SHARE


def _epoch(stack: Stack, train: Resident, val: Resident, pace: _Pace) -> list[tuple[Member, Outcome]]:
    """One epoch of every member, checkpoints written where they are due, finished networks filled."""
    for member in stack.members:
        if member.course.begins_phase:
            member.enter()
    begun = time.perf_counter()
    summaries = stack.train_epoch(train)
    confusions = stack.confusions(val)
    share = (time.perf_counter() - begun) / len(stack.members)
    out: list[tuple[Member, Outcome]] = []
    due, begun = pace.due(), time.perf_counter()
    for member, summary, confusion in zip(stack.members, summaries, confusions, strict=True):
        if isinstance(summary, NonFiniteLossError):
            out.append((member, summary))
            continue
        steps = -(-len(train) // member.config.batch_size)
        epoch = member.course.add(summary, confusion, share, steps, member.weights)
        if due or member.course.ended:
            member.save(summary.learning_rate)
        if member.course.ended:
            member.finish()
        out.append((member, epoch))
    if due:
        pace.wrote(time.perf_counter() - begun)
    return out
