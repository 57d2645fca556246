"""Everything that a machine with a GPU can tell, into one file, and the document that is made from it.

Command   make gpu                          # ARGS="--data RECORDINGS", ARGS=--tiny
          python benchmarks/gpu.py [--tiny] [--device cuda|cuda:N] [--data RECORDINGS] [--only NAMES] [--json FILE]
Duration  twenty minutes at most: every part is ended after its limit; tiny, on a CPU: one to two minutes
Result    benchmarks/results/gpu.json and docs/gpu.md (tiny: build/gpu.json and .md); a part that fails is named there
          with the reason, and the others go on

Parts: the tests that need a CUDA device; the trainer against the CPU in float32; a step without and with a graph, of
many trials at once, and of a plain PyTorch loop; the gcode-motion grid through `mlflow run`. Each is a script of its
own that says more about itself, and a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from _common import ROOT, write_json
from _gpu_document import DOCUMENT, PARTS, RESULTS, write
from performance import Part, run_part


def device_facts(device: str) -> dict[str, Any]:
    """What the accelerator is, as plain values."""
    if not device.startswith("cuda"):
        return {"name": device}
    about = torch.cuda.get_device_properties(device)
    return {
        "name": about.name,
        "memory_gib": round(about.total_memory / 2**30, 1),
        "capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "devices": torch.cuda.device_count(),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="check the code with the smallest sizes, on a CPU too")
    parser.add_argument("--device", default="", help="cuda (default) or cuda:N; with --tiny also cpu")
    parser.add_argument("--data", default="", help="real recordings instead of simulated ones")
    parser.add_argument("--only", default="", help=f"some of {', '.join(PARTS)}, separated by commas")
    parser.add_argument("--json", type=Path, help="result file instead of the usual one; the document lies beside it")
    arguments = parser.parse_args(argv)
    have = torch.cuda.is_available()
    device = arguments.device or ("cuda" if have or not arguments.tiny else "cpu")
    if device.startswith("cuda") and not have:
        parser.error("this machine has no CUDA device; make gpu ARGS=--tiny checks the code on a CPU")
    if not device.startswith("cuda") and not arguments.tiny:
        parser.error(f"--device: found {device!r}; allowed without --tiny are cuda and cuda:N")
    size = "tiny" if arguments.tiny else "default"
    # the tiny size checks the code; it must not replace what was measured
    into = arguments.json or (ROOT / "build" / "gpu.json" if arguments.tiny else RESULTS)
    wanted = [name.strip() for name in arguments.only.split(",") if name.strip()] or list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"--only: unknown part {unknown[0]!r}; allowed are {', '.join(PARTS)}")
    old = json.loads(into.read_text(encoding="utf-8")) if arguments.only and into.exists() else {}
    found: dict[str, Any] = dict(old.get("benchmarks", {})) if old.get("size") == size else {}
    data = ("--data", str(Path(arguments.data).resolve())) if arguments.data else ()
    for name in wanted:
        print(f"{name} ...", end=" ", flush=True)
        more = ("--device", device, *data) if PARTS[name].on_device else ()
        part = Part(name, {size: ("--size", size)}, PARTS[name].limit_s)
        entry = found[name] = run_part(name, part, size, more)
        print(f"{entry['status']} {entry.get('reason') or format(entry['seconds'], '.0f') + ' s'}", flush=True)
        results = {"size": size, "gpu": device_facts(device), "benchmarks": found}
        write_json(into, results)  # after each, so that an interrupted run keeps what it has
    document = DOCUMENT if into == RESULTS else into.with_suffix(".md")
    document.write_text(write(json.loads(into.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"wrote {into.name} and {document.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
