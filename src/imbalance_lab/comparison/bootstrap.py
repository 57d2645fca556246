r"""Paired cluster bootstrap over recordings, crossed with seeds: standard errors, intervals, verdicts.

The unit of evidence is the recording, and a strategy is more than one trained model. The
difference of two strategies, averaged over their seeds, therefore varies for two reasons:

* **recordings**: variance of the difference over the Bayesian bootstrap of the recordings (the
  same weights for every run), :math:`V_r`;
* **seeds**: variance of a training over the number of seeds, of both strategies, :math:`V_s`; what runs of one seed
  have in common is taken out, and the variances of all strategies are drawn towards their common value
  (:mod:`imbalance_lab.comparison.training_noise`).

The standard error is :math:`\sqrt{V_r + V_s}`. The sum counts what depends on recording
*and* seed twice, which errs on the safe side (Cameron, Gelbach & Miller 2011 would subtract it
once). Its degrees of freedom are Satterthwaite's, from :math:`\nu_r` and those of :math:`V_s`.

Why not percentiles of the same resamples: ``benchmarks/comparison.py`` measures both. With 17
recordings and three seeds, percentile intervals of recordings crossed with seeds miss the truth
up to three times as often as they say, because resampling n units understates their variance by
(n - 1)/n (a third, for three seeds) and knows no t distribution. Here

* :math:`V_r` is multiplied by (G + 1)/G, which undoes the Dirichlet weights' shrinkage, and by
  :math:`(\nu_r + 1)/\nu_r`;
* :math:`\nu_r + 1` is the effective number of recordings, :math:`\frac{\pi}{2} (\sum |u_g|)^2 /
  \sum u_g^2` (at most G), with :math:`u_g` the pull of recording g on the difference. A class that
  lives in three of 17 recordings has about three recordings of evidence, not 17; the factor makes
  the number G for normal pulls.

Verdict, corrected p and interval of a family come from one procedure
(:mod:`imbalance_lab.comparison.family`), so that an interval holds 0 exactly where the verdict cannot tell. A
statistic that rests on fewer than :data:`SIGN_RECORDINGS` recordings has no verdict: not even a difference of one
sign in all of them is evidence at 0.05.

*Minimum detectable difference*: :math:`(c + t_{\nu, .8}) \sqrt{V_r + V_s}`, the true difference that these data would
call different from 0, with the family's critical value c, four times in five.

With a single seed per strategy there is no :math:`V_s`: the statement then holds for the models that
were trained, not for the strategies, and ``seeds_in_interval`` is 0.

*Folds* (cross-validation by recordings, a training with a seed of its own for each strategy, seed and fold): the
statistic is that of the pooled out-of-fold counts, with :math:`V_s` between trainings, by fold
(:func:`imbalance_lab.comparison.training_noise.fold_noise`). What recordings and trainings both count is not
subtracted: in simulations with real retraining (``benchmarks/verdict.py``) the sum met the spread, the difference fell
short of it. Degrees of freedom are Satterthwaite's, with at most (S - 1) K for each strategy's trainings. With a single
seed, the K folds are the clusters: :math:`\frac{K}{K - 1} \sum_f u_f^2` with :math:`u_f` the pull of all recordings of
fold f, and K - 1 degrees of freedom; a fold varies with its recordings and with its training, so this holds for
strategies. No difference's variance counts as smaller than the mean of all: two models that both collapsed differ by 0
in each of three folds, which is no evidence that they never differ (docs/log.md, "200 mills" and "Four twins").

References
----------
Cameron, Gelbach & Miller (2011), Robust inference with multiway clustering. Satterthwaite (1946), An approximate
distribution of estimates of variance components. Bell & McCaffrey (2002), Bias reduction in standard errors for linear
regression with multi-stage samples: why so few clusters need a t distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.comparison.family import step_down
from imbalance_lab.comparison.resampling import Resampled
from imbalance_lab.comparison.training_noise import Noise, fold_noise, run_noise

_LEVEL = 0.95  # of an interval that stands alone

Array = NDArray[np.float64]

BETTER, WORSE, CANNOT = "better", "worse", "cannot distinguish"
INSUFFICIENT = "insufficient"

SIGN_RECORDINGS = 6
"""With fewer recordings than this a sign test cannot reach p <= 0.05 (2**(1 - 5) = 0.0625)."""


@dataclass(frozen=True)
class Side:
    """The runs of one side of a difference: ``runs`` index :class:`Resampled`, ``seeds`` are their numbers.

    ``seeds`` is None for a predictor that has no seed at all (always-majority).
    """

    runs: NDArray[np.int64]
    seeds: NDArray[np.int64] | None


@dataclass(frozen=True)
class Contrast:
    """A mean over runs or a difference of such means, and why it varies; arrays of shape (M,).

    Attributes
    ----------
    value : the mean or the difference; NaN where the statistic is undefined in a run
    v_recordings, df_recordings : variance over recordings and its degrees of freedom
    v_seeds, df_seeds : variance over seeds and its degrees of freedom, 0 where seeds are unknown
    samples : (B, M), the contrast under the resamples of the recordings
    pull : (G, M), its derivative in the weight of each cluster
    """

    value: Array
    v_recordings: Array
    df_recordings: Array
    v_seeds: Array
    df_seeds: Array
    samples: Array
    pull: Array

    @property
    def variance(self) -> Array:
        """Of both kinds together; exactly 0 where nothing varies."""
        total = self.v_recordings + self.v_seeds
        # Rounding of a statistic that does not vary leaves about 1e-32, not 0.
        return np.where(total <= 1e-24 * np.maximum(1.0, self.value**2), 0.0, total)

    @property
    def df(self) -> Array:
        """Satterthwaite's degrees of freedom."""
        seeds = self.v_seeds**2 / np.where(self.df_seeds > 0, self.df_seeds, np.inf)
        whole = self.v_recordings**2 / self.df_recordings + seeds
        flat = self.variance == 0
        return np.where(flat, self.df_recordings, self.variance**2 / np.where(flat, 1.0, whole))


