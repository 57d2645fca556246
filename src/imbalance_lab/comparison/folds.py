"""Cross-validation: the out-of-fold predictions of one strategy and seed become one run that tests every recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from imbalance_lab.comparison.records import RunRecord, head_of
from imbalance_lab.errors import InputError
from imbalance_lab.predictions import HeadPredictions, Predictions


def pool_folds(runs: Sequence[RunRecord], head: str) -> tuple[RunRecord, ...]:
    """One record for each (strategy, seed), its folds in :attr:`RunRecord.folds`; records without folds as they are.

    The test rows of the folds are set below each other, by fold; ``val_score`` is the mean over folds, ``seconds``
    their sum, ``run_id`` that of the first fold. Classes are averaged as the pooled rows hold them.

    Raises
    ------
    InputError
        If only some runs have a fold, a fold is missing or doubled, a recording is tested in two folds, or the runs
        have different folds.
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
    tested = _tested(members, head)
    for own in members.values():
        for fold, run in own.items():
            mine = frozenset(_recordings(run, head))
            if mine != tested[fold]:
                raise InputError(
                    f"run {run.run_id!r} tests other recordings in fold {fold} than the first run of that fold "
                    f"({_named(mine ^ tested[fold])}); only runs with the same folds can be compared"
                )
    return tuple(_pooled([own[fold] for fold in sorted(own)], head) for own in members.values())


def _tested(members: Mapping[tuple[str, int], Mapping[int, RunRecord]], head: str) -> dict[int, frozenset[str]]:
    """Test recordings of each fold, checked: all runs have all folds, no recording stands in two."""
    expected = sorted({fold for own in members.values() for fold in own})
    tested: dict[int, frozenset[str]] = {}
    for (strategy, seed), own in members.items():
        missing = [fold for fold in expected if fold not in own]
        if missing:
            raise InputError(
                f"strategy {strategy!r} with seed {seed} has no fold {missing[0]}; its folds are "
                f"{', '.join(map(str, sorted(own)))}, those of the comparison {', '.join(map(str, expected))}"
            )
        for fold, run in own.items():
            tested.setdefault(fold, frozenset(_recordings(run, head)))
    if len(expected) < 2:
        raise InputError(f"the runs have one fold ({expected[0]}); a cross-validation has at least two")
    for i, a in enumerate(expected):
        for b in expected[i + 1 :]:
            if both := tested[a] & tested[b]:
                raise InputError(
                    f"folds {a} and {b} both test {_named(both)}; each recording is tested in exactly one fold"
                )
    return tested


def _recordings(run: RunRecord, head: str) -> tuple[str, ...]:
    h = head_of(run, head)
    return tuple(h.group_names[i] for i in np.unique(h.group))


def _named(names: frozenset[str]) -> str:
    first = sorted(names)
    return f"recording {first[0]!r}" + (f" and {len(first) - 1} more" if len(first) > 1 else "")


def _pooled(folds: Sequence[RunRecord], head: str) -> RunRecord:
    first, heads = folds[0], [head_of(run, head) for run in folds]
    for run, h in zip(folds, heads, strict=True):
        if h.classes != heads[0].classes:
            raise InputError(
                f"head {head!r} has the classes {', '.join(heads[0].classes)} in run {first.run_id!r} but "
                f"{', '.join(h.classes)} in run {run.run_id!r}; the same classes in the same order are needed"
            )
        digests = first.test.meta.get("digest"), run.test.meta.get("digest")
        if all(digests) and digests[0] != digests[1]:
            raise InputError(
                f"runs {first.run_id!r} (data digest {digests[0]}) and {run.run_id!r} (data digest {digests[1]}) are "
                "of different data; only runs on the same data can be compared"
            )
    scores = [run.val_score for run in folds if run.val_score is not None]
    seconds = [run.seconds for run in folds if run.seconds is not None]
    return replace(
        first,
        fold=None,
        folds=tuple(folds),
        test=pool_predictions([run.test for run in folds], (head,)),
        val_score=float(np.mean(scores)) if len(scores) == len(folds) else None,
        seconds=float(np.sum(seconds)) if len(seconds) == len(folds) else None,
        report=None,
    )


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
    meta = {key: first.meta[key] for key in _OF_ALL if key in first.meta}
    return Predictions({name: _stacked([fold.heads[name] for fold in folds]) for name in names}, meta)


def _stacked(heads: Sequence[HeadPredictions]) -> HeadPredictions:
    """The rows of all folds; codes of recordings and slices are those of the union of their names."""
    first = heads[0]
    columns = ("sequence", "position", "from_start", "from_end", "true", "pred", "probabilities")
    groups, group = _recoded([(h.group_names, h.group) for h in heads])
    slices = {
        name: _recoded([(h.slice_names[name], h.slices[name]) for h in heads])
        for name in first.slices
        if all(name in h.slices for h in heads)
    }
    return HeadPredictions(
        classes=first.classes,
        train_counts=np.sum([h.train_counts for h in heads], axis=0),
        group=group,
        group_names=groups,
        slices={name: code for name, (_, code) in slices.items()},
        slice_names={name: names for name, (names, _) in slices.items()},
        **{name: np.concatenate([getattr(h, name) for h in heads]) for name in columns},
    )


def _recoded(parts: Sequence[tuple[Sequence[str], np.ndarray]]) -> tuple[tuple[str, ...], np.ndarray]:
    names = tuple(dict.fromkeys(name for own, _ in parts for name in own))
    place = {name: i for i, name in enumerate(names)}
    codes = [np.array([place[name] for name in own], dtype=np.int32)[code] for own, code in parts]
    return names, np.concatenate(codes)
