"""Do the comparison's intervals and tests keep their word, and is it fast?

    python benchmarks/comparison.py                 # all, about 10 minutes on one core
    python benchmarks/comparison.py --quick         # fewer repetitions, about 2 minutes
    python benchmarks/comparison.py --speed         # only how fast, 12 strategies x 3 seeds (x 6 folds), 10^6 positions
    python benchmarks/comparison.py --json out.json

Simulated recordings: class logits have random effects of the recording (shared by all
strategies), of the recording and the strategy, of the seed, and of the recording and the seed, so
positions of a recording are correlated and seeds differ. Two rare classes live in about a third
of the recordings. Each row tells, for G recordings and S seeds, how often a two-sided 5 % test of
two equal strategies rejects (type I, expected 0.05) and how often the 95 % interval of a real
difference covers the truth (expected 0.95). Methods:

* product: what ``imbalance_lab.comparison`` does (t interval, recordings + seeds);
* percentile: percentiles of recordings (multinomial) crossed with seeds;
* recordings: percentiles of recordings alone, seeds taken as given;
* positions: the naive test, positions resampled as if they were independent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from imbalance_lab.comparison import RunRecord, compare
from imbalance_lab.comparison import margins as mg
from imbalance_lab.comparison.bootstrap import SIGN_RECORDINGS, Side, alone, contrasts, together
from imbalance_lab.comparison.differences import differences
from imbalance_lab.comparison.resampling import Resampled, Roles, Sums, recording_weights, resample
from imbalance_lab.comparison.run_counts import join
from imbalance_lab.comparison.study import build
from imbalance_lab.predictions import HeadPredictions, Predictions

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Row = dict[str, Any]

K = 4
CLASSES = ("G0", "G1", "G2", "G3")
ROLES = Roles(macro=np.ones(K, bool), rare=np.array([0, 0, 1, 1], bool), majority=np.array([1, 0, 0, 0], bool))
SHOWN = ("macro_f1", "mcc", "rare_recall", "recall/G2", "precision/G2")
METHODS = ("product", "percentile", "recordings", "positions")


def simulate(
    rng: np.random.Generator,
    g: int,
    seeds: int,
    strategies: int,
    *,
    gain: float = 0.0,
    sd_seed: float = 0.3,
    sd_recording: float = 0.5,
) -> Counts:
    """Confusion counts (strategies, seeds, G, K, K); strategies after the first gain on the rare classes."""
    n = np.zeros((g, K), dtype=np.int64)
    n[:, 0], n[:, 1] = rng.integers(300, 700, g), rng.integers(20, 120, g)
    for c in (2, 3):
        holds = rng.random(g) < 0.35
        holds[rng.choice(g, 3, replace=False)] = True
        n[holds, c] = rng.integers(3, 30, holds.sum())
    logits = np.array([[3.5, 0, -1, -1], [1, 2, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1.0]])
    shared = rng.normal(0, sd_recording, (g, K, K))
    out = np.empty((strategies, seeds, g, K, K), dtype=np.int64)
    for a in range(strategies):
        mean = logits.copy()
        mean[2:, 0] -= gain * (a > 0)
        mean[:2, 2:] += 0.4 * gain * (a > 0)
        own = rng.normal(0, sd_recording, (g, K, K))
        for s in range(seeds):
            z = mean + shared + own + rng.normal(0, sd_seed, (K, K)) + rng.normal(0, 0.2, (g, K, K))
            p = np.exp(z - z.max(axis=-1, keepdims=True))
            out[a, s] = rng.multinomial(n, p / p.sum(axis=-1, keepdims=True))
    return out


def truth(gain: float, sd_seed: float) -> Floats:
    """Difference of the two strategies' metrics over very many recordings and seeds, per statistic."""
    rng = np.random.default_rng(99)
    total = []
    for _ in range(40):
        counts = simulate(rng, 2000, 10, 2, gain=gain, sd_seed=sd_seed).sum(axis=2)[:, :, None]
        point = _resampled(counts, np.ones((1, 1))).point.reshape(2, 10, -1)
        total.append((point[1] - point[0]).mean(axis=0))
    return np.asarray(np.mean(total, axis=0))


def _resampled(counts: Counts, weights: Floats) -> Resampled:
    return resample(Sums(mg.margins(counts.reshape(-1, *counts.shape[2:]))), weights, CLASSES, ROLES)


