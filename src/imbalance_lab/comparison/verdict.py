"""The decision: which strategy to take, or that the data cannot tell, by a table of cases, in plain words.

==================  ==========================================================================  =====================
case                holds where                                                                 taken
==================  ==========================================================================  =====================
better than both    some strategy is better than the baseline and than its free correction      that strategy
better              some is better than the baseline, none of these than its free correction    that strategy, or the
                                                                                                corrected baseline
worse               none is better, some are worse                                              the baseline
equivalent          every interval lies within the margin                                       the baseline
only the free       no strategy can be told; the baseline's correction is better than it, and   the corrected baseline
correction is       validation's first is the baseline or worse than the correction
better
cannot tell         otherwise                                                                   none
==================  ==========================================================================  =====================

The first line that holds counts. Intervals are the simultaneous ones of :mod:`imbalance_lab.comparison.family`; one
that lies within (-margin, margin) rejects both one-sided hypotheses (Schuirmann 1987) at 2.5 %, for all strategies
together. Of several better strategies the one with the highest validation mean is taken, and only if validation puts
it above the baseline too: test confirms, it does not select.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imbalance_lab.comparison.bootstrap import BETTER, CANNOT, INSUFFICIENT, WORSE
from imbalance_lab.comparison.study import CONTROL
from imbalance_lab.formats import METRIC_WORDS

BOTH, ONLY_BASELINE, SOME_WORSE, EQUIVALENT, CORRECTED, CANNOT_TELL = (
    "better than both",
    "better than the baseline",
    "none better, some worse",
    "equivalent",
    "only the free correction is better",
    "cannot tell",
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """What the families say, in the metric that decides; rows as of :func:`imbalance_lab.comparison.differences.row`.

    Attributes
    ----------
    baseline, metric : names
    margin : differences below it do not matter to the team
    against_baseline : row of each other strategy against the baseline
    over_control : row of each strategy against the baseline after its free post-hoc correction; empty without one
    control : that correction against the baseline, or None
    validation : mean validation score of each strategy that has one
    scores : test score of each strategy
    majority : test score of always predicting the majority class
    stopped : strategies that a race stopped, and after what
    """

    baseline: str
    metric: str
    margin: float
    against_baseline: Mapping[str, Row]
    over_control: Mapping[str, Row] = field(default_factory=dict)
    control: Row | None = None
    validation: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    majority: float = 0.0
    stopped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Which strategy to take, and every sentence that is said about it.

    Attributes
    ----------
    case : line of the table above
    strategy : the chosen one, or None where nothing is chosen
    use_free_lunch : take it with its post-hoc correction
    selected : the strategy that validation put first, or None without validation scores
    headline : the verdict in one sentence, with its interval
    title : the same without numbers, for a figure
    details : further sentences: who else, free lunch, majority, seeds
    price : what the chosen one gains and costs, at most four sentences; empty where it is the baseline or nothing
    needed : what it would take to see a difference of the margin, in words; "" where unknown
    verdicts : better, worse, cannot distinguish or insufficient, of each strategy against the baseline; of a study also
        those of the baseline's free correction and of the trivial predictors
    over_control : the same of each strategy against the baseline after its free correction
    evidence : plain values behind all this
    """

    case: str
    strategy: str | None
    use_free_lunch: bool
    selected: str | None
    headline: str
    title: str
    details: tuple[str, ...] = ()
    price: tuple[str, ...] = ()
    needed: str = ""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    over_control: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> str:
        """What is taken, its post-hoc correction with it, or that nothing can be told, as a tag says it."""
        if self.strategy is None:
            return "cannot distinguish" if self.case == CANNOT_TELL else "none"
        return self.strategy + (CONTROL if self.use_free_lunch else "")

    @property
    def reason(self) -> str:
        """Headline, price, details and what it would take, as one text."""
        return f"{self.headline} {self.detail}".rstrip()

    @property
    def detail(self) -> str:
        """What follows the headline: price, further sentences, what it would take."""
        return " ".join(part for part in (*self.price, *self.details, self.needed) if part)


