"""Join several runs on the same positions and count them once.

Everything after this module works on confusion counts per recording, so that its cost does not
depend on the number of positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.comparison.folds import pool_folds
from imbalance_lab.comparison.records import RunRecord, head_of, ordered
from imbalance_lab.errors import InputError
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.predictions import HeadPredictions

MAX_CLUSTERS = 1000
"""More recordings than this are pooled at random into this many clusters (see :func:`join`)."""


@dataclass(frozen=True)
class Joined:
    """R runs on the same n positions of G clusters, K classes.

    Attributes
    ----------
    head, classes : which head, and its K class names
    strategies : names, the baseline first
    runs : the runs, by strategy, then by seed
    strategy : int64 array of shape (R,), index into ``strategies``
    seed : int64 array of shape (R,)
    train_counts : int64 array of shape (K,)
    true : int32 array of shape (n,), in the row order of the first run
    cluster : int64 array of shape (n,), the recording (or the pool of recordings) of each position
    n_recordings, n_clusters : number of recordings, and of clusters they are resampled in
    class_recordings : int64 array of shape (K,), recordings that hold each class
    order : per run, the row of that run for each row of the first one; None where they agree
    confusion : int64 array of shape (R, G, K, K), rows = true, columns = predicted
    fold : int64 array of shape (G,), the fold that tests each cluster, from 0; None without folds
    """

    head: str
    classes: tuple[str, ...]
    strategies: tuple[str, ...]
    runs: tuple[RunRecord, ...]
    strategy: NDArray[np.int64]
    seed: NDArray[np.int64]
    train_counts: NDArray[np.int64]
    true: NDArray[np.int32]
    cluster: NDArray[np.int64]
    n_recordings: int
    n_clusters: int
    class_recordings: NDArray[np.int64]
    order: tuple[NDArray[np.int64] | None, ...]
    confusion: NDArray[np.int64]
    fold: NDArray[np.int64] | None = None

    def runs_of(self, strategy: str) -> NDArray[np.int64]:
        """Indices of the runs of one strategy, by seed."""
        return np.flatnonzero(self.strategy == self.strategies.index(strategy))

    def pred(self, run: int) -> NDArray[np.int32]:
        """Predictions of one run in the common row order, shape (n,)."""
        return _aligned(head_of(self.runs[run], self.head).pred, self.order[run])

    @property
    def support(self) -> NDArray[np.int64]:
        """Scored positions of each class, shape (K,)."""
        return self.confusion[0].sum(axis=(0, 2))


def join(runs: Sequence[RunRecord], *, baseline: str, head: str, max_clusters: int = MAX_CLUSTERS) -> Joined:
    """Join the runs by data digest and by (sequence, position), and count each once; folds are pooled before.

    With more than ``max_clusters`` recordings (a table whose rows are independent), recordings
    are pooled at random into that many clusters of nearly equal size: the random-groups variance
    estimator, which stays unbiased and has ``max_clusters - 1`` degrees of freedom (Wolter 2007,
    Introduction to Variance Estimation, ch. 2).

    Raises
    ------
    InputError
        If the runs are of different data (digests, splits, classes, training counts, positions,
        recordings or true labels), or the positions cannot be joined one to one.
    """
    runs = ordered(pool_folds(runs, head), baseline)
    first, reference = runs[0], head_of(runs[0], head)
    for run in runs[1:]:
        _same_data(first, run, head)
    if not len(reference):
        raise InputError(f"run {first.run_id!r} has no scored positions of head {head!r}; nothing to compare")
    key_order = _sorter(reference)
    order = tuple(None if run is first else _match(first, run, head, key_order) for run in runs)

    present, recording = np.unique(reference.group, return_inverse=True)
    n_recordings = len(present)
    k = len(reference.classes)
    holds = np.bincount(recording * k + reference.true, minlength=n_recordings * k).reshape(n_recordings, k) > 0
    cluster = recording.astype(np.int64)
    if n_recordings > max_clusters:
        pool = np.random.default_rng(0).permutation(n_recordings) % max_clusters
        if (own := _folds(first, recording, n_recordings, head)) is not None:  # a pool lies within one fold
            pool = _pools_by_fold(own, max_clusters)
        cluster = pool[cluster]
    names = tuple(dict.fromkeys(run.strategy for run in runs))
    joined = Joined(
        head=head,
        classes=reference.classes,
        strategies=names,
        runs=runs,
        strategy=np.array([names.index(run.strategy) for run in runs], dtype=np.int64),
        seed=np.array([run.seed for run in runs], dtype=np.int64),
        train_counts=np.asarray(reference.train_counts, dtype=np.int64),
        true=reference.true,
        cluster=cluster,
        n_recordings=n_recordings,
        n_clusters=int(cluster.max()) + 1,
        class_recordings=holds.sum(axis=0),
        order=order,
        confusion=np.zeros((0, 0, k, k), dtype=np.int64),
        fold=_folds(first, cluster, int(cluster.max()) + 1, head),
    )
    return replace(joined, confusion=count(joined, lambda run: head_of(run, head).pred))


def count(
    joined: Joined, predict: Callable[[RunRecord], NDArray[np.int32]], runs: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Confusion counts of what ``predict`` says of each run (of ``runs``, indices), int64 of shape (R, G, K, K)."""
    k = len(joined.classes)
    chosen = range(len(joined.runs)) if runs is None else runs
    out = np.empty((len(chosen), joined.n_clusters, k, k), dtype=np.int64)
    for at, i in enumerate(chosen):
        pred = _aligned(predict(joined.runs[i]), joined.order[i])
        out[at] = confusion_counts(joined.true, pred, k, group=joined.cluster, n_groups=joined.n_clusters)
    return out


