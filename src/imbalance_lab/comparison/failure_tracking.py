"""Which known failure modes of an earlier report are gone, remain, or are new."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from imbalance_lab.analysis.recommendations import MAX_EVIDENCE
from imbalance_lab.errors import InputError

SECTIONS = ("findings", "recommendations")
COLUMNS = (
    "section",
    "head",
    "category",
    "rule",
    "subject",
    "status",
    "before",
    "after",
    "priority_before",
    "priority_after",
)

_NUMBER = re.compile(r"(?<![A-Za-z_\d])[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?:\s?%)?(?![A-Za-z_\d])")
_SUBJECTS = (("true", "pred"), ("class",), ("slice",), ("along",))
"""Columns of a recommendation's evidence that name what it is about, the most specific first."""

_Key = tuple[str, str, str, str, str]


def track(before: Mapping[str, Any], after: Mapping[str, Any]) -> pd.DataFrame:
    """Compare the ``recommendations`` (and ``findings``, if any) of two ``error_analysis_report`` dicts.

    A failure mode is a rule that fired for a head and, where its evidence names them, for one class,
    pair of classes, slice or direction: a recommendation about five missed classes is five failure
    modes. Rules are told apart by their category and the words of their ``threshold`` (without one:
    of their ``issue`` or ``message``); numbers in them do not count, since they change from run to
    run. Class names such as ``G2`` are not numbers.

    Returns
    -------
    pandas.DataFrame
        One row per failure mode (columns :data:`COLUMNS`). ``status`` is ``gone``, ``remains``, ``new``, or
        ``not listed`` where the other report has the rule with a full list of ten evidence rows, so
        that the mode may lie beyond its end. ``before``, ``after``: the two texts, "" where there is
        none. Priorities are NaN where unknown.

    Raises
    ------
    InputError
        If a section is not a list of objects.
    """
    rows = []
    for section in SECTIONS:
        old, old_full = _modes(before, section, "earlier")
        new, new_full = _modes(after, section, "later")
        for key in dict.fromkeys([*old, *new]):
            a, b = old.get(key), new.get(key)
            if a is not None and b is not None:
                status = "remains"
            elif key[:4] in (new_full if b is None else old_full):
                status = "not listed"
            else:
                status = "gone" if b is None else "new"
            head, category, rule, _, subject = key
            texts = (_text(a), _text(b), _priority(a), _priority(b))
            rows.append((section, head, category, rule, subject, status, *texts))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _modes(
    report: Mapping[str, Any], section: str, which: str
) -> tuple[dict[_Key, Mapping[str, Any]], set[tuple[str, ...]]]:
    """Failure modes by key (head, category, rule, kind of subject, subject), and the rules whose evidence is full."""
    entries = report.get(section, [])
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InputError(f"{section!r} of the {which} error analysis report is not a list of objects")
    modes: dict[_Key, Mapping[str, Any]] = {}
    full: set[tuple[str, ...]] = set()
    for entry in entries:
        head = str(entry.get("head") or "")
        category = str(entry.get("category") or entry.get("check") or "")
        rule = " ".join(_NUMBER.sub("#", str(entry.get("threshold") or _text(entry))).split())
        for kind, subject in _subjects(entry):
            modes[(head, category, rule, kind, subject)] = entry
            if len(entry.get("evidence") or ()) >= MAX_EVIDENCE:
                full.add((head, category, rule, kind))
    return modes, full


def _subjects(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if entry.get("subject"):
        yield "subject", str(entry["subject"])
        return
    evidence = [row for row in entry.get("evidence") or () if isinstance(row, Mapping)]
    for columns in _SUBJECTS:
        if evidence and all(column in row for row in evidence for column in columns):
            for row in evidence:
                yield " -> ".join(columns), " -> ".join(str(row[column]) for column in columns)
            return
    yield "", ""


def _text(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else str(entry.get("issue") or entry.get("message") or "")


def _priority(entry: Mapping[str, Any] | None) -> float:
    value = None if entry is None else entry.get("priority")
    return float(value) if isinstance(value, int | float) else float("nan")
