"""The windows and positions that a method looks at, and intervals that respect recordings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE, SequenceDataset
from imbalance_lab.metrics.clusters import ratio_interval
from imbalance_lab.metrics.intervals import cluster_bootstrap_weights
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.predictor import Predictor
from imbalance_lab.randomness import derive_seed
from imbalance_lab.training.resident import Held, Source, make_resident

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 400
_MAX_CLUSTERS = 200


@dataclass(frozen=True)
class ScoredSet:
    """Windows whose inputs are prepared on the network's device: once, or where they share rows when they are taken.

    Attributes
    ----------
    network : the trained model, in evaluation mode
    source, targets : as in :class:`imbalance_lab.training.resident.Resident`, n windows
    rows : int64 array of shape (n,), rows of the data set
    recording : int64 array of shape (n,), code of each window's recording, ``0 .. recordings - 1``
    recordings : number of recordings
    """

    network: Predictor
    source: Source
    targets: dict[str, torch.Tensor]
    rows: Ints
    recording: Ints
    recordings: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        """Where the inputs lie."""
        return self.source.device

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """T steps, C continuous and K categorical channels of a window."""
        values, _, categorical = self.take(np.zeros(1, dtype=np.int64))
        return values.shape[1], values.shape[2], categorical.shape[2]

    @property
    def steps(self) -> int:
        """T, the number of input steps."""
        return self.shape[0]

    @property
    def inputs(self) -> Prepared:
        """Inputs of all windows; where they share rows, they are in memory as often as they overlap."""
        return self.source.inputs if isinstance(self.source, Held) else self.take(np.arange(len(self)))

    @property
    def per_step(self) -> bool:
        """Whether target position t belongs to input step t of a sequence."""
        return self.network.per_step and self.steps > 1

    def take(self, index: Ints) -> Prepared:
        """Inputs of the windows at ``index`` (m,)."""
        return self.source.take(torch.from_numpy(index).to(self.device))

    def rows_per_pass(self) -> int:
        """Windows of one forward pass: as many as stay in the cache of a CPU, far more on a GPU."""
        if self.network.rows_per_call is not None:
            return self.network.rows_per_call
        steps, continuous, categorical = self.shape
        cells = max(1, steps * (continuous + categorical))
        return max(1, min(8192, 2**28 // cells) if self.device.type == "cuda" else min(256, 2**23 // cells))


@dataclass(frozen=True)
class Cases:
    """Chosen scored positions: ``window`` (n,) into a :class:`ScoredSet`, ``position`` (n,), ``label`` (n,)."""

    window: Ints
    position: Ints
    label: Ints

    def __len__(self) -> int:
        return len(self.window)

    def take(self, index: Ints) -> Cases:
        """The cases at ``index``."""
        return Cases(self.window[index], self.position[index], self.label[index])


def make_scored(network: Predictor, dataset: SequenceDataset, rows: Ints) -> ScoredSet:
    """The sequences at ``rows`` on the network's device."""
    network.eval()
    resident = make_resident(network, dataset, rows, network.device)
    names, recording = np.unique(dataset.groups[rows], return_inverse=True)
    return ScoredSet(network, resident.source, resident.targets, rows, recording.astype(np.int64), len(names))


def subset(data: ScoredSet, index: Ints) -> ScoredSet:
    """The windows of ``data`` at ``index``, all of them prepared; recordings are coded afresh."""
    at = torch.from_numpy(index).to(data.device)
    names, recording = np.unique(data.recording[index], return_inverse=True)
    targets = {head: target.index_select(0, at) for head, target in data.targets.items()}
    source, rows = Held(data.take(index)), data.rows[index]
    return ScoredSet(data.network, source, targets, rows, recording.astype(np.int64), len(names))