def _sides(strategies: int, seeds: int) -> list[Side]:
    number = np.arange(seeds)
    return [Side(runs=a * seeds + number, seeds=number) for a in range(strategies)]


def _percentile(samples: Floats) -> Floats:
    return np.asarray(np.nanquantile(samples, [0.025, 0.975], axis=0))


def intervals(
    counts: Counts, rng: np.random.Generator, resamples: int
) -> Iterator[tuple[str, NDArray[np.bool_], Floats]]:
    """(method, reject, (low, high)) for the second strategy against the first, per statistic."""
    _, seeds, g = counts.shape[:3]
    base, other = _sides(2, seeds)
    r = _resampled(counts, recording_weights(g, resamples, rng))
    held = counts[0, 0].sum(axis=2) > 0  # (G, K)
    recordings = np.full(len(r.names), float(g))
    recordings[-2 * K :] = np.tile(held.sum(axis=0), 2)
    recordings[r.index("rare_recall")] = recordings[r.index("rare_missed")] = held[:, 2:].any(axis=1).sum()
    e = alone(contrasts(r, [other], base)[0])
    enough = recordings >= SIGN_RECORDINGS
    yield "product", (e.p <= 0.05) & enough, np.where(enough, np.stack([e.low, e.high]), np.nan)

    drawn = rng.multinomial(g, np.full(g, 1 / g), size=resamples).astype(np.float64)
    samples = _resampled(counts, drawn).samples
    pairs = samples[:, seeds:] - samples[:, :seeds]  # (B, S, M)
    share = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    for name, d in (("percentile", np.einsum("bsm,bs->bm", pairs, share)), ("recordings", pairs.mean(axis=1))):
        low, high = _percentile(d)
        yield name, (low > 0) | (high < 0), np.stack([low, high])

    pooled = counts.sum(axis=2).reshape(2 * seeds, K * K)
    fake = np.stack([rng.multinomial(c.sum(), c / c.sum(), size=resamples) for c in pooled])  # (R, B, K*K)
    each = Sums(mg.margins(fake.reshape(2 * seeds, resamples, K, K)))
    one = resample(each, np.eye(resamples), CLASSES, ROLES).samples
    low, high = _percentile(one[:, seeds:].mean(axis=1) - one[:, :seeds].mean(axis=1))
    yield "positions", (low > 0) | (high < 0), np.stack([low, high])


def coverage(
    g: int, seeds: int, sd_seed: float, repetitions: int, resamples: int, true_difference: Floats, gain: float
) -> Iterator[Row]:
    """Rows of type I error and coverage, one per method."""
    rng = np.random.default_rng([g, seeds, round(10 * sd_seed)])
    names = _resampled(simulate(rng, g, 1, 1), np.ones((1, g))).names
    at = [names.index(name) for name in SHOWN]
    rejected: dict[str, list[Any]] = {m: [] for m in METHODS}
    covered: dict[str, list[Any]] = {m: [] for m in METHODS}
    for _ in range(repetitions):
        for method, reject, _ in intervals(simulate(rng, g, seeds, 2, sd_seed=sd_seed), rng, resamples):
            rejected[method].append(reject[at])
        counts = simulate(rng, g, seeds, 2, gain=gain, sd_seed=sd_seed)
        for method, _, (low, high) in intervals(counts, rng, resamples):
            inside = ((low <= true_difference) & (true_difference <= high)).astype(float)
            covered[method].append(np.where(np.isnan(low), np.nan, inside)[at])
    for m in METHODS:
        row: Row = {"G": g, "S": seeds, "sd_seed": sd_seed, "method": m}
        row |= {f"type I {name}": float(v) for name, v in zip(SHOWN, np.mean(rejected[m], axis=0), strict=True)}
        row |= {f"covers {name}": float(v) for name, v in zip(SHOWN, np.nanmean(covered[m], axis=0), strict=True)}
        yield row