@dataclass(frozen=True)
class Estimate:
    """A contrast with its interval and test; arrays of shape (M,).

    ``p`` is two-sided against 0 and corrected for the family that it was estimated with; ``se_recordings`` is
    the part of ``se`` that more recordings would take away; ``seeds_in_interval`` tells
    whether seeds contributed to ``se``.
    """

    value: Array
    se: Array
    se_recordings: Array
    df: Array
    low: Array
    high: Array
    p: Array
    minimum_detectable: Array
    seeds_in_interval: bool


def contrasts(resampled: Resampled, sides: Sequence[Side], against: Side | None = None) -> list[Contrast]:
    """Mean of each statistic over the runs of each side, less that of ``against`` if given.

    The sides belong together: what each tells of the noise of trainings serves all.
    """
    everyone = [*sides, *([] if against is None else [against])]
    trained = [s for s in everyone if s.seeds is not None]
    runs, seeds = [s.runs for s in trained], [np.asarray(s.seeds) for s in trained]
    if resampled.shift is None or resampled.fold is None:
        noise = run_noise(resampled.point, runs, seeds)
    else:
        noise = fold_noise(resampled.shift, resampled.fold, runs, seeds)
    place = {id(s): i for i, s in enumerate(trained)}
    found = [_contrast(resampled, side, against, noise, place) for side in sides]
    if resampled.fold is None or noise.most:
        return found
    one_seed = [i for i, side in enumerate(sides) if _is_trained(side, against)]
    for i, c in zip(one_seed, _over_folds([found[i] for i in one_seed], resampled.fold, resampled.unit), strict=True):
        found[i] = c
    return found


