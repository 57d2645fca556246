"""Join several runs on the same positions and count them once.

Everything after this module works on confusion counts per recording, so that its cost does not
depend on the number of positions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.comparison.folds import common_slices, pool_folds, recoded, rows_of_folds
from imbalance_lab.comparison.matching import Rows, check_meta
from imbalance_lab.comparison.records import RunRecord, ordered
from imbalance_lab.comparison.training_counts import TrainingCounts, calibration, count_training, has_control
from imbalance_lab.errors import InputError

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
    train_counts : int64 array of shape (K,), with folds their sum
    true : int32 array of shape (n,), in the row order of the first run
    cluster : int64 array of shape (n,), the recording (or the pool of recordings) of each position
    slices : names and codes (n,) of each slice
    n_recordings, n_clusters : number of recordings, and of clusters they are resampled in
    class_recordings : int64 array of shape (K,), recordings that hold each class
    pred : of each run, its predictions in the common row order, (n,)
    confusion : int64 array of shape (R, G, K, K), rows = true, columns = predicted
    control_runs : the runs that have a free post-hoc correction, indices, shape (R',)
    controls : int64 array of shape (R', G, K, K), these after it
    calibration : of each run, see :func:`imbalance_lab.comparison.training_counts.calibration`
    fold : int64 array of shape (G,), the fold that tests each cluster, from 0; None without folds
    unit : int64 array of shape (G,), the recording of each cluster where several clusters are of one (the same
        recording in the validation parts of several folds); None where each cluster is its own
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
    slices: Mapping[str, tuple[tuple[str, ...], NDArray[np.int32]]]
    n_recordings: int
    n_clusters: int
    class_recordings: NDArray[np.int64]
    pred: tuple[NDArray[np.unsignedinteger[Any]], ...]
    confusion: NDArray[np.int64]
    control_runs: NDArray[np.int64]
    controls: NDArray[np.int64]
    calibration: tuple[Mapping[str, float], ...]
    fold: NDArray[np.int64] | None = None
    unit: NDArray[np.int64] | None = None

    def runs_of(self, strategy: str) -> NDArray[np.int64]:
        """Indices of the runs of one strategy, by seed."""
        return np.flatnonzero(self.strategy == self.strategies.index(strategy))

    @property
    def support(self) -> NDArray[np.int64]:
        """Scored positions of each class, shape (K,)."""
        return self.confusion[0].sum(axis=(0, 2))


def join(runs: Sequence[RunRecord], *, baseline: str, head: str, max_clusters: int = MAX_CLUSTERS) -> Joined:
    """Join the runs by data digest and by (sequence, position), and count each once; folds are pooled.

    Each training's table is looked at once and let go: with tables that are read when they are asked for
    (:func:`imbalance_lab.predictions.open_parquet`), as many are in memory as threads count.

    With more than ``max_clusters`` recordings (a table whose rows are independent), recordings
    are pooled at random into that many clusters of nearly equal size: the random-groups variance
    estimator, which stays unbiased and has ``max_clusters - 1`` degrees of freedom (Wolter 2007,
    Introduction to Variance Estimation, ch. 2).

    Raises
    ------
    InputError
        If the runs are of different data (digests, splits, classes, training counts, positions,
        recordings or true labels), the positions cannot be joined one to one, or folds are not those of a
        cross-validation.
    """
    runs = ordered(pool_folds(runs), baseline)
    first = runs[0]
    for run in runs[1:]:
        check_meta(first, run)
    parts = rows_of_folds(first.trained, head)
    for run, part in zip(first.trained, parts, strict=True):
        if not len(part):
            raise InputError(f"run {run.run_id!r} has no scored positions of head {head!r}; nothing to compare")
    true = np.concatenate([part.true for part in parts])
    _, group = recoded([(part.group_names, part.group) for part in parts])
    present, recording = np.unique(group, return_inverse=True)
    n_recordings, k = len(present), len(parts[0].classes)
    holds = np.bincount(recording * k + true, minlength=n_recordings * k).reshape(n_recordings, k) > 0
    part_of_row = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    cluster = recording.astype(np.int64)
    if n_recordings > max_clusters:
        pool = np.random.default_rng(0).permutation(n_recordings) % max_clusters
        if first.folds:  # a pool lies within one fold
            pool = _pools_by_fold(_spread(part_of_row, recording), max_clusters)
        cluster = pool[cluster]
    names = tuple(dict.fromkeys(run.strategy for run in runs))
    counted = _count(runs, head, parts, cluster)
    return Joined(
        head=head,
        classes=parts[0].classes,
        strategies=names,
        runs=runs,
        strategy=np.array([names.index(run.strategy) for run in runs], dtype=np.int64),
        seed=np.array([run.seed for run in runs], dtype=np.int64),
        train_counts=np.sum([part.train_counts for part in parts], axis=0),
        true=true,
        cluster=cluster,
        slices=common_slices(parts),
        n_recordings=n_recordings,
        n_clusters=int(cluster.max()) + 1,
        class_recordings=holds.sum(axis=0),
        fold=_spread(part_of_row, cluster) if first.folds else None,
        **counted,
    )


def _count(runs: Sequence[RunRecord], head: str, parts: Sequence[Rows], cluster: NDArray[np.int64]) -> dict[str, Any]:
    """``pred``, ``confusion``, ``control_runs``, ``controls`` and ``calibration`` of :class:`Joined`."""
    clusters = np.split(cluster, np.cumsum([len(part) for part in parts])[:-1])
    own = [np.unique(c, return_inverse=True) for c in clusters]  # those of a fold, and the rows' codes into them
    control_runs = np.flatnonzero([has_control(run, head) for run in runs])
    k, n_clusters = len(parts[0].classes), int(cluster.max()) + 1
    confusion = np.zeros((len(runs), n_clusters, k, k), dtype=np.int64)
    controls = np.zeros((len(control_runs), n_clusters, k, k), dtype=np.int64)
    places = {int(run): i for i, run in enumerate(control_runs)}
    pred: list[NDArray[Any]] = []
    calibrated = []

    def counted(task: tuple[RunRecord, int]) -> TrainingCounts:
        run, fold = task
        return count_training(run, head, parts[fold], own[fold][1], len(own[fold][0]))

    # NumPy and pyarrow let go of the interpreter lock in their passes over the rows.
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        found = pool.map(counted, [(part, f) for run in runs for f, part in enumerate(run.trained)])
        for i, run in enumerate(runs):
            mine = [next(found) for _ in run.trained]
            for (codes, _), one in zip(own, mine, strict=True):
                confusion[i, codes] = one.confusion
                if one.control is not None and i in places:
                    controls[places[i], codes] = one.control
            pred.append(np.concatenate([one.pred for one in mine]))
            calibrated.append(calibration(run, head, tuple(one.confidence for one in mine)))
    return {
        "pred": tuple(pred),
        "confusion": confusion,
        "control_runs": control_runs,
        "controls": controls,
        "calibration": tuple(calibrated),
    }


def _spread(value: NDArray[np.int64], code: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value that all rows of a code share, for each code."""
    out = np.zeros(int(code.max()) + 1, dtype=np.int64)
    out[code] = value
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
