"""The audit's checks that need no model: each finds its fault, and is silent without it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from audit_cases import recordings, tokens, with_data, with_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.audit import all_checks
from imbalance_lab.audit.audit_verdict import Answer
from imbalance_lab.audit.auditing import run_audit
from imbalance_lab.audit.checks.frequencies import check_frequencies
from imbalance_lab.audit.checks.metric_traps import check_metric_traps
from imbalance_lab.audit.checks.placeholder import check_placeholder
from imbalance_lab.audit.checks.power import check_power, detectable_difference, mean_detectable
from imbalance_lab.audit.checks.split_counts import check_splits
from imbalance_lab.audit.checks.split_leakage import check_split_leakage
from imbalance_lab.audit.checks.token_vocabulary import check_vocabulary, token_of
from imbalance_lab.audit.checks.weight_arithmetic import check_weight_arithmetic, loss_shares
from imbalance_lab.audit.finding import Verdict
from imbalance_lab.audit.rate_intervals import rate_interval, wilson_interval
from imbalance_lab.audit.settings import AuditContext, AuditThresholds, StrategyWeights
from imbalance_lab.audit.target_positions import count_table, factorize, scored_positions, stratified_sample
from imbalance_lab.audit.trivial_scores import trivial_scores
from imbalance_lab.data.dataset import IGNORE, Fold, Splits
from imbalance_lab.data.gcode.vocabulary import Vocabulary
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, load_folds, parse_options

CONTEXT = AuditContext()


def by_subject(findings):
    return {f.subject: f for f in findings}


# ---- positions and intervals


def test_overlapping_windows_count_each_row_once():
    apart, overlapping = recordings(), recordings(stride=4)
    table = count_table(scored_positions(apart.dataset, "command"), 4)
    again = count_table(scored_positions(overlapping.dataset, "command"), 4)
    assert table["positions"].tolist() == again["positions"].tolist()
    assert table["positions"].sum() == 18 * 60
    assert overlapping.dataset.class_counts("command").sum() > 18 * 60


@given(st.lists(st.text(max_size=4), min_size=1, max_size=60))
@settings(deadline=None, max_examples=50)
def test_factorize_is_a_factorization(values):
    array = np.array(values)
    codes, names = factorize(array)
    assert (names[codes] == array).all()
    assert len(set(names.tolist())) == len(names) == len(set(array.tolist()))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=300), st.integers(6, 80))
@settings(deadline=None, max_examples=50)
def test_stratified_sample_keeps_rare_classes_and_totals(labels, limit):
    label = np.array(labels)
    index, weight = stratified_sample(label, limit, 0)
    assert len(index) <= max(limit, 6)
    assert set(label[index].tolist()) == set(labels)
    assert np.isclose(weight.sum(), len(label))


def test_rate_interval_is_wider_when_recordings_differ():
    same = rate_interval(np.full(20, 5), np.full(20, 10))
    differ = rate_interval(np.repeat([0, 10], 10), np.full(20, 10))
    assert same[1] - same[0] < 0.01 < 0.3 < differ[1] - differ[0]
    assert rate_interval(np.array([0, 0, 0]), np.array([50, 50, 50])) == wilson_interval(0, 3)
    assert rate_interval(np.array([1, 0]), np.array([1, 1])) == wilson_interval(1, 2)
    low, high = rate_interval(np.tile([2, 8], 2000), np.full(4000, 10))
    assert 0.48 < low < 0.5 < high < 0.52


# ---- frequencies


def test_frequencies_pass_on_balance_and_warn_on_a_rare_class():
    assert by_subject(check_frequencies(recordings(), CONTEXT))["command"].verdict is Verdict.PASS
    rare = recordings(shares=(0.006, 0.98, 0.007, 0.007), n_recordings=60)
    finding = by_subject(check_frequencies(rare, CONTEXT))["command"]
    counts = rare.dataset.class_counts("command")
    assert finding.verdict is Verdict.WARN
    assert finding.kind == "imbalance"
    assert finding.rate == pytest.approx(counts[counts > 0].min() / counts.sum())


def test_frequencies_fail_where_targets_and_text_disagree():
    loaded = recordings()
    findings = by_subject(check_frequencies(loaded, CONTEXT))
    assert findings["command against raw text"].verdict is Verdict.PASS
    assert findings["command against raw text"].rate == 0
    target = loaded.dataset.targets["command"].copy()
    target[:, 0] = (target[:, 0] + 1) % 4  # one row in twelve
    wrong = by_subject(check_frequencies(with_labels(loaded, target), CONTEXT))["command against raw text"]
    assert wrong.verdict is Verdict.FAIL
    assert wrong.rate == pytest.approx(1 / 12)
    assert wrong.interval[0] <= wrong.rate <= wrong.interval[1]
    assert {"recording", "row", "block", "first", "second"} <= set(wrong.evidence[0])


def test_one_class_only_is_a_failure_not_a_traceback():
    loaded = recordings(shares=(0, 1, 0, 0))
    findings = by_subject(check_frequencies(loaded, CONTEXT))
    assert findings["command"].verdict is Verdict.FAIL
    assert "only the class 'G1'" in findings["command"].message


# ---- vocabulary


VOCABULARY = {"PAD": 0, "UNK": 3, "G0": 5, "G1": 6, "X": 7, "NUM_X_-": 8, "NUM_X_1": 9, "X0.": 10, "G90": 11}


def spoken(blocks, vocabulary):
    loaded = recordings()
    n = len(loaded.raw.row)
    block = np.array(blocks)[np.arange(n) % len(blocks)]
    empty = np.full(n, "")
    return replace(loaded, raw=replace(loaded.raw, block=block, controller=empty, encoded=empty, vocabulary=vocabulary))


def test_token_of_follows_the_encoding():
    rules = Vocabulary(VOCABULARY)
    assert token_of("G", "01", rules) == "G1"
    assert token_of("X", "-0.1254", rules) == "NUM_X_-"
    assert token_of("X", "1.5", rules) == "NUM_X_1"
    assert token_of("X", "0.", rules) == "X0."
    assert token_of("Q", "1", rules) == ""


def test_vocabulary_names_vanished_signs_literals_unknown_words_and_idle_ids():
    loaded = spoken(["G1 X-0.1254", "G0 X-3.5", "G1 X1.25", "G1 X0.", "G1 J2"], VOCABULARY)
    findings = by_subject(check_vocabulary(loaded, CONTEXT))
    assert findings["ids"].verdict is Verdict.PASS
    numbers = findings["numbers"]
    assert numbers.verdict is Verdict.WARN
    assert numbers.kind == "artefact"
    assert numbers.evidence[0]["token"] == "NUM_X_-"
    assert numbers.evidence[0]["distinct numbers"] == numbers.evidence[0]["negative"] == 2
    assert findings["unknown words"].verdict is Verdict.WARN
    assert findings["unknown words"].evidence[0]["word"] == "J2"
    assert findings["unknown words"].rate == pytest.approx(1 / 10)
    assert findings["literals"].evidence[0]["token"] == "X0."
    assert [r["token"] for r in findings["unused ids"].evidence] == ["G90"]


def test_two_commands_on_one_id_fail():
    shared = by_subject(check_vocabulary(spoken(["G1 X1.5"], {**VOCABULARY, "G0": 6}), CONTEXT))["ids"]
    assert shared.verdict is Verdict.FAIL
    assert "G0, G1" in shared.message


def test_commands_merged_in_the_targets_fail():
    loaded = recordings()
    target = loaded.dataset.targets["command"]
    assert by_subject(check_vocabulary(loaded, CONTEXT))["command classes"].verdict is Verdict.PASS
    merged = check_vocabulary(with_labels(loaded, np.where(target == 3, 2, target)), CONTEXT)
    assert by_subject(merged)["command classes"].verdict is Verdict.FAIL
    assert "G2 and G3 are both 'G2'" in by_subject(merged)["command classes"].message


# ---- placeholder


def test_fillers_are_found_from_the_relation_of_the_heads():
    loaded = tokens(fillers=True)
    findings = by_subject(check_placeholder(loaded, CONTEXT))
    real = int(((loaded.dataset.targets["type"] == 1) & (loaded.dataset.targets["command"] == 0)).sum())
    total = int((loaded.dataset.targets["command"] == 0).sum())
    command = findings["command/G0"]
    assert command.verdict is Verdict.FAIL
    assert command.evidence[0]["real"] == real
    assert command.rate == pytest.approx(1 - real / total)
    assert findings["param_value/0"].verdict is Verdict.FAIL
    assert findings["param_type/X"].verdict is Verdict.FAIL
    assert set(findings) == {"command/G0", "param_value/0", "param_type/X", "type/special"}


def test_fillers_are_found_without_padding_marks_and_under_any_class_order():
    loaded = tokens(fillers=True)
    unmarked = with_data(loaded, unit_position=np.tile(np.arange(6), (300, 1)))
    flipped = with_labels(unmarked, 2 - loaded.dataset.targets["command"])
    assert by_subject(check_placeholder(flipped, CONTEXT))["command/G2"].verdict is Verdict.FAIL


def test_masked_heads_have_no_placeholder():
    findings = check_placeholder(tokens(fillers=False), CONTEXT)
    assert {f.verdict for f in findings} == {Verdict.PASS}
    assert [f.subject for f in findings] == ["type", "command", "param_type", "param_value"]


@given(st.integers(0, 1000), st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_correlated_heads_are_no_placeholder(seed, k):
    """A second head that determines the first in some of its states, and a third one beside them."""
    rng = np.random.default_rng(seed)
    loaded = recordings(n_recordings=6)
    shape = loaded.dataset.targets["command"].shape
    letters = rng.integers(0, k + 2, size=shape)
    command = np.where(letters < k, letters % 4, rng.integers(0, 4, size=shape))
    third = np.where(rng.random(shape) < 0.8, command, rng.integers(0, 4, size=shape))
    named = {"command": tuple("abcd"), "letters": tuple(map(str, range(k + 2))), "third": tuple("wxyz")}
    data = with_data(loaded, targets={"command": command, "letters": letters, "third": third}, heads=named)
    assert {f.verdict for f in check_placeholder(data, CONTEXT)} == {Verdict.PASS}


# ---- splits


def test_an_absent_class_fails_only_where_it_could_be_there():
    loaded = recordings()
    assert {f.verdict for f in check_splits(loaded, CONTEXT)} == {Verdict.PASS}
    target = loaded.dataset.targets["command"].copy()
    target[loaded.splits.test] = np.where(target[loaded.splits.test] == 2, IGNORE, target[loaded.splits.test])
    finding = by_subject(check_splits(with_labels(loaded, target), CONTEXT))["command/test"]
    assert finding.verdict is Verdict.FAIL
    assert "G2" in finding.message
    first = loaded.dataset.unit == 0
    target = np.where((target == 2) & ~first[:, None], IGNORE, target)
    single = by_subject(check_splits(with_labels(loaded, target), CONTEXT))["command/test"]
    assert single.verdict is Verdict.WARN


def test_a_class_that_no_exchange_can_bring_is_only_warned_of():
    """Each operation has a class of its own in three recordings, and test room for one recording of each."""
    loaded = recordings()
    data = loaded.dataset
    target = np.where(data.targets["command"] == 3, 0, data.targets["command"])
    # operation a (recordings 0, 3, ... 15): G2 in the first half, G3 in the second; test holds recording 5, 11, 17
    of_a = (data.unit % 3 == 2)[:, None]
    target = np.where(of_a & (data.unit < 9)[:, None] & (target == 2), 3, target)
    only_late = with_labels(loaded, np.where(~of_a & (target == 2), 1, target))
    splits = Splits(
        *(
            np.flatnonzero(np.isin(data.unit, u))
            for u in ([0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13], [14, 9, 10], [17, 15, 16])
        )
    )
    findings = by_subject(check_splits(replace(only_late, splits=splits), CONTEXT))
    assert findings["command/test"].verdict is Verdict.WARN
    assert "cannot be otherwise" in findings["command/test"].message
    free = with_data(replace(only_late, splits=splits), slices={})
    mended = by_subject(check_splits(free, CONTEXT))["command/test"]
    assert mended.verdict is Verdict.FAIL
    assert mended.evidence[0]["could be had by"].startswith("exchanging")


def test_an_empty_split_fails():
    loaded = recordings()
    none = np.zeros(0, dtype=np.int64)
    (finding,) = check_splits(replace(loaded, splits=replace(loaded.splits, val=none)), CONTEXT)
    assert finding.verdict is Verdict.FAIL
    assert "val" in finding.message


# ---- split leakage


def test_clean_splits_do_not_leak():
    assert all(f.verdict is Verdict.PASS for f in check_split_leakage(recordings(channels=8), CONTEXT))


def test_windows_of_one_recording_on_both_sides_leak():
    loaded = recordings(stride=4)
    shuffled = np.random.default_rng(0).permutation(len(loaded.dataset))
    leaky = replace(loaded, splits=Splits(shuffled[:150], shuffled[150:190], shuffled[190:]), scaler_fitted_on="all")
    findings = by_subject(check_split_leakage(leaky, CONTEXT))
    for subject in ("shared rows", "shared input rows", "recordings", "scaler"):
        assert findings[subject].verdict is Verdict.FAIL, subject
    assert findings["exact duplicates"].verdict is Verdict.PASS
    # without ids the contents still tell, and tell the same
    n = len(loaded.dataset)
    position = np.tile(np.arange(12), (n, 1))
    names = np.array([f"s{i}" for i in range(n)])
    blind = with_data(leaky, unit=np.arange(n), unit_position=position, unit_length=np.full(n, 12), groups=names)
    by_content = by_subject(check_split_leakage(blind, CONTEXT))
    assert by_content["shared rows"].verdict is Verdict.PASS
    assert by_content["shared input rows"].rate == pytest.approx(findings["shared rows"].rate)


def test_exact_and_near_duplicates_are_told_apart():
    loaded = recordings(channels=8)
    values = loaded.dataset.continuous.copy()
    train, test = loaded.splits.train, loaded.splits.test
    values[test[0]] = values[train[0]]
    findings = by_subject(check_split_leakage(with_data(loaded, continuous=values), CONTEXT))
    assert findings["exact duplicates"].verdict is Verdict.FAIL
    assert findings["near duplicates"].verdict is Verdict.PASS
    values[test[0]] += 1e-4
    findings = by_subject(check_split_leakage(with_data(loaded, continuous=values), CONTEXT))
    assert findings["exact duplicates"].verdict is Verdict.PASS
    assert findings["near duplicates"].verdict is Verdict.FAIL
    assert findings["near duplicates"].evidence[0]["twin in train"] == train[0]


def test_missing_and_constant_inputs_are_no_duplicates():
    loaded = recordings(channels=8)
    values = loaded.dataset.continuous.copy()
    values[:, 3:6] = np.nan  # idle stretches of every window look alike
    values[..., 0] = 1.0
    findings = check_split_leakage(with_data(loaded, continuous=values), CONTEXT)
    assert not [f for f in findings if f.verdict is Verdict.FAIL]


# ---- metric traps, power


def test_trivial_scores_by_hand():
    loaded = tokens(fillers=False)
    scores = trivial_scores(loaded)
    data, test = loaded.dataset, loaded.splits.test
    command = data.class_counts("command", test)
    trained = data.class_counts("command", loaded.splits.train)
    expected = (command * trained / trained.sum()).sum() / command.sum()
    assert scores.heads["command"]["majority"]["accuracy"] == pytest.approx(command[1] / command.sum())
    assert scores.heads["command"]["prior-sampling"]["accuracy"] == pytest.approx(expected)
    assert scores.heads["command"]["uniform"]["accuracy"] == pytest.approx(1 / 3)
    accuracy = {h: scores.heads[h]["majority"]["accuracy"] for h in data.heads}
    joint = scores.joint["majority"]
    assert joint["composite"] == pytest.approx(np.prod(list(accuracy.values())))
    three = accuracy["command"] * accuracy["param_type"] * accuracy["param_value"]
    assert joint["command x param_type x param_value"] == pytest.approx(three)
    said = {h: data.class_counts(h, loaded.splits.train).argmax() for h in data.heads}
    right = np.logical_and.reduce(
        [(data.targets[h][test] == c) | (data.targets[h][test] == IGNORE) for h, c in said.items()]
    )
    applies = np.logical_or.reduce([data.targets[h][test] != IGNORE for h in data.heads])
    assert joint["exact_match"] == pytest.approx(right[applies].mean())


def test_a_constant_that_wins_is_warned_of():
    assert by_subject(check_metric_traps(recordings(), CONTEXT))["command"].verdict is Verdict.PASS
    won = by_subject(check_metric_traps(recordings(shares=(0.01, 0.97, 0.01, 0.01)), CONTEXT))["command"]
    assert won.verdict is Verdict.WARN
    assert "accuracy" in won.message
    assert won.kind == "metric"


def test_detectable_difference_shrinks_with_recordings_and_grows_with_correlation():
    few, many = np.array([[10]] * 4), np.array([[10]] * 40)
    assert detectable_difference(many, 0.05, 0.5)[0] < detectable_difference(few, 0.05, 0.5)[0] / 3
    assert detectable_difference(many, 0.5, 0.5)[0] > detectable_difference(many, 0.05, 0.5)[0]
    # independent positions: (1.96 + 0.8416) sqrt(2 * .25 * .5 / 400)
    assert detectable_difference(many, 0.0, 0.5)[0] == pytest.approx(2.80159 * np.sqrt(0.25 / 400), rel=1e-4)
    assert np.isnan(detectable_difference(np.array([[5, 0]]), 0.05, 0.5)[1])


def test_power_warns_of_small_classes():
    assert by_subject(check_power(recordings(n_recordings=18), CONTEXT))["command"].verdict is Verdict.WARN
    assert by_subject(check_power(recordings(n_recordings=120), CONTEXT))["command"].verdict is Verdict.PASS


def test_power_says_before_training_how_many_recordings_a_difference_of_the_margin_takes():
    loaded = recordings(n_recordings=18)
    (finding,) = check_power(loaded, replace(CONTEXT, margin=0.02))
    by_group = np.array([[15] * 4])
    one = detectable_difference(by_group, 0.05, 0.5)
    assert mean_detectable(one) == pytest.approx(one[0] / 2)  # the mean of four equal and independent ones
    count, shown, needed = re.search(
        r"its 4 classes, (\d+) recordings show one from ([\d.]+) on; one of 0\.02 would take about ([\d,]+)",
        finding.message,
    ).groups()
    assert int(needed_of(shown, count, 0.02)) == pytest.approx(float(needed.replace(",", "")), rel=0.02)
    assert "; one of" not in check_power(loaded, replace(CONTEXT, margin=0.9))[0].message
    folded = replace(loaded, fold=Fold(0, 6, "x"))
    (all_of_them,) = check_power(folded, replace(CONTEXT, margin=0.02))
    assert "18 recordings show one from" in all_of_them.message
    assert "over all 6 folds" in all_of_them.message
    assert all_of_them.rate < finding.rate


def needed_of(detectable, recordings_, margin):
    return float(recordings_) * (float(detectable) / margin) ** 2


# ---- weight arithmetic


def judged(loaded, **numbers):
    context = AuditContext(strategies=(StrategyWeights("s", **numbers),))
    return check_weight_arithmetic(loaded, context)[0]


def test_balanced_weights_give_equal_shares():
    loaded = recordings(shares=(0.1, 0.7, 0.1, 0.1))
    counts = loaded.dataset.class_counts("command", loaded.splits.train)
    assert np.allclose(loss_shares(1 / counts, counts / counts.sum()), 0.25)
    finding = judged(loaded, class_weights={"command": counts.sum() / (4 * counts)})
    assert finding.verdict is Verdict.PASS
    assert [r["loss share"] for r in finding.evidence] == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"class_weights": {"command": [0.001, 100, 100, 100]}}, "costs as much as 100,000"),
        ({"class_weights": {"command": [2, 2, 2, 2]}}, "change nothing"),
        ({"class_weights": {"command": [1e-9, 1, 1, 1]}}, "carries"),
        ({"class_weights": {"command": [1, 1, 200, 1]}, "class_shares": {"command": [1, 1, 1, 1]}}, "turned over"),
        ({"class_weights": {"command": [1, 2, 2, 2]}, "batch_size": 1, "reduction": "weights"}, "cancels"),
    ],
)
def test_absurd_weights_are_warned_of(numbers, words):
    finding = judged(recordings(shares=(0.85, 0.05, 0.05, 0.05), n_recordings=60, length=4), **numbers)
    assert finding.verdict is Verdict.WARN
    assert words in finding.message


@pytest.mark.parametrize(
    "numbers",
    [
        {"class_weights": {"speed": [1, 1]}},
        {"class_weights": {"command": [1, 2]}},
        {"class_shares": {"command": [1, -1, 1, 1]}},
    ],
)
def test_weights_that_do_not_fit_are_input_errors(numbers):
    with pytest.raises(InputError, match="'s'"):
        judged(recordings(), **numbers)


def test_thresholds_are_parameters():
    loaded = recordings(shares=(0.1, 0.7, 0.1, 0.1))
    strict = AuditContext(AuditThresholds(trivial_score=0.6))
    assert by_subject(check_metric_traps(loaded, CONTEXT))["command"].verdict is Verdict.PASS
    assert by_subject(check_metric_traps(loaded, strict))["command"].verdict is Verdict.WARN


# ---- heads without labels in train, and what the headline may say


def never_in_train(loaded):
    """A second head whose labels stand in val and test alone."""
    target = loaded.dataset.targets["command"].copy()
    target[loaded.splits.train] = IGNORE
    targets = {**loaded.dataset.targets, "side": target}
    return with_data(loaded, targets=targets, heads={**loaded.dataset.heads, "side": loaded.dataset.heads["command"]})


@pytest.mark.parametrize("as_loaded", [False, True])
def test_a_head_without_labels_in_train_fails_the_audit_and_is_not_scored(as_loaded):
    loaded = never_in_train(recordings())
    if as_loaded:
        loaded = loaded.without_unlabelled()
        assert list(loaded.dataset.heads) == ["command"]
        assert set(loaded.left_out["side"]) == {"train", "val", "test"}
    report = run_audit(loaded, budget="counts")
    assert report.failed
    assert report.sentence.startswith("Unfit for training: side: train holds no label of it")
    assert list(report.trivial.heads) == ["command"]
    messages = " ".join(f.message for f in report.findings)
    assert "all 0 classes" not in messages
    assert "Always" not in " ".join(f.message for f in report.of("metric traps") if f.subject == "side")


def test_no_head_with_labels_in_train_is_one_sentence():
    loaded = recordings()
    target = loaded.dataset.targets["command"].copy()
    target[loaded.splits.train] = IGNORE
    with pytest.raises(InputError, match="train holds no label of command"):
        with_labels(loaded, target).without_unlabelled()


def test_data_with_labels_stay_as_they_are():
    loaded = recordings()
    assert loaded.without_unlabelled() is loaded


def test_no_fault_is_said_only_where_every_check_ran(monkeypatch):
    loaded = recordings(n_recordings=120, channels=8, rows=24)
    whole = run_audit(loaded)
    assert whole.verdict is Answer.NONE
    assert whole.sentence.startswith("No fault found: every check ran")
    counts = run_audit(loaded, budget="counts")
    assert counts.verdict is Answer.OPEN
    assert "o fault found" not in counts.sentence
    assert "input leakage, learnability, label noise did not run" in counts.sentence
    some = run_audit(loaded, checks=["frequencies"])
    assert "split leakage" in some.sentence

    def broken(loaded, context):
        raise ZeroDivisionError("oh")

    changed = tuple(replace(c, function=broken) if c.name == "power" else c for c in all_checks.CHECKS)
    monkeypatch.setattr("imbalance_lab.audit.auditing.CHECKS", changed)
    report = run_audit(loaded)
    assert report.verdict is Answer.OPEN
    assert "power (not run) could not be judged" in report.sentence
    (finding,) = report.of("power")
    assert "ZeroDivisionError: oh" in finding.message


def test_a_failure_of_any_kind_is_in_the_headline():
    report = run_audit(recordings(shares=(0, 1, 0, 0)), budget="counts")
    assert report.failed
    assert "o fault found" not in report.sentence
    assert report.sentence.startswith("Unfit for training: command holds only the class 'G1'")


def test_doubtful_names_are_in_the_headline():
    loaded = recordings(n_recordings=120, rows=24)
    report = run_audit(with_data(loaded, heads={"command": ("End", "end", "G2", "G3")}), budget="counts")
    assert report.verdict is Answer.NAMES
    assert "'End'" in report.sentence
    assert not report.failed


def test_folds_are_described_and_no_exchange_between_them_is_asked_for() -> None:
    mill = {"source": "simulated", "n_recordings": 36, "split": {"folds": 6}}
    lacking = 0
    for k, loaded in enumerate(load_folds(parse_options(mill))):
        findings = by_subject(check_splits(loaded, CONTEXT))
        assert Verdict.FAIL not in {f.verdict for f in findings.values()}
        folds = findings["folds"]
        assert folds.verdict is Verdict.WARN
        assert f"one of 6 folds; the counts here are those of fold {k}. 3 class(es) lie in fewer" in folds.message
        lacking += findings["addresses/test"].verdict is Verdict.WARN
    assert lacking == 1  # where three classes of five recordings each are not tested
    even = load_data(parse_options({**mill, "split": {"folds": 3}}), fold=0)
    assert by_subject(check_splits(even, CONTEXT))["folds"].verdict is Verdict.PASS
