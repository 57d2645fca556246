"""From findings to one answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.formats import listed

_SAID_AT_MOST = 4


class Answer(StrEnum):
    """What the data suffer from, the gravest first."""

    ARTEFACT = "artefact"
    UNFIT = "unfit for training"
    NAMES = "class names in doubt"
    IMBALANCE_LEARNABLE = "true imbalance, learnable"
    IMBALANCE_NO_SIGNAL = "true imbalance without signal"
    IMBALANCE = "true imbalance"
    METRIC = "the metric misleads"
    NONE = "no fault found"
    OPEN = "not fully checked"


def answers(findings: Sequence[Finding], left_out: Sequence[str] = ()) -> tuple[Answer, ...]:
    """Every answer that the findings give, the gravest first; never empty.

    ``left_out`` are the checks that did not run: without a fault the answer is then not that there is none.
    """
    given = []
    if _failed(findings, "artefact"):
        given.append(Answer.ARTEFACT)
    if _unfit(findings):
        given.append(Answer.UNFIT)
    if any(f.kind == "names" for f in findings):
        given.append(Answer.NAMES)
    if _imbalanced(findings):
        probed = [f for f in findings if f.check == "learnability" and f.rate is not None]
        if not probed:
            given.append(Answer.IMBALANCE)
        elif any(f.verdict is Verdict.PASS for f in probed):
            given.append(Answer.IMBALANCE_LEARNABLE)
        else:
            given.append(Answer.IMBALANCE_NO_SIGNAL)
    if any(f.kind == "metric" and f.verdict in (Verdict.WARN, Verdict.FAIL) for f in findings):
        given.append(Answer.METRIC)
    if given:
        return tuple(given)
    return (Answer.OPEN if left_out or _unjudged(findings) else Answer.NONE,)


def sentence(findings: Sequence[Finding], left_out: Sequence[str] = ()) -> str:
    """The answer in one to three sentences: what it is, on what evidence, and how to mend it."""
    said = {
        Answer.ARTEFACT: _artefact,
        Answer.UNFIT: lambda _, answer: f"{_capital(answer)}: {' '.join(f.message for f in _unfit(findings)[:2])}",
        Answer.NAMES: _class_names,
        Answer.IMBALANCE_LEARNABLE: _imbalance,
        Answer.IMBALANCE_NO_SIGNAL: _imbalance,
        Answer.IMBALANCE: _imbalance,
        Answer.METRIC: _metric,
        Answer.NONE: lambda _, answer: f"{_capital(answer)}: every check ran, and none failed{_warned(findings)}.",
        Answer.OPEN: lambda _, answer: (
            f"{_capital(answer)}: none of the checks that ran failed{_warned(findings)}, but "
            f"{_what_is_open(findings, left_out)}."
        ),
    }
    given = answers(findings, left_out)
    text = " ".join(said[answer](findings, answer) for answer in given)
    if left_out and Answer.OPEN not in given:
        text += f" Checks that did not run: {listed(left_out, 12)}."
    return text


def _unfit(findings: Sequence[Finding]) -> list[Finding]:
    """Failures that are neither an artefact nor the metric's."""
    return [f for f in findings if f.verdict is Verdict.FAIL and f.kind not in ("artefact", "metric")]


def _unjudged(findings: Sequence[Finding]) -> list[Finding]:
    return [f for f in findings if f.verdict is Verdict.INSUFFICIENT]


def _what_is_open(findings: Sequence[Finding], left_out: Sequence[str]) -> str:
    """Which checks did not run, and what others could not judge."""
    parts = [f"{listed(left_out, 12)} did not run"] if left_out else []
    unjudged = list(dict.fromkeys(_about(f) for f in _unjudged(findings)))
    if unjudged:
        parts.append(f"{listed(unjudged, 6)} could not be judged")
    return " and ".join(parts)


def _warned(findings: Sequence[Finding]) -> str:
    warned = list(dict.fromkeys(_about(f) for f in findings if f.verdict is Verdict.WARN))
    return f" (warned of: {listed(warned, 6)})" if warned else ""


def _about(finding: Finding) -> str:
    return f"{finding.check} ({finding.subject})" if finding.subject else finding.check


def _class_names(findings: Sequence[Finding], answer: Answer) -> str:
    doubted = [f for f in findings if f.kind == "names"]
    more = f" And {len(doubted) - 2} more." if len(doubted) > 2 else ""
    return f"{_capital(answer)}: {' '.join(f.message for f in doubted[:2])}{more}"


def _failed(findings: Sequence[Finding], kind: str) -> list[Finding]:
    return [f for f in findings if f.kind == kind and f.verdict is Verdict.FAIL]


def _imbalanced(findings: Sequence[Finding]) -> list[Finding]:
    """Imbalanced heads whose counts are to be believed: none of their classes is a filler."""
    filled = {f.subject.split("/")[0] for f in _failed(findings, "artefact") if f.check == "placeholder"}
    return [f for f in findings if f.kind == "imbalance" and f.subject not in filled]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _artefact(findings: Sequence[Finding], answer: Answer) -> str:
    causes = sorted(_failed(findings, "artefact"), key=_gravity)
    first = causes[0]
    also = sorted({f"{f.check} ({f.subject})" for f in causes[1:]})
    rest = f" Also: {listed(also, 6)}." if also else ""
    warned = [f for f in findings if f.kind == "artefact" and f.verdict is Verdict.WARN]
    if warned:
        rest += f" Warned of: {', '.join(sorted({f'{f.check} ({f.subject})' for f in warned})[:6])}."
    return f"{_capital(answer)}: {first.message} Mend it: {first.mend}.{rest}"


def _gravity(finding: Finding) -> tuple[int, int]:
    """What makes labels wrong comes before what makes scores wrong; then what touches more positions."""
    order = ("placeholder", "vocabulary", "frequencies", "split leakage", "input leakage")
    rank = order.index(finding.check) if finding.check in order else len(order)
    return rank, -int((finding.n or 0) * (finding.rate or 0.0))


def _imbalance(findings: Sequence[Finding], answer: Answer) -> str:
    heads = _imbalanced(findings)
    probed = [f for f in findings if f.check == "learnability" and f.rate is not None]
    signal = [f.subject for f in probed if f.verdict is Verdict.PASS]
    silent = [f.subject for f in probed if f.verdict is not Verdict.PASS]
    text = f"{_capital(answer)}: " + " ".join(f.message for f in heads[:_SAID_AT_MOST])
    if signal:
        text += f" A probe finds signal for {listed(signal, 12)}."
    if silent:
        text += f" It finds none for {listed(silent, 12)}: no strategy can help these with the present inputs."
    if not probed:
        text += " Whether the classes can be learned was not measured."
    return text


def _metric(findings: Sequence[Finding], answer: Answer) -> str:
    causes = [f for f in findings if f.kind == "metric" and f.verdict in (Verdict.WARN, Verdict.FAIL)]
    return f"{_capital(answer)}: " + " ".join(f.message for f in causes[:2])
