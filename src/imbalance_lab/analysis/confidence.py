"""Confidence and calibration of a head: as predicted, after temperature, and with the prior shift undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.gap_intervals import absolute_sum_interval
from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import BOOT, INTERVAL, MASK, Advice, Analysis, Plot, Rule, Scene, Table, columns
from imbalance_lab.analysis.tally import BINS, FINE, CalibrationTally, Change, tally_calibration
from imbalance_lab.formats import percent
from imbalance_lab.metrics.calibration import CLIP
from imbalance_lab.metrics.clusters import ratio, ratio_interval, resampled
from imbalance_lab.metrics.intervals import percentile_interval, wilson
from imbalance_lab.predictions import HeadPredictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
SCATTER_BINS = 20


@dataclass(frozen=True)
class Confidence:
    """Result of :func:`confidence_analysis`.

    Attributes
    ----------
    scores : variant (as predicted, temperature, prior undone), metric (ece, ece_mass, classwise_ece, brier, nll),
        value, low, high
        of the population. Binned errors are sums of absolute gaps, so noise raises the value: it may lie above high
    reliability : variant, kind (width, mass), bin_low, bin_high, count, mean_confidence, accuracy, low, high (of the
        accuracy, cluster bootstrap); empty bins left out
    classwise : class, ece and its interval, per class, as predicted
    histogram : confidence bin, right, wrong
    scatter : of the wrong positions: confidence bin, true probability bin, count
    notes : what was not computed, and why
    """

    scores: pd.DataFrame
    reliability: pd.DataFrame
    classwise: pd.DataFrame
    histogram: pd.DataFrame
    scatter: pd.DataFrame
    temperature: float | None
    prior_correction: float | None
    notes: tuple[str, ...]


def _width(t: CalibrationTally) -> tuple[NDArray[np.int64], Floats]:
    """(C, 15, 2) counts and (C, 15) confidence sums from the 60 fine bins."""
    step = FINE // BINS
    c = len(t.fine)
    return t.fine.reshape(c, BINS, step, 2).sum(axis=2), t.fine_confidence.reshape(c, BINS, step).sum(axis=2)


def _gap_sums(counts: NDArray[np.int64], confidence: Floats) -> Floats:
    """Sum of confidence - right in each bin, (C, bins)."""
    return confidence - counts[..., 1]


def _packed(t: CalibrationTally) -> tuple[Floats, list[int]]:
    """All sums that the scores need, side by side, (C, columns), and where each part ends."""
    width = _gap_sums(*_width(t))
    mass = _gap_sums(t.mass, t.mass_confidence)
    per_class = (t.class_probability - t.class_positive).reshape(len(width), -1)
    n = t.fine.sum(axis=(1, 2))
    parts = [n[:, None], width, mass, per_class, t.brier[:, None], t.nll[:, None]]
    return np.concatenate(parts, axis=1).astype(np.float64), np.cumsum([p.shape[1] for p in parts]).tolist()


def _scores(packed: Floats, ends: list[int], k: int) -> Floats:
    """(block, columns) -> (block, 5 + K): ece, ece_mass, classwise_ece, brier, nll, and the ECE of each class."""
    n, width, mass, per_class, brier, nll = np.split(packed, ends[:-1], axis=1)
    each = np.abs(per_class).reshape(len(packed), k, -1).sum(axis=2)
    columns = [np.abs(width).sum(axis=1), np.abs(mass).sum(axis=1), each.mean(axis=1), brier[:, 0], nll[:, 0]]
    return np.concatenate([np.stack(columns, axis=1), each], axis=1) / n


METRICS = ("ece", "ece_mass", "classwise_ece", "brier", "nll")


def _gaps(packed: Floats, ends: list[int], k: int) -> Floats:
    """Signed gaps of the bins as shares of the positions, (block, 2 + K, 15): equal width, equal mass, each class."""
    n, width, mass, per_class, _, _ = np.split(packed, ends[:-1], axis=1)
    mass = np.pad(mass, ((0, 0), (0, BINS - mass.shape[1])))  # equal edges are merged
    return (np.concatenate([width, mass, per_class], axis=1) / n).reshape(len(packed), 2 + k, BINS)


def _intervals(packed: Floats, ends: list[int], k: int, weights: Floats) -> tuple[Floats, Floats]:
    """Intervals in the order of :func:`_scores`: percentiles for means, inverted tests for sums of absolute gaps."""
    n_groups = weights.shape[1]
    drawn = resampled(packed, weights, lambda x: x)
    low, high = percentile_interval(_scores(drawn, ends, k), n_groups=n_groups)
    gaps = _gaps(packed.sum(axis=0, keepdims=True), ends, k)[0]
    deviations = _gaps(drawn, ends, k) - gaps
    each = [0, 1, *range(len(METRICS), len(METRICS) + k)]
    low[each], high[each] = absolute_sum_interval(gaps, deviations, n_groups)
    # The mean over classes is one sum over the bins of all of them.
    low[2:3], high[2:3] = absolute_sum_interval(
        gaps[2:].reshape(1, -1) / k, deviations[:, 2:].reshape(len(deviations), 1, -1) / k, n_groups
    )
    return low, high


def _score_table(prepared: Prepared, tally: CalibrationTally) -> tuple[pd.DataFrame, Floats]:
    """Scores with intervals, and (K, 3) value, low, high of each class's ECE."""
    k = len(prepared.head.classes)
    packed, ends = _packed(tally)
    value = _scores(packed.sum(axis=0, keepdims=True), ends, k)[0]
    low = high = np.full(len(value), np.nan)
    if prepared.weights is not None:
        low, high = _intervals(packed, ends, k, prepared.weights)
    all_of = np.stack([value, low, high], axis=1)
    table = pd.DataFrame(all_of[: len(METRICS)], columns=["value", "low", "high"])
    table.insert(0, "metric", METRICS)
    return table, all_of[len(METRICS) :]


