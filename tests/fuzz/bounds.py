"""How long a case may take and how much memory; and the cases that went wrong, to be repeated by a command."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SECONDS = 2.0  # of processor time, in which a small file is read or refused
MIB = 300  # beside what the process had before
_LIMIT = 4 << 30  # of addresses beside those in use: beyond it an allocation fails at once


class TooLong(BaseException):
    """Not an Exception, so that no reader takes it for a fault of its file."""


def _status(name: str) -> int:
    """A line of /proc/self/status in KiB; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def _too_long(*_: Any) -> None:
    raise TooLong


@contextmanager
def bounded() -> Iterator[None]:
    """Assert that the block keeps within time and memory.

    Time is the processor's, so that a loaded machine changes nothing; a timer ends what does not end. Memory is the
    peak of the resident set, which Linux sets back on request.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    resident, begun = _status("VmRSS"), time.process_time()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, ((_status("VmSize") << 10) + _LIMIT, hard))
    signal.setitimer(signal.ITIMER_PROF, 4 * SECONDS)
    try:
        yield
    except TooLong:
        raise AssertionError(f"no end after {4 * SECONDS:g} s of processor time") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)
    seconds, mib = time.process_time() - begun, (_status("VmHWM") - resident) / 1024
    assert seconds <= SECONDS, f"took {seconds:.1f} s of processor time; allowed are {SECONDS:g}"
    assert mib <= MIB, f"took {mib:.0f} MiB; allowed are {MIB}"
