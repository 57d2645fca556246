"""Many trainings on one device: each in a stream of its own, all stepped in turn by one thread."""

from __future__ import annotations

import gc
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from imbalance_lab.training.course import Epoch

Steps = Iterator[Epoch | None]
"""A training that can be interleaved, see :func:`imbalance_lab.training.fit.fit_steps`: None after each step that was
launched, an epoch when one has ended; random state and current stream of the process are left alone in between."""

Stream = torch.cuda.Stream | None

_SHARE = 0.9  # of the free memory; the rest is for what the first training did not show


@dataclass(frozen=True)
class Took:
    """A training ended an epoch."""

    trial: int
    epoch: Epoch


@dataclass(frozen=True)
class Done:
    """A training came to its end."""

    trial: int


@dataclass(frozen=True)
class Failed:
    """A training raised; the others go on."""

    trial: int
    error: Exception


@dataclass(frozen=True)
class Measured:
    """The first training showed how many fit: ``at_once`` of ``bytes_each`` bytes of the device's memory."""

    at_once: int
    bytes_each: int


@dataclass(frozen=True)
class Halved:
    """Memory ran out with ``before`` trainings at once, in the step of ``trial``; from here on at most ``at_once``."""

    trial: int
    before: int
    at_once: int


Event = Took | Done | Failed | Measured | Halved


class Memory(Protocol):
    """The memory that the trainings share, in bytes."""

    def free(self) -> int:
        """What could still be taken."""

    def taken(self) -> int:
        """The most that this process held since it was made."""

    def release(self) -> None:
        """Give back what is only kept for later."""


def train_together(
    starts: Sequence[Callable[[], Steps]], device: str, *, most: int | None = None, memory: Memory | None = None
) -> Iterator[Event]:
    """Train many on one device; yields what happened, in the order in which it did.

    One thread gives every open training a step in turn, so that a GPU has the kernels of all of them to
    choose from. The first trains one epoch alone; from the memory that it took follows how many are open at
    once. One that ends makes room for the next. Where memory runs out, the number halves: the training that
    hit it and those that were opened last are closed and, when there is room, begun anew, which goes on from
    their checkpoints where they keep any; epochs that were yielded before are not yielded again. A training
    that runs out of memory alone has failed. The numbers are those of trainings one by one.

    Parameters
    ----------
    starts : each begins a training (network, data, checkpoint) when called; called again after a lack of memory
    device : ``cpu``, ``cuda`` or ``cuda:N``
    most : at most so many at once (default: as many as the memory holds; on a CPU, which is not measured, all)
    memory : what is measured (default: that of a CUDA device)
    """
    where = torch.device(device)
    if memory is None and where.type == "cuda":
        memory = CudaMemory(where)
    waiting = deque(range(len(starts)))
    opened: list[_Training] = []
    streams: list[Stream] = []  # of trainings that ended: freed memory stays with its stream
    seen = [0] * len(starts)
    limit = len(starts) if most is None else most
    measured = memory is None
    try:
        while waiting or opened:
            while waiting and len(opened) < (limit if measured else 1):
                stream = streams.pop() if streams else _new_stream(where)
                opened.append(_Training(waiting[0], starts[waiting.popleft()], stream))
            for training in tuple(opened):
                if training not in opened:  # closed in this round, for lack of memory
                    continue
                outcome = training.step()
                if isinstance(outcome, Exception) and out_of_memory(outcome) and len(opened) > 1:
                    before, limit, measured = len(opened), len(opened) // 2, True
                    opened.remove(training)
                    closed = [training, *opened[limit:]]
                    del opened[limit:]
                    waiting.extendleft(one.trial for one in reversed(closed))
                    streams += _closed(closed, memory)
                    yield Halved(training.trial, before, limit)
                elif isinstance(outcome, Exception | _End):
                    opened.remove(training)
                    streams += _closed([training], memory if isinstance(outcome, Exception) else None)
                    yield Failed(training.trial, outcome) if isinstance(outcome, Exception) else Done(training.trial)
                elif outcome is None:
                    training.stepped = True
                else:
                    if memory is not None and not measured and training.stepped:
                        each, measured = max(1, memory.taken()), True
                        limit = max(1, min(limit, 1 + int(_SHARE * memory.free()) // each))
                        yield Measured(limit, each)
                    if outcome.number > seen[training.trial]:
                        seen[training.trial] = outcome.number
                        yield Took(training.trial, outcome)
    finally:
        _closed(opened, None)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory ran out; cuBLAS and graph capture have words of their own."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("CUDA error: out of memory" in text or "_STATUS_ALLOC_FAILED" in text)
    )


class CudaMemory:
    """The memory of a CUDA device, counted from when this is made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._free = self.free()  # makes the context, which is not a training's
        self._reserved = torch.cuda.memory_reserved(device)
        torch.cuda.reset_peak_memory_stats(device)

    def free(self) -> int:
        """See :class:`Memory`."""
        return int(torch.cuda.mem_get_info(self._device)[0])

    def taken(self) -> int:
        """See :class:`Memory`."""
        # Graphs and libraries take memory beside the allocator, and what the allocator gave back was needed too.
        return max(self._free - self.free(), torch.cuda.max_memory_reserved(self._device) - self._reserved)

    def release(self) -> None:
        """See :class:`Memory`."""
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class _End:
    """A training has nothing more to yield."""


class _Training:
    """An open training; its stream is current while it takes a step, and only then."""

    def __init__(self, trial: int, start: Callable[[], Steps], stream: Stream) -> None:
        self.trial, self.stream, self._start = trial, stream, start
        self.stepped = False  # epochs from a checkpoint come first, and take no memory
        self._steps: Steps | None = None

    def step(self) -> Epoch | Exception | _End | None:
        """What the next step gave; the training begins with the first."""
        try:
            with torch.cuda.stream(self.stream) if self.stream is not None else nullcontext():
                if self._steps is None:
                    self._steps = self._start()
                return next(self._steps, _End())
        except Exception as error:
            _forget_locals(error)
            return error

    def close(self) -> None:
        """Let go of the network, its graphs and the data on the device; an epoch that goes on is lost."""
        steps, self._steps = self._steps, None
        if isinstance(steps, Generator):
            steps.close()


def _forget_locals(error: BaseException | None) -> None:
    """Let go of what the frames of a traceback hold: tensors of a training that is over."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _new_stream(device: torch.device) -> Stream:
    return torch.cuda.Stream(device) if device.type == "cuda" else None


def _closed(trainings: Sequence[_Training], memory: Memory | None) -> list[Stream]:
    """Close them, and give back what they held to ``memory``; their streams are free."""
    for training in trainings:
        training.close()
    gc.collect()  # a network and its graphs refer to each other
    if memory is not None:
        memory.release()
    return [training.stream for training in trainings]
