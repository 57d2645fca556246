"""A loaded data set on disk, as plain arrays that worker processes map instead of loading again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.atomic import read_json, reading_own, replacing
from imbalance_lab.data.coding import Coding, plain_texts
from imbalance_lab.data.dataset import Fold, LoadedData, Presence, RawText, SequenceDataset, Splits
from imbalance_lab.data.window_view import Inputs, WindowView

_WORDS = ("recording", "block", "controller", "encoded")
_SIDES = ("train", "held_out")
_ROWS = 1 << 16  # that are written at a time


def save_loaded(loaded: LoadedData, folder: Path) -> None:
    """Write ``loaded`` to ``folder`` (made; replaced if it exists), one ``.npy`` file per array."""
    import pandas as pd

    d = loaded.dataset
    arrays: dict[str, Any] = {
        **_parts("continuous", d.continuous),
        **_parts("categorical", d.categorical),
        "groups": d.groups,
        "unit": d.unit,
        "unit_position": d.unit_position,
        "unit_length": d.unit_length,
        **{f"target.{i}": d.targets[h] for i, h in enumerate(d.heads)},
        **{f"slice.{i}": v for i, v in enumerate(d.slices.values())},
        **{f"split.{name}": index for name, index in loaded.splits.items()},
    }
    if loaded.raw is not None:
        arrays["raw.row"] = loaded.raw.row
        for name in _WORDS:
            words = pd.Categorical(getattr(loaded.raw, name))
            arrays |= {f"raw.{name}": words.codes, f"raw.{name}.names": words.categories.to_numpy(dtype=np.str_)}
    if loaded.presence is not None:
        arrays["presence.names"] = loaded.presence.names
        for side in _SIDES:
            arrays |= {f"presence.{side}.{i}": v for i, v in enumerate(getattr(loaded.presence, side).values())}
    about = {
        "heads": [[h, list(c)] for h, c in d.heads.items()],
        "slices": list(d.slices),
        "channel_groups": [[g, list(c)] for g, c in d.channel_groups.items()],
        "coding": d.coding.to_mapping(),
        "image_shape": d.image_shape,
        "steps": d.continuous.shape[1],
        "facts": dict(d.facts),
        "scaler_fitted_on": loaded.scaler_fitted_on,
        "digest": d.digest,
        "fold": asdict(loaded.fold) if loaded.fold is not None else None,
        "vocabulary": dict(loaded.raw.vocabulary) if loaded.raw is not None else None,
        "presence": list(loaded.presence.train) if loaded.presence is not None else None,
        "left_out": {head: dict(counts) for head, counts in loaded.left_out.items()},
    }
    with replacing(folder) as partial:
        partial.mkdir()
        for name, array in arrays.items():
            _write(np.asarray(array), partial / f"{name}.npy")
        (partial / "about.json").write_text(json.dumps(about, default=str), encoding="utf-8")


def _write(array: NDArray[Any], path: Path) -> None:
    """``numpy.save``, with the values of a row beside each other whatever their place in memory: rows are looked up."""
    if array.ndim < 2 or array.flags.c_contiguous:
        np.save(path, array, allow_pickle=False)
        return
    header = np.lib.format.header_data_from_array_1_0(array) | {"fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(array), _ROWS):
            file.write(np.ascontiguousarray(array[start : start + _ROWS]).data)


def _parts(name: str, inputs: Inputs[Any]) -> dict[str, Any]:
    if not isinstance(inputs, WindowView):
        return {name: inputs}
    return {name: inputs.table, f"{name}.start": inputs.start, f"{name}.stop": inputs.stop}


def load_cached(folder: Path, *, verify: bool = False) -> LoadedData:
    """The data set of :func:`save_loaded`; arrays are memory-mapped, and what is written to them stays in
    memory.

    ``verify`` reads all of them once and holds them against the digest.

    Raises
    ------
    InputError
        If the files are not as they were written.
    """
    with reading_own(f"the copy of the data in {folder}"):
        loaded = _load_cached(folder)
        if verify and replace(loaded.dataset).digest != loaded.dataset.digest:
            raise ValueError("its digest is another one")
        return loaded


def _load_cached(folder: Path) -> LoadedData:
    import pandas as pd

    about = read_json(folder / "about.json")
    if not about["heads"]:
        raise ValueError("it names no head")

    def array(name: str) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)

    def inputs(name: str, padding: float) -> Any:
        if not (folder / f"{name}.start.npy").exists():
            return array(name)
        return WindowView(array(name), array(f"{name}.start"), array(f"{name}.stop"), about["steps"], padding)

    shape, coding = about["image_shape"], Coding.from_mapping(about["coding"])
    dataset = SequenceDataset(
        continuous=inputs("continuous", np.nan),
        categorical=inputs("categorical", 0),
        groups=array("groups"),
        targets={h: array(f"target.{i}") for i, (h, _) in enumerate(about["heads"])},
        heads={h: plain_texts(c) for h, c in about["heads"]},
        unit=array("unit"),
        unit_position=array("unit_position"),
        unit_length=array("unit_length"),
        slices={name: array(f"slice.{i}") for i, name in enumerate(about["slices"])},
        channels=coding.channels,
        scaling=coding.scaling,
        categorical_channels=coding.categorical_channels,
        categories=coding.categories,
        column_types=coding.types,
        row_columns=coding.rows,
        channel_groups={g: tuple(c) for g, c in about["channel_groups"]},
        image_shape=tuple(shape) if shape else None,
        facts=about["facts"],
    )
    # The digest was computed when the data were written; hashing the mapped arrays again would read them all.
    dataset.__dict__["digest"] = about["digest"]
    splits = Splits(**{name: np.asarray(array(f"split.{name}")) for name in ("train", "val", "test")})
    raw = None
    if about["vocabulary"] is not None:
        words = {n: pd.Categorical.from_codes(array(f"raw.{n}"), array(f"raw.{n}.names").tolist()) for n in _WORDS}
        raw = RawText(row=array("raw.row"), vocabulary=about["vocabulary"], **words)
    presence = None
    if about["presence"] is not None:
        sides = ({h: array(f"presence.{s}.{i}") for i, h in enumerate(about["presence"])} for s in _SIDES)
        presence = Presence(array("presence.names"), *sides)
    left_out = {head: {split: int(n) for split, n in counts.items()} for head, counts in about["left_out"].items()}
    fold = Fold(**about["fold"]) if about["fold"] is not None else None
    return LoadedData(dataset, splits, raw, about["scaler_fitted_on"], presence, left_out, fold)
