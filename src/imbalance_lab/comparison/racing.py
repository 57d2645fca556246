r"""Racing: strategies that are worse than the baseline on validation are stopped before all their folds are trained.

After each round (a fold of all seeds, or a seed where there are no folds) the strategies that are still in the race are
held against the baseline: the studentised max-t of :mod:`imbalance_lab.comparison.family` over what the finished
trainings predicted on *validation*. One whose upper bound lies below 0 is stopped. The baseline never is.

Alpha is spent over the rounds (Lan & DeMets 1983) by the function that resembles O'Brien and Fleming's bound,

.. math:: \alpha(t) = 2 \left(1 - \Phi(z_{\alpha / 2} / \sqrt t)\right), \qquad t = \frac{k}{K - 1}

after round k of K, as there is nothing to stop after the last. Look k decides at :math:`\alpha(t_k) -
\alpha(t_{k - 1})`, one-sided, for all strategies that race together, so that the chance of stopping any that is no
worse than the baseline is at most :math:`\alpha` whatever the dependence of the looks (their sum, not their joint
distribution, is bounded: that costs little, as nearly all is spent at the last looks).

The family-wise error of 5 % is that of race and verdict together: the race has :data:`RACE_ALPHA`, the verdict on test
:data:`VERDICT_ALPHA`.

References
----------
Lan & DeMets (1983), Discrete sequential boundaries for clinical trials. O'Brien & Fleming (1979), A multiple testing
procedure for clinical trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from imbalance_lab.comparison.bootstrap import SIGN_RECORDINGS, contrasts, together
from imbalance_lab.comparison.folds import recoded
from imbalance_lab.comparison.records import RunRecord, head_of
from imbalance_lab.comparison.run_counts import MAX_CLUSTERS, Joined, join
from imbalance_lab.comparison.study import build
from imbalance_lab.formats import METRIC_WORDS
from imbalance_lab.predictions import Predictions
from imbalance_lab.randomness import derive_seed

RACE_ALPHA, VERDICT_ALPHA = 0.01, 0.04
"""What race and verdict have of the family-wise 5 %."""

FIRST_LOOK = 2
"""One fold, or one seed, does not tell how much trainings differ."""

_RESAMPLES = 1000


@dataclass(frozen=True)
class Round:
    """Where a race is: ``after`` of ``of`` ``parts`` (folds or seeds) are trained."""

    after: int
    of: int
    parts: str

    @property
    def looks(self) -> bool:
        """Whether strategies are stopped after it."""
        return FIRST_LOOK <= self.after < self.of

    @property
    def alpha(self) -> float:
        """What this look spends."""
        before = _spent((self.after - 1) / (self.of - 1)) if self.after > FIRST_LOOK else 0.0
        return _spent(self.after / (self.of - 1)) - before

    @property
    def words(self) -> str:
        """``after 2 of 6 folds``."""
        return f"after {self.after} of {self.of} {self.parts}"


@dataclass(frozen=True)
class Stop:
    """A strategy that was stopped: its difference to the baseline on validation, with the interval that decided."""

    strategy: str
    baseline: str
    metric: str
    round: Round
    difference: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """Where and why it was stopped."""
        return (
            f"stopped {self.round.words}: worse than {self.baseline} by {-self.difference:.3f} in "
            f"{METRIC_WORDS.get(self.metric, self.metric)} on validation ({_percent(self.round.alpha)} interval of the "
            f"difference {self.low:+.3f} to {self.high:+.3f})"
        )


def look(runs: Sequence[RunRecord], at: Round, *, baseline: str, head: str, metric: str = "macro_f1") -> list[Stop]:
    """The strategies that are stopped now.

    Parameters
    ----------
    runs : the baseline's and those that still race, all with the same seeds and folds; ``test`` holds their predictions
        on validation

    Returns
    -------
    list of Stop
        None where validation holds fewer than 6 recordings, or the strategy does not vary at all.

    Raises
    ------
    InputError
        If the runs are of different data, or cannot be joined.
    """
    if not at.looks or all(run.strategy == baseline for run in runs):
        return []
    joined = _joined(runs, baseline, head)
    study = build(joined, resamples=_RESAMPLES, seed=0)
    column = np.array([study.resampled.index(metric)])
    if not study.enough[column[0]] or joined.n_recordings < SIGN_RECORDINGS:
        return []
    others = joined.strategies[1:]
    found = contrasts(study.resampled, [study.side(name) for name in others], study.side(baseline))
    # the upper end of a two-sided interval is the one-sided bound of half its error
    decided = together(found, column, study.recordings, 2 * at.alpha)
    return [
        Stop(name, baseline, metric, at, float(e.value[0]), float(e.low[0]), float(e.high[0]))
        for name, e in zip(others, decided, strict=True)
        if e.high[0] < 0
    ]


def _joined(runs: Sequence[RunRecord], baseline: str, head: str) -> Joined:
    """The runs on validation. A recording may validate several folds: a cluster in each, resampled together."""
    joined = join([_of_fold(run, head, len({r.fold for r in runs})) for run in runs], baseline=baseline, head=head)
    if joined.fold is None:
        return joined
    cells, group = recoded([(h.group_names, h.group) for h in (head_of(run, head) for run in joined.runs[0].trained)])
    names = [cells[i].partition(_IN)[2] for i in np.unique(group)]
    unit = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return replace(joined, unit=unit, n_recordings=len(set(names)))


_IN = "|"  # stands between fold and recording


def _of_fold(run: RunRecord, head: str, folds: int) -> RunRecord:
    """The run with this head alone, without its free correction, its recordings and sequences named by fold.

    Many recordings are pooled before, the same in every fold.
    """
    h = head_of(run, head)
    if run.fold is not None:
        names, most = np.array(h.group_names), max(2, MAX_CLUSTERS // folds)
        if len(names) > most:
            names = np.array([f"pool {derive_seed(0, name) % most}" for name in h.group_names])
        cells, code = np.unique([f"{run.fold}{_IN}{name}" for name in names], return_inverse=True)
        sequence = h.sequence + run.fold * (1 << 40)
        h = replace(h, group_names=tuple(cells.tolist()), group=code.astype(np.int32)[h.group], sequence=sequence)
    meta = {key: value for key, value in run.test.meta.items() if key != "free_lunch"}
    return replace(run, test=Predictions({head: h}, meta), report=None)


def _spent(t: float) -> float:
    from scipy.stats import norm

    return float(2 * norm.sf(norm.isf(RACE_ALPHA / 2) / np.sqrt(t)))


def _percent(alpha: float) -> str:
    """The level of the interval whose upper end was held against 0; more digits where it is close to 1."""
    digits = 1
    while digits < 8 and 200 * alpha < 0.5 * 10.0**-digits:
        digits += 1
    return f"{100 - 200 * alpha:.{digits}f} %"
