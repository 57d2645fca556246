"""Each line of the decision table and its words; words and intervals never disagree."""

import re

import numpy as np
import pytest
from comparison_cases import run
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.comparison import compare
from imbalance_lab.comparison.verdict import (
    BOTH,
    CANNOT_TELL,
    CORRECTED,
    EQUIVALENT,
    ONLY_BASELINE,
    SOME_WORSE,
    Results,
    decide,
)
from imbalance_lab.metrics.needed_evidence import Spread, recordings_needed


def line(difference, half, *, reference=0.8, verdict=None):
    low, high = difference - half, difference + half
    word = "better" if low > 0 else "worse" if high < 0 else "cannot distinguish"
    return {
        "value": reference + difference,
        "reference": reference,
        "difference": difference,
        "low": low,
        "high": high,
        "verdict": verdict or word,
        "minimum_detectable": 1.4 * half,
        "recordings": 18,
    }


def results(others, over=None, control=None, val=None, **options):
    """``others``, ``over``: (difference, half) against the baseline, and against its free correction."""
    validation = {"ce": 0.5} | {name: 0.5 + d for name, (d, _) in others.items()} if val is None else val
    return Results(
        baseline="ce",
        metric="macro_f1",
        margin=0.01,
        against_baseline={name: line(*d) for name, d in others.items()},
        over_control={name: line(*d) for name, d in (over or {}).items()},
        control=None if control is None else line(*control),
        validation=validation,
        scores={"ce": 0.8} | {name: 0.8 + d for name, (d, _) in others.items()},
        **{"majority": 0.2} | options,
    )


def test_the_leaderboards_verdicts_are_those_of_the_decision(monkeypatch):
    from comparison_cases import run

    from imbalance_lab.comparison import choosing, compare, verdict

    runs = [run(name, s, **how) for name, how in (("ce", {}), ("good", {"rare_gain": 2.0})) for s in (0, 1)]
    found = compare(runs, baseline="ce", primary_head="command", resamples=200)
    code = {"better": 1.0, "cannot distinguish": 0.0, "worse": -1.0}
    board = found.leaderboard.set_index("strategy")["verdict"].dropna()
    assert board.to_dict() == {n: code[v] for n, v in found.choice.verdicts.items() if v in code}
    assert {"good", "ce + free lunch", "always-majority"} <= set(board.index)
    for module in (verdict, choosing):
        monkeypatch.setattr(module, "told", lambda d: "worse")
    changed = compare(runs, baseline="ce", primary_head="command", resamples=200).leaderboard
    assert (changed["verdict"].dropna() == -1.0).all()
    assert (changed.loc[changed["strategy"].isin(["ce", "good"]), "over_control_verdict"] == -1.0).all()


def test_better_than_both():
    found = decide(results({"a": (0.05, 0.02), "b": (0.01, 0.03)}, {"a": (0.04, 0.02), "b": (0.0, 0.03)}, (0.01, 0.02)))
    assert (found.case, found.strategy, found.use_free_lunch) == (BOTH, "a", False)
    assert found.headline == (
        "Choose a: it is better than ce and than its post-hoc correction, macro F1 0.850 against 0.800 (difference "
        "+0.050, 95 % interval +0.030 to +0.070), corrected for 2 strategies."
    )
    assert found.title == "a: better than ce and its post-hoc correction in macro F1"


def test_better_than_the_baseline_only():
    found = decide(results({"a": (0.05, 0.02)}, {"a": (0.03, 0.04)}, (0.02, 0.03)))
    assert (found.case, found.strategy, found.use_free_lunch) == (ONLY_BASELINE, "a", False)
    assert found.headline.startswith("Choose a: it is better than ce, macro F1 0.850")
    assert "a cannot be told from it (difference +0.030, 95 % interval -0.010 to +0.070)" in found.reason


@pytest.mark.parametrize("over", [(-0.03, 0.02), (0.0, 0.03)])
def test_the_free_correction_does_as_well_or_better(over):
    found = decide(results({"a": (0.05, 0.02)}, {"a": over}, (0.06, 0.02)))
    assert (found.case, found.strategy, found.use_free_lunch) == (ONLY_BASELINE, "ce", True)
    assert found.headline == (
        "Choose ce with its post-hoc correction: the correction alone raises macro F1 (difference +0.060, 95 % "
        "interval +0.040 to +0.080), and a is not better than that."
    )


