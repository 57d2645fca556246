"""What the pattern of missing channels tells about labels and slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.leak_finding import judge_shares
from imbalance_lab.audit.patterns import missing_patterns
from imbalance_lab.audit.predictability import Resampled, Share, table_prediction
from imbalance_lab.audit.probe_features import grouped_folds
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.target_positions import Positions, factorize, stratified_sample
from imbalance_lab.data.dataset import LoadedData, SequenceDataset

PATTERN_MEND = "impute without a missingness indicator, and drop whole sensor frames at random during training"
_FOLDS = 3
_LIMIT = 20_000
_MOST_VALUES = 40


def missing_pattern_shares(
    data: SequenceDataset,
    sample: Positions,
    fold: NDArray[np.int64],
    floor: NDArray[np.int64] | None,
    names: Sequence[str],
    kept: NDArray[np.int64],
    seed: int,
) -> list[Share]:
    """How much the pattern tells of all values together, and of each against the rest; [] without missing values.

    ``sample.label`` indexes ``kept``, and that ``names``. A pattern that marks one value alone
    would hardly show among many values, hence one against the rest.
    """
    patterns = missing_patterns(data, sample)
    if patterns.max(initial=0) == 0:
        return []
    code = patterns if floor is None else patterns * data.target_length + sample.place
    resampled = Resampled.of(sample, floor, seed)
    shares = [resampled.share("missing pattern", table_prediction(code, sample.label, fold), code)]
    for k in range(min(len(kept), _MOST_VALUES) if len(kept) > 2 else 0):
        own = replace(sample, label=(sample.label == k).astype(np.int64))
        base = None if floor is None else table_prediction(sample.place, own.label, fold)
        name = f"missing pattern for {names[kept[k]]}"
        shares.append(Resampled.of(own, base, seed).share(name, table_prediction(code, own.label, fold), code))
    return shares


def check_slice(check: str, loaded: LoadedData, name: str, context: AuditContext) -> Finding:
    """Whether the pattern of missing channels tells the slice: then a model can know it and learn it by heart."""
    data, limits, subject = loaded.dataset, context.thresholds, f"{name}/missing pattern"
    codes, values = factorize(data.slices[name])
    rows = np.sort(np.concatenate([loaded.splits.train, loaded.splits.val]))
    group, names = factorize(data.groups)
    whole = Positions(rows, np.zeros_like(rows), codes[rows], group[rows], names)
    patterns = missing_patterns(data, whole)
    held = np.zeros((len(values), len(names)), dtype=bool)
    held[whole.label, whole.group] = True
    enough = np.flatnonzero(held.sum(axis=1) >= limits.min_recordings)
    if patterns.max(initial=0) == 0:
        return Finding(
            check, Verdict.PASS, "Every sequence misses the same channels, or none.", subject, 0.0, n=len(rows)
        )
    if len(enough) < 2:
        message = f"Fewer than two values of {name} have {limits.min_recordings} recordings."
        return Finding(check, Verdict.INSUFFICIENT, message, subject, n=len(rows))
    new = np.full(len(values), -1, dtype=np.int64)
    new[enough] = np.arange(len(enough))
    use = np.flatnonzero(new[whole.label] >= 0)
    part = Positions(whole.row[use], whole.place[use], new[whole.label[use]], whole.group[use], names)
    chosen = stratified_sample(part.label, _LIMIT, context.seed)[0]
    sample, pattern = part.take(chosen), patterns[use][chosen]
    fold = grouped_folds(sample.label, sample.group, _FOLDS, context.seed)
    if fold is None:
        return Finding(check, Verdict.INSUFFICIENT, f"{name} needs at least two recordings for grouped folds.", subject)
    shares = missing_pattern_shares(data, sample, fold, None, [str(v) for v in values], enough, context.seed)
    finding = judge_shares(check, shares, subject, name, limits, PATTERN_MEND, stops=False)
    table = tuple(_pattern_rows(sample, pattern, [str(values[c]) for c in enough]))
    return replace(finding, evidence=(finding.evidence + table)[:50])


def _pattern_rows(sample: Positions, pattern: NDArray[np.int64], values: list[str]) -> list[dict[str, Any]]:
    table = np.zeros((int(pattern.max()) + 1, len(values)), dtype=np.int64)
    np.add.at(table, (pattern, sample.label), 1)
    order = np.argsort(-table.sum(axis=1), kind="stable")[:30]
    return [{"pattern": int(p)} | dict(zip(values, table[p].tolist(), strict=True)) for p in order]
