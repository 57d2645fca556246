"""Who works in a grid's folder: one owner at a time, with a heartbeat."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from imbalance_lab.atomic import write_json
from imbalance_lab.errors import InputError
from imbalance_lab.processes import began, here

BEAT_S = 2.0
"""How often the owner says that it lives, and looks whether another has taken over."""

STALE_S = 120.0
"""An owner on another machine that has been silent for so long is taken to be dead."""

_LOCK = "owner.json"


@dataclass(frozen=True)
class Owner:
    """A process that works in a folder; ``began`` is when it started, ``token`` tells it from all others."""

    place: str
    pid: int
    began: str
    token: str

    @staticmethod
    def this() -> Owner:
        """This process."""
        return Owner(here(), os.getpid(), began(os.getpid()), uuid4().hex)

    @property
    def host(self) -> str:
        """Name of its machine."""
        return self.place.split(" ")[0]

    @property
    def is_here(self) -> bool:
        """Whether it lives, or lived, on this machine."""
        return self.place == here()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def owning(
    root: Path, *, force: bool = False, say: Callable[[str], None] = print, beat_s: float = BEAT_S
) -> Iterator[Owner]:
    """Be the only one who works in ``root`` (made) while the block lasts.

    The lock of an owner that is dead is taken over: one of this machine whose process is gone, one of another machine
    that has been silent for :data:`STALE_S`. ``force`` takes it from a living one: that one ends within a beat,
    without another word to the tracking store, and the block begins when it has.

    Raises
    ------
    InputError
        If another process works there.
    """
    from filelock import FileLock

    root.mkdir(parents=True, exist_ok=True)
    file, me = root / _LOCK, Owner.this()
    with FileLock(f"{file}.guard", is_singleton=True):
        other = read_owner(root)
        lives = other is not None and is_alive(other, file)
        if other is not None and lives and not force:
            raise InputError(
                f"{root}: {other} works there, last heard of {_silence(file):.0f} s ago; wait until it ends, or "
                "take over with --force, which ends it"
            )
        _write(file, me)
    if other is not None:
        say(f"{root}: taken over from {other}, which {'is told to end' if lives else 'is dead'}")
        if lives:
            _await_end(other, 3 * beat_s)
    stop = threading.Event()
    watch = threading.Thread(target=_beat, args=(file, me, stop, beat_s), daemon=True, name="heartbeat")
    watch.start()
    try:
        yield me
    finally:
        stop.set()
        watch.join()
        with FileLock(f"{file}.guard", is_singleton=True):
            if read_owner(root) == me:
                file.unlink(missing_ok=True)


def read_owner(root: Path) -> Owner | None:
    """Who works in a folder, or worked there when it was killed."""
    try:
        plain: Any = json.loads((root / _LOCK).read_text(encoding="utf-8"))
        return Owner(str(plain["place"]), int(plain["pid"]), str(plain["began"]), str(plain["token"]))
    except (OSError, ValueError, KeyError, TypeError):  # nobody, or a file that no owner wrote
        return None


def is_alive(owner: Owner, file: Path) -> bool:
    """Whether an owner lives: on this machine its process exists, on another it was heard of lately."""
    if owner.is_here:
        return began(owner.pid) == owner.began
    return _silence(file) < STALE_S


def _silence(file: Path) -> float:
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except OSError:
        return float("inf")


def _write(file: Path, owner: Owner) -> None:
    write_json(file, asdict(owner))


def _await_end(owner: Owner, seconds: float) -> None:
    """Wait for an owner whose lock was taken: as long as its process lives here, but not for ever."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and (not owner.is_here or began(owner.pid) == owner.began):
        time.sleep(0.05)


def _beat(file: Path, me: Owner, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        found = read_owner(file.parent)
        if found is not None and found.token != me.token:
            # Not one more word to the store: another process writes to the same runs now.
            print(
                f"imbalance-lab: {found} has taken over {file.parent}; this process ends", file=sys.stderr, flush=True
            )
            os._exit(1)
        try:
            _write(file, me) if found is None else os.utime(file)
        except OSError:  # a full disk or a folder that was moved: the work itself will tell
            continue
