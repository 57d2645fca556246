"""What is in the data, per class: raw text, controller state and encoded targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.rate_intervals import rate_interval
from imbalance_lab.audit.raw_words import (
    MOTION,
    controller_motion,
    explicit_motion,
    factorize,
    join_rows,
    modal_motion,
    motion_head,
)
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.target_positions import count_table, group_counts, scored_positions
from imbalance_lab.data.dataset import LoadedData, RawText
from imbalance_lab.formats import listed, percent, plural, short

CHECK = "frequencies"


def check_frequencies(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """Class shares of every head, and whether raw text, controller and targets agree."""
    findings = [_head(loaded, head, context) for head in loaded.dataset.heads]
    findings += [_never_trained(head, counts) for head, counts in loaded.left_out.items()]
    if loaded.raw is not None:
        findings += _sources(loaded, loaded.raw, context)
    return tuple(findings)


def _head(loaded: LoadedData, head: str, context: AuditContext) -> Finding:
    classes, limits = loaded.dataset.heads[head], context.thresholds
    positions = scored_positions(loaded.dataset, head)
    table = count_table(positions, len(classes))
    counts, n = table["positions"], len(positions)
    present = np.flatnonzero(counts)
    order = np.argsort(-counts, kind="stable")
    rows = tuple(
        {"head": head, "class": classes[c], "share": counts[c] / max(n, 1)} | {k: int(v[c]) for k, v in table.items()}
        for c in order[:50]
    )
    trained = loaded.dataset.class_counts(head, loaded.splits.train)
    if n and not trained.sum():
        by_split = {s: int(loaded.dataset.class_counts(head, i).sum()) for s, i in loaded.splits.items()}
        return _never_trained(head, by_split)
    if len(present) < 2:
        what = f"only the class {classes[present[0]]!r}" if len(present) else "no scored position"
        alone = all(len(np.flatnonzero(loaded.dataset.class_counts(h))) < 2 for h in loaded.dataset.heads)
        verdict = Verdict.FAIL if alone else Verdict.WARN
        mend = "give data that hold at least two classes, or leave the head out"
        return Finding(
            CHECK,
            verdict,
            f"{head} holds {what} ({n:,} positions): nothing can be learned",
            head,
            n=n,
            evidence=rows,
            mend=mend,
            kind="unfit" if alone else "",
        )
    rarest, largest = present[counts[present].argmin()], counts.argmax()
    share, ratio = counts[rarest] / n, counts[largest] / counts[rarest]
    by_group = group_counts(positions, len(classes))
    interval = rate_interval(by_group[:, rarest], by_group.sum(axis=1), context.seed)
    never = [classes[c] for c in np.flatnonzero(counts == 0)]
    rare = [classes[c] for c in present if counts[c] / n < limits.rare_share]
    message = (
        f"{head}: {short(classes[largest])} holds {percent(counts[largest] / n, 2)} and {short(classes[rarest])} "
        f"{percent(share, 2)} of {n:,} positions (ratio {ratio:,.0f})"
        + (f"; below {percent(limits.rare_share, 0)}: {plural(len(rare), 'class')} ({_named(rare)})" if rare else "")
        + (f"; never seen: {_named(never)}" if never else "")
        + "."
    )
    some = trained[trained > 0]
    train_ratio = float(some.max() / some.min()) if len(some) else 1.0
    if train_ratio > 2 * ratio:
        message += f" In train the ratio is {train_ratio:,.0f}."
    ratio = max(ratio, train_ratio)
    bad = bool(rare) or ratio > limits.imbalance_ratio
    return Finding(
        CHECK,
        Verdict.WARN if bad else Verdict.PASS,
        message,
        head,
        float(share),
        interval,
        n,
        limits.rare_share,
        rows,
        "weigh, sample or correct for the rare classes, and judge by macro scores" if bad else "",
        "imbalance" if bad or ratio >= limits.mild_ratio else "",
    )


def _never_trained(head: str, counts: Mapping[str, int]) -> Finding:
    """A head that cannot be learned, because train holds no label of it."""
    elsewhere = " and ".join(f"{counts[split]:,} in {split}" for split in ("val", "test"))
    return Finding(
        CHECK,
        Verdict.FAIL,
        f"{head}: train holds no label of it ({elsewhere}), so it cannot be learned and is neither trained nor scored.",
        head,
        n=sum(counts.values()),
        evidence=tuple({"head": head, "split": split, "labels": n} for split, n in counts.items()),
        mend=f"split so that train holds labels of {head}, or leave the head out",
        kind="unfit",
    )


def _sources(loaded: LoadedData, raw: RawText, context: AuditContext) -> list[Finding]:
    explicit, modal, controller = explicit_motion(raw), modal_motion(raw), controller_motion(raw)
    code, names = factorize(raw.recording)
    findings = [_raw_counts(raw, explicit, modal, controller, code, names)]
    findings.append(_agreement("explicit text against controller", explicit, controller, code, raw, context))
    # Status reports skip short blocks, so the text's own modal state can be stale: a warning for
    # those who would label by it. The targets are held against the best source below.
    findings.append(_agreement("modal text against controller", modal, controller, code, raw, context, stops=False))
    head = motion_head(loaded.dataset.heads)
    truth = np.where(controller >= 0, controller, modal)
    if head is not None:
        findings.append(_targets(loaded, raw, head, truth, explicit, context))
    encoded = np.array([MOTION.index(n) if n in MOTION else -1 for n in factorize(raw.encoded)[1].tolist()] or [-1])
    encoded_rows = encoded[factorize(raw.encoded)[0]] if len(raw.encoded) else np.zeros(0, dtype=np.int64)
    if (encoded_rows >= 0).any():
        findings.append(_agreement("encoded class against the text's command", encoded_rows, truth, code, raw, context))
    return findings


def _raw_counts(
    raw: RawText,
    explicit: NDArray[np.int64],
    modal: NDArray[np.int64],
    controller: NDArray[np.int64],
    code: NDArray[np.int64],
    names: NDArray[np.str_],
) -> Finding:
    kinds = {"explicit": explicit, "modal": modal, "controller": controller}
    totals = {k: np.bincount(v[v >= 0], minlength=len(MOTION)) for k, v in kinds.items()}
    rows: list[dict[str, Any]] = [
        {"recording": "all", "source": k, "rows": int(t.sum())} | dict(zip(MOTION, t.tolist(), strict=True))
        for k, t in totals.items()
    ]
    flat = np.bincount(code[modal >= 0] * len(MOTION) + modal[modal >= 0], minlength=len(names) * len(MOTION))
    for i in range(min(len(names), 50 - len(rows))):
        part = flat[i * len(MOTION) : (i + 1) * len(MOTION)]
        rows.append(
            {"recording": str(names[i]), "source": "modal", "rows": int(part.sum())}
            | dict(zip(MOTION, part.tolist(), strict=True))
        )
    said = "; ".join(
        f"{k} "
        + ", ".join(f"{m} {percent(c / max(t.sum(), 1), 2)}" for m, c in zip(MOTION, t, strict=True))
        + f" of {t.sum():,} rows"
        for k, t in totals.items()
        if t.sum()
    )
    if not said:
        return Finding(
            CHECK,
            Verdict.NOT_APPLICABLE,
            "The raw text holds no motion command (G0 to G3).",
            "raw text",
            evidence=tuple(rows),
        )
    return Finding(CHECK, Verdict.PASS, f"Raw text: {said}.", "raw text", n=len(raw.row), evidence=tuple(rows))


def _agreement(
    subject: str,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    group: NDArray[np.int64],
    raw: RawText,
    context: AuditContext,
    *,
    stops: bool = True,
) -> Finding:
    limits = context.thresholds
    both = (left >= 0) & (right >= 0)
    n, differs = int(both.sum()), both & (left != right)
    if n < limits.min_positions:
        return Finding(CHECK, Verdict.INSUFFICIENT, f"{subject}: only {n} rows carry both.", subject, n=n)
    n_groups = int(group.max()) + 1
    interval = rate_interval(
        np.bincount(group[differs], minlength=n_groups), np.bincount(group[both], minlength=n_groups), context.seed
    )
    rate = float(differs.sum() / n)
    rows = tuple(
        {"recording": str(raw.recording[i]), "row": int(raw.row[i]), "block": str(raw.block[i])}
        | {"first": MOTION[left[i]], "second": MOTION[right[i]]}
        for i in np.flatnonzero(differs)[:50]
    )
    bad = rate > limits.disagreement
    message = f"{subject}: {int(differs.sum()):,} of {n:,} rows disagree ({percent(rate, 2)})."
    mend = "find out which of the two sources is late or wrong before training on either" if bad else ""
    verdict = (Verdict.FAIL if stops else Verdict.WARN) if bad else Verdict.PASS
    kind = "artefact" if bad and stops else ""
    return Finding(CHECK, verdict, message, subject, rate, interval, n, limits.disagreement, rows, mend, kind)


def _targets(
    loaded: LoadedData,
    raw: RawText,
    head: str,
    truth: NDArray[np.int64],
    explicit: NDArray[np.int64],
    context: AuditContext,
) -> Finding:
    """The head's targets against the raw text, row by row where they can be joined, else as shares."""
    classes, limits = loaded.dataset.heads[head], context.thresholds
    as_motion = np.array([MOTION.index(c) if c in MOTION else -1 for c in classes])
    subject = f"{head} against raw text"
    joined = join_rows(loaded.dataset, raw, head)
    if joined is not None:
        label = np.full(len(raw.row), -1, dtype=np.int64)
        label[joined.raw_row] = as_motion[joined.label]
        return _agreement(subject, label, truth, factorize(raw.recording)[0], raw, context)
    counts = loaded.dataset.class_counts(head)
    motion = [c for c in range(len(classes)) if as_motion[c] >= 0]
    n, n_raw = int(counts[motion].sum()), int((explicit >= 0).sum())
    if min(n, n_raw) < limits.min_positions:
        return Finding(CHECK, Verdict.INSUFFICIENT, f"{subject}: too few motion commands to compare.", subject, n=n)
    text = np.bincount(explicit[explicit >= 0], minlength=len(MOTION)) / n_raw
    share = np.array([counts[c] for c in motion]) / n
    expected = text[as_motion[motion]]
    gap = np.abs(share - expected)
    worst = int(gap.argmax())
    rows = tuple(
        {
            "class": classes[c],
            "share of targets": float(s),
            "share of explicit words": float(e),
            "positions": int(counts[c]),
        }
        for c, s, e in zip(motion, share, expected, strict=True)
    )
    name = classes[motion[worst]]
    message = (
        f"{head}: {name} is {percent(share[worst], 2)} of the targets' motion commands, but "
        f"{percent(expected[worst], 2)} of the explicit motion words in the raw text ({n_raw:,} rows)."
    )
    bad = bool(gap[worst] > limits.share_disagreement)
    mend = "the encoding, not the machine, makes this class frequent or rare: encode it anew" if bad else ""
    positions = scored_positions(loaded.dataset, head)
    table = group_counts(positions, len(classes))[:, motion]
    interval = rate_interval(table[:, worst], table.sum(axis=1), context.seed)
    low, high = (interval[0] - expected[worst], interval[1] - expected[worst])
    span = (float(max(0.0, min(abs(low), abs(high)) if low * high > 0 else 0.0)), float(max(abs(low), abs(high))))
    verdict = Verdict.FAIL if bad else Verdict.PASS
    kind = "artefact" if bad else ""
    return Finding(
        CHECK, verdict, message, subject, float(gap[worst]), span, n, limits.share_disagreement, rows, mend, kind
    )


def _named(classes: Sequence[str]) -> str:
    """Names of classes in the verdict's sentence, each at most a few words; the evidence has them whole."""
    return listed([short(name) for name in classes], room=120)
