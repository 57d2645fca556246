"""What several analyses of one head share: its counts, its errors and the bootstrap draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.analysis.chains import Chains, chains_of
from imbalance_lab.analysis.scatter import pick, row_max
from imbalance_lab.analysis.tally import BINS, BLOCK, Tally, mass_bin_edges, tally_head
from imbalance_lab.errors import InputError
from imbalance_lab.metrics.clusters import Clusters, bootstrap_weights, clusters_of
from imbalance_lab.predictions import HeadPredictions

R = TypeVar("R")
EXACT_SCORES = 200_000
"""Up to this many scores (positions x classes) AUPRC ranks them exactly; beyond, scores are binned."""


@dataclass(frozen=True)
class ErrorRows:
    """The e wrong positions of a head; all arrays have shape (e,)."""

    row: NDArray[np.intp]
    true: NDArray[np.int32]
    pred: NDArray[np.int32]
    confidence: NDArray[np.float32]
    true_prob: NDArray[np.float32]
    best_other: NDArray[np.float32]
    """Largest probability of a class other than the true one."""
    rank: NDArray[np.int16]
    """1 + number of classes more probable than the true one."""

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Prepared:
    """A head with what its analyses share.

    Attributes
    ----------
    weights : float64 array of shape (resamples, clusters), or None with a single recording
    mass_edges : edges of the equal-mass bins of confidence
    wrong : whether each position is predicted wrongly, shape (n,)
    macro : bool array of shape (K,)
        Classes of the macro averages: those with positions in the split, unless the data set says otherwise.
    seed : for subsamples of permutation nulls
    chains : the true sequences of its positions
    meta : the run's meta (temperature, prior_correction by head)
    """

    name: str
    head: HeadPredictions
    clusters: Clusters
    weights: NDArray[np.float64] | None
    mass_edges: NDArray[np.float64]
    tally: Tally
    wrong: NDArray[np.bool_]
    errors: ErrorRows
    macro: NDArray[np.bool_]
    seed: int
    chains: Chains
    meta: Mapping[str, Any] = field(default_factory=dict)
    _found: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, compute: Callable[[Prepared], R]) -> R:
        """``compute`` of this head; a second call gives the first's result, so that analyses can build on others."""
        if compute not in self._found:
            self._found[compute] = compute(self)
        found: R = self._found[compute]
        return found

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Confusion counts of all positions, (K, K)."""
        return self.tally.confusion.sum(axis=0)


def error_rows(head: HeadPredictions, wrong: NDArray[np.bool_]) -> ErrorRows:
    """The positions marked in ``wrong`` with the confidence, the true class's probability and its rank."""
    row = np.flatnonzero(wrong)
    true, pred = head.true[row], head.pred[row]
    confidence, true_prob, best_other = (np.empty(len(row), dtype=np.float32) for _ in range(3))
    rank = np.empty(len(row), dtype=np.int16)
    for i in range(0, len(row), BLOCK):
        block = slice(i, i + BLOCK)
        p = head.probabilities.take(row[block], axis=0)
        own = pick(p, true[block])
        confidence[block], true_prob[block] = pick(p, pred[block]), own
        rank[block] = 1 + np.count_nonzero(p > own[:, None], axis=1)
        p[np.arange(len(p)), true[block]] = 0.0
        best_other[block] = row_max(p)
    return ErrorRows(row, true, pred, confidence, true_prob, best_other, rank)


def macro_classes(
    head: HeadPredictions, support: NDArray[np.int64], stated: Sequence[str | int] | None
) -> NDArray[np.bool_]:
    """Which classes enter macro averages, bool of shape (K,).

    Raises
    ------
    InputError
        If ``stated`` names a class that the head does not have.
    """
    if stated is None:
        return support > 0
    mask = np.zeros(len(head.classes), dtype=bool)
    for item in stated:
        index = head.classes.index(item) if item in head.classes else item
        if not isinstance(index, int) or not 0 <= index < len(mask):
            raise InputError(f"classes_in_macro names {item!r}; allowed are {', '.join(head.classes)}")
        mask[index] = True
    # A class absent from the split is n/a, not 0.
    return mask & (support > 0)


def prepare(
    head: HeadPredictions,
    name: str = "head",
    resamples: int = 1000,
    seed: int = 0,
    classes_in_macro: Sequence[str | int] | None = None,
    like: Prepared | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Prepared:
    """Count a head once for all its analyses.

    Parameters
    ----------
    like : another head of the same run, prepared with the same ``resamples`` and ``seed``: its bootstrap draws are
        used again where it has as many clusters, and its chains where it has the same positions
    meta : of the run

    Raises
    ------
    InputError
        If the head has no scored position.
    """
    if len(head) == 0:
        raise InputError(f"head {name!r} has no scored position; an analysis needs at least one")
    k = len(head.classes)
    clusters = clusters_of(head.group, len(head.group_names), k * max(k, BINS))
    if like is not None and like.clusters.n == clusters.n:
        weights = like.weights
    else:
        weights = bootstrap_weights(clusters, resamples, np.random.default_rng([seed, 1]))
    edges = mass_bin_edges(head)
    tally = tally_head(head, clusters, edges, binned_scores=len(head) * k > EXACT_SCORES)
    wrong = head.true != head.pred
    support = tally.confusion.sum(axis=(0, 2))
    macro = macro_classes(head, support, classes_in_macro)
    same = like is not None and like.head.sequence is head.sequence and like.head.position is head.position
    chains = like.chains if like is not None and same else chains_of(head)
    rows = error_rows(head, wrong)
    return Prepared(name, head, clusters, weights, edges, tally, wrong, rows, macro, seed, chains, meta or {})
