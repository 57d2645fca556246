"""Long tables of time steps: reading, order, recordings, windows, and all that is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.data.sources import long_table
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, load_folds, parse_options

COLUMNS = {
    "recording": "run",
    "order": "t",
    "target": ["state", "fault"],
    "include": ["acc.*", "temp", "mode"],
    "categorical": ["mode"],
    "channel_groups": {"motion": ["acc.*"]},
    "slices": ["site"],
    "window": {"length": 8, "stride": 4},
}


def frame(runs: int = 6, rows: int = 30, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = runs * rows
    t = np.tile(np.arange(rows), runs)
    return pd.DataFrame(
        {
            "run": np.repeat([f"r{i}" for i in range(runs)], rows),
            "t": 1_000_000_000 + t,
            "acc.x": rng.normal(size=n),
            "acc.y": rng.normal(size=n) + 1.7e9,
            "temp": np.where(t % 7 == 0, np.nan, 20.0 + t),
            "mode": np.where(t % 2, "a", "b"),
            "note": "free text",
            "state": np.array(["idle", "cut", "stop"])[np.where(t < 20, 0, np.where(t < 28, 1, 2))],
            "fault": np.where(t % 5 == 0, None, np.where(t % 3 == 0, "yes", "no")),
            "site": np.repeat([f"s{i % 2}" for i in range(runs)], rows),
        }
    )


def load(path: Path, fold: int | None = None, **changes: Any) -> LoadedData:
    options = {"source": "series", "path": str(path), **COLUMNS, **changes}
    return load_data(parse_options({k: v for k, v in options.items() if v is not None}), fold=fold)


def written(folder: Path, table: pd.DataFrame, name: str = "all.csv") -> Path:
    path = folder / name
    folder.mkdir(exist_ok=True)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False, row_group_size=17)
    return path


def test_what_a_series_becomes(tmp_path: Path) -> None:
    table = frame()
    loaded = load(written(tmp_path, table))
    data = loaded.dataset
    assert data.channels == ("acc.x", "acc.y", "temp")
    assert data.categorical_channels == ("mode",)
    assert data.categories == (("a", "b"),)
    assert dict(data.heads) == {"state": ("cut", "idle", "stop"), "fault": ("no", "yes")}
    assert dict(data.channel_groups) == {"motion": ("acc.x", "acc.y"), "other": ("temp",)}
    assert set(data.slices["site"].tolist()) == {"s0", "s1"}
    assert data.facts["unlabelled"] == "fault: 36"
    rows = data.native(data.continuous)
    for window in range(len(data)):
        of_run = table[table["run"] == data.groups[window]].reset_index(drop=True)
        real = data.unit_position[window] >= 0
        expected = of_run.loc[data.unit_position[window][real], ["acc.x", "acc.y", "temp"]].to_numpy(float)
        np.testing.assert_allclose(rows[window][real], expected, rtol=1e-6)
        labels = of_run["state"].to_numpy()[data.unit_position[window]]
        scored = data.targets["state"][window] != IGNORE
        found = np.array(data.heads["state"])[data.targets["state"][window][scored]]
        assert found.tolist() == labels[scored].tolist()


def test_each_step_of_val_and_test_is_scored_once(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, frame()))
    data = loaded.dataset
    for index in (loaded.splits.val, loaded.splits.test):
        scored = data.targets["state"][index] != IGNORE
        places = list(
            zip(
                np.repeat(data.unit[index], 8)[scored.ravel()],
                data.unit_position[index][scored].tolist(),
                strict=True,
            )
        )
        assert len(places) == len(set(places)) == 30 * len(np.unique(data.groups[index]))


def test_short_recordings_are_padded(tmp_path: Path) -> None:
    table = frame()
    table = table[(table["run"] != "r3") | (table["t"] < 1_000_000_005)]
    data = load(written(tmp_path, table), target="state").dataset
    short = np.flatnonzero(data.groups == "r3")
    assert len(short) == 1
    assert (data.unit_position[short[0]] >= 0).sum() == 5
    assert np.isnan(data.continuous[short[0], 5:]).all()
    assert (data.categorical[short[0], 5:] == 0).all()
    assert (data.targets["state"][short[0], 5:] == IGNORE).all()


def test_one_file_many_files_and_parquet_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = frame()
    digest = load(written(tmp_path, table)).dataset.digest
    folder = tmp_path / "parts"
    for name, part in table.groupby("run"):
        written(folder, part.drop(columns="run"), f"{name}.csv")
    assert load(written(tmp_path, table, "all.parquet")).dataset.digest == digest
    assert load(folder, recording=None).dataset.digest == digest
    assert load(folder / "r*.csv", recording=None).dataset.digest == digest
    monkeypatch.setattr(long_table, "_SMALL", 0)  # the same file in parts
    assert load(tmp_path / "all.csv").dataset.digest == digest


def test_a_csv_that_changes_its_type_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imbalance_lab.data import files

    monkeypatch.setattr(long_table, "_SMALL", 0)
    monkeypatch.setattr(files, "_BLOCK", 2000)
    table = frame()
    table["temp"] = table["temp"].astype(object)
    table.loc[150, "temp"] = "warm"
    with pytest.raises(InputError, match=r"all.csv, row 152, column 'temp'.*'warm'"):
        load(written(tmp_path, table))
    table.loc[150, "temp"] = 30
    table["acc.x"] = np.where(np.arange(len(table)) < 120, np.nan, 1.5 + np.arange(len(table)))
    assert "acc.x" in load(written(tmp_path, table), min_coverage=0.0).dataset.channels


def test_folds_and_given_splits(tmp_path: Path) -> None:
    table = frame()
    table["part"] = table["run"].map(
        dict(zip([f"r{i}" for i in range(6)], ["train"] * 3 + ["val", "test", "test"], strict=True))
    )
    path = written(tmp_path, table)
    loaded = load(path, split={"column": "part"})
    assert set(loaded.dataset.groups[loaded.splits.test].tolist()) == {"r4", "r5"}
    folds = list(load_folds(parse_options({"source": "series", "path": str(path), **COLUMNS, "split": {"folds": 3}})))
    tested = [set(f.dataset.groups[f.splits.test].tolist()) for f in folds]
    assert sorted(r for part in tested for r in part) == [f"r{i}" for i in range(6)]
    later = frame(seed=1)
    later["run"] = "new-" + later["run"]
    other = written(tmp_path, later, "later.csv")
    loaded = load(path, split={"test": str(other)})
    assert {g[:4] for g in loaded.dataset.groups[loaded.splits.test].tolist()} == {"new-"}


def test_later_data_are_coded_as_the_model_knows_them(tmp_path: Path) -> None:
    first = load(written(tmp_path, frame())).dataset
    table = frame(seed=1)
    table["mode"] = table["mode"].replace("b", "c")
    table["extra"] = 1.0
    options = parse_options(
        {"source": "series", "path": str(written(tmp_path, table, "b.csv")), **COLUMNS, "include": ["*"]}
    )
    later = load_data(options, coding=first.coding).dataset
    assert later.channels == first.channels
    assert later.categories == first.categories
    assert "c 90" in str(later.facts["unknown_categories"])


def change(**columns: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**columns)


def interleaved(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table[:10], table[30:60], table[10:30], table[60:]])


def unsorted(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table[:40], table[41:42], table[40:41], table[42:]])


def text_at(row: int, text: str, times: bool = False) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        order = pd.to_datetime(table["t"], unit="s").astype(str) if times else table["t"]
        return table.assign(t=order.astype(object).where(np.arange(len(table)) != row, text))

    return spoil


def without_recording(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(run=table["run"].where(np.arange(len(table)) != 4))


@pytest.mark.parametrize(
    ("spoil", "options", "words"),
    [
        (interleaved, {}, r"all.csv, row 42, column 'run': recording 'r0' goes on after rows of 'r1'"),
        (unsorted, {}, r"row 43, column 't': found 1000000010 after 1000000011 in recording 'r1'"),
        (change(t="soon"), {}, r"row 2, column 't': found the text 'soon', expected numbers or times"),
        (text_at(40, "later"), {}, r"row 42, column 't': found the text 'later', expected numbers or times"),
        (text_at(40, "later", times=True), {}, r"row 42, column 't': found the text 'later', expected numbers"),
        (without_recording, {}, r"row 6, column 'run': found nothing, expected the name of the recording"),
        (None, {"target": "stat"}, r"has no column 'stat'"),
        (None, {"recording": "missing"}, r"has no column 'missing'"),
        (None, {"include": ["gyro*"]}, r"data.include: no input column .* matches 'gyro\*'"),
        (None, {"channel_groups": {"m": ["z*"]}}, r"data.channel_groups.m: no input column .* matches 'z\*'"),
        (None, {"unlabelled": "error"}, r"column 'fault': the label is missing \(36 such rows\)"),
        (None, {"target": "acc.x", "include": ["acc.y"]}, r"expected classes, not quantities"),
        (change(run="one"), {}, r"1 recording\(s\) found \(one\), at least 3 are needed"),
        (change(state="idle"), {}, r"column 'state': found the one class 'idle'"),
        (None, {"exclude": ["*"], "categorical": [], "channel_groups": {}}, r"has no input column"),
        (None, {"split": {"test": ["r9"]}}, r"names the recording 'r9'"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame] | None, options: dict[str, Any], words: str
) -> None:
    table = frame()
    path = written(tmp_path, table if spoil is None else spoil(table))
    with pytest.raises(InputError, match=words):
        load(path, **options)


def test_a_column_has_one_role(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column 'state' is under order and under target"):
        parse_options({"source": "series", "path": "x", "order": "state", "target": "state"})


def test_repeated_steps_and_gaps_are_named(tmp_path: Path) -> None:
    table = frame()
    table.loc[41, "t"] = table.loc[40, "t"]
    table.loc[75:89, "t"] += 100
    facts = load(written(tmp_path, table)).dataset.facts
    assert str(facts["steps_repeated"]).startswith("1 steps have the t of the step before them")
    assert "recording 'r1', row 11 (from 0)" in str(facts["steps_repeated"])
    assert "101 times as long, before recording 'r2', row 15 (from 0)" in str(facts["gaps"])


def test_times_are_an_order(tmp_path: Path) -> None:
    table = frame()
    table["t"] = pd.to_datetime(table["t"], unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")
    assert "gaps" not in load(written(tmp_path, table)).dataset.facts
    with pytest.raises(InputError, match="expected the steps of a recording in their order"):
        load(written(tmp_path, unsorted(table)))


def test_a_recording_in_two_files(tmp_path: Path) -> None:
    table = frame()
    first = written(tmp_path, table)
    again = written(tmp_path, frame(seed=2)[150:], "later.csv")
    with pytest.raises(InputError, match=r"recording 'r5' is in .*all.csv and in .*later.csv"):
        load(first, split={"test": str(again)})


def test_no_such_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, words in (("no.csv", "does not exist"), ("empty", "holds no .csv"), ("empty/*.csv", "is called")):
        with pytest.raises(InputError, match=words):
            load(tmp_path / place)
