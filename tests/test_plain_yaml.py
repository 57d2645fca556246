"""YAML that says one thing, and is refused in a moment where it would say another or grow."""

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imbalance_lab.errors import InputError
from imbalance_lab.plain_yaml import read_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_what_a_plain_value_is_written_as_is_read_as_it(value):
    assert read_yaml(yaml.safe_dump(value), "f") == yaml.safe_load(yaml.safe_dump(value)) == value


@given(st.text())
def test_any_text_is_read_as_pyyaml_does_or_refused_in_one_sentence(text):
    try:
        found = read_yaml(text, "f.yaml")
    except InputError:
        return  # any other exception fails the test
    assert found == yaml.safe_load(text)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds: [0]\nseeds: [1]\n", "line 2: found key 'seeds' twice (first in line 1)"),
        ("a: {b: 1, 'b': 2}", "found key 'b' twice"),
        ("1: a\n'1': b\n", "found key '1' twice"),
        ("a: [.nan]", "found '.nan'; numbers must be finite"),
        ("a: -.INF", "found '-.INF'; numbers must be finite"),
        ("a: 1.0e+999", "numbers must be finite"),
        ("[1, 2]: a", "found a key that is a list or a mapping"),
        ("a: &x [*x]", "holds itself"),
        (BOMB, "with the aliases written out"),
        ("[" * 1000 + "]" * 1000, "more than 40 levels"),
        ("- " * 1000 + "a", "more than 40 levels"),
        ("a: " + "x" * 2_000_000, "allowed are at most 1,000,000"),
        ("a: !!python/object/apply:os.system [x]", "not valid YAML"),
        ("a: 2026-13-45", "not valid YAML"),
        ("a: [", "line 1: not valid YAML"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_line(text, said):
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        read_yaml(text, "f.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("f.yaml")
    assert "\n" not in str(caught.value).replace(text, "")
    assert time.process_time() - begun < 2
