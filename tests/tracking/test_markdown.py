"""Names from somebody's data in the Markdown of MLflow's notes."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance_lab.report.markdown import code, escaped

_MARKS = r"*[]<>|\\~`"


@pytest.mark.parametrize("text", ["macro_f1 is 0.5 (seed 1)", "logit-adjusted: better by 0.2!", "G1", ""])
def test_usual_words_stay(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "![x](http://evil/p.png)", "<img src=x onerror=y>", "a|b", "**b**", "_b_", "`c`", "# h", "- i", "1. i", "12) i",
        "https://evil.example", "www.evil.example", "me@evil.example", "&lt;b&gt;", "~~s~~",
    ],
)  # fmt: skip
def test_no_text_becomes_a_mark(text: str) -> None:
    written = escaped(text)
    assert html.unescape(written) == text
    assert not set(written) & set(_MARKS)
    assert not re.search(r"://|www\.|\w@\w|^(?:#|[-+] |\d+[.)])|(?<!\w)_|_(?!\w)", written)
    assert "&" not in written.replace("&#", "")


@given(st.text(alphabet=st.sampled_from("ab `*_<&;#1.|\n"), max_size=12))
def test_what_is_shown_is_the_text(text: str) -> None:
    line = " ".join(text.split())
    assert html.unescape(escaped(text)) == line
    span = code(text)
    fence = re.match("`+", span)
    assert fence is not None
    inner = span[len(fence[0]) : -len(fence[0])]
    assert span.endswith(fence[0])
    assert fence[0] not in re.findall("`+", inner.strip(" "))
    assert inner.strip(" ") == line
