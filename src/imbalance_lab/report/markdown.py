"""Text from somebody's data in the Markdown of MLflow's notes: it is shown as it is, and becomes no mark-up.

What would be mark-up is written as a character reference, which no Markdown reader takes for mark-up.
"""

from __future__ import annotations

import re

_MARKS = re.compile(
    r"[\\`*<>\[\]|~&]"  # emphasis, code, HTML, links, tables, references
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is no emphasis
    r"|(?<=:)/(?=/)|(?<=\bwww)\.|(?<=\w)@(?=\w)"  # addresses that become links by themselves
    r"|\A[#+=-]|(?<=\A\d)[.)]|(?<=\A\d\d)[.)]",  # headings, lists
    re.IGNORECASE,
)


def escaped(text: str) -> str:
    """``text`` in one line that Markdown shows character by character."""
    return _MARKS.sub(lambda mark: f"&#{ord(mark[0])};", " ".join(text.split()))


def code(text: str) -> str:
    """``text`` in one line as a code span, whatever backticks it holds."""
    line = " ".join(text.split())
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    space = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{space}{line}{space}{fence}"
