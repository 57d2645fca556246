"""Permutation importance: the drop of a metric when inputs come from other windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from imbalance_lab.interpretation.drops import metric_drop, metric_value
from imbalance_lab.interpretation.passes import Counting, Job, confusions_of
from imbalance_lab.interpretation.permuted_inputs import Feature
from imbalance_lab.interpretation.scored import ScoredSet
from imbalance_lab.metrics.counts import metric_by_name
from imbalance_lab.randomness import derive_seed


@dataclass(frozen=True)
class PermutationImportance:
    """Result of :func:`permutation_importance`.

    Attributes
    ----------
    table : head, feature, kind, channels, drop, low, high, repeat_sd, repeats, counts (whether the
        interval lies above 0); largest drop first within head and kind
    base : head, metric, value, low, high, windows, positions, recordings: the metric of the inputs as they are
    """

    table: pd.DataFrame
    base: pd.DataFrame


def permutation_importance(
    data: ScoredSet,
    features: Sequence[Feature],
    counting: Counting,
    *,
    metric: str = "macro_f1",
    repeats: int = 5,
    seed: int = 0,
) -> PermutationImportance:
    """Permute each feature across windows and measure the metric of every head.

    A window's values of the feature, with their pattern of missing values, are replaced by those of
    another window of the set; order in time within the window is kept. All heads are measured in
    the same passes.

    References
    ----------
    Breiman (2001), Random Forests; Fisher, Rudin, Dominici (2019), model reliance.
    """
    jobs = [Job()]
    for f in features:
        # The draw depends on the feature's name alone, so that a subset of features gives the same numbers.
        rng = np.random.default_rng(derive_seed(seed, "permute", f.kind, f.name))
        jobs += [Job(rng.permutation(len(data)), f.continuous, f.categorical) for _ in range(repeats)]
    passes = confusions_of(data, jobs, counting)
    whole = next(passes)
    function = metric_by_name(metric)
    rows = []
    for f in features:
        found = [next(passes) for _ in range(repeats)]
        for head, base in whole.items():
            if not base.any():
                continue
            d = metric_drop(base, [c[head] for c in found], function, seed)
            rows.append(
                {
                    "head": head,
                    "feature": f.name,
                    "kind": f.kind,
                    "channels": f.size,
                    "drop": d.value,
                    "low": d.low,
                    "high": d.high,
                    "repeat_sd": d.repeat_sd,
                    "repeats": repeats,
                    "counts": bool(d.low > 0),
                }
            )
    columns = ["head", "feature", "kind", "channels", "drop", "low", "high", "repeat_sd", "repeats", "counts"]
    table = pd.DataFrame(rows, columns=columns)
    order = {head: i for i, head in enumerate(whole)}
    kinds = {kind: i for i, kind in enumerate(("frame", "correlated", "channel", "categorical"))}
    table = table.sort_values(
        ["head", "kind", "drop"],
        key=lambda c: c.map(order) if c.name == "head" else c.map(kinds) if c.name == "kind" else -c,
        kind="stable",
        ignore_index=True,
    )
    measured = []
    for head, base in whole.items():
        if base.any():
            value, low, high = metric_value(base, function, seed)
            measured.append((head, metric, value, low, high, len(data), int(base.sum()), data.recordings))
    return PermutationImportance(
        table,
        pd.DataFrame(
            measured, columns=["head", "metric", "value", "low", "high", "windows", "positions", "recordings"]
        ),
    )


def cumulative_importance(
    data: ScoredSet,
    ranked: Sequence[Feature],
    counting: Counting,
    *,
    head: str,
    metric: str = "macro_f1",
    repeats: int = 5,
    seed: int = 0,
    at: Sequence[int] | None = None,
) -> pd.DataFrame:
    """The metric that is left when the first 1, 2, ... of ``ranked`` features are permuted together.

    ``at`` are the numbers of features (default all). The joint permutation moves all features of a
    step from the same other window. Returns k, feature (the last one added), left, low, high, repeats.
    """
    numbers = list(range(1, len(ranked) + 1)) if at is None else [k for k in at if k <= len(ranked)]
    jobs = [Job()]
    for k in numbers:
        rng = np.random.default_rng(derive_seed(seed, "cumulative", k))
        continuous = tuple(sorted({i for f in ranked[:k] for i in f.continuous}))
        categorical = tuple(sorted({i for f in ranked[:k] for i in f.categorical}))
        jobs += [Job(rng.permutation(len(data)), continuous, categorical) for _ in range(repeats)]
    function = metric_by_name(metric)
    passes = confusions_of(data, jobs, counting)
    base = next(passes)[head]
    value, low, high = metric_value(base, function, seed)
    rows: list[tuple[int, str, float, float, float, int]] = [(0, "", value, low, high, 1)]
    for k in numbers:
        d = metric_drop(base, [next(passes)[head] for _ in range(repeats)], function, seed)
        rows.append((k, ranked[k - 1].name, d.left, d.left_low, d.left_high, repeats))
    return pd.DataFrame(rows, columns=["k", "feature", "left", "low", "high", "repeats"])


def ranked_features(table: pd.DataFrame, features: Sequence[Feature], head: str, kinds: Sequence[str]) -> list[Feature]:
    """The features of some kinds, largest drop of ``head`` first."""
    known = {(f.kind, f.name): f for f in features}
    part = table[(table["head"] == head) & table["kind"].isin(kinds)].sort_values("drop", ascending=False)
    return [known[k, n] for k, n in zip(part["kind"], part["feature"], strict=True)]


def steps_of(n: int) -> list[int]:
    """1, 2, 3, 5, 8, 13, ... and ``n``: the numbers of features of a long cumulative curve."""
    found: list[int] = []
    a, b = 1, 2
    while a < n:
        found.append(a)
        a, b = b, a + b
    return [*found, n] if n else []
