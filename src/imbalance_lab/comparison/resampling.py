"""Statistics of every run under every resample of the recordings, from counts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.comparison import margins as mg

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SCALARS = ("macro_f1", "balanced_accuracy", "mcc", "rare_recall", "rare_missed", "false_rare", "majority_errors")
"""Statistics of a whole run. The last three are per 1,000 positions, smaller is better."""

_SMALLER = ("rare_missed", "false_rare", "majority_errors")
_NUDGE = 1e-4  # relative step of the numerical derivative in a recording's weight
_BUDGET = 4_000_000  # float64 cells of one block of resampled margins: bounds the memory at about 100 MB


@dataclass(frozen=True)
class Roles:
    """What the classes are to the statistics; bool masks of shape (K,).

    Attributes
    ----------
    macro : the classes that macro F1 and balanced accuracy average over
    rare : the rare classes
    majority : the largest class of train, alone
    """

    macro: Mask
    rare: Mask
    majority: Mask


@dataclass(frozen=True)
class Sums:
    """What each run adds up per cluster.

    Attributes
    ----------
    margins : arrays of shape (R, G, K)
    rates : further statistics per 1,000 positions, smaller is better (an expected cost), each
        given by its sums of shape (R, G)
    """

    margins: mg.Margins
    rates: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Resampled:
    """M statistics of R runs under B resamples of G clusters.

    Attributes
    ----------
    names : the M statistics: :data:`SCALARS`, the rates, then ``recall/<class>`` and
        ``precision/<class>``
    larger_is_better : bool array of shape (M,)
    point : array of shape (R, M)
    pull : array of shape (G, R, M): derivative of each statistic in each cluster's weight
    samples : array of shape (B, R, M)
    shift : array of shape (G, R, M), with folds only: see :func:`shifts`
    fold : int64 array of shape (G,), the fold of each cluster; None without folds
    unit : int64 array of shape (G,), the recording of each cluster where several are of one; None where each is its own
    """

    names: tuple[str, ...]
    larger_is_better: Mask
    point: Array
    pull: Array
    samples: Array
    shift: Array | None = None
    fold: NDArray[np.int64] | None = None
    unit: NDArray[np.int64] | None = None

    def index(self, name: str) -> int:
        """Place of a statistic in ``names``."""
        return self.names.index(name)


def recording_weights(n_clusters: int, resamples: int, rng: np.random.Generator) -> Array:
    """Weights of the Bayesian bootstrap, shape (resamples, n_clusters); each row sums to ``n_clusters``.

    Drawn from a flat Dirichlet distribution, not as multinomial counts: every recording keeps a
    positive weight, so that a rare class that lives in three recordings is never resampled away
    and every metric stays defined in every resample.

    References
    ----------
    Rubin (1981), The Bayesian bootstrap.
    """
    draws = rng.standard_exponential((resamples, n_clusters))
    return draws * (n_clusters / draws.sum(axis=1, keepdims=True))


def resample(sums: Sums, weights: Array, classes: Sequence[str], roles: Roles) -> Resampled:
    """Every statistic at the data, its derivatives there, and under ``weights`` of shape (B, G).

    The same weights serve every run: that is what pairs the runs.
    """
    r, g, _ = sums.margins.hit.shape
    nudged = np.ones((1 + g, g))
    nudged[1:] += _NUDGE * np.eye(g)
    names = (*SCALARS, *sums.rates, *(f"recall/{c}" for c in classes), *(f"precision/{c}" for c in classes))
    near = np.empty((1 + g, r, len(names)))
    samples = np.empty((len(weights), r, len(names)))
    for i in range(r):
        one = _run(sums, i)
        for out, w in ((near, nudged), (samples, weights)):
            for block in _blocks(len(w), 3 * len(classes)):
                out[block, i] = _statistics(one, w[block], roles)
    return Resampled(
        names=names,
        larger_is_better=np.array([name not in sums.rates and name not in _SMALLER for name in names]),
        point=near[0],
        pull=(near[1:] - near[0]) / _NUDGE,
        samples=samples,
    )


def shifts(sums: Sums, strategy: NDArray[np.int64], classes: Sequence[str], roles: Roles) -> Array:
    """What each cluster's counts in one run move the statistics by, shape (G, R, M).

    To first order at the mean counts of the strategy's seeds: the derivative of each statistic along what the run
    says of cluster g less what the strategy's runs say of it on the average. The shifts of a run add up to what its
    score differs by from that of its strategy. Runs beyond ``strategy`` (trivial predictors) have none.
    """
    r, g, _ = sums.margins.hit.shape
    m = len(SCALARS) + len(sums.rates) + 2 * len(classes)
    out = np.zeros((g, r, m))
    fields = [sums.margins.hit, sums.margins.true, sums.margins.pred, *sums.rates.values()]
    for s in np.unique(strategy):
        own = np.flatnonzero(strategy == s)
        if len(own) < 2:
            continue
        centre = [np.asarray(x[own].mean(axis=0)) for x in fields]
        total = _at(sums, [c.sum(axis=0)[None] for c in centre], roles)
        for i in own:
            moved = [c.sum(axis=0)[None] + _NUDGE * (x[i] - c) for x, c in zip(fields, centre, strict=True)]
            out[:, i] = (_at(sums, moved, roles) - total) / _NUDGE
    return out


def _at(sums: Sums, totals: Sequence[Array], roles: Roles) -> Array:
    """All statistics of b rows of summed counts: margins of shape (b, K), rates of shape (b,); shape (b, M)."""
    hit, true, pred, *rates = totals
    one = Sums(mg.Margins(hit, true, pred), dict(zip(sums.rates, rates, strict=True)))
    return _statistics(one, np.eye(len(hit)), roles)


def _run(sums: Sums, i: int) -> Sums:
    m = sums.margins
    return Sums(mg.Margins(m.hit[i], m.true[i], m.pred[i]), {name: v[i] for name, v in sums.rates.items()})


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _BUDGET // max(1, columns))
    return (slice(start, start + step) for start in range(0, rows, step))


def _statistics(one: Sums, w: Array, roles: Roles) -> Array:
    """All statistics of one run under weights of shape (b, G): shape (b, M)."""
    m = mg.Margins(w @ one.margins.hit, w @ one.margins.true, w @ one.margins.pred)
    recall = mg.recall(m)
    per_thousand = 1000.0 / m.true.sum(axis=1)
    missed = (m.true - m.hit)[:, roles.rare].sum(axis=1)
    rare = m.true[:, roles.rare].sum(axis=1)
    scalars = [
        mg.macro_f1(m, roles.macro),
        recall[:, roles.macro].mean(axis=1),
        mg.mcc(m),
        np.divide(rare - missed, rare, out=np.full(len(w), np.nan), where=rare > 0),
        missed * per_thousand,
        (m.pred - m.hit)[:, roles.rare].sum(axis=1) * per_thousand,
        (m.true - m.hit)[:, roles.majority].sum(axis=1) * per_thousand,
        *((w @ v) * per_thousand for v in one.rates.values()),
    ]
    return np.concatenate([np.stack(scalars, axis=1), recall, mg.precision(m)], axis=1)
