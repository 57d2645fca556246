"""Heads together: exact match of all applicable heads, and joint failures against independence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.record import BOOT, INTERVAL, WILSON, Advice, Rule, Table, columns
from imbalance_lab.analysis.scatter import scatter
from imbalance_lab.analysis.tally import BLOCK
from imbalance_lab.metrics.clusters import (
    MAX_CELLS,
    MAX_CLUSTERS,
    MIN_RECORDINGS,
    clusters_of,
    ratio,
    ratio_interval,
    verdicts,
)
from imbalance_lab.metrics.intervals import benjamini_hochberg, cluster_bootstrap_weights, wilson
from imbalance_lab.predictions import HeadPredictions, Predictions

_DENSE = 4  # places per position up to which places are addressed directly instead of sorted


@dataclass(frozen=True)
class CrossHead:
    """Result of :func:`cross_head`.

    Attributes
    ----------
    exact_match : n, right, rate and intervals of "all heads that apply at this place are right"
    pairs : head_a, head_b, n (both apply), wrong_a, wrong_b, joint, expected (independence), lift, phi, p, q, verdict
    """

    exact_match: pd.DataFrame
    pairs: pd.DataFrame


@dataclass(frozen=True)
class _Places:
    """Wrong and scored places of the heads on one axis of m places; cluster of each place."""

    scored: Mapping[str, NDArray[np.bool_] | None]
    wrong: dict[str, NDArray[np.bool_]]
    cluster: NDArray[np.int32]


def _same_rows(heads: Mapping[str, HeadPredictions]) -> bool:
    first, *others = heads.values()
    return all(
        len(h) == len(first)
        and (h.sequence is first.sequence or np.array_equal(h.sequence, first.sequence))
        and (h.position is first.position or np.array_equal(h.position, first.position))
        for h in others
    )


def _sequence_codes(heads: Mapping[str, HeadPredictions]) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Sequence of each row as a small code, the same in every head, and the number of codes."""
    lowest = min(int(h.sequence.min()) for h in heads.values())
    span = 1 + max(int(h.sequence.max()) for h in heads.values()) - lowest
    if span <= _DENSE * sum(len(h) for h in heads.values()):
        return {name: h.sequence - lowest for name, h in heads.items()}, span
    ids = np.unique(np.concatenate([h.sequence for h in heads.values()]))
    return {name: np.searchsorted(ids, h.sequence) for name, h in heads.items()}, len(ids)


def _places(heads: Mapping[str, HeadPredictions], lookups: Mapping[str, NDArray[np.int32]]) -> _Places:
    """Put all heads on one axis of places (sequence, position).

    A place that a head scores more than once (overlapping windows) counts once, wrong if any of its rows is.
    """
    first_name, first = next(iter(heads.items()))
    if _same_rows(heads):
        errors = {name: h.true != h.pred for name, h in heads.items()}
        return _Places(dict.fromkeys(heads), errors, lookups[first_name][first.group])
    longest = 1 + max(int(h.position.max()) for h in heads.values())
    sequences, n_sequences = _sequence_codes(heads)
    extent = n_sequences * longest
    keys = {name: sequences[name] * longest + h.position for name, h in heads.items()}
    if extent > _DENSE * sum(len(h) for h in heads.values()):
        places = np.unique(np.concatenate(list(keys.values())))
        keys = {name: np.searchsorted(places, key) for name, key in keys.items()}
        extent = len(places)
    cluster = np.zeros(extent, dtype=np.int32)
    scored: dict[str, NDArray[np.bool_]] = {}
    wrong: dict[str, NDArray[np.bool_]] = {}
    for name, h in heads.items():
        scored[name], wrong[name] = np.zeros(extent, dtype=bool), np.zeros(extent, dtype=bool)
        scored[name][keys[name]] = True
        wrong[name][keys[name][h.true != h.pred]] = True
        cluster[keys[name]] = lookups[name][h.group]
    return _Places(scored, wrong, cluster)


