"""Reading recordings: the real ones, and everything that can be wrong with a file."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imbalance_lab.data.sources.recordings import read_recordings
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options


def table(rows: int = 40, **columns: object) -> pd.DataFrame:
    n = np.arange(rows)
    base = {
        "t_console": [f"10:00:{i:02d}.000" for i in n],
        "momo": n % 4,
        "stat": 5,
        "vel": np.nan,
        "mpox": np.sin(n / 3),
        "f.Ax": np.cos(n / 5),
        "raw_json": '{"a": 1, "b": "x,y"}',
        "gcode_string": np.where(n % 3 == 0, "G1 X1", "Y2."),
    }
    return pd.DataFrame({**base, **columns})


def write(folder: Path, **frames: pd.DataFrame) -> Path:
    folder.mkdir(exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}_aligned.csv", index=False)
    return folder


def test_folder_is_read_sorted_and_tidied(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", b_1=table(), a_2=table(**{"g.Ax": 1.0}))
    (folder / "notes.txt").write_text("not a recording")
    recordings = read_recordings(folder)
    assert recordings.frame["recording"].unique().tolist() == ["a_2", "b_1"]
    assert set(recordings.frame.columns) == {"recording", "gcode_string", "momo", "stat", "mpox", "f.Ax", "g.Ax"}
    assert recordings.frame["g.Ax"].isna().sum() == 40
    assert recordings.facts["columns_lacking_in_some_files"] == "g.*"
    assert recordings.facts["empty_columns_dropped"] == "vel"
    assert recordings.facts["files_lacking_columns"] == 1


def test_one_file_equals_the_folder(tmp_path: Path) -> None:
    frames = {
        name: table(mpox=np.random.default_rng(i).normal(size=40)) for i, name in enumerate(["a_1", "a_2", "a_3"])
    }
    folder = write(tmp_path / "r", **frames)
    whole = pd.concat([f.assign(recording=n) for n, f in frames.items()], ignore_index=True).sample(
        frac=1, random_state=0
    )
    whole = whole.sort_values("t_console", kind="stable")  # recordings interleaved, rows of each in order
    whole.drop(columns="raw_json").to_parquet(tmp_path / "all.parquet")
    whole.to_csv(tmp_path / "all.csv", index=True)
    options = {"source": "recordings", "window": {"length": 8, "stride": 4}}
    digests = {
        load_data(parse_options({**options, "path": name}), tmp_path).dataset.digest
        for name in ("r", "all.parquet", "all.csv")
    }
    assert len(digests) == 1
    assert folder.is_dir()


def test_repeated_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    frame = table()
    doubled = pd.concat([frame.iloc[:10], frame.iloc[[9, 9]], frame.iloc[10:]])
    recordings = read_recordings(write(tmp_path / "r", a_1=doubled, a_2=table()))
    assert recordings.facts["duplicate_rows_dropped"] == 2
    assert recordings.facts["first_duplicate_row"] == "a_1, row 10"
    assert len(recordings.frame) == 80
    same_time = frame.assign(t_console="10:00:00.000")  # equal times, other values: kept
    kept = read_recordings(write(tmp_path / "s", a_1=same_time))
    assert kept.facts["duplicate_rows_dropped"] == 0
    without_time = doubled.drop(columns="t_console")  # a machine at rest repeats its values honestly
    assert len(read_recordings(write(tmp_path / "t", a_1=without_time)).frame) == 42


def test_text_in_a_number_column_names_file_row_column_and_value(tmp_path: Path) -> None:
    bad = table().astype({"mpox": "object"})
    bad.loc[7, "mpox"] = "12,5"
    folder = write(tmp_path / "r", a_1=table(), a_2=bad)
    with pytest.raises(InputError, match=r"a_2_aligned\.csv, row 9, column 'mpox': found the text '12,5'"):
        read_recordings(folder)


def test_text_throughout_one_file_only(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", a_1=table(), a_2=table(mpox="high"))
    with pytest.raises(InputError, match=r"a_2_aligned\.csv, column 'mpox': found text, expected numbers"):
        read_recordings(folder)
    everywhere = write(tmp_path / "s", a_1=table(operator="Ann"), a_2=table(operator="Bob"))
    assert read_recordings(everywhere).facts["text_columns_ignored"] == "operator"


def bad_paths(tmp: Path) -> dict[str, tuple[Path, str]]:
    (tmp / "void").mkdir()
    (tmp / "other").mkdir()
    (tmp / "other" / "x.csv").write_text("a\n1\n")
    (tmp / "nothing.csv").write_text("")
    (tmp / "header.csv").write_text("recording,gcode_string\n")
    (tmp / "torn.csv").write_text("recording,gcode_string,a\nr,G1 X1,1\nr,G1 X1\n")
    (tmp / "twice.csv").write_text("recording,gcode_string,a,a\nr,G1 X1,1,2\n")
    (tmp / "broken.parquet").write_bytes(b"PAR1 not really")
    (tmp / "data.xlsx").write_bytes(b"PK")
    (tmp / "latin.csv").write_bytes(b"recording,gcode_string\nr,\xe9\n")
    table().to_parquet(tmp / "unnamed.parquet")
    table().assign(recording="a").drop(columns="gcode_string").to_csv(tmp / "blockless.csv")
    table().assign(recording=["a"] * 39 + [None]).to_parquet(tmp / "null.parquet")
    return {
        "missing": (tmp / "gone" / "file.parquet", "does not exist (the nearest existing folder is"),
        "empty folder": (tmp / "void", "holds no *_aligned.csv file (it holds nothing)"),
        "other folder": (tmp / "other", "it holds x.csv"),
        "empty file": (tmp / "nothing.csv", "is an empty file"),
        "no rows": (tmp / "header.csv", "holds no rows"),
        "torn": (tmp / "torn.csv", "row 3: found 2 cells, expected 3 as in the header"),
        "column twice": (tmp / "twice.csv", "names the column 'a' twice"),
        "broken parquet": (tmp / "broken.parquet", "cannot be read as parquet"),
        "suffix": (tmp / "data.xlsx", "allowed: .csv, .parquet"),
        "encoding": (tmp / "latin.csv", "set data.encoding"),
        "no recording": (tmp / "unnamed.parquet", "no column 'recording'"),
        "no block": (tmp / "blockless.csv", "no column 'gcode_string'"),
        "null recording": (tmp / "null.parquet", "1 rows without a value in column 'recording'"),
    }


def test_bad_files_get_one_clear_sentence(tmp_path: Path) -> None:
    for name, (path, message) in bad_paths(tmp_path).items():
        with pytest.raises(InputError) as error:
            read_recordings(path)
        assert message in str(error.value), name
        assert "\n" not in str(error.value), name
        assert path.name in str(error.value), name


def test_malformed_block_names_recording_and_row(tmp_path: Path) -> None:
    bad = table()
    bad.loc[5, "gcode_string"] = "G1 X"
    write(tmp_path / "r", a_1=table(), a_2=table(), a_3=bad)
    with pytest.raises(InputError, match=r"recording 'a_3', row 5 \(from 0\): G-code block 'G1 X'"):
        load_data(parse_options({"source": "recordings", "path": "r"}), tmp_path)


def test_too_few_recordings_no_labels_no_inputs(tmp_path: Path) -> None:
    write(tmp_path / "two", a_1=table(), a_2=table())
    with pytest.raises(InputError, match=r"2 recording\(s\) found, at least 3"):
        load_data(parse_options({"source": "recordings", "path": "two"}), tmp_path)
    blank = table(gcode_string=None, momo=np.nan)
    write(tmp_path / "blank", a_1=blank, a_2=blank, a_3=blank)
    for task in ("steps", "tokens"):
        with pytest.raises(InputError, match="no row carries a label"):
            load_data(parse_options({"source": "recordings", "path": "blank", "task": task}), tmp_path)
    write(tmp_path / "full", a_1=table(), a_2=table(), a_3=table())
    with pytest.raises(InputError, match="no input channel is left"):
        load_data(parse_options({"source": "recordings", "path": "full", "exclude": ["*"]}), tmp_path)


def test_raw_folder_and_parquet_give_the_same_windows(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data/gcode_fingerprinting"
    raw = load_data(parse_options({"source": "recordings", "path": str(folder / "raw")}))
    names = sorted(set(raw.dataset.groups.tolist()))
    assert len(names) == 9
    whole = pd.read_parquet(folder / "recordings.parquet", filters=[("recording", "in", names)])
    whole.to_parquet(tmp_path / "nine.parquet")
    same = load_data(parse_options({"source": "recordings", "path": str(tmp_path / "nine.parquet")}))
    assert raw.dataset.channels == same.dataset.channels
    np.testing.assert_array_equal(raw.dataset.continuous, same.dataset.continuous)
    assert raw.dataset.digest == same.dataset.digest


def test_a_counter_keeps_its_differences(tmp_path: Path) -> None:
    """Near 1.7e9 float32 holds every 128th number only; the first file has whole numbers, the second fractions."""
    counts = 1_700_000_000 + np.arange(40)
    folder = write(tmp_path / "r", a_1=table(ticks=counts), a_2=table(ticks=counts + 0.5), a_3=table(ticks=counts))
    options = {"source": "recordings", "path": "r", "window": {"length": 8, "stride": 4}}
    data = load_data(parse_options(options), tmp_path).dataset
    ticks = data.channels.index("ticks")
    seen = data.native(data.continuous[..., ticks], channels=ticks)
    assert set(np.unique(seen[np.isfinite(seen)])) == {*counts, *(counts + 0.5)}
    assert str(read_recordings(folder).frame["mpox"].dtype).startswith(("int", "float"))


def test_numbers_of_every_type_are_inputs(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = [None, *range(39)]
    columns = {
        "digits": pa.array([None if v is None else str(v) for v in values]),
        "coded": pa.array([None if v is None else str(v) for v in values]).dictionary_encode(),
        "price": pa.array([None if v is None else Decimal(v) for v in values], pa.decimal128(9, 2)),
        "count": pa.array(values, pa.int64()),
        "flag": pa.array([None if v is None else v % 2 == 0 for v in values]),
        "lists": pa.array([[1, 2]] * 40),
    }
    base = pa.Table.from_pandas(table().assign(recording="a"), preserve_index=False)
    for name, column in columns.items():
        base = base.append_column(name, column)
    pq.write_table(base, tmp_path / "all.parquet")
    read = read_recordings(tmp_path / "all.parquet")
    for name in ("digits", "coded", "price", "count"):
        assert np.isnan(read.frame[name].iloc[0]), name
        assert read.frame[name].iloc[1:].astype(float).tolist() == list(range(39)), name
    assert read.frame["flag"].iloc[1:].tolist() == [v % 2 == 0 for v in range(39)]
    assert "lists" in str(read.facts["text_columns_ignored"])


def test_numbers_in_another_notation_are_not_passed_over_as_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", a_1=table(load=[f"{i},5" for i in range(40)]))
    with pytest.raises(InputError, match=r"a_1_aligned\.csv, row 2, column 'load': found the text '0,5'.*plain"):
        read_recordings(folder)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_recordings_that_are_numbered_have_the_same_names_in_both_formats(tmp_path: Path, kind: str) -> None:
    i = np.arange(96)
    frame = pd.DataFrame({"recording": i // 8 + 0.5 * (i // 8 % 2), "gcode_string": "G1 X1", "f.Ax": np.cos(i)})
    frame["recording"] = frame["recording"].astype(kind)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    names = [set(read_recordings(tmp_path / f"a{s}").frame["recording"]) for s in (".csv", ".parquet")]
    assert names[0] == names[1] == {str(r) for r in frame["recording"].unique()}


@pytest.mark.parametrize("place", ["r", "all.csv", "all.parquet"])
def test_what_a_column_that_is_excluded_holds_does_not_matter(tmp_path: Path, place: str) -> None:
    odd = {"note.text": ["x", *map(str, range(39))], "note.list": "[1, 2]", "pos_1": "1,5", "t_console": "10:00"}
    odd |= {"mpox": 0.5, "f.Ax": 0.5, "line": np.arange(40)}
    names = [f"a_{i}" for i in range(3)]
    frames = {name: table(**odd) for name in names}
    frames["a_2"]["pos_1"] = np.arange(40)  # numbers in one file, text in the next
    write(tmp_path / "r", **frames)
    whole = pd.concat([frame.assign(recording=name) for name, frame in frames.items()], ignore_index=True)
    whole.to_csv(tmp_path / "all.csv", index=False)
    whole.astype({"pos_1": str}).to_parquet(tmp_path / "all.parquet")
    options = {"source": "recordings", "window": {"length": 8, "stride": 4}, "path": place}
    with pytest.raises(InputError, match=r"column '(note.text|pos_1)': found (the )?text"):
        load_data(parse_options({**options, "exclude": ["vel"]}), tmp_path)
    excluded = ["note.*", "pos*", "momo", "recording", "gcode_*", "line", "nothing"]
    data = load_data(parse_options({**options, "exclude": excluded}), tmp_path).dataset
    assert data.facts["duplicate_rows_dropped"] == 0  # rows that differ in excluded columns alone are no repetitions
    assert data.channels == ("mpox", "f.Ax")
    assert data.facts["exclude_patterns_without_a_column"] == "nothing"
    assert set(data.heads["command"]) == {"G0", "G1", "G2", "G3"}  # momo still gives labels
