"""The audit's checks that fit models, the verdict, the report, and bad data."""

import json
from dataclasses import replace

import numpy as np
import pytest
from audit_cases import recordings, tokens, with_data, with_labels

from imbalance_lab.audit.all_checks import CHECKS
from imbalance_lab.audit.audit_tables import evidence_tables, findings_table, plain, to_dict, trivial_table
from imbalance_lab.audit.audit_verdict import Answer, answers
from imbalance_lab.audit.auditing import run_audit
from imbalance_lab.audit.checks.contradicted_labels import check_label_noise, noisy_labels
from imbalance_lab.audit.checks.input_leakage import check_input_leakage
from imbalance_lab.audit.checks.learnability import auc_intervals, check_learnability
from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.data.dataset import Splits
from imbalance_lab.errors import InputError

CONTEXT = AuditContext()


def by_subject(findings):
    return {f.subject: f for f in findings}


def test_a_channel_that_equals_the_label_fails_and_is_named():
    loaded = recordings(signal=1.0)
    assert by_subject(check_input_leakage(loaded, CONTEXT))["command/channel"].verdict is Verdict.PASS
    values = loaded.dataset.continuous.copy()
    values[..., 2] = loaded.dataset.targets["command"]
    finding = by_subject(check_input_leakage(with_data(loaded, continuous=values), CONTEXT))["command/channel"]
    assert finding.verdict is Verdict.FAIL
    assert finding.evidence[0]["input"] == "c2"
    assert finding.rate == pytest.approx(1.0)


def test_a_categorical_channel_that_equals_the_label_fails():
    loaded = recordings(signal=0.0)
    code = loaded.dataset.targets["command"][..., None] + 1
    leaky = with_data(loaded, categorical=code, categorical_channels=("stat",), categories=(("1", "2", "3", "4"),))
    finding = by_subject(check_input_leakage(leaky, CONTEXT))["command/channel"]
    assert finding.verdict is Verdict.FAIL
    assert finding.evidence[0]["input"] == "stat"
    assert finding.evidence[0]["share of entropy"] == pytest.approx(1.0)


def test_missing_patterns_that_tell_slice_or_label_are_reported():
    loaded = recordings(signal=0.5)
    assert by_subject(check_input_leakage(loaded, CONTEXT))["operation/missing pattern"].verdict is Verdict.PASS
    values = loaded.dataset.continuous.copy()
    values[loaded.dataset.slices["operation"] == "b", :, :2] = np.nan
    told = by_subject(check_input_leakage(with_data(loaded, continuous=values), CONTEXT))
    assert told["operation/missing pattern"].verdict is Verdict.WARN
    assert told["operation/missing pattern"].evidence[0]["input"] == "missing pattern for b"
    values = loaded.dataset.continuous.copy()
    values[..., 1] = np.where(loaded.dataset.targets["command"] == 3, np.nan, values[..., 1])
    told = by_subject(check_input_leakage(with_data(loaded, continuous=values), CONTEXT))
    assert told["command/missing pattern"].verdict is Verdict.FAIL


def test_dead_channels_are_named():
    loaded = recordings()
    values = loaded.dataset.continuous.copy()
    values[..., 0], values[..., 1] = 7.0, np.nan
    finding = by_subject(check_input_leakage(with_data(loaded, continuous=values), CONTEXT))["dead channels"]
    assert finding.verdict is Verdict.WARN
    assert {(r["channel"], r["fault"]) for r in finding.evidence} == {("c0", "constant"), ("c1", "all missing")}


def test_a_class_without_signal_is_named_and_the_others_pass():
    loaded = recordings(n_recordings=30, rows=80)
    rng = np.random.default_rng(1)
    target = loaded.dataset.targets["command"]
    shuffled = np.where(target == 3, 0, target)
    shuffled[rng.random(target.shape) < 0.05] = 3
    findings = by_subject(check_learnability(with_labels(loaded, shuffled), CONTEXT))
    assert findings["command/G3"].verdict is Verdict.WARN
    assert findings["command/G3"].kind == "no signal"
    assert {findings[f"command/G{i}"].verdict for i in range(3)} == {Verdict.PASS}
    assert all(f.interval[0] <= f.rate <= f.interval[1] for f in findings.values())