def _pattern_counts(places: _Places, c: int) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Places by what the heads do there, so that every joint count is a sum over few patterns.

    Returns
    -------
    state : head to int array of shape (P,): 0 right, 1 wrong, 2 not scored, of each of the P patterns
    counts : int64 array of shape (C, P)
    """
    codes = np.zeros(len(places.cluster), dtype=np.int64)
    for i in range(0, len(codes), BLOCK):
        part = slice(i, i + BLOCK)
        for j, (name, wrong) in enumerate(places.wrong.items()):
            codes[part] += 3**j * wrong[part]
            if (scored := places.scored[name]) is not None:
                codes[part] += 2 * 3**j * ~scored[part]
    patterns = np.arange(3 ** len(places.wrong))
    if c * len(patterns) > MAX_CELLS:  # many heads, but never more patterns than places
        patterns, codes = np.unique(codes, return_inverse=True)
    counts = np.zeros((c, len(patterns)), dtype=np.int64)
    for i in range(0, len(codes), BLOCK):
        part = slice(i, i + BLOCK)
        scatter(counts, places.cluster[part].astype(np.int64) * len(patterns) + codes[part])
    return {name: patterns // 3**j % 3 for j, name in enumerate(places.wrong)}, counts


def _excess(joint: Any, a: Any, b: Any, n: Any) -> tuple[float, float, float, float]:
    """(expected, lift, phi, p) of joint failures; all counts per cluster, shape (C,)."""
    from scipy.stats import t

    total = n.sum()
    pa, pb, pj = (x.sum() / max(total, 1) for x in (a, b, joint))
    expected = pa * pb * total
    spread = np.sqrt(pa * (1 - pa) * pb * (1 - pb))
    if spread == 0:
        return float(expected), float("nan"), float("nan"), float("nan")
    # Covariance of the two errors as a mean over positions; recordings are its units.
    influence = joint - pb * a - pa * b + pa * pb * n - (pj - pa * pb) * n
    clusters = int((n > 0).sum())
    variance = max((influence**2).sum() * clusters / max(clusters - 1, 1), total * spread**2)
    z = (joint.sum() - expected) / np.sqrt(variance)
    p = float(2 * t.sf(abs(z), max(clusters - 1, 1)))
    return float(expected), float(joint.sum() / expected), float((pj - pa * pb) / spread), p


def _shared_clusters(heads: Mapping[str, HeadPredictions]) -> tuple[dict[str, NDArray[np.int32]], int, int]:
    """Per head: cluster of each of its group codes, the same number for the same recording in every head."""
    names = sorted({g for h in heads.values() for g in h.group_names})
    index = {g: i for i, g in enumerate(names)}
    codes = {name: np.array([index[g] for g in h.group_names], dtype=np.int32) for name, h in heads.items()}
    present = np.zeros(len(names), dtype=bool)
    shared = {(id(h.group), id(h.group_names)): (name, h.group) for name, h in heads.items()}  # count an array once
    for name, group in shared.values():
        present[codes[name][np.flatnonzero(np.bincount(group, minlength=len(codes[name])))]] = True
    cap = int(present.sum())
    if cap > MAX_CLUSTERS:
        whole = max(heads.values(), key=len)
        longest = clusters_of(whole.group, len(whole.group_names))
        cap = longest.n if longest.pooled else cap
    lookup = np.zeros(len(names), dtype=np.int32)
    lookup[present] = np.random.default_rng(0).permutation(int(present.sum())) % cap
    return {name: lookup[c] for name, c in codes.items()}, min(cap, int(present.sum())), int(present.sum())


def cross_head(predictions: Predictions, resamples: int = 1000, seed: int = 0) -> CrossHead:
    """Joint exact match and joint failures of every pair of heads, given that both apply."""
    heads = {name: h for name, h in predictions.heads.items() if len(h)}
    if not heads:
        return CrossHead(pd.DataFrame(), pd.DataFrame())
    lookups, c, recordings = _shared_clusters(heads)
    places = _places(heads, lookups)
    weights = None
    if c > 1 and resamples:
        weights = cluster_bootstrap_weights(c, resamples, np.random.default_rng([seed, 3])).astype(np.float64)
    state, patterns = _pattern_counts(places, c)
    states = np.stack(list(state.values()))
    n = patterns[:, (states < 2).any(axis=0)].sum(axis=1)
    right = n - patterns[:, (states == 1).any(axis=0)].sum(axis=1)
    low, high = ratio_interval(right[:, None], n[:, None], weights)
    wilson_low, wilson_high = wilson(right.sum(), n.sum())
    exact = pd.DataFrame(
        {
            "heads": [" + ".join(heads)],
            "n": [int(n.sum())],
            "recordings": [recordings],
            "right": [int(right.sum())],
            "rate": [float(ratio(right.sum(), n.sum()))],
            "wilson_low": [float(wilson_low)],
            "wilson_high": [float(wilson_high)],
            "low": low,
            "high": high,
            "verdict": verdicts(np.array([n.sum()]), np.array([recordings])),
        }
    )
    rows = []
    for a, b in combinations(heads, 2):
        both = (state[a] < 2) & (state[b] < 2)
        wrong_a, wrong_b = both & (state[a] == 1), both & (state[b] == 1)
        counts = [patterns[:, mask].sum(axis=1) for mask in (wrong_a & wrong_b, wrong_a, wrong_b, both)]
        expected, lift, phi, p = _excess(*counts)
        rows.append(
            {
                "head_a": a,
                "head_b": b,
                "n": int(counts[3].sum()),
                "recordings": int((counts[3] > 0).sum()),
                "wrong_a": int(counts[1].sum()),
                "wrong_b": int(counts[2].sum()),
                "joint": int(counts[0].sum()),
                "expected": expected,
                "lift": lift,
                "phi": phi,
                "p": p,
            }
        )
    pairs = pd.DataFrame(rows)
    if rows:
        pairs["q"] = benjamini_hochberg(pairs["p"].to_numpy(dtype=np.float64))
        pairs["verdict"] = verdicts(pairs["n"].to_numpy(), pairs["recordings"].to_numpy(), MIN_RECORDINGS)
    return CrossHead(exact, pairs)


_LIFT, _Q = 2.0, 0.05


def _joint_failures(found: CrossHead, _: Mapping[str, Any]) -> Advice | None:
    t = found.pairs
    if not len(t):
        return None
    fired = t[(t["verdict"] == "ok") & (t["q"] < _Q) & (t["lift"] >= _LIFT)]
    if not len(fired):
        return None
    top = fired.sort_values("lift", ascending=False, kind="stable").iloc[0]
    return Advice(
        f"{top['head_a']} and {top['head_b']} fail together {top['lift']:.1f} times as often as independent heads "
        f"({top['joint']} of {top['n']} positions).",
        "Look for one cause upstream (window, sensor, encoder) before tuning a single head.",
        "Joint failures nearer to the product of the two error rates.",
        fired,
        f"lift of at least {_LIFT}, q below {_Q} (recordings as units)",
    )


RULES: tuple[Rule[CrossHead], ...] = (Rule("joint-failures", "heads", 3, _joint_failures),)
"""Rules about all heads together."""


TABLES = (
    Table(
        "exact_match",
        "exact_match",
        "overall",
        "All heads right at once",
        (
            *columns("text", "heads"),
            *columns("count", "n", "recordings", "right"),
            *columns("share", "rate"),
            *WILSON,
            *INTERVAL,
            *columns("text", "verdict"),
        ),
        f"Share of the places where every head that applies is right; no product. {BOOT}",
        beside="error_summary.joint",
    ),
    Table(
        "joint_failures",
        "pairs",
        "modes",
        "Heads that fail together",
        (
            *columns("text", "head_a", "head_b"),
            *columns("count", "n", "recordings", "wrong_a", "wrong_b", "joint"),
            *columns("number", "expected", "lift", "phi"),
            *columns("p", "p", "q"),
            *columns("text", "verdict"),
        ),
        "Against independence, where both heads apply.",
        beside="hard_examples.cross_head",
    ),
)
"""Tables about all heads together."""