def _bin_rows(
    kind: str, edges: Floats, counts: NDArray[np.int64], confidence: Floats, weights: Floats | None
) -> pd.DataFrame:
    total = counts.sum(axis=0)
    low, high = ratio_interval(counts[..., 1], counts.sum(axis=2), weights)
    n = total.sum(axis=1)
    table = pd.DataFrame(
        {
            "kind": kind,
            "bin_low": edges[:-1],
            "bin_high": edges[1:],
            "count": n,
            "mean_confidence": ratio(confidence.sum(axis=0), n),
            "accuracy": ratio(total[:, 1], n),
            "low": low,
            "high": high,
        }
    )
    return table[table["count"] > 0].reset_index(drop=True)


def _bins(tally: CalibrationTally, mass_edges: Floats, weights: Floats | None) -> pd.DataFrame:
    width = _bin_rows("width", np.linspace(0, 1, BINS + 1), *_width(tally), weights)
    mass = _bin_rows("mass", mass_edges, tally.mass, tally.mass_confidence, weights)
    return pd.concat([width, mass], ignore_index=True)


def _scatter(prepared: Prepared) -> pd.DataFrame:
    """Wrong positions by confidence and true probability; right ones lie on the diagonal."""
    e = prepared.errors
    x = np.minimum((e.confidence * SCATTER_BINS).astype(np.int64), SCATTER_BINS - 1)
    y = np.minimum((e.true_prob * SCATTER_BINS).astype(np.int64), SCATTER_BINS - 1)
    counts = np.bincount(x * SCATTER_BINS + y, minlength=SCATTER_BINS**2)
    some = np.flatnonzero(counts)
    step = 1 / SCATTER_BINS
    return pd.DataFrame(
        {
            "confidence": (some // SCATTER_BINS + 0.5) * step,
            "true_prob": (some % SCATTER_BINS + 0.5) * step,
            "count": counts[some],
        }
    )


def log_prior(head: HeadPredictions, power: float) -> NDArray[np.float32]:
    """power * log prior, float32 (K,); classes without training examples get the smallest prior there is."""
    counts = head.train_counts.astype(np.float64)
    seen = counts[counts > 0]
    floor = seen.min() if seen.size else 1.0
    counts = np.maximum(counts, floor)
    return (power * np.log(counts / counts.sum())).astype(np.float32)


def changes_of(
    name: str, head: HeadPredictions, meta: Mapping[str, Any]
) -> tuple[dict[str, Change | None], tuple[str, ...]]:
    """What is done to the probabilities in each variant of the scores, and why a variant is missing."""
    changes: dict[str, Change | None] = {"as predicted": None}
    notes = []
    temperature = (meta.get("temperature") or {}).get(name)
    if temperature is None:
        notes.append("no temperature was fitted on validation for this head")
    elif not 0 < float(temperature) < float("inf"):
        notes.append(
            f"the temperature fitted on validation is {temperature}: no finite optimum, so nothing is rescaled"
        )
    else:
        changes["temperature"] = None, 1 / float(temperature)
    power = (meta.get("prior_correction") or {}).get(name)
    if power is None:
        notes.append("the run does not say which power of the prior its strategy corrects for")
    elif float(power) == 0:
        notes.append("the strategy corrects for no prior, so there is no shift to undo")
    elif head.train_counts.sum() == 0:
        notes.append("training counts are unknown, so the prior shift cannot be undone")
    else:
        changes["prior undone"] = log_prior(head, float(power)), 1.0
    return changes, tuple(notes)


def confidence_analysis(prepared: Prepared) -> Confidence:
    """Calibration with cluster-bootstrap intervals.

    The run's meta says ``temperature[head]`` (fitted on validation) and ``prior_correction[head]`` (power r of the
    prior that the strategy corrects for; undone by multiplying with prior^r).

    Notes
    -----
    The classes' ECE and NLL use float32 probabilities; NLL clips at float32's epsilon. Equal-mass
    edges come from at most 200,000 evenly spaced positions.
    """
    meta = prepared.meta
    changes, missing = changes_of(prepared.name, prepared.head, meta)
    tallies = {
        variant: prepared.tally.calibration
        if change is None
        else tally_calibration(prepared.head, prepared.clusters, *change)
        for variant, change in changes.items()
    }
    notes = list(missing)
    scores: list[pd.DataFrame] = []
    bins: list[pd.DataFrame] = []
    classes = np.empty((0, 3))
    for variant, tally in tallies.items():
        table, per_class = _score_table(prepared, tally)
        edges = prepared.mass_edges if variant == "as predicted" else np.linspace(0, 1, BINS + 1)
        rows = _bins(tally, edges, prepared.weights)
        if variant == "as predicted":
            classes = per_class
        else:  # their equal-mass bins would need a second pass for the quantiles
            rows, table = rows[rows["kind"] == "width"], table[table["metric"] != "ece_mass"]
        for frame, into in ((table, scores), (rows, bins)):
            into.append(pd.concat([pd.Series(variant, frame.index, name="variant"), frame], axis=1))
    fine = tallies["as predicted"].fine.sum(axis=0)
    classwise = pd.DataFrame(classes, columns=["ece", "low", "high"])
    classwise.insert(0, "class", list(prepared.head.classes))
    classwise["support"] = prepared.confusion.sum(axis=1)
    if len(prepared.head) and prepared.clusters.n < 2:
        notes.append("one recording: no interval can be given")
    if prepared.weights is not None:
        notes.append(
            "intervals of ECE are for the population; noise raises what is observed, so the value may lie above its own"
        )
    notes.append(f"NLL clips probabilities at {CLIP:.3g}")
    temperature = (meta.get("temperature") or {}).get(prepared.name)
    power = (meta.get("prior_correction") or {}).get(prepared.name)
    return Confidence(
        scores=pd.concat(scores, ignore_index=True),
        reliability=pd.concat(bins, ignore_index=True),
        classwise=classwise,
        histogram=pd.DataFrame(
            {
                "bin_low": np.arange(0, FINE, 3) / FINE,
                "bin_high": np.arange(3, FINE + 1, 3) / FINE,
                "wrong": fine[:, 0].reshape(-1, 3).sum(axis=1),
                "right": fine[:, 1].reshape(-1, 3).sum(axis=1),
            }
        ),
        scatter=_scatter(prepared),
        temperature=None if temperature is None else float(temperature),
        prior_correction=None if power is None else float(power),
        notes=tuple(notes),
    )


def _reliability(found: Confidence, scene: Scene) -> Figure:
    from imbalance_lab.plots.reliability import reliability

    def named(variant: str) -> str:
        return f"{variant} {found.temperature:.2f}" if variant == "temperature" else variant

    bins, scores = found.reliability[found.reliability["kind"] == "width"], found.scores
    curves: dict[str, pd.DataFrame] = {}
    for variant in dict.fromkeys(bins["variant"]):
        part = bins[bins["variant"] == variant]
        right = (part["accuracy"] * part["count"]).round()
        low, high = wilson(right.to_numpy(), part["count"].to_numpy())  # one recording has no cluster bootstrap
        known = part["low"].notna()
        ends = {"low": part["low"].where(known, low), "high": part["high"].where(known, high)}
        curves[named(variant)] = part.assign(**ends)
    ece = scores[scores["metric"] == "ece"]
    values = {named(v): float(x) for v, x in zip(ece["variant"], ece["value"], strict=True)}
    return reliability(curves, scene.scope, ece=values)


def _histogram(found: Confidence, scene: Scene) -> Figure:
    from imbalance_lab.plots.reliability import confidence_histogram

    return confidence_histogram(found.histogram, scene.scope)


_ECE, _CONFIDENTLY_WRONG = 0.05, 0.05


def _calibration(found: Confidence, others: Mapping[str, Any]) -> Advice | None:
    s, summary = found.scores, others["summary"]
    ece = s[(s["variant"] == "as predicted") & (s["metric"] == "ece")].iloc[0]
    rates = summary.confidence
    rates = rates[(rates["verdict"] == "ok") & (rates["wilson_low"] > _CONFIDENTLY_WRONG)]
    # Binned errors are biased upwards, so a resample's lower end alone would fire on small samples.
    fires = summary.verdict == "ok" and ece["low"] > _ECE
    if not fires and not len(rates):
        return None
    issue = f"ECE is {ece['value']:.3f} [{ece['low']:.3f}, {ece['high']:.3f}]"
    if len(rates):
        r = rates.iloc[-1]
        issue += (
            f"; {percent(r['wrong_rate'], 1)} of the {r['n']} positions above confidence {r['threshold']} are wrong"
        )
    return Advice(
        issue + ".",
        "Fit a temperature on validation before anyone acts on the confidence; undo the strategy's prior shift.",
        "ECE within its interval of zero; fewer confident errors.",
        s,
        f"lower end of ECE above {_ECE}, or P(wrong | confident) above {_CONFIDENTLY_WRONG}",
    )


ANALYSIS: Analysis[Confidence] = Analysis(
    "confidence",
    confidence_analysis,
    "`scores`: ECE (15 equal-width bins), equal-mass ECE, class-wise ECE, Brier (sum over classes), NLL, for the "
    "variants `as predicted`, `temperature` (fitted on validation) and `prior undone`; `reliability`: bins with mean "
    "confidence, empty ones left out; `notes` say which variant is missing and why",
    section="calibration",
    tables=(
        Table(
            "calibration",
            "scores",
            "confidence",
            "Calibration scores",
            (*columns("text", "variant", "metric"), *columns("number", "value", "low", "high")),
            "ECE over 15 equal-width bins (ece_mass: equal-mass) at the mean confidence of each bin, empty bins left "
            f"out; temperature fitted on validation. {BOOT}",
        ),
        Table(
            "classwise_calibration",
            "classwise",
            "confidence",
            "Calibration error of each class",
            (*columns("text", "class"), *columns("number", "ece", "low", "high"), *columns("count", "support")),
            BOOT,
            fold=True,
        ),
        Table(
            "reliability",
            "reliability",
            "confidence",
            "Reliability bins",
            (
                *columns("text", "variant", "kind"),
                *columns("number", "bin_low", "bin_high"),
                *columns("count", "count"),
                *columns("score", "mean_confidence"),
                *columns("share", "accuracy"),
                *INTERVAL,
            ),
            "Mean confidence (not the bin's centre) and share right.",
            most=90,
            fold=True,
        ),
        Table(
            "confidence_histogram",
            "histogram",
            "confidence",
            "Confidence of right and wrong positions",
            (*columns("number", "bin_low", "bin_high"), *columns("count", "wrong", "right")),
            MASK,
            fold=True,
        ),
        Table(
            "confidence_scatter",
            "scatter",
            "confidence",
            "Wrong positions by confidence and probability of the true class",
            (*columns("score", "confidence", "true_prob"), *columns("count", "count")),
            fold=True,
        ),
    ),
    plots=(
        Plot("reliability", "confidence", _reliability, root="calibration.png", drawn="main head"),
        Plot("confidence_histogram", "confidence", _histogram),
    ),
    needs_probabilities=True,
    rules=(Rule("calibration", "calibration", 3, _calibration, ("temperature", "label-smoothing", "mixup")),),
)
