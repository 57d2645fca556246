r"""Paired cluster bootstrap over recordings, crossed with seeds: intervals, tests, verdicts.

The unit of evidence is the recording, and a strategy is more than one trained model. The
difference of two strategies, averaged over their seeds, therefore varies for two reasons:

* **recordings**: variance of the difference over the Bayesian bootstrap of the recordings (the
  same weights for every run), :math:`V_r`;
* **seeds**: variance of the per-seed difference over the number of seeds, :math:`V_s`, where runs
  of the two strategies that share a seed number are a pair.

The interval is :math:`d \pm t_{\nu} \sqrt{V_r + V_s}`. The sum counts what depends on recording
*and* seed twice, which errs on the safe side (Cameron, Gelbach & Miller 2011 would subtract it
once). :math:`\nu` is Satterthwaite's, from :math:`\nu_r` and the number of seeds less one.

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

With fewer than :data:`SIGN_RECORDINGS` recordings that hold a class, no p-value falls below
:math:`2^{1 - n}`, the sign test's smallest: not even a difference of one sign in all of them is
evidence at 0.05. Holm corrects over strategies, and over strategies x classes for per-class
metrics. The verdict follows the corrected p; the interval is uncorrected.

*Minimum detectable difference*: :math:`(t_{\nu, .975} + t_{\nu, .8}) \sqrt{V_r + V_s}`, the true
difference that this data would call different from 0 (uncorrected, 5 % two-sided) four times in five.

With a single seed per strategy there is no :math:`V_s`: the statement then holds for the models that
were trained, not for the strategies, and ``seeds_in_interval`` is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.comparison.resampling import Resampled

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
class Estimate:
    """A mean or a difference of means, with its uncertainty; arrays of shape (M,).

    ``p`` is two-sided against 0; ``seeds_in_interval`` tells whether seeds contributed to ``se``.
    """

    value: Array
    se: Array
    df: Array
    low: Array
    high: Array
    p: Array
    minimum_detectable: Array
    seeds_in_interval: bool


def estimate(
    resampled: Resampled, side: Side, against: Side | None = None, recordings: Array | None = None, level: float = 0.95
) -> Estimate:
    """Mean of each statistic over the runs of ``side``, less that of ``against`` if given.

    Parameters
    ----------
    recordings : array of shape (M,), recordings that each statistic rests on; default all clusters
    level : coverage of the interval

    Returns
    -------
    Estimate
        Where the statistic is undefined in a run (precision of a class that it never predicts),
        everything is NaN. Where it does not vary at all (the same predictions; recall 0 on both
        sides), there is no interval, as no spread is no certainty.
    """
    from scipy.stats import t

    g = len(resampled.pull)
    contrast = np.zeros(len(resampled.point))
    contrast[side.runs] = 1.0 / len(side.runs)
    if against is not None:
        # Subtract, not assign: a strategy against itself must come out as exactly 0.
        contrast[against.runs] -= 1.0 / len(against.runs)
    used = np.flatnonzero(contrast)
    weight = contrast[used]
    value = weight @ resampled.point[used] if used.size else np.zeros(len(resampled.names))
    pull = np.einsum("r,grm->gm", weight, resampled.pull[:, used])
    samples = np.einsum("r,brm->bm", weight, resampled.samples[:, used])

    df_r = _effective_recordings(pull) - 1.0
    v_r = samples.var(axis=0) * (g + 1) / g * (df_r + 1) / df_r
    v_s, df_s = _seed_variance(resampled.point, side, against)
    total = v_r + v_s
    # Rounding of a statistic that does not vary leaves about 1e-32, not 0.
    flat = total <= 1e-24 * np.maximum(1.0, value**2)
    total = np.where(flat, 0.0, total)
    denominator = v_r**2 / df_r + (v_s**2 / df_s if df_s else 0.0)
    df = np.where(flat, df_r, total**2 / np.where(flat, 1.0, denominator))
    se = np.sqrt(total)

    half = t.ppf(0.5 + level / 2, df) * se
    zero = flat & (np.abs(value) < 1e-12)
    value = np.where(zero, 0.0, value)
    half = np.where(flat, np.nan, half)
    p = np.where(zero, 1.0, 2.0 * t.sf(np.abs(value) / np.where(flat, 1.0, se), df))
    n = np.full(len(value), float(g)) if recordings is None else np.asarray(recordings, dtype=np.float64)
    sign = 2.0 ** (1.0 - np.maximum(n, 1.0))
    p = np.where(flat & ~zero, sign, np.where(n < SIGN_RECORDINGS, np.maximum(p, sign), p))
    p = np.where(np.isnan(value), np.nan, p)
    return Estimate(
        value=value,
        se=se,
        df=df,
        low=value - half,
        high=value + half,
        p=p,
        minimum_detectable=np.where(flat, np.nan, (t.ppf(0.975, df) + t.ppf(0.8, df)) * se),
        seeds_in_interval=bool(df_s),
    )


def verdicts(
    value: Array, p_holm: Array, larger_is_better: NDArray[np.bool_], alpha: float = 0.05
) -> NDArray[np.object_]:
    """``better``, ``worse`` or ``cannot distinguish`` at the corrected level; ``insufficient`` where p is NaN."""
    gain = np.where(larger_is_better, value, -value)
    out = np.full(len(value), CANNOT, dtype=object)
    out[(p_holm <= alpha) & (gain > 0)] = BETTER
    out[(p_holm <= alpha) & (gain < 0)] = WORSE
    out[np.isnan(p_holm)] = INSUFFICIENT
    return out


def holm_by_family(p: Array, family: NDArray[np.str_]) -> Array:
    """Holm-corrected p within each family; NaN (insufficient) neither counts nor changes.

    Holm 1979, A simple sequentially rejective multiple test procedure. The two lines of arithmetic
    stand here because statsmodels' ``multipletests``, which the tests hold them against, collects
    the whole process's garbage at every call: seconds for a table of dozens of families.
    """
    out = np.full(len(p), np.nan)
    for name in np.unique(family):
        rows = np.flatnonzero((family == name) & ~np.isnan(p))
        rows = rows[np.argsort(p[rows], kind="stable")]
        step_down = np.maximum.accumulate(p[rows] * np.arange(len(rows), 0, -1))
        out[rows] = np.minimum(step_down, 1.0)
    return out


def _effective_recordings(pull: Array) -> Array:
    """Effective number of recordings behind each column of ``pull`` (G, M), between 2 and G; shape (M,)."""
    g = len(pull)
    squares = (pull**2).sum(axis=0)
    ratio = np.abs(pull).sum(axis=0) ** 2 / np.where(squares > 0, squares, 1.0)
    return np.clip(np.where(squares > 0, np.pi / 2 * ratio, g), 2.0, max(g, 2))


def _seed_variance(point: Array, side: Side, against: Side | None) -> tuple[Array, int]:
    """Variance that the choice of seeds adds, shape (M,), and its degrees of freedom (0: unknown)."""
    sides = [(s, sign) for s, sign in ((side, 1.0), (against, -1.0)) if s is not None and s.seeds is not None]
    none = np.zeros(point.shape[1])
    many = [(s, sign) for s, sign in sides if len(s.runs) > 1]
    if not many:
        return none, 0
    df = min(len(s.runs) for s, _ in many) - 1
    if len(many) < len(sides):
        # One side has a single seed: its spread is taken to be the other's.
        s = many[0][0]
        spread = point[s.runs].var(axis=0, ddof=1)
        return spread * sum(1.0 / len(x.runs) for x, _ in sides), df
    seeds = [np.asarray(s.seeds, dtype=np.int64) for s, _ in many]
    numbers = np.unique(np.concatenate(seeds))
    moved = np.zeros((len(numbers), point.shape[1]))
    for (s, sign), own in zip(many, seeds, strict=True):
        n = len(s.runs)
        deviation = point[s.runs] - point[s.runs].mean(axis=0)
        # sqrt(n / (n - 1)) makes the sum of squares the unbiased variance of the mean.
        np.add.at(moved, np.searchsorted(numbers, own), sign * deviation * np.sqrt(n / (n - 1)) / n)
    return (moved**2).sum(axis=0), df