def test_none_better_and_some_worse():
    found = decide(results({"a": (-0.05, 0.02), "b": (-0.14, 0.03), "c": (0.01, 0.05)}))
    assert (found.case, found.strategy) == (SOME_WORSE, "ce")
    assert found.headline == (
        "Choose ce: none of 3 strategies is better in macro F1, and 2 are worse, most of all b (difference -0.140, "
        "95 % interval -0.170 to -0.110)."
    )
    assert "c is first on validation; on test it is not told from ce" in found.reason
    assert found.title == "No strategy is better than ce in macro F1, some are worse"


def test_equivalent_within_the_margin():
    found = decide(results({"a": (0.001, 0.008), "b": (-0.002, 0.007)}))
    assert (found.case, found.strategy) == (EQUIVALENT, "ce")
    assert "differ by less than 0.01, the margin, in macro F1 (all intervals within 0.009)" in found.headline
    assert found.title == "All strategies are equivalent within 0.01 in macro F1"
    assert decide(results({"a": (0.001, 0.008), "b": (-0.004, 0.007)})).case == CANNOT_TELL


def test_the_data_cannot_tell():
    found = decide(results({"a": (0.03, 0.05), "b": (0.01, 0.04)}))
    assert (found.case, found.strategy, found.selected) == (CANNOT_TELL, None, "a")
    assert found.headline == (
        "The data cannot tell: none of 2 strategies can be told from ce in macro F1; the largest difference is that of "
        "a (difference +0.030, 95 % interval -0.020 to +0.080); a true difference of 0.070 would have been seen four "
        "times in five."
    )


def test_only_the_free_correction_is_better():
    found = decide(results({"a": (0.01, 0.03)}, {"a": (-0.06, 0.02)}, (0.07, 0.02)))
    assert (found.case, found.strategy, found.use_free_lunch, found.selected) == (CORRECTED, "ce", True, "a")
    assert found.headline == (
        "Choose ce with its post-hoc correction: the correction alone raises macro F1 (difference +0.070, 95 % "
        "interval +0.050 to +0.090), and no strategy can be told from ce."
    )
    assert decide(results({"a": (0.01, 0.03)}, {"a": (-0.01, 0.02)}, (0.07, 0.02))).strategy is None


def test_validations_first_and_the_one_that_can_be_told_are_both_named():
    found = decide(results({"a": (0.05, 0.02), "b": (0.03, 0.06)}, val={"ce": 0.5, "a": 0.55, "b": 0.6}))
    assert (found.strategy, found.selected) == ("a", "b")
    assert "Choose a: it is better than ce" in found.headline
    assert "b is first on validation; on test it is not told from ce (difference +0.030" in found.reason


def test_what_validation_puts_below_the_baseline_is_not_chosen_by_test():
    found = decide(results({"a": (0.05, 0.02)}, val={"ce": 0.9, "a": 0.1}))
    assert found.strategy is None
    assert "a is better than ce on test" in found.headline
    assert "validation does not put it above ce" in found.headline


def test_no_interval_is_no_equivalence():
    r = results({"a": (0.0, np.nan)})
    assert decide(r).case == CANNOT_TELL


def test_an_end_that_excludes_zero_is_never_printed_as_zero():
    found = decide(results({"a": (1e-4 + 2e-17, 1e-4)}))
    assert found.case in (ONLY_BASELINE, BOTH)
    assert "95 % interval +2e-17 to +0.000200" in found.headline


part = st.tuples(st.floats(-0.2, 0.2), st.floats(1e-4, 0.2))


@settings(deadline=None, max_examples=200)
@given(st.lists(part, min_size=1, max_size=5), st.lists(part, min_size=5, max_size=5), part, st.randoms())
def test_words_and_intervals_agree(others, over, control, rng):
    names = "abcde"[: len(others)]
    val = {name: rng.random() for name in ("ce", *names)}
    r = results(dict(zip(names, others, strict=True)), {n: over[i] for i, n in enumerate(names)}, control, val)
    found = decide(r)
    for name, d in r.against_baseline.items():
        assert (found.verdicts[name] == "better") == (d["low"] > 0)
        assert (found.verdicts[name] == "worse") == (d["high"] < 0)
    printed = re.findall(r"interval ([+-][\d.]+(?:e-\d+)?) to ([+-][\d.]+(?:e-\d+)?)", found.headline)
    assert all(float(low) <= float(high) for low, high in printed)
    if found.case in (BOTH, ONLY_BASELINE):
        assert max(d["low"] for d in r.against_baseline.values()) > 0
        assert printed
        low, high = map(float, printed[0])
        assert low > 0 or (found.use_free_lunch and high < 0 and "but worse than that" in found.headline)
    elif found.case == SOME_WORSE:
        assert min(d["high"] for d in r.against_baseline.values()) < 0
    else:
        assert all(d["low"] <= 0 <= d["high"] for d in r.against_baseline.values())
        if found.use_free_lunch:
            assert float(printed[0][0]) > 0
        elif found.case == CANNOT_TELL:
            assert float(printed[0][0]) <= 0 <= float(printed[0][1])
    if found.case == EQUIVALENT:
        assert all(d["low"] > -0.01 and d["high"] < 0.01 for d in r.against_baseline.values())


