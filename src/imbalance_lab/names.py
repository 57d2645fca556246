"""Keys: what MLflow, a file system or an HTML id is told instead of a name from somebody's data.

A name (of a class, a head, a strategy, a slice) may be any text; a key is a part of a path that every store takes.
:func:`key` is injective: two names never share a key, so that no number is filed under another's. Names that are fine
stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path

MOST_BYTES = 96
"""Longest key in UTF-8, so that a metric with two names in it stays below MLflow's 250 characters."""

_ESCAPE = "_x"
_HASH_DIGITS = 20


def key(name: str) -> str:
    """A part of a path for ``name``: not empty, no separator, no dot in front, at most :data:`MOST_BYTES` bytes.

    Letters, digits and ``_ - .`` and single blanks stay; any other character is ``_x<its code point in hex>_``
    (``a:b`` is ``a_x3a_b``). A key that would be too long is cut and ends in ``_xh`` and 80 bits of the name's SHA-256.
    """
    if not name:
        return f"{_ESCAPE}_"
    last = len(name) - 1
    found = "".join(_character(name, i, c, i in (0, last)) for i, c in enumerate(name))
    if len(found.encode()) <= MOST_BYTES:
        return found
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    room = MOST_BYTES - len(_ESCAPE) - 1 - _HASH_DIGITS
    return f"{found.encode()[:room].decode(errors='ignore')}{_ESCAPE}h{digest}"


def inside(folder: Path, name: str, ending: str = "") -> Path:
    """The file or folder of a name in ``folder``: always right below it, and two names never share one."""
    return folder / f"{key(name)}{ending}"


def suffixes(names: Mapping[str, Collection[str]], main: str, others: Collection[str] = ()) -> dict[str, str]:
    """What the file names of each head end in: nothing for the main one, else ``_<key>``.

    Where a name would then be another head's too (``failure_modes_by_class`` beside a head called ``by_class``), a head
    has ``@<key>``: no key holds that sign.

    Parameters
    ----------
    names : head to the names of its files without what they end in
    others : names of files that belong to no head
    """
    ends = {head: "" if head == main else f"_{key(head)}" for head in names}
    count = Counter([*others, *(f"{name}{ends[head]}" for head, own in names.items() for name in own)])
    return {
        head: f"@{key(head)}" if end and any(count[f"{name}{end}"] > 1 for name in names[head]) else end
        for head, end in ends.items()
    }


def _character(name: str, i: int, c: str, at_an_end: bool) -> str:
    if c.isalnum() or c == "-":
        return c
    if c == "_":
        # what would read as the beginning of an escape is escaped itself
        return _escaped(c) if name.startswith("x", i + 1) else c
    if c == "." or (c == " " and not name.startswith(" ", i + 1)):
        return _escaped(c) if at_an_end else c
    return _escaped(c)


def _escaped(c: str) -> str:
    return f"{_ESCAPE}{ord(c):x}_"


def name_of(written: str) -> str | None:
    """The name that has this key, or None where the key was cut."""
    if written == f"{_ESCAPE}_":
        return ""
    if re.search(rf"{_ESCAPE}h[0-9a-f]{{{_HASH_DIGITS}}}$", written):
        return None
    return re.sub(rf"{_ESCAPE}([0-9a-f]+)_", lambda m: chr(int(m[1], 16)), written)


def check_name(name: str) -> str:
    """``name`` where it may name a strategy or an experiment.

    Such a name stands in run names, tables and folders, and people type it.

    Raises
    ------
    ValueError
        If it is empty, longer than 100 characters, begins with a dot or a blank, ends in one, or holds a separator,
        a comma, a colon or a control character; says which.
    """
    if not name.strip():
        raise ValueError("an empty name")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"{len(name)} characters, allowed are {_LONGEST_NAME}")
    for c in name:
        if c in '/\\,:*?"<>|{}[]' or not (c.isprintable()):
            raise ValueError(f"the character {c!r}")
    if name[0] in ". -" or name[-1] in ". ":
        raise ValueError(f"{name[0] if name[0] in '. -' else name[-1]!r} at an end")
    return name


_LONGEST_NAME = 100
NAME_RULE = (
    'a name of a strategy or an experiment has at most 100 characters, none of / \\ , : * ? " < > | { } [ ] and no '
    "control character, and neither begins with a dot, a hyphen or a blank nor ends in a dot or a blank"
)
"""What :func:`check_name` allows, for messages."""


def natural_key(text: str) -> tuple[tuple[int, float, str], ...]:
    """Sort key that reads numbers as numbers: G2 before G17, -2 before 1.

    The order is total: names that read alike (G1 and G01) stand in the order of their characters.
    """
    parts = re.findall(r"(?<!\d)-?\d+(?:\.\d+)?|\D+?(?=-?\d|$)|.", text)
    keys = ((0, float(p), "") if re.fullmatch(r"-?\d+(?:\.\d+)?", p) else (1, 0.0, p) for p in parts)
    return (*keys, (-1, 0.0, text))
