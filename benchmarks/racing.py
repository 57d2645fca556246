"""Does a race keep its word when networks are really trained, and what does it save?

Command   python benchmarks/racing.py [--size tiny|default|full] [--grids N] [--seconds S] [--json FILE]
Duration  tiny: seconds; each grid of the default trains 119 small networks: see "seconds per grid"
Result    of simulated mills, each drawn anew: how often any of four twins of the baseline (the same strategy under
          other names) is stopped, is called different by the verdict, either (at most .05); the same without a race;
          how often two smaller networks are stopped or called worse, and the share of their trials, and of all
          trials, that were never begun

6 folds with 1 and 2 seeds, and one split with 5 seeds. Validation is drawn anew in each fold from the recordings that
it does not test, as the product does: a recording may validate several folds. Networks and mills: ``verdict.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from _common import Outcome, run
from verdict import Mill, dealt, mill, number_of, record, trained

from imbalance_lab.comparison import RunRecord
from imbalance_lab.comparison.bootstrap import contrasts, together
from imbalance_lab.comparison.racing import VERDICT_ALPHA, Round, Stop, look
from imbalance_lab.comparison.run_counts import join
from imbalance_lab.comparison.study import build

BASELINE, TWINS, WORSE = "cross-entropy", ("twin 1", "twin 2", "twin 3", "twin 4"), ("small", "tiny")
HIDDEN = {BASELINE: 12, **dict.fromkeys(TWINS, 12), "small": 2, "tiny": 1}
VALIDATION = 0.2  # of the recordings that a fold does not test
SIZES = {"tiny": (2, 12, 80), "default": (180, 24, 120), "full": (100, 36, 240)}
"""Grids, recordings, rows of each."""


@dataclass(frozen=True)
class Design:
    """Seeds of a grid in ``folds`` folds, 0 for one split (a sixth is tested)."""

    name: str
    folds: int
    seeds: int

    @property
    def parts(self) -> int:
        """Rounds of a race."""
        return self.folds or self.seeds


DESIGNS = (Design("6 folds", 6, 1), Design("6 folds", 6, 2), Design("one split", 0, 5))


@dataclass(frozen=True)
class Trained:
    """What one training says of its validation and of its test recordings, and the round in which it is trained."""

    val: RunRecord
    test: RunRecord
    part: int


def trainings(data: Mill, design: Design, grid: int) -> list[Trained]:
    """All trials of a grid."""
    fold = dealt(len(data.names), design.folds or 6, grid)
    out = []
    for f in range(design.folds or 1):
        rest = np.flatnonzero(fold != f)
        drawn = np.random.default_rng([grid, f]).permutation(rest)[: round(VALIDATION * len(rest))]
        side = np.where(fold == f, 2, 0)
        side[drawn] = 1
        train, val, test = (side[data.recording] == s for s in range(3))
        for strategy, hidden in HIDDEN.items():
            for s in range(design.seeds):
                who = (strategy, 1000 * grid + s, f if design.folds else None)
                p = trained(data, train, [val, test], hidden, number_of(*who))
                runs = [record(data, rows, q, train, who) for rows, q in zip((val, test), p, strict=True)]
                out.append(Trained(runs[0], runs[1], f if design.folds else s))
    return out


def raced(found: Sequence[Trained], design: Design) -> dict[str, Stop]:
    """The strategies that a race stops, in the order of the rounds."""
    stops: dict[str, Stop] = {}
    for after in range(1, design.parts):
        at = Round(after, design.parts, "folds" if design.folds else "seeds")
        runs = [t.val for t in found if t.part < after and t.val.strategy not in stops]
        stops |= {stop.strategy: stop for stop in look(runs, at, baseline=BASELINE, head="command")}
    return stops


def different(runs: Sequence[RunRecord], alpha: float) -> dict[str, float]:
    """The strategies that the verdict on test calls different, with the difference."""
    study = build(join(runs, baseline=BASELINE, head="command"), resamples=400, seed=0)
    others = study.joined.strategies[1:]
    found = contrasts(study.resampled, [study.side(name) for name in others], study.side(BASELINE))
    column = np.array([study.resampled.index("macro_f1")])
    decided = together(found, column, study.recordings, alpha)
    return {n: float(e.value[0]) for n, e in zip(others, decided, strict=True) if e.low[0] > 0 or e.high[0] < 0}


def judged(found: Sequence[Trained], design: Design) -> dict[str, float]:
    """What race and verdict say of one grid, as numbers to be averaged."""
    stops = raced(found, design)
    after = different([t.test for t in found if t.test.strategy not in stops], VERDICT_ALPHA)
    without = different([t.test for t in found], 0.05)
    left = {name: 1 - stop.round.after / design.parts for name, stop in stops.items()}
    out = {
        "a twin is stopped": float(any(t in stops for t in TWINS)),
        "a twin is called different": float(any(t in after for t in TWINS)),
        "either": float(any(t in stops or t in after for t in TWINS)),
        "without a race": float(any(t in without for t in TWINS)),
        "trials saved": sum(left.values()) / len(HIDDEN),
    }
    for name in WORSE:
        out[f"{name}: stopped"] = float(name in stops)
        out[f"{name}: stopped or called worse"] = float(name in stops or after.get(name, 0) < 0)
        out[f"{name}: called worse without a race"] = float(without.get(name, 0) < 0)
        out[f"{name}: trials saved"] = left.get(name, 0.0)
    return out


def summary(design: Design, rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """One row of the result."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {"design": design.name, "seeds": design.seeds, "grids": len(rows), **means}


def measure(arguments: argparse.Namespace) -> Outcome:
    """Train and race the grids, one after the other; ``--seconds`` ends early with those that are done."""
    grids, recordings, rows = SIZES[arguments.size]
    grids, begun = arguments.grids or grids, time.process_time()
    found: dict[Design, list[dict[str, float]]] = {design: [] for design in DESIGNS}
    for grid in range(arguments.first, arguments.first + grids):
        if arguments.seconds and time.process_time() - begun > arguments.seconds:
            break
        data = mill(grid, recordings, rows)
        several = trainings(data, DESIGNS[1], grid)
        alone = [t for t in several if t.val.seed % 1000 == 0]
        for design, own in zip(DESIGNS, (alone, several, trainings(data, DESIGNS[2], grid)), strict=True):
            found[design].append(judged(own, design))
    done = len(found[DESIGNS[0]])
    facts = {
        "grids": done,
        "recordings": recordings,
        "rows of a recording": rows,
        "CPU seconds per grid": (time.process_time() - begun) / done,
    }
    return Outcome({"racing": [summary(design, rows) for design, rows in found.items()]}, facts)


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grids", type=int, default=0, help="how many grids instead of the size's")
    parser.add_argument("--first", type=int, default=0, help="number of the first grid: other numbers, other mills")
    parser.add_argument("--seconds", type=float, default=0, help="begin no grid after so many CPU seconds")


def main(argv: list[str] | None = None) -> int:
    return run("racing", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