def _contrast(
    resampled: Resampled, side: Side, against: Side | None, noise: Noise, place: Mapping[int, int]
) -> Contrast:
    weights = np.zeros(len(resampled.point))
    weights[side.runs] = 1.0 / len(side.runs)
    if against is not None:
        # Subtract, not assign: a strategy against itself must come out as exactly 0.
        weights[against.runs] -= 1.0 / len(against.runs)
    used = np.flatnonzero(weights)
    weight = weights[used]
    value = weight @ resampled.point[used] if used.size else np.zeros(len(resampled.names))
    pull = np.einsum("r,grm->gm", weight, resampled.pull[:, used])
    samples = np.einsum("r,brm->bm", weight, resampled.samples[:, used])
    by_unit = pull if resampled.unit is None else _summed(pull, resampled.unit)
    g = len(by_unit)
    df_r = _effective_recordings(by_unit) - 1.0
    v_r = samples.var(axis=0) * (g + 1) / g * (df_r + 1) / df_r
    v_s, df_s = np.zeros_like(value), np.zeros_like(value)
    if used.size:
        at = [(place[id(s)], len(s.runs)) for s in (side, against) if s is not None and s.seeds is not None]
        parts = np.array([noise.variance[i] / n for i, n in at]).reshape(len(at), len(value))
        degrees = np.array([noise.df[i] for i, _ in at]).reshape(len(at), len(value))
        v_s = parts.sum(axis=0)
        whole = np.divide(parts**2, degrees, out=np.zeros_like(parts), where=degrees > 0).sum(axis=0)
        df_s = np.minimum(np.divide(v_s**2, whole, out=np.zeros_like(value), where=whole > 0), noise.most)
    out = Contrast(value, v_r, df_r, v_s, df_s, samples, pull)
    return replace(out, value=np.where((out.variance == 0) & (np.abs(value) < 1e-12), 0.0, value))  # but for rounding


def _is_trained(*sides: Side | None) -> bool:
    return any(side is not None and side.seeds is not None for side in sides)


def _over_folds(found: Sequence[Contrast], fold: NDArray[np.int64], unit: NDArray[np.int64] | None) -> list[Contrast]:
    """The contrasts with the folds as clusters, each a training with its recordings: K - 1 degrees of freedom."""
    if not found:
        return []
    folds = int(fold.max()) + 1
    within = np.zeros((folds, len(found), len(found[0].value)))
    np.add.at(within, fold, np.stack([c.pull for c in found], axis=1))
    variance = folds / (folds - 1) * (within**2).sum(axis=0)
    variance = np.maximum(variance, _mean_of_known(variance))
    if unit is not None:  # what a recording says alike in several folds (two-way clusters)
        alike = [(_summed(c.pull, unit) ** 2).sum(axis=0) - (c.pull**2).sum(axis=0) for c in found]
        variance = variance + np.maximum(0.0, np.stack(alike))
    df = np.full(len(found[0].value), folds - 1.0)
    return [replace(c, v_recordings=v, df_recordings=df) for c, v in zip(found, variance, strict=True)]


