"""How the columns of a source become inputs: fitted on train, kept with data, model and predictions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.freed import Freed
from imbalance_lab.data.scaling import Scaling, centre_and_scale, sample_of
from imbalance_lab.errors import InputError
from imbalance_lab.names import natural_key

if TYPE_CHECKING:
    import pandas as pd

_MERGED = 0.9  # share of distinct values that float32 must keep apart before a channel is named
_EXACT = 2**53  # whole numbers below it are distinct in float64
_SHOWN = 5  # unknown categories that are named

Texts = NDArray[np.object_]


@dataclass(frozen=True)
class Coded:
    """Rows as inputs.

    Attributes
    ----------
    continuous : float32 array of shape (..., C), as :class:`~imbalance_lab.data.scaling.Scaling` stores them
    categorical : int64 array of shape (..., K); 0 is "missing or unknown"
    strange : bool array of shape (..., K), where a category is not missing but unknown
    unknown : column to the categories that the coding does not know, with the number of their rows
    facts : what to record with the data, as plain strings and numbers
    """

    continuous: NDArray[np.float32]
    categorical: NDArray[np.int64]
    strange: NDArray[np.bool_]
    unknown: Mapping[str, Mapping[str, int]]
    facts: Mapping[str, object]


@dataclass(frozen=True)
class RowColumns:
    """Columns that say which rows of a table are the steps of one recording.

    Attributes
    ----------
    recording : names the recording of a row; None where there is no such column
    order : numbers or times that do not fall within a recording; None where there is no such column
    """

    recording: str | None = None
    order: str | None = None


class MissingColumns(InputError):
    """Columns that a model reads are not in the data."""


@dataclass(frozen=True)
class Coding:
    """Everything needed to read a row as the file has it.

    Attributes
    ----------
    channels : names of the C number columns
    scaling : their centre and scale
    categorical_channels : names of the K columns of categories
    categories : of each of them, the text of the codes 1, 2, ...
    types : column to its type in the file: ``double``, ``long`` (whole numbers), ``boolean`` or ``string``;
        empty where a row of the file is not what a model reads (windows, images)
    allow_missing : whether a column that is not there is read as missing in every row
    rows : where a model labels each step of a recording: the columns that tell the recordings apart
    """

    channels: tuple[str, ...]
    scaling: Scaling
    categorical_channels: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    allow_missing: bool = False
    rows: RowColumns | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All input columns, numbers first."""
        return (*self.channels, *self.categorical_channels)

    def needed(self, columns: Mapping[str, Any] | pd.DataFrame) -> dict[str, Any]:
        """Those of ``columns`` that are read; where none is, one that tells how many rows there are.

        Raises
        ------
        MissingColumns
            See :meth:`check`.
        """
        self.check(columns)
        names = [name for name in self.columns if name in columns] or [str(name) for name in columns][:1]
        return {name: columns[name] for name in names}

    def encode(self, columns: Mapping[str, Any] | pd.DataFrame, spend: bool = False) -> Coded:
        """Code columns (arrays or series of one shape, or a data frame); others than the coding's are not looked at.

        ``spend`` takes each number column out of ``columns`` (a dict) when it is coded, and keeps the values of a
        channel together: they are in memory once, not as the columns and as the inputs.

        Raises
        ------
        InputError
            If a column is missing, or holds text where numbers are expected.
        """
        self.check(columns)
        absent = {name for name in self.columns if name not in columns}
        shape = next((np.shape(columns[name]) for name in (*self.columns, *columns) if name in columns), (0,))
        facts = self.absent_facts(columns)
        if spend:
            continuous = np.moveaxis(np.empty((len(self.channels), *shape), dtype=np.float32), 0, -1)
        else:
            continuous = np.empty((*shape, len(self.channels)), dtype=np.float32)
        take = columns.pop if spend and isinstance(columns, dict) else columns.__getitem__
        infinite, freed = 0, Freed()
        merged: list[str] = []
        for i, name in enumerate(self.channels):
            if name in absent:
                continuous[..., i] = np.nan
                continue
            beyond, coarse = self._store(continuous[..., i], i, take(name))
            infinite, merged = infinite + beyond, merged + coarse
            if spend:
                freed.add(8 * continuous[..., i].size)
        categorical = np.zeros((*shape, len(self.categorical_channels)), dtype=np.int64)
        strange = np.zeros(categorical.shape, dtype=bool)
        unknown: dict[str, dict[str, int]] = {}
        for k, name in enumerate(self.categorical_channels):
            if name in absent:
                continue
            texts = texts_of(columns[name])
            categorical[..., k] = _codes(texts, self.categories[k])
            strange[..., k] = (categorical[..., k] == 0) & _known(texts)
            if strange[..., k].any():
                names, counts = np.unique(texts[strange[..., k]].astype(np.str_), return_counts=True)
                unknown[name] = dict(zip(names.tolist(), counts.tolist(), strict=True))
        if infinite:
            facts["infinite_values_set_missing"] = infinite
        if merged:
            facts["channels_that_float32_cannot_resolve"] = ", ".join(merged)
        if unknown:
            facts["unknown_categories"] = unknown_words(unknown)
        return Coded(continuous, categorical, strange, unknown, facts)

    def _store(self, into: NDArray[np.float32], i: int, column: Any) -> tuple[int, list[str]]:
        """Write the coded values of channel ``i``; how many were infinite, and a note where float32 is too coarse."""
        numbers, missing = _numbers(column, self.channels[i])
        stored = self.scaling.stored(numbers, i)
        if missing is not None:
            stored[missing] = np.nan
        into[...] = stored
        infinite = int(np.isinf(numbers).sum()) if missing is None and numbers.dtype.kind == "f" else 0
        return infinite, _merged(self.channels[i], numbers, stored)

    def check(self, columns: Mapping[str, Any] | pd.DataFrame) -> None:
        """Refuse data that lack a column, unless that is allowed.

        Raises
        ------
        MissingColumns
            Naming the columns, and those of the data that are called alike.
        """
        absent = [name for name in self.columns if name not in columns]
        if not absent or self.allow_missing:
            return
        found = [str(name) for name in columns]
        near = list(dict.fromkeys(n for name in absent[:_SHOWN] for n in difflib.get_close_matches(name, found, 2)))
        more = f" (and {len(absent) - 1} more: {', '.join(absent[1:_SHOWN])}{' ...' if len(absent) > _SHOWN else ''})"
        close = f"; close: {', '.join(near)}" if near else ""
        raise MissingColumns(
            f"the data have no column {absent[0]!r}{more if len(absent) > 1 else ''}, which the model reads; they have "
            f"{', '.join(found[:20])}{close}"
        )

    def absent_facts(self, columns: Mapping[str, Any] | pd.DataFrame) -> dict[str, object]:
        """A fact on the columns that are not there; empty where all are."""
        absent = [name for name in self.columns if name not in columns]
        return {"columns_read_as_missing": ", ".join(absent)} if absent else {}

    def decode(self, continuous: NDArray[np.float32], categorical: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Columns as a file has them, from inputs (..., C) and (..., K): what :meth:`encode` codes like these again."""
        columns: dict[str, NDArray[Any]] = {}
        for i, name in enumerate(self.channels):
            values = self.scaling.native(continuous[..., i], i)
            whole = self.types.get(name) == "long" and bool(np.isfinite(values).all())
            columns[name] = np.rint(values).astype(np.int64) if whole else values
        for k, name in enumerate(self.categorical_channels):
            texts = np.array([None, *self.categories[k]], dtype=object)[categorical[..., k]]
            columns[name] = np.equal(texts, "True") if self._all_known_booleans(name, texts) else texts
        return columns

    def _all_known_booleans(self, name: str, texts: Texts) -> bool:
        return self.types.get(name) == "boolean" and bool(_known(texts).all())

    def to_mapping(self) -> dict[str, Any]:
        """Plain values (JSON)."""
        return {
            "channels": list(self.channels),
            "scaling": self.scaling.to_mapping(),
            "categorical_channels": list(self.categorical_channels),
            "categories": [list(texts) for texts in self.categories],
            "types": dict(self.types),
            **({"rows": asdict(self.rows)} if self.rows else {}),
        }

    @staticmethod
    def from_mapping(plain: Mapping[str, Any]) -> Coding:
        """The inverse of :meth:`to_mapping`.

        Raises
        ------
        ValueError, TypeError, KeyError
            If the values are no coding.
        """
        coding = Coding(
            plain_texts(plain["channels"]),
            Scaling.from_mapping(plain["scaling"]),
            plain_texts(plain["categorical_channels"]),
            tuple(plain_texts(texts) for texts in plain["categories"]),
            dict(plain["types"]),
            rows=RowColumns(**plain["rows"]) if plain.get("rows") else None,
        )
        centre, scale = coding.scaling.centre, coding.scaling.scale
        if not (centre.shape == scale.shape == (len(coding.channels),) and np.isfinite(centre).all()):
            raise ValueError(f"centres {centre} and scales {scale} of {len(coding.channels)} channels")
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise ValueError(f"scales {scale} are not all above 0")
        if len(coding.categories) != len(coding.categorical_channels):
            raise ValueError(f"{len(coding.categories)} lists of categories for {coding.categorical_channels}")
        return coding


def plain_texts(plain: Any) -> tuple[str, ...]:
    """A list of texts that JSON held; a text is no list of its letters.

    Raises
    ------
    ValueError
        If it is not one.
    """
    if not isinstance(plain, list | tuple) or not all(isinstance(text, str) for text in plain):
        raise ValueError(f"found {str(plain)[:80]!r}, expected a list of texts")
    return tuple(plain)


def fit_coding(numbers: Mapping[str, Any], categories: Mapping[str, Any], train: NDArray[Any]) -> Coding:
    """Choose centre and scale of every number column, and number the categories, by the rows of ``train`` alone.

    Parameters
    ----------
    numbers, categories : column to its values, (n,) or (n, T); any dtype, missing values as pandas knows them
    train : bool mask or integer index over the first axis
    """
    centres, scales, types = [], [], {}
    for name, column in numbers.items():
        values, missing = _numbers(column, name)
        seen = values[train] if missing is None else values[train][~missing[train]]
        sample = sample_of(seen)
        centre, scale = centre_and_scale(sample)
        centres.append(centre)
        scales.append(scale)
        types[name] = _number_type(sample)
    texts = []
    for name, column in categories.items():
        known = {text for text in texts_of(column)[train].ravel().tolist() if text is not None}
        texts.append(tuple(sorted(known, key=natural_key)))
        types[name] = _category_type(column)
    scaling = Scaling(np.asarray(centres, dtype=np.float64), np.asarray(scales, dtype=np.float64))
    return Coding(tuple(numbers), scaling, tuple(categories), tuple(texts), types)


def texts_of(column: Any) -> Texts:
    """The text of each cell, None where it is missing or empty; an object array of the column's shape.

    A category is called the same whatever type its column was read as: whole numbers have no
    point (1.0 is ``1``), booleans are ``True`` and ``False``.
    """
    import pandas as pd

    shape = np.shape(column)
    values = pd.Series(np.ravel(column) if isinstance(column, np.ndarray) else column)
    if values.dtype == object:  # True and 1 are equal, and would be counted as one value
        kinds = values.map(type)
        parts = [_distinct_texts(values[kinds == kind]) for kind in kinds.unique()]
        texts = pd.concat(parts).sort_index() if parts else values
    else:
        texts = _distinct_texts(values)
    return np.array(texts, dtype=object).reshape(shape)


def _distinct_texts(values: pd.Series) -> pd.Series:
    import pandas as pd

    codes, distinct = pd.factorize(values)
    names = np.array([*(_text(value) for value in distinct.tolist()), None], dtype=object)
    return pd.Series(names[codes], index=values.index, dtype=object)


def _text(value: Any) -> str | None:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating):
        return str(int(value)) if float(value).is_integer() and -_EXACT < value < _EXACT else repr(float(value))
    return str(value) or None


def unknown_words(unknown: Mapping[str, Mapping[str, int]]) -> str:
    """``shop: 33 rows hold categories that train does not (A 30, Z 3)``; "" where there are none."""
    parts = []
    for name, counts in unknown.items():
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{text} {n:,}" for text, n in most[:_SHOWN]) + (" ..." if len(most) > _SHOWN else "")
        rows = sum(counts.values())
        parts.append(
            f"{name}: {rows:,} row{'s hold' if rows > 1 else ' holds'} categories that train does not ({shown})"
        )
    return "; ".join(parts)


def _codes(texts: Texts, known: Sequence[str]) -> NDArray[np.int64]:
    """Code of each text, 0 for missing and unknown ones."""
    import pandas as pd

    codes = pd.Index(np.array(known, dtype=object)).get_indexer(pd.Index(texts.ravel())) + 1
    return codes.reshape(texts.shape).astype(np.int64)


def _known(texts: Texts) -> NDArray[np.bool_]:
    return np.array([text is not None for text in texts.ravel()], dtype=bool).reshape(texts.shape)


def _numbers(column: Any, name: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """A column as integers or floats (times as seconds since 1970), and where it is missing if they cannot say so."""
    import pandas as pd

    if isinstance(getattr(column, "dtype", None), np.dtype) and column.dtype.kind in "iuf":
        return np.asarray(column), None
    series = pd.Series(np.ravel(column) if isinstance(column, np.ndarray) else column)
    if series.dtype.kind == "M":
        series = (series - pd.Timestamp(0, tz=getattr(series.dtype, "tz", None))) / pd.Timedelta(seconds=1)
    if series.dtype.kind in "iu":
        missing = series.isna().to_numpy()
        kind = np.int64 if series.dtype.kind == "i" else np.uint64
        values = series.fillna(series.dropna().iloc[0] if not missing.all() else 0).to_numpy(dtype=kind)
        return values.reshape(np.shape(column)), missing.reshape(np.shape(column)) if missing.any() else None
    try:
        series = series.where(series.notna(), np.nan) if series.dtype == object else series
        plain = pd.to_numeric(series).to_numpy(dtype=np.float64, na_value=np.nan)
        return plain.reshape(np.shape(column)), None
    except (ValueError, TypeError):
        bad = series[series.notna() & pd.to_numeric(series, errors="coerce").isna()]
        found = f"found {str(bad.iloc[0])!r}" if len(bad) else f"found values of type {series.dtype}"
        raise InputError(f"column {name!r}: {found}, expected numbers, as the model was trained on") from None


def _number_type(seen: NDArray[Any]) -> str:
    return "long" if seen.dtype.kind in "iu" or (seen.size and bool((seen == np.floor(seen)).all())) else "double"


def _category_type(column: Any) -> str:
    import pandas as pd

    found = pd.api.types.infer_dtype(np.ravel(np.asarray(column)), skipna=True)
    return {"boolean": "boolean", "integer": "long", "floating": "double", "mixed-integer-float": "double"}.get(
        found, "string"
    )


def _merged(name: str, numbers: NDArray[Any], stored: NDArray[np.float32]) -> list[str]:
    """A note on a channel of which float32 keeps fewer than 90 % of the distinct values apart, judged by a sample."""
    sample, after = sample_of(numbers), len(np.unique(sample_of(stored)))
    before = len(np.unique(sample)) if after < _MERGED * len(sample) else after  # there are no more than are looked at
    return [f"{name} ({before} distinct values become {after})"] if after < _MERGED * before else []
