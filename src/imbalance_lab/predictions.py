"""The predictions table: the one input of every analysis and comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab._prediction_meta import FORMAT_VERSION, META_KEY, read_metadata
from imbalance_lab._prediction_rows import check_columns, check_rows
from imbalance_lab.errors import InputError
from imbalance_lab.metrics.priors import prior_shift

_BLOCK = 1 << 18  # rows whose probabilities are looked at together: bounds the memory of derived columns


def primary_head(heads: Iterable[str]) -> str:
    """The head that is selected and compared by: ``command`` where there is one, else the first."""
    names = list(heads)
    return "command" if "command" in names else names[0]


@dataclass(frozen=True)
class HeadPredictions:
    """Predictions of one head on its n scored positions (masked positions are not in here).

    Attributes
    ----------
    classes : names of the K classes, in the order of the probability columns
    train_counts : int64 array of shape (K,)
        Scored training positions of each class, as the data has them (not as sampled).
    sequence : int64 array of shape (n,)
        Stable id of the true sequence (see ``SequenceDataset.unit``).
    position, from_start, from_end : int32 arrays of shape (n,)
        Place in the true sequence, and the distance to its true start and end, in positions.
    group : int32 array of shape (n,)
        Code into ``group_names``: the recording, the unit of evidence.
    true, pred : int32 arrays of shape (n,)
    probabilities : float32 array of shape (n, K); rows sum to 1
    slices : mapping of name to int32 codes of shape (n,) into ``slice_names[name]``
    """

    classes: tuple[str, ...]
    train_counts: NDArray[np.int64]
    sequence: NDArray[np.int64]
    position: NDArray[np.int32]
    from_start: NDArray[np.int32]
    from_end: NDArray[np.int32]
    group: NDArray[np.int32]
    group_names: tuple[str, ...]
    true: NDArray[np.int32]
    pred: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    slices: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    slice_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, k = len(self.true), len(self.classes)
        if self.probabilities.shape != (n, k):
            raise InputError(f"probabilities have shape {self.probabilities.shape}, expected ({n}, {k})")
        columns: dict[str, NDArray[Any]] = {
            "pred": self.pred,
            "sequence": self.sequence,
            "position": self.position,
            "group": self.group,
        }
        for name, column in columns.items():
            if column.shape != (n,):
                raise InputError(f"column {name!r} has {column.shape[0]} rows, expected {n}")
        for name, column in {"true": self.true, "pred": self.pred}.items():
            if n and (column.min() < 0 or column.max() >= k):
                raise InputError(f"column {name!r} holds class ids outside 0..{k - 1}")
        for start in range(0, n, _BLOCK):
            sums = self.probabilities[start : start + _BLOCK].sum(axis=1, dtype=np.float64)
            bad = ~(np.abs(sums - 1.0) <= 1e-3)  # also catches NaN
            if bad.any():
                row = start + int(bad.argmax())
                raise InputError(f"probabilities of row {row} sum to {sums[bad.argmax()]:.6g}, expected 1 (+-0.001)")

    def __len__(self) -> int:
        return len(self.true)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each position is predicted correctly, shape (n,)."""
        return self.true == self.pred

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """Probability of the predicted class, shape (n,)."""
        return self.probabilities[np.arange(len(self)), self.pred]

    @cached_property
    def true_prob(self) -> NDArray[np.float32]:
        """Probability of the true class, shape (n,)."""
        return self.probabilities[np.arange(len(self)), self.true]

    @cached_property
    def true_rank(self) -> NDArray[np.int16]:
        """1 + the number of classes with a larger probability than the true one, shape (n,)."""
        out = np.empty(len(self), dtype=np.int16)
        for start in range(0, len(self), _BLOCK):
            block = slice(start, start + _BLOCK)
            out[block] = 1 + (self.probabilities[block] > self.true_prob[block, None]).sum(axis=1)
        return out

    @cached_property
    def margin(self) -> NDArray[np.float32]:
        """True class's probability minus the largest of the others, shape (n,); negative when missed."""
        out = np.empty(len(self), dtype=np.float32)
        for start in range(0, len(self), _BLOCK):
            block = slice(start, start + _BLOCK)
            others = self.probabilities[block].copy()
            others[np.arange(len(others)), self.true[block]] = -1.0
            best_other = np.maximum(others.max(axis=1), 0.0)
            out[block] = self.true_prob[block] - best_other
        return out

    @cached_property
    def entropy(self) -> NDArray[np.float32]:
        """Shannon entropy of the probabilities in nats, shape (n,)."""
        out = np.empty(len(self), dtype=np.float32)
        for start in range(0, len(self), _BLOCK):
            p = self.probabilities[start : start + _BLOCK]
            out[start : start + _BLOCK] = -(p * np.log(np.maximum(p, 1e-30))).sum(axis=1)
        return out

    def adjusted(self, tau: float) -> HeadPredictions:
        """Post-hoc logit adjustment by the training frequencies, argmax(log p - tau log prior) (Menon et al. 2021)."""
        shift = prior_shift(self.train_counts, tau)
        probabilities = np.empty_like(self.probabilities)
        for start in range(0, len(self), _BLOCK):
            z = np.log(np.maximum(self.probabilities[start : start + _BLOCK].astype(np.float64), 1e-30)) + shift
            z = np.exp(z - z.max(axis=1, keepdims=True))
            probabilities[start : start + _BLOCK] = z / z.sum(axis=1, keepdims=True)
        pred = probabilities.argmax(axis=1).astype(np.int32)
        return replace(self, probabilities=probabilities, pred=pred)


