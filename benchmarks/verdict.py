"""Does the verdict on cross-validated strategies keep its word when networks are really trained?

Command   python benchmarks/verdict.py [--size tiny|default|full] [--grids N] [--json FILE]
Duration  tiny: seconds; each grid of the default trains 120 small networks: see "seconds per grid"
Result    of simulated mills, each drawn anew and dealt into 3 and 6 folds and one split (a sixth is tested), with 1 to
          3 seeds: how often the same strategy under two names is called different (at most .05), how often the 95 %
          interval of a smaller network's difference covers its mean over all grids (.95), the standard deviation of
          that difference beside the estimated one, and how often it is found, by the product and by Holm over t tests

A perceptron of one hidden layer per position of the motion (scikit-learn), a few epochs. Every training has a seed of
its own, derived from strategy, seed and fold.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from _common import Outcome, run
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from imbalance_lab.comparison import RunRecord
from imbalance_lab.comparison.bootstrap import alone, contrasts, together
from imbalance_lab.comparison.run_counts import join
from imbalance_lab.comparison.study import build
from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.predictions import HeadPredictions, Predictions
from imbalance_lab.randomness import derive_seed

HIDDEN = {"cross-entropy": 12, "twin": 12, "wide": 24, "small": 2}
"""Units of each strategy's network: the baseline, the same under another name, and two that differ from it."""
DESIGNS = {"6 folds": 6, "3 folds": 3, "one split": 0}
SIZES = {"tiny": (2, 12, 80, 2), "default": (40, 24, 120, 3), "full": (200, 24, 120, 3)}
"""Grids, recordings, rows of each, seeds."""


@dataclass(frozen=True)
class Mill:
    """Positions of one simulated mill: inputs (n, C), classes (n,), recording (n,) and their names."""

    x: NDArray[np.float32]
    true: NDArray[np.int32]
    recording: NDArray[np.int32]
    classes: tuple[str, ...]
    names: tuple[str, ...]


def mill(seed: int, recordings: int, rows: int) -> Mill:
    """Every position once, whatever side of the loader's own split it lies on."""
    values = {
        "source": "simulated",
        "n_recordings": recordings,
        "rows_per_recording": rows,
        "n_frames": 1,
        "seed": seed,
    }
    data = load_data(parse_options(values)).dataset
    true, place = data.targets["command"], data.unit_position
    window, step = np.nonzero((true != IGNORE) & (place >= 0))
    _, first = np.unique(data.unit[window] * 1_000_000 + place[window, step], return_index=True)
    window, step = window[first], step[first]
    names, code = np.unique(data.groups[window], return_inverse=True)
    x = np.nan_to_num(data.continuous[window, step])
    return Mill(x, true[window, step].astype(np.int32), code.astype(np.int32), data.heads["command"], tuple(names))


