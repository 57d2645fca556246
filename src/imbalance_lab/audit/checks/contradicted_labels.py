"""Labels that a second source or a cross-validated probe contradicts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.probe import Probe
from imbalance_lab.audit.rate_intervals import rate_interval
from imbalance_lab.audit.raw_words import MOTION, controller_motion, join_rows, modal_motion, motion_head
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.formats import listed, percent

CHECK = "label noise"
_SURE = 0.9
_LEAST_RECALL = 0.9
_MEND = "look at the listed positions; correct or mask (-100) those that are wrong"


def check_label_noise(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """One finding per head from the probe, and one from the raw text where it joins the targets."""
    findings = []
    for head in loaded.dataset.heads:
        probe = context.probe_of(loaded, head)
        if probe.reason:
            findings.append(Finding(CHECK, Verdict.INSUFFICIENT, f"No probe: {probe.reason}.", head))
        else:
            findings.append(_probed(loaded, head, probe, context))
    second = _second_source(loaded, context)
    return (*findings, second) if second is not None else tuple(findings)


def noisy_labels(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[NDArray[np.bool_], str]:
    """Which labels out-of-fold probabilities contradict, shape (n,), and which method said so.

    cleanlab's confident learning where it is installed: positions that lie off the diagonal of
    the confident joint and have a low self-confidence among their class ("both"). Without it,
    positions of which another class reaches its own mean self-confidence while the given one
    does not: the confident joint's off-diagonal, not pruned (Northcutt et al. 2021, eq. 1).
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        k = probabilities.shape[1]
        own = probabilities[np.arange(len(labels)), labels]
        mean = np.bincount(labels, own, minlength=k) / np.maximum(np.bincount(labels, minlength=k), 1)
        reached = np.where(probabilities >= mean, probabilities, -1.0)
        best = reached.argmax(axis=1)
        return (reached.max(axis=1) >= 0) & (
            best != labels
        ), "confident joint without pruning (cleanlab is not installed)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        issues = find_label_issues(labels, probabilities, filter_by="both", n_jobs=1)
    return np.asarray(issues, dtype=bool), "cleanlab confident learning"


