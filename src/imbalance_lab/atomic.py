"""Files of this program: a reader finds them whole or not at all however the writer ends, and damage is told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imbalance_lab.errors import InputError


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield the path to write to, beside ``path``; it takes the place of ``path`` when the block ends.

    A folder may be written too. Of a block that raises nothing is seen. A ``durable`` file reaches the disk before it
    is given its name, so that it is whole after a power cut too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    _remove(partial)  # of a process of the same number that was killed
    try:
        yield partial
    except BaseException:
        _remove(partial)
        raise
    if partial.is_dir():
        if path.exists():
            shutil.rmtree(path)
    elif durable:
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
    os.replace(partial, path)


def write_json(path: Path, plain: Any) -> None:
    """Plain values as JSON."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(plain, indent=1), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Plain values of a JSON file.

    Raises
    ------
    InputError
        If it is not JSON.
    FileNotFoundError
        If there is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of the bytes, of JSON, of a number with too many digits
        raise InputError(f"{path} is not JSON: {error}") from error


@contextmanager
def reading_own(what: str) -> Iterator[None]:
    """Read what only this program writes: whatever is wrong with it is damage, or another version, told as such.

    Raises
    ------
    InputError
        Naming ``what``, and what the block raised.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each library and each key fails in its own way
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{what} cannot be read; it is damaged, or of another version ({reason})") from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
