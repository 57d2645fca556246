"""All benchmarks of speed, one after another, into one file, and the document that is made from it.

Command   make bench                        # ARGS=--tiny, ARGS=--full, ARGS="--only training"
          python benchmarks/performance.py [--size tiny|default|full] [--only NAMES] [--make-run]
                                           [--data RECORDINGS] [--grid FOLDER RUN_ID] [--against COMMIT]
                                           [--json FILE]
Duration  about twenty minutes on 2 idle cores at the default size; tiny: two or three; full: an hour or two, 20 GiB
Result    benchmarks/results/performance.json and docs/performance.md (tiny: build/performance.json and .md); one that
          fails is named there with the reason, and the others go on

Each benchmark is a process of its own. --only runs those and keeps the other results that the file holds already, as
long as they are of the same size. --grid adds a grid that was run before (see grid.py), --against the grid of
gcode-motion against an older commit (see against.py).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import ROOT, SIZES, environment, write_json
from document import DOCUMENT, RESULTS
from document import main as write_document

FOLDER = Path(__file__).resolve().parent
LIMIT_S = {"tiny": 1200, "default": 1800, "full": 4 * 3600}


@dataclass(frozen=True)
class Part:
    """One benchmark: its script, the flags of each size beside ``--json``, and when it is ended if not by LIMIT_S."""

    script: str
    flags: Mapping[str, tuple[str, ...]]
    limit_s: float | None = None


def _sized(script: str) -> Part:
    return Part(script, {size: ("--size", size) for size in SIZES})


PARTS: dict[str, Part] = {
    "startup": _sized("startup"),
    "training": _sized("training"),
    "grid": _sized("grid"),
    "trial_end": _sized("trial_end"),
    "samplers": _sized("samplers"),
    "curves": _sized("curves"),
    "analysis": Part(
        "analysis",
        {
            "tiny": ("--positions", "20000", "--heads", "2", "--repeats", "1"),
            "default": (),
            "full": ("--positions", "10000000", "--repeats", "1"),
        },
    ),
    "scale": _sized("scale"),
}


def run_part(name: str, part: Part, size: str, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run one benchmark; ``status`` is done, failed (with the reason) or absent."""
    script = FOLDER / f"{part.script}.py"
    if not script.exists():
        return {"status": "absent", "reason": f"benchmarks/{part.script}.py is not there"}
    flags = (*part.flags.get(size, ()), *extra)
    around, begun = environment(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:  # short: the path of a socket holds 107 characters
        found = Path(scratch) / "result.json"
        reason = _run(
            [sys.executable, str(script), *flags, "--json", str(found)], scratch, part.limit_s or LIMIT_S[size]
        )
        result = None
        if not reason:
            try:
                content = json.loads(found.read_text(encoding="utf-8"))
                result = content if isinstance(content, dict) else {"rows": content}
            except (OSError, ValueError) as error:
                reason = f"no readable result ({type(error).__name__})"
    entry: dict[str, Any] = {
        "status": "failed" if reason else "done",
        "command": " ".join(["python", f"benchmarks/{part.script}.py", *_without_paths(flags)]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "environment": around,
        "seconds": time.perf_counter() - begun,
    }
    return entry | ({"reason": reason} if reason else {"result": result})


def _run(command: list[str], scratch: str, limit: float) -> str:
    """Run a script, its temporary files in ``scratch``; "" or why it failed.

    Past ``limit`` seconds it is killed with every process that it started, so that none of them
    disturbs the next benchmark.
    """
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": paths, "TMPDIR": scratch},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=limit)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return f"not finished after {limit:g} s"
        raise
    return "" if process.returncode == 0 else _last_line(errors, f"exit code {process.returncode}")


def _last_line(text: str, otherwise: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].replace(f"{ROOT}{os.sep}", "") if lines else otherwise


def _without_paths(flags: tuple[str, ...]) -> list[str]:
    """The flags as a reader would type them: a path of this machine becomes the word for what it holds."""
    words = {"--data": "RECORDINGS", "--store": "FOLDER", "--parent": "RUN_ID"}
    return [words.get(before, flag) for before, flag in zip(("", *flags), flags, strict=False)]


def extra_flags(arguments: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """Flags of single benchmarks that this script passes on."""
    given: dict[str, tuple[str, ...]] = {}
    if arguments.make_run:
        given["startup"] = ("--make-run",)
    if arguments.data:
        given["training"] = ("--data", str(Path(arguments.data).resolve()))
    if arguments.against:
        given["against"] = ("--commit", arguments.against, *given.get("training", ()))
    if arguments.grid:
        given["given_grid"] = ("--store", arguments.grid[0], "--parent", arguments.grid[1])
    return given


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument("--tiny", action="store_const", const="tiny", dest="size", help="the same as --size tiny")
    parser.add_argument("--full", action="store_const", const="full", dest="size", help="the same as --size full")
    parser.add_argument(
        "--only", default="", help=f"some of {', '.join(PARTS)}, given_grid, against, separated by commas"
    )
    parser.add_argument("--make-run", action="store_true", help="with startup: install and run in a fresh clone")
    parser.add_argument("--data", default="", help="with training and against: real recordings, not simulated ones")
    parser.add_argument("--against", metavar="COMMIT", default="", help="an older commit that gcode-motion is run at")
    parser.add_argument("--grid", nargs=2, metavar=("FOLDER", "RUN_ID"), help="a grid that was run before")
    parser.add_argument("--json", type=Path, help="result file instead of the usual one; the document lies beside it")
    arguments = parser.parse_args(argv)
    # the tiny size checks the code; it must not replace what was measured
    into = arguments.json or (ROOT / "build" / "performance.json" if arguments.size == "tiny" else RESULTS)
    parts = PARTS | ({"given_grid": _sized("grid")} if arguments.grid else {})
    parts |= {"against": _sized("against")} if arguments.against else {}
    wanted = [name.strip() for name in arguments.only.split(",") if name.strip()] or list(parts)
    if unknown := [name for name in wanted if name not in parts]:
        parser.error(f"--only: unknown benchmark {unknown[0]!r}; allowed are {', '.join(parts)}")
    old = json.loads(into.read_text(encoding="utf-8")) if into.exists() else {}
    kept = old.get("benchmarks", {}) if arguments.only and old.get("size") == arguments.size else {}
    extra, found = extra_flags(arguments), dict(kept)
    for name in wanted:
        print(f"{name} ...", end=" ", flush=True)
        found[name] = run_part(name, parts[name], arguments.size, extra.get(name, ()))
        entry = found[name]
        print(f"{entry['status']} {entry.get('reason') or format(entry['seconds'], '.0f') + ' s'}", flush=True)
        # written after each, so that an interrupted run keeps what it has
        write_json(into, {"size": arguments.size, "benchmarks": found})
    return write_document(["--json", str(into), "--out", str(DOCUMENT if into == RESULTS else into.with_suffix(".md"))])


if __name__ == "__main__":
    sys.exit(main())
