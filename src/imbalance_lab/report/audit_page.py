"""The page of an audit: the sentence on top, every check with its verdict, evidence behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from imbalance_lab.analysis.record import Table
from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.formats import percent, plural, share
from imbalance_lab.report.assemble import Layout, Results, sections_of
from imbalance_lab.report.images import figure_view
from imbalance_lab.report.page import Block, Card, Cell, Column, Note, Number, Page, Section, TableView, Text, facts_of
from imbalance_lab.report.page_tables import table_view
from imbalance_lab.report.recommendation_cards import OPEN_CARDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SEVERITY = (Verdict.FAIL, Verdict.WARN, Verdict.INSUFFICIENT, Verdict.PASS, Verdict.NOT_APPLICABLE)
_FINE = (Verdict.PASS, Verdict.NOT_APPLICABLE)
_DATA = "data"
_ALL = "All findings, worst first"
_ALIKE = 3  # findings of a check that ask for the same: more of them are a table
_MEASURES = {
    "frequencies": "share of the rarest class",
    "splits": "classes that a split lacks",
    "learnability": "ROC AUC of the probe",
    "power": "difference in recall that test can show",
    "label noise": "suspected labels of a class",
    "metric traps": "score of a constant answer",
    "input leakage": "label told by one input",
    "placeholder": "fillers among a class",
}  # what the rate of a check is
_NO_SHARES = ("learnability", "power")  # checks whose rate is no share of anything
_TONES = {Verdict.FAIL: "bad", Verdict.WARN: "open", Verdict.PASS: "good"}


def render_audit_page(
    findings: Sequence[Finding],
    *,
    title: str,
    sentence: str,
    lead: Figure | None = None,
    figures: Mapping[str, Figure] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    notes: Sequence[str] = (),
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
    notes : sentences on the data, beside the findings
    facts : small print (digest, rows, thresholds)
    """
    worst = next((v for v in _SEVERITY if any(f.verdict == v for f in findings)), Verdict.NOT_APPLICABLE)
    checks = sorted(dict.fromkeys(f.check for f in findings), key=lambda c: _rank(findings, c))
    headings, blocks = {}, {}
    for check in checks:
        own = sorted((f for f in findings if f.check == check), key=lambda f: _SEVERITY.index(f.verdict))
        headings[_key(check)] = f"{_words(check)}: {own[0].verdict}"
        blocks[_key(check)] = _check(own)
    layout = Layout(
        {**headings, _DATA: "The data"},
        {key: Table(key, "", key, _words(key), ()) for key in headings},
        {key: key for key in headings},
        folded=frozenset(_key(c) for c in checks if all(f.verdict in _FINE for f in findings if f.check == c)),
    )
    results = Results(
        {_key(name): table for name, table in (tables or {}).items()},
        {_key(name): figure for name, figure in (figures or {}).items()},
    )
    sections = sections_of(layout, results, first=blocks)
    data = [section for section in sections if section.title == layout.sections[_DATA]]
    inner = tuple(section for section in sections if section not in data)
    return Page(
        title=title,
        verdict=sentence,
        numbers=tuple(_numbers(findings)),
        figure=None if lead is None else figure_view("audit", lead),
        advice=_advice(findings),
        advice_at=_ALL,
        sections=(
            Section(_ALL, (*(Text(note) for note in notes), *_overview(findings))),
            *data,
            Section("Check by check", (), inner),
        ),
        facts=facts_of(facts or {}),
        tone=_TONES.get(worst, "open"),
    )


def _rank(findings: Sequence[Finding], check: str) -> int:
    return min(_SEVERITY.index(f.verdict) for f in findings if f.check == check)


def _key(name: str) -> str:
    return name.replace(" ", "_")


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
        about = _MEASURES.get(f.check, _words(f.check))
        out.append(Number(_rate(f, f.rate or 0.0), f"{about}: {f.subject}" if f.subject else about, _support(f)))
    return out


def _rate(f: Finding, value: float) -> str:
    return share(value) if f.check in _NO_SHARES else percent(value, 1)


def _among(findings: Sequence[Finding]) -> str:
    checks = len({f.check for f in findings})
    return f"in {plural(checks, 'check')}" if findings else ""


def _subject(f: Finding) -> str:
    return f"{_words(f.check)}: {f.subject}" if f.subject else _words(f.check)


def _support(f: Finding) -> str:
    parts = []
    if f.interval is not None:
        parts.append(f"95 % interval {_rate(f, f.interval[0])} to {_rate(f, f.interval[1])}")
    if f.n is not None:
        parts.append(f"n = {f.n:,}")
    if f.threshold is not None:
        parts.append(f"threshold {f.threshold:g}")
    return ", ".join(parts)


