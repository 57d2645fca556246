"""Memory that was freed, back to the system: allocators keep it, in pieces that later columns do not fit."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


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
