"""Classes that are one but for blanks, case, Unicode form or notation, and words for a missing value."""

from dataclasses import replace

import numpy as np
import pytest
from audit_cases import recordings, with_data
from hypothesis import given
from hypothesis import strategies as st

from imbalance_lab.audit.checks.class_names import STEPS, check_names, is_missing_marker, near_equal, plain_name
from imbalance_lab.audit.finding import Verdict
from imbalance_lab.audit.settings import AuditContext

SAME = (
    (("ok", "ok "), "blanks"),
    (("tool  a", "tool a"), "blanks"),
    (("tool\u00a0a", "tool a"), "Unicode form"),
    (("End", "end"), "case"),
    (("STRASSE", "straße"), "case"),
    (("caf\u00e9", "cafe\u0301"), "Unicode form"),
    (("ＯＫ", "OK"), "Unicode form"),
    (("①", "1"), "Unicode form"),
    (("o\u200bk", "ok"), "invisible characters"),
    (("\ufeffok", "ok"), "invisible characters"),
    (("a\u2013b", "a-b"), "dashes"),
    (("\u22121", "-1"), "dashes"),
    (("1", "1.0"), "numbers written in two ways"),
    (("1", "01"), "numbers written in two ways"),
    (("1", "1e0"), "numbers written in two ways"),
    (("+1", "1"), "numbers written in two ways"),
    (("0", "-0.0"), "numbers written in two ways"),
    (("1000", "1E3"), "numbers written in two ways"),
    ((".5", "0.50"), "numbers written in two ways"),
    (("G1", "G01"), "numbers written in two ways"),
    (("tool_wear", "tool wear"), "blanks, hyphens and underscores"),
    (("tool-wear", "tool_wear"), "blanks, hyphens and underscores"),
)
DIFFERENT = (
    ("G0", "G1"),
    ("G1", "G10"),
    ("1", "-1"),
    ("1.10", "1.11"),
    ("v1.10", "v1.1"),
    ("a", "aa"),
    ("X", "Y"),
    ("0.1", "0.01"),
    ("10", "100"),
    ("1e1", "1e2"),
    ("-", "--x"),
    ("2024-01-02", "2024-01-20"),
    ("nan", "inf"),
    ("ab", "a/b"),
)


@pytest.mark.parametrize(("names", "why"), SAME)
def test_names_that_are_one(names, why):
    assert near_equal(names) == [(list(names), [why])]


@pytest.mark.parametrize("names", DIFFERENT)
def test_names_that_differ(names):
    assert near_equal(names) == []


def test_several_differences_at_once_are_named():
    ((names, why),) = near_equal(["ok", "OK ", "Ｏk"])
    assert len(names) == 3
    assert set(why) >= {"case"}


@given(st.text(max_size=12))
def test_a_plain_name_is_plain(name):
    assert plain_name(plain_name(name)) == plain_name(name)


@given(st.text(min_size=1, max_size=8), st.sampled_from([" {}", "{} ", "{}\u200b", "\ufeff{}"]))
def test_a_blank_or_an_invisible_character_never_makes_a_second_class(name, form):
    assert near_equal([name, form.format(name)])[0][1]


@pytest.mark.parametrize(
    "name", ["NA", "N/A", "None", "null", "nan", "-", "?", "unknown", "missing", "-999", " na ", "", "\u2014", "<NA>"]
)
def test_words_for_a_missing_value(name):
    assert is_missing_marker(name)


@pytest.mark.parametrize("name", ["G0", "0", "none of these", "normal", "-1", "nano", "Nancy", "no", "x", "unknowns"])
def test_other_words(name):
    assert not is_missing_marker(name)


def named(classes):
    loaded = replace(recordings(), raw=None)  # labels of a file, not words of an encoding
    return with_data(loaded, heads={"command": classes})


def test_words_of_an_encoding_are_its_own():
    loaded = with_data(recordings(), heads={"command": ("none", "b", "c", "d")})
    assert [f.verdict for f in check_names(loaded, AuditContext())] == [Verdict.PASS]


def test_the_check_counts_each_name_and_says_what_one_would_be():
    loaded = named(("ok", "ok ", "OK", "bad"))
    counts = loaded.dataset.class_counts("command")
    (finding,) = check_names(loaded, AuditContext())
    assert finding.verdict is Verdict.WARN
    assert finding.subject == "command"
    for name, n in zip(("ok", "ok ", "OK"), counts, strict=False):
        assert f"{name!r} ({n:,})" in finding.message
    assert f"{counts[:3].sum():,} positions" in finding.message
    assert {row["class"]: row["positions"] for row in finding.evidence} == {
        repr(n): int(c) for n, c in zip(("ok", "ok ", "OK"), counts, strict=False)
    }
    assert all(row["recordings"] > 0 for row in finding.evidence)


def test_categories_of_an_input_are_looked_at_too():
    loaded = recordings()
    codes = np.zeros((*loaded.dataset.continuous.shape[:2], 2), dtype=np.int64)
    codes[::2, :, 0], codes[1::2, :, 0] = 1, 2
    categories = {"categorical_channels": ("shop", "shift"), "categories": (("Köln", "Ko\u0308ln"), ("a", "b"))}
    found = check_names(with_data(loaded, categorical=codes, **categories), AuditContext())
    (finding,) = [f for f in found if f.subject == "shop/categories"]
    first, second = (int((codes[..., 0] == c).sum()) for c in (1, 2))
    assert finding.verdict is Verdict.WARN
    assert finding.kind == ""  # the classes are not in doubt
    assert f"({first:,})" in finding.message
    assert f"({second:,}) differ in Unicode form" in finding.message
    assert not [f for f in found if f.subject == "shift/categories"]


def test_a_missing_marker_is_named_with_the_option_to_set():
    findings = {f.subject: f for f in check_names(named(("NA", "b", "?", "d")), AuditContext())}
    finding = findings["command/missing marker"]
    assert finding.verdict is Verdict.WARN
    assert "data.missing: [NA, '?']" in finding.mend


def test_a_name_that_no_position_has_is_not_counted():
    loaded = named(("G0", "G00", "G2", "G3"))
    target = np.where(loaded.dataset.targets["command"] == 1, 0, loaded.dataset.targets["command"])
    (finding,) = check_names(with_data(loaded, targets={"command": target}), AuditContext())
    assert finding.verdict is Verdict.PASS


def test_commands_of_a_mill_are_clean():
    assert near_equal(["G0", "G1", "G2", "G3", "G10", "G20", "M3", "M30", "T1", "X", "x1", "-9", "9"]) == []


def test_heads_of_one_name():
    loaded = recordings()
    target = loaded.dataset.targets["command"]
    two = with_data(
        loaded, targets={"State": target, "state ": target}, heads={"State": tuple("abcd"), "state ": tuple("abcd")}
    )
    finding = {f.subject: f for f in check_names(two, AuditContext())}["heads"]
    assert finding.verdict is Verdict.WARN
    assert "'State' and 'state '" in finding.message


def test_every_step_is_tried():
    assert {why for _, why in SAME} == {step for step, _ in STEPS}