def test_auc_agrees_with_scikit_learn():
    from sklearn.metrics import roc_auc_score

    probe = CONTEXT.probe_of(recordings(signal=0.6), "command")
    ours = auc_intervals(probe, 0)[:, 0]
    for k, value in enumerate(ours):
        expected = roc_auc_score(probe.positions.label == k, probe.probabilities[:, k], sample_weight=probe.weight)
        assert value == pytest.approx(expected, abs=2e-3)


def test_wrong_labels_are_suspected_and_clean_ones_are_not():
    loaded = replace(recordings(n_recordings=30, rows=80, signal=6.0), raw=None)
    assert by_subject(check_label_noise(loaded, CONTEXT))["command"].verdict is Verdict.PASS
    rng = np.random.default_rng(2)
    target = loaded.dataset.targets["command"]
    wrong = rng.random(target.shape) < 0.08
    noisy = with_labels(loaded, np.where(wrong, (target + 1) % 4, target))
    finding = by_subject(check_label_noise(noisy, CONTEXT))["command"]
    assert finding.verdict is Verdict.WARN
    listed = [r for r in finding.evidence if "sequence" in r]
    assert np.mean([wrong[r["sequence"], r["place"]] for r in listed]) > 0.9


def test_label_noise_without_cleanlab_says_so(monkeypatch):
    import sys

    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    probability = np.full((300, 3), 0.05)
    probability[np.arange(300), label] = 0.9
    given = label.copy()
    given[:15] = (label[:15] + 1) % 3
    with_it, method = noisy_labels(given, probability)
    assert "cleanlab" in method
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    without, method = noisy_labels(given, probability)
    assert "not installed" in method
    assert without[:15].all()
    assert not without[15:].any()
    assert with_it[:15].mean() > 0.8


# ---- the whole audit


def test_clean_balanced_data_have_no_fault():
    report = run_audit(recordings(n_recordings=36, rows=100))
    assert not report.failed
    assert report.verdict is Answer.NONE
    assert set(report.seconds) == {c.name for c in CHECKS}


def test_fillers_are_an_artefact_and_masked_ones_are_not():
    report = run_audit(tokens(fillers=True), budget="counts")
    assert report.failed
    assert report.verdict is Answer.ARTEFACT
    assert "command/G0" in [f.subject for f in report.findings if f.verdict is Verdict.FAIL]
    assert "Mend it" in report.sentence
    assert run_audit(tokens(fillers=False), budget="counts").verdict is not Answer.ARTEFACT


def test_imbalance_with_signal_names_the_classes():
    report = run_audit(recordings(n_recordings=30, rows=80, shares=(0.04, 0.88, 0.04, 0.04)))
    assert report.verdict is Answer.IMBALANCE_LEARNABLE
    assert "command/G2" in report.sentence
    assert not report.failed


def test_imbalance_without_signal():
    report = run_audit(recordings(n_recordings=30, rows=80, shares=(0.04, 0.88, 0.04, 0.04), signal=0.0, seed=1))
    assert report.verdict is Answer.IMBALANCE_NO_SIGNAL


def test_signal_is_seldom_claimed_where_there_is_none():
    """The interval's lower end lies above 0.5 in 2.5 % of null classes; 5 of 32 or more would have p < 0.002."""
    claims = 0
    for seed in range(8):
        probe = CONTEXT.probe_of(recordings(shares=(0.1, 0.7, 0.1, 0.1), signal=0.0, seed=seed), "command")
        claims += int((auc_intervals(probe, seed)[:, 1] > 0.5).sum())
    assert claims < 5


def test_answers_follow_from_kinds():
    warn = Finding("metric traps", Verdict.WARN, "m", kind="metric")
    artefact = Finding("placeholder", Verdict.FAIL, "p", "command/G0", kind="artefact")
    imbalance = Finding("frequencies", Verdict.WARN, "f", "command", kind="imbalance")
    assert answers([warn]) == (Answer.METRIC,)
    assert answers([imbalance, warn]) == (Answer.IMBALANCE, Answer.METRIC)
    assert answers([imbalance, artefact]) == (Answer.ARTEFACT,)  # the counts of a filled head are not believed
    assert answers([]) == (Answer.NONE,)


