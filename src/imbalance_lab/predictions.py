"""The predictions table: the one input of every analysis and comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab._prediction_meta import FORMAT_VERSION, META_KEY, read_metadata
from imbalance_lab._prediction_rows import check_columns, check_names, check_rows
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
        heads = self.heads
        scored = heads.scored if isinstance(heads, HeadsOfFile) else [name for name, head in heads.items() if len(head)]
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
    whole = pa.concat_tables(tables).unify_dictionaries().replace_schema_metadata({META_KEY: json.dumps(meta).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    # Bytes of equal weight side by side are what the compression finds something in: a third less for the same values.
    split = ["confidence", "true_prob", "margin", "entropy", "probabilities.list.element"]
    coded = [name for name in whole.column_names if name not in (*split, "probabilities")]
    written = {"compression": "zstd", "use_byte_stream_split": split, "use_dictionary": coded}
    with pq.ParquetWriter(path, whole.schema, **written) as writer:
        start = 0
        for table in tables:  # each head in row groups of its own, so that one can be read without the others
            writer.write_table(whole.slice(start, table.num_rows))
            start += table.num_rows


_COLUMNS = ("sequence", "group", "position", "from_start", "from_end", "true", "pred", "probabilities")
"""What a head is read from, with its slices; the others are made of these."""


@dataclass(frozen=True)
class HeadsOfFile(Mapping[str, HeadPredictions]):
    """The heads of a table that :func:`write_parquet` wrote, each read when it is asked for, and not kept.

    Attributes
    ----------
    path : the file
    about : head to its ``classes`` and ``train_counts``
    scored : the heads that have a row
    """

    path: Path
    about: Mapping[str, Mapping[str, Any]]
    scored: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        return iter(self.about)

    def __len__(self) -> int:
        return len(self.about)

    def __contains__(self, name: object) -> bool:
        return name in self.about

    def __getitem__(self, name: str) -> HeadPredictions:
        """Read one head, by one thread.

        Raises
        ------
        InputError
            If the file is gone or damaged, or a row is not what :class:`HeadPredictions` describes.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        about, where = self.about[name], f"{self.path}: head {name!r}"
        try:
            with pq.ParquetFile(self.path) as file:
                sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                first = np.cumsum([0, *sizes])
                groups = [i for i in range(len(sizes)) if _may_hold(file, i, name)]
                names = file.schema_arrow.names
                wanted = ["head", *_COLUMNS, *(column for column in names if column.startswith("slice."))]
                part = file.read_row_groups(groups, columns=wanted, use_threads=False)
            part.validate(full=True)  # offsets, codes and text: damage that would otherwise be met later, or never
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise InputError(f"{where}: not readable ({' '.join(str(error).split())})") from None
        rows = np.concatenate([np.arange(first[i], first[i + 1]) for i in groups] or [np.arange(0)])
        mine = pc.equal(part["head"].cast(pa.string()), name)
        if not pc.all(mine).as_py():
            rows, part = rows[mine.to_numpy(zero_copy_only=False)], part.filter(mine)
        part = part.combine_chunks()
        check_names(part, rows, where)
        check_rows(part, about["classes"], rows, where)
        counts = np.asarray(about["train_counts"], dtype=np.int64)
        return _head_from_table(part, tuple(about["classes"]), counts)


def _may_hold(file: Any, group: int, head: str) -> bool:
    """Whether a row group can have rows of a head, by what the file says of its column."""
    metadata = file.metadata.row_group(group)
    column = next(
        metadata.column(i) for i in range(metadata.num_columns) if metadata.column(i).path_in_schema == "head"
    )
    told = column.statistics
    if told is None or not told.has_min_max or not isinstance(told.min, str):
        return True
    return bool(told.min <= head <= told.max)


def read_parquet(path: Path) -> Predictions:
    """Read what :func:`write_parquet` wrote.

    Raises
    ------
    InputError
        If the file is missing, is not Parquet, lacks the metadata or a column, or a row is not what
        :class:`HeadPredictions` describes; the message names the row, counted from 0 in the file.
    """
    opened = open_parquet(path)
    return replace(opened, heads=dict(opened.heads))


def open_parquet(path: Path) -> Predictions:
    """What :func:`read_parquet` reads, with heads that are read when they are asked for (:class:`HeadsOfFile`).

    Raises
    ------
    InputError
        As :func:`read_parquet`; rows of a head are checked when it is read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            info = read_metadata(schema.metadata, path)
            check_columns(schema, str(path))
            head_of_row = file.read(columns=["head"], use_threads=False)
        head_of_row.validate(full=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a predictions table (Parquet)") from None
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({' '.join(str(error).split())})") from None
    found = set(pc.unique(head_of_row["head"].cast(pa.string())).to_pylist())
    if unknown := found - set(info["heads"]):
        names = head_of_row["head"].to_pylist()
        row = next(i for i, name in enumerate(names) if name in unknown)
        allowed = ", ".join(map(repr, info["heads"]))
        raise InputError(f"{path}: row {row} is of head {names[row]!r}; allowed are {allowed}")
    return Predictions(HeadsOfFile(path, info["heads"], tuple(n for n in info["heads"] if n in found)), info["meta"])


def _one_chunk(column: Any) -> Any:
    """A column as one array, whatever chunks and dictionaries it was read in."""
    return column.unify_dictionaries().combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _head_from_table(part: Any, classes: tuple[str, ...], train_counts: NDArray[np.int64]) -> HeadPredictions:
    import pyarrow as pa

    def codes(column: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """Codes in the order of first appearance, without names that have no row."""
        texts = _one_chunk(part[column])
        if not pa.types.is_dictionary(texts.type):
            texts = texts.dictionary_encode()
        seen = texts.indices.dictionary_encode()
        names = texts.dictionary.cast("string").take(seen.dictionary).to_pylist()
        return seen.indices.to_numpy(zero_copy_only=False).astype(np.int32), tuple(names)

    def ints(column: str, dtype: Any) -> NDArray[Any]:
        return part[column].to_numpy().astype(dtype)

    group, group_names = codes("group")
    slices, slice_names = {}, {}
    for column in part.column_names:
        if column.startswith("slice."):
            slices[column[6:]], slice_names[column[6:]] = codes(column)
    values = _one_chunk(part["probabilities"]).flatten().to_numpy(zero_copy_only=False)
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
        probabilities=values.astype(np.float32, copy=False).reshape(part.num_rows, len(classes)),
        slices=slices,
        slice_names=slice_names,
    )
