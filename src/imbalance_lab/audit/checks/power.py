"""What difference could be seen at all, with this many positions and recordings? And how many would it take?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.target_positions import group_counts, scored_positions
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.formats import listed
from imbalance_lab.metrics.needed_evidence import recordings_before_training

CHECK = "power"
_SIGNIFICANCE, _POWER = 0.05, 0.8


def detectable_difference(by_group: NDArray[np.int64], intraclass: float, paired: float) -> NDArray[np.float64]:
    """Smallest difference in recall between two runs on the same positions that 80 % of tests would find.

    Parameters
    ----------
    by_group : int64 array of shape (n_groups, K), positions of each class per recording
    intraclass : correlation of being right between two positions of one recording
    paired : correlation of being right between the two runs

    Returns
    -------
    float64 array of shape (K,), at most 1; NaN for a class without positions

    Notes
    -----
    Two-sided 5 % normal test of a paired difference at recall 1/2, the worst case:
    (z_.975 + z_.8) sqrt(2 p (1 - p) (1 - paired) D / n) with the design effect
    D = 1 + (sum m^2 / sum m - 1) intraclass for recordings of unequal size m (Kish 1965, 8.2).
    """
    from scipy.stats import norm

    n = by_group.sum(axis=0).astype(np.float64)
    out = np.full(len(n), np.nan)
    some = n > 0
    squares = (by_group[:, some].astype(np.float64) ** 2).sum(axis=0)
    design = 1 + (squares / n[some] - 1) * intraclass
    z = norm.ppf(1 - _SIGNIFICANCE / 2) + norm.ppf(_POWER)
    out[some] = np.minimum(1.0, z * np.sqrt(2 * 0.25 * (1 - paired) * design / n[some]))
    return out


def mean_detectable(difference: NDArray[np.float64]) -> float:
    """The same for the mean recall of K classes (balanced accuracy), the classes' errors taken as independent.

    ``difference`` are those of the single classes, shape (K,).
    """
    return float(np.sqrt((difference**2).sum()) / len(difference))


def check_power(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """One finding per head: the detectable difference in recall of each class on test, and what a smaller one takes.

    With folds every recording is tested, and all are counted.
    """
    if not len(loaded.splits.test):
        return (Finding(CHECK, Verdict.NOT_APPLICABLE, "test is empty."),)
    return tuple(_head(loaded, head, context) for head in loaded.dataset.heads)


def _before_training(difference: NDArray[np.float64], recordings: int, margin: float) -> str:
    """What the mean over classes shows, and what a difference of ``margin`` would take, before anything is trained."""
    mean = mean_detectable(difference)
    shown = f" In the mean recall of its {len(difference)} classes, {recordings} recordings show one from {mean:.3f} on"
    if mean <= margin:
        return f"{shown}."
    needed = recordings_before_training(margin, recordings, mean)
    return f"{shown}; one of {margin:g} would take about {needed:,.0f} recordings like these."


def _head(loaded: LoadedData, head: str, context: AuditContext) -> Finding:
    limits, pilot, classes = context.thresholds, context.pilot, loaded.dataset.heads[head]
    tested = loaded.splits.test if loaded.fold is None else None
    where = "on test" if loaded.fold is None else f"over all {loaded.fold.count} folds"
    by_group = group_counts(scored_positions(loaded.dataset, head, tested), len(classes))
    counts, recordings = by_group.sum(axis=0), (by_group > 0).sum(axis=0)
    n_recordings = int(by_group.any(axis=1).sum())
    difference = detectable_difference(by_group, limits.intraclass_correlation, limits.paired_correlation)
    present = np.flatnonzero(counts)
    if not loaded.dataset.class_counts(head, loaded.splits.train).any():
        return Finding(CHECK, Verdict.NOT_APPLICABLE, f"train has no label of {head}.", head)
    if not len(present):
        return Finding(CHECK, Verdict.NOT_APPLICABLE, f"test has no scored position of {head}.", head)
    order = present[np.argsort(-difference[present], kind="stable")]
    rows = tuple(
        {"head": head, "class": classes[c], "detectable difference": float(difference[c])}
        | {"positions": int(counts[c]), "recordings": int(recordings[c])}
        | {"enough": bool(counts[c] >= limits.min_positions and recordings[c] >= limits.min_recordings)}
        for c in order[:50]
    )
    weak = [c for c in order if difference[c] > limits.detectable_difference]
    named = listed([f"{classes[c]} {difference[c]:.2f}" for c in weak or order[:1]])
    message = (
        f"{head}: {where} a difference in recall can be seen from "
        f"{named} on"
        + (
            f" ({len(weak)} of {len(present)} classes need more than {limits.detectable_difference:.2f})."
            if weak
            else " or less in every class."
        )
        + _before_training(difference[present], n_recordings, context.margin)
        + (f" {pilot.words(n_recordings, context.margin)}" if pilot is not None and pilot.head == head else "")
    )
    worst = order[0]
    verdict = Verdict.WARN if weak else Verdict.PASS
    mend = "record more of these classes for test, or compare them by cross-validation over recordings" if weak else ""
    return Finding(
        CHECK,
        verdict,
        message,
        head,
        float(difference[worst]),
        None,
        int(counts[worst]),
        limits.detectable_difference,
        rows,
        mend,
    )
