"""Do the splits share rows, recordings, duplicates, or a scaler?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.chance import beyond_chance, distinct_first, expected_twins
from imbalance_lab.audit.content import holds_nothing, near_signatures, row_hashes, sequence_hashes
from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.rate_intervals import wilson_interval
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.target_positions import factorize
from imbalance_lab.data.dataset import LoadedData

CHECK = "split leakage"
_BY_RECORDING = "split by recording, so that windows of one recording stay on one side"


def check_split_leakage(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """Shared rows by place and by content, exact and near duplicates, recordings on both sides, the scaler."""
    rows = row_hashes(loaded.dataset)
    whole = sequence_hashes(rows)
    nothing = holds_nothing(loaded.dataset)
    return (
        _shared_places(loaded),
        _shared_contents(loaded, rows, nothing),
        _duplicates(loaded, whole, np.asarray(nothing.all(axis=1))),
        _near_duplicates(loaded, whole, context.seed),
        _recordings(loaded),
        _scaler(loaded),
    )


def _verdict(subject: str, message: str, pairs: list[dict[str, Any]], hit: int, n: int, mend: str) -> Finding:
    bad = hit > 0
    return Finding(
        CHECK,
        Verdict.FAIL if bad else Verdict.PASS,
        message,
        subject,
        hit / max(n, 1),
        wilson_interval(hit, n),
        n,
        0.0,
        tuple(pairs)[:50],
        mend if bad else "",
        "artefact" if bad else "",
    )


def _held(codes: NDArray[np.int64], n_codes: int, parts: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Which of the codes each part holds, shape (len(parts), n_codes); ``codes`` has a row for each sequence."""
    held = np.zeros((len(parts), n_codes), dtype=bool)
    for i, index in enumerate(parts):
        mine = codes[index]
        held[i, mine[mine >= 0]] = True
    return held


def _overlaps(loaded: LoadedData, held: NDArray[np.bool_], unit: str) -> tuple[list[dict[str, Any]], int, int, str]:
    """Pairs of splits with the distinct things that they share; the totals are of val and test."""
    names = [name for name, _ in loaded.splits.items()]
    pairs: list[dict[str, Any]] = []
    for a, b in combinations(range(3), 2):
        shared, of = int((held[a] & held[b]).sum()), int(held[b].sum())
        pairs.append({"first": names[a], "second": names[b], "shared": shared, f"{unit} of second": of})
    train, out = held[0], held[1] | held[2]
    n, hit, across = int(out.sum()), int((train & out).sum()), int((held[1] & held[2]).sum())
    said = f"{hit:,} of the {n:,} {unit} of val and test are in train"
    return pairs, hit or across, n, said + (f", {across:,} are in val and test" if across else "")


def _parts(loaded: LoadedData) -> list[NDArray[np.int64]]:
    return [index for _, index in loaded.splits.items()]


def _shared_places(loaded: LoadedData) -> Finding:
    import pandas as pd

    data, subject = loaded.dataset, "shared rows"
    place, parts = data.unit_position, _parts(loaded)
    if data.target_length != data.continuous.shape[1]:
        message = "Targets are not rows of a recording: see shared input rows."
        return Finding(CHECK, Verdict.NOT_APPLICABLE, message, subject)
    units = _held(data.unit, int(data.unit.max(initial=-1)) + 1, parts)
    n = sum(int((place[index] >= 0).sum()) for index in parts[1:])
    if (units.sum(axis=0) < 2).all():
        return _verdict(
            subject, f"By recording and row, 0 of the {n:,} rows of val and test are in train.", [], 0, n, ""
        )
    longest = int(place.max(initial=0)) + 1
    codes, distinct = pd.factorize((data.unit[:, None] * longest + place).ravel())
    codes = np.where(place >= 0, codes.reshape(place.shape), -1)
    pairs, hit, n, said = _overlaps(loaded, _held(codes, len(distinct), parts), "rows")
    return _verdict(subject, f"By recording and row, {said}.", pairs, hit, n, _BY_RECORDING)


def _shared_contents(loaded: LoadedData, rows: NDArray[np.uint64], nothing: NDArray[np.bool_]) -> Finding:
    import pandas as pd

    subject = "shared input rows"
    if rows.shape[1] == 1:
        return Finding(CHECK, Verdict.NOT_APPLICABLE, "A sequence is one row: see exact duplicates.", subject)
    flat, distinct = pd.factorize(rows.ravel())
    codes = flat.reshape(rows.shape)
    ordered = np.sort(codes, axis=1)
    # a row that is repeated within a sequence (idle, all missing) does not tell where it comes from
    tells = np.ones(len(distinct), dtype=bool)
    tells[ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]]] = False
    codes = np.where(tells[codes] & ~nothing, codes, -1)
    if not _held(codes, len(distinct), _parts(loaded)).any(axis=1).all():
        return Finding(CHECK, Verdict.NOT_APPLICABLE, "The rows of the inputs repeat within sequences.", subject)
    return _equal(loaded, codes, len(distinct), "distinct input rows", subject, "By content", _BY_RECORDING)


