"""From the ``data:`` section of an experiment to loaded data, whatever the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from imbalance_lab.data.coding import Coding
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.source_options import (
    DigitsOptions,
    RecordingsOptions,
    SequencesOptions,
    TableOptions,
)
from imbalance_lab.simulator.mill_options import SimulatedOptions

DataOptions = Annotated[
    RecordingsOptions | SequencesOptions | TableOptions | DigitsOptions | SimulatedOptions,
    Field(discriminator="source"),
]
"""The ``data:`` section, told apart by ``source``."""


def parse_options(values: Mapping[str, Any]) -> DataOptions:
    """Validate a ``data:`` section; raises :class:`pydantic.ValidationError`."""
    adapter: TypeAdapter[DataOptions] = TypeAdapter(DataOptions)
    return adapter.validate_python(values)


def load_data(options: DataOptions, base_dir: Path | None = None, coding: Coding | None = None) -> LoadedData:
    """Load, encode and split the data that ``options`` describe; heads that train has no label of are left out.

    Parameters
    ----------
    options : what :func:`parse_options` returns
    base_dir : folder that relative paths start from (default: the working directory)
    coding : of a model that exists: the inputs are its columns, coded as it knows them

    Raises
    ------
    InputError
        Whatever is wrong with the data, in one sentence.
    """
    base = base_dir or Path()
    loaded = _load(options, base, coding)
    place = {"path": options.path} if hasattr(options, "path") else {}
    facts = {"source": options.source, **place, "simulated": options.source == "simulated", **loaded.dataset.facts}
    return replace(loaded, dataset=replace(loaded.dataset, facts=facts)).without_unlabelled()


def _load(options: DataOptions, base: Path, coding: Coding | None) -> LoadedData:
    match options:
        case RecordingsOptions():
            from imbalance_lab.data.sources.encode import encode_recordings
            from imbalance_lab.data.sources.recordings import read_recordings

            recordings = read_recordings(base / options.path)
            return encode_recordings(recordings.frame, options, recordings.facts, base, coding)
        case SimulatedOptions():
            from imbalance_lab.data.sources.encode import encode_recordings
            from imbalance_lab.simulator.mill import plant_remaining, simulate

            mill = options.mill()
            return plant_remaining(encode_recordings(simulate(mill), options, base_dir=base, coding=coding), mill)
        case SequencesOptions():
            from imbalance_lab.data.sources.sequences import load_sequences

            return load_sequences(options, base, coding)
        case TableOptions():
            from imbalance_lab.data.sources.table import load_table

            return load_table(options, base, coding)
        case DigitsOptions():
            from imbalance_lab.data.sources.digits import load_digits

            return load_digits(options, coding)
