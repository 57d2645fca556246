"""Splits that the team gives, and labels that are not there."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.data.notes import data_notes
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.simulator.mill import SimulatedMill, simulate

SIDES = ("train", "val", "test")


def rows(n: int = 40) -> pd.DataFrame:
    """Rows of 20 machines, two each; every machine has both grades."""
    machine = np.arange(n) // 2
    grade = np.where(np.arange(n) % 2, "good", "bad")
    return pd.DataFrame({"x": np.arange(n) * 0.5, "machine": [f"m{i:02d}" for i in machine], "grade": grade})


def words(machines: pd.Series) -> list[str]:
    return [("Train", "train", " TRAIN", "val", "test")[int(name[1:]) % 5] for name in machines]


def load(folder: Path, table: pd.DataFrame, suffix: str = "csv", **options: object) -> LoadedData:
    path = folder / f"t.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    about = {"source": "table", "path": path.name, "target": "grade", "group": "machine", **options}
    return load_data(parse_options(about), folder)


def names_of(loaded: LoadedData) -> dict[str, set[str]]:
    return {side: set(loaded.dataset.groups[index].tolist()) for side, index in loaded.splits.items()}


@pytest.fixture(scope="module")
def mill() -> pd.DataFrame:
    return simulate(SimulatedMill(n_recordings=12, rows_per_recording=120, n_frames=1))


def recordings(folder: Path, frame: pd.DataFrame, **options: object) -> LoadedData:
    frame.to_parquet(folder / "r.parquet")
    return load_data(parse_options({"source": "recordings", "path": "r.parquet", **options}), folder)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_of_a_table(tmp_path: Path, suffix: str) -> None:
    table = rows()
    table["part"] = words(table["machine"])
    loaded = load(tmp_path, table, suffix, split={"column": "part"})
    for side, index in loaded.splits.items():
        assert [w.strip().lower() for w in table["part"].iloc[index]] == [side] * len(index)
    assert sum(len(index) for _, index in loaded.splits.items()) == 40
    assert loaded.dataset.channels == ("x",)
    assert loaded.dataset.categorical_channels == ()


def test_a_column_of_recordings(tmp_path: Path, mill: pd.DataFrame) -> None:
    names = sorted(mill["recording"].unique())
    drawn = names_of(recordings(tmp_path, mill, split={"seed": 3}))  # every class is in train
    of = {name: side for side in SIDES for name in drawn[side]}
    loaded = recordings(tmp_path, mill.assign(part=mill["recording"].map(of)), split={"column": "part"})
    assert names_of(loaded) == {side: {n for n in names if of[n] == side} for side in SIDES}
    assert "part" not in (*loaded.dataset.channels, *loaded.dataset.categorical_channels)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, frame in mill.assign(part=mill["recording"].map(of)).groupby("recording"):
        frame.drop(columns="recording").to_csv(folder / f"{name}_aligned.csv", index=False)
    options = {"source": "recordings", "path": "folder", "split": {"column": "part"}}
    assert names_of(load_data(parse_options(options), tmp_path)) == names_of(loaded)


def sequences(folder: Path, name: str = "s.npz", first: int = 0, **arrays: np.ndarray) -> Path:
    n = 20
    content = {
        "continuous": np.arange(n * 6, dtype=np.float32).reshape(n, 3, 2),
        "type_targets": np.arange(n)[:, None] % 2,
        "recording": np.array([f"r{first + i // 2:02d}" for i in range(n)]),
        **arrays,
    }
    np.savez(folder / name, **content)
    return folder / name


def load_sequences(folder: Path, **options: object) -> LoadedData:
    about = {"source": "sequences", "path": "s.npz", "encoding": "legacy", **options}
    return load_data(parse_options(about), folder)


def test_an_array_of_sequences(tmp_path: Path) -> None:
    part = np.array([SIDES[(i // 2) % 3] for i in range(20)])
    sequences(tmp_path, part=part)
    loaded = load_sequences(tmp_path, split={"column": "part"})
    assert all(set(part[index]) == {side} for side, index in loaded.splits.items())
    assert "arrays_not_used" not in loaded.dataset.facts
    with pytest.raises(InputError, match=r"has no array 'prt' of 20 words \(data.split.column\)"):
        load_sequences(tmp_path, split={"column": "prt"})


def test_names_of_what_is_tested(tmp_path: Path, mill: pd.DataFrame) -> None:
    tested = sorted(mill["recording"].unique())[:3]
    loaded = recordings(tmp_path, mill, split={"test": tested})
    names = names_of(loaded)
    assert names["test"] == set(tested)
    assert len(names["val"]) == 2  # 3/17 of nine, rounded
    assert not names["val"] & names["train"]
    again = recordings(tmp_path, mill, split={"test": tested, "val": sorted(names["val"])})
    assert names_of(again) == names
    simulated = {"source": "simulated", "n_recordings": 12, "rows_per_recording": 120, "n_frames": 1}
    assert names_of(load_data(parse_options({**simulated, "split": {"test": tested}}))) == names
    sequences(tmp_path)
    assert names_of(load_sequences(tmp_path, split={"test": ["r03", "r07"]}))["test"] == {"r03", "r07"}
    digits = load_data(parse_options({"source": "digits", "split": {"test": [f"{i:04d}" for i in range(50)]}}))
    assert names_of(digits)["test"] == {f"{i:04d}" for i in range(50)}


def test_a_second_file_is_tested(tmp_path: Path, mill: pd.DataFrame) -> None:
    drawn = names_of(recordings(tmp_path, mill))  # every class is in train
    tested, val = (mill["recording"].isin(drawn[side]) for side in ("test", "val"))
    mill[tested].to_parquet(tmp_path / "new.parquet")
    mill[val].to_parquet(tmp_path / "val.parquet")
    loaded = recordings(tmp_path, mill[~tested & ~val], split={"test": "new.parquet", "val": "val.parquet"})
    assert names_of(loaded) == drawn
    loaded = recordings(tmp_path, mill[~tested], split={"test": "new.parquet"})
    names = names_of(loaded)
    assert names["test"] == drawn["test"]
    assert names["train"] | names["val"] == drawn["train"] | drawn["val"]
    assert names["val"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_second_table_is_tested(tmp_path: Path, suffix: str) -> None:
    table = rows()
    more = table.iloc[30:].reset_index(drop=True)
    more.to_csv(tmp_path / "m.csv", index=False) if suffix == "csv" else more.to_parquet(tmp_path / "m.parquet")
    loaded = load(tmp_path, table.iloc[:30], suffix, split={"test": f"m.{suffix}"})
    assert loaded.splits.test.tolist() == list(range(30, 40))
    assert loaded.dataset.native(loaded.dataset.continuous)[:, 0, 0].tolist() == table["x"].tolist()
    assert loaded.dataset.heads["grade"] == ("bad", "good")


def test_a_second_file_of_sequences_is_tested(tmp_path: Path) -> None:
    sequences(tmp_path)
    sequences(tmp_path, "more.npz", first=50)
    loaded = load_sequences(tmp_path, split={"test": "more.npz"})
    assert loaded.splits.test.tolist() == list(range(20, 40))
    assert names_of(loaded)["test"] == {f"r{i}" for i in range(50, 60)}
    sequences(tmp_path, "more.npz", first=9)
    with pytest.raises(InputError, match="group 'r09' is in two of the files of the split"):
        load_sequences(tmp_path, split={"test": "more.npz"})


def test_a_folder_of_sequences_can_be_split_anew(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for i, side in enumerate(SIDES):
        sequences(folder, f"{side}.npz", first=20 * i)
    as_it_is = load_sequences(tmp_path, path="s")
    assert as_it_is.splits.test.tolist() == list(range(40, 60))
    loaded = load_sequences(tmp_path, path="s", split={"test": ["r00", "r45"]})
    assert names_of(loaded)["test"] == {"r00", "r45"}


def test_bad_words(tmp_path: Path, mill: pd.DataFrame) -> None:
    table = rows()
    table["part"] = words(table["machine"])
    wrong = table.assign(part=table["part"].where(table.index != 7, "tset"))
    with pytest.raises(InputError, match=r"t.csv, row 9, column 'part': found 'tset', allowed: train, val, test$"):
        load(tmp_path, wrong, split={"column": "part"})
    with pytest.raises(InputError, match=r"row 9, column 'part': found nothing, allowed: train, val, test$"):
        load(tmp_path, wrong.replace("tset", None), split={"column": "part"})
    two = table.assign(part=table["part"].where(table.index != 7, "test"))
    with pytest.raises(InputError, match=r"row 9, column 'part': recording 'm03' is in test here and in val above"):
        load(tmp_path, two, split={"column": "part"})
    with pytest.raises(InputError, match=r"data.split leaves no recording for val; each of train, val and test"):
        load(tmp_path, table.replace("val", "test"), split={"column": "part"})
    with pytest.raises(InputError, match=r"t.csv has no column 'side' \(split.column\)"):
        load(tmp_path, table, split={"column": "side"})
    first = sorted(mill["recording"].unique())[0]
    with pytest.raises(InputError, match=rf"recording '{first}', row 0 \(from 0\), column 'part': found 'x'"):
        recordings(tmp_path, mill.assign(part="x"), split={"column": "part"})
    with pytest.raises(InputError, match=r"r.parquet has no column 'part' \(data.split.column\)"):
        recordings(tmp_path, mill, split={"column": "part"})


def test_bad_names_and_files(tmp_path: Path, mill: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"data.split.test names the recording 'm3', .* close: m\d+"):
        load(tmp_path, rows(), split={"test": ["m3"]})
    with pytest.raises(InputError, match=r"'zebra', which the data do not have; they have m00, m01, m02, m03, m04"):
        load(tmp_path, rows(), split={"test": ["zebra"]})
    every = [f"m{i:02d}" for i in range(20)]
    with pytest.raises(InputError, match=r"1 recording\(s\) are left beside those tested, at least 2"):
        load(tmp_path, rows(), split={"test": every[1:]})
    with pytest.raises(InputError, match=r"data.split leaves no recording for train"):
        load(tmp_path, rows(), split={"test": every[1:], "val": every[:1]})
    only = rows().replace({"grade": {"good": "bad"}})
    only.loc[4, "grade"] = "good"
    with pytest.raises(
        InputError, match=r"leaves train without class 'good' of grade: it is only in m02 \(test\); put one of its"
    ):
        load(tmp_path, only, split={"test": ["m02", "m03"]})
    (tmp_path / "m.csv").write_text("x,machine,grade\n1.5,m03,good\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"group 'm03' is in .*t.csv and in .*m.csv; allowed: one side"):
        load(tmp_path, rows(), split={"test": "m.csv"})
    (tmp_path / "m.csv").write_text("machine,grade\nm33,good\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"m.csv has no column 'x', which .*t.csv has"):
        load(tmp_path, rows(), split={"test": "m.csv"})
    (tmp_path / "m.csv").write_text("x,machine,grade\nblue,m33,good\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"column 'x' is double in .*t.csv, string in .*m.csv; expected one type"):
        load(tmp_path, rows(), split={"test": "m.csv"})
    (tmp_path / "m.csv").write_text("x,machine,grade\n1.5,m33,good\n2.5,m34,\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"m.csv, row 3, column 'grade': the label is missing"):
        load(tmp_path, rows(), split={"test": "m.csv"})
    with pytest.raises(InputError, match=r"nowhere.csv"):
        load(tmp_path, rows(), split={"test": "nowhere.csv"})
    mill.to_parquet(tmp_path / "same.parquet")
    with pytest.raises(InputError, match=r"recording '\w+' is in .*r.parquet and in .*same.parquet; allowed: one side"):
        recordings(tmp_path, mill, split={"test": "same.parquet"})


def test_rows_without_a_label_are_masked_where_that_is_asked_for(tmp_path: Path) -> None:
    table = rows().assign(kind=lambda t: np.where(t.index % 3, "a", "b"))
    table.loc[[3, 4, 20], "grade"] = None
    table.loc[[4, 5], "kind"] = None
    with pytest.raises(InputError, match=r"row 5, column 'grade': .* \(3 such rows\).* data.unlabelled: mask"):
        load(tmp_path, table, target=["grade", "kind"])
    loaded = load(tmp_path, table, target=["grade", "kind"], unlabelled="mask")
    data = loaded.dataset
    assert np.flatnonzero(data.targets["grade"][:, 0] == IGNORE).tolist() == [3, 4, 20]
    assert np.flatnonzero(data.targets["kind"][:, 0] == IGNORE).tolist() == [4, 5]
    assert data.heads == {"grade": ("bad", "good"), "kind": ("a", "b")}
    assert data.class_counts("grade").sum() == 37
    assert "data: without a label, never scored: grade: 3, kind: 2" in data_notes(data.facts)
    complete = rows()
    assert "unlabelled" not in load(tmp_path, complete, unlabelled="mask").dataset.facts
    with pytest.raises(InputError, match=r"found no label, expected at least two classes"):
        load(tmp_path, complete.assign(grade=None), unlabelled="mask")


def test_sequences_without_a_label_are_masked_where_that_is_asked_for(tmp_path: Path) -> None:
    target = (np.arange(20)[:, None] % 2).astype(float)
    target[3], target[7] = np.nan, -1
    sequences(tmp_path, type_targets=target)
    with pytest.raises(InputError, match=r"sequence 3: found nan, .* set data.unlabelled: mask"):
        load_sequences(tmp_path)
    loaded = load_sequences(tmp_path, unlabelled="mask")
    assert np.flatnonzero(loaded.dataset.targets["type"][:, 0] == IGNORE).tolist() == [3, 7]
    assert loaded.dataset.facts["unlabelled"] == "2 positions"


@pytest.mark.parametrize("task", ["steps", "tokens"])
def test_recordings_may_have_to_be_labelled_throughout(tmp_path: Path, mill: pd.DataFrame, task: str) -> None:
    frame = mill.drop(columns="momo")
    frame.loc[5, "gcode_string"] = None
    first = frame["recording"].iloc[5]
    place = re.escape(f"recording '{first}', row 5 (from 0): the label is missing (1 such rows)")
    with pytest.raises(InputError, match=place + ".*data.unlabelled: mask"):
        recordings(tmp_path, frame, task=task, unlabelled="error")
    assert recordings(tmp_path, frame, task=task).dataset.facts["rows_without_text"] == 1
