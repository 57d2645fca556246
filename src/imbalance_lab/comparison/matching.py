"""Rows of two runs: the same positions of the same data, or an error that says where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.comparison.records import RunRecord, head_of
from imbalance_lab.errors import InputError
from imbalance_lab.predictions import HeadPredictions


@dataclass(frozen=True)
class Rows:
    """The n positions that all runs of a fold predict, as ``run`` has them; what it predicts is not kept.

    The attributes are those of :class:`imbalance_lab.predictions.HeadPredictions`; ``order`` (n,) sorts the rows by
    sequence and position.
    """

    run: RunRecord
    head: str
    classes: tuple[str, ...]
    train_counts: NDArray[np.int64]
    sequence: NDArray[np.int64]
    position: NDArray[np.int32]
    group: NDArray[np.int32]
    group_names: tuple[str, ...]
    true: NDArray[np.int32]
    slices: Mapping[str, NDArray[np.int32]]
    slice_names: Mapping[str, tuple[str, ...]]
    order: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.true)

    @property
    def recordings(self) -> frozenset[str]:
        """Names of the recordings that have a row."""
        return recordings(self.group, self.group_names)


def rows_of(run: RunRecord, head: str) -> Rows:
    """The rows of one training.

    Raises
    ------
    InputError
        If the run does not have that head.
    """
    h = head_of(run, head)
    same = ("classes", "sequence", "position", "group", "group_names", "true", "slices", "slice_names")
    return Rows(
        run=run,
        head=head,
        train_counts=np.asarray(h.train_counts, dtype=np.int64),
        order=_sorter(h),
        **{name: getattr(h, name) for name in same},
    )


def recordings(group: NDArray[np.int32], names: tuple[str, ...]) -> frozenset[str]:
    """Names of the recordings that have a row."""
    return frozenset(names[i] for i in np.flatnonzero(np.bincount(group, minlength=len(names))))


def aligned(column: NDArray[Any], order: NDArray[np.int64] | None) -> NDArray[Any]:
    """A column in the order that :func:`match` gave."""
    return column if order is None else column[order]


def match(rows: Rows, run: RunRecord, h: HeadPredictions) -> NDArray[np.int64] | None:
    """Row of ``h``, a head of ``run``, for each of ``rows``, or None where they already agree.

    Raises
    ------
    InputError
        If the run is of other data (digest, split, classes, training counts, positions, recordings or true labels), or
        the positions cannot be joined one to one.
    """
    a = rows.run
    if run is a:
        return None
    _same_data(rows, run, h)
    head = rows.head
    order: NDArray[np.int64] | None = None
    if not (np.array_equal(rows.sequence, h.sequence) and np.array_equal(rows.position, h.position)):
        order_b = _sorter(h)
        sa, pa = rows.sequence[rows.order], rows.position[rows.order]
        sb, pb = h.sequence[order_b], h.position[order_b]
        differ = (sa != sb) | (pa != pb)
        if differ.any():
            i = int(differ.argmax())
            raise InputError(
                f"run {a.run_id!r} scores (sequence {sa[i]}, position {pa[i]}) of head {head!r} where run "
                f"{run.run_id!r} scores (sequence {sb[i]}, position {pb[i]}); the same positions are needed"
            )
        twice = (sa[1:] == sa[:-1]) & (pa[1:] == pa[:-1])
        if twice.any():
            i = int(twice.argmax())
            raise InputError(
                f"(sequence {sa[i]}, position {pa[i]}) of head {head!r} occurs more than once and run {run.run_id!r} "
                f"has its rows in another order than run {a.run_id!r}; they cannot be joined one to one"
            )
        order = np.empty(len(rows), dtype=np.int64)
        order[rows.order] = order_b
    _same_column(rows, run, "true label", rows.true, aligned(h.true, order))
    # Group codes are private to a table: another table may list its recordings in another order.
    code = {name: i for i, name in enumerate(rows.group_names)}
    recode = np.array([code.get(name, -1) for name in h.group_names], dtype=np.int32)
    _same_column(rows, run, "recording", rows.group, aligned(recode[h.group], order))
    return order


def _sorter(h: HeadPredictions) -> NDArray[np.int64]:
    return np.lexsort((h.position, h.sequence))


def check_meta(a: RunRecord, b: RunRecord) -> None:
    """Refuse runs whose tables say that they are of different data or splits.

    Raises
    ------
    InputError
        Then.
    """
    digest_a, digest_b = a.test.meta.get("digest"), b.test.meta.get("digest")
    # A table that someone else made may carry no digest; the exact check of positions and labels follows anyway.
    if digest_a and digest_b and digest_a != digest_b:
        raise InputError(
            f"runs {a.run_id!r} (data digest {digest_a}) and {b.run_id!r} (data digest {digest_b}) are of different "
            "data; only runs on the same data can be compared"
        )
    split_a, split_b = a.test.meta.get("split"), b.test.meta.get("split")
    if split_a and split_b and split_a != split_b:
        raise InputError(
            f"runs {a.run_id!r} (split {split_a!r}) and {b.run_id!r} (split {split_b!r}) carry predictions of "
            "different splits; a comparison takes one split"
        )


def check_classes(rows: Rows, run: RunRecord, classes: tuple[str, ...]) -> None:
    """Refuse a run whose head has other classes.

    Raises
    ------
    InputError
        Then.
    """
    if rows.classes != classes:
        raise InputError(
            f"head {rows.head!r} has the classes {', '.join(rows.classes)} in run {rows.run.run_id!r} but "
            f"{', '.join(classes)} in run {run.run_id!r}; the same classes in the same order are needed"
        )


def _same_data(rows: Rows, run: RunRecord, h: HeadPredictions) -> None:
    a, head = rows.run, rows.head
    check_meta(a, run)
    check_classes(rows, run, h.classes)
    if run.fold is not None and (differ := rows.recordings ^ recordings(h.group, h.group_names)):
        raise InputError(
            f"run {run.run_id!r} tests other recordings in fold {run.fold} than the first run of that fold "
            f"({named(differ)}); only runs with the same folds can be compared"
        )
    if not np.array_equal(rows.train_counts, h.train_counts):
        raise InputError(
            f"head {head!r} was trained on other class counts in run {run.run_id!r} ({h.train_counts.tolist()}) than "
            f"in run {a.run_id!r} ({rows.train_counts.tolist()}); the splits differ"
        )
    if len(rows) != len(h):
        raise InputError(
            f"run {a.run_id!r} scores {len(rows)} positions of head {head!r}, run {run.run_id!r} {len(h)}; "
            "the same positions are needed"
        )


def named(names: frozenset[str]) -> str:
    """Some recordings in words."""
    first = sorted(names)
    return f"recording {first[0]!r}" + (f" and {len(first) - 1} more" if len(first) > 1 else "")


def _same_column(rows: Rows, run: RunRecord, what: str, x: NDArray[np.int32], y: NDArray[np.int32]) -> None:
    if np.array_equal(x, y):
        return
    differ = x != y
    i = int(differ.argmax())
    raise InputError(
        f"runs {rows.run.run_id!r} and {run.run_id!r} disagree on the {what} of {int(differ.sum())} positions of head "
        f"{rows.head!r}, first at sequence {rows.sequence[i]}, position {rows.position[i]}; they are of different data"
    )
