"""``python -m mlflow_project`` with a clock on every call to the tracking store; ``grid.py`` runs it.

    python benchmarks/_tracked.py FILE run --experiment ... --jobs 1

The clock lives in this process, so the grid must run in it: one job. FILE gets the seconds, those of the
processor (of the whole process too), the number of calls, and the calls that took most; what opening the store took,
once for a grid, stands apart.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OPENING = "open_store"


@dataclass
class Clock:
    """Seconds, processor seconds and calls by name; a call within a call belongs to the outer one.

    ``first`` are the processor seconds of the first call of each, with what it imports.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    busy: bool = False

    def on(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, timed under ``name``."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.busy:
                return function(*args, **kwargs)
            self.busy, begun, cpu = True, time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.busy = False
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
                self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu
                self.first.setdefault(name, self.cpu[name])
                self.calls[name] = self.calls.get(name, 0) + 1

        return call


def watch(clock: Clock) -> None:
    """Put the clock on every public method of MLflow's client, and on opening the store and logging a model as wholes.

    Opening imports what MLflow needs for a store and makes the database.
    """
    import mlflow

    from mlflow_project import grid, schema

    client = mlflow.tracking.MlflowClient
    for name in dir(client):
        method = getattr(client, name)
        if not name.startswith("_") and callable(method):
            setattr(client, name, clock.on(name, method))
    logged: Any = schema
    logged.log_model = clock.on("log_model", schema.log_model)
    opened: Any = grid
    opened.open_store = clock.on(OPENING, grid.open_store)


def main(argv: list[str]) -> int:
    from mlflow_project.__main__ import main as command

    clock = Clock()
    watch(clock)
    code = command(argv[1:])
    opening = {"seconds": clock.seconds.pop(OPENING, 0.0), "cpu_seconds": clock.cpu.pop(OPENING, 0.0)}
    found = {
        "opening": opening,
        "seconds": sum(clock.seconds.values()),
        "cpu_seconds": sum(clock.cpu.values()),
        "first_cpu_seconds": sum(clock.first[name] for name in clock.cpu),
        "process_cpu_seconds": time.process_time(),
        "calls": sum(clock.calls[name] for name in clock.cpu),
        "by_call": [
            {
                "call": name,
                "calls": clock.calls[name],
                "seconds": seconds,
                "cpu_seconds": clock.cpu[name],
                "first_cpu_seconds": clock.first[name],
            }
            for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1])
        ],
    }
    Path(argv[0]).write_text(json.dumps(found), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