def family_wise(g: int, seeds: int, strategies: int, repetitions: int, resamples: int, gain: float = 0.0) -> Row:
    """How often strategies are called different from the baseline: max-t with shared noise of seeds, and Holm.

    Without ``gain`` all are equal, and the rate is that of grids with any rejection (expected <= 0.05). With it, all
    but the baseline gain, and the rate is that of strategies that are found.
    """
    rng = np.random.default_rng(7)
    found: dict[str, list[Any]] = {"any p <= .05": [], "Holm": [], "max-t": []}
    for _ in range(repetitions):
        counts = simulate(rng, g, seeds, strategies, gain=gain)
        r = _resampled(counts, recording_weights(g, resamples, rng))
        base, *others = _sides(strategies, seeds)
        plain = [contrasts(r, [side], base)[0] for side in others]
        at = np.array([r.index("rare_recall" if gain else "macro_f1")])
        p = np.array([alone(c).p[at[0]] for c in plain])
        joint = together(contrasts(r, others, base), at, np.full(len(r.names), g))
        holm = multipletests(p, method="holm")[1]
        for name, value in (("any p <= .05", p), ("Holm", holm), ("max-t", np.array([e.p[0] for e in joint]))):
            found[name].append((value <= 0.05).mean() if gain else (value <= 0.05).any())
    about: Row = {"G": g, "S": seeds, "strategies": strategies, "gain": gain, "repetitions": repetitions}
    return about | {name: float(np.mean(values)) for name, values in found.items()}


def _tables(n: int, g: int, classes: int, strategies: int, seeds: int) -> Iterator[RunRecord]:
    """Runs on the same n positions; probabilities are one shared array, so that the memory stays small."""
    rng = np.random.default_rng(0)
    group = np.sort(rng.integers(0, g, n)).astype(np.int32)
    prior = np.r_[0.6, np.full(classes - 1, 0.4 / (classes - 1))]
    true = rng.choice(classes, n, p=prior).astype(np.int32)
    probabilities = rng.dirichlet(np.ones(classes), n).astype(np.float32)
    position = np.arange(n, dtype=np.int32)
    first = HeadPredictions(
        classes=tuple(f"G{i}" for i in range(classes)),
        train_counts=np.round(prior * 1e6).astype(np.int64),
        sequence=group.astype(np.int64),
        position=position,
        from_start=position,
        from_end=position[::-1].copy(),
        group=group,
        group_names=tuple(f"r{i}" for i in range(g)),
        true=true,
        pred=true,
        probabilities=probabilities,
        slices={"operation": group % 9},
        slice_names={"operation": tuple("abcdefghi")},
    )
    for a in range(strategies):
        for s in range(seeds):
            wrong = rng.random(n) < 0.2
            pred = np.where(wrong, rng.integers(0, classes, n), true).astype(np.int32)
            meta = {"digest": "d", "free_lunch": {"command": 0.5}, "temperature": {"command": 1.3}}
            table = Predictions({"command": replace(first, pred=pred)}, meta | {"prior_correction": {"command": 1.0}})
            yield RunRecord(f"strategy-{a}", s, f"{a}-{s}", table, val_score=0.5 + 0.01 * a, seconds=1.0)


def _folded(runs: Iterable[RunRecord], folds: int) -> Iterator[RunRecord]:
    """Each run as the test rows of ``folds`` trainings, recordings dealt in turn."""
    for run in runs:
        head = run.test.heads["command"]
        for fold in range(folds):
            rows = np.flatnonzero(head.group % folds == fold)
            columns = {name: getattr(head, name)[rows] for name in _COLUMNS}
            part = replace(head, **columns, slices={name: code[rows] for name, code in head.slices.items()})
            yield replace(
                run, run_id=f"{run.run_id}-{fold}", fold=fold, test=replace(run.test, heads={"command": part})
            )


_COLUMNS = ("sequence", "position", "from_start", "from_end", "group", "true", "pred", "probabilities")


def speed(n: int, g: int, classes: int, strategies: int, seeds: int, resamples: int, folds: int = 0) -> Row:
    """Seconds of each step for ``strategies`` x ``seeds`` (x ``folds``) runs of ``n`` positions, held in memory."""
    runs: Iterable[RunRecord] = _tables(n, g, classes, strategies, seeds)
    runs = list(_folded(runs, folds) if folds else runs)
    begun, cpu = time.perf_counter(), time.process_time()
    joined = join(runs, baseline="strategy-0", head="command")
    joining = time.perf_counter()
    table = differences(build(joined, resamples=resamples, seed=0))
    done = time.perf_counter()
    del joined
    compare(runs, baseline="strategy-0", primary_head="command", resamples=resamples)
    return {
        **_size(n, g, classes, len(runs), folds, resamples),
        "rows": len(table),
        "join and count, s": joining - begun,
        "bootstrap and tests, s": done - joining,
        "whole compare(), s": time.perf_counter() - done,
        "CPU of all, s": time.process_time() - cpu,
    }


