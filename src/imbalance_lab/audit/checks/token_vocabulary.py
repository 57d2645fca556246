"""Do several words fall on one id, does a word map to none, do signs vanish, which ids are never used?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.rate_intervals import wilson_interval
from imbalance_lab.audit.raw_words import (
    COMMAND_LETTERS,
    MOTION,
    WordCounts,
    controller_motion,
    join_rows,
    modal_motion,
    motion_head,
    word_counts,
)
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.gcode.vocabulary import SPECIAL, Vocabulary, tokenize
from imbalance_lab.formats import percent

CHECK = "vocabulary"


def check_vocabulary(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """Collisions of commands, unknown words, vanished signs and decimals, literals, unused ids."""
    if loaded.raw is None:
        return (Finding(CHECK, Verdict.NOT_APPLICABLE, "The source has no text, so no words to map."),)
    findings = list(_encoded_collisions(loaded, context))
    vocabulary = loaded.raw.vocabulary
    if not vocabulary:
        message = "The encoding uses no token vocabulary."
        return (*findings, Finding(CHECK, Verdict.NOT_APPLICABLE, message, "tokens"))
    counts = word_counts(loaded.raw)
    rules = Vocabulary(vocabulary)
    mapped = [token_of(letter, number, rules) for letter, number in zip(counts.letter, counts.number, strict=True)]
    findings.append(_id_collisions(vocabulary))
    findings.append(_unknown(counts, mapped, context))
    findings.append(_numbers(counts, mapped))
    findings.append(_literals(counts, mapped, vocabulary))
    findings.append(_unused(counts, mapped, vocabulary))
    return tuple(findings)


def token_of(letter: str, number: str, vocabulary: Vocabulary) -> str:
    """The token that carries the number of a word by the encoding's own rules, "" where it has none.

    ``G01`` is ``G1``; ``X-0.1254`` is ``NUM_X_-`` (and needs ``X``); ``Z0.`` is ``Z0.``.
    """
    tokens = tokenize(letter + number, vocabulary)
    return tokens[-1] if tokens and all(token in vocabulary.tokens for token in tokens) else ""


def _is_command(token: str) -> bool:
    return token[:1] in COMMAND_LETTERS and token[1:].replace(".", "").isdigit()


def _id_collisions(vocabulary: Mapping[str, int]) -> Finding:
    by_id = defaultdict(list)
    for token, number in vocabulary.items():
        by_id[number].append(token)
    shared = {i: tokens for i, tokens in by_id.items() if len(tokens) > 1}
    rows = tuple({"id": i, "tokens": ", ".join(tokens)} for i, tokens in sorted(shared.items()))[:50]
    of_commands = [tokens for tokens in shared.values() if sum(map(_is_command, tokens)) > 1]
    if not shared:
        return Finding(
            CHECK, Verdict.PASS, f"Each of the {len(vocabulary)} tokens has an id of its own.", "ids", n=len(vocabulary)
        )
    named = "; ".join(", ".join(tokens) for tokens in (of_commands or list(shared.values()))[:5])
    return Finding(
        CHECK,
        Verdict.FAIL if of_commands else Verdict.WARN,
        f"{len(shared)} ids stand for several tokens: {named}.",
        "ids",
        len(shared) / len(vocabulary),
        n=len(vocabulary),
        threshold=0.0,
        evidence=rows,
        mend="give every token an id of its own and encode again",
        kind="artefact",
    )


def _encoded_collisions(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """Two commands of the raw text whose rows mostly carry one class."""
    raw, head = loaded.raw, motion_head(loaded.dataset.heads)
    joined = join_rows(loaded.dataset, raw, head) if raw is not None and head is not None else None
    if raw is None or head is None or joined is None:
        return ()
    controller = controller_motion(raw)
    truth = np.where(controller >= 0, controller, modal_motion(raw))[joined.raw_row]
    known = truth >= 0
    classes = loaded.dataset.heads[head]
    table = np.zeros((len(MOTION), len(classes)), dtype=np.int64)
    np.add.at(table, (truth[known], joined.label[known]), 1)
    enough = table.sum(axis=1) >= context.thresholds.min_positions
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    usual = np.where(enough & (share.max(axis=1) > 0.5), table.argmax(axis=1), -1)
    pairs = [(a, b) for a in range(len(MOTION)) for b in range(a + 1, len(MOTION)) if usual[a] == usual[b] >= 0]
    rows = tuple(
        {"command": m, "rows": int(table[i].sum()), "class": classes[table[i].argmax()], "share": float(share[i].max())}
        for i, m in enumerate(MOTION)
        if table[i].sum()
    )
    if not pairs:
        return (
            Finding(
                CHECK,
                Verdict.PASS,
                f"No two commands share a class of {head}.",
                f"{head} classes",
                n=int(known.sum()),
                evidence=rows,
            ),
        )
    named = "; ".join(f"{MOTION[a]} and {MOTION[b]} are both {classes[usual[a]]!r}" for a, b in pairs)
    worst = max(share[b if usual[b] >= 0 else a].max() for a, b in pairs)
    a, b = pairs[0]
    hit, n = int(table[a].max() + table[b].max()), int(table[a].sum() + table[b].sum())
    return (
        Finding(
            CHECK,
            Verdict.FAIL,
            f"{head}: {named} in the targets, though the raw text tells them apart.",
            f"{head} classes",
            float(worst),
            wilson_interval(hit, n),
            n,
            0.5,
            rows,
            "give each command a class of its own and encode again",
            "artefact",
        ),
    )


def _unknown(counts: WordCounts, mapped: list[str], context: AuditContext) -> Finding:
    missing = [i for i, token in enumerate(mapped) if not token]
    total, lost = int(counts.count.sum()), int(counts.count[missing].sum())
    rate, limit = lost / max(total, 1), context.thresholds.unknown_words
    missing.sort(key=lambda i: -counts.count[i])
    rows = tuple(
        {"word": counts.letter[i] + counts.number[i], "occurrences": int(counts.count[i])} for i in missing[:50]
    )
    some = ", ".join(f"{r['word']} ({r['occurrences']:,})" for r in rows[:5])
    message = f"{lost:,} of {total:,} words ({percent(rate, 3)}) have no token" + (f": {some}." if some else ".")
    bad = rate > limit
    mend = "add the words to the vocabulary, or say what they should become" if bad else ""
    verdict = Verdict.WARN if bad else Verdict.PASS
    return Finding(
        CHECK, verdict, message, "unknown words", rate, wilson_interval(lost, total), total, limit, rows, mend
    )


def _value(number: str) -> float:
    try:
        return float(number)
    except ValueError:
        return float("nan")


def _numbers(counts: WordCounts, mapped: list[str]) -> Finding:
    """How many distinct numbers a token stands for, and which tokens keep nothing but the sign."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, token in enumerate(mapped):
        if token.startswith("NUM_"):
            members[token].append(i)
    if not members:
        return Finding(CHECK, Verdict.NOT_APPLICABLE, "The vocabulary has no number tokens in use.", "numbers")
    rows: list[dict[str, Any]] = []
    for token, at in members.items():
        values = {_value(counts.number[i]) for i in at}
        negative = sum(v < 0 for v in values)
        n = int(counts.count[at].sum())
        rows.append(
            {"token": token, "distinct numbers": len(values), "negative": negative, "occurrences": n}
            | {"smallest": min(values), "largest": max(values), "sign only": token.endswith(("_-", "_+"))}
        )
    rows.sort(key=lambda r: (not r["sign only"], -r["distinct numbers"]))
    total = int(sum(r["occurrences"] for r in rows))
    sign_only = [r for r in rows if r["sign only"] and r["distinct numbers"] > 1]
    crowded = [r for r in rows if r["distinct numbers"] > 1]
    if not crowded:
        return Finding(
            CHECK,
            Verdict.PASS,
            f"Each of {len(rows)} number tokens stands for one number.",
            "numbers",
            n=total,
            evidence=tuple(rows[:50]),
        )
    lost = int(sum(r["occurrences"] for r in crowded))
    message = (
        f"{len(crowded)} number tokens stand for several numbers ({sum(r['distinct numbers'] for r in crowded):,} "
        f"distinct ones, {lost:,} of {total:,} occurrences): decimals vanish."
    )
    if sign_only:
        named = ", ".join(
            f"{r['token']} ({r['distinct numbers']} numbers, {r['occurrences']:,} occurrences)" for r in sign_only
        )
        message += f" Every negative number collapses to its sign: {named}."
    mend = "predict numbers by sign, digits and scale (or as values), not by their first character"
    interval = wilson_interval(lost, total)
    return Finding(
        CHECK, Verdict.WARN, message, "numbers", lost / total, interval, total, 0.0, tuple(rows[:50]), mend, "artefact"
    )