def told(d: Row) -> str:
    """The verdict that agrees with the interval: ``better`` or ``worse`` if and only if it excludes 0."""
    if not np.isfinite(d["low"]):
        return str(d["verdict"])
    return BETTER if d["low"] > 0 else WORSE if d["high"] < 0 else CANNOT


def decide(r: Results) -> Decision:
    """The line of the table that holds, and its words; needs nothing but the rows."""
    verdicts = {name: told(d) for name, d in r.against_baseline.items()}
    over = {name: told(d) for name, d in r.over_control.items()}
    better = [name for name, v in verdicts.items() if v == BETTER]
    both = [name for name in better if over.get(name) == BETTER]
    worse = [name for name, v in verdicts.items() if v == WORSE]
    selected = max(r.validation, key=lambda name: r.validation[name]) if r.validation else None
    if both:
        case, (strategy, free) = BOTH, (_first(r, both), False)
    elif better:
        case, (strategy, free) = ONLY_BASELINE, _corrected(r, _first(r, better), over)
    elif worse:
        case, (strategy, free) = SOME_WORSE, (r.baseline, _improves(r))
    elif verdicts and all(_within(d, r.margin) for d in r.against_baseline.values()):
        case, (strategy, free) = EQUIVALENT, (r.baseline, _improves(r))
    else:
        corrected = _improves(r) and (selected in (None, r.baseline) or over.get(str(selected)) == WORSE)
        strategy, free = (r.baseline if corrected or not verdicts else None), corrected
        case = CORRECTED if corrected else CANNOT_TELL
    none = None
    if not r.validation:
        none = "No run carries a validation score, so nothing can be selected without looking at test"
    taken = strategy or selected or r.baseline
    if none is None and not free and r.scores.get(taken, np.inf) <= r.majority + 1e-9:
        score = f"scores {r.scores[taken]:.3f} in {_word(r)} on test"
        none = f"Choose none: {taken} {score}, no more than always predicting the majority class"
    if none is not None:
        strategy, free = None, False
    headline = none or _headline(r, case, strategy, free, _Groups(better, both, worse))
    details = [
        *_selected_sentence(r, case, strategy, selected, verdicts),
        *_control_sentence(r, strategy, selected, over),
    ]
    details.append(f"Always predicting the majority class scores {r.majority:.3f} in {_word(r)}.")
    if r.stopped:
        many = f"{len(r.stopped)} strateg{'y' if len(r.stopped) == 1 else 'ies'}"
        named = [f"{name} {words}" for name, words in r.stopped.items()]
        details.append(f"A race on validation stopped {many} as worse than {r.baseline}: {_listed(named)}.")
    missing = [name for name in (r.baseline, *r.against_baseline) if name not in r.validation]
    if r.validation and missing:
        details.append(f"Without validation scores, and so not chosen: {', '.join(missing)}.")
    title = _title(r, case, strategy, free) if none is None else "No strategy is chosen"
    return Decision(
        case, strategy, free, selected, headline + ".", title, tuple(details), verdicts=verdicts, over_control=over
    )


@dataclass(frozen=True)
class _Groups:
    better: Sequence[str]
    both: Sequence[str]
    worse: Sequence[str]


def _word(r: Results) -> str:
    return METRIC_WORDS.get(r.metric, r.metric)


def _first(r: Results, names: Sequence[str]) -> str | None:
    """Of these the first on validation, if it stands above the baseline there."""
    known = [name for name in names if name in r.validation]
    best = max(known, key=lambda name: r.validation[name], default=None)
    below = best is None or r.validation[best] < r.validation.get(r.baseline, -np.inf)
    return None if below else best


def _improves(r: Results) -> bool:
    return r.control is not None and told(r.control) == BETTER


def _corrected(r: Results, best: str | None, over: Mapping[str, str]) -> tuple[str | None, bool]:
    """The better strategy, or the free correction where that beats it or does as well and is better itself."""
    if best is not None and (over.get(best) == WORSE or (_improves(r) and best in over)):
        return r.baseline, True
    return best, False