def speed_of_files(n: int, g: int, classes: int, strategies: int, seeds: int, resamples: int, folds: int = 0) -> Row:
    """Seconds and memory of a comparison of predictions files, from their paths to its figures and its page.

    The files are written one after the other and read from the system's cache.
    """
    from _common import MIB, forget_peak, memory_mib

    from imbalance_lab.predictions import open_parquet, write_parquet
    from imbalance_lab.run.comparison_files import write_comparison

    with tempfile.TemporaryDirectory(prefix="imbalance-lab-") as folder:
        bare = []
        runs: Iterable[RunRecord] = _tables(n, g, classes, strategies, seeds)
        for run in _folded(runs, folds) if folds else runs:
            write_parquet(run.test, Path(folder) / run.run_id)
            bare.append(replace(run, test=Predictions({}, {})))
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / MIB
        forget_peak()
        before = memory_mib()[0]
        begun, cpu = time.perf_counter(), time.process_time()
        records = [replace(run, test=open_parquet(Path(folder) / run.run_id)) for run in bare]
        found = compare(records, baseline="strategy-0", primary_head="command", resamples=resamples)
        compared = time.perf_counter()
        write_comparison(found, Path(folder) / "out", {}, title="speed", metric="macro_f1")
        return {
            **_size(n, g, classes, len(records), folds, resamples),
            "files, MiB": size,
            "read and compare, s": compared - begun,
            "figures and page, s": time.perf_counter() - compared,
            "together, s": time.perf_counter() - begun,
            "CPU, s": time.process_time() - cpu,
            "memory before, MiB": before,
            "most memory, MiB": memory_mib()[1],
        }


def _size(n: int, g: int, classes: int, runs: int, folds: int, resamples: int) -> Row:
    return {"positions": n, "recordings": g, "classes": classes, "runs": runs, "folds": folds, "resamples": resamples}


def _print(rows: Sequence[Row]) -> None:
    columns = list(rows[0])
    text = [[f"{r[c]:.3f}" if isinstance(r[c], float) else str(r[c]) for c in columns] for r in rows]
    width = [max(len(c), *(len(t[i]) for t in text)) for i, c in enumerate(columns)]
    for line in [columns, *text]:
        print("  ".join(cell.rjust(w) for cell, w in zip(line, width, strict=True)))
    print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--speed", action="store_true", help="only how fast it is")
    parser.add_argument("--positions", type=int, default=1_000_000, help="of the test of speed")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = (arguments.positions, 100, 11, 12, 3, 2000)
    of_files = [speed_of_files(*size, folds) for folds in (6, 0)]
    _print(of_files)
    fast = [speed(*size, folds) for folds in (0, 6)]
    _print(fast)
    if arguments.speed:
        return _written(arguments.json, {"speed_of_files": of_files, "speed": fast})
    repetitions, resamples = (100, 300) if arguments.quick else (600, 400)
    print(f"type I (expected 0.05) and coverage (expected 0.95); {repetitions} repetitions, so +-0.018 at 600")
    print(f"statistics of classes in fewer than {SIGN_RECORDINGS} recordings cannot reject\n")
    rows: list[Row] = []
    gain = 1.0
    for sd_seed in (0.0, 0.3):
        true_difference = truth(gain, sd_seed)
        for g in (8, 17, 40):
            for seeds in (1, 3, 5):
                if g != 17 and seeds == 5:
                    continue
                rows += coverage(g, seeds, sd_seed, repetitions, resamples, true_difference, gain)
    _print(rows)
    family = [
        family_wise(g, seeds, 6, repetitions // 3, resamples, gain)
        for gain in (0.0, 1.0)
        for g, seeds in ((17, 2), (17, 3), (40, 2), (40, 3))
    ]
    print("five strategies that equal the baseline (macro F1), or all gain rare recall")
    _print(family)
    return _written(arguments.json, {"intervals": rows, "family": family, "speed_of_files": of_files, "speed": fast})


def _written(path: Path | None, result: Row) -> int:
    if path:
        path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    else:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