def _advice(findings: Sequence[Finding]) -> tuple[Card, ...]:
    """What to do first: the worst findings; those of a check that ask for the same are one."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for f in _worst_first(findings):
        if f.mend and f.verdict not in _FINE:
            alike.setdefault((f.check, f.mend), []).append(f)
    cards = []
    for (_, mend), own in list(alike.items())[:OPEN_CARDS]:
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        action = f"{mend[:1].upper()}{mend[1:].rstrip('.')}."
        cards.append(Card(str(own[0].verdict), _subject(own[0]) + more, "", action, issue=_message(own[0])))
    return tuple(cards)


def _worst_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: _SEVERITY.index(f.verdict))


def _message(f: Finding) -> str:
    """The message without the subject that it begins with, which stands before it."""
    text = f.message.removeprefix(f"{f.subject}: ") if f.subject else f.message
    return text[:1].upper() + text[1:]


def _check(findings: Sequence[Finding]) -> list[Block]:
    """One check's findings, the worst first; those that passed beside others that did not stand behind a triangle."""
    fine = [f for f in findings if f.verdict in _FINE]
    open_ones = [f for f in findings if f not in fine] or fine
    blocks: list[Block] = []
    for own in _alike(open_ones):
        if len(own) > _ALIKE and all(len(f.evidence) == 1 for f in own):
            blocks += _several(own)
            continue
        for f in own:
            blocks += _finding(f, mend=f.mend if f is own[-1] else "")
    if open_ones is not fine and fine:
        blocks.append(_passed(fine, *(t for f in fine for t in _proof(f))))
    return blocks


def _alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that ask for the same, together, in the order of the first of each."""
    groups: dict[tuple[str, Verdict, str], list[Finding]] = {}
    for f in findings:
        groups.setdefault((f.check, f.verdict, f.mend), []).append(f)
    return list(groups.values())


def _several(findings: Sequence[Finding]) -> list[Block]:
    """Many findings of one kind: the first in words, the evidence of all as one table."""
    first = findings[0]
    frame = pd.DataFrame([dict(f.evidence[0]) for f in findings])
    mark = str(first.verdict).capitalize()
    blocks: list[Block] = [
        Text(f"{mark} — {plural(len(findings), 'finding')}. {first.subject}: {_message(first)}"),
        table_view(frame, "The evidence of each", most=20),
    ]
    return [*blocks, Text(f"What to do: {first.mend}")] if first.mend else blocks


def _passed(findings: Sequence[Finding], *more: TableView) -> Note:
    other = any(f.verdict == Verdict.NOT_APPLICABLE for f in findings)
    about = f"{plural(len(findings), 'finding')} that passed{' or do not apply' if other else ''}"
    return Note(about, "", (_table(findings), *more))


def _proof(f: Finding) -> tuple[TableView, ...]:
    """The rows that prove a finding."""
    frame = pd.DataFrame([dict(row) for row in f.evidence])
    return (table_view(frame, f"Evidence: {f.subject or _words(f.check)}", most=50),) if len(frame) else ()


def _finding(f: Finding, *, mend: str) -> list[Block]:
    mark = str(f.verdict).capitalize()
    head = f"{mark} — {f.subject}: {_message(f)}" if f.subject else f"{mark} — {f.message}"
    blocks: list[Block] = [Text(head)]
    if f.evidence or _support(f):
        text = _support(f)
        about = plural(len(f.evidence), "row") if f.evidence else "numbers"
        blocks.append(Note(f"Evidence ({about})", text[:1].upper() + text[1:], _proof(f)))
    if mend:
        blocks.append(Text(f"What to do: {mend}"))
    return blocks


def _overview(findings: Sequence[Finding]) -> list[Block]:
    """All findings in tables; those that passed stand behind a triangle."""
    fine = [f for f in findings if f.verdict in _FINE]
    open_ones = [f for f in findings if f.verdict not in _FINE]
    shown = [f for own in _alike(open_ones) for f in own[:_ALIKE]]
    rest = [f for f in open_ones if f not in shown]
    blocks: list[Block] = [_table(shown)] if open_ones else [Text("No check failed or warns.")]
    if rest:
        blocks.append(Note(f"{plural(len(rest), 'more finding')} of the same kinds", "", (_table(rest),)))
    if fine:
        blocks.append(_passed(fine))
    return blocks


def _table(findings: Sequence[Finding]) -> TableView:
    ordered = _worst_first(findings)
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
                Cell(_message(f), None),
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
