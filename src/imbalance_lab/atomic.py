"""Files that a reader finds whole or not at all, however the writer ends."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
