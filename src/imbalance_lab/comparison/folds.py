"""Cross-validation: the out-of-fold predictions of one strategy and seed become one run that tests every recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.comparison.matching import Rows, check_classes, check_meta, named, rows_of
from imbalance_lab.comparison.records import RunRecord
from imbalance_lab.errors import InputError
from imbalance_lab.predictions import HeadPredictions, Predictions


def pool_folds(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """One record for each (strategy, seed), its folds in :attr:`RunRecord.folds`; records without folds as they are.

    The rows stay where they are, in the folds. ``val_score`` is the mean over folds, ``seconds`` their sum, ``run_id``
    that of the fold whose model stands for all (:func:`typical_fold`).

    Raises
    ------
    InputError
        If only some runs have a fold, or a fold is missing or doubled.
    """
    within = [run for run in runs if run.fold is not None]
    if not within:
        return tuple(runs)
    if len(within) < len(runs):
        other = next(run for run in runs if run.fold is None)
        raise InputError(
            f"run {within[0].run_id!r} is fold {within[0].fold} of a cross-validation, run {other.run_id!r} has no "
            "fold; they test different recordings and cannot be compared"
        )
    members: dict[tuple[str, int], dict[int, RunRecord]] = {}
    for run in within:
        own = members.setdefault((run.strategy, run.seed), {})
        if run.fold in own:
            raise InputError(
                f"runs {own[run.fold].run_id!r} and {run.run_id!r} are both fold {run.fold} of strategy "
                f"{run.strategy!r} with seed {run.seed}; a comparison takes one run per strategy, seed and fold"
            )
        own[int(run.fold or 0)] = run
    expected = sorted({fold for own in members.values() for fold in own})
    for (strategy, seed), own in members.items():
        missing = [fold for fold in expected if fold not in own]
        if missing:
            raise InputError(
                f"strategy {strategy!r} with seed {seed} has no fold {missing[0]}; its folds are "
                f"{', '.join(map(str, sorted(own)))}, those of the comparison {', '.join(map(str, expected))}"
            )
    if len(expected) < 2:
        raise InputError(f"the runs have one fold ({expected[0]}); a cross-validation has at least two")
    return tuple(_pooled([own[fold] for fold in expected]) for own in members.values())


def _pooled(folds: Sequence[RunRecord]) -> RunRecord:
    first = folds[0]
    for run in folds[1:]:
        check_meta(first, run)
    scores = [run.val_score for run in folds if run.val_score is not None]
    seconds = [run.seconds for run in folds if run.seconds is not None]
    return replace(
        first,
        run_id=typical_fold(folds).run_id,
        fold=None,
        folds=tuple(folds),
        test=Predictions({}, _common_meta(first.test)),
        val_score=float(np.mean(scores)) if len(scores) == len(folds) else None,
        seconds=float(np.sum(seconds)) if len(seconds) == len(folds) else None,
        report=None,
    )


def rows_of_folds(folds: Sequence[RunRecord], head: str) -> tuple[Rows, ...]:
    """The rows of each fold of one run.

    Raises
    ------
    InputError
        If the folds have other classes, or a recording is tested in two of them.
    """
    found = tuple(rows_of(run, head) for run in folds)
    for rows in found[1:]:
        check_classes(found[0], rows.run, rows.classes)
    tested = [rows.recordings for rows in found]
    for i, a in enumerate(folds):
        for j in range(i + 1, len(folds)):
            if both := tested[i] & tested[j]:
                raise InputError(
                    f"folds {a.fold} and {folds[j].fold} both test {named(both)}; each recording is tested in exactly "
                    "one fold"
                )
    return found


def typical_fold(folds: Sequence[RunRecord]) -> RunRecord:
    """The fold whose validation score is the median of all; of two in the middle the lower, of equal ones the first.

    Folds are validated on different recordings: the best score is as likely that of the easiest recordings as that of
    the best model. A fold without a score comes last.
    """
    ordered = sorted(folds, key=lambda run: (run.val_score is None, run.val_score or 0.0, run.fold))
    scored = sum(run.val_score is not None for run in folds)
    return ordered[max(scored - 1, 0) // 2]


_OF_ALL = ("digest", "split", "strategy", "seed", "experiment", "primary_head", "folds")
"""What the tables of all folds say alike; temperatures, corrections and epochs are those of a fold."""


def pool_predictions(folds: Sequence[Predictions], heads: Sequence[str] | None = None) -> Predictions:
    """The out-of-fold rows of one strategy and seed set below each other, by fold.

    Parameters
    ----------
    heads : which (default: those that every fold has)

    Returns
    -------
    Predictions
        Training counts are the sums over folds. What was fitted in a fold (temperature, free lunch) is not in its
        ``meta``: no single number stands for all.
    """
    first = folds[0]
    names = [h for h in first.heads if all(h in fold.heads for fold in folds)] if heads is None else heads
    return Predictions({name: _stacked([fold.heads[name] for fold in folds]) for name in names}, _common_meta(first))


def _common_meta(table: Predictions) -> dict[str, Any]:
    return {key: table.meta[key] for key in _OF_ALL if key in table.meta}


def _stacked(heads: Sequence[HeadPredictions]) -> HeadPredictions:
    """The rows of all folds; codes of recordings and slices are those of the union of their names."""
    first = heads[0]
    columns = ("sequence", "position", "from_start", "from_end", "true", "pred", "probabilities")
    groups, group = recoded([(h.group_names, h.group) for h in heads])
    slices = common_slices(heads)
    return HeadPredictions(
        classes=first.classes,
        train_counts=np.sum([h.train_counts for h in heads], axis=0),
        group=group,
        group_names=groups,
        slices={name: code for name, (_, code) in slices.items()},
        slice_names={name: names for name, (names, _) in slices.items()},
        **{name: np.concatenate([getattr(h, name) for h in heads]) for name in columns},
    )


def common_slices(heads: Sequence[HeadPredictions | Rows]) -> dict[str, tuple[tuple[str, ...], NDArray[np.int32]]]:
    """Names and codes of the slices that all of them have, their rows below each other."""
    return {
        name: recoded([(h.slice_names[name], h.slices[name]) for h in heads])
        for name in heads[0].slices
        if all(name in h.slices for h in heads)
    }


def recoded(parts: Sequence[tuple[Sequence[str], NDArray[np.int32]]]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The union of the parts' names, and their codes below each other as codes into it."""
    names = tuple(dict.fromkeys(name for own, _ in parts for name in own))
    place = {name: i for i, name in enumerate(names)}
    codes = [np.array([place[name] for name in own], dtype=np.int32)[code] for own, code in parts]
    return names, np.concatenate(codes)
