"""A loaded data set on disk, as plain arrays that worker processes map instead of loading again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_lab.atomic import read_json, reading_own, replacing
from imbalance_lab.data.coding import Coding, plain_texts
from imbalance_lab.data.dataset import Fold, LoadedData, RawText, SequenceDataset, Splits


def save_loaded(loaded: LoadedData, folder: Path) -> None:
    """Write ``loaded`` to ``folder`` (made; replaced if it exists), one ``.npy`` file per array."""
    d = loaded.dataset
    arrays: dict[str, Any] = {
        "continuous": d.continuous,
        "categorical": d.categorical,
        "groups": d.groups,
        "unit": d.unit,
        "unit_position": d.unit_position,
        "unit_length": d.unit_length,
        **{f"target.{i}": d.targets[h] for i, h in enumerate(d.heads)},
        **{f"slice.{i}": v for i, v in enumerate(d.slices.values())},
        **{f"split.{name}": index for name, index in loaded.splits.items()},
    }
    if loaded.raw is not None:
        arrays |= {f"raw.{n}": getattr(loaded.raw, n) for n in ("recording", "row", "block", "controller", "encoded")}
    about = {
        "heads": [[h, list(c)] for h, c in d.heads.items()],
        "slices": list(d.slices),
        "channel_groups": [[g, list(c)] for g, c in d.channel_groups.items()],
        "coding": d.coding.to_mapping(),
        "image_shape": d.image_shape,
        "facts": dict(d.facts),
        "scaler_fitted_on": loaded.scaler_fitted_on,
        "digest": d.digest,
        "fold": asdict(loaded.fold) if loaded.fold is not None else None,
        "vocabulary": dict(loaded.raw.vocabulary) if loaded.raw is not None else None,
    }
    with replacing(folder) as partial:
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", np.asarray(array), allow_pickle=False)
        (partial / "about.json").write_text(json.dumps(about, default=str), encoding="utf-8")


def load_cached(folder: Path, *, verify: bool = False) -> LoadedData:
    """The data set of :func:`save_loaded`; arrays are memory-mapped read-only.

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
    about = read_json(folder / "about.json")

    def array(name: str) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    shape, coding = about["image_shape"], Coding.from_mapping(about["coding"])
    dataset = SequenceDataset(
        continuous=array("continuous"),
        categorical=array("categorical"),
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
        channel_groups={g: tuple(c) for g, c in about["channel_groups"]},
        image_shape=tuple(shape) if shape else None,
        facts=about["facts"],
    )
    # The digest was computed when the data were written; hashing the mapped arrays again would read them all.
    dataset.__dict__["digest"] = about["digest"]
    splits = Splits(**{name: np.asarray(array(f"split.{name}")) for name in ("train", "val", "test")})
    raw = None
    if about["vocabulary"] is not None:
        names = ("recording", "row", "block", "controller", "encoded")
        raw = RawText(**{n: array(f"raw.{n}") for n in names}, vocabulary=about["vocabulary"])
    fold = Fold(**about["fold"]) if about["fold"] is not None else None
    return LoadedData(dataset, splits, raw, about["scaler_fitted_on"], fold=fold)
