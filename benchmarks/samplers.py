"""How fast are the samplers, and how many sequences can they hold?

Command   python benchmarks/samplers.py [--size tiny|default|full] [--json FILE]
Duration  about a minute and a half at the default size (10^4 to 10^7 sequences); full: 10^8 too, up to 13 GiB
Result    for every sampler and number of sequences: seconds to bind it, draws per second of one epoch (as many draws as
          sequences), peak memory; beside torch.multinomial and WeightedRandomSampler, which stop at 2^24 sequences

Each row is measured in a process of its own, on one thread. The draws are those that the training loop asks for:
``sampler.draw(n, generator, progress)``. One label per sequence, four classes, the rarest holds 0.1 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _common import CaseError, Outcome, Row, Timing, available_gib, one_by_one, run
from numpy.typing import NDArray

from imbalance_lab.strategies.language.registry import REGISTRY
from imbalance_lab.strategies.samplers.by_class import SamplerContext

SEQUENCES = {"tiny": (1_000,), "default": (10**4, 10**5, 10**6, 10**7), "full": (10**4, 10**5, 10**6, 10**7, 10**8)}
SHARES = (0.9, 0.089, 0.01, 0.001)
TORCH = ("torch.multinomial", "torch WeightedRandomSampler")
BYTES_PER_SEQUENCE = 135  # to bind and to draw an epoch (123, measured at 10^6), and the labels
LEAST_DRAWS = 2_000_000  # small sets are drawn from many times, so that the clock can tell


def labels(n: int) -> NDArray[np.int64]:
    """Targets (n, 1) of four classes, every one of them present."""
    rng = np.random.default_rng(0)
    target = rng.choice(len(SHARES), p=SHARES, size=n)
    target[: len(SHARES)] = np.arange(len(SHARES))
    return target[:, None].astype(np.int64)


def prepare(name: str, n: int, draws: int) -> Callable[[], dict[str, float]]:
    """Make the labels; what is returned binds a sampler and draws ``draws`` epochs of it."""
    torch.set_num_threads(1)
    target = labels(n)
    counts = np.bincount(target[:, 0], minlength=len(SHARES))

    def call() -> dict[str, float]:
        begun = time.perf_counter()
        epoch = _torch(name, target, counts) if name in TORCH else _ours(name, target, counts)
        bound, cpu = time.perf_counter(), time.process_time()
        for _ in range(draws):
            epoch()
        return {"bind": bound - begun, "draw": time.perf_counter() - bound, "cpu": time.process_time() - cpu}

    return call


def _ours(name: str, target: NDArray[np.int64], counts: NDArray[np.int64]) -> Callable[[], object]:
    entry = next(e for e in REGISTRY if (e.slot, e.name) == ("sampler", name))
    context = SamplerContext(target, ("G0", "G1", "G2", "G3"), counts, "benchmark")
    sampler = entry.options().bind(context)  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    return lambda: sampler.draw(len(target), generator, 0.5)


def _torch(name: str, target: NDArray[np.int64], counts: NDArray[np.int64]) -> Callable[[], object]:
    weights = torch.from_numpy(1.0 / counts[target[:, 0]])
    generator = torch.Generator().manual_seed(0)
    if name == TORCH[0]:
        return lambda: torch.multinomial(weights, len(target), replacement=True, generator=generator)
    sampler = torch.utils.data.WeightedRandomSampler(weights, len(target), generator=generator)  # type: ignore[arg-type]
    # what a DataLoader does with it: one Python integer after another
    return lambda: sum(1 for _ in sampler)


def measure(arguments: argparse.Namespace) -> Outcome:
    """Every sampler at every number of sequences."""
    rows: list[Row] = []
    not_measured: list[str] = []
    tiny = arguments.size == "tiny"
    names = [e.name for e in REGISTRY if e.slot == "sampler"]
    with one_by_one(prepare, alone=not tiny) as timing_of:
        for n in SEQUENCES[arguments.size]:
            need = n * BYTES_PER_SEQUENCE / 2**30
            if need > 0.8 * available_gib():
                not_measured.append(f"Samplers at {n:,} sequences: they need about {need:.0f} GiB, more than was free.")
                continue
            epochs = 1 if tiny else max(1, min(200, LEAST_DRAWS // n))
            for name in (*names, *TORCH):
                try:
                    rows.append(_row(name, n, epochs, timing_of(name=name, n=n, draws=epochs)))
                except CaseError as error:
                    rows.append({"sampler": name, "sequences": n, "refused": str(error)})
    return Outcome({"samplers": rows}, _facts(rows), tuple(not_measured))


def _row(name: str, n: int, epochs: int, timing: Timing) -> Row:
    seconds = timing.value
    return {
        "sampler": name,
        "sequences": n,
        "bind_s": seconds["bind"],
        "draws_per_s": epochs * n / seconds["draw"],
        "draws_per_cpu_s": epochs * n / max(seconds["cpu"], 1e-9),
        "added_mib": timing.peak - timing.before,
        "peak_mib": timing.peak,
    }


def _facts(rows: list[Row]) -> dict[str, Any]:
    ours = [r for r in rows if r["sampler"] not in TORCH and "draws_per_s" in r]
    facts: dict[str, Any] = {"torch_limit": 2**24, "largest": max((r["sequences"] for r in ours), default=0)}
    at_largest = [r for r in ours if r["sequences"] == facts["largest"]]
    if at_largest:
        slowest = min(at_largest, key=lambda r: r["draws_per_s"])
        facts |= {
            "slowest": slowest["sampler"],
            "slowest_draws_per_s": slowest["draws_per_s"],
            "longest_bind_s": max(r["bind_s"] for r in at_largest),
            "peak_mib": max(r["peak_mib"] for r in at_largest),
            "bytes_per_sequence": max(r["added_mib"] for r in at_largest) * 2**20 / facts["largest"],
        }
    return facts


def main(argv: list[str] | None = None) -> int:
    return run("samplers", __doc__, measure, argv)


if __name__ == "__main__":
    sys.exit(main())
