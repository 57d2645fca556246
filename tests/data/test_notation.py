"""Tables as people write them: notations, labels, types of Parquet; values beside what pandas reads."""

from __future__ import annotations

import decimal
import os
import subprocess
import sys
from csv import QUOTE_NONNUMERIC
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.predictions import Predictions, bare_head, read_parquet, write_parquet

N = 40
X = [round(0.37 * i - 3, 3) for i in range(N)]
LABELS = ["a", "b"] * (N // 2)


def load(path: Path, **options: Any) -> SequenceDataset:
    return load_data(parse_options({"source": "table", "path": str(path), "target": "class", **options})).dataset


def csv(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    return path


def parquet(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": X, "class": LABELS, **columns}), path)
    return path


def rows(cells: list[str], header: str = "x,class", labels: list[str] = LABELS) -> str:
    return "\n".join([header, *(f"{cell},{label}" for cell, label in zip(cells, labels, strict=False))]) + "\n"


@pytest.mark.parametrize(
    ("decimal_sign", "thousands", "write"),
    [
        (".", ",", lambda v: f'"{v:,.2f}"'),
        (",", ".", lambda v: '"' + f"{v:,.2f}".translate(str.maketrans(",.", ".,")) + '"'),
        (",", " ", lambda v: '"' + f"{v:,.2f}".replace(",", "\u202f").replace(".", ",") + '"'),
        (".", "'", lambda v: f"{v:,.2f}".replace(",", "'")),
        (",", None, lambda v: '"' + f"{v:.2f}".replace(".", ",") + '"'),
    ],
)
def test_numbers_in_another_notation(tmp_path: Path, decimal_sign: str, thousands: str | None, write: Any) -> None:
    values = np.round(np.linspace(-4_000, 3_000_000, N), 2)
    path = csv(tmp_path, rows([write(v) for v in values]))
    read = load(path, decimal=decimal_sign, thousands=thousands)
    assert read.channels == ("x",)
    np.testing.assert_allclose(read.native(read.continuous)[:, 0, 0], values, rtol=1e-6)
    with pytest.raises(InputError, match=r"row 2, column 'x': found the text .*set data\."):
        load(path)


@pytest.mark.parametrize("odd", ["12 %", "\u22125", "NA", "1,5", "#DIV/0!", "$3.10", "5\uff11", "n/a", "-"])
def test_a_text_among_numbers_is_refused_with_its_row(tmp_path: Path, odd: str) -> None:
    cells = [str(x) for x in X]
    cells[3] = f'"{odd}"'
    with pytest.raises(InputError, match=r"row 5, column 'x': found .*") as error:
        load(csv(tmp_path, rows(cells)))
    assert "data." in str(error.value)
    assert load(csv(tmp_path, rows(cells)), missing=[odd]).channels == ("x",)


LABEL_COLUMNS = {
    "decimal": (pa.array([decimal.Decimal(v) for v in ("1.00", "2.50")] * (N // 2)), ("1.00", "2.50")),
    "dictionary": (pa.array(LABELS).dictionary_encode(), ("a", "b")),
    "bool": (pa.array([True, False] * (N // 2)), ("False", "True")),
    "int": (pa.array([2**53, 2**53 + 1] * (N // 2)), (str(2**53), str(2**53 + 1))),
    "float": (pa.array([1.0, 0.5] * (N // 2)), ("0.5", "1.0")),
    "float32": (pa.array([0.1, 1.0] * (N // 2), pa.float32()), ("0.1", "1.0")),
    "text": (pa.array(["0", "1"] * (N // 2)), ("0", "1")),
    "words": (pa.array(["None", "NA"] * (N // 2)), ("NA", "None")),
    "large": (pa.array(LABELS, pa.large_string()), ("a", "b")),
}


@pytest.mark.parametrize("name", LABEL_COLUMNS)
def test_labels_of_every_parquet_type(tmp_path: Path, name: str) -> None:
    column, classes = LABEL_COLUMNS[name]
    read = load(parquet(tmp_path, **{"class": column}))
    assert read.heads["class"] == classes
    pq.read_table(tmp_path / "t.parquet").to_pandas().to_csv(tmp_path / "t.csv", index=False)
    assert load(tmp_path / "t.csv").digest == read.digest


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1], [2]] * (N // 2)), "column 'class': holds list.*text$"),
        (pa.array(["", "a"] * (N // 2)), "row 1, column 'class': the label is missing"),
        (pa.array([None, 1.0] * (N // 2)), "row 1, column 'class': the label is missing"),
        (
            pa.array([1.0, 2.0**53] * (N // 2)),
            "row 2, column 'class': found the label 9007199254740992.0, a float beyond 2",
        ),
    ],
)
def test_labels_that_are_none(tmp_path: Path, column: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(parquet(tmp_path, **{"class": column}))


def test_inputs_of_every_parquet_type(tmp_path: Path) -> None:
    whole = [None, *range(2**60, 2**60 + N - 1)]
    columns = {
        "money": pa.array([decimal.Decimal(i) / 4 for i in range(N)]),
        "whole": pa.array(whole, pa.int64()),
        "digits": pa.array([str(i % 7) for i in range(N)]),
        "kind": pa.array(["u", "v", "w", None] * (N // 4)).dictionary_encode(),
        "on": pa.array([True, None] * (N // 2)),
        "at": pa.array(pd.date_range("2024-01-01", periods=N, freq="s")),
        "id": pa.array([f"part {i}" for i in range(N)]),
    }
    read = load(parquet(tmp_path, **columns))
    assert read.channels == ("x", "money", "whole", "digits")
    assert read.categorical_channels == ("kind", "on")
    assert read.categories == (("u", "v", "w"), ("True",))
    assert "'at' left out" in str(read.facts["columns_left_out"])
    assert "'id' left out: 100 %" in str(read.facts["columns_left_out"])
    assert len(np.unique(read.continuous[1:, 0, 2])) == N - 1


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])
def test_times_are_left_out_or_seconds(tmp_path: Path, form: str) -> None:
    times = pd.date_range("2024-03-01", periods=N, freq="7h")
    path = csv(tmp_path, rows([f"{x},{t}" for x, t in zip(X, times.strftime(form), strict=True)], "x,at,class"))
    assert load(path).channels == ("x",)
    read = load(path, timestamps=["at"])
    assert read.channels == ("x", "at")
    seconds = (times - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    np.testing.assert_allclose(read.native(read.continuous)[:, 0, 1], seconds, atol=1)


def test_files_that_say_what_to_set(tmp_path: Path) -> None:
    plain = rows([str(x) for x in X])
    semicolon = csv(tmp_path, plain.replace(",", ";"))
    with pytest.raises(InputError, match=r'set data\.separator: ";"'):
        load(semicolon)
    assert load(semicolon, separator=";").channels == ("x",)
    umlaut = csv(tmp_path, plain.replace(",a", ",\u00e4"), "latin-1")
    with pytest.raises(InputError, match=r"line 2: found the byte 0xe4.*set data\.encoding"):
        load(umlaut)
    assert load(umlaut, encoding="latin-1").heads["class"] == ("b", "\u00e4")
    wide = csv(tmp_path, plain, "utf-16")
    with pytest.raises(InputError, match=r"set data\.encoding: utf-16"):
        load(wide)
    assert load(wide, encoding="utf-16").channels == ("x",)
    with pytest.raises(InputError, match="row 42: found 1 cells, expected 2"):
        load(csv(tmp_path, plain + "3\n"))
    with pytest.raises(InputError, match="write ' class ' as the header does"):
        load(csv(tmp_path, plain.replace("x,class", "x, class ")))
    with pytest.raises(InputError, match="cell 2 of the header is blank"):
        load(csv(tmp_path, rows([f"{x},1" for x in X], "x, ,class")))
    with pytest.raises(InputError, match="row 4, column 'class': the label is missing"):
        load(csv(tmp_path, 't,x,class\n"one\ntwo",1,a\nthree,2,\n' + "".join(f"t,{x},b\n" for x in X)))


def test_one_order_in_every_process(tmp_path: Path) -> None:
    path = csv(tmp_path, rows([str(x) for x in X], labels=["G1", "G01", "1", "1.0", "01"] * 8))
    code = (
        "import sys; from imbalance_lab.load import load_data;"
        "from imbalance_lab.load import parse_options;"
        "print(load_data(parse_options(dict(source='table', path=sys.argv[1], target='class'))).dataset.digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(5)
    }
    assert len(digests) == 1


@given(st.lists(st.floats(-1e6, 1e6, width=32) | st.integers(-9, 9).map(float), min_size=2, max_size=6, unique=True))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_float_labels_are_the_same_classes_in_both_files(tmp_path: Path, labels: list[float]) -> None:
    frame = pd.DataFrame({"x": X, "class": [labels[i % len(labels)] for i in range(N)]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    read = [load(tmp_path / name, target_kind="classes") for name in ("t.csv", "t.parquet")]
    assert read[0].heads == read[1].heads
    assert read[0].digest == read[1].digest


_SIGNS = st.sampled_from([(".", None), (".", ","), (",", "."), (",", " "), (".", "'"), (",", None)])


@given(st.lists(st.decimals(-(10**9), 10**9, places=2), min_size=20, max_size=20, unique=True), _SIGNS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_numbers_in_any_notation(
    tmp_path: Path, numbers: list[decimal.Decimal], signs: tuple[str, str | None]
) -> None:
    point, thousands = signs
    written = [f"{n:,.2f}".translate(str.maketrans({",": thousands or "", ".": point})) for n in numbers]
    table = pd.DataFrame({"x": written, "y": range(20), "class": LABELS[:20]})
    table.to_csv(tmp_path / "t.csv", index=False)
    read = load(tmp_path / "t.csv", decimal=point, thousands=thousands)
    assert read.channels == ("x", "y")
    expected = np.array([float(n) for n in numbers])
    scale = read.coding.scaling
    np.testing.assert_array_equal(read.continuous[:, 0, 0], scale.stored(expected, 0))


_FULL_WIDTH = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}
_STRANGE = st.sampled_from(
    [
        lambda text: f"{text} %",
        lambda text: f"\u2212{text}",
        lambda text: text.translate(_FULL_WIDTH),
        lambda text: f"\u20ac {text}",
        lambda text: f"{text}\u2030",
    ]
)


@given(st.lists(st.integers(1, 10**6), min_size=20, max_size=20), _STRANGE, st.integers(0, 19))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_number_in_a_notation_that_no_option_reads_is_refused_with_its_row(
    tmp_path: Path, numbers: list[int], write: Any, at: int
) -> None:
    """Once among plain numbers, and in every row: never categories, never passed over."""
    for which in ({at}, set(range(20))):
        cells = [write(str(n)) if i in which else str(n) for i, n in enumerate(numbers)]
        pd.DataFrame({"x": cells, "y": range(20), "class": LABELS[:20]}).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(InputError) as error:
            load(tmp_path / "t.csv")
        row = min(which)
        assert f"row {row + 2}, column 'x': found the text {cells[row]!r}" in str(error.value)


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(st.lists(_TEXT, min_size=2, max_size=5, unique=True))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_class_from_the_file_to_the_predictions(tmp_path: Path, names: list[str]) -> None:
    frame = pd.DataFrame({"x": X, "class": [names[i % len(names)] for i in range(N)]})
    frame.to_csv(tmp_path / "t.csv", index=False, quoting=QUOTE_NONNUMERIC)  # a lone \r is written bare otherwise
    frame.to_parquet(tmp_path / "t.parquet")
    read = load(tmp_path / "t.csv", target_kind="classes")
    assert set(read.heads["class"]) == set(names)
    assert [read.heads["class"][c] for c in read.targets["class"][:, 0]] == frame["class"].tolist()
    assert load(tmp_path / "t.parquet", target_kind="classes").digest == read.digest
    certain = np.eye(len(names), dtype=np.float32)[read.targets["class"][:, 0]]
    head = bare_head(read.heads["class"], read.class_counts("class"), certain)
    write_parquet(Predictions({"class": head}), tmp_path / "p.parquet")
    kept = read_parquet(tmp_path / "p.parquet").heads["class"]
    assert [kept.classes[c] for c in kept.true] == frame["class"].tolist()