def _folds(run: RunRecord, code: NDArray[np.int64], n: int, head: str) -> NDArray[np.int64] | None:
    """Fold of each of the n values of ``code`` (one per row of ``run``), or None without folds."""
    if not run.folds:
        return None
    out = np.zeros(n, dtype=np.int64)
    out[code] = np.repeat(np.arange(len(run.folds)), [len(head_of(part, head)) for part in run.folds])
    return out


def _pools_by_fold(fold: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """A pool for each recording: about ``most`` of nearly equal size, none of them in two folds."""
    rng, folds = np.random.default_rng(0), int(fold.max()) + 1
    pool = np.empty(len(fold), dtype=np.int64)
    first = 0
    for f in range(folds):
        own = np.flatnonzero(fold == f)
        size = min(len(own), max(1, most // folds))
        pool[own] = first + rng.permutation(len(own)) % size
        first += size
    return pool


def _aligned(column: NDArray[np.int32], order: NDArray[np.int64] | None) -> NDArray[np.int32]:
    return column if order is None else column[order]


def _sorter(h: HeadPredictions) -> NDArray[np.int64]:
    return np.lexsort((h.position, h.sequence))


def _same_data(a: RunRecord, b: RunRecord, head: str) -> None:
    digest_a, digest_b = a.test.meta.get("digest"), b.test.meta.get("digest")
    # A table that someone else made may carry no digest; the exact check of positions and labels follows anyway.
    if digest_a and digest_b and digest_a != digest_b:
        raise InputError(
            f"runs {a.run_id!r} (data digest {digest_a}) and {b.run_id!r} (data digest {digest_b}) are of different "
            "data; only runs on the same data can be compared"
        )
    split_a, split_b = a.test.meta.get("split"), b.test.meta.get("split")
    if split_a and split_b and split_a != split_b:
        raise InputError(
            f"runs {a.run_id!r} (split {split_a!r}) and {b.run_id!r} (split {split_b!r}) carry predictions of "
            "different splits; a comparison takes one split"
        )
    ha, hb = head_of(a, head), head_of(b, head)
    if ha.classes != hb.classes:
        raise InputError(
            f"head {head!r} has the classes {', '.join(ha.classes)} in run {a.run_id!r} but "
            f"{', '.join(hb.classes)} in run {b.run_id!r}; the same classes in the same order are needed"
        )
    if not np.array_equal(ha.train_counts, hb.train_counts):
        raise InputError(
            f"head {head!r} was trained on other class counts in run {b.run_id!r} ({hb.train_counts.tolist()}) than in "
            f"run {a.run_id!r} ({ha.train_counts.tolist()}); the splits differ"
        )
    if len(ha) != len(hb):
        raise InputError(
            f"run {a.run_id!r} scores {len(ha)} positions of head {head!r}, run {b.run_id!r} {len(hb)}; "
            "the same positions are needed"
        )


def _match(a: RunRecord, b: RunRecord, head: str, order_a: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Row of ``b`` for each row of ``a``, or None where the rows already agree."""
    ha, hb = head_of(a, head), head_of(b, head)
    same = np.array_equal(ha.sequence, hb.sequence) and np.array_equal(ha.position, hb.position)
    order: NDArray[np.int64] | None = None
    if not same:
        order_b = _sorter(hb)
        sa, pa = ha.sequence[order_a], ha.position[order_a]
        sb, pb = hb.sequence[order_b], hb.position[order_b]
        differ = (sa != sb) | (pa != pb)
        if differ.any():
            i = int(differ.argmax())
            raise InputError(
                f"run {a.run_id!r} scores (sequence {sa[i]}, position {pa[i]}) of head {head!r} where run "
                f"{b.run_id!r} scores (sequence {sb[i]}, position {pb[i]}); the same positions are needed"
            )
        twice = (sa[1:] == sa[:-1]) & (pa[1:] == pa[:-1])
        if twice.any():
            i = int(twice.argmax())
            raise InputError(
                f"(sequence {sa[i]}, position {pa[i]}) of head {head!r} occurs more than once and run {b.run_id!r} has "
                f"its rows in another order than run {a.run_id!r}; they cannot be joined one to one"
            )
        order = np.empty(len(ha), dtype=np.int64)
        order[order_a] = order_b
    _same_column(a, b, head, "true label", ha.true, _aligned(hb.true, order))
    # Group codes are private to a table: another table may list its recordings in another order.
    code = {name: i for i, name in enumerate(ha.group_names)}
    recode = np.array([code.get(name, -1) for name in hb.group_names], dtype=np.int32)
    _same_column(a, b, head, "recording", ha.group, _aligned(recode[hb.group], order))
    return order


def _same_column(a: RunRecord, b: RunRecord, head: str, what: str, x: NDArray[np.int32], y: NDArray[np.int32]) -> None:
    if np.array_equal(x, y):
        return
    differ = x != y
    i = int(differ.argmax())
    h = head_of(a, head)
    raise InputError(
        f"runs {a.run_id!r} and {b.run_id!r} disagree on the {what} of {int(differ.sum())} positions of head {head!r}, "
        f"first at sequence {h.sequence[i]}, position {h.position[i]}; they are of different data"
    )
