"""How many recordings, or seeds, a difference of a given size would take to be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Why a difference of two strategies varies, as a comparison measured it.

    Attributes
    ----------
    recordings : number of recordings that were tested
    se_recordings, se_trainings : standard errors of the difference over either kind, in the metric's unit; the
        second is None where there is one seed, which does not tell how much trainings differ
    quantiles : critical value + t quantile at 80 % (minimum detectable difference / standard error)
    """

    recordings: int
    se_recordings: float
    se_trainings: float | None
    quantiles: float

    def detectable(self, recordings: int) -> float:
        """The difference that so many recordings like these show four times in five, with seeds and folds as there."""
        over = self.se_recordings**2 * self.recordings / recordings
        return float(self.quantiles * np.sqrt(over + (self.se_trainings or 0.0) ** 2))


@dataclass(frozen=True)
class Needed:
    """What it would take to see a difference of ``margin`` four times in five.

    Attributes
    ----------
    margin : the difference, in the metric's unit
    recordings : number of recordings like these that would do; inf where no number does with these seeds
    with_many_seeds : the number where training noise is averaged away (very many seeds)
    seeds_help : whether it is fewer by a tenth or more with many seeds; None where one seed does not tell
    """

    margin: float
    recordings: float
    with_many_seeds: float
    seeds_help: bool | None

    def __str__(self) -> str:
        start, many = f"to see a difference of {self.margin:g}", f"{self.with_many_seeds:,.0f}"
        if np.isinf(self.recordings):
            none = "no number of recordings is enough with these seeds"
            return f"{start} {none}; with many more seeds about {many} would be"
        needed = f"{start} you need about {self.recordings:,.0f} recordings like these"
        if self.seeds_help is None:
            return f"{needed}; one seed does not tell what more seeds would do"
        return f"{needed}, or {many} with many more seeds" if self.seeds_help else f"{needed}; more seeds do not help"


def recordings_needed(margin: float, spread: Spread) -> Needed:
    r"""Recordings like the G at hand that a difference of ``margin`` needs.

    The variance over recordings falls with their number, that of the trainings only with seeds and folds:
    :math:`q^2 (s_r^2 G / N + s_t^2) \le \text{margin}^2` solved for N, with q the sum of the test's critical value
    and the quantile of the power (Cohen 1988, Statistical power analysis, ch. 2). The critical value of today is
    kept, so that N is rather too large where there are few recordings.
    """
    q = spread.quantiles
    ideal = spread.recordings * (q * spread.se_recordings / margin) ** 2
    trainings = spread.se_trainings
    left = margin**2 - (q * (trainings or 0.0)) ** 2
    now = spread.recordings * (q * spread.se_recordings) ** 2 / left if left > 0 else np.inf
    helps = None if trainings is None else bool(ideal < 0.9 * now)
    return Needed(margin, float(np.ceil(now)), float(np.ceil(ideal)), helps)


def recordings_before_training(margin: float, recordings: int, detectable: float) -> float:
    """Recordings like these for a difference of ``margin``, from what the audit says can be detected with G of them.

    ``detectable`` falls with the root of the number of recordings of the same sizes
    (:func:`imbalance_lab.audit.checks.power.detectable_difference`).
    """
    return float(np.ceil(recordings * (detectable / margin) ** 2))