def bare_head(
    classes: tuple[str, ...], train_counts: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> HeadPredictions:
    """Probabilities (n, K) without known labels as a :class:`HeadPredictions`; ``true`` is the prediction."""
    n = len(probabilities)
    zeros = np.zeros(n, dtype=np.int32)
    pred = probabilities.argmax(axis=1).astype(np.int32)
    return HeadPredictions(
        classes=classes,
        train_counts=train_counts,
        sequence=np.arange(n, dtype=np.int64),
        position=zeros,
        from_start=zeros,
        from_end=zeros,
        group=zeros,
        group_names=("",),
        true=pred,
        pred=pred,
        probabilities=probabilities,
    )


@dataclass(frozen=True)
class Predictions:
    """Predictions of every head of one run on one split.

    ``meta`` holds plain values: ``split, strategy, seed, digest`` (of the data set), ``categories``
    (categorical input to the text of its codes 1, 2, ..., as train has them), ``experiment``,
    ``run_id`` where known, ``free_lunch`` (head to the tau chosen on validation), ``temperature``
    (head to T fitted on validation), ``prior_correction`` (head to the power of the prior that the
    strategy corrects for), ``classes_in_macro``, ``primary_head`` (the main head, as the training had it).
    """

    heads: Mapping[str, HeadPredictions]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def primary(self) -> str:
        """The main head: what training was selected by, else :func:`primary_head`; one with a scored position.

        Raises
        ------
        InputError
            If no head has a scored position.
        """
        scored = [name for name, head in self.heads.items() if len(head)]
        if not scored:
            raise InputError("the predictions table has no scored position in any head; nothing can be analysed")
        told = self.meta.get("primary_head")
        return str(told) if told in scored else primary_head(scored)

    def free_lunch(self) -> Predictions:
        """The same run after the post-hoc correction that validation chose (``meta["free_lunch"]``)."""
        taus = self.meta.get("free_lunch") or {}
        heads = {name: head.adjusted(float(taus[name])) if name in taus else head for name, head in self.heads.items()}
        return replace(self, heads=heads)


def write_parquet(predictions: Predictions, path: Path) -> None:
    """Write one row per scored position and head; class probabilities as a list column.

    Class names, training counts and ``meta`` travel in the Parquet schema's metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    slice_names = sorted({name for h in predictions.heads.values() for name in h.slices})
    for name, h in predictions.heads.items():
        n, k = h.probabilities.shape
        columns: dict[str, Any] = {
            "head": pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([name])),
            "sequence": h.sequence,
            "group": pa.DictionaryArray.from_arrays(pa.array(h.group), pa.array(list(h.group_names), pa.string())),
            "position": h.position,
            "from_start": h.from_start,
            "from_end": h.from_end,
            "true": h.true,
            "pred": h.pred,
            "confidence": h.confidence,
            "true_prob": h.true_prob,
            "true_rank": h.true_rank,
            "margin": h.margin,
            "entropy": h.entropy,
        }
        for s in slice_names:
            names = pa.array(list(h.slice_names[s]), pa.string())
            columns[f"slice.{s}"] = pa.DictionaryArray.from_arrays(pa.array(h.slices[s]), names)
        flat = pa.array(np.ascontiguousarray(h.probabilities).reshape(-1))
        offsets = pa.array(np.arange(n + 1, dtype=np.int64) * k)
        columns["probabilities"] = pa.LargeListArray.from_arrays(offsets, flat)
        tables.append(pa.table(columns))
    meta = {
        "version": FORMAT_VERSION,
        "heads": {
            n: {"classes": h.classes, "train_counts": h.train_counts.tolist()} for n, h in predictions.heads.items()
        },
        "meta": dict(predictions.meta),
    }
    table = pa.concat_tables(tables).unify_dictionaries().replace_schema_metadata({META_KEY: json.dumps(meta).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def read_parquet(path: Path) -> Predictions:
    """Read what :func:`write_parquet` wrote.

    Raises
    ------
    InputError
        If the file is missing, is not Parquet, lacks the metadata or a column, or a row is not what
        :class:`HeadPredictions` describes; the message names the row, counted from 0 in the file.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        table.validate(full=True)  # offsets, codes and text: damage that would otherwise be met later, or never
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a predictions table (Parquet)") from None
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({' '.join(str(error).split())})") from None
    info = read_metadata(table.schema.metadata, path)
    check_columns(table, str(path))
    heads = {}
    head_of_row = table["head"].cast(pa.string())
    known = pc.is_in(head_of_row, value_set=pa.array(list(info["heads"]), pa.string())).to_numpy(zero_copy_only=False)
    if not known.all():
        row = int((~known).argmax())
        found = head_of_row[row].as_py()
        raise InputError(f"{path}: row {row} is of head {found!r}; allowed are {', '.join(map(repr, info['heads']))}")
    for name, about in info["heads"].items():
        mine = pc.equal(head_of_row, name)
        part = table.filter(mine).combine_chunks()
        check_rows(
            part, about["classes"], np.flatnonzero(mine.to_numpy(zero_copy_only=False)), f"{path}: head {name!r}"
        )
        heads[name] = _head_from_table(part, tuple(about["classes"]), np.asarray(about["train_counts"], dtype=np.int64))
    return Predictions(heads=heads, meta=info["meta"])


def _head_from_table(part: Any, classes: tuple[str, ...], train_counts: NDArray[np.int64]) -> HeadPredictions:
    def codes(column: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        encoded = part[column].cast("string").combine_chunks().dictionary_encode()
        if hasattr(encoded, "combine_chunks"):
            encoded = encoded.combine_chunks()
        return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32), tuple(encoded.dictionary.to_pylist())

    def ints(column: str, dtype: Any) -> NDArray[Any]:
        return part[column].to_numpy().astype(dtype)

    group, group_names = codes("group")
    slices, slice_names = {}, {}
    for column in part.column_names:
        if column.startswith("slice."):
            slices[column[6:]], slice_names[column[6:]] = codes(column)
    lists = part["probabilities"].combine_chunks()
    values = (lists.chunk(0) if hasattr(lists, "chunk") else lists).flatten().to_numpy(zero_copy_only=False)
    return HeadPredictions(
        classes=classes,
        train_counts=train_counts,
        sequence=ints("sequence", np.int64),
        position=ints("position", np.int32),
        from_start=ints("from_start", np.int32),
        from_end=ints("from_end", np.int32),
        group=group,
        group_names=group_names,
        true=ints("true", np.int32),
        pred=ints("pred", np.int32),
        probabilities=values.astype(np.float32).reshape(part.num_rows, len(classes)),
        slices=slices,
        slice_names=slice_names,
    )
