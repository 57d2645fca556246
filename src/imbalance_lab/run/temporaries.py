"""Temporary files of a grid lie in its folder, so that those of a worker that was killed are found again."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from imbalance_lab.processes import began, here


@contextmanager
def temporaries_in(folder: Path) -> Iterator[None]:
    """Have temporary files of this process made in ``folder``, those of libraries too (MLflow writes a model to one).

    Only where the main thread asks for it: a cluster's worker may run several tasks in threads, and the place is the
    whole process's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    before = tempfile.tempdir
    tempfile.tempdir = str(folder.absolute())
    try:
        yield
    finally:
        tempfile.tempdir = before


def forget_temporaries(folder: Path) -> None:
    """Remove what killed workers left in ``folder``; to be called when none is at work."""
    shutil.rmtree(folder, ignore_errors=True)


def loading_in(root: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder below ``root`` for data that are being loaded; its name tells which process loads them."""
    return tempfile.TemporaryDirectory(prefix=f"{_loading()}{os.getpid()}-", dir=root)


def forget_loading(root: Path) -> None:
    """Remove the folders below ``root`` whose process is gone; those of other machines stay."""
    for folder in root.glob(f"{_loading()}*-*"):
        pid = folder.name.removeprefix(_loading()).partition("-")[0]
        if pid.isdecimal() and not began(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _loading() -> str:
    return f"loading-{sha256(here().encode()).hexdigest()[:8]}-"
