"""Shares as text: never 0 or 100 % unless they are that."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance_lab.formats import listed, number, percent, share

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (-0.0004, 3, "-0.0004"),
        (0.00004, 3, "0.00004"),
        (-1e-9, 3, "0.000"),
        (-0.04, 1, "-0.04"),
        (1234.5678, 2, "1,234.57"),
        (0.0, 2, "0.00"),
        (-0.0, 0, "0"),
    ],
)
def test_numbers_read_zero_only_where_they_are(value, digits, text):
    assert number(value, digits) == text


@pytest.mark.parametrize(
    ("rate", "digits", "text"),
    [
        (0.99996, None, "99.996 %"),
        (0.99996, 1, "99.996 %"),
        (0.99996, 2, "99.996 %"),
        (0.00004, 2, "0.004 %"),
        (0.00004, None, "<0.1 %"),
        (0.9996, 0, "99.96 %"),
        (0.999, 0, "99.9 %"),
        (0.9995, 1, "99.95 %"),
        (0.01, 0, "1 %"),
        (0.5, 2, "50.00 %"),
        (1.0, 1, "100.0 %"),
        (0.0, 2, "0.00 %"),
        (1 - 1e-16, 0, "100 %"),
        (1e-8, 1, "<0.0001 %"),
        (1 - 1e-8, 1, ">99.9999 %"),
        (-0.00004, 1, "-0.004 %"),
        (2.5, 0, "250 %"),
        (float("nan"), 1, "n/a"),
    ],
)
def test_percent(rate, digits, text):
    assert percent(rate, digits) == text


@given(st.floats(0, 1), st.sampled_from([None, 0, 1, 2, 3]))
def test_a_percentage_is_0_or_100_only_where_the_share_is(rate, digits):
    text = percent(rate, digits)
    number = float(re.sub(r"[<> %]", "", text))
    if 1e-11 < rate < 1 - 1e-11:
        assert 0 < number < 100
    if not text.startswith(("<", ">")):
        assert abs(number - 100 * rate) <= 0.5001 * 10.0 ** -(0 if digits is None else digits)


@given(st.floats(1e-7, 1 - 1e-7))
def test_a_share_is_0_or_1_only_where_it_is(rate):
    assert 0 < float(share(rate)) < 1
    assert abs(float(share(rate)) - rate) <= 0.0005001


def test_shares_are_written_by_one_function():
    """No other place of the package turns a share into a percentage."""
    other = re.compile(r":[,+]?\.\d%|100 \* [^{}]*:\.\d+f\} ?%")
    files = [f for folder in ("src/imbalance_lab", "mlflow_project") for f in (ROOT / folder).rglob("*.py")]
    assert [str(f) for f in files if other.search(f.read_text(encoding="utf-8"))] == []


def test_percent_takes_numpy():
    assert percent(np.float32(0.25), 1) == "25.0 %"


def test_a_list_has_as_many_names_as_fit():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(i) for i in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    long = [f"{i} {'x' * 100}" for i in range(40)]
    assert listed(long) == f"{long[0]}, {long[1]} and 38 more"
    assert listed([300 * "y", "z"]) == f"{300 * 'y'} and 1 more"
    assert listed([]) == ""
