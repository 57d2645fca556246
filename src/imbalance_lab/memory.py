"""How much a file may ask for: by what it holds, and by the memory that is free."""

from __future__ import annotations

from pathlib import Path

from imbalance_lab.errors import InputError

FREE = 1 << 28
"""Bytes that any file may take in memory, however small it is."""

_PACKED = 200  # times its size that a file of packed arrays may take; numbers that were measured pack 10 times at most
_TABLE = 1000  # and a Parquet file, whose columns may hold one value all the way
_COPIES = 2  # of what is read, at least, until it is coded
_CGROUP = Path("/sys/fs/cgroup")


def require_room(what: str, needed: int, file: Path) -> None:
    """Refuse arrays that take far more than their file holds, or more than there is; to be asked before reading them.

    Parameters
    ----------
    what : begins the message
    needed : bytes of the arrays, as their headers have it

    Raises
    ------
    InputError
        If so.
    """
    size, times = max(1, file.stat().st_size), _TABLE if file.suffix.lower() == ".parquet" else _PACKED
    if needed > max(FREE, times * size):
        raise InputError(
            f"{what} takes {_told(needed)}, {needed // size:,} times what the file holds; allowed are {times} times "
            f"and {_told(FREE)}: a damaged file, or one made to fill the memory"
        )
    require_memory(what, _COPIES * needed)


def require_memory(what: str, needed: int) -> None:
    """Refuse what takes more bytes than are free.

    Raises
    ------
    InputError
        If so, naming ``what``.
    """
    free = free_bytes()
    if free is not None and needed > free:
        raise InputError(f"{what} takes {_told(needed)} of memory; {_told(free)} are free")


def free_bytes() -> int | None:
    """Memory that this process may still take, None where the system does not tell."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit, used = ((_CGROUP / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        found += [int(limit) - int(used)] if limit != "max" else []
    except (OSError, ValueError):  # another system, or no such group
        pass
    return min(found, default=None)


def _told(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:,.0f} MiB"
