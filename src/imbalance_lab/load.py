"""From the ``data:`` section of an experiment to loaded data, whatever the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from imbalance_lab.data.coding import Coding, RowColumns
from imbalance_lab.data.dataset import ByFold, LoadedData
from imbalance_lab.data.source_options import (
    DigitsOptions,
    EncodingOptions,
    RecordingsOptions,
    SequencesOptions,
    SeriesOptions,
    TableOptions,
)
from imbalance_lab.errors import InputError
from imbalance_lab.simulator.mill_options import SimulatedOptions

_LONG = 2000  # letters of a fact that are kept

DataOptions = Annotated[
    RecordingsOptions | SeriesOptions | SequencesOptions | TableOptions | DigitsOptions | SimulatedOptions,
    Field(discriminator="source"),
]
"""The ``data:`` section, told apart by ``source``."""

WITHOUT_FILE = frozenset(
    source
    for options in get_args(get_args(DataOptions)[0])
    if "path" not in options.model_fields
    for source in get_args(options.model_fields["source"].annotation)
)
"""Sources that read no file."""


def parse_options(values: Mapping[str, Any]) -> DataOptions:
    """Validate a ``data:`` section; raises :class:`pydantic.ValidationError`."""
    adapter: TypeAdapter[DataOptions] = TypeAdapter(DataOptions)
    return adapter.validate_python(values)


def folds_of(options: DataOptions) -> int | None:
    """Number of folds of the split, None where it is no cross-validation."""
    return options.split.folds


def with_split(options: DataOptions, **given: object) -> DataOptions:
    """``options`` with another way to split, as ``folds=6`` or ``test="new.parquet"``; seed and strata stay.

    Raises :class:`pydantic.ValidationError` where the source cannot be split so.
    """
    kept = {key: getattr(options.split, key) for key in options.split.model_fields_set & {"seed", "stratify"}}
    values = {key: getattr(options, key) for key in options.model_fields_set}
    return parse_options({**values, "split": {**kept, **given}})


def load_data(
    options: DataOptions, base_dir: Path | None = None, coding: Coding | None = None, fold: int | None = None
) -> LoadedData:
    """Load, encode and split the data that ``options`` describe; heads that train has no label of are left out.

    Parameters
    ----------
    options : what :func:`parse_options` returns
    base_dir : folder that relative paths start from (default: the working directory)
    coding : of a model that exists: the inputs are its columns, coded as it knows them
    fold : 0 ... K - 1, of a split in K folds; all folds at once are :func:`load_folds`

    Raises
    ------
    InputError
        Whatever is wrong with the data, in one sentence; a fold that the split does not have, or
        none where it has folds.
    """
    if options.split.all_test and coding is None:
        raise InputError("data.split.all_test leaves nothing to train on; it is for data that a model is evaluated on")
    folds = folds_of(options)
    if folds is None and fold is not None:
        raise InputError(f"fold {fold} is asked for, but data.split.folds is not set")
    if folds is not None and (fold is None or not 0 <= fold < folds):
        raise InputError(f"data.split.folds is {folds}: expected a fold of 0 to {folds - 1}, found {fold}")
    return _finished(options, _open(options, base_dir or Path(), coding)(fold))


def load_folds(options: DataOptions, base_dir: Path | None = None) -> Iterator[LoadedData]:
    """The data of each fold in turn, or the one split where there are no folds; the files are read once.

    Scaling, choice of channels and categories are fitted on the train part of each fold. Parameters and
    errors are those of :func:`load_data`.
    """
    of = _open(options, base_dir or Path(), None)
    folds = folds_of(options)
    for fold in (None,) if folds is None else range(folds):
        yield _finished(options, of(fold))


def _finished(options: DataOptions, loaded: LoadedData) -> LoadedData:
    place = {"path": options.path} if hasattr(options, "path") else {}
    part = {"fold": f"{loaded.fold.number} (of 0 to {loaded.fold.count - 1})"} if loaded.fold else {}
    about = {"source": options.source, **place, "simulated": options.source == "simulated", **part}
    facts = {**about, **{key: _shortened(value) for key, value in loaded.dataset.facts.items()}}
    found = replace(loaded, dataset=replace(loaded.dataset, facts=facts, row_columns=_row_columns(options)))
    return found if options.split.all_test else found.without_unlabelled()


def _shortened(fact: object) -> object:
    """A fact that names things, without most of them where there are thousands."""
    if not isinstance(fact, str) or len(fact) <= _LONG:
        return fact
    between = "; " if "; " in fact else ", "
    parts = fact.split(between)
    kept = next((i for i, end in enumerate(accumulate(len(p) + 2 for p in parts)) if end > _LONG), len(parts))
    return between.join(parts[: max(1, kept)])[:_LONG] + f" and {len(parts) - max(1, kept):,} more"


def _row_columns(options: DataOptions) -> RowColumns | None:
    if isinstance(options, SeriesOptions):
        return RowColumns(options.recording, options.order)
    if isinstance(options, EncodingOptions) and options.task == "steps":
        return RowColumns("recording")
    return None


def _open(options: DataOptions, base: Path, coding: Coding | None) -> ByFold:
    match options:
        case RecordingsOptions():
            from imbalance_lab.data.sources.encode import encode_recordings
            from imbalance_lab.data.sources.recordings import Reading, read_sides

            further = {side: base / path for side, path in options.split.files.items()}
            column, inputs = options.split.column, frozenset(coding.columns if coding else ())
            reading = Reading((column,) if column else (), options.exclude, inputs)
            recordings = read_sides(base / options.path, further, reading)
            return encode_recordings(recordings, options, base, coding)
        case SimulatedOptions():
            from imbalance_lab.data.sources.encode import encode_recordings
            from imbalance_lab.data.sources.recordings import Recordings
            from imbalance_lab.simulator.mill import plant_remaining, simulate

            mill = options.mill()
            encode = encode_recordings(Recordings(simulate(mill)), options, base, coding)
            return lambda fold: plant_remaining(encode(fold), mill)
        case SequencesOptions():
            from imbalance_lab.data.sources.sequences import load_sequences

            return load_sequences(options, base, coding)
        case SeriesOptions():
            from imbalance_lab.data.sources.series import load_series

            return load_series(options, base, coding)
        case TableOptions():
            from imbalance_lab.data.sources.table import load_table

            return load_table(options, base, coding)
        case DigitsOptions():
            from imbalance_lab.data.sources.digits import load_digits

            return load_digits(options, coding)
