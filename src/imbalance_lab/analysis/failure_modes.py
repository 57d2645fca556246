"""How errors fail: one exclusive primary mode each, and tags that may overlap.

Thresholds are probabilities. An error's primary mode is the first that holds of

confident      confidence above 0.8
uncertain      confidence below the floor 1/K + (1 - 1/K) / 4, a quarter of the way from chance to certainty
near miss      the true class has rank 2 or 3 (rank 2 with K = 3) and probability of at least 0.05
complete miss  the true class has probability below 0.05
other          none of these

Tags hold independently of each other: the four above by their own condition (near miss by rank
alone), ``boundary`` (within 5 positions of the true start or end) and ``rare class`` (true class
below 1 % of training).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import BOOT, INTERVAL, WILSON, Analysis, Column, Plot, Scene, Table, columns
from imbalance_lab.analysis.scatter import pick, scatter
from imbalance_lab.analysis.tally import BLOCK
from imbalance_lab.metrics.clusters import ratio, ratio_interval, verdicts
from imbalance_lab.metrics.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRIMARY = ("confident", "uncertain", "near miss", "complete miss", "other")
TAGS = ("confident", "uncertain", "near miss", "complete miss", "boundary", "rare class")
CONFIDENT, COMPLETE_MISS, BOUNDARY, RARE = 0.8, 0.05, 5, 0.01
NULL_ROWS, NULL_PERMUTATIONS = 10_000, 20


@dataclass(frozen=True)
class FailureModes:
    """Result of :func:`failure_modes`.

    Attributes
    ----------
    primary, tags : mode, count, recordings, share with intervals, expected share under a permutation of the labels
        with its range over permutations, verdict; shares of primary modes add up to 1
    by_class : true class, errors, and the count of each primary mode
    null : how the expectation was computed
    """

    primary: pd.DataFrame
    tags: pd.DataFrame
    by_class: pd.DataFrame
    uncertain_floor: float
    null: str


def uncertain_floor(n_classes: int) -> float:
    """Confidence below which an error counts as uncertain."""
    return 1 / n_classes + 0.25 * (1 - 1 / n_classes)


def _conditions(
    confidence: NDArray[np.float32],
    true_prob: NDArray[np.float32],
    rank: NDArray[np.int16],
    edge: NDArray[np.integer],
    rare: NDArray[np.bool_],
    n_classes: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(primary mode of each error, shape (e,); tags, shape (6, e))."""
    confident, uncertain = confidence > CONFIDENT, confidence < uncertain_floor(n_classes)
    # With three classes the last rank is 3, and with two it is 2: the worst rank is no near miss.
    near = (rank >= 2) & (rank <= min(3, max(n_classes - 1, 2)))
    miss = true_prob < COMPLETE_MISS
    primary = np.select([confident, uncertain, near & ~miss, miss], [0, 1, 2, 3], default=4)
    return primary, np.stack([confident, uncertain, near, miss, edge < BOUNDARY, rare])


def _rare(prepared: Prepared) -> NDArray[np.bool_]:
    counts = prepared.head.train_counts
    return counts < RARE * counts.sum()


def _edge(prepared: Prepared, rows: NDArray[np.intp]) -> NDArray[np.integer]:
    return np.minimum(prepared.head.from_start[rows], prepared.head.from_end[rows])


def _null(prepared: Prepared) -> NDArray[np.float64]:
    """Shares (permutations, modes + tags) when labels are permuted over a subsample of positions."""
    head, rng = prepared.head, np.random.default_rng([prepared.seed, 2])
    n = len(head)
    rows = np.arange(n) if n <= NULL_ROWS else np.sort(rng.choice(n, NULL_ROWS, replace=False))
    p, pred, true = head.probabilities[rows], head.pred[rows], head.true[rows]
    row_start, edge, rare = np.arange(0, p.size, p.shape[1]), _edge(prepared, rows), _rare(prepared)
    confidence = pick(p, pred)
    # Ranks of all classes once: 1 + the number of larger probabilities; ties differ by nothing that matters here.
    order = np.argsort(-p, axis=1, kind="stable")
    ranks = np.empty(p.shape, dtype=np.int16)
    np.put_along_axis(ranks, order, np.arange(1, p.shape[1] + 1, dtype=np.int16)[None, :], axis=1)
    shares = []
    for _ in range(NULL_PERMUTATIONS):
        label = rng.permutation(true)
        w = label != pred
        own = label[w]
        cell = row_start[w] + own
        primary, tags = _conditions(confidence[w], p.take(cell), ranks.take(cell), edge[w], rare[own], p.shape[1])
        counts = np.concatenate([np.bincount(primary, minlength=len(PRIMARY)), tags.sum(axis=1)])
        shares.append(ratio(counts, np.full(len(counts), w.sum())))
    return np.stack(shares)