def dealt(recordings: int, folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each recording, of nearly equal numbers."""
    return np.random.default_rng(seed).permutation(recordings) % folds


def trained(
    data: Mill, train: NDArray[np.bool_], shown: Sequence[NDArray[np.bool_]], hidden: int, seed: int
) -> list[NDArray[np.float32]]:
    """Probabilities (m, K) of each set of positions from a network that saw those of ``train``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier((hidden,), batch_size=128, learning_rate_init=0.02, max_iter=6, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(data.x[train], data.true[train])
    out = [np.zeros((int(rows.sum()), len(data.classes)), dtype=np.float32) for rows in shown]
    for p, rows in zip(out, shown, strict=True):
        p[:, network.classes_] = network.predict_proba(data.x[rows])
    return out


def number_of(strategy: str, seed: int, fold: int | None) -> int:
    """The seed of one training: strategies, seeds and folds draw independently of each other."""
    return derive_seed(seed, strategy, str(fold)) % 2**31


def record(
    data: Mill,
    tested: NDArray[np.bool_],
    p: NDArray[np.float32],
    train: NDArray[np.bool_],
    who: tuple[str, int, int | None],
) -> RunRecord:
    """What a training (strategy, seed, fold) predicts of the tested positions, as the comparison takes it."""
    position = np.flatnonzero(tested).astype(np.int32)
    head = HeadPredictions(
        classes=data.classes,
        train_counts=np.bincount(data.true[train], minlength=len(data.classes)),
        sequence=data.recording[tested].astype(np.int64),
        position=position,
        from_start=position,
        from_end=position[::-1].copy(),
        group=data.recording[tested],
        group_names=data.names,
        true=data.true[tested],
        pred=p.argmax(axis=1).astype(np.int32),
        probabilities=p,
    )
    strategy, seed, fold = who
    return RunRecord(strategy, seed, f"{strategy}-{seed}-{fold}", Predictions({"command": head}, {}), fold=fold)


def trainings(data: Mill, folds: int, seeds: int, grid: int) -> Iterator[RunRecord]:
    """Every strategy with every seed on every fold, or on one split that tests a sixth."""
    fold = dealt(len(data.names), folds or 6, grid)[data.recording]
    for f in range(folds or 1):
        for strategy, hidden in HIDDEN.items():
            for s in range(seeds):
                who = (strategy, 1000 * grid + s, f if folds else None)
                (p,) = trained(data, fold != f, [fold == f], hidden, number_of(*who))
                yield record(data, fold == f, p, fold != f, who)


def judged(runs: Sequence[RunRecord]) -> dict[str, float]:
    """What the comparison of these runs says in macro F1."""
    study = build(join(runs, baseline="cross-entropy", head="command"), resamples=400, seed=0)
    base, others = study.side("cross-entropy"), [study.side(name) for name in ("twin", "small", "wide")]
    at = study.resampled.index("macro_f1")
    found = contrasts(study.resampled, others, base)
    single = [alone(c) for c in found]
    family = together(found, np.array([at]), study.recordings)
    p = multipletests([e.p[at] for e in single], method="holm")[1]
    low, high, se = (float(getattr(single[1], name)[at]) for name in ("low", "high", "se"))
    return {
        "difference": float(single[1].value[at]),
        "low": low,
        "high": high,
        "se": se,
        "twin": float(single[0].value[at]),
        "twin se": float(single[0].se[at]),
        "twin found": float(family[0].p[0] <= 0.05),
        "small found": float(family[1].p[0] <= 0.05),
        "twin found, Holm": float(p[0] <= 0.05),
        "small found, Holm": float(p[1] <= 0.05),
    }


def summary(design: str, seeds: int, grids: Sequence[dict[str, float]]) -> dict[str, Any]:
    """One row of the result."""
    value = {name: np.array([g[name] for g in grids]) for name in grids[0]}
    truth = value["difference"].mean()
    row: dict[str, Any] = {"design": design, "seeds": seeds, "grids": len(grids)}
    row["twin called different"] = value["twin found"].mean()
    row["the same, Holm"] = value["twin found, Holm"].mean()
    row["difference of small"] = truth
    row["covered"] = ((value["low"] <= truth) & (truth <= value["high"])).mean()
    row["its standard deviation"] = value["difference"].std(ddof=1)
    row["estimated"] = np.sqrt((value["se"] ** 2).mean())
    row["sd of twin"] = np.sqrt((value["twin"] ** 2).mean())
    row["estimated for twin"] = np.sqrt((value["twin se"] ** 2).mean())
    row["small found"] = value["small found"].mean()
    row["found by Holm"] = value["small found, Holm"].mean()
    return {name: float(v) if isinstance(v, np.floating) else v for name, v in row.items()}


def measure(arguments: argparse.Namespace) -> Outcome:
    """Train and judge the grids, one after the other; ``--seconds`` ends early with those that are done."""
    grids, recordings, rows, seeds = SIZES[arguments.size]
    grids, begun = arguments.grids or grids, time.perf_counter()
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    done = 0
    for grid in range(grids):
        if done >= 2 and arguments.seconds and time.perf_counter() - begun > arguments.seconds:
            break
        data = mill(arguments.first + grid, recordings, rows)
        for design, folds in DESIGNS.items():
            runs = list(trainings(data, folds, seeds, arguments.first + grid))
            for s in range(1, seeds + 1):
                own = [run for run in runs if run.seed % 1000 < s]
                found.setdefault((design, s), []).append(judged(own))
        done += 1
    table = [summary(design, s, rows) for (design, s), rows in found.items()]
    facts = {
        "grids": done,
        "recordings": recordings,
        "rows of a recording": rows,
        "seconds per grid": (time.perf_counter() - begun) / done,
    }
    return Outcome({"verdict": table}, facts)


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grids", type=int, default=0, help="how many grids instead of the size's")
    parser.add_argument("--first", type=int, default=0, help="number of the first grid: other numbers, other mills")
    parser.add_argument("--seconds", type=float, default=0, help="begin no grid after so many seconds")


def main(argv: list[str] | None = None) -> int:
    return run("verdict", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