def test_the_same_seed_gives_the_same_report():
    first, second = (to_dict(run_audit(recordings(), seed=3)) for _ in range(2))
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_tables_and_json():
    report = run_audit(tokens(fillers=True), budget="counts")
    text = json.dumps(to_dict(report), allow_nan=False)
    assert json.loads(text)["verdict"] == "artefact"
    assert len(findings_table(report)) == len(report.findings)
    assert (evidence_tables(report)["placeholder"]["subject"] == "command/G0").any()
    assert {"majority", "uniform"} <= set(trivial_table(report)["predictor"])
    assert plain({"a": np.float32(1.5), "b": float("nan"), 3: np.arange(2)}) == {"a": 1.5, "b": None, "3": [0, 1]}


def test_progress_and_choice_of_checks():
    seen = []
    report = run_audit(recordings(), checks=("splits", "power"), progress=lambda *a: seen.append(a))
    assert seen == [("splits", 0, 2), ("power", 1, 2), ("", 2, 2)]
    assert set(report.seconds) == {"splits", "power"}
    with pytest.raises(InputError, match="unknown audit check 'typo'"):
        run_audit(recordings(), checks=("typo",))
    with pytest.raises(InputError, match="full and counts"):
        run_audit(recordings(), budget="some")


# ---- bad data: a finding, never a traceback


def _one_recording():
    loaded = recordings(n_recordings=1, rows=240)
    return replace(loaded, splits=Splits(np.arange(14), np.arange(14, 17), np.arange(17, 20)))


def _all_missing():
    loaded = recordings()
    return with_data(loaded, continuous=np.full_like(loaded.dataset.continuous, np.nan))


def _constant():
    loaded = recordings()
    return with_data(loaded, continuous=np.ones_like(loaded.dataset.continuous))


def _no_channels():
    loaded = recordings()
    return with_data(loaded, continuous=loaded.dataset.continuous[..., :0], channels=())


def _no_labels():
    loaded = recordings()
    return with_labels(loaded, np.full_like(loaded.dataset.targets["command"], -100))


def _no_test():
    loaded = recordings()
    return replace(loaded, splits=replace(loaded.splits, test=np.zeros(0, dtype=np.int64)))


def _infinite():
    loaded = recordings()
    values = loaded.dataset.continuous.copy()
    values[3, 2, 1], values[5, 1, 1] = np.inf, -np.inf
    return with_data(loaded, continuous=values)


def _empty_text():
    loaded = recordings()
    none = np.zeros(0, dtype=np.str_)
    rows = np.zeros(0, dtype=np.int64)
    return replace(loaded, raw=replace(loaded.raw, recording=none, row=rows, block=none, controller=none, encoded=none))


def _one_class():
    return recordings(shares=(0, 1, 0, 0))


def _hardly_any():
    return recordings(n_recordings=3, rows=24)


BAD = (
    _one_recording, _all_missing, _constant, _no_channels, _no_labels, _no_test, _infinite, _empty_text, _one_class,
    _hardly_any,
)  # fmt: skip


@pytest.mark.parametrize("make", BAD)
def test_bad_data_give_findings(make):
    report = run_audit(make())
    assert {f.check for f in report.findings} == {c.name for c in CHECKS}
    assert any(f.verdict is not Verdict.PASS for f in report.findings)
    json.dumps(to_dict(report), allow_nan=False)


def test_no_sequence_is_an_input_error():
    loaded = recordings()
    none = np.zeros(0, dtype=np.int64)
    d = loaded.dataset
    empty = with_data(
        loaded,
        continuous=d.continuous[:0],
        categorical=d.categorical[:0],
        targets={"command": d.targets["command"][:0]},
        groups=d.groups[:0],
        unit=d.unit[:0],
        unit_position=d.unit_position[:0],
        slices={},
    )
    with pytest.raises(InputError, match="no sequence"):
        run_audit(replace(empty, splits=Splits(none, none, none)))
