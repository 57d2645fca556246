"""Memory that was freed, back to the system: allocators keep it, in pieces that later columns do not fit."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

_PART = 1 << 24


@dataclass
class Freed:
    """Gives memory back by the 16 MiB: once for many short columns, for each of the long ones."""

    pending: int = 0

    def add(self, size: int) -> None:
        """Count ``size`` bytes that nothing holds any more."""
        self.pending += size
        if self.pending >= _PART:
            self.pending = 0
            give_back()


def give_back() -> None:
    """Return the pages that nothing holds any more, those of pyarrow and (where the C library is glibc) of numpy.

    Without it a table that is read column by column peaks at twice its size: glibc takes arrays of up to 32 MiB from
    its heap, which shrinks at its end only.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return None
