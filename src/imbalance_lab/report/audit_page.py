"""The page of an audit: the sentence on top, every check with its verdict, evidence behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.formats import percent, plural, share
from imbalance_lab.report.images import figure_view
from imbalance_lab.report.page import Block, Cell, Column, Note, Number, Page, Section, TableView, Text
from imbalance_lab.report.tables import table_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SEVERITY = (Verdict.FAIL, Verdict.WARN, Verdict.INSUFFICIENT, Verdict.PASS, Verdict.NOT_APPLICABLE)
_TONES = {Verdict.FAIL: "bad", Verdict.WARN: "open", Verdict.PASS: "good"}


def render_audit_page(
    findings: Sequence[Finding],
    *,
    title: str,
    sentence: str,
    lead: Figure | None = None,
    figures: Mapping[str, Figure] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    facts: Mapping[str, object] | None = None,
) -> Page:
    """Put an audit's findings into a page.

    Parameters
    ----------
    findings : in the order of the checks
    title : which data were audited
    sentence : the overall verdict in words
    lead : the figure of the first screen
    figures, tables : further ones by name; a figure or table named after a check (or whose name
        starts with it) stands under that check
    facts : small print (digest, rows, thresholds)
    """
    worst = next((v for v in _SEVERITY if any(f.verdict == v for f in findings)), Verdict.NOT_APPLICABLE)
    checks = sorted(dict.fromkeys(f.check for f in findings), key=lambda c: _rank(findings, c))
    figures, tables = dict(figures or {}), dict(tables or {})
    sections = []
    for check in checks:
        own = sorted((f for f in findings if f.check == check), key=lambda f: _SEVERITY.index(f.verdict))
        blocks: list[Block] = [b for f in own for b in _finding(f)]
        blocks += [figure_view(n, figures.pop(n)) for n in list(figures) if _belongs(n, check)]
        blocks += [table_view(tables.pop(n), _words(n), most=20) for n in list(tables) if _belongs(n, check)]
        sections.append(Section(f"{_words(check)}: {own[0].verdict}", tuple(blocks)))
    rest: list[Block] = [figure_view(n, f) for n, f in figures.items()]
    rest += [table_view(t, _words(n), most=20) for n, t in tables.items()]
    top = [Section("All findings, worst first", (_table(findings),))]
    if rest:
        top.append(Section("The data", tuple(rest)))
    return Page(
        title=title,
        verdict=sentence,
        numbers=tuple(_numbers(findings)),
        figure=None if lead is None else figure_view("audit", lead),
        sections=(*top, Section("Check by check", (), tuple(sections))),
        facts=tuple((str(k), str(v)) for k, v in (facts or {}).items()),
        tone=_TONES.get(worst, "open"),
    )


def _rank(findings: Sequence[Finding], check: str) -> int:
    return min(_SEVERITY.index(f.verdict) for f in findings if f.check == check)


def _belongs(name: str, check: str) -> bool:
    stem = check.replace(" ", "_")
    return name.replace(" ", "_") == stem or name.replace(" ", "_").startswith(f"{stem}_")


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _numbers(findings: Sequence[Finding]) -> list[Number]:
    """How many findings failed and warned, and the three failures (then warnings) with the largest rate."""
    failed = [f for f in findings if f.verdict == Verdict.FAIL]
    warned = [f for f in findings if f.verdict == Verdict.WARN]
    out = [
        Number(str(len(failed)), "failed", _among(failed)),
        Number(str(len(warned)), "warned", _among(warned)),
    ]
    rated = [f for f in (*failed, *warned) if f.rate is not None and 0 <= f.rate <= 1]
    chosen: dict[str, Finding] = {}
    for f in sorted(rated, key=lambda f: (_SEVERITY.index(f.verdict), -(f.rate or 0))):
        chosen.setdefault(f.check, f)
    for f in list(chosen.values())[:3]:
        out.append(Number(percent(f.rate or 0.0, 1), _subject(f), _support(f)))
    return out


def _among(findings: Sequence[Finding]) -> str:
    checks = len({f.check for f in findings})
    return f"in {plural(checks, 'check')}" if findings else ""


def _subject(f: Finding) -> str:
    return f"{_words(f.check)}: {f.subject}" if f.subject else _words(f.check)


def _support(f: Finding) -> str:
    parts = []
    if f.interval is not None:
        parts.append(f"95 % interval {percent(f.interval[0], 1)} to {percent(f.interval[1], 1)}")
    if f.n is not None:
        parts.append(f"n = {f.n:,}")
    if f.threshold is not None:
        parts.append(f"threshold {f.threshold:g}")
    return ", ".join(parts)


def _finding(f: Finding) -> list[Block]:
    mark = str(f.verdict).capitalize()
    head = f"{mark} — {f.subject}: {f.message}" if f.subject else f"{mark} — {f.message}"
    blocks: list[Block] = [Text(head)]
    if f.mend:
        blocks.append(Text(f"What to do: {f.mend}"))
    if f.evidence or _support(f):
        frame = pd.DataFrame([dict(row) for row in f.evidence])
        tables = (table_view(frame, f"Evidence: {f.subject or _words(f.check)}", most=50),) if len(frame) else ()
        text = _support(f)
        about = plural(len(frame), "row") if len(frame) else "numbers"
        blocks.append(Note(f"Evidence ({about})", text[:1].upper() + text[1:], tables))
    return blocks


def _table(findings: Sequence[Finding]) -> TableView:
    ordered = sorted(findings, key=lambda f: _SEVERITY.index(f.verdict))
    rows = []
    for f in ordered:
        is_share = f.rate is not None and 0 <= f.rate <= 1
        if f.rate is None:
            rate = Cell("", None)
        else:
            low_high = "" if f.interval is None else f"{share(f.interval[0])} to {share(f.interval[1])}"
            text = share(f.rate) if is_share else f"{f.rate:,.3g}"
            rate = Cell(text, f.rate, f.rate if is_share else None, low_high)
        rows.append(
            (
                Cell(_words(f.check), f.check),
                Cell(str(f.verdict), float(_SEVERITY.index(f.verdict)), tone=str(f.verdict)),
                Cell(f.subject, f.subject),
                Cell(f.message, None),
                rate,
                Cell("" if f.n is None else f"{f.n:,}", f.n),
                Cell("" if f.threshold is None else f"{f.threshold:g}", f.threshold),
            )
        )
    columns = (
        Column("check"),
        Column("verdict"),
        Column("about"),
        Column("what was found"),
        Column("rate", True, "the measured rate with its 95 % interval"),
        Column("n", True, "denominator of the rate"),
        Column("threshold", True, "the value that the rate was held against"),
    )
    return TableView("Findings", columns, tuple(rows))
