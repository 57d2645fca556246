"""The crisis in the real recordings: the audit must find the artefact, and must not see one where there is none."""

from dataclasses import replace

import pytest

from imbalance_lab.audit.audit_verdict import Answer
from imbalance_lab.audit.auditing import run_audit
from imbalance_lab.audit.finding import Verdict
from imbalance_lab.load import load_data, parse_options

FOLDER = "data/gcode_fingerprinting"


def load(shared_dir, **options):
    path = str(shared_dir / FOLDER / "recordings.parquet")
    return load_data(parse_options({"source": "recordings", "path": path, **options}))


@pytest.fixture(scope="module")
def legacy(shared_dir):
    vocabulary = str(shared_dir / FOLDER / "vocabulary_1digit_hybrid.json")
    return run_audit(load(shared_dir, task="tokens", encoding="legacy", vocabulary=vocabulary), budget="counts")


def test_the_legacy_encoding_is_an_artefact(legacy):
    assert legacy.verdict is Answer.ARTEFACT
    g0 = {f.subject: f for f in legacy.of("placeholder")}["command/G0"]
    assert g0.verdict is Verdict.FAIL
    assert (g0.evidence[0]["positions"], g0.evidence[0]["real"]) == (20511, 77)
    assert legacy.sentence.startswith("Artefact: command: 20,434 of the 20,511 positions of G0")


def test_the_legacy_preparation_leaks_and_loses_signs(legacy):
    leakage = {f.subject: f for f in legacy.of("split leakage")}
    for subject in ("shared input rows", "recordings", "scaler"):
        assert leakage[subject].verdict is Verdict.FAIL, subject
    numbers = {f.subject: f for f in legacy.of("vocabulary")}["numbers"]
    signs = {r["token"]: r for r in numbers.evidence if r["sign only"]}
    assert set(signs) == {"NUM_X_-", "NUM_Y_-", "NUM_Z_-"}
    assert signs["NUM_X_-"]["negative"] == signs["NUM_X_-"]["distinct numbers"] == 23


def test_the_legacy_composite_is_scored_for_always_g0(legacy):
    assert legacy.trivial.majority["command"] == "G0"
    joint = legacy.trivial.joint["majority"]
    accuracy = {h: legacy.trivial.heads[h]["majority"]["accuracy"] for h in legacy.trivial.heads}
    three = accuracy["command"] * accuracy["param_type"] * accuracy["param_value"]
    assert joint["command x param_type x param_value"] == pytest.approx(three)
    assert accuracy["command"] > 0.9
    assert {f.subject: f for f in legacy.of("metric traps")}["command"].verdict is Verdict.WARN


def test_masked_steps_are_true_imbalance_and_learnable(shared_dir):
    loaded = load(shared_dir, task="steps")
    data = loaded.dataset
    command = replace(data, targets={"command": data.targets["command"]}, heads={"command": data.heads["command"]})
    report = run_audit(replace(loaded, dataset=command))
    assert report.verdict is Answer.IMBALANCE_LEARNABLE
    assert not report.failed
    learnable = {f.subject for f in report.of("learnability") if f.verdict is Verdict.PASS}
    assert learnable == {f"command/G{i}" for i in range(4)}
    agreement = {f.subject: f for f in report.of("frequencies")}["explicit text against controller"]
    assert (round(agreement.rate * agreement.n), agreement.verdict) == (1, Verdict.PASS)
