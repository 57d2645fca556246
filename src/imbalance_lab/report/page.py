"""The parts of a page, and their rendering into one self-contained HTML file.

A page is plain frozen values; the template knows how each part looks. No part may hold HTML:
everything is escaped on the way out.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from imbalance_lab.errors import InputError
from imbalance_lab.report.images import FigureView, data_uri, fit

BUDGET = 4_900_000
"""Bytes that a page may have; a page must stay below 5 MB to be opened and mailed everywhere."""


@dataclass(frozen=True)
class Number:
    """One of the at most five numbers of the first screen; ``note`` gives interval and n."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One table cell.

    ``text`` is what is shown, ``sort`` what the column is sorted by (None sorts last), ``bar`` a
    share in [0, 1] drawn as a thin bar, ``detail`` the interval, ``href`` a relative link, and
    ``tone`` a verdict (``fail``, ``warn``, ``pass``, ...) that gives the cell a mark.
    """

    text: str
    sort: float | str | None = None
    bar: float | None = None
    detail: str = ""
    href: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Column:
    """A column's header; numbers are right-aligned; ``hint`` explains the header."""

    header: str
    number: bool = False
    hint: str = ""


@dataclass(frozen=True)
class TableView:
    """A table; the first column names the row. ``more`` rows were left out of the page."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: int = 0
    where: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Text:
    """A paragraph; ``tone`` is "" or ``insufficient``/``absent`` for what could not be computed."""

    text: str
    tone: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Note:
    """ "How this was computed" behind a disclosure triangle: text, then tables."""

    summary: str
    text: str = ""
    tables: tuple[TableView, ...] = ()
    kind: str = "note"


@dataclass(frozen=True)
class Card:
    """A recommendation: what was seen, what to do, what it should change, the command that tests it.

    ``issue`` is ``seen`` without the support of its numbers. A ``folded`` one shows what was seen, the rest behind a
    disclosure triangle.
    """

    priority: str
    title: str
    seen: str
    action: str
    effect: str = ""
    command: str = ""
    category: str = ""
    note: Note | None = None
    issue: str = ""
    folded: bool = False
    kind: str = "card"


@dataclass(frozen=True)
class Links:
    """A list of (text, relative address)."""

    items: tuple[tuple[str, str], ...]
    kind: str = "links"


Block = TableView | Text | Note | Card | Links | FigureView


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; ``sections`` are one level deeper.

    What stands under a ``folded`` one is opened by its heading; in print it is open.
    """

    title: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole page. ``tone`` (``good``, ``bad``, ``open``) goes with the verdict, never instead of words.

    ``advice`` are the most urgent cards, named in short on the first screen; ``advice_at`` is the title of the section
    that holds them whole.
    """

    title: str
    verdict: str
    numbers: tuple[Number, ...] = ()
    figure: FigureView | None = None
    advice: tuple[Card, ...] = ()
    advice_at: str = ""
    sections: tuple[Section, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tone: str = "open"

    def __post_init__(self) -> None:
        if len(self.numbers) > 5:
            raise InputError(f"a page opens with at most 5 numbers, found {len(self.numbers)}")


def render(page: Page, *, budget: int = BUDGET) -> str:
    """The page as one HTML document without any outside reference.

    Pictures are stored in the cheapest form that keeps the page under ``budget`` bytes; where
    even that is too much, the last figures are replaced by a sentence that says so.

    Raises
    ------
    InputError
        If the text and tables alone exceed ``budget``.
    """
    figures = list(_figures(page))
    ids = anchors(page)
    shared = {"page": page, "toc": _toc(page, ids), "anchor": lambda *titles: ids[titles], **_script()}
    template = _template()
    bare = len(template.render(**shared, source=lambda _: "").encode())
    room = budget - bare
    if room < 0:
        raise InputError(f"the page's text takes {bare:,} bytes, more than the {budget:,} allowed")
    stored = dict(zip([id(f) for f in figures], fit([f.png for f in figures], room), strict=True))

    def source(figure: FigureView) -> str:
        picture = stored[id(figure)]
        return data_uri(picture) if picture else ""

    return template.render(**shared, source=source)


def write(page: Page, path: Path, *, budget: int = BUDGET) -> Path:
    """Render the page into ``path`` (UTF-8) and return it; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(page, budget=budget), encoding="utf-8")
    return path


def anchor(*titles: str) -> str:
    """The id of a heading: letters, digits and hyphens, stable for equal titles."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", t.lower()).strip("-") or "part" for t in titles)


_TAKEN = ("content",)  # ids of the template


def anchors(page: Page) -> dict[tuple[str, ...], str]:
    """Titles of each heading to its id; those that :func:`anchor` cannot tell apart get a hash of their titles."""
    headings = list(dict.fromkeys(path for s in page.sections for path in _paths(s)))
    count = Counter([*_TAKEN, *(anchor(*path) for path in headings)])
    return {path: anchor(*path) if count[anchor(*path)] == 1 else _hashed(path) for path in headings}


def _paths(section: Section) -> list[tuple[str, ...]]:
    return [(section.title,), *((section.title, inner.title) for inner in section.sections)]


def _hashed(path: tuple[str, ...]) -> str:
    return f"{anchor(*path)}-x{sha256(json.dumps(path).encode()).hexdigest()[:20]}"


def _figures(page: Page) -> Iterator[FigureView]:
    if page.figure is not None:
        yield page.figure
    stack: list[Section] = list(reversed(page.sections))
    while stack:
        section = stack.pop()
        yield from (block for block in section.blocks if isinstance(block, FigureView))
        stack.extend(reversed(section.sections))


def _toc(page: Page, ids: Mapping[tuple[str, ...], str]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    return [(s.title, ids[(s.title,)], [(t.title, ids[s.title, t.title]) for t in s.sections]) for s in page.sections]


@cache
def _script() -> dict[str, Any]:
    """The script of a page, and the policy by which a browser runs no other and fetches nothing.

    Styles are inline: the length of a cell's bar is one.
    """
    from markupsafe import Markup

    script = Path(__file__).with_name("templates").joinpath("page.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return {"script": Markup(script), "policy": policy}


@cache  # compiling it takes as long as filling it
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("imbalance_lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return env.get_template("page.html")


def link_list(pairs: Sequence[tuple[str, str]]) -> Links:
    """Links to files of the same run or to its children; only relative or http(s) addresses pass.

    Raises
    ------
    InputError
        If an address has another scheme, such as ``javascript:``.
    """
    for _, href in pairs:
        check_href(href)
    return Links(tuple(pairs))


def facts_of(facts: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Small print of a page: names with spaces, values in words; what is empty is left out."""
    return tuple((str(k).replace("_", " "), text) for k, v in facts.items() if (text := _plain(v)))


def _plain(value: object) -> str:
    """A fact in words: lists and counts without brackets and quotes, "" for none."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_nested(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_nested(v) for v in value)
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _nested(value: object) -> str:
    return f"({_plain(value)})" if isinstance(value, (Mapping, list, tuple)) else _plain(value)


def check_href(href: str) -> str:
    """Return ``href`` if it is relative or http(s); anything else raises InputError."""
    scheme = re.match(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*):", href)
    if scheme and scheme.group(1).lower() not in ("http", "https"):
        raise InputError(f"link {href!r} has the scheme {scheme.group(1)!r}, allowed are relative, http and https")
    return href
