"""Keys of names: injective for any text, and never a path."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imbalance_lab.names import MOST_BYTES, check_name, key, name_of

ANY = st.text(st.characters(codec=None, categories=None), max_size=40)


FINE = ("G0", "focal-2", "inverse sqrt", "always-G1", "a_b", "1.5", "Störung", "正常", "_", "x_")
WRITTEN_OUT = {
    "": "_x_",
    ".": "_x2e_",
    "..": "_x2e__x2e_",
    "/x": "_x2f_x",
    "../up": "_x2e_._x2f_up",
    "a:b": "a_x3a_b",
    "a_x3a_b": "a_x5f_x3a_b",
    "Churn?": "Churn_x3f_",
    " ok": "_x20_ok",
    "ok ": "ok_x20_",
    "\ud800": "_xd800_",
}
NO_NAMES = ("", " ", "../../x", "a/b", "a\\b", ".", "..", ".hidden", "x\n", "x" * 101, "a,b", "-rf", "a:b", "ok ")


@pytest.mark.parametrize("name", FINE)
def test_names_that_are_fine_stay(name):
    assert key(name) == name


@pytest.mark.parametrize(("name", "expected"), WRITTEN_OUT.items())
def test_others_are_written_out(name, expected):
    assert key(name) == expected
    assert name_of(expected) == name


@settings(max_examples=1500, deadline=None)
@given(ANY)
@example("_x3a_")
@example("a_x3:")
@example("_x_")
@example("_xh00000000000000000000")
@example("__x")
@example("a  b")
def test_a_key_can_be_read_back_and_is_no_path(name):
    written = key(name)
    assert name_of(written) in (name, None)
    if name_of(written) is None:
        assert len(written.encode()) == MOST_BYTES or len(key(name)) < MOST_BYTES
    assert 1 <= len(written.encode()) <= MOST_BYTES
    assert written not in (".", "..")
    assert len(PurePosixPath(written).parts) == 1
    assert not PurePosixPath(written).is_absolute()
    assert not PureWindowsPath(written).drive
    assert len(PureWindowsPath(written).parts) == 1


@settings(max_examples=1500, deadline=None)
@given(ANY, ANY)
def test_two_names_have_two_keys(a, b):
    assert (key(a) == key(b)) == (a == b)


def test_long_names_that_differ_at_their_end_differ():
    assert len({key("x" * 300 + str(i)) for i in range(1000)}) == 1000
    assert len({key("正" * 300 + str(i)) for i in range(1000)}) == 1000


@pytest.mark.parametrize("name", ["focal-2", "LDAM + DRW", "tau = .5", "Ü"])
def test_names_of_strategies(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "../../x", "a/b", "a\\b", ".", "..", ".hidden", "x\n", "x" * 101, "a,b", "-rf", "a:b", "ok "]
)
def test_names_that_choose_no_folder(name):
    with pytest.raises(ValueError, match=r"."):
        check_name(name)
