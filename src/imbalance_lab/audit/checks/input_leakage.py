"""Can one channel, one categorical channel, or the pattern of missing channels give the label away?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.leak_finding import judge_shares
from imbalance_lab.audit.missing_leakage import PATTERN_MEND, check_slice, missing_pattern_shares
from imbalance_lab.audit.predictability import Resampled, Share, table_prediction, tree_prediction, weighted_folds
from imbalance_lab.audit.probe import usable_positions
from imbalance_lab.audit.probe_features import grouped_folds, measured, neighbours, per_step
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.target_positions import Positions, stratified_sample
from imbalance_lab.data.dataset import LoadedData, SequenceDataset

CHECK = "input leakage"
_LIMIT = 6000
_FOLDS = 3
_CHANNEL_MEND = "leave the channel out of the inputs, or make sure that it is known before the label is"


def check_input_leakage(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """Single channels, categorical channels and missing-value patterns against each head and slice."""
    findings = [_dead_channels(loaded)]
    for head in loaded.dataset.heads:
        findings += _head(loaded, head, context)
    findings += [check_slice(CHECK, loaded, name, context) for name in loaded.dataset.slices]
    return tuple(findings)


def _dead_channels(loaded: LoadedData) -> Finding:
    """Channels that never change in train, or were never measured there: nothing can be learned from them."""
    missing, constant, infinite = [], [], []
    for c, name in enumerate(loaded.dataset.channels):
        values = loaded.dataset.continuous[loaded.splits.train, :, c]
        low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        if np.isnan(low):
            missing.append(name)
        elif low == high:
            constant.append(name)
        elif np.isinf(low) or np.isinf(high):
            infinite.append(name)
    n = len(loaded.dataset.channels)
    faults = {"all missing": missing, "constant": constant, "infinite in places": infinite}
    rows = [{"channel": name, "fault": fault} for fault, names in faults.items() for name in names]
    if not rows:
        return Finding(CHECK, Verdict.PASS, f"Each of the {n} channels varies in train.", "dead channels", 0.0, n=n)
    parts = [
        f"{len(names)} are {fault} ({', '.join(names[:5])}{' ...' if len(names) > 5 else ''})"
        for fault, names in faults.items()
        if names
    ]
    message = f"Of {n} channels in train, {' and '.join(parts)}."
    return Finding(
        CHECK,
        Verdict.WARN,
        message,
        "dead channels",
        len(rows) / n,
        n=n,
        threshold=0.0,
        evidence=tuple(rows[:50]),
        mend="leave these channels out",
    )


def _head(loaded: LoadedData, head: str, context: AuditContext) -> list[Finding]:
    limits, data = context.thresholds, loaded.dataset
    positions, kept, _, _ = usable_positions(loaded, head, limits.min_positions, limits.min_recordings)
    if len(kept) < 2:
        enough = f"{limits.min_positions} positions and {limits.min_recordings} recordings"
        message = f"Fewer than two classes of {head} have {enough}."
        return [Finding(CHECK, Verdict.INSUFFICIENT, message, head)]
    sample = positions.take(stratified_sample(positions.label, _LIMIT, context.seed)[0])
    fold = grouped_folds(sample.label, sample.group, _FOLDS, context.seed)
    if fold is None:
        return [Finding(CHECK, Verdict.INSUFFICIENT, f"{head} needs at least two recordings for grouped folds.", head)]
    floor = _floor(data, sample, fold)
    resampled = Resampled.of(sample, floor, context.seed)
    channels = _channels(data, resampled, fold, floor, context.seed)
    channels += _categorical(data, resampled, fold, floor)
    findings = []
    if channels:
        subject, what = f"{head}/channel", f"label of {head}"
        findings.append(judge_shares(CHECK, channels, subject, what, limits, _CHANNEL_MEND, stops=True))
    found = missing_pattern_shares(data, sample, fold, floor, data.heads[head], kept, context.seed)
    if found:
        subject, what = f"{head}/missing pattern", f"label of {head}"
        findings.append(judge_shares(CHECK, found, subject, what, limits, PATTERN_MEND, stops=True))
    return findings


def _floor(data: SequenceDataset, sample: Positions, fold: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Prediction from the place alone where targets are tokens: no channel is to be blamed for that."""
    return None if per_step(data) else table_prediction(sample.place, sample.label, fold)


def _channels(
    data: SequenceDataset, resampled: Resampled, fold: NDArray[np.int64], floor: NDArray[np.int64] | None, seed: int
) -> list[Share]:
    from joblib import Parallel, delayed

    sample = resampled.sample
    if not len(data.channels):
        return []
    if data.continuous.shape[1] == 1:
        values = measured(data.continuous[sample.row])
    elif per_step(data):
        values = neighbours(data, sample)
    else:
        rows, inverse = np.unique(sample.row, return_inverse=True)
        window = measured(data.continuous[rows])
        known = np.isfinite(window)
        count = known.sum(axis=1)
        mean = np.divide(
            np.where(known, window, 0).sum(axis=1), count, out=np.full(count.shape, np.nan), where=count > 0
        )
        values = np.stack([window[:, 0], mean.astype(np.float32), window[:, -1]], axis=1)[inverse]
    columns = values.transpose(2, 0, 1)  # (C, n, lags)
    if floor is not None:
        place = np.broadcast_to(sample.place[None, :, None].astype(np.float32), (len(columns), len(sample), 1))
        columns = np.concatenate([columns, place], axis=2)
    folds = weighted_folds(sample.label, fold)

    def one(c: int) -> Share | None:
        measured = columns[c][:, :3]
        finite = measured[np.isfinite(measured)]
        if not finite.size or finite.min() == finite.max():
            return None
        return resampled.share(data.channels[c], tree_prediction(columns[c], sample.label, folds, seed))

    shares = Parallel(n_jobs=-1, prefer="threads")(delayed(one)(c) for c in range(len(columns)))
    return [s for s in shares if s is not None]


def _categorical(
    data: SequenceDataset, resampled: Resampled, fold: NDArray[np.int64], floor: NDArray[np.int64] | None
) -> list[Share]:
    sample = resampled.sample
    at = sample.place if per_step(data) else np.zeros_like(sample.place)
    shares = []
    for k, name in enumerate(data.categorical_channels):
        codes = data.categorical[sample.row, at, k]
        if len(np.unique(codes)) > 1:
            code = codes if floor is None else codes * data.target_length + sample.place
            shares.append(resampled.share(name, table_prediction(code, sample.label, fold), codes))
    return shares