def _within(d: Row, margin: float) -> bool:
    return bool(d["low"] > -margin and d["high"] < margin)  # NaN: no


def _headline(r: Results, case: str, strategy: str | None, free: bool, groups: _Groups) -> str:
    base, word, n = r.baseline, _word(r), len(r.against_baseline)
    if free:
        return _headline_corrected(r, case, groups)
    if case in (BOTH, ONLY_BASELINE):
        return _headline_better(r, case, strategy, groups)
    if case == SOME_WORSE:
        none = "" if n == 1 else f"none of {n} strategies is better in {word}, and "
        return f"Choose {base}: {none}{_some(r, groups.worse, word if n == 1 else '')}"
    if case == EQUIVALENT:
        ends = max(max(abs(d["low"]), abs(d["high"])) for d in r.against_baseline.values())
        return (
            f"Equivalent: {_listed(list(r.against_baseline))} and {base} differ by less than {r.margin:g}, the margin, "
            f"in {word} (all intervals within {_below(ends, r.margin)}), so choose {base}"
        )
    if not n:
        alone = "the race stopped every other strategy, as worse on validation"
        return f"Choose {base}: {alone if r.stopped else 'no other strategy was trained'}"
    shown = _largest(r)
    d = r.against_baseline[shown]
    many = f": none of {n} strategies can be told from {base} in {word}; the largest difference is that of {shown}"
    told = f" {shown} from {base} in {word}" if n == 1 else many
    return f"The data cannot tell{told} ({_interval(d)}){_detectable(d)}"


def _headline_corrected(r: Results, case: str, groups: _Groups) -> str:
    base, n = r.baseline, len(r.against_baseline)
    if not _improves(r):  # not told from the baseline, but what is better than the baseline is worse than it
        best = _first(r, groups.better)
        worse = f"{best} is better than {base}, but worse than that ({_interval(r.over_control[str(best)])})"
        return f"Choose {base} with its post-hoc correction: {worse}"
    why = "" if r.control is None else f"the correction alone raises {_word(r)} ({_interval(r.control)})"
    everyone = f"all {n} strategies are" if n > 1 else f"{_listed(list(r.against_baseline))} is"
    more = {
        ONLY_BASELINE: f", and {_listed(groups.better)} {_be(groups.better)} not better than that",
        SOME_WORSE: f", none of {n} strategies is better and {len(groups.worse)} {_be(groups.worse)} worse"
        if n > 1
        else f", and {_listed(groups.worse)} is worse",
        EQUIVALENT: f", and {everyone} equivalent to {base} within {r.margin:g}",
        CORRECTED: f", and no strategy can be told from {base}" if n else "",
    }[case]
    return f"Choose {base} with its post-hoc correction: {why}{more}"


def _headline_better(r: Results, case: str, strategy: str | None, groups: _Groups) -> str:
    base, n = r.baseline, len(r.against_baseline)
    shown = strategy or (groups.both or groups.better)[0]
    d = r.against_baseline[shown]
    than = f"better than {base}" + (" and than its post-hoc correction" if case == BOTH else "")
    numbers = f"{_word(r)} {d['value']:.3f} against {d['reference']:.3f} ({_interval(d)})"
    if strategy is None:
        return f"Choose none yet: {shown} is {than} on test, {numbers}, but validation does not put it above {base}"
    return f"Choose {shown}: it is {than}, {numbers}, corrected for {n} strateg{'y' if n == 1 else 'ies'}"


def _title(r: Results, case: str, strategy: str | None, free: bool) -> str:
    if free:
        return f"{r.baseline} with its post-hoc correction: no strategy is better than that"
    if case in (BOTH, ONLY_BASELINE):
        than = f"better than {r.baseline}" + (" and its post-hoc correction" if case == BOTH else "")
        return f"{strategy}: {than} in {_word(r)}" if strategy else "Test and validation disagree about the best"
    if case == SOME_WORSE:
        return f"No strategy is better than {r.baseline} in {_word(r)}, some are worse"
    if case == EQUIVALENT:
        return f"All strategies are equivalent within {r.margin:g} in {_word(r)}"
    if not r.against_baseline:
        return f"{r.baseline}: the race stopped all others" if r.stopped else f"{r.baseline} alone"
    return f"The data cannot tell the strategies apart in {_word(r)}"


