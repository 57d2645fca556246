"""From what ``data.split`` says to the side of every group: drawn by fractions, in folds, or given by the team.

Folds: each stratum is dealt out to the K parts in turn, of many draws the one is kept that leaves the
fewest classes missing (see :mod:`.splits`), and exchanges mend the rest. Fold k tests part k; its
validation groups are drawn from the other parts with the same care, a share of them that is
``fractions[1] / (fractions[0] + fractions[1])`` of the defaults, and train is what is left.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from imbalance_lab.data.dataset import Fold, Splits, digest_of
from imbalance_lab.data.source_options import DigitsSplit, FractionSplit
from imbalance_lab.data.splits import assign_folds, assign_groups, class_counts, group_strata
from imbalance_lab.errors import InputError
from imbalance_lab.randomness import derive_seed

Ints = NDArray[np.int64]
SIDES = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
_DRAWN = -1
_SHOWN = 5


@dataclass(frozen=True)
class Groups:
    """G groups (recordings) and what they hold.

    Attributes
    ----------
    names, strata : str arrays of shape (G,)
    counts : sparse int64 array of shape (G, K), positions of each class (of all heads) in each group
    classes : head and class of each of the K columns
    held_out : as ``counts``, of a group in val or test, where its positions differ then
    given : int64 array of shape (G,), the side that a column or a file gives each group, -1 where it
        is drawn; None where nothing is given
    """

    names: NDArray[np.str_]
    strata: NDArray[np.str_]
    counts: sparse.csr_array
    classes: tuple[tuple[str, str], ...]
    held_out: sparse.csr_array | None = None
    given: Ints | None = None

    def holds(self, side: int) -> sparse.csr_array:
        """Positions of each class in each group that lies on this side, shape (G, K)."""
        return self.counts if side == TRAIN or self.held_out is None else self.held_out

    def subset(self, index: Ints) -> Groups:
        """The groups at ``index``."""
        outside = None if self.held_out is None else sparse.csr_array(self.held_out[index])
        return replace(
            self,
            names=self.names[index],
            strata=self.strata[index],
            counts=sparse.csr_array(self.counts[index]),
            held_out=outside,
            given=None if self.given is None else self.given[index],
        )


@dataclass(frozen=True)
class Plan:
    """Side of each group, int64 array of shape (F, G): one row per fold, or one row without folds.

    ``notes`` are sentences on what the folds cannot give; ``folds`` is None without folds, and ``digest``
    is empty then.
    """

    sides: Ints
    folds: int | None = None
    notes: tuple[str, ...] = ()
    digest: str = ""

    def of_data(self, arrays: Iterable[NDArray[Any]]) -> Plan:
        """The plan with the digest of its sides and of the data before any fold; as it is without folds."""
        return self if self.folds is None else replace(self, digest=digest_of(self.sides, *arrays))

    def fold(self, number: int | None) -> Fold | None:
        """Which fold ``number`` is; None without folds."""
        return None if self.folds is None or number is None else Fold(number, self.folds, self.digest)

    def side(self, fold: int | None) -> Ints:
        """Side of each group in fold ``fold`` (None without folds), int64 array of shape (G,)."""
        return self.sides[fold or 0]

    @property
    def facts(self) -> dict[str, object]:
        """What a source records of its folds."""
        return {"notes_on_folds": " ".join(self.notes)} if self.notes else {}


def plan_split(groups: Groups, split: FractionSplit | DigitsSplit, fractions: Sequence[float]) -> Plan:
    """Side of every group.

    Parameters
    ----------
    fractions : shares of train, val and test where nothing else is said

    Raises
    ------
    InputError
        Too few groups; more folds than they allow; names that no group has; a class that train never holds.
    """
    if split.all_test:
        return Plan(np.full((1, len(groups.names)), TEST))
    if split.folds is not None:
        return _in_folds(groups, split, split.folds)
    given = _named(groups, split.names)
    if given is None:
        side = assign_groups(groups.strata, groups.counts, fractions, split.seed, held_out=groups.held_out)
        return Plan(side[None])
    if VAL not in given and _DRAWN in given:
        given = _with_validation(groups, given, split.val_share, split.seed)
    given = np.where(given == _DRAWN, TRAIN, given)
    for number, name in enumerate(SIDES):
        if not (given == number).any():
            raise InputError(f"data.split leaves no recording for {name}; each of train, val and test needs one")
    _require_in_train(groups, given)
    return Plan(given[None])


def _with_validation(groups: Groups, given: Ints, share: float, seed: int) -> Ints:
    """``given`` with the groups that are to be drawn shared out to train and validation."""
    index = np.flatnonzero(given == _DRAWN)
    if len(index) < 2:
        raise InputError(
            f"{len(index)} recording(s) are left beside those tested, at least 2 are needed: one each for train and val"
        )
    rest = groups.subset(index)
    drawn = assign_groups(rest.strata, rest.counts, (1 - share, share), seed, held_out=rest.held_out)
    out = given.copy()
    out[index] = drawn
    return out


def _in_folds(groups: Groups, split: FractionSplit | DigitsSplit, folds: int) -> Plan:
    _require_enough(groups, folds)
    # what a group holds when it is tested and when it is trained on are both spread over the folds
    both = [groups.counts] if groups.held_out is None else [groups.held_out, groups.counts]
    tested = assign_folds(groups.strata, sparse.csr_array(sparse.hstack(both, format="csr")), folds, split.seed)
    sides = np.stack(
        [
            _with_validation(
                groups, np.where(tested == k, TEST, _DRAWN), split.val_share, derive_seed(split.seed, "fold", k)
            )
            for k in range(folds)
        ]
    )
    return Plan(sides, folds, _notes(groups, sides))


def _require_enough(groups: Groups, folds: int) -> None:
    """As in scikit-learn's StratifiedKFold: some class of each head lies in as many groups as there are folds.

    Besides, each fold leaves a group for train and one for val. What is named as the largest number meets all of it.
    """
    n, members = len(groups.names), _members(groups.counts)
    limits = [(n, f"there are {n} recording(s)")]
    for head in dict.fromkeys(head for head, _ in groups.classes):
        column = np.array([h == head for h, _ in groups.classes])
        if most := int(members[column].max(initial=0)):
            name = groups.classes[int(np.where(column, members, -1).argmax())][1]
            limits.append((most, f"no class of {head} lies in more than {most} recording(s) ({name!r} is in {most})"))
    largest = min(most for most, _ in limits)
    work = [k for k in range(2, largest + 1) if n - -(-n // k) >= 2]  # 3 groups in 2 folds: one fold leaves one group
    if folds in work:
        return
    why = next((words for most, words in limits if most < folds), limits[0][1])
    if work:
        what = f"the largest that works is folds: {work[-1]}" if folds > work[-1] else f"folds: {work[-1]} works"
    elif n < 3:
        what = "at least 3 recordings are needed"
    else:
        what = "each class needs two recordings" if largest < 2 else "no number of folds works"
    raise InputError(f"data.split.folds is {folds}, but {why}; {what}")


def _members(counts: sparse.csr_array) -> Ints:
    """Groups that hold each class, int64 array of shape (K,)."""
    found = sparse.csr_array(counts > 0)
    return np.bincount(found.indices, minlength=counts.shape[1]).astype(np.int64)


def _notes(groups: Groups, sides: Ints) -> tuple[str, ...]:
    """Sentences on the classes that a fold's train lacks, and on those that not every fold can test.

    Raises
    ------
    InputError
        If no fold has a class in train that recordings in train could hold.
    """
    found = {side: sparse.csr_array(groups.holds(side) > 0).astype(np.int64) for side in range(3)}
    held = np.stack([[(sides[k] == s).astype(np.int64) @ found[s] for s in range(3)] for k in range(len(sides))])
    trainable = _members(groups.counts) > 0
    exists = trainable | (_members(groups.holds(TEST)) > 0)
    notes = []
    lacking = held[:, TRAIN] == 0
    for c in np.flatnonzero(exists & lacking.any(axis=0)).tolist():
        head, name = groups.classes[c]
        of_class = f"class {name!r} of {head}"
        if lacking[:, c].all() and trainable[c]:
            raise InputError(f"no fold has {of_class} in train; give fewer folds or another data.split.seed")
        if lacking[:, c].all():
            notes.append(f"No fold has {of_class} in train: only windows that are cut for val and test hold it.")
        else:
            folds = ", ".join(map(str, np.flatnonzero(lacking[:, c]).tolist()))
            notes.append(f"Fold {folds} lacks {of_class} in train: nothing can learn it there.")
    if len(notes) > _SHOWN:
        notes = [*notes[:_SHOWN], f"{len(notes) - _SHOWN} more classes are lacking in the train part of a fold."]
    members = _members(groups.holds(TEST))
    few = np.flatnonzero((members > 0) & (members < len(sides)))
    if len(few):
        shown = [f"{groups.classes[c][1]} of {groups.classes[c][0]} ({members[c]})" for c in few[:_SHOWN].tolist()]
        more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
        notes.append(
            f"{len(few)} class(es) lie in fewer recordings than the {len(sides)} folds, so that some folds do not "
            f"test them: {', '.join(shown)}{more}."
        )
    return tuple(notes)


def _named(groups: Groups, names: Mapping[int, Sequence[str]]) -> Ints | None:
    """Side of each group by name, over what a file gives it; None where neither says anything."""
    if not names:
        return groups.given
    given = np.full(len(groups.names), _DRAWN) if groups.given is None else groups.given.copy()
    known = {name: i for i, name in enumerate(groups.names.tolist())}
    for side, listed in names.items():
        for name in listed:
            if name not in known:
                raise InputError(f"data.split.{SIDES[side]} names the recording {name!r}, {_near(name, known)}")
            if given[known[name]] not in (_DRAWN, side):
                raise InputError(
                    f"recording {name!r} is under data.split.{SIDES[side]} and in the data of "
                    f"{SIDES[given[known[name]]]}; allowed: one side"
                )
            given[known[name]] = side
    return given


def _near(name: str, known: Mapping[str, int]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return f"which the data do not have; close: {', '.join(near)}"
    first = list(known)[:_SHOWN]
    return f"which the data do not have; they have {', '.join(first)}{' ...' if len(known) > len(first) else ''}"


def _require_in_train(groups: Groups, side: Ints) -> None:
    """Every class that val or test hold is in train, where train holds any label of the head."""
    trained = _members(sparse.csr_array(groups.counts[side == TRAIN])) > 0
    heads = {head for (head, _), held in zip(groups.classes, trained.tolist(), strict=True) if held}
    for c in np.flatnonzero(~trained).tolist():
        head, name = groups.classes[c]
        rows = np.flatnonzero((groups.holds(TEST)[:, [c]].toarray().ravel() > 0) & (side != TRAIN))
        if len(rows) and head in heads:
            where = ", ".join(str(groups.names[r]) for r in rows[:3])
            raise InputError(
                f"data.split leaves train without class {name!r} of {head}: it is only in {where}"
                f"{' ...' if len(rows) > 3 else ''} ({SIDES[side[rows[0]]]}); put one of its recordings into train"
            )


def sides_of_words(words: NDArray[Any], group: Ints, names: NDArray[np.str_], place: Callable[[int], str]) -> Ints:
    """Side of each group by the words of its rows, int64 array of shape (G,).

    Parameters
    ----------
    words : n words, None where there is none; train, val or test in any case
    group : int64 array of shape (n,), index of each row's group
    names : str array of shape (G,)
    place : row to where it is ("FILE, row 3, column 'part'")

    Raises
    ------
    InputError
        Another word, or a group on two sides.
    """
    import pandas as pd

    codes, distinct = pd.factorize(np.asarray(words, dtype=object))
    side = np.array(
        [SIDES.index(w) if (w := str(word).strip().casefold()) in SIDES else _DRAWN for word in distinct] + [_DRAWN],
        dtype=np.int64,
    )[codes]
    bad = np.flatnonzero(side == _DRAWN)
    if len(bad):
        found = "nothing" if codes[bad[0]] < 0 else repr(str(distinct[codes[bad[0]]]))
        raise InputError(f"{place(int(bad[0]))}: found {found}, allowed: {', '.join(SIDES)}")
    given = np.zeros(len(names), dtype=np.int64)
    given[group[::-1]] = side[::-1]  # the first row of a group tells
    differs = np.flatnonzero(side != given[group])
    if len(differs):
        row = int(differs[0])
        raise InputError(
            f"{place(row)}: recording {str(names[group[row]])!r} is in {SIDES[side[row]]} here and in "
            f"{SIDES[given[group[row]]]} above; allowed: one side for all its rows"
        )
    return given


def groups_of_rows(
    groups: NDArray[np.str_],
    strata: NDArray[np.str_],
    targets: Mapping[str, Ints],
    heads: Mapping[str, Sequence[str]],
    row_side: Ints | None = None,
) -> tuple[Groups, Ints]:
    """The groups of n rows, and the group of each row (int64 array of shape (n,)).

    Parameters
    ----------
    groups, strata : str arrays of shape (n,); a group's stratum is that of most of its rows
    targets : head to int64 array of shape (n, L), negative where not scored
    heads : head to its class names
    row_side : int64 array of shape (n,), the side given to each row, -1 where it is drawn
    """
    names, group = np.unique(groups, return_inverse=True)
    widths = [len(heads[head]) for head in targets]
    counts = class_counts(group, len(names), list(targets.values()), widths)
    given = None
    if row_side is not None:
        given = np.full(len(names), _DRAWN)
        given[group] = row_side
    columns = tuple((head, str(name)) for head in targets for name in heads[head])
    return Groups(names, group_strata(group, strata), counts, columns, given=given), group


def splits_of(side: Ints, group: Ints) -> Splits:
    """Rows of each split from the side of each group (G,) and the group of each row (n,)."""
    return Splits(*(np.flatnonzero(side[group] == number) for number in range(3)))
