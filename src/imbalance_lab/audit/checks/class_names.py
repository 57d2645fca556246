"""Are two classes, or two categories of an input, one, written in two ways? Is a class a word for "missing"?"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.target_positions import count_table, scored_positions
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.formats import percent, plural

CHECK = "names"
_WORDS = (
    "na n/a n.a. n.a #n/a #na <na> nan none null nil nul (null) <null> \\n missing unknown unk undefined unspecified "
    "unlabeled unlabelled unassigned nodata n/d ? ?? ??? - -- --- . .. * # tbd blank empty -99 -999 -9999 -99999"
)
MISSING_MARKERS = frozenset(_WORDS.split()) | {"", "no data", "not available", "not known", "not applicable"}
"""Words that files use where a value is missing, without case and blanks around them."""

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_DASHES = re.compile("[\u00ad\u2010-\u2015\u2212\u2043\ufe58\ufe63\uff0d]")
_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")


def _number(text: str) -> str:
    """A number in one notation (1, 1.0, 01, +1, 1e0 are "1"), and whole numbers within a name without leading zeros."""
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", text):
        try:
            value = Decimal(text)
        except InvalidOperation:
            return text
        return "0" if value == 0 else f"{value.normalize():f}"
    return _LEADING_ZEROS.sub("", text)


STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("invisible characters", lambda text: _INVISIBLE.sub("", text)),
    ("Unicode form", lambda text: unicodedata.normalize("NFKC", text)),
    ("dashes", lambda text: _DASHES.sub("-", text)),
    ("blanks", lambda text: " ".join(text.split())),
    ("case", str.casefold),
    ("numbers written in two ways", _number),
    ("blanks, hyphens and underscores", lambda text: re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", text)),
)
"""What makes two names one, each by the form that it has without that difference."""


def plain_name(name: str, without: str = "") -> str:
    """``name`` without the differences of :data:`STEPS` (all but the one called ``without``)."""
    for step, form in STEPS:
        if step != without:
            name = form(name)
    # lower case can be composed again
    return name if without == "Unicode form" else unicodedata.normalize("NFKC", name)


def near_equal(names: Iterable[str]) -> list[tuple[list[str], list[str]]]:
    """Names that are one but for blanks, case, Unicode form or notation: (the names, in what they differ)."""
    by_form: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_form[plain_name(name)].append(name)
    found = []
    for same in by_form.values():
        if len(same) > 1:
            found.append((same, _differences(same)))
    return found


def _differences(same: list[str]) -> list[str]:
    """The steps that make names of one form one: those that join some of them, and those that none can do without."""
    forms, why = list(same), []
    for step, form in STEPS:
        before = len(set(forms))
        forms = [form(text) for text in forms]
        alone = len({plain_name(name, without=step) for name in same}) > 1
        if len(set(forms)) < before or alone:
            why.append(step)
    return why or ["Unicode form"]


def is_missing_marker(name: str) -> bool:
    """Whether a name is a word that files use where a value is missing."""
    text = _DASHES.sub("-", unicodedata.normalize("NFKC", _INVISIBLE.sub("", name)))
    return " ".join(text.split()).casefold() in MISSING_MARKERS


def check_names(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """Near-equal names of classes and of categories, and classes that look like a missing value, with their counts."""
    data = loaded.dataset
    findings = [_of_heads(tuple(data.heads))]
    for head in data.heads:
        findings += _head(loaded, head)
    for k, channel in enumerate(data.categorical_channels):
        findings.append(_channel(channel, data.categories[k], data.categorical[..., k]))
    return tuple(f for f in findings if f is not None)


def _of_heads(heads: Sequence[str]) -> Finding | None:
    same = near_equal(heads)
    if not same:
        return None
    said = "; ".join(f"{_listed(names)} differ in {_and(why)}" for names, why in same[:5])
    rows = tuple({"head": name, "differs in": _and(why)} for names, why in same for name in names)
    message = f"{plural(len(same), 'head')} go by several names: {said}."
    return Finding(CHECK, Verdict.WARN, message, "heads", evidence=rows[:50], mend="give each head one name")


def _head(loaded: LoadedData, head: str) -> list[Finding]:
    classes, counts = loaded.dataset.heads[head], loaded.dataset.class_counts(head)
    present = [c for c in range(len(classes)) if counts[c]]
    place = {classes[c]: c for c in present}
    same = near_equal(classes[c] for c in present)
    own_words = loaded.raw is not None  # the encoding of a text names its classes itself
    markers = [] if own_words else [c for c in present if is_missing_marker(classes[c])]
    if not same and not markers:
        message = f"No two classes of {head} are one name, and none is a word for a missing value."
        return [Finding(CHECK, Verdict.PASS, message, head, n=len(present))]
    table = count_table(scored_positions(loaded.dataset, head), len(classes))
    findings = []
    if same:
        findings.append(_near_equal(head, same, place, table))
    if markers:
        findings.append(_markers(head, [classes[c] for c in markers], markers, table))
    return findings


def _channel(channel: str, categories: Sequence[str], codes: NDArray[np.int64]) -> Finding | None:
    """Categories of an input that may be one; a model learns each for itself."""
    same = near_equal(categories)
    if not same:
        return None
    counts = np.bincount(codes.ravel(), minlength=len(categories) + 1)[1:]
    count = dict(zip(categories, counts.tolist(), strict=True))
    same.sort(key=lambda group: -sum(count[name] for name in group[0]))
    said, rows = [], []
    for names, why in same:
        ordered = sorted(names, key=lambda name: -count[name])
        said.append(f"{_and([f'{n!r} ({count[n]:,})' for n in ordered[:5]])} differ in {_and(why)}")
        rows += [{"input": channel, "category": repr(n), "values": count[n], "differs in": _and(why)} for n in ordered]
    touched, total = sum(row["values"] for row in rows), int(counts.sum())
    more = f"; and {len(said) - 4} more" if len(said) > 4 else ""
    several = len(same) > 1
    return Finding(
        CHECK,
        Verdict.WARN,
        f"{len(same)} categor{'ies' if several else 'y'} of the input {channel} may be counted as several: "
        f"{'; '.join(said[:4])}{more}.",
        f"{channel}/categories",
        touched / max(total, 1),
        n=total,
        threshold=0.0,
        evidence=tuple(rows[:50]),
        mend="write one name for each of these categories in the data, or make sure that they differ in what they mean",
    )


def _row(head: str, name: str, c: int, table: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    return {"head": head, "class": repr(name)} | {k: int(v[c]) for k, v in table.items()}


def _near_equal(
    head: str, same: list[tuple[list[str], list[str]]], place: dict[str, int], table: dict[str, NDArray[np.int64]]
) -> Finding:
    counts, total = table["positions"], int(table["positions"].sum())
    rows, said, touched = [], [], 0
    for names, why in sorted(same, key=lambda group: -int(counts[[place[n] for n in group[0]]].sum())):
        ordered = sorted(names, key=lambda n: -int(counts[place[n]]))
        together = int(counts[[place[n] for n in names]].sum())
        touched += together
        said.append(
            f"{_and([f'{n!r} ({counts[place[n]]:,})' for n in ordered[:5]])} differ in {_and(why)}; as one they are "
            f"{together:,} positions, {percent(together / max(total, 1), 1)} of {head}"
        )
        rows += [_row(head, n, place[n], table) | {"differs in": _and(why), "as one": together} for n in ordered]
    more = f"; and {len(said) - 4} more" if len(said) > 4 else ""
    message = f"{plural(len(same), 'class')} of {head} may be counted as several: {'; '.join(said[:4])}{more}."
    mend = "write one name for each of these classes in the data, or make sure that they differ in what they mean"
    rate = touched / max(total, 1)
    return Finding(
        CHECK,
        Verdict.WARN,
        message,
        head,
        rate,
        n=total,
        threshold=0.0,
        evidence=tuple(rows[:50]),
        mend=mend,
        kind="names",
    )


def _markers(head: str, names: list[str], at: list[int], table: dict[str, NDArray[np.int64]]) -> Finding:
    counts, total = table["positions"], int(table["positions"].sum())
    said = _and([f"{name!r} ({counts[c]:,} positions)" for name, c in zip(names[:8], at[:8], strict=True)])
    several = len(names) > 1
    words = ", ".join(f"'{name}'" if re.search(r"[^\w/ ]|^\s|\s$|^$", name) else name for name in names)
    mend = (
        f"if {'they mean' if several else 'it means'} that the label is missing, say so: 'data.missing: [{words}]'; "
        f"otherwise keep {'them' if several else 'it'} as {'classes' if several else 'a class'}"
    )
    rows = tuple(_row(head, name, c, table) for name, c in zip(names, at, strict=True))
    touched = int(counts[at].sum())
    return Finding(
        CHECK,
        Verdict.WARN,
        f"{plural(len(names), 'class')} of {head} look{'' if several else 's'} like a missing value: {said}.",
        f"{head}/missing marker",
        touched / max(total, 1),
        n=total,
        threshold=0.0,
        evidence=rows[:50],
        mend=mend,
        kind="names",
    )


def _listed(names: Sequence[str]) -> str:
    return _and([repr(name) for name in names])


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
