"""Error rates by operation, command family, recording and any slice; the worst slices and pairs of slices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import (
    BOOT,
    INTERVAL,
    MASK,
    RATE,
    WILSON,
    Advice,
    Analysis,
    Plot,
    Rule,
    Scene,
    Table,
    columns,
)
from imbalance_lab.analysis.scatter import scatter
from imbalance_lab.analysis.tally import BLOCK
from imbalance_lab.formats import percent
from imbalance_lab.metrics.clusters import excess_test, rate_table, ratio
from imbalance_lab.metrics.intervals import benjamini_hochberg, wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_RECORDINGS = 200
_MOST_SLICES = 30

MAX_PAIR_CELLS = 10_000_000
_WORD = re.compile(r"^([A-Za-z])[-+]?\d")


@dataclass(frozen=True)
class Slices:
    """Result of :func:`slice_analysis`.

    Attributes
    ----------
    by_slice : slice name to its table of error rates
    families : error rates by the letter of the true class's word (G, M, ...); empty where classes are no words
    recordings : error rates per recording, worst first
    worst : slices and pairs of slices with a rate other than that of the rest: slice, n, recordings, errors, rate,
        low, high, difference, excess_over_parts (pairs: above the higher of its two parts), p, q; worst first
    tried : number of slices that q corrects for
    left_out : pairs that were not searched, and why
    """

    by_slice: Mapping[str, pd.DataFrame]
    families: pd.DataFrame
    recordings: pd.DataFrame
    worst: pd.DataFrame
    tried: int
    left_out: tuple[str, ...]


def family_names(classes: tuple[str, ...]) -> list[str]:
    """Family of each class: the letter of a G-code word (``G1`` -> ``G``), else ``other``."""
    return [m.group(1).upper() if (m := _WORD.match(c)) else "other" for c in classes]


def _counts(prepared: Prepared, codes: list[tuple[NDArray[np.int32], int]]) -> NDArray[np.int64]:
    """(C, cells, 2) positions by cluster, joint cell of the code columns, right/wrong."""
    head, c = prepared.head, prepared.clusters.n
    cells = int(np.prod([size for _, size in codes]))
    total = np.zeros((c, cells, 2), dtype=np.int64)
    for i in range(0, len(head), BLOCK):
        part = slice(i, i + BLOCK)
        index = prepared.clusters.codes(head.group[part]).astype(np.int64)
        for code, size in codes:
            index *= size
            index += code[part]
        index *= 2
        index += prepared.wrong[part]
        scatter(total, index)
    return total


def _search(prepared: Prepared, found: list[tuple[list[str], NDArray[np.int64], NDArray[np.float64]]]) -> pd.DataFrame:
    """All slices looked at; an entry is names, counts (C, S, 2) and the rate of the higher part (NaN for singles)."""
    tables = []
    for names, counts, parts in found:
        n, errors = counts.sum(axis=2), counts[..., 1]
        table = rate_table(names, errors, n, prepared.weights, "slice")
        totals = [
            np.concatenate([x, whole], axis=1) for x, whole in ((errors, _whole(prepared, 1)), (n, _whole(prepared)))
        ]
        table["difference"], table["p"] = excess_test(*totals)
        table["excess_over_parts"] = table["rate"] - parts
        tables.append(table)
    columns = ["slice", "n", "recordings", "errors", "rate", "low", "high", "difference", "excess_over_parts", "p"]
    kept = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*columns, "verdict"])
    # A slice that holds every position has no rest to compare with.
    kept = kept[(kept["verdict"] == "ok") & kept["p"].notna()][columns].reset_index(drop=True)
    kept["q"] = benjamini_hochberg(kept["p"].to_numpy(dtype=np.float64))
    return kept


def _whole(prepared: Prepared, wrong: int | None = None) -> NDArray[np.int64]:
    """(C, 1) positions, or errors, of each cluster."""
    confusion = prepared.tally.confusion
    n = confusion.sum(axis=(1, 2))[:, None]
    return n if wrong is None else n - np.trace(confusion, axis1=1, axis2=2)[:, None]


def slice_analysis(prepared: Prepared) -> Slices:
    """Error rates by slice, and a search over single slices and pairs with Benjamini-Hochberg over all tried.

    The true class takes part in the search as the slice ``class``. A slice is compared with the
    remaining positions by a test with recordings as units.
    """
    head, c = prepared.head, prepared.clusters.n
    confusion = prepared.tally.confusion
    by_class_n = confusion.sum(axis=2)
    by_class = np.stack([np.diagonal(confusion, axis1=1, axis2=2), by_class_n], axis=2)
    by_class[..., 1] -= by_class[..., 0]
    columns = {name: (codes, list(head.slice_names[name])) for name, codes in head.slices.items()}
    singles = {"class": (by_class, list(head.classes))}
    pairs, left_out = {}, []
    for name, (codes, names) in columns.items():
        size = len(names)
        if c * size * 2 > MAX_PAIR_CELLS:
            left_out.append(f"{name}: {size} values in {c} recordings are too many to count")
            continue
        if c * size * len(head.classes) * 2 <= MAX_PAIR_CELLS:
            joint = _counts(prepared, [(codes, size), (head.true, len(head.classes))])
            joint = joint.reshape(c, size, -1, 2)
            pairs[(name, "class")] = joint
            singles[name] = (joint.sum(axis=2), names)
        else:
            left_out.append(f"{name} x class: too many cells to count")
            singles[name] = (_counts(prepared, [(codes, size)]), names)
    for a, b in combinations([n for n in columns if n in singles], 2):
        sizes = len(columns[a][1]), len(columns[b][1])
        if c * sizes[0] * sizes[1] * 2 > MAX_PAIR_CELLS:
            left_out.append(f"{a} x {b}: too many cells to count")
            continue
        joint = _counts(prepared, [(columns[a][0], sizes[0]), (columns[b][0], sizes[1])])
        pairs[(a, b)] = joint.reshape(c, *sizes, 2)
    found = []
    for name, (counts, names) in singles.items():
        found.append(([f"{name}={v}" for v in names], counts, np.full(len(names), np.nan)))
    for (a, b), joint in pairs.items():
        rates = [_rates(singles[x][0]) for x in (a, b)]
        higher = np.fmax(rates[0][:, None], rates[1][None, :]).ravel()
        labels = [f"{a}={x} & {b}={y}" for x in singles[a][1] for y in singles[b][1]]
        found.append((labels, joint.reshape(c, -1, 2), higher))
    searched = _search(prepared, found)
    worst = searched.sort_values(["q", "difference"], ascending=[True, False], kind="stable", ignore_index=True)
    worst = worst[worst["difference"] > 0].head(_MOST_SLICES).reset_index(drop=True)
    return Slices(
        by_slice={
            name: rate_table(names, counts[..., 1], counts.sum(axis=2), prepared.weights, name).sort_values(
                "rate", ascending=False, kind="stable", na_position="last", ignore_index=True
            )
            for name, (counts, names) in singles.items()
            if name != "class"
        },
        families=_families(prepared, by_class),
        recordings=recording_table(prepared),
        worst=worst,
        tried=len(searched),
        left_out=tuple(left_out),
    )


def _rates(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    total = counts.sum(axis=0)
    return ratio(total[:, 1], total.sum(axis=1))


def _families(prepared: Prepared, by_class: NDArray[np.int64]) -> pd.DataFrame:
    member = family_names(prepared.head.classes)
    names = sorted(set(member) - {"other"})
    if not names:
        return rate_table([], np.zeros((1, 0), np.int64), np.zeros((1, 0), np.int64), None, "family")
    names += ["other"] if "other" in member else []
    belongs = np.array([[m == f for f in names] for m in member], dtype=np.int64)  # (K, families)
    return rate_table(names, by_class[..., 1] @ belongs, by_class.sum(axis=2) @ belongs, prepared.weights, "family")


def recording_table(prepared: Prepared) -> pd.DataFrame:
    """Error rate of each recording, worst first, at most 200; its interval is Wilson's (one recording each)."""
    head = prepared.head
    n = prepared.clusters.sizes
    wrong = np.bincount(head.group[prepared.errors.row], minlength=len(n))
    present = np.flatnonzero(n)
    rate = wrong[present] / n[present]
    chosen = present[np.argsort(-rate, kind="stable")[:_MOST_RECORDINGS]]
    low, high = wilson(wrong[chosen], n[chosen])
    return pd.DataFrame(
        {
            "recording": np.asarray(head.group_names, dtype=object)[chosen],
            "n": n[chosen],
            "errors": wrong[chosen],
            "rate": wrong[chosen] / n[chosen],
            "wilson_low": low,
            "wilson_high": high,
        }
    )