def _selected_sentence(
    r: Results, case: str, strategy: str | None, selected: str | None, verdicts: Mapping[str, str]
) -> list[str]:
    if selected is None or selected == strategy:
        return []
    if selected == r.baseline:
        return [f"{selected}, the baseline, is first on validation."] if strategy is None else []
    d = r.against_baseline[selected]
    words = {BETTER: "better than", WORSE: "worse than: validation and test disagree about", CANNOT: "not told from"}
    said = words.get(verdicts[selected], "not tested against")
    return [f"{selected} is first on validation; on test it is {said} {r.baseline} ({_interval(d)})."]


def _control_sentence(r: Results, strategy: str | None, selected: str | None, over: Mapping[str, str]) -> list[str]:
    if r.control is None:
        return [
            "The free-lunch control (post-hoc logit adjustment tuned on validation) is missing from the baseline's "
            "predictions, so it is unknown what a correction that costs nothing would have reached."
        ]
    name = f"The free-lunch control ({r.baseline} with post-hoc logit adjustment tuned on validation)"
    text = f"{name} scores {r.control['value']:.3f} in {_word(r)}"
    shown = strategy or selected
    if shown in (None, r.baseline) or shown not in over:
        words = {BETTER: "better than", WORSE: "worse than", CANNOT: "not to be told from"}
        said = words.get(told(r.control), "not tested against")
        return [f"{text}, {said} {r.baseline} without it ({_interval(r.control)})."]
    d = r.over_control[str(shown)]
    if over[str(shown)] in (BETTER, WORSE):
        return [f"{text}; {shown} is {over[str(shown)]} than that ({_interval(d)})."]
    bought = "so the training may have bought nothing over a correction that costs nothing"
    return [f"{text}; {shown} cannot be told from it ({_interval(d)}), {bought}."]


def _largest(r: Results) -> str:
    size = {name: abs(float(d["difference"])) for name, d in r.against_baseline.items()}
    return max(size, key=lambda name: -1.0 if np.isnan(size[name]) else size[name])


def _some(r: Results, names: Sequence[str], word: str = "") -> str:
    worst = min(names, key=lambda name: float(r.against_baseline[name]["difference"]))
    if len(names) == 1:
        return f"{worst} is worse {f'in {word} ' if word else ''}({_interval(r.against_baseline[worst])})"
    return f"{len(names)} are worse, most of all {worst} ({_interval(r.against_baseline[worst])})"


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _interval(d: Row) -> str:
    if np.isnan(d["low"]):
        why = "too few for an interval" if d["verdict"] == INSUFFICIENT else "no spread between them"
        return f"difference {d['difference']:+.3f}, {d['recordings']} recordings, {why}"
    digits = 3
    while digits < 6 and any(abs(d[end]) < 0.5 * 10.0**-digits for end in ("low", "high")):
        digits += 1  # an end that excludes 0 is not to be printed as 0
    low, high = (_end(float(d[end]), digits) for end in ("low", "high"))
    return f"difference {d['difference']:+.{digits}f}, 95 % interval {low} to {high}"


def _below(value: float, limit: float) -> str:
    """A number below ``limit`` with as many digits as it takes to print as one; rounded up at the most of them."""
    shown = (f"{value:.{digits}f}" for digits in range(3, 9))
    return next((text for text in shown if float(text) < limit), f"{limit:g}")


def _end(value: float, digits: int) -> str:
    hidden = 0 < abs(value) < 0.5 * 10.0**-digits
    return f"{value:+.0e}" if hidden else f"{value:+.{digits}f}"


def _detectable(d: Row) -> str:
    size = d["minimum_detectable"]
    return "" if np.isnan(size) else f"; a true difference of {size:.3f} would have been seen four times in five"
