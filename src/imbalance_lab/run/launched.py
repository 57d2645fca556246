"""Where files go when ``mlflow run`` started the command: beside the store, not into the project's folder.

``mlflow run`` sets the working folder to that of the project, which for a git URI is a clone in a temporary folder,
while the store is in the folder that it was called from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WORK = "IMBALANCE_LAB_WORK"  # see imbalance_lab.run.workspace.work_root
_SQLITE = "sqlite:///"


def store_folder() -> Path | None:
    """The folder of an SQLite store that lies elsewhere than the working folder, under ``mlflow run``; else None."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not os.environ.get("MLFLOW_RUN_ID") or not uri.startswith(_SQLITE):
        return None
    file = Path(uri.removeprefix(_SQLITE).partition("?")[0])
    folder = file.resolve().parent
    return folder if file.is_absolute() and folder.is_dir() and folder != Path.cwd().resolve() else None


def seen_from_caller(path: Path) -> Path:
    """``path``, where it is not in the working folder but in that of :func:`store_folder`: the one there."""
    folder = store_folder()
    if folder is None or path.is_absolute() or path.exists() or not (folder / path).exists():
        return path
    return folder / path


@contextmanager
def beside_store() -> Iterator[None]:
    """Grids keep their folders beside the store of :func:`store_folder` in the block, unless they were told where."""
    folder = store_folder()
    if folder is None or os.environ.get(_WORK):
        yield
        return
    os.environ[_WORK] = str(folder / "outputs")  # in the environment, so that workers know it too
    try:
        yield
    finally:
        os.environ.pop(_WORK, None)
