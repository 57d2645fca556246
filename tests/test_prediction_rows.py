"""Predictions tables that others wrote: what is no prediction is refused with its row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imbalance_lab.errors import InputError
from imbalance_lab.predictions import Predictions, bare_head, read_parquet, write_parquet

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