def _recall(probe: Probe, suspect: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of each kept class's labels that the probe repeats out of fold, the suspects left aside; shape (K,)."""
    label, k = probe.positions.label[~suspect], len(probe.kept)
    right = probe.probabilities[~suspect].argmax(axis=1) == label
    return np.bincount(label[right], minlength=k) / np.maximum(np.bincount(label, minlength=k), 1)


def _probed(loaded: LoadedData, head: str, probe: Probe, context: AuditContext) -> Finding:
    limits, classes, sample = context.thresholds, loaded.dataset.heads[head], probe.positions
    suspect, method = noisy_labels(sample.label, probe.probabilities)
    # Doubts are the probe's own fault unless it is sure of another class and knows this one.
    suspect &= probe.probabilities.max(axis=1) >= _SURE
    known = _recall(probe, suspect) >= _LEAST_RECALL
    n_groups = len(sample.group_names)
    per_class: list[dict[str, Any]] = []
    for k, c in enumerate(probe.kept):
        own = sample.label == k
        hits, totals = (np.bincount(sample.group[m], minlength=n_groups) for m in (own & suspect, own))
        low, high = rate_interval(hits, totals, context.seed)
        rate = float(hits.sum() / max(totals.sum(), 1))
        per_class.append(
            {
                "class": classes[c],
                "suspects": int(hits.sum()),
                "positions looked at": int(totals.sum()),
                "rate": rate,
                "low": low,
                "high": high,
            }
        )
    judged = [r for r, ok in zip(per_class, known, strict=True) if ok]
    unknown = [r["class"] for r, ok in zip(per_class, known, strict=True) if not ok]
    if not judged:
        message = f"The probe knows no class of {head} well enough to contradict its labels."
        return Finding(CHECK, Verdict.INSUFFICIENT, message, head, evidence=tuple(per_class[:50]))
    worst = max(judged, key=lambda r: r["low"])
    noisy = [r for r in judged if r["low"] > limits.label_noise]
    rank = np.flatnonzero(suspect & known[sample.label])
    own_p = probe.probabilities[rank, sample.label[rank]]
    rank = rank[np.argsort(own_p, kind="stable")][: 50 - min(len(per_class), 20)]
    rows = [
        {
            "group": str(sample.group_names[sample.group[i]]),
            "sequence": int(sample.row[i]),
            "place": int(sample.place[i]),
        }
        | {
            "label": classes[probe.kept[sample.label[i]]],
            "probe says": classes[probe.kept[probe.probabilities[i].argmax()]],
        }
        | {"probability of label": float(probe.probabilities[i, sample.label[i]])}
        for i in rank
    ]
    message = (
        f"{head}: {method} suspects {int(suspect.sum()):,} of {len(sample):,} labels looked at; "
        + (
            listed([f"{r['class']} {percent(r['rate'], 1)}" for r in sorted(noisy, key=lambda r: -r["rate"])])
            if noisy
            else f"no class surely above {percent(limits.label_noise, 0)}"
        )
        + (f"; not judged, as the probe hardly knows them: {listed(unknown)}" if unknown else "")
        + "."
    )
    verdict = Verdict.WARN if noisy else Verdict.PASS
    evidence = tuple(per_class[:20] + rows)
    return Finding(
        CHECK,
        verdict,
        message,
        head,
        worst["rate"],
        (worst["low"], worst["high"]),
        worst["positions looked at"],
        limits.label_noise,
        evidence,
        _MEND if noisy else "",
    )


def _second_source(loaded: LoadedData, context: AuditContext) -> Finding | None:
    head = motion_head(loaded.dataset.heads)
    joined = join_rows(loaded.dataset, loaded.raw, head) if loaded.raw is not None and head is not None else None
    if loaded.raw is None or head is None or joined is None:
        return None
    classes, limits = loaded.dataset.heads[head], context.thresholds
    controller = controller_motion(loaded.raw)
    truth = np.where(controller >= 0, controller, modal_motion(loaded.raw))[joined.raw_row]
    as_motion = np.array([MOTION.index(c) if c in MOTION else -1 for c in classes])[joined.label]
    both = (truth >= 0) & (as_motion >= 0)
    wrong = both & (truth != as_motion)
    n = int(both.sum())
    if n < limits.min_positions:
        return None
    per_class: list[dict[str, Any]] = [
        {
            "class": name,
            "contradicted": int((wrong & (as_motion == m)).sum()),
            "positions": int((both & (as_motion == m)).sum()),
        }
        for m, name in enumerate(MOTION)
        if (both & (as_motion == m)).any()
    ]
    worst = max(per_class, key=lambda r: r["contradicted"] / r["positions"])
    rate = worst["contradicted"] / worst["positions"]
    of_class = both & (as_motion == MOTION.index(worst["class"]))
    n_groups = int(joined.group.max()) + 1
    interval = rate_interval(
        np.bincount(joined.group[of_class & wrong], minlength=n_groups),
        np.bincount(joined.group[of_class], minlength=n_groups),
        context.seed,
    )
    bad = rate > limits.label_noise and worst["positions"] >= limits.min_positions
    message = (
        f"{head}: the raw text or the controller contradicts {int(wrong.sum()):,} of {n:,} labels; "
        f"most of {worst['class']} ({worst['contradicted']:,} of {worst['positions']:,}, {percent(rate, 2)})."
    )
    verdict = Verdict.WARN if bad else Verdict.PASS
    return Finding(
        CHECK,
        verdict,
        message,
        f"{head}/second source",
        rate,
        interval,
        worst["positions"],
        limits.label_noise,
        tuple(per_class),
        _MEND if bad else "",
    )
