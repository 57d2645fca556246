"""The bill: what the rare classes that were gained cost, and for which costs each strategy is the best."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.comparison.bootstrap import Side
from imbalance_lab.comparison.differences import row
from imbalance_lab.comparison.study import CONTROL, COST, Study
from imbalance_lab.errors import InputError
from imbalance_lab.randomness import derive_seed

_LEVEL = 0.95  # of the intervals
_FREE, _CELL = 1 << 20, 64  # bytes that a cost matrix may have, and for each of its cells more

Array = NDArray[np.float64]


def read_costs(path: Path, classes: Sequence[str]) -> Array:
    """Cost matrix of shape (K, K) from a CSV file: rows = true class, columns = predicted class.

    The first line names the predicted classes, the first column the true ones; the corner is free.
    Every class of the head must occur once on each side, in any order. Costs are per position, in
    any unit; the diagonal is usually 0.

    Raises
    ------
    InputError
        If the file is missing, not UTF-8 or far larger than such a matrix, a class is unknown, missing or doubled, a
        row is too short or too long, or a cost is not a finite number >= 0. Names file, row and column.
    """
    try:
        with path.open("rb") as file:
            size, most = os.fstat(file.fileno()).st_size, _FREE + _CELL * (len(classes) + 1) ** 2
            if size > most:
                raise InputError(
                    f"{path}: found {size:,} bytes; a cost matrix of {len(classes)} classes has at most {most:,}"
                )
            text = file.read(most).decode("utf-8-sig")
        lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline=""))]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a cost matrix (CSV)") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable UTF-8 text file ({error})") from None
    numbered = [(i, line) for i, line in enumerate(lines, start=1) if any(line)]
    if not numbered:
        raise InputError(f"{path}: empty; expected a header with the predicted classes and a row for each true class")
    first, header = numbered[0]
    columns = header[1:]
    _same_classes(path, f"row {first}", columns, classes)
    _same_classes(path, "column 1", [line[0] for _, line in numbered[1:]], classes)
    matrix = np.zeros((len(classes), len(classes)))
    place = {name: i for i, name in enumerate(classes)}
    for i, line in numbered[1:]:
        if len(line) != len(header):
            raise InputError(f"{path}, row {i}: {len(line)} cells, expected {len(header)} as in the header")
        for name, cell in zip(columns, line[1:], strict=True):
            matrix[place[line[0]], place[name]] = _cost(path, i, name, cell)
    return matrix


def _cost(path: Path, i: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value) or value < 0:
        raise InputError(f"{path}, row {i}, column {column!r}: cost {cell!r} is not a finite number >= 0")
    return value


def _same_classes(path: Path, where: str, found: Sequence[str], classes: Sequence[str]) -> None:
    known, times = set(classes), Counter(found)
    unknown = [name for name in found if name not in known]
    if unknown:
        raise InputError(f"{path}, {where}: unknown class {unknown[0]!r}; the classes are {', '.join(classes)}")
    doubled = [name for name in found if times[name] > 1]
    if doubled:
        raise InputError(f"{path}, {where}: class {doubled[0]!r} occurs twice; every class occurs once")
    missing = [name for name in classes if name not in times]
    if missing:
        raise InputError(f"{path}, {where}: class {missing[0]!r} is missing; expected all of {', '.join(classes)}")


def check_costs(costs: Array, n_classes: int) -> Array:
    """The matrix as float64 if it is (K, K), finite and not negative.

    Raises
    ------
    InputError
        Otherwise.
    """
    matrix = np.asarray(costs, dtype=np.float64)
    if matrix.shape != (n_classes, n_classes):
        raise InputError(f"cost matrix has shape {matrix.shape}, expected ({n_classes}, {n_classes})")
    bad = ~np.isfinite(matrix) | (matrix < 0)
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise InputError(f"cost matrix, row {i}, column {j}: {matrix[i, j]} is not a finite number >= 0")
    return matrix


def expected_cost(confusion: NDArray[np.generic], costs: Array) -> Array:
    """Cost per 1,000 positions of confusion counts (..., K, K), shape (...)."""
    c = np.asarray(confusion, dtype=np.float64)
    return 1000.0 * np.einsum("...ij,ij->...", c, costs) / c.sum(axis=(-2, -1))


def bill(study: Study, differences: pd.DataFrame) -> pd.DataFrame:
    """What each strategy (and each free-lunch control) gains and pays against the baseline.

    Returns
    -------
    pandas.DataFrame
        One row per strategy: the differences ``rare_recall``, and per 1,000 positions
        ``rare_missed``, ``false_rare`` (rare class predicted, wrongly), ``majority_errors`` (the
        majority class predicted as another) and, with a cost matrix, ``expected_cost``; each with
        ``_low``, ``_high`` (95 %). ``false_rare_per_gain`` and ``majority_errors_per_gain`` are false
        rare predictions and majority errors bought with each rare position gained; NaN where none is
        gained. Negative differences of errors and costs are savings.
    """
    metrics = [
        "rare_recall",
        "rare_missed",
        "false_rare",
        "majority_errors",
        *([COST] if study.costs is not None else []),
    ]
    against = differences[differences["against"] == study.baseline]
    rows = []
    for name in dict.fromkeys(against["strategy"]):
        out: dict[str, object] = {"strategy": name}
        for metric in metrics:
            d = row(differences, name, study.baseline, metric) or {}
            out[metric], out[f"{metric}_low"], out[f"{metric}_high"] = d["difference"], d["low"], d["high"]
        gained = -float(str(out["rare_missed"]))
        for metric in ("false_rare", "majority_errors"):
            out[f"{metric}_per_gain"] = float(str(out[metric])) / gained if gained > 1e-9 else np.nan
        rows.append(out)
    return pd.DataFrame(rows)


def cost_ranges(study: Study, *, seed: int = 0) -> pd.DataFrame:
    """The range of the cost ratio in which each strategy is the cheapest.

    With r the cost of missing a rare position in units of one false rare prediction, a strategy costs
    r * rare_missed + false_rare per 1,000 positions: a line in r. The candidates are every
    strategy, its free-lunch control and always-majority (which is the cheapest near r = 0).

    Returns
    -------
    pandas.DataFrame
        ``strategy``, ``rare_missed``, ``false_rare`` (per 1,000 positions), ``ratio_low`` and
        ``ratio_high`` (NaN where it never is the cheapest, inf where there is no upper end), their
        percentile intervals ``ratio_low_from/to``, ``ratio_high_from/to`` over the resamples in which
        the strategy is the cheapest somewhere, and ``share_of_resamples``, the share of these.
        Resamples are over recordings crossed with seeds (product of independent weights, Owen &
        Eckles 2012, Bootstrapping data arrays of arbitrary order).
    """
    sides = _candidates(study)
    r = study.resampled
    columns = [r.index("rare_missed"), r.index("false_rare")]
    point = np.stack([r.point[side.runs][:, columns].mean(axis=0) for _, side in sides])  # (S, 2)
    seed_weight = _seed_weights(study, len(r.samples), seed)
    samples = np.stack([_seed_mean(study, r.samples[..., columns], side, seed_weight) for _, side in sides], axis=1)
    low, high = best_range(point[:, 0], point[:, 1])
    low_b, high_b = best_range(samples[..., 0], samples[..., 1])  # (B, S)
    tails = [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]
    rows = []
    for i, (name, _) in enumerate(sides):
        wins = ~np.isnan(low_b[:, i])
        ends = [(np.nan, np.nan)] * 2
        if wins.any():
            # "lower" is an observed value: a mean of two of them could be inf - inf.
            ends = [tuple(np.quantile(x[wins, i], tails, method="lower")) for x in (low_b, high_b)]
        rows.append(
            {
                "strategy": name,
                "rare_missed": point[i, 0],
                "false_rare": point[i, 1],
                "ratio_low": low[i],
                "ratio_high": high[i],
                "ratio_low_from": ends[0][0],
                "ratio_low_to": ends[0][1],
                "ratio_high_from": ends[1][0],
                "ratio_high_to": ends[1][1],
                "share_of_resamples": wins.mean(),
            }
        )
    return pd.DataFrame(rows).sort_values(
        ["ratio_low", "ratio_high"], kind="stable", na_position="last", ignore_index=True
    )


def best_range(missed: Array, false: Array) -> tuple[Array, Array]:
    """Range of r >= 0 in which r * missed + false is the smallest of the S on the last axis; NaN where nowhere.

    Parameters
    ----------
    missed, false : arrays of shape (..., S)

    Returns
    -------
    low, high : arrays of shape (..., S); ``high`` is inf where there is no upper end
    """
    more_missed = missed[..., :, None] - missed[..., None, :]  # (..., i, j): of i over j
    less_false = false[..., None, :] - false[..., :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = less_false / more_missed
    low = np.where(more_missed < 0, crossing, 0.0).max(axis=-1)
    high = np.where(more_missed > 0, crossing, np.inf).min(axis=-1)
    beaten = ((more_missed == 0) & (less_false < 0)).any(axis=-1)
    low = np.maximum(low, 0.0)
    nowhere = beaten | (low > high)
    return np.where(nowhere, np.nan, low), np.where(nowhere, np.nan, high)


def _candidates(study: Study) -> list[tuple[str, Side]]:
    out: list[tuple[str, Side]] = []
    for name in study.joined.strategies:
        out.append((name, study.side(name)))
        control = study.control(name)
        if control is not None:
            out.append((name + CONTROL, control))
    return [*out, ("always-majority", study.trivial("always-majority"))]


def _seed_weights(study: Study, resamples: int, seed: int) -> dict[int, Array]:
    rng = np.random.default_rng(derive_seed(seed, "cost ranges"))
    numbers = np.unique(study.joined.seed)
    return dict(zip(numbers.tolist(), rng.standard_exponential((len(numbers), resamples)), strict=True))


def _seed_mean(study: Study, samples: Array, side: Side, weight: dict[int, Array]) -> Array:
    """Mean over the runs of a side under the seeds' weights, shape (B, 2)."""
    if side.seeds is None:
        return samples[:, side.runs].mean(axis=1)
    w = np.stack([weight[s] for s in side.seeds.tolist()], axis=1)
    return np.einsum("brm,br->bm", samples[:, side.runs], w / w.sum(axis=1, keepdims=True))
