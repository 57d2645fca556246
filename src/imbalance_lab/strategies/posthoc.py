"""Corrections after training, fitted on validation alone: logit adjustment, thresholds, temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from imbalance_lab.metrics.priors import prior_shift
from imbalance_lab.strategies.option_types import PosthocOptions

if TYPE_CHECKING:
    from imbalance_lab.predictions import HeadPredictions

_POINTS = 25  # that a threshold is chosen from
_ROUNDS = 3  # over the classes, one threshold after another

Floats = NDArray[np.float64]

TAU_GRID: tuple[float, ...] = tuple(round(0.1 * i, 1) for i in range(26))
"""The free-lunch control's grid; 0 is "no correction"."""

_BLOCK = 1 << 18  # rows worked on together: bounds the memory


def threshold_predict(probabilities: ArrayLike, thresholds: ArrayLike) -> NDArray[np.int64]:
    """argmax_c p_c / t_c, (n,), for thresholds (K,) above 0."""
    return (np.asarray(probabilities, dtype=np.float64) / np.asarray(thresholds, dtype=np.float64)).argmax(axis=1)


def tau_confusions(
    probabilities: ArrayLike, true: ArrayLike, counts: ArrayLike, grid: tuple[float, ...] = TAU_GRID
) -> NDArray[np.int64]:
    """Confusion counts of argmax(log p - tau log pi) for each tau, (len(grid), K, K)."""
    from imbalance_lab.metrics.counts import confusion_counts

    p, y = np.asarray(probabilities), np.asarray(true)
    k = p.shape[1]
    total = np.zeros((len(grid), k, k), dtype=np.int64)
    shifts = [prior_shift(counts, tau) for tau in grid]
    for start in range(0, len(p), _BLOCK):
        z = np.log(np.maximum(p[start : start + _BLOCK].astype(np.float64), 1e-30))
        for i, shift in enumerate(shifts):
            total[i] += confusion_counts(y[start : start + _BLOCK], (z + shift).argmax(axis=1), k)
    return total


def fit_free_lunch(val: HeadPredictions, metric: str = "macro_f1", grid: tuple[float, ...] = TAU_GRID) -> float:
    """The tau of ``grid`` whose post-hoc logit adjustment scores best on validation; ties go to the smaller.

    ``val`` are validation predictions of one head; ``metric`` a name of
    :func:`imbalance_lab.metrics.counts.metric_by_name`. 0 where validation is empty.
    """
    from imbalance_lab.metrics.counts import metric_by_name

    if not len(val.true):
        return 0.0
    grid = tuple(sorted(grid))
    score = metric_by_name(metric)
    confusions = tau_confusions(val.probabilities, val.true, val.train_counts, grid)
    scores = np.array([float(score(c)) for c in confusions])
    return grid[int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))]


def fit_thresholds(probabilities: ArrayLike, true: ArrayLike, metric: str = "macro_f1") -> Floats:
    """Thresholds t (K,), largest 1, that maximise ``metric`` of argmax p_c / t_c on validation.

    Coordinate ascent over a logarithmic grid of 10^-3 to 10^3 per class, from all equal; a
    change is kept only where it gains, so the result is never worse than plain argmax here.
    """
    from imbalance_lab.metrics.counts import confusion_counts, metric_by_name

    score = metric_by_name(metric)
    z = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-30))
    y, k = np.asarray(true), z.shape[1]
    bias = np.zeros(k)  # -log t
    grid = np.unique(np.append(np.linspace(-3, 3, _POINTS) * np.log(10), 0.0))
    best = float(np.nan_to_num(score(confusion_counts(y, z.argmax(axis=1), k))))
    for _ in range(_ROUNDS):
        before = best
        for c in range(k):
            rest = z + bias
            rest[:, c] = -np.inf
            other, value = rest.argmax(axis=1), rest.max(axis=1)
            tried = [
                float(np.nan_to_num(score(confusion_counts(y, np.where(z[:, c] + b > value, c, other), k))))
                for b in grid
            ]
            if k > 1 and max(tried) > best + 1e-12:
                best, bias[c] = max(tried), grid[int(np.argmax(tried))]
        if best <= before:
            break
    t = np.exp(-bias)
    return t / t.max()


def fit_posthoc(
    steps: Mapping[str, Mapping[str, object]], val: HeadPredictions, metric: str = "macro_f1"
) -> dict[str, dict[str, Any]]:
    """Fit a head's post-hoc steps on validation; plain values by step name, in order.

    ``steps`` is ``BoundStrategy.posthoc[head]``. ``tau-norm`` is left out: it changes the
    classifier, see :func:`imbalance_lab.strategies.classifier_heads.fit_tau_norm`.
    """
    from imbalance_lab.metrics.calibration import fit_temperature

    fitted: dict[str, dict[str, Any]] = {}
    for name, options in steps.items():
        if name == "logit-adjust":
            tau = options.get("tau", "auto")
            fitted[name] = {"tau": fit_free_lunch(val, metric) if tau == "auto" else float(str(tau))}
        elif name == "thresholds":
            fitted[name] = {"thresholds": fit_thresholds(val.probabilities, val.true, metric).tolist()}
        elif name == "temperature":
            log_p = np.log(np.maximum(val.probabilities.astype(np.float64), 1e-30))
            fitted[name] = {"temperature": float(fit_temperature(log_p, val.true))}
        else:
            continue
        val = apply_posthoc({name: fitted[name]}, val)
    return fitted


def apply_posthoc(fitted: Mapping[str, Mapping[str, Any]], predictions: HeadPredictions) -> HeadPredictions:
    """The head's predictions after the steps that :func:`fit_posthoc` fitted.

    Thresholds change the predicted class alone; the other steps change the probabilities too.
    """
    for name, values in fitted.items():
        if name == "logit-adjust":
            predictions = predictions.adjusted(float(values["tau"]))
        elif name == "thresholds":
            pred = threshold_predict(predictions.probabilities, values["thresholds"]).astype(np.int32)
            predictions = replace(predictions, pred=pred)
        elif name == "temperature":
            from imbalance_lab.metrics.calibration import apply_temperature

            p = apply_temperature(predictions.probabilities, float(values["temperature"]))
            predictions = replace(predictions, probabilities=np.asarray(p, dtype=np.float32))
    return predictions


class LogitAdjust(PosthocOptions):
    """Subtract tau times the log prior after training; tau chosen on validation.

    What: argmax(z - tau log pi), tau from 0, 0.1, ... 2.5 by the selection metric on validation unless given.
    When: always worth trying: it costs nothing. It is the free-lunch control of every run.
    Suggested values: tau auto; 1 targets balanced accuracy.
    Cost: one pass over validation.
    Source: Menon et al. 2021.
    """

    tau: Literal["auto"] | Annotated[float, Field(ge=0, allow_inf_nan=False)] = "auto"

    def prior_power(self) -> float | None:
        """Power of the prior that a fixed tau corrects for; a fitted one adapts to the rest, so counts as 0."""
        return 0.0 if self.tau == "auto" else self.tau


class Thresholds(PosthocOptions):
    """One threshold per class, tuned on validation.

    What: argmax p_c / t_c, t by coordinate ascent on the selection metric.
    When: a few classes and enough validation positions of each.
    Suggested values: no option.
    Cost: some passes over validation.
    Source: Menon et al. 2021; Collell et al. 2018.
    """


class Temperature(PosthocOptions):
    """Divide the logits by a temperature fitted on validation.

    What: T minimises the negative log-likelihood of softmax(z / T) on validation; predictions stay the same.
    When: probabilities are read as probabilities.
    Suggested values: no option.
    Cost: one small fit.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
