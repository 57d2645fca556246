"""What the terminal shows: one line per trial that runs, one per trial that ended; plain when not a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from imbalance_lab.addresses import without_secrets

_MOST_LINES = 16  # a cluster may run more trials at once than a terminal has lines


_VERDICT_ONLY = "IMBALANCE_LAB_QUIET"  # in the environment, so that processes which are started know it too


def say(text: str, *, always: bool = False) -> None:
    """One line on stdout, above any progress line, addresses in it without passwords.

    In :func:`only_verdict` only what is said ``always``.
    """
    if os.environ.get(_VERDICT_ONLY) and not always:
        return
    tqdm.write(without_secrets(text), file=sys.stdout)
    sys.stdout.flush()


@contextmanager
def only_verdict(wanted: bool) -> Iterator[None]:
    """Let a grid say its failures, its verdict and where to open it, and nothing else, while the block runs."""
    before = os.environ.get(_VERDICT_ONLY)
    if wanted:
        os.environ[_VERDICT_ONLY] = "1"
    try:
        yield
    finally:
        os.environ.pop(_VERDICT_ONLY, None)
        if before is not None:
            os.environ[_VERDICT_ONLY] = before


def quiet() -> None:
    """Silence MLflow's and alembic's informational output in this process."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run against a server
    for name in ("mlflow", "alembic", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It tells of each error of a database in 150 lines, and raises it: that one is told in a sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="mlflow")
    for text in ("integer column", "Add type hints to the", "Failed to infer signature"):
        warnings.filterwarnings("ignore", message=f".*{text}")


class Progress:
    """Lines of the running trials, drawn from the files they write; silent when stderr is not a terminal."""

    def __init__(self, folder: Path, trials: int, jobs: int) -> None:
        self._folder = folder
        self._tty = sys.stderr.isatty() and not os.environ.get(_VERDICT_ONLY)
        self._total = tqdm(total=trials, unit="trial", disable=not self._tty, position=0, leave=False)
        self._lines = [
            tqdm(bar_format="{desc}", disable=not self._tty, position=i + 1, leave=False)
            for i in range(min(jobs, _MOST_LINES))
        ]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> Progress:
        for old in self._folder.glob("*.json"):
            old.unlink()
        if self._tty:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._tty:
            self._thread.join()
        for bar in (*self._lines, self._total):
            bar.close()

    def done(self, text: str = "") -> None:
        """A trial ended; what there is to say about it, if anything."""
        if text:
            say(text)
        self._total.update()

    def drop(self, trials: int) -> None:
        """So many trials will never begin."""
        self._total.total = (self._total.total or 0) - trials
        self._total.refresh()

    def _draw(self) -> None:
        while not self._stop.wait(0.5):
            files = sorted(self._folder.glob("*.json"), key=lambda f: -f.stat().st_mtime)
            for bar, file in zip(self._lines, files, strict=False):
                state = json.loads(file.read_text(encoding="utf-8"))
                bar.set_description_str(
                    f"{state['name']}: epoch {state['epoch']}/{state['epochs']}, validation {state['score']:.3f}, "
                    f"{state['left']:.0f} s left"
                )
