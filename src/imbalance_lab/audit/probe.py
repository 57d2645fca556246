"""A quick probe: gradient boosting on window statistics, out of fold, on train and val alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.probe_features import grouped_folds, probe_features
from imbalance_lab.audit.target_positions import Positions, group_counts, scored_positions, stratified_sample
from imbalance_lab.data.dataset import LoadedData

_LIMIT = 6000
_FOLDS = 3
_COLUMNS = 120
_TREES = 150


@dataclass(frozen=True)
class Probe:
    """Out-of-fold class probabilities of a sample of n positions.

    Attributes
    ----------
    head : the head that is probed
    kept : int64 array of shape (K,), the classes with enough positions and recordings
    positions_of, recordings_of : int64 arrays of shape (n_classes,) over train and val
    positions : the sample; ``positions.label`` indexes ``kept``
    weight : float64 array of shape (n,), inverse inclusion rate of each position
    probabilities : float64 array of shape (n, K)
    reason : why there is no probe ("" where there is one)
    """

    head: str
    kept: NDArray[np.int64]
    positions_of: NDArray[np.int64]
    recordings_of: NDArray[np.int64]
    positions: Positions
    weight: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    reason: str = ""


def usable_positions(
    loaded: LoadedData, head: str, min_positions: int, min_recordings: int
) -> tuple[Positions, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Positions of train and val whose class has enough of both, with (kept, positions, recordings) per class.

    Labels of the positions index ``kept``.
    """
    data = loaded.dataset
    index = np.sort(np.concatenate([loaded.splits.train, loaded.splits.val]))
    everything = scored_positions(data, head, index)
    by_group = group_counts(everything, len(data.heads[head]))
    n, recordings = by_group.sum(axis=0), (by_group > 0).sum(axis=0)
    kept = np.flatnonzero((n >= min_positions) & (recordings >= min_recordings))
    new = np.full(len(n), -1, dtype=np.int64)
    new[kept] = np.arange(len(kept))
    chosen = everything.take(new[everything.label] >= 0)
    return Positions(chosen.row, chosen.place, new[chosen.label], chosen.group, chosen.group_names), kept, n, recordings


def fit_probe(loaded: LoadedData, head: str, *, min_positions: int, min_recordings: int, seed: int) -> Probe:
    """Fit the probe of ``head`` on recordings of train and val, and predict each fold from the others.

    At most 6000 positions, all rare ones among them; 3 folds of whole recordings; the 120
    columns that separate the classes best in the training folds (one-way ANOVA).
    """
    positions, kept, n, recordings = usable_positions(loaded, head, min_positions, min_recordings)
    nothing = np.zeros((0, len(kept)))

    def without(reason: str) -> Probe:
        return Probe(
            head, kept, n, recordings, positions.take(np.zeros(0, dtype=np.int64)), np.zeros(0), nothing, reason
        )

    if len(kept) < 2:
        return without(
            f"fewer than two classes of {head} have {min_positions} positions and {min_recordings} recordings"
        )
    chosen, weight = stratified_sample(positions.label, _LIMIT, seed)
    sample = positions.take(chosen)
    fold = grouped_folds(sample.label, sample.group, _FOLDS, seed)
    if fold is None:
        return without(f"{head} needs at least two recordings to be probed on grouped folds")
    from joblib import Parallel, delayed

    features = probe_features(loaded.dataset, sample)
    probabilities = np.full((len(sample), len(kept)), 1 / len(kept))
    parts = Parallel(n_jobs=-1, prefer="threads")(
        delayed(_fold)(features, sample.label, fold == k, len(kept), seed) for k in np.unique(fold)
    )
    for held, part in parts:
        probabilities[held] = part
    return Probe(head, kept, n, recordings, sample, weight, probabilities)


def _fold(
    features: NDArray[np.float32], labels: NDArray[np.int64], held: NDArray[np.bool_], n_classes: int, seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Probabilities of the held-out rows from a model of the others."""
    from threadpoolctl import threadpool_limits

    train = np.flatnonzero(~held)
    out = np.zeros((int(held.sum()), n_classes))
    columns = _best_columns(features[train], labels[train])
    if not len(columns) or len(np.unique(labels[train])) < 2:
        return held, out + 1 / n_classes
    # OpenMP's busy waiting is many times slower than one thread when cores are shared
    with threadpool_limits(1, user_api="openmp"):
        model = _boosting(n_classes, seed).fit(features[train][:, columns], labels[train])
        out[:, model.classes_] = model.predict_proba(features[held][:, columns])
    return held, out


def _boosting(n_classes: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=max(8, min(40, _TREES // n_classes)),
        learning_rate=0.2,
        max_leaf_nodes=15,
        max_bins=64,
        early_stopping=False,
        random_state=seed,
    )


def _best_columns(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The columns with the largest F statistic; columns that are constant or were never measured are left out."""
    from sklearn.feature_selection import f_classif

    known = np.isfinite(features)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0).sum(axis=0, dtype=np.float64) / count
    filled = np.where(known, features, mean)
    varying = np.flatnonzero(np.ptp(filled, axis=0) > 0)
    if len(varying) <= _COLUMNS:
        return varying
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a column that separates the classes perfectly divides by zero
        score, _ = f_classif(filled[:, varying], labels)
    return np.sort(varying[np.argsort(-np.nan_to_num(score, nan=0.0), kind="stable")[:_COLUMNS]])