def _table(
    names: tuple[str, ...], counts: NDArray[np.int64], null: NDArray[np.float64], prepared: Prepared, column: str
) -> pd.DataFrame:
    """``counts`` (C, modes), last column all errors."""
    hits, errors = counts[:, :-1], counts[:, -1:]
    total, n = hits.sum(axis=0), int(errors.sum())
    low, high = ratio_interval(hits, np.broadcast_to(errors, hits.shape), prepared.weights)
    wilson_low, wilson_high = wilson(total, n)
    share = ratio(total, np.full(len(total), n))
    lows, highs = np.where(np.isnan(low), wilson_low, low), np.where(np.isnan(high), wilson_high, high)
    with np.errstate(invalid="ignore"):
        expected, null_low, null_high = null.mean(axis=0), null.min(axis=0), null.max(axis=0)
        versus = np.where(lows > null_high, "more", np.where(highs < null_low, "less", "as expected"))
    enough = verdicts(np.full(len(total), n), np.full(len(total), (errors > 0).sum()))
    return pd.DataFrame(
        {
            column: names,
            "count": total,
            "errors": n,
            "recordings": (hits > 0).sum(axis=0),
            "share": share,
            "wilson_low": wilson_low,
            "wilson_high": wilson_high,
            "low": low,
            "high": high,
            "expected": expected,
            "expected_low": null_low,
            "expected_high": null_high,
            "verdict": [v if e == "ok" else e for v, e in zip(versus, enough, strict=True)],
        }
    )


def failure_modes(prepared: Prepared) -> FailureModes:
    """Primary mode and tags of every error, against their expectation when labels are permuted."""
    head, errors = prepared.head, prepared.errors
    k, c = len(head.classes), prepared.clusters.n
    n_primary, n_tags = len(PRIMARY), len(TAGS)
    primary_counts = np.zeros((c, n_primary), dtype=np.int64)
    tag_counts = np.zeros((c, n_tags), dtype=np.int64)
    class_counts = np.zeros((k, n_primary), dtype=np.int64)
    rare = _rare(prepared)
    for i in range(0, len(errors), BLOCK):
        part = slice(i, i + BLOCK)
        rows, true = errors.row[part], errors.true[part]
        primary, tags = _conditions(
            errors.confidence[part], errors.true_prob[part], errors.rank[part], _edge(prepared, rows), rare[true], k
        )
        cluster = prepared.clusters.codes(head.group[rows]).astype(np.int64)
        scatter(primary_counts, cluster * n_primary + primary)
        scatter(class_counts, true.astype(np.int64) * n_primary + primary)
        for j in range(n_tags):
            scatter(tag_counts, cluster[tags[j]] * n_tags + j)
    total = primary_counts.sum(axis=1, keepdims=True)
    null = _null(prepared)
    by_class = pd.DataFrame(class_counts, columns=[m.replace(" ", "_") for m in PRIMARY])
    by_class.insert(0, "true", list(head.classes))
    by_class.insert(1, "errors", class_counts.sum(axis=1))
    rows_used = min(len(head), NULL_ROWS)
    return FailureModes(
        primary=_table(PRIMARY, np.concatenate([primary_counts, total], 1), null[:, :n_primary], prepared, "mode"),
        tags=_table(TAGS, np.concatenate([tag_counts, total], 1), null[:, n_primary:], prepared, "tag"),
        by_class=by_class,
        uncertain_floor=uncertain_floor(k),
        null=f"labels permuted {NULL_PERMUTATIONS} times over {rows_used} of {len(head)} positions",
    )


def _columns(name: str) -> tuple[Column, ...]:
    return (
        *columns("text", name),
        *columns("count", "count", "errors", "recordings"),
        *columns("share", "share"),
        *WILSON,
        *INTERVAL,
        *columns("share", "expected", "expected_low", "expected_high"),
        *columns("text", "verdict"),
    )


def _figure(found: FailureModes, scene: Scene) -> Figure:
    from imbalance_lab.plots.rates import failure_modes

    return failure_modes(found.primary, scene.scope, tags=found.tags)


ANALYSIS: Analysis[FailureModes] = Analysis(
    "failure_modes",
    failure_modes,
    "`primary`: one exclusive mode per error (shares add up to 1); `tags`: may overlap; each with the share expected "
    "when labels are permuted, and `verdict` more / less / as expected / insufficient; `by_class`; `null`: how many "
    "permutations over how many positions",
    section="failure_modes",
    tables=(
        Table(
            "failure_modes",
            "primary",
            "modes",
            "Failure modes",
            _columns("mode"),
            f"Each error has one primary mode, by the rank of its true class and its margin. {BOOT} Expected: the "
            "share when the labels are permuted.",
            ("mode", "count", "share", "expected", "recordings", "verdict"),
        ),
        Table(
            "failure_tags",
            "tags",
            "modes",
            "Tags of errors (may overlap)",
            _columns("tag"),
            shown=("tag", "count", "share", "expected", "recordings", "verdict"),
        ),
        Table(
            "failure_modes_by_class",
            "by_class",
            "modes",
            "Failure modes of each class",
            (*columns("text", "true"), *columns("count", "errors", *(m.replace(" ", "_") for m in PRIMARY))),
            most=60,
            fold=True,
        ),
    ),
    plots=(Plot("failure_modes", "modes", _figure),),
    needs_probabilities=True,
)
