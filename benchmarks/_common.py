"""What the benchmarks share: cases timed in fresh processes and in turn, and the JSON that they write.

Every script is ``python benchmarks/NAME.py [--size tiny|default|full] [--json FILE]`` and writes one
object: ``benchmark, command, size, date, environment, seconds, tables, facts, not_measured``. A table
is a list of flat rows; a fact is one value that the document quotes; ``not_measured`` says in whole
sentences what is missing and why.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIZES = ("tiny", "default", "full")
PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "scipy", "statsmodels", "pyarrow", "joblib", "mlflow")
MIB = 2.0**20

Row = dict[str, Any]
Prepare = Callable[..., Callable[[], Any]]
"""Takes the keywords of a case, does all that is not timed, and returns what is timed."""


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found: tables (lists of flat rows), single values, and what is missing and why."""

    tables: dict[str, list[Row]]
    facts: dict[str, Any] = field(default_factory=dict)
    not_measured: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """One timed call: seconds, processor seconds of its process, and memory in MiB.

    ``before`` is what the process held when the call began (imports and data), ``peak`` the most
    it held by its end; ``value`` is what the call returned.
    """

    wall: float
    cpu: float
    before: float
    peak: float
    value: Any = None


class CaseError(Exception):
    """A case that raised or whose process died; the message is the reason in one line."""


def memory_mib() -> tuple[float, float]:
    """Resident memory of this process now and at its highest, in MiB.

    Linux keeps the highest mark with the address space; ``ru_maxrss``, the only source elsewhere,
    would start from that of the parent.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        unit = 1.0 if sys.platform == "darwin" else 1024.0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB
        return peak, peak
    kib = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))}
    return int(kib["VmRSS"]) / 1024, int(kib["VmHWM"]) / 1024


def forget_peak() -> None:
    """Let the highest mark of :func:`memory_mib` begin anew, so that making the data is not in it; Linux only."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def available_gib() -> float:
    """Memory that could be used now, in GiB; infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


def timed(call: Callable[[], Any]) -> Timing:
    """Time one call in this process."""
    gc.collect()
    forget_peak()
    before, _ = memory_mib()
    cpu, wall = time.process_time(), time.perf_counter()
    value = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Timing(wall, cpu, before, memory_mib()[1], value)


def _serve(pipe: Connection, prepare: Prepare) -> None:
    """A worker: prepare a case, say so, wait for the start, time it, answer; until the pipe closes."""
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        try:
            call = prepare(**case)
            pipe.send("ready")
            if pipe.recv() == "go":
                pipe.send(timed(call))
        except Exception as error:  # the case failed, not the benchmark
            reason = str(error).strip().splitlines()
            pipe.send(CaseError(f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}"))


class Workers:
    """``n`` fresh processes that time cases of ``prepare`` one after another, or several at the same time."""

    def __init__(self, prepare: Prepare, n: int = 1) -> None:
        context = get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(n):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, prepare), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def time(self, *cases: Mapping[str, Any]) -> list[Timing]:
        """Time one case per process; they begin together, when all of them are prepared.

        Raises
        ------
        CaseError
            If a case raised or its process died.
        """
        pipes = self._pipes[: len(cases)]
        for pipe, case in zip(pipes, cases, strict=True):
            pipe.send(dict(case))
        states = [_receive(pipe) for pipe in pipes]
        go = all(state == "ready" for state in states)
        for pipe, state in zip(pipes, states, strict=True):
            if state == "ready":
                pipe.send("go" if go else "leave it")
        answers = [_receive(pipe) for pipe in pipes] if go else states
        for answer in answers:
            if isinstance(answer, CaseError):
                raise answer
        return answers

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.terminate()


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return CaseError("the process died (out of memory?)")


def fresh(prepare: Prepare, **case: Any) -> Timing:
    """Time one case in a process of its own, so that its peak memory is its own.

    Raises
    ------
    CaseError
        If the case raised or its process died.
    """
    with Workers(prepare) as workers:
        return workers.time(case)[0]


@contextmanager
def one_by_one(prepare: Prepare, alone: bool = True) -> Iterator[Callable[..., Timing]]:
    """A function that times a case given by keywords: each in a process of its own, or all in the same one.

    The latter is for a check of the code at its tiny size: starting a process costs more than the case.
    """
    if alone:
        yield lambda **case: fresh(prepare, **case)
        return
    with Workers(prepare) as workers:
        yield lambda **case: workers.time(case)[0]


def in_turn(cases: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[Any]]:
    """Results of every case, taken A B C A B C ..., so that a machine that drifts does so for all of them."""
    found: dict[str, list[Any]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            found[name].append(call())
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of repeated measurements."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Exponent b of y ~ x^b: the slope of a straight line through log y against log x; None below two points."""
    at, of = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    keep = (at > 0) & (of > 0)
    if keep.sum() < 2:
        return None
    return float(np.polyfit(np.log(at[keep]), np.log(of[keep]), 1)[0])


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def environment() -> dict[str, Any]:
    """The machine and the versions, as plain values; no path and no host name."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    """Short commit of the code that was measured, with a plus where the working tree differs from it."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def run(
    name: str,
    about: str | None,
    measure: Callable[[argparse.Namespace], Outcome],
    argv: Sequence[str] | None = None,
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """Parse the flags, measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    more(parser)
    arguments = parser.parse_args(argv)
    around, begun = environment(), time.perf_counter()
    outcome = measure(arguments)
    result = {
        "benchmark": name,
        "command": f"python benchmarks/{name}.py --size {arguments.size}",
        "size": arguments.size,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "environment": around,
        "seconds": round(time.perf_counter() - begun, 1),
        "tables": outcome.tables,
        "facts": outcome.facts,
        "not_measured": list(outcome.not_measured),
    }
    for title, rows in outcome.tables.items():
        print(f"\n{title}")
        show(rows)
    print("\n" + "\n".join(f"{key}: {value}" for key, value in outcome.facts.items()))
    if arguments.json:
        write_json(arguments.json, result)
    return 0


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result; numbers keep six significant digits, and no NaN gets in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_plain(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table; a column that a row lacks stays empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = [columns, *([_cell(row.get(c)) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in text) for i in range(len(columns))]
    for line in text:
        print("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
