"""Many trainings in turn on one device: the numbers of one by one, early ends, failures, memory that runs out."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from training_cases import selection, trial_of

from imbalance_lab.training.course import Epoch
from imbalance_lab.training.together import (
    Done,
    Event,
    Failed,
    Halved,
    Measured,
    Steps,
    Took,
    out_of_memory,
    train_together,
)

KINDS = (
    "{}",
    "schedule: [{for: 0.5, sampler: class-balanced}, {for: 0.5, sampler: natural, augment: remix}]",
    "{loss: seesaw, sampler: {class-balanced: {q: 0.9}}, augment: mixup}",
    "schedule: {crt: {start: 0.5, resample: smote}}",
    "{loss: ldam}",
)


def numbers(epoch: Epoch) -> dict[str, object]:
    return {key: value for key, value in asdict(epoch).items() if key != "seconds"}


def start_of(text: str, seed: int = 0, folder: Path | None = None, **changes: object) -> Callable[[], Steps]:
    """How a training on the tiny data is begun, and begun anew."""

    def start() -> Steps:
        file = folder / f"{abs(hash(text))}-{seed}.pt" if folder else None
        return trial_of(text, seed=seed, **changes).steps(selection(), file, "f")

    return start


def alone(start: Callable[[], Steps]) -> list[dict[str, object]]:
    return [numbers(epoch) for epoch in start() if epoch is not None]


def took(events: list[Event], trial: int) -> list[dict[str, object]]:
    return [numbers(e.epoch) for e in events if isinstance(e, Took) and e.trial == trial]


def lacking(start: Callable[[], Steps], at: list[int]) -> Callable[[], Steps]:
    """``start``, but memory runs out at these steps, counted over all its beginnings."""
    count = 0

    def steps() -> Steps:
        nonlocal count
        for outcome in start():
            count += 1
            if count in at:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            yield outcome

    return steps


def test_trained_together_or_alone_the_numbers_are_the_same() -> None:
    starts = [start_of(text, seed) for seed in (0, 1) for text in KINDS]
    before = torch.get_rng_state()
    events = list(train_together(starts, "cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    for i, start in enumerate(starts):
        assert took(events, i) == alone(start)
    assert sorted(e.trial for e in events if isinstance(e, Done)) == list(range(len(starts)))


def test_they_really_take_turns() -> None:
    order: list[int] = []

    def watched(i: int) -> Steps:
        for outcome in start_of("{}", i)():
            order.append(i)
            yield outcome

    list(train_together([lambda i=i: watched(i) for i in range(3)], "cpu", most=2))
    half = len(order) // 3
    assert order[: 2 * half] == [0, 1] * half
    assert set(order[2 * half :]) == {2}


def test_an_early_stop_makes_room_for_the_next() -> None:
    starts = [start_of("{}", i, epochs=30, patience=1) for i in range(4)]
    events = list(train_together(starts, "cpu", most=2))
    ends = [alone(start)[-1] for start in starts]
    assert any(end["stopped"] for end in ends)
    for i in range(4):
        assert took(events, i)[-1] == ends[i]
    position = {e.trial: k for k, e in enumerate(events) if isinstance(e, Done)}
    first = [next(k for k, e in enumerate(events) if isinstance(e, Took) and e.trial == i) for i in range(4)]
    assert first[2] > min(position[0], position[1])
    assert first[3] > sorted(position[i] for i in range(3))[1]


def test_one_that_raises_does_not_stop_the_others_and_its_memory_is_free() -> None:
    held: list[weakref.ref[torch.nn.Module]] = []

    def broken() -> Steps:
        network = torch.nn.Linear(2, 2)
        held.append(weakref.ref(network))
        yield None
        raise FloatingPointError("lost")

    def cannot_begin() -> Steps:
        raise ValueError("no such strategy")

    starts = [start_of("{}"), broken, cannot_begin, start_of("{loss: focal}")]
    events = []
    for event in train_together(starts, "cpu"):
        events.append(event)
        if isinstance(event, Failed) and event.trial == 1:
            assert held[0]() is None
    assert {e.trial: str(e.error) for e in events if isinstance(e, Failed)} == {1: "lost", 2: "no such strategy"}
    assert {e.trial for e in events if isinstance(e, Done)} == {0, 3}
    for i in (0, 3):
        assert took(events, i) == alone(starts[i])


@pytest.mark.parametrize("keeps", [True, False], ids=["from checkpoints", "from the start"])
def test_a_lack_of_memory_halves_the_number_and_changes_no_result(keeps: bool, tmp_path: Path) -> None:
    folder = tmp_path if keeps else None
    plain = [start_of(text, folder=folder) for text in KINDS]
    expected = [alone(start_of(text)) for text in KINDS]
    # in the first step of one training, and within the second epoch of another
    begun: list[int] = []

    def counted(i: int, start: Callable[[], Steps]) -> Callable[[], Steps]:
        def steps() -> Steps:
            begun.append(i)
            return start()

        return steps

    starts = [counted(i, start) for i, start in enumerate(plain)]
    starts[2] = lacking(starts[2], [1])
    starts[1] = lacking(starts[1], [6])
    events = list(train_together(starts, "cpu"))
    assert [e for e in events if isinstance(e, Halved)] == [Halved(2, 5, 2), Halved(1, 2, 1)]
    for i, numbers_alone in enumerate(expected):
        assert took(events, i) == numbers_alone  # each epoch once, those of a second beginning left out
    assert {e.trial for e in events if isinstance(e, Done)} == set(range(5))
    assert [begun.count(i) for i in range(5)] == [1, 2, 2, 1, 1]  # the last two had not begun yet


def test_one_that_is_too_large_alone_fails_and_the_others_go_on() -> None:
    starts = [start_of("{}"), lacking(start_of("{}", 1), list(range(1, 1000))), start_of("{}", 2)]
    events = list(train_together(starts, "cpu"))
    failed = [e for e in events if isinstance(e, Failed)]
    assert [e.trial for e in failed] == [1]
    assert "out of memory" in str(failed[0].error)
    assert {e.trial for e in events if isinstance(e, Done)} == {0, 2}


class Room:
    """A device of ``size`` bytes, of which every training that is open takes its part."""

    def __init__(self, size: int, each: int) -> None:
        self.size, self.each = size, each
        self.open = self.most = self.released = 0

    def taking(self, start: Callable[[], Steps]) -> Callable[[], Steps]:
        def steps() -> Steps:
            self.open += 1
            self.most = max(self.most, self.open)
            try:
                if self.open * self.each > self.size:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                yield from start()
            finally:
                self.open -= 1

        return steps

    def free(self) -> int:
        return self.size - self.open * self.each

    def taken(self) -> int:
        return self.open * self.each

    def release(self) -> None:
        self.released += 1


@pytest.mark.parametrize(
    ("size", "each", "most", "at_once"),
    [(1000, 200, None, 4), (1000, 200, 3, 3), (10**9, 200, None, 6), (250, 200, None, 1)],
)
def test_the_first_training_shows_how_many_fit(size: int, each: int, most: int | None, at_once: int) -> None:
    room = Room(size, each)
    starts = [room.taking(start_of("{}", i, epochs=2)) for i in range(6)]
    events = list(train_together(starts, "cpu", most=most, memory=room))
    assert events[0] == Measured(at_once, each)
    assert room.most == at_once
    assert room.open == 0
    assert {e.trial for e in events if isinstance(e, Done)} == set(range(6))


def test_epochs_from_a_checkpoint_show_nothing(tmp_path: Path) -> None:
    room = Room(1000, 200)
    for i in (0, 1):  # the first is trained already, the second half-way
        for epoch in start_of("{}", i, tmp_path, epochs=3)():
            if i == 1 and epoch is not None and epoch.number == 2:
                break
    starts = [room.taking(start_of("{}", i, tmp_path, epochs=3)) for i in range(6)]
    events = list(train_together(starts, "cpu", memory=room))
    kinds = [(type(e).__name__, getattr(e, "trial", None)) for e in events[:7]]
    assert kinds == [*[("Took", 0)] * 3, ("Done", 0), *[("Took", 1)] * 2, ("Measured", None)]
    assert room.most == 4


def test_a_wrong_measure_is_corrected_by_halving() -> None:
    room = Room(1000, 200)
    starts = [room.taking(start_of("{}", i, epochs=2)) for i in range(9)]
    room.taken = lambda: 50  # type: ignore[method-assign]
    events = list(train_together(starts, "cpu", memory=room))
    assert [e for e in events if isinstance(e, Halved)] == [Halved(5, 9, 4)]
    assert room.released > 0
    assert {e.trial for e in events if isinstance(e, Done)} == set(range(9))


def test_leaving_early_closes_what_is_open() -> None:
    room = Room(10**9, 1)
    events = train_together([room.taking(start_of("{}", i)) for i in range(3)], "cpu")
    next(events)
    assert room.open == 3
    events.close()
    assert room.open == 0


def test_nothing_of_a_training_is_held_after_its_end() -> None:
    held: list[weakref.ref[torch.nn.Module]] = []

    def start() -> Steps:
        trial = trial_of("{}", epochs=1)
        held.append(weakref.ref(trial.network))
        return trial.steps(selection())

    for event in train_together([start, start], "cpu", most=1):
        gc.collect()
        if isinstance(event, Done):
            assert held[event.trial]() is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("any words"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_what_counts_as_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected


@pytest.mark.cuda
def test_on_cuda_the_numbers_are_those_of_one_by_one() -> None:
    starts = [start_of(text, seed, device="cuda") for seed in (0, 1) for text in KINDS]
    events = list(train_together(starts, "cuda"))
    for i, start in enumerate(starts):
        together, one = took(events, i), alone(start)
        for a, b in zip(together, one, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
            assert a["seen"] == b["seen"]
