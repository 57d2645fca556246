"""Files of many columns, and of one long cell: read in time that grows as they do, or refused in one sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from size_cases import N, arrays

from imbalance_lab.data import files
from imbalance_lab.data.channels import matching
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options

ROWS = 24
WIDE = 20_000
OPTIONS: dict[str, dict[str, Any]] = {
    "table": {"target": "y"},
    "series": {"target": "y", "recording": "recording", "window": {"length": 2, "stride": 2}},
    "recordings": {"window": {"length": 2, "stride": 2}, "labels": "text"},
}


def whole(columns: int) -> dict[str, list[Any]]:
    """Columns that each of the sources reads, and so many of numbers."""
    values = np.round(np.random.default_rng(0).normal(size=(columns, ROWS)), 3).tolist()
    return {
        "recording": [f"r{i // 4}" for i in range(ROWS)],
        "gcode_string": [("G0 X1", "G1 Y1")[i % 2] for i in range(ROWS)],
        "y": [("a", "b")[i % 2] for i in range(ROWS)],
        **{f"c{i}": own for i, own in enumerate(values)},
    }


def write(table: dict[str, list[Any]], path: Path) -> None:
    if path.suffix == ".csv":
        rows = (",".join(map(str, row)) for row in zip(*table.values(), strict=True))
        path.write_text("\n".join([",".join(table), *rows]) + "\n", encoding="utf-8")
    else:
        pq.write_table(pa.table(table), path)


def read(source: str, path: Path, **options: Any) -> LoadedData:
    return load_data(parse_options({"source": source, "path": str(path), **OPTIONS[source], **options}))


def seconds(of: Callable[[], Any]) -> float:
    """Of the processor; the least of two."""
    found = []
    for _ in range(2):
        begun = time.process_time()
        of()
        found.append(time.process_time() - begun)
    return min(found)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("source", OPTIONS)
def test_time_grows_as_the_columns_do(source: str, suffix: str, tmp_path: Path) -> None:
    small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix}"
    write(whole(200), small)
    write(whole(2000), large)
    assert len(read(source, large).dataset.channels) == 2000
    ratio = seconds(lambda: read(source, large)) / seconds(lambda: read(source, small))
    assert ratio < 22, ratio  # ten times the columns: each with each would be a hundred times


def test_a_model_reads_a_wide_table_in_time_that_grows_as_its_columns_do(tmp_path: Path) -> None:
    took = {}
    for columns in (200, 2000):
        path = tmp_path / f"{columns}.csv"
        write(whole(columns), path)
        coding = read("table", path).dataset.coding
        options = {"source": "table", "path": str(path), "target": "y", "exclude": ["z*"]}
        took[columns] = seconds(lambda o=options, c=coding: load_data(parse_options(o), coding=c))  # type: ignore[misc]
    assert took[2000] / took[200] < 22


def test_many_arrays_of_an_archive_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays(), **{f"c{i}": np.zeros(1) for i in range(2000)})
    data = load_data(parse_options({"source": "sequences", "path": str(path)})).dataset
    assert len(data) == N
    assert str(data.facts["arrays_not_used"]).startswith("c0, c1, c10, c100, c1000, c1001, ")
    assert re.fullmatch(r".{1900,2000} and 1,\d{3} more", str(data.facts["arrays_not_used"]))


def test_names_without_a_sign_are_not_patterns() -> None:
    meant = matching(["a.b", "c*", "[xy]1", "d?"])
    assert [name for name in ("a.b", "axb", "c", "cc", "x1", "z1", "d1", "d", "", "a.b\n") if meant(name)] == [
        "a.b", "c", "cc", "x1", "d1",
    ]  # fmt: skip
    assert not matching([])("")


HEADER = [f"c{i}" for i in range(WIDE)]


@pytest.mark.parametrize("source", OPTIONS)
@pytest.mark.parametrize(
    ("header", "said"),
    [
        ([*HEADER, "c7", "y"], "names the column 'c7' twice"),
        ([*HEADER, "", "y"], "cell 20001 of the header is blank"),
        (HEADER, "has no column"),
    ],
    ids=["twice", "empty", "none"],
)
def test_what_is_wrong_with_a_wide_header_is_told_in_a_sentence(
    source: str, header: list[str], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(header) + "\n" + ",".join(["1"] * len(header)) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=said) as error:
        read(source, path)
    assert len(str(error.value)) - len(str(path)) < 250


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("source", OPTIONS)
def test_more_columns_than_can_be_read_are_told_by_the_header(
    source: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MOST_COLUMNS", 100)
    path = tmp_path / f"a{suffix}"
    write(whole(120), path)
    with pytest.raises(InputError, match=r"has 123 columns, of which .* allowed are at most 100: data\.exclude"):
        read(source, path)
    if source != "recordings":
        assert len(read(source, path, exclude=["c1*"]).dataset.channels) < 100
    if source == "series":
        assert read(source, path, include=["c7", "c5"]).dataset.channels == ("c5", "c7")


def test_a_million_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(map(str, range(1_000_000))) + "\n1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"has 1,000,000 columns, of which 1,000,000 would be read"):
        read("table", path)


LONG = "a" * 5_000_000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"y,recording,{LONG}\na,b,1\n", 1),
        (f"y,recording,x\na,b,1\na,{LONG},2\n", 3),
        (f'y,recording,x\na,b,1\na,b,"{LONG}\n', 3),
        (f"y,recording,x\na,b,1\na,b,2\na,b,{LONG}", 4),
        (f"y,recording,x\na,b,1\n{LONG},b,1,7\n", 3),
    ],
    ids=["header", "text", "open quote", "end", "row of another length"],
)
@pytest.mark.parametrize(
    ("source", "encoding"), [("table", "utf-8"), ("table", "utf-16"), ("series", "utf-8"), ("recordings", "utf-8")]
)
def test_a_cell_that_is_too_long_is_told_with_its_line(
    source: str, text: str, line: int, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding=encoding)
    own = {"encoding": encoding} if source == "table" else {}
    with pytest.raises(InputError, match=rf"a.csv, line {line}: found a cell of more than 131,072 bytes"):
        read(source, path, **own)


@pytest.mark.parametrize("source", OPTIONS)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_a_cell_of_parquet_that_is_too_long_is_told_with_its_column(source: str, kind: Any, tmp_path: Path) -> None:
    table = pa.table(whole(2))
    notes = pa.array([*["x"] * (ROWS - 1), LONG]).cast(kind)
    pq.write_table(table.append_column("notes", notes), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column 'notes': found a cell of more than 131,072 bytes"):
        read(source, tmp_path / "a.parquet")


def test_long_lines_of_short_cells_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write({**whole(100), "text": ["x" * 131_000] * ROWS}, path)
    assert len(path.read_text().splitlines()[1]) > 131_072
    assert len(read("table", path, exclude=["text"]).dataset.channels) == 100
