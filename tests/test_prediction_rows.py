"""Predictions tables that others wrote: what is no prediction is refused with its row."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imbalance_lab.errors import InputError
from imbalance_lab.predictions import (
    HeadPredictions,
    Predictions,
    bare_head,
    open_parquet,
    read_parquet,
    write_parquet,
)

_ROWS = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], dtype=np.float32)


def _table(path: Path, classes: tuple[str, ...] = ("a", "b")) -> pa.Table:
    write_parquet(Predictions({"y": bare_head(classes, np.array([2, 1]), _ROWS)}), path)
    return pq.read_table(path)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("true", [0, 0.9, 1], "row 1: found 0.9"),
        ("pred", [0, 1, None], "row 2: found nan"),
        ("true", [0, 2, 1], "row 1: found 2"),
        ("true", ["a", "b", "a"], "of type string"),
        ("sequence", [0.0, 1.5, 2.0], "row 1: found 1.5"),
        ("sequence", [0, 1, 0], "rows 0 and 2 both"),
        ("head", ["y", "y", "z"], "row 2 is of head 'z'"),
        ("head", ["y", None, "y"], "row 1 is of head None"),
        ("probabilities", [[0.9, 0.1], [1.0], [0.2, 0.3, 0.5]], "row 1: found 1 prob"),
        ("probabilities", [[0.9, 0.1], None, [0.5, 0.5]], "row 1: found 0 prob"),
        ("probabilities", [[0.9, 0.1], [0.5, float("nan")], [0.5, 0.5]], "row 1: found prob"),
        ("probabilities", [[0.9, 0.1], [0.5, 0.5], [1.5, -0.5]], "row 2: found prob"),
        ("probabilities", [[0.9, 0.1], [0.5, 0.4], [0.5, 0.5]], "row 1: probabilities sum to 0.9"),
        ("probabilities", [0.9, 0.1, 0.5], "of type double"),
    ],
)
def test_row_that_is_no_prediction_is_refused(tmp_path: Path, column: str, values: list, words: str) -> None:
    path = tmp_path / "p.parquet"
    table = _table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values)), path)
    with pytest.raises(InputError) as error:
        read_parquet(path)
    assert words in str(error.value)
    assert "p.parquet" in str(error.value)


def test_class_given_twice_is_refused(tmp_path: Path) -> None:
    _table(tmp_path / "p.parquet", ("a", "a"))
    with pytest.raises(InputError, match="class 'a' twice"):
        read_parquet(tmp_path / "p.parquet")


@pytest.mark.parametrize("column", ["from_start", "from_end"])
def test_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(_table(path).drop_columns([column]), path)
    with pytest.raises(InputError, match=f"lacks the columns {column}"):
        read_parquet(path)


def test_whole_floats_and_an_untouched_table_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = _table(path)
    pq.write_table(table.set_column(table.column_names.index("true"), "true", pa.array([0.0, 1.0, 1.0])), path)
    assert read_parquet(path).heads["y"].true.tolist() == [0, 1, 1]


def _two_heads(n: int = 50) -> Predictions:
    rng = np.random.default_rng(0)
    heads = {}
    for name, k in (("x", 3), ("y", 2)):
        p = rng.dirichlet(np.ones(k), n).astype(np.float32)
        head = bare_head(tuple(f"c{i}" for i in range(k)), np.arange(k), p)
        group = rng.integers(1, 4, n).astype(np.int32)  # the name of code 0 has no row
        heads[name] = replace(head, group=group, group_names=("unused", "r1", "r2", "r3"))
    return Predictions(heads, {"split": "test"})


def _same(a: HeadPredictions, b: HeadPredictions) -> None:
    np.testing.assert_array_equal(a.probabilities, b.probabilities)
    np.testing.assert_array_equal(np.array(a.group_names)[a.group], np.array(b.group_names)[b.group])
    for column in ("sequence", "position", "true", "pred"):
        np.testing.assert_array_equal(getattr(a, column), getattr(b, column))


def test_one_head_is_read_without_the_rows_of_others(tmp_path: Path) -> None:
    written = _two_heads()
    write_parquet(written, tmp_path / "p.parquet")
    opened = open_parquet(tmp_path / "p.parquet")
    assert (list(opened.heads), opened.meta, opened.primary) == (["x", "y"], {"split": "test"}, "x")
    _same(opened.heads["y"], written.heads["y"])
    assert opened.heads["y"] is not opened.heads["y"]
    assert set(opened.heads["y"].group_names) == {"r1", "r2", "r3"}
    with pq.ParquetFile(tmp_path / "p.parquet") as file:
        assert file.num_row_groups == 2
    with pytest.raises(KeyError):
        opened.heads["z"]


def test_heads_whose_rows_are_mixed_are_read_as_well(tmp_path: Path) -> None:
    written, path = _two_heads(), tmp_path / "p.parquet"
    write_parquet(written, path)
    table = pq.read_table(path)
    mixed = np.arange(100).reshape(2, 50).T.reshape(-1)
    pq.write_table(table.take(mixed), path, row_group_size=30)
    for name, head in read_parquet(path).heads.items():
        _same(head, written.heads[name])
    bad = table.set_column(table.column_names.index("pred"), "pred", pa.array([*[0] * 99, 7])).take(mixed)
    pq.write_table(bad, path, row_group_size=30)
    assert len(open_parquet(path).heads["x"]) == 50  # only what is asked for is checked
    with pytest.raises(InputError, match="head 'y', column 'pred', row 99: found 7"):
        open_parquet(path).heads["y"]


def test_a_table_without_rows_is_read(tmp_path: Path) -> None:
    empty = bare_head(("a", "b"), np.array([1, 1]), np.zeros((0, 2), dtype=np.float32))
    write_parquet(Predictions({"y": empty}), tmp_path / "p.parquet")
    assert len(read_parquet(tmp_path / "p.parquet").heads["y"]) == 0
    with pytest.raises(InputError, match="no scored position"):
        _ = open_parquet(tmp_path / "p.parquet").primary
