"""Rules over the findings of an error analysis: what to do next, why, and which strategy would test it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.analysis.cross_head import CrossHead
from imbalance_lab.analysis.results import HeadAnalysis
from imbalance_lab.formats import percent

MAX_EVIDENCE = 10

CATEGORIES = (
    *("collapse", "imbalance", "confusion", "calibration", "boundary", "position", "slice", "sequence", "heads"),
    *("labels", "data"),
)

REBALANCE = ("logit-adjust", "balanced-softmax", "rarest-class", "class-balanced", "deferred", "curriculum", "ldam")
"""Catalogue names that move probability to rare classes, the cheapest first."""
SEPARATE = ("ldam", "seesaw", "crt", "focal")
CALIBRATE = ("temperature", "label-smoothing", "mixup")
FEWER_ALARMS = ("thresholds", "inverse-sqrt", "tau-norm")
BLUR = ("label-smoothing",)
SAMPLE = ("token-balanced", "rarest-class", "progressive")


@dataclass(frozen=True)
class Thresholds:
    """What fires a rule: rates and differences of rates as shares, q and p as probabilities."""

    recall: float = 0.5
    precision: float = 0.5
    pair_rate: float = 0.1
    pair_rate_alone: float = 0.25
    q: float = 0.05
    p: float = 0.01
    ece: float = 0.05
    confidently_wrong: float = 0.05
    transition: float = 0.05
    slice: float = 0.1
    run_ratio: float = 1.5
    joint_lift: float = 2.0
    noise: float = 0.01


@dataclass(frozen=True)
class Recommendation:
    """One thing to do.

    Attributes
    ----------
    priority : 1 is the most urgent
    category : collapse, imbalance, confusion, calibration, boundary, position, slice, sequence, heads, labels or data
    issue, action, effect : what was seen, with its numbers; what to do; what should change if it works
    evidence : the rows that fired the rule, at most ten
    threshold : the rule, in words with its number
    strategy : catalogue name of the strategy that would test it; "" where none of the catalogue does, or all were tried
    head : the head it is about, "" for all
    tried : strategies that would also have tested it, and were tried already
    """

    priority: int
    category: str
    issue: str
    action: str
    effect: str
    evidence: tuple[Mapping[str, Any], ...]
    threshold: str
    strategy: str
    head: str = ""
    tried: tuple[str, ...] = field(default=())


def _rows(table: pd.DataFrame) -> tuple[Mapping[str, Any], ...]:
    return tuple({str(k): v for k, v in row.items()} for row in table.head(MAX_EVIDENCE).to_dict("records"))


def _was_tried(strategy: str, tried: Collection[str]) -> bool:
    """An experiment names its strategies freely (``focal-2``); the catalogue name inside is what counts."""
    plain = strategy.replace("-", "")
    return any(plain in name.lower().replace("-", "").replace("_", "") for name in tried)


def _first(candidates: tuple[str, ...], tried: Collection[str]) -> tuple[str, tuple[str, ...]]:
    done = tuple(c for c in candidates if _was_tried(c, tried))
    left = [c for c in candidates if c not in done]
    return (left[0] if left else ""), done


def _percent(x: Any) -> str:
    return percent(float(x), 1)


def _collapse(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    c = a.summary.collapse
    if c.verdict not in ("collapsed", "nearly collapsed"):
        return
    strategy, done = _first(REBALANCE, tried)
    yield Recommendation(
        1,
        "collapse",
        f"The model is {c.verdict}: {_percent(c.most_predicted_share)} of the predictions are {c.most_predicted}, "
        f"{c.classes_predicted} of {c.classes_true} true classes are predicted.",
        "Check the audit for a placeholder class and cancelled weights first; then correct the prior.",
        "More than one class predicted; balanced accuracy above that of the majority predictor.",
        _rows(a.summary.metrics),
        "one class predicted, or prediction entropy below 25 % of label entropy",
        strategy,
        head,
        done,
    )


def _no_better_than_trivial(
    head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds
) -> Iterator[Recommendation]:
    m = a.summary.metrics.set_index("metric").loc["balanced_accuracy"]
    floor = max(m["majority"], m["prior"], m["uniform"])
    if a.summary.verdict != "ok" or not (m["low"] <= floor) or a.summary.collapse.verdict == "collapsed":
        return
    yield Recommendation(
        1,
        "data",
        f"Balanced accuracy {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}] cannot be told from the {floor:.3f} "
        "of a predictor that ignores the inputs.",
        "Look at the audit's learnability check: without signal in the inputs no strategy can help.",
        "An interval that lies above the trivial predictors.",
        _rows(a.summary.metrics),
        "the interval of balanced accuracy reaches the best trivial predictor",
        "",
        head,
    )


def _rare_classes(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    groups = a.class_frequency.groups
    groups = groups[groups["verdict"] == "ok"].set_index("group")
    if "few" not in groups.index or "many" not in groups.index:
        return
    few, many = groups.loc["few"], groups.loc["many"]
    low = few["low"] if np.isfinite(few["low"]) else few["wilson_low"]
    high = many["high"] if np.isfinite(many["high"]) else many["wilson_high"]
    if not low > high:
        return
    strategy, done = _first(REBALANCE, tried)
    yield Recommendation(
        2,
        "imbalance",
        f"Classes below 1 % of training are wrong {_percent(few['rate'])} of the time (n = {few['n']}), frequent ones "
        f"{_percent(many['rate'])}.",
        "Train with a correction of the class prior, and compare with the post-hoc correction, which costs nothing.",
        "Higher recall of rare classes; watch the false rare commands it buys.",
        _rows(groups.reset_index()),
        "interval of the rare group's error rate above that of the frequent group",
        strategy,
        head,
        done,
    )


def _weak_classes(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    table = a.per_class.table
    table = table[table["sufficient"] == 1]
    bound = limits.recall
    high = table["recall_high"].fillna(table["recall_wilson_high"])
    missed = table[(high < bound) & (table["miss_share"] > 0.5)]
    if len(missed):
        worst = missed.sort_values("recall", kind="stable").iloc[0]
        strategy, done = _first(REBALANCE, tried)
        yield Recommendation(
            2,
            "imbalance",
            f"{len(missed)} classes are mostly missed; worst {worst['class']} with recall {worst['recall']:.2f} "
            f"(n = {worst['support']}, {worst['recordings']} recordings).",
            "Give these classes more weight or more samples; look at their most confused pairs.",
            f"Recall above {bound}.",
            _rows(missed),
            f"upper end of the recall interval below {bound}, more misses than false alarms",
            strategy,
            head,
            done,
        )
    bound = limits.precision
    high = table["precision_high"].fillna(table["precision_wilson_high"])
    alarms = table[(high < bound) & (table["miss_share"] <= 0.5) & (table["predicted"] >= 20)]
    if len(alarms):
        worst = alarms.sort_values("precision", kind="stable").iloc[0]
        strategy, done = _first(FEWER_ALARMS, tried)
        yield Recommendation(
            2,
            "imbalance",
            f"{len(alarms)} classes are predicted too often; worst {worst['class']} with precision "
            f"{worst['precision']:.2f} ({worst['false_alarms']} false alarms).",
            "Correct the prior less, or set thresholds on validation under the cost matrix.",
            f"Precision above {bound} at little loss of recall.",
            _rows(alarms),
            f"upper end of the precision interval below {bound}, more false alarms than misses",
            strategy,
            head,
            done,
        )


def _pairs(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    t = a.confusion.pairs
    low = t["low"].fillna(t["wilson_low"])
    special = (t["q"] < limits.q) & (t["rate"] >= limits.pair_rate)
    fired = t[(t["verdict"] == "ok") & (special | (low >= limits.pair_rate_alone))]
    if not len(fired):
        return
    top = fired.iloc[0]
    chance = (
        f"{top['lift']:.1f} times as often as errors of the other classes fall on {top['pred']}"
        if top["q"] < limits.q
        else f"as the errors of the other classes fall on {top['pred']} too"
    )
    strategy, done = _first(SEPARATE, tried)
    yield Recommendation(
        2,
        "confusion",
        f"{top['true']} is taken for {top['pred']} {_percent(top['rate'])} of the time ({top['count']} of "
        f"{top['n_true']}, {top['recordings']} recordings), {chance}.",
        "Look at the gallery of this pair beside right examples; check the labels of both classes; ask for a margin.",
        "A lower rate of this pair, without the errors moving elsewhere.",
        _rows(fired),
        f"rate of at least {limits.pair_rate} with q below {limits.q} (Benjamini-Hochberg, {a.confusion.tested} "
        f"pairs), or lower end of the rate at least {limits.pair_rate_alone}",
        strategy,
        head,
        done,
    )


def _calibration(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    s = a.confidence.scores
    ece = s[(s["variant"] == "as predicted") & (s["metric"] == "ece")].iloc[0]
    rates = a.hard_examples.rates
    rates = rates[(rates["verdict"] == "ok") & (rates["wilson_low"] > limits.confidently_wrong)]
    # Binned errors are biased upwards, so a resample's lower end alone would fire on small samples.
    fires = a.summary.verdict == "ok" and ece["low"] > limits.ece
    if not fires and not len(rates):
        return
    strategy, done = _first(CALIBRATE, tried)
    issue = f"ECE is {ece['value']:.3f} [{ece['low']:.3f}, {ece['high']:.3f}]"
    if len(rates):
        r = rates.iloc[-1]
        issue += f"; {_percent(r['wrong_rate'])} of the {r['n']} positions above confidence {r['threshold']} are wrong"
    yield Recommendation(
        3,
        "calibration",
        issue + ".",
        "Fit a temperature on validation before anyone acts on the confidence; undo the strategy's prior shift.",
        "ECE within its interval of zero; fewer confident errors.",
        _rows(s),
        f"lower end of ECE above {limits.ece}, or P(wrong | confident) above {limits.confidently_wrong}",
        strategy,
        head,
        done,
    )


def _boundaries(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    s = a.segments
    if s.verdict != "ok" or not (s.transition_p < limits.p) or s.transition_difference < limits.transition:
        return
    strategy, done = _first(BLUR, tried)
    yield Recommendation(
        3,
        "boundary",
        f"Within 4 steps of a true change the error rate is {_percent(s.transition_difference)} higher than "
        "inside segments.",
        "Score segments with a tolerance, check how labels are aligned with the sensors, and soften labels at changes.",
        "Segment F1 well above the per-step F1, or fewer errors at transitions.",
        _rows(s.transitions),
        f"difference of at least {limits.transition}, p below {limits.p} (recordings as units)",
        strategy,
        head,
        done,
    )


def _position(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    fired = [t for t in a.position.trends if t.p < limits.p]
    if not fired:
        return
    worst = min(fired, key=lambda t: t.p)
    yield Recommendation(
        4,
        "position",
        f"Errors depend on the place in the sequence: along {worst.along} the log odds change by {worst.slope:.2f} "
        f"[{worst.low:.2f}, {worst.high:.2f}] per unit (p = {worst.p:.2g}).",
        "Give the ends more context (overlapping windows, padding by reflection), or train on such places more.",
        "A flat error rate over positions.",
        tuple({"along": t.along, "slope": t.slope, "low": t.low, "high": t.high, "p": t.p} for t in fired),
        f"p of the trend below {limits.p} (recordings as units)",
        "",
        head,
    )


def _slices(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    w = a.slices.worst
    plain = ~w["slice"].str.startswith("class=")  # classes have rules of their own
    # A pair that is no worse than the worse of its parts says nothing that the part does not say.
    own = w["excess_over_parts"].isna() | (w["excess_over_parts"] >= limits.slice / 2)
    fired = w[plain & own & (w["q"] < limits.q) & (w["difference"] >= limits.slice)]
    if not len(fired):
        return
    top = fired.iloc[0]
    strategy, done = _first(SAMPLE, tried)
    yield Recommendation(
        3,
        "slice",
        f"{top['slice']} is wrong {_percent(top['rate'])} of the time (n = {top['n']}, {top['recordings']} "
        f"recordings), {_percent(top['difference'])} more than the rest.",
        "Look at these recordings; record more of them, or sample them more often.",
        "An error rate like that of the rest.",
        _rows(fired),
        f"difference of at least {limits.slice}, q below {limits.q} over {a.slices.tried} slices",
        strategy,
        head,
        done,
    )


def _runs(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    r = a.hard_examples.runs
    if r.verdict != "runs" or r.mean_length < limits.run_ratio * r.expected_mean_length:
        return
    yield Recommendation(
        4,
        "sequence",
        f"Errors come in runs of {r.mean_length:.1f} positions on average; {r.expected_mean_length:.1f} "
        "would be chance.",
        "Treat runs as single events when counting evidence; try a longer context or smoothing over time.",
        "Shorter runs at the same accuracy, or whole runs gone.",
        _rows(r.lengths),
        f"mean run {limits.run_ratio} times its expectation under permutation, p below 0.01",
        "",
        head,
    )


def _noise(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    t = a.label_noise.by_class
    fired = t[(t["wilson_low"] > limits.noise) & (t["n"] >= 20)]
    if not len(fired):
        return
    top = fired.iloc[0]
    yield Recommendation(
        4,
        "labels",
        f"{top['suspects']} of {top['n']} positions labelled {top['class']} look like another class to the model.",
        "Have the ranked suspects looked at by someone who knows the machine before training on them again.",
        "Either corrected labels, or the knowledge that the model is at fault.",
        _rows(fired),
        f"lower end of the suspects' share above {limits.noise} in a class",
        "",
        head,
    )


def _too_few(head: str, a: HeadAnalysis, tried: Collection[str], limits: Thresholds) -> Iterator[Recommendation]:
    t = a.per_class.table
    few = t[(t["sufficient"] == 0) & ((t["support"] > 0) | (t["train_count"] > 0))]
    if not len(few):
        return
    yield Recommendation(
        5,
        "data",
        f"{len(few)} classes have under 20 positions or 3 recordings in this split: nothing can be said about them.",
        "Record more of them, or split so that each has three recordings here; state them as n/a until then.",
        "Intervals narrow enough to compare strategies on these classes.",
        _rows(few[["class", "support", "recordings", "train_count"]]),
        "fewer than 20 positions or 3 recordings",
        "",
        head,
    )


_RULES: tuple[Callable[[str, HeadAnalysis, Collection[str], Thresholds], Iterator[Recommendation]], ...] = (
    _collapse,
    _no_better_than_trivial,
    _rare_classes,
    _weak_classes,
    _pairs,
    _calibration,
    _boundaries,
    _slices,
    _position,
    _runs,
    _noise,
    _too_few,
)


def _joint(cross: CrossHead, limits: Thresholds) -> Iterator[Recommendation]:
    t = cross.pairs
    if not len(t):
        return
    fired = t[(t["verdict"] == "ok") & (t["q"] < limits.q) & (t["lift"] >= limits.joint_lift)]
    if len(fired):
        top = fired.sort_values("lift", ascending=False, kind="stable").iloc[0]
        yield Recommendation(
            3,
            "heads",
            f"{top['head_a']} and {top['head_b']} fail together {top['lift']:.1f} times as often as independent heads "
            f"({top['joint']} of {top['n']} positions).",
            "Look for one cause upstream (window, sensor, encoder) before tuning a single head.",
            "Joint failures nearer to the product of the two error rates.",
            _rows(fired),
            f"lift of at least {limits.joint_lift}, q below {limits.q} (recordings as units)",
            "",
        )


def recommend(
    heads: Mapping[str, HeadAnalysis],
    cross: CrossHead,
    tried: Collection[str] = (),
    limits: Thresholds | None = None,
    *,
    labels_only: bool = False,
) -> tuple[Recommendation, ...]:
    """Recommendations of all rules, the most urgent first.

    Parameters
    ----------
    tried : names of the strategies that the same experiment already ran; none of them is recommended again
    limits : what fires a rule; default :class:`Thresholds`
    """
    limits = limits or Thresholds()
    rules = [rule for rule in _RULES if not (labels_only and rule in (_calibration, _noise))]
    found = [r for name, a in heads.items() for rule in rules for r in rule(name, a, tried, limits)]
    found += list(_joint(cross, limits))
    found = [
        replace(r, action=f"{r.action} Already tried: {', '.join(r.tried)}; more data is what remains.")
        if r.tried and not r.strategy
        else r
        for r in found
    ]
    return tuple(sorted(found, key=lambda r: r.priority))
