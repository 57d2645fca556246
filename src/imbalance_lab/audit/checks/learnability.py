"""Is there signal for each class at all?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.probe import Probe
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.formats import listed

CHECK = "learnability"
_BINS = 256
_RESAMPLES = 400
_MOST_BLOCKS = 500
_MEND = "no strategy helps this class with these inputs: add sensors or a longer window, check its labels, or merge it"


def check_learnability(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """One finding per class: one-vs-rest ROC AUC of the probe with an interval over recordings."""
    findings: list[Finding] = []
    for head, classes in loaded.dataset.heads.items():
        probe = context.probe_of(loaded, head)
        findings += _insufficient(probe, classes, context)
        if probe.reason:
            findings.append(Finding(CHECK, Verdict.INSUFFICIENT, f"No probe: {probe.reason}.", head))
            continue
        for k, (auc, low, high) in enumerate(auc_intervals(probe, context.seed)):
            findings.append(_judge(probe, k, classes[probe.kept[k]], (auc, low, high)))
    return tuple(findings)


def _insufficient(probe: Probe, classes: tuple[str, ...], context: AuditContext) -> list[Finding]:
    few = [c for c in np.flatnonzero(probe.positions_of) if c not in probe.kept]
    if not few:
        return []
    limits = context.thresholds
    rows = tuple(
        {"class": classes[c], "positions": int(probe.positions_of[c]), "recordings": int(probe.recordings_of[c])}
        for c in few[:50]
    )
    message = (
        f"{len(few)} classes of {probe.head} have fewer than {limits.min_positions} positions or "
        f"{limits.min_recordings} recordings in train and val: {listed([classes[c] for c in few])}."
    )
    return [
        Finding(
            CHECK,
            Verdict.INSUFFICIENT,
            message,
            f"{probe.head}/rare classes",
            n=int(probe.positions_of[few].sum()),
            evidence=rows,
        )
    ]


def _judge(probe: Probe, k: int, name: str, auc: tuple[float, float, float]) -> Finding:
    value, low, high = (float(v) for v in auc)
    n, recordings = int(probe.positions_of[probe.kept[k]]), int(probe.recordings_of[probe.kept[k]])
    signal = low > 0.5
    message = (
        f"{probe.head}/{name}: the probe's one-vs-rest ROC AUC is {value:.3f} ({low:.3f} to {high:.3f}; "
        f"{n:,} positions in {recordings} recordings)" + ("." if signal else ": no signal for this class was found.")
    )
    row = {"class": name, "auc": value, "low": low, "high": high, "positions": n, "recordings": recordings}
    verdict = Verdict.PASS if signal else Verdict.WARN
    subject = f"{probe.head}/{name}"
    return Finding(
        CHECK,
        verdict,
        message,
        subject,
        value,
        (low, high),
        n,
        0.5,
        (row,),
        "" if signal else _MEND,
        "" if signal else "no signal",
    )


def auc_intervals(probe: Probe, seed: int) -> NDArray[np.float64]:
    """ROC AUC of each kept class against the rest with its 95 % interval, float64 array of shape (K, 3).

    Cluster bootstrap over recordings on histograms of 256 score ranks per recording (ties count
    half), so that a resample is one matrix product. Negatives carry their inverse inclusion
    rate, so that the sample's class shares do not matter.
    """
    from imbalance_lab.metrics.intervals import cluster_bootstrap_weights, percentile_interval

    _, group = np.unique(probe.positions.group, return_inverse=True)
    n_blocks = int(group.max()) + 1
    if n_blocks > _MOST_BLOCKS:  # many small recordings: blocks of them are as independent, and cheaper
        group, n_blocks = group % _MOST_BLOCKS, _MOST_BLOCKS
    draws = cluster_bootstrap_weights(n_blocks, _RESAMPLES, np.random.default_rng([seed, 3]))
    draws = np.concatenate([np.ones((1, n_blocks)), draws])
    out = np.full((len(probe.kept), 3), np.nan)
    for k in range(len(probe.kept)):
        score = probe.probabilities[:, k]
        edges = np.unique(np.quantile(score, np.linspace(0, 1, _BINS + 1)[1:-1]))
        at = group * (_BINS + 1) + np.searchsorted(edges, score, side="left")
        own = probe.positions.label == k
        size = n_blocks * (_BINS + 1)
        positive = draws @ np.bincount(at[own], minlength=size).reshape(n_blocks, -1)
        negative = draws @ np.bincount(at[~own], probe.weight[~own], minlength=size).reshape(n_blocks, -1)
        below = np.cumsum(negative, axis=1) - negative
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        wins = (positive * (below + negative / 2)).sum(axis=1)
        auc = np.divide(wins, pairs, out=np.full(len(draws), np.nan), where=pairs > 0)
        holding = len(np.unique(group[own]))
        low, high = percentile_interval(auc[1:], n_groups=min(holding, n_blocks))
        out[k] = auc[0], float(low), float(high)
    return out