def _literals(counts: WordCounts, mapped: list[str], vocabulary: Mapping[str, int]) -> Finding:
    """Tokens that hold a parameter and its number in one, beside a letter token of their own."""
    rows: list[dict[str, Any]] = []
    for token in vocabulary:
        letter, number = token[:1], token[1:]
        if letter in vocabulary and letter not in COMMAND_LETTERS and np.isfinite(_value(number)):
            n = int(sum(counts.count[i] for i, t in enumerate(mapped) if t == token))
            rows.append({"token": token, "occurrences": n})
    if not rows:
        return Finding(CHECK, Verdict.PASS, "No token hides a parameter together with its number.", "literals")
    rows.sort(key=lambda r: -int(r["occurrences"]))
    total, hidden = int(counts.count.sum()), sum(int(r["occurrences"]) for r in rows)
    named = ", ".join(f"{r['token']} ({r['occurrences']:,})" for r in rows[:8])
    return Finding(
        CHECK,
        Verdict.WARN,
        f"{len(rows)} tokens hide a parameter and its number in one word: {named}.",
        "literals",
        hidden / max(total, 1),
        wilson_interval(hidden, total),
        total,
        0.0,
        tuple(rows[:50]),
        "split these words into their letter and their number like all the others",
        "artefact",
    )


def _unused(counts: WordCounts, mapped: list[str], vocabulary: Mapping[str, int]) -> Finding:
    used = set(mapped) | {letter for letter in counts.letter if letter in vocabulary}
    idle = [t for t in vocabulary if t not in used and t not in SPECIAL]
    rows = tuple({"token": t, "id": vocabulary[t]} for t in idle[:50])
    message = f"{len(idle)} of {len(vocabulary)} ids are never used" + (f": {', '.join(idle[:10])}." if idle else ".")
    return Finding(
        CHECK, Verdict.PASS, message, "unused ids", len(idle) / len(vocabulary), n=len(vocabulary), evidence=rows
    )
