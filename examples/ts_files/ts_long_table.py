"""A ``.ts`` file of the time series classification archives as a long table that ``source: series`` reads.

    pip install sktime            # or aeon: its wheel carries a few data sets; nothing else of it is needed
    python examples/ts_files/ts_long_table.py sktime/PLAID plaid.parquet --channels current

The train and the test file become one table, one row per step: ``recording``, ``part`` (train or test), ``step``, the
channels, and ``label``, the same in all steps of a recording. The data stay under the licence of whoever made them.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd


def files_of(name: str) -> dict[str, Path]:
    """Part to file of ``PACKAGE/DATASET`` (of an installed package, which is not imported) or of a folder.

    Raises
    ------
    SystemExit
        If there is none.
    """
    package, _, dataset = name.partition("/")
    folder = Path(name)
    if not folder.is_dir():
        spec = importlib.util.find_spec(package)
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places:
            raise SystemExit(f"{package} is not installed, and there is no folder {name}")
        folder = Path(places[0]) / "datasets" / "data" / dataset
    found = {part: folder / f"{folder.name}_{part.upper()}.ts" for part in ("train", "test")}
    for path in found.values():
        if not path.is_file():
            raise SystemExit(f"there is no file {path}")
    return found


def read_ts(path: Path) -> list[tuple[list[np.ndarray], str]]:
    """Channels (one float array each) and label of every recording.

    Raises
    ------
    SystemExit
        If the file has time stamps or no labels, or a recording's channels differ in length.
    """
    head, _, body = path.read_text(encoding="utf-8-sig").partition("@data")
    facts = dict(line[1:].lower().split(" ", 1) for line in head.splitlines() if line.startswith("@") and " " in line)
    if facts.get("timestamps", "false").strip() != "false" or not facts.get("classlabel", "").startswith("true"):
        raise SystemExit(f"{path} has time stamps or no class labels")
    found = []
    for line in body.strip().splitlines():
        *texts, label = line.split(":")
        channels = [np.array(text.replace("?", "nan").split(","), dtype=np.float64) for text in texts]
        if len({len(channel) for channel in channels}) != 1:
            raise SystemExit(f"{path}: channels of recording {len(found)} (from 0) differ in length")
        found.append((channels, label.strip()))
    return found


def long_table(files: dict[str, Path], channels: list[str], labels: list[str]) -> pd.DataFrame:
    """All recordings below each other; ``labels`` are names of the labels "0", "1", ...; others stay as they are."""
    names = {str(i): name for i, name in enumerate(labels)}
    parts = []
    for part, path in files.items():
        for i, (values, label) in enumerate(read_ts(path)):
            called = channels or [f"channel_{k}" for k in range(len(values))]
            if len(called) != len(values):
                raise SystemExit(f"{path} has {len(values)} channels, --channels names {len(called)}")
            columns = dict(zip(called, values, strict=True))
            about = {"recording": f"{part}_{i:04d}", "part": part, "step": np.arange(len(values[0]))}
            parts.append(pd.DataFrame({**about, **columns, "label": names.get(label, label)}))
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="PACKAGE/DATASET, or a folder with DATASET_TRAIN.ts and DATASET_TEST.ts")
    parser.add_argument("out", type=Path, help="the .parquet or .csv file that is written")
    parser.add_argument("--channels", default="", help="names of the channels, with commas between them")
    parser.add_argument("--labels", default="", help="names of the labels 0, 1, ..., with commas between them")
    given = parser.parse_args()
    lists = [[name for name in text.split(",") if name] for text in (given.channels, given.labels)]
    table = long_table(files_of(given.data), *lists)
    if given.out.suffix == ".csv":
        table.to_csv(given.out, index=False)
    else:
        table.to_parquet(given.out, index=False)
    print(f"{given.out}: {table['recording'].nunique():,} recordings, {len(table):,} steps")


if __name__ == "__main__":
    main()
