"""The choice: which strategy to take, or that the data cannot tell, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.comparison.bootstrap import BETTER, INSUFFICIENT, WORSE
from imbalance_lab.comparison.differences import row
from imbalance_lab.comparison.study import CONTROL, Study

METRIC_WORDS = {"macro_f1": "macro F1", "balanced_accuracy": "balanced accuracy", "mcc": "MCC"}


@dataclass(frozen=True)
class Choice:
    """Which strategy to take.

    Attributes
    ----------
    strategy : the chosen one, or None where the data cannot tell
    use_free_lunch : take it with its post-hoc correction: none of the trained strategies beats that
    selected : the strategy that validation put first, or None without validation scores
    reason : two to five sentences, plain words with the numbers
    evidence : plain values behind them (validation means, the rows of the differences, ...)
    """

    strategy: str | None
    use_free_lunch: bool
    selected: str | None
    reason: str
    evidence: Mapping[str, Any]


def validation_means(study: Study) -> dict[str, float]:
    """Mean validation score of each strategy whose every run has one."""
    out = {}
    for name in study.joined.strategies:
        scores = [study.joined.runs[i].val_score for i in study.joined.runs_of(name)]
        known = [float(s) for s in scores if s is not None and np.isfinite(s)]
        if len(known) == len(scores):
            out[name] = float(np.mean(known))
    return out


def choose(study: Study, differences: pd.DataFrame, metric: str = "macro_f1") -> Choice:
    """Select by validation, confirm on test, hold it against what costs nothing.

    The strategy with the highest mean validation score is the candidate; the test split is not
    used to pick it, only to say whether it really differs from the baseline. The candidate is
    chosen if it is better than the baseline and not worse than the baseline after its free post-hoc
    correction. If that correction beats it, the corrected baseline is chosen. If validation
    selects the baseline itself, the baseline is chosen when some strategy is measurably worse and
    none is better; otherwise the data cannot tell. A strategy that does not beat always-majority
    is never chosen.
    """
    word, base = METRIC_WORDS.get(metric, metric), study.baseline
    val = validation_means(study)
    selected = max(val, key=lambda name: val[name]) if val else None
    tests = {name: d for name in study.joined.strategies[1:] if (d := row(differences, name, base, metric)) is not None}
    control = row(differences, base + CONTROL, base, metric)
    over = None if selected is None else row(differences, selected, base + CONTROL, metric)
    majority = _value(study, study.trivial("always-majority").runs, metric)
    score = float("nan") if selected is None else _value(study, study.side(selected).runs, metric)

    strategy, free, sentences = _decide(study, selected, tests, over, word, score, majority)
    sentences.append(_control_sentence(control, over, selected, base, word))
    sentences.append(f"Always predicting the majority class scores {majority:.3f} in {word}.")
    missing = [name for name in study.joined.strategies if name not in val]
    if val and missing:
        sentences.append(f"Without validation scores, and so no candidates: {', '.join(missing)}.")
    if not _any_seed_spread(study):
        sentences.append(
            "Every strategy has one seed, so this compares the models that were trained, not the strategies; "
            "train at least three seeds."
        )
    evidence = {
        "metric": metric,
        "baseline": base,
        "validation": val,
        "against_baseline": None if selected is None else tests.get(selected),
        "against_free_lunch": over,
        "free_lunch_of_baseline": control,
        "always_majority": majority,
        "test_score": score,
        "verdicts": {name: d["verdict"] for name, d in tests.items()},
        "recordings": study.joined.n_recordings,
        "positions": len(study.joined.true),
    }
    return Choice(strategy, free, selected, " ".join(sentences), evidence)


def _decide(
    study: Study,
    selected: str | None,
    tests: Mapping[str, Mapping[str, Any]],
    over: Mapping[str, Any] | None,
    word: str,
    score: float,
    majority: float,
) -> tuple[str | None, bool, list[str]]:
    """(chosen strategy or None, with its free correction, first sentences of the reason)."""
    base = study.baseline
    if selected is None:
        return None, False, ["No run carries a validation score, so nothing can be selected without looking at test."]
    if score <= majority + 1e-9:  # equal but for rounding is equal
        text = f"Choose none: {selected}, first on validation, scores {score:.3f} in {word} on test"
        return None, False, [f"{text}, no more than always predicting the majority class."]
    if selected == base:
        return _decide_baseline(base, tests, over, word, score)
    d = tests[selected]
    values = f"{d['value']:.3f} against {d['reference']:.3f} for {base} ({_interval(d)})"
    shown = f"{selected} is first on validation; on test its {word} is {values}"
    free = d["verdict"] == BETTER and over is not None and over["verdict"] == WORSE
    if free:
        text = f"Choose {base} with its post-hoc correction: {shown}, but the correction alone does better."
    elif d["verdict"] == BETTER:
        text = f"Choose {selected}: {shown}, better, corrected for {len(tests)} strategies."
    elif d["verdict"] == WORSE:
        text = f"Choose none of them yet: {shown}, worse: validation and test disagree."
    else:
        text = f"The data cannot tell: {shown}{_detectable(d)}."
    return (base if free else selected if d["verdict"] == BETTER else None), free, [text]


def _decide_baseline(
    base: str, tests: Mapping[str, Mapping[str, Any]], over: Mapping[str, Any] | None, word: str, score: float
) -> tuple[str | None, bool, list[str]]:
    verdicts = [d["verdict"] for d in tests.values()]
    worse, better = verdicts.count(WORSE), verdicts.count(BETTER)
    first = f"the baseline is first on validation, with {word} {score:.3f} on test"
    if over is not None and over["verdict"] == WORSE:
        return base, True, [f"Choose {base} with its post-hoc correction: {first}, and the correction improves it."]
    if better:
        return (
            None,
            False,
            [f"The data cannot tell: {first} ({base}), but {better} of {len(tests)} strategies are better there."],
        )
    if not tests or worse:
        return base, False, [f"Choose {base}: {first}; {worse} of {len(tests)} strategies are worse, none is better."]
    return (
        None,
        False,
        [f"The data cannot tell: {first} ({base}), and none of {len(tests)} strategies can be told from it."],
    )


def _control_sentence(
    control: Mapping[str, Any] | None, over: Mapping[str, Any] | None, selected: str | None, base: str, word: str
) -> str:
    if control is None:
        return (
            "The free-lunch control (post-hoc logit adjustment tuned on validation) is missing from the baseline's "
            "predictions, so it is unknown what a correction that costs nothing would have reached."
        )
    name = f"The free-lunch control ({base} with post-hoc logit adjustment tuned on validation)"
    text = f"{name} scores {control['value']:.3f} in {word}"
    if over is None or selected == base:
        return text + f", {control['verdict']} against {base} without it ({_interval(control)})."
    return text + {
        BETTER: f"; {selected} is better than that ({_interval(over)}).",
        WORSE: f"; {selected} is worse than that ({_interval(over)}).",
    }.get(
        str(over["verdict"]),
        f"; {selected} cannot be told from it ({_interval(over)}), so the training may have bought nothing "
        "over a correction that costs nothing.",
    )


def _interval(d: Mapping[str, Any]) -> str:
    if np.isnan(d["low"]):
        why = "too few for an interval" if d["verdict"] == INSUFFICIENT else "no spread between them"
        return f"difference {d['difference']:+.3f}, {d['recordings']} recordings, {why}"
    return f"difference {d['difference']:+.3f}, 95 % interval {d['low']:+.3f} to {d['high']:+.3f}"


def _detectable(d: Mapping[str, Any]) -> str:
    size = d["minimum_detectable"]
    return "" if np.isnan(size) else f"; a true difference of {size:.3f} would have been seen four times in five"


def _value(study: Study, runs: Any, metric: str) -> float:
    return float(study.resampled.point[runs, study.resampled.index(metric)].mean())


def _any_seed_spread(study: Study) -> bool:
    return any(len(study.joined.runs_of(name)) > 1 for name in study.joined.strategies)
