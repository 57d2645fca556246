"""Processes that end in order: signals as exceptions, workers that do not outlive their parent, who is alive."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from imbalance_lab.errors import Stopped

_PATIENCE_S = 5.0  # a second signal so soon is the first one's echo: `timeout` and Ctrl-C also reach the group
_LOOK_S = 0.5


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block the main thread raises :class:`~imbalance_lab.errors.Stopped` at SIGTERM, SIGINT or SIGHUP.

    A signal that was ignored before (``nohup``, a background job of a shell) still is. What comes within
    seconds of the first is ignored, so that it does not cut short what ends the program in order; a later one ends it
    at once. In another thread than the main one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise Stopped(number)
        if time.monotonic() - first[0] > _PATIENCE_S:
            os._exit(128 + number)

    before: dict[int, Any] = {}
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def begin_worker(parent: int) -> None:
    """What a worker process does first: leave signals to its parent, and end when that ends.

    A terminal and ``timeout`` send signals to the whole group. The parent alone decides, so that no worker tells of an
    interrupt as if it were the failure of a trial.

    Parameters
    ----------
    parent : process id of the parent
    """
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def watch() -> None:
        # A thread, and no PR_SET_PDEATHSIG: Linux sends that when the thread ends that started the process.
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    if hasattr(os, "getppid") and os.name == "posix":
        threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def here() -> str:
    """This machine since it was started, and the space of its process ids: two containers of one name differ."""
    parts = [socket.gethostname()]
    for read in (_boot, _space):
        with suppress(OSError):
            parts.append(read())
    return " ".join(parts)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _space() -> str:
    return os.readlink("/proc/self/ns/pid")


def began(pid: int) -> str:
    """When a process of this machine began, as the system counts it: its id may be another's by now.

    Returns
    -------
    "" where there is no such process, "?" where there is one whose beginning the system does not tell.
    """
    try:
        # The name of the program may hold blanks and brackets; what follows its last bracket does not.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return ""
    except OSError:
        return "?"
    return "?"
