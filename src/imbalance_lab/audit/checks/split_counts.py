"""Class by split, in positions, sequences and recordings."""

from __future__ import annotations

import numpy as np

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.swaps import Assignment, assignment, mending_swap
from imbalance_lab.audit.target_positions import count_table, group_counts, scored_positions
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.formats import listed

CHECK = "splits"
SPLITS = ("train", "val", "test")
_MEND = "split by recording, stratified by the rarest class of each recording, or record more of this class"


def check_splits(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """One finding per head and split: which classes it lacks though others hold them; and one on the folds."""
    empty = [name for name, index in loaded.splits.items() if not len(index)]
    if empty:
        message = f"The splits {', '.join(empty)} hold no sequence."
        mend = "use fractions that leave sequences for each split, or give more recordings"
        return (
            Finding(
                CHECK,
                Verdict.FAIL,
                message,
                ", ".join(empty),
                evidence=({"empty": ", ".join(empty)},),
                mend=mend,
                kind="metric",
            ),
        )
    given = assignment(loaded, context.thresholds.min_recordings)
    of_heads = [finding for head in loaded.dataset.heads for finding in _head(loaded, head, given, context)]
    return (*of_heads, *_folds(loaded))


def _folds(loaded: LoadedData) -> list[Finding]:
    """What all folds together cannot give, as the split has found it."""
    if loaded.fold is None:
        return []
    count, notes = loaded.fold.count, str(loaded.dataset.facts.get("notes_on_folds", ""))
    said = notes or "Every class is in train and test of each."
    number = loaded.fold.number
    message = f"Each recording is tested in one of {count} folds; the counts here are those of fold {number}. {said}"
    verdict = Verdict.WARN if notes else Verdict.PASS
    return [Finding(CHECK, verdict, message, "folds", n=count, mend="use fewer folds" if notes else "")]


def _mend(given: Assignment, head: str, c: int, split: int) -> str:
    """What would bring class ``c`` into the split, "" where nothing would."""
    column = given.start[head] + c
    if (given.side[given.demand.side(split)[:, [column]].nonzero()[0]] < 0).any():
        return "moving sequences"  # recordings lie on several sides: nothing ties their sequences together
    swap = mending_swap(given, column, split)
    return f"exchanging {swap[0]} and {swap[1]}" if swap else ""


def _head(loaded: LoadedData, head: str, given: Assignment, context: AuditContext) -> list[Finding]:
    data, least = loaded.dataset, context.thresholds.min_recordings
    classes = data.heads[head]
    recordings = (group_counts(scored_positions(data, head), len(classes)) > 0).sum(axis=0)
    tables = {
        name: count_table(scored_positions(data, head, index), len(classes)) for name, index in loaded.splits.items()
    }
    held = {name: table["positions"] > 0 for name, table in tables.items()}
    findings = []
    for name, table in tables.items():
        expected = held["train"] if name != "train" else held["val"] | held["test"]
        missing = expected & ~held[name]
        n = int(table["positions"].sum())
        order = np.lexsort((-table["positions"], ~missing))
        # a class of fewer recordings than folds is spread over them: an exchange would take it from another fold
        needed = max(least, loaded.fold.count) if loaded.fold and name == "test" else least
        able = np.flatnonzero(missing & (recordings >= needed))
        mends = {int(c): _mend(given, head, int(c), SPLITS.index(name)) for c in able}
        rows = tuple(
            {"head": head, "split": name, "class": classes[c], "missing": bool(missing[c])}
            | {k: int(v[c]) for k, v in table.items()}
            | {"recordings in all splits": int(recordings[c]), "could be had by": mends.get(int(c), "")}
            for c in order[:50]
        )
        if not expected.any():
            where = "train holds" if name != "train" else "val and test hold"
            message = f"{where} no class of {head}, so none is missing from {name}."
            message = message[0].upper() + message[1:]
            findings.append(Finding(CHECK, Verdict.NOT_APPLICABLE, message, f"{head}/{name}", n=n, evidence=rows))
            continue
        avoidable = np.array([bool(mends.get(c)) for c in range(len(classes))])
        subject = f"{head}/{name}"
        if not missing.any():
            message = f"{name} holds all {int(expected.sum())} classes of {head} ({n:,} positions)."
            findings.append(Finding(CHECK, Verdict.PASS, message, subject, 0.0, n=n, threshold=0.0, evidence=rows))
            continue
        names = [f"{classes[c]} ({recordings[c]} recordings)" for c in np.flatnonzero(missing)]
        message = (
            f"{name} lacks {int(missing.sum())} of the {int(expected.sum())} classes of {head}: "
            f"{listed(names)}; "
            + (
                f"{int(avoidable.sum())} of them could have been there."
                if avoidable.any()
                else f"with these recordings{' and folds' if loaded.fold else ''} it cannot be otherwise."
            )
        )
        # a class that train lacks cannot be learned, but only val and test stop: they would not show it
        fails = bool(avoidable.any()) and name != "train"
        verdict = Verdict.FAIL if fails else Verdict.WARN
        rate, kind = float(missing.sum() / expected.sum()), "metric" if fails else ""
        findings.append(Finding(CHECK, verdict, message, subject, rate, None, n, 0.0, rows, _MEND, kind))
    return findings