def choose_windows(recording: Ints, limit: int, seed: int) -> Ints:
    """At most ``limit`` windows, every recording in proportion to its windows; sorted indices."""
    n = len(recording)
    if n <= limit:
        return np.arange(n)
    order = np.lexsort((_generator(seed, "windows").random(n), recording))
    return np.sort(order[np.linspace(0, n - 1, limit).round().astype(np.int64)])


def choose_cases(
    target: Ints, recording: Ints, n_classes: int, per_class: int, seed: int, *, one_per_window: bool = True
) -> Cases:
    """Up to ``per_class`` scored positions of each class, drawn at random and spread evenly over recordings.

    Parameters
    ----------
    target : int64 array of shape (n, L) with IGNORE where nothing is scored
    recording : int64 array of shape (n,)
    one_per_window : whether a window gives at most one position of a class
    """
    rng = _generator(seed, "cases")
    parts: list[tuple[Ints, Ints, Ints]] = []
    for c in range(n_classes):
        window, position = np.nonzero(target == c)
        if not len(window):
            continue
        order = rng.permutation(len(window))
        window, position = window[order], position[order]
        if one_per_window:
            _, first = np.unique(window, return_index=True)
            first = np.sort(first)
            window, position = window[first], position[first]
        turn = _occurrence(recording[window])
        chosen = np.argsort(turn, kind="stable")[:per_class]
        parts.append((window[chosen], position[chosen], np.full(len(chosen), c)))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Cases(none, none, none)
    window, position, label = (np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True))
    return Cases(window, position, label)


def _occurrence(code: Ints) -> Ints:
    """How often each value has occurred before, shape (n,)."""
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    new = np.r_[True, ordered[1:] != ordered[:-1]] if len(code) else np.zeros(0, dtype=bool)
    start = np.maximum.accumulate(np.where(new, np.arange(len(code)), 0))
    out = np.empty(len(code), dtype=np.int64)
    out[order] = np.arange(len(code)) - start
    return out


def scored_windows(targets: dict[str, NDArray[np.int64]]) -> Ints:
    """Windows with at least one scored position of any head."""
    return np.flatnonzero(np.any([(t != IGNORE).any(axis=1) for t in targets.values()], axis=0))


def clusters(recording: Ints, cap: int = _MAX_CLUSTERS) -> tuple[Ints, int]:
    """Cluster of each item and their number: recordings, united at random where there are more than ``cap``."""
    names, code = np.unique(recording, return_inverse=True)
    if len(names) <= cap:
        return code.astype(np.int64), len(names)
    return (np.random.default_rng(0).permutation(len(names)) % cap)[code], cap


def bootstrap(n_clusters: int, seed: int) -> Floats | None:
    """Draws of clusters, shape (resamples, n_clusters); None with fewer than two."""
    if n_clusters < 2:
        return None
    return cluster_bootstrap_weights(n_clusters, RESAMPLES, _generator(seed, "bootstrap")).astype(np.float64)


def cluster_mean(values: Floats, recording: Ints, seed: int) -> tuple[Floats, Floats, Floats]:
    """Mean of ``values`` (n, ...) over its first axis with a 95 % cluster-bootstrap interval over recordings.

    NaN values are left out. Returns (mean, low, high), each of shape (...); NaN ends with one recording.
    """
    flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    cluster, n = clusters(recording)
    known = np.isfinite(flat)
    sums, counts = np.zeros((n, flat.shape[1])), np.zeros((n, flat.shape[1]))
    np.add.at(sums, cluster, np.where(known, flat, 0.0))
    np.add.at(counts, cluster, known.astype(np.float64))
    total = counts.sum(axis=0)
    mean = np.full(flat.shape[1], np.nan)
    np.divide(sums.sum(axis=0), total, out=mean, where=total > 0)
    low, high = ratio_interval(sums, counts, bootstrap(n, seed))
    shape = np.shape(values)[1:]
    return mean.reshape(shape), np.asarray(low).reshape(shape), np.asarray(high).reshape(shape)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "interpretation", purpose))