def _mean_of_known(values: Array) -> Array:
    """Mean over the first axis of what is not NaN; 0 where all are."""
    known = ~np.isnan(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _summed(pull: Array, code: NDArray[np.int64]) -> Array:
    """Sums of the rows of ``pull`` (G, M) with the same code, (max code + 1, M)."""
    out = np.zeros((int(code.max()) + 1, pull.shape[1]))
    np.add.at(out, code, pull)
    return out


def alone(c: Contrast) -> Estimate:
    """A contrast on its own: Student's interval and p."""
    from scipy.stats import t

    flat = c.variance == 0
    se = np.sqrt(c.variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(flat, np.where(c.value == 0, 1.0, np.nan), 2.0 * t.sf(np.abs(c.value) / se, c.df))
    return _estimate(c, t.ppf(0.5 + _LEVEL / 2, c.df), p)


def together(
    found: Sequence[Contrast], columns: NDArray[np.int64], recordings: NDArray[np.int64], alpha: float = 0.05
) -> list[Estimate]:
    """The contrasts of one family: ``columns`` of each strategy, decided by one procedure.

    Parameters
    ----------
    found : contrasts of P strategies, against the same reference
    columns : int64 array of shape (m,), statistics that form the family (one metric, or one metric of each class)
    recordings : int64 array of shape (M,), recordings that each statistic rests on

    Returns
    -------
    list of P estimates of shape (m,)
        Where a contrast does not vary at all (the same predictions; recall 0 on both sides) there is no interval, as
        no spread is no certainty; p is then 1 for no difference, and that of a sign test over the recordings for one.
    """
    if not found or not len(columns):
        return []
    m = len(columns)
    value, variance, df = (np.concatenate([getattr(c, x)[columns] for c in found]) for x in ("value", "variance", "df"))
    use = (variance > 0) & ~np.isnan(value)
    t = np.full(len(value), np.nan)
    t[use] = value[use] / np.sqrt(variance[use])
    decided = step_down(t, df, _correlation(found, columns, variance), alpha)
    sign = np.minimum(1.0, len(value) * 2.0 ** (1.0 - np.tile(recordings[columns], len(found))))
    p = np.where((variance == 0) & ~np.isnan(value), np.where(value == 0, 1.0, sign), decided.p)
    parts = [slice(i * m, (i + 1) * m) for i in range(len(found))]
    return [_estimate(c, decided.critical[s], p[s], columns) for c, s in zip(found, parts, strict=True)]


def _estimate(c: Contrast, critical: Array, p: Array, columns: NDArray[np.int64] | slice = slice(None)) -> Estimate:
    from scipy.stats import t

    value, variance, df = c.value[columns], c.variance[columns], c.df[columns]
    flat = variance == 0
    se = np.sqrt(variance)
    half = np.where(flat, np.nan, critical * se)
    return Estimate(
        value=value,
        se=se,
        se_recordings=np.sqrt(c.v_recordings[columns]),
        df=df,
        low=value - half,
        high=value + half,
        p=p,
        minimum_detectable=np.where(flat, np.nan, (critical + t.ppf(0.8, df)) * se),
        seeds_in_interval=bool(c.df_seeds.any()),
    )


def _correlation(contrasts: Sequence[Contrast], columns: NDArray[np.int64], variance: Array) -> Array:
    """Correlation of the differences of P strategies for m statistics, (P m, P m).

    Over recordings it is that of the resamples. Over seeds two strategies share the baseline's runs, half of the
    variance of each difference; what seeds do to different classes is taken to be independent, the cautious side.
    """
    m = len(columns)
    samples = np.concatenate([c.samples[:, columns] for c in contrasts], axis=1)
    spread = samples.std(axis=0)
    scaled = (samples - samples.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    recordings = scaled.T @ scaled / len(scaled)
    seeds = np.kron(0.5 + 0.5 * np.eye(len(contrasts)), np.eye(m))
    v_r, v_s = (
        np.sqrt(np.concatenate([getattr(c, x)[columns] for c in contrasts])) for x in ("v_recordings", "v_seeds")
    )
    se = np.sqrt(np.where(variance > 0, variance, 1.0))
    out = (recordings * np.outer(v_r, v_r) + seeds * np.outer(v_s, v_s)) / np.outer(se, se)
    np.fill_diagonal(out, 1.0)
    return np.asarray(out)


def verdicts(value: Array, p: Array, larger_is_better: NDArray[np.bool_], alpha: float = 0.05) -> NDArray[np.object_]:
    """``better``, ``worse`` or ``cannot distinguish`` by corrected p; ``insufficient`` where p is NaN."""
    gain = np.where(larger_is_better, value, -value)
    out = np.full(len(value), CANNOT, dtype=object)
    out[(p <= alpha) & (gain > 0)] = BETTER
    out[(p <= alpha) & (gain < 0)] = WORSE
    out[np.isnan(p)] = INSUFFICIENT
    return out


def _effective_recordings(pull: Array) -> Array:
    """Effective number of recordings behind each column of ``pull`` (G, M), between 2 and G; shape (M,)."""
    g = len(pull)
    squares = (pull**2).sum(axis=0)
    ratio = np.abs(pull).sum(axis=0) ** 2 / np.where(squares > 0, squares, 1.0)
    return np.clip(np.where(squares > 0, np.pi / 2 * ratio, g), 2.0, max(g, 2))