def _figures(found: Slices, scene: Scene) -> dict[str, Figure]:
    from imbalance_lab.plots.rates import slices

    return {
        name: slices(table, scene.scope, what=name, overall=scene.error_rate) for name, table in found.by_slice.items()
    }


_DIFFERENCE, _Q = 0.1, 0.05


def _worst_slice(found: Slices, _: Mapping[str, Any]) -> Advice | None:
    w = found.worst
    plain = ~w["slice"].str.startswith("class=")  # classes have rules of their own
    # A pair that is no worse than the worse of its parts says nothing that the part does not say.
    own = w["excess_over_parts"].isna() | (w["excess_over_parts"] >= _DIFFERENCE / 2)
    fired = w[plain & own & (w["q"] < _Q) & (w["difference"] >= _DIFFERENCE)]
    if not len(fired):
        return None
    top = fired.iloc[0]
    return Advice(
        f"{top['slice']} is wrong {percent(top['rate'], 1)} of the time (n = {top['n']}, {top['recordings']} "
        f"recordings), {percent(top['difference'], 1)} more than the rest.",
        "Look at these recordings; record more of them, or sample them more often.",
        "An error rate like that of the rest.",
        fired,
        f"difference of at least {_DIFFERENCE}, q below {_Q} over {found.tried} slices",
    )


