"""Is a class mostly written where its head does not apply?

Fillers betray themselves by their relation to the other heads, without a hint from the encoding.
A *router* head (the token type) splits positions into states. In some states head A never
varies and always holds class c, in others it does; and a third head does just the opposite, it
varies where A stands still and stands still where A varies. Heads that are merely correlated do
not take turns like that. Padding is found by its place (-1), or as one combination of classes
that only ever ends a sequence, in runs of changing length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.rate_intervals import rate_interval
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.target_positions import Positions, scored_positions
from imbalance_lab.data.dataset import IGNORE, LoadedData, SequenceDataset
from imbalance_lab.formats import percent

CHECK = "placeholder"
_TYPE_HEADS = frozenset({"type", "token_type"})
_MEND = (
    "write IGNORE (-100) where the head does not apply (encoding: masked), so that these positions are neither "
    "trained on nor scored"
)


def check_placeholder(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """For each class of each head: how many of its positions are ones to which the head does not apply."""
    data = loaded.dataset
    trailing = _trailing_padding(data) if data.target_length not in (1, data.continuous.shape[1]) else None
    findings = []
    for head in data.heads:
        positions = scored_positions(data, head, distinct=False)  # what is trained on, window by window
        filler, why = _filler(data, head, positions, trailing, context.thresholds.min_positions)
        findings += _judge(data, head, positions, filler, why, context)
    return tuple(findings)


def _filler(
    data: SequenceDataset, head: str, positions: Positions, trailing: NDArray[np.bool_] | None, least: int
) -> tuple[NDArray[np.bool_], list[dict[str, Any]]]:
    """Positions to which ``head`` does not apply, shape (n,), and the rows that say why."""
    at = (positions.row, positions.place)
    padding = data.unit_position[at] < 0
    if trailing is not None:
        padding |= trailing[at]
    why: list[dict[str, Any]] = []
    if padding.any():
        why.append({"head": head, "told by": "padding", "state": "end of sequence", "positions": int(padding.sum())})
    filler = padding.copy()
    rest = np.flatnonzero(~padding)
    others = {name: target[at][rest] for name, target in data.targets.items() if name != head}
    label = positions.label[rest]
    for router, state in others.items():
        third = {name: values for name, values in others.items() if name != router}
        silent = _silent_states(label, state, third, least, router in _TYPE_HEADS)
        for value in silent:
            hit = state == value
            filler[rest[hit]] = True
            why.append(
                {"head": head, "told by": router, "state": data.heads[router][value], "positions": int(hit.sum())}
            )
    return filler, why


def _silent_states(
    label: NDArray[np.int64],
    state: NDArray[np.int64],
    third: Mapping[str, NDArray[np.int64]],
    least: int,
    is_type: bool,
) -> list[int]:
    """States of a router in which the head always holds one and the same class, though it does not apply."""
    used = state != IGNORE
    if not used.any():
        return []
    n_states, n_classes = int(state[used].max()) + 1, int(label.max(initial=0)) + 1
    table = np.bincount(state[used] * n_classes + label[used], minlength=n_states * n_classes).reshape(n_states, -1)
    total, kinds = table.sum(axis=1), (table > 0).sum(axis=1)
    constant, varies = (kinds == 1) & (total >= least), kinds > 1
    fillers = np.unique(table[constant].argmax(axis=1))
    if not varies.any() or len(fillers) != 1:
        return []  # correlated heads hold different constants in different states
    silent = np.flatnonzero(constant)
    in_silent, in_varying = np.isin(state, silent), np.isin(state, np.flatnonzero(varies))
    for values in third.values():
        if _n_values(values[in_silent]) > 1 and _n_values(values[in_varying]) == 1:
            return [int(s) for s in silent]
    mixed = table[varies][:, fillers[0]].sum() > 0
    return [int(s) for s in silent] if is_type and (len(silent) > 1 or mixed) else []


def _n_values(values: NDArray[np.int64]) -> int:
    import pandas as pd

    return len(pd.unique(values))


def _trailing_padding(data: SequenceDataset) -> NDArray[np.bool_] | None:
    """Where one combination of classes ends sequences, and is found nowhere else; shape (N, L)."""
    targets = list(data.targets.values())
    joint = np.zeros(targets[0].shape, dtype=np.int64)
    for target, classes in zip(targets, data.heads.values(), strict=True):
        joint = joint * (len(classes) + 1) + np.where(target == IGNORE, len(classes), target)
    last = joint[:, -1]
    values, counts = np.unique(last, return_counts=True)
    pad = values[counts.argmax()]
    is_pad = joint == pad
    run = np.logical_and.accumulate(is_pad[:, ::-1], axis=1)[:, ::-1]
    lengths = run.sum(axis=1)
    scored = np.logical_or.reduce([t != IGNORE for t in targets])
    changing = len(np.unique(lengths)) > 1 and (lengths >= 2).mean() > 0.05
    return run & scored if changing and (is_pad == run).all() else None


def _judge(
    data: SequenceDataset,
    head: str,
    positions: Positions,
    filler: NDArray[np.bool_],
    why: list[dict[str, Any]],
    context: AuditContext,
) -> list[Finding]:
    limits, classes, n_groups = context.thresholds, data.heads[head], len(positions.group_names)
    total = np.bincount(positions.label, minlength=len(classes))
    void = np.bincount(positions.label[filler], minlength=len(classes))
    suspects = np.flatnonzero(void)
    if not len(suspects):
        message = f"No class of {head} is written where the head does not apply."
        return [
            Finding(CHECK, Verdict.PASS, message, head, 0.0, n=int(total.sum()), threshold=limits.placeholder_share)
        ]
    rows = [
        {"head": head, "class": classes[c], "positions": int(total[c]), "not applicable": int(void[c])}
        | {"real": int(total[c] - void[c]), "P(applies | class)": float(1 - void[c] / total[c])}
        for c in np.flatnonzero(total)
    ]
    findings = []
    for c in suspects[np.argsort(-void[suspects], kind="stable")]:
        name, n, n_void = classes[c], int(total[c]), int(void[c])
        of_class = positions.label == c
        interval = rate_interval(
            np.bincount(positions.group[of_class & filler], minlength=n_groups),
            np.bincount(positions.group[of_class], minlength=n_groups),
            context.seed,
        )
        rate = n_void / n
        if n < limits.min_positions:
            verdict = Verdict.INSUFFICIENT
        else:
            verdict = Verdict.FAIL if rate > limits.placeholder_share else Verdict.WARN
        left = (n - n_void) / max(int((~filler).sum()), 1)
        message = (
            f"{head}: {n_void:,} of the {n:,} positions of {name} ({percent(rate, 1)}) are positions to which the head "
            f"does not apply; only {n - n_void:,} are real {name}. Without them {name} holds "
            f"{percent(left, 2)} of {head}, not {percent(n / int(total.sum()), 2)}."
        )
        evidence = tuple([r for r in rows if r["class"] == name] + why + [r for r in rows if r["class"] != name])[:50]
        kind = "artefact" if verdict in (Verdict.FAIL, Verdict.WARN) else ""
        subject = f"{head}/{name}"
        findings.append(
            Finding(
                CHECK, verdict, message, subject, rate, interval, n, limits.placeholder_share, evidence, _MEND, kind
            )
        )
    return findings