def _duplicates(loaded: LoadedData, whole: NDArray[np.uint64], nothing: NDArray[np.bool_]) -> Finding:
    import pandas as pd

    codes, distinct = pd.factorize(whole)
    codes = np.where(nothing, -1, codes)[:, None]  # what holds nothing equals by holding nothing
    what, mend = "Exactly equal inputs", "drop the duplicates before splitting"
    return _equal(loaded, codes, len(distinct), "distinct sequences", "exact duplicates", what, mend)


def _equal(
    loaded: LoadedData, codes: NDArray[np.int64], n_codes: int, unit: str, subject: str, what: str, mend: str
) -> Finding:
    """Contents that two splits share, and whether they are more than chance gives; ``codes`` (N, 1) or (N, T)."""
    parts = _parts(loaded)
    held = _held(codes, n_codes, parts)
    pairs, hit, n, said = _overlaps(loaded, held, unit)
    if not hit:
        return _verdict(subject, f"{what}: {said}.", pairs, hit, n, mend)
    width = codes.shape[1]
    flat = codes.ravel()
    units = [(part[:, None] * width + np.arange(width)).ravel() for part in parts]
    units = [own[flat[own] >= 0] for own in units]
    splits = {
        "train": (units[0], np.concatenate(units[1:]), int((held[0] & (held[1] | held[2])).sum())),
        "val": (units[1], units[2], int((held[1] & held[2]).sum())),
    }
    expected = {
        name: expected_twins(loaded.dataset, first, distinct_first(flat, others), shared, by_row=width > 1)
        for name, (first, others, shared) in splits.items()
        if shared
    }
    if any(beyond_chance(splits[name][2], by_chance) for name, by_chance in expected.items()):
        return _verdict(subject, f"{what}: {said}.", pairs, hit, n, mend)
    about = " and ".join(f"{by_chance:,.1f}" for by_chance in expected.values())
    message = f"{what}: {said}, no more than chance gives for inputs with so few values (about {about})."
    interval = wilson_interval(hit, n)
    return Finding(CHECK, Verdict.PASS, message, subject, hit / max(n, 1), interval, n, evidence=tuple(pairs))


def _near_duplicates(loaded: LoadedData, whole: NDArray[np.uint64], seed: int) -> Finding:
    subject = "near duplicates"
    signatures = near_signatures(loaded.dataset, seed)
    if signatures is None:
        message = "Too few varying inputs per sequence to tell a near duplicate from chance."
        return Finding(CHECK, Verdict.NOT_APPLICABLE, message, subject)
    # exact duplicates have a finding of their own
    train = loaded.splits.train
    exact = np.isin(whole, whole[train])
    held = np.concatenate([loaded.splits.val, loaded.splits.test])
    fresh = held[~exact[held] & (signatures[held] != 0)]
    hit = int(np.isin(signatures[fresh], signatures[train]).sum())
    message = (
        f"{hit:,} of {len(fresh):,} sequences of val and test that are not exact duplicates all but equal one of train."
    )
    twins = fresh[np.isin(signatures[fresh], signatures[train])][:50]
    rows: list[dict[str, Any]] = []
    for i in twins:
        j = int(train[np.flatnonzero(signatures[train] == signatures[i])[0]])
        rows.append(
            {"sequence": int(i), "group": str(loaded.dataset.groups[i])}
            | {"twin in train": j, "its group": str(loaded.dataset.groups[j])}
        )
    return _verdict(subject, message, rows, hit, len(fresh), "drop the near duplicates, or keep them on one side")


def _recordings(loaded: LoadedData) -> Finding:
    codes, names = factorize(loaded.dataset.groups)
    held = np.zeros((3, len(names)), dtype=bool)
    for i, (_, index) in enumerate(loaded.splits.items()):
        held[i, codes[index]] = True
    both = np.flatnonzero(held.sum(axis=0) > 1)
    rows: list[dict[str, Any]] = []
    for g in both[:50]:
        counts = {name: int((codes[index] == g).sum()) for name, index in loaded.splits.items()}
        rows.append({"recording": str(names[g])} | counts)
    message = f"{len(both):,} of {len(names):,} recordings have sequences in more than one split."
    return _verdict("recordings", message, rows, len(both), len(names), _BY_RECORDING)


def _scaler(loaded: LoadedData) -> Finding:
    bad = loaded.scaler_fitted_on != "train"
    return Finding(
        CHECK,
        Verdict.FAIL if bad else Verdict.PASS,
        f"The scaler was fitted on {'all splits, val and test included' if bad else 'train alone'}.",
        "scaler",
        evidence=({"scaler fitted on": loaded.scaler_fitted_on},),
        mend="fit the scaler and the imputation on train alone" if bad else "",
        kind="artefact" if bad else "",
    )