ANALYSIS: Analysis[Slices] = Analysis(
    "slices",
    slice_analysis,
    "`by_slice` (one table per slice; the column named after it holds its values), `families` (letter of the true "
    "class's word), `recordings`, `worst` (slices and pairs of slices that differ from the rest), `tried`, `left_out`",
    section="operations",
    tables=(
        Table(
            "worst_slices",
            "worst",
            "slices",
            "Worst slices and pairs of slices",
            (
                *columns("text", "slice"),
                *columns("count", "n", "recordings", "errors"),
                *columns("share", "rate"),
                *INTERVAL,
                *columns("number", "difference", "excess_over_parts"),
                *columns("p", "p", "q"),
            ),
            "Difference: against all other positions, tested with recordings as units; q: corrected for all slices "
            f"tried. {BOOT}",
            ("slice", "n", "recordings", "errors", "rate", "difference", "excess_over_parts", "q"),
            15,
        ),
        Table(
            "slice",
            "by_slice",
            "slices",
            "Error by slice",
            (*columns("text", "*"), *RATE),
            f"{MASK} {BOOT}",
            most=30,
        ),
        Table(
            "families",
            "families",
            "slices",
            "Error by command family",
            (*columns("text", "family"), *RATE),
            "Family: the letter of the class's word.",
            fold=True,  # empty where classes are no words
        ),
        Table(
            "recordings",
            "recordings",
            "slices",
            "Error by recording, worst first",
            (
                *columns("text", "recording"),
                *columns("count", "n", "errors"),
                *columns("share", "rate"),
                *WILSON,
            ),
            "Intervals: 95 %, Wilson.",
            most=30,
            fold=True,
        ),
    ),
    plots=(Plot("slice", "slices", _figures),),
    rules=(Rule("worst-slice", "slice", 3, _worst_slice, ("token-balanced", "rarest-class", "progressive")),),
)
