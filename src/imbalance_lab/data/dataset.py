"""The one data structure that every source makes and everything else reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coding, RowColumns
from imbalance_lab.data.scaling import Scaling, unscaled
from imbalance_lab.data.window_view import Inputs, in_blocks
from imbalance_lab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Words: TypeAlias = "NDArray[np.str_] | pd.Categorical"
"""Text of each row: str array, or categorical of text, of shape (n,)."""

IGNORE = -100
"""Target value of a position that its head does not score (PyTorch's ``ignore_index``)."""


@dataclass(frozen=True)
class SequenceDataset:
    """N sequences of T input steps with L target positions per head.

    L = T for per-step labels, L != T for token sequences, T = L = 1 for tables and images.
    Inputs are as :mod:`imbalance_lab.data.coding` codes them, fitted on train alone; NaN where a
    value is missing. Standardisation and imputation belong to the model
    (:mod:`imbalance_lab.data.preprocessing`). Windows of recordings are views of their rows: ``continuous[...]`` and
    ``categorical[...]`` give arrays as any array does, but they are gathered then.

    Attributes
    ----------
    continuous : float32 array of shape (N, T, C)
        ``(value - scaling.centre) / scaling.scale``, computed in float64; NaN means missing.
    categorical : int64 array of shape (N, T, K)
        Code ``j`` is the text ``categories[k][j - 1]``; code 0 is "missing or unknown".
    targets : mapping of head to int64 array of shape (N, L)
        Class index, or :data:`IGNORE` where the head does not apply.
    heads : mapping of head to its class names
    groups : str array of shape (N,)
        The recording (the unit of evidence) of each sequence.
    slices : mapping of slice name to str array of shape (N,)
        For example ``operation``.
    channels, categorical_channels : names of the C and K inputs
    categories : text of the codes 1, 2, ... of each categorical channel
    scaling : centre and scale of each channel; None where ``continuous`` is in the channels' own units
    column_types : of a table, input column to its type in the file (see :class:`~imbalance_lab.data.coding.Coding`)
    row_columns : where each step of a recording is labelled, how a file tells recordings apart; else None
    channel_groups : mapping of group name (a sensor frame) to its channels
    unit, unit_position : int64 arrays of shape (N,) and (N, L)
        The *true* sequence that a target position belongs to, and its place in it. Windows
        cut from one recording share the recording's unit, and the place is the row in
        the recording; otherwise the unit is the sequence itself. Padding has place -1.
    unit_length : int64 array of shape (n_units,)
        Length of each true sequence, so that distances to its true end are known.
    image_shape : (height, width) of a row's pixels, for image sources
    facts : mapping
        What the source wants to have recorded (rows dropped, columns ignored, ...), as
        plain strings and numbers. ``facts["simulated"]`` is True for simulated data.
    """

    continuous: Inputs[np.float32]
    categorical: Inputs[np.int64]
    targets: Mapping[str, NDArray[np.int64]]
    heads: Mapping[str, tuple[str, ...]]
    groups: NDArray[np.str_]
    channels: tuple[str, ...]
    unit: NDArray[np.int64]
    unit_position: NDArray[np.int64]
    unit_length: NDArray[np.int64]
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    categorical_channels: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    scaling: Scaling | None = None
    column_types: Mapping[str, str] = field(default_factory=dict)
    row_columns: RowColumns | None = None
    channel_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image_shape: tuple[int, int] | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, t, c = self.continuous.shape
        if c != len(self.channels):
            raise ValueError(f"{c} continuous columns but {len(self.channels)} channel names")
        if self.categorical.shape[:2] != (n, t):
            raise ValueError(f"categorical has shape {self.categorical.shape}, expected ({n}, {t}, K)")
        if not self.categorical.shape[2] == len(self.categorical_channels) == len(self.categories):
            raise ValueError("categorical columns, their names and their categories differ in number")
        if self.scaling is not None and not self.scaling.centre.shape == self.scaling.scale.shape == (c,):
            raise ValueError(f"scaling has shape {self.scaling.centre.shape}, expected ({c},)")
        if set(self.targets) != set(self.heads):
            raise ValueError(f"targets {sorted(self.targets)} and heads {sorted(self.heads)} differ")
        for head, target in self.targets.items():
            if target.shape != self.unit_position.shape:
                raise ValueError(f"targets of {head!r} have shape {target.shape}, expected {self.unit_position.shape}")
            scored = target[target != IGNORE]
            if scored.size and (scored.min() < 0 or scored.max() >= len(self.heads[head])):
                raise ValueError(f"targets of {head!r} leave 0..{len(self.heads[head]) - 1}")
        for name, values in {"groups": self.groups, "unit": self.unit, **self.slices}.items():
            if values.shape != (n,):
                raise ValueError(f"{name} has shape {values.shape}, expected ({n},)")

    def __len__(self) -> int:
        return self.continuous.shape[0]

    @property
    def target_length(self) -> int:
        """L, the number of target positions of a sequence."""
        return self.unit_position.shape[1]

    @property
    def categorical_sizes(self) -> tuple[int, ...]:
        """Number of codes of each categorical channel, that of "missing or unknown" included."""
        return tuple(len(texts) + 1 for texts in self.categories)

    @property
    def coding(self) -> Coding:
        """How further rows become inputs like these."""
        scaling = self.scaling or unscaled(len(self.channels))
        categories = self.categorical_channels, self.categories
        return Coding(self.channels, scaling, *categories, self.column_types, rows=self.row_columns)

    def native(self, continuous: NDArray[np.float32], channels: Any = slice(None)) -> NDArray[np.float64]:
        """Values (..., C), or those of the ``channels`` at these indices, in the channels' own units."""
        return self.coding.scaling.native(continuous, channels)

    def class_counts(self, head: str, index: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Scored positions of each class of ``head``, shape (n_classes,), over ``index`` or all."""
        target = self.targets[head] if index is None else self.targets[head][index]
        return np.bincount(target[target != IGNORE], minlength=len(self.heads[head]))

    @cached_property
    def digest(self) -> str:
        """Content digest (16 hex digits): equal data, whatever its file, has an equal digest."""
        h = hashlib.sha256()
        scaling = self.coding.scaling
        coded: tuple[Inputs[Any], ...] = (self.continuous, self.categorical)
        for inputs in coded:
            h.update(str((inputs.shape, inputs.dtype)).encode())
            for _, part in in_blocks(inputs):
                h.update(np.ascontiguousarray(part).data)
        for array in (scaling.centre, scaling.scale, *(self.targets[k] for k in sorted(self.targets))):
            h.update(str((array.shape, array.dtype)).encode())
            h.update(np.ascontiguousarray(array).data)
        h.update(repr((self.channels, self.categorical_channels, self.categories, sorted(self.heads.items()))).encode())
        h.update("\0".join(self.groups.tolist()).encode())
        return h.hexdigest()[:16]


@dataclass(frozen=True)
class Splits:
    """Row indices into a :class:`SequenceDataset`; int64 arrays, disjoint."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]

    def items(self) -> list[tuple[str, NDArray[np.int64]]]:
        """(name, index) of the three splits, in the order train, val, test."""
        return [("train", self.train), ("val", self.val), ("test", self.test)]


@dataclass(frozen=True)
class RawText:
    """What the source's text said before it was encoded; one row per recording row.

    ``block`` is the text of the G-code block ("" where there is none), ``row`` its row in the
    recording, ``controller`` the controller's own motion mode ("G0" ..., "" where it says
    nothing). ``encoded`` is the class name the encoding gave the row, or "". ``vocabulary`` is
    the token vocabulary in use, empty where the encoding has none. Texts are categoricals where there are
    many rows: a str array has four bytes of the longest text for each letter of each row.
    """

    recording: Words
    row: NDArray[np.int64]
    block: Words
    controller: Words
    encoded: Words
    vocabulary: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Presence:
    """Which classes a recording would hold on either side, where windows of train and held-out ones differ.

    Attributes
    ----------
    names : str array of shape (G,), recordings
    train, held_out : head to bool array of shape (G, K)
    """

    names: NDArray[np.str_]
    train: Mapping[str, NDArray[np.bool_]]
    held_out: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Fold:
    """Which part of a cross-validation a split is.

    Attributes
    ----------
    number : 0 ... count - 1
    count : number of folds
    digest : of the data and of the folds' sides (16 hex digits), equal in all folds; the digest of
        the data set differs, since windows and scaling are those of a fold
    """

    number: int
    count: int
    digest: str


@dataclass(frozen=True)
class LoadedData:
    """What a source returns: the data, how it is split, and what the audit needs beside it.

    ``scaler_fitted_on`` is ``"train"`` or ``"all"`` (the legacy fault); ``raw`` is None where
    the source has no text; ``presence`` is None where a recording holds the same on either side.
    ``left_out`` maps a head that train has no label of to its labels in each split: such a head is
    not in the data set, since nothing can learn it. ``fold`` is None where the split is no fold.
    """

    dataset: SequenceDataset
    splits: Splits
    raw: RawText | None = None
    scaler_fitted_on: str = "train"
    presence: Presence | None = None
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fold: Fold | None = None

    @property
    def digest(self) -> str:
        """Equal data, dealt out equally: that of the data set, or of the cross-validation, equal in all its folds."""
        return self.dataset.digest if self.fold is None else self.fold.digest

    def without_unlabelled(self) -> LoadedData:
        """The data without the heads that train has no label of; those are in ``left_out`` then.

        Raises
        ------
        InputError
            If train holds no label of any head.
        """
        data = self.dataset
        counts = {h: {s: int(data.class_counts(h, i).sum()) for s, i in self.splits.items()} for h in data.heads}
        never = [head for head, by_split in counts.items() if not by_split["train"]]
        if not never:
            return self
        if len(never) == len(data.heads):
            raise InputError(f"train holds no label of {', '.join(never)}: nothing can be learned from this split")
        targets = {h: t for h, t in data.targets.items() if h not in never}
        heads = {h: c for h, c in data.heads.items() if h not in never}
        gone = {head: counts[head] for head in never}
        facts = {**data.facts, "heads left out (no label in train)": ", ".join(never)}
        return replace(
            self, dataset=replace(data, targets=targets, heads=heads, facts=facts), left_out={**self.left_out, **gone}
        )


ByFold = Callable[[int | None], LoadedData]
"""A source that is read and parsed: fold (None where the split has none) to what is loaded."""


def digest_of(*arrays: NDArray[Any]) -> str:
    """Digest (16 hex digits) of numbers and text; text may hold None."""
    import pandas as pd

    h = hashlib.sha256()
    for array in arrays:
        plain = pd.util.hash_array(array, categorize=True) if array.dtype.kind in "OU" else array
        h.update(str((array.shape, plain.dtype)).encode())
        h.update(np.ascontiguousarray(plain).data)
    return h.hexdigest()[:16]