RANGE = r"difference ([+-][\d.]+), 95 % interval ([+-][\d.]+(?:e-\d+)?) to ([+-][\d.]+(?:e-\d+)?)"
near = st.one_of(part, st.tuples(st.floats(-0.009, 0.009), st.floats(1e-5, 0.012)))  # some are equivalent


def digits(text):
    """Half a unit of the last digit that is printed."""
    if "e" in text:
        return 0.5 * 10.0 ** int(text.partition("e")[2])
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def of_a_row(printed, rows):
    """Whether some row has these three numbers, to the printed digits."""
    ends = ("difference", "low", "high")
    return any(
        all(abs(float(text) - d[end]) <= digits(text) * (1 + 1e-9) for text, end in zip(printed, ends, strict=True))
        for d in rows
    )


@settings(deadline=None, max_examples=80)
@given(st.lists(near, min_size=0, max_size=5), st.lists(near, min_size=6, max_size=6), st.none() | near, st.randoms())
def test_every_number_in_words_is_that_of_a_row_to_its_printed_digits(others, over, control, rng):
    names = "abcde"[: len(others)]
    val = {name: rng.random() for name in ("ce", *names) if rng.random() < 0.9}
    folded = {n: over[i] for i, n in enumerate(("ce", *names))} if control else {}
    r = results(dict(zip(names, others, strict=True)), folded, control, val)
    found = decide(r)
    rows = [*r.against_baseline.values(), *r.over_control.values(), *([r.control] if r.control else [])]
    text = found.reason
    said = re.findall(RANGE, text)
    assert len(said) == text.count("95 % interval")
    assert all(of_a_row(printed, rows) for printed in said)
    for value, reference in re.findall(r"macro F1 ([\d.]+) against ([\d.]+)", text):
        assert any((value, reference) == (f"{d['value']:.3f}", f"{d['reference']:.3f}") for d in rows)
    for sizes in re.findall(r"true difference of ([\d.]+)", text):
        assert sizes in {f"{d['minimum_detectable']:.3f}" for d in rows}
    for ends in re.findall(r"all intervals within ([\d.]+)\)", text):
        most = max(max(abs(d["low"]), abs(d["high"])) for d in r.against_baseline.values())
        assert abs(float(ends) - most) <= digits(ends) * (1 + 1e-9)
        assert float(ends) < r.margin
    # what the words say of a strategy is what its row says
    for name in re.findall(r"Choose (\w+): it is better", text):
        assert name == found.strategy
        assert found.verdicts[name] == "better"
    for name, word in re.findall(r"; (\w) is (better|worse) than that", text):
        assert found.over_control[name] == word
    for name in re.findall(r"; (\w) cannot be told from it", text):
        assert found.over_control[name] == "cannot distinguish"
    assert (found.chosen in ("none", "cannot distinguish")) == (found.strategy is None)
    assert found.chosen.endswith("free lunch") == found.use_free_lunch
    assert (found.title == "No strategy is chosen") == found.headline.startswith(("Choose none:", "No run carries"))


WORSE_TWO, EQUAL, FREE = {"a": (-0.05, 0.02), "b": (-0.14, 0.03)}, {"a": (0.001, 0.008)}, (0.06, 0.02)
BY_ITSELF = (
    "Choose ce with its post-hoc correction: the correction alone raises macro F1 (difference +0.060, 95 % interval "
    "+0.040 to +0.080)"
)
CORRECTED_TITLE = "ce with its post-hoc correction: no strategy is better than that"


@pytest.mark.parametrize(
    ("r", "headline", "title", "chosen"),
    [
        (
            results(WORSE_TWO, {"a": (-0.1, 0.02), "b": (-0.2, 0.02)}, FREE),
            f"{BY_ITSELF}, none of 2 strategies is better and 2 are worse.",
            CORRECTED_TITLE,
            "ce + free lunch",
        ),
        (
            results(EQUAL, {"a": (-0.05, 0.02)}, FREE),
            f"{BY_ITSELF}, and a is equivalent to ce within 0.01.",
            CORRECTED_TITLE,
            "ce + free lunch",
        ),
        (
            results({"a": (0.05, 0.02)}, {"a": (-0.03, 0.02)}, (0.08, 0.09)),
            "Choose ce with its post-hoc correction: a is better than ce, but worse than that (difference -0.030, 95 % "
            "interval -0.050 to -0.010).",
            CORRECTED_TITLE,
            "ce + free lunch",
        ),
        (
            results({"a": (0.05, 0.02)}, val={}),
            "No run carries a validation score, so nothing can be selected without looking at test.",
            "No strategy is chosen",
            "none",
        ),
        (
            results({"a": (-0.6, 0.02)}, val={"ce": 0.1, "a": 0.2}, majority=0.8),
            "Choose none: ce scores 0.800 in macro F1 on test, no more than always predicting the majority class.",
            "No strategy is chosen",
            "none",
        ),
        (
            results({"a": (0.05, 0.02)}, val={"ce": 0.9, "a": 0.1}),
            "Choose none yet: a is better than ce on test, macro F1 0.850 against 0.800 (difference +0.050, 95 % "
            "interval +0.030 to +0.070), but validation does not put it above ce.",
            "Test and validation disagree about the best",
            "none",
        ),
        (
            results({"a": (-0.05, 0.02)}),
            "Choose ce: a is worse in macro F1 (difference -0.050, 95 % interval -0.070 to -0.030).",
            "No strategy is better than ce in macro F1, some are worse",
            "ce",
        ),
        (
            results({"a": (-0.05, 0.02)}, {"a": (-0.1, 0.02)}, FREE),
            f"{BY_ITSELF}, and a is worse.",
            CORRECTED_TITLE,
            "ce + free lunch",
        ),
        (results({}), "Choose ce: no other strategy was trained.", "ce alone", "ce"),
        (
            results({"a": (0.03, 0.05)}),
            "The data cannot tell a from ce in macro F1 (difference +0.030, 95 % interval -0.020 to +0.080); a true "
            "difference of 0.070 would have been seen four times in five.",
            "The data cannot tell the strategies apart in macro F1",
            "cannot distinguish",
        ),
        (
            results({"a": (0.0, 0.00998)}),
            "Equivalent: a and ce differ by less than 0.01, the margin, in macro F1 (all intervals within 0.00998), so "
            "choose ce.",
            "All strategies are equivalent within 0.01 in macro F1",
            "ce",
        ),
    ],
)
def test_the_words_of_the_other_branches(r, headline, title, chosen):
    found = decide(r)
    assert found.headline == headline
    assert found.title == title
    assert found.chosen == chosen


def test_price_has_at_most_four_sentences_with_the_numbers_of_the_tables():
    runs = [run("ce", s, val=0.5) for s in (0, 1, 2)]
    runs += [run("good", s, rare_gain=2.0, val=0.7) for s in (0, 1, 2)]
    costs = np.array([[0, 1, 5, 5], [1, 0, 5, 5], [20, 20, 0, 5], [20, 20, 5, 0.0]])
    found = compare(runs, baseline="ce", primary_head="command", costs=costs, resamples=300)
    assert found.choice.strategy == "good"
    assert len(found.choice.price) == 4
    d = found.differences.query("strategy == 'good' and against == 'ce'").set_index("metric")["difference"]
    recall, alarms, calibration, cost = found.choice.price
    assert f"G3 {d['recall/G3']:+.3f}" in recall
    assert f"{d['false_rare']:+.2f}" in alarms
    assert "ECE" in calibration
    assert f"{d['expected_cost']:+.2f}" in cost


def test_recordings_needed_by_hand():
    # 2.8 standard errors; recordings alone: (2.8 * .02 / .01)^2 = 31.36 times 18
    alone = recordings_needed(0.01, Spread(18, 0.02, 0.0, 2.8))
    assert alone.recordings == alone.with_many_seeds == np.ceil(18 * 31.36)
    assert not alone.seeds_help
    assert str(alone) == "to see a difference of 0.01 you need about 565 recordings like these; more seeds do not help"
    unknown = recordings_needed(0.01, Spread(18, 0.02, None, 2.8))
    assert unknown.recordings == alone.recordings
    assert str(unknown).endswith("about 565 recordings like these; one seed does not tell what more seeds would do")
    noisy = recordings_needed(0.01, Spread(18, 0.02, 0.02, 2.8))
    assert np.isinf(noisy.recordings)
    assert "no number of recordings is enough with these seeds; with many more seeds about 565" in str(noisy)
    some = recordings_needed(0.1, Spread(18, 0.02, 0.02, 2.8))
    assert 18 * 0.3136 < some.recordings < 18
    assert some.seeds_help
