"""Files that were cut off, and labels that no controller gives, are told before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance_lab.data.files import Format, read_arrow, read_arrow_parts
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options

WHOLE = 'name,text,n\na,"one, two",1\nb,"says ""no""",2\nc,"over\ntwo lines",3\n'


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n1,"x"\n2,"he', "row 3: a quote is opened and never closed"),
        ('a,b\n1,"x\n2,y\n3,z\n', "row 2: a quote is opened and never closed"),
        ('a,b\n1,"x ""\n', "row 2: a quote is opened and never closed"),
        ('a,b\n1,"x\ny"\n2,"', "row 4: a quote is opened and never closed"),
        ("a,b,c\n1,2,3\n4,5\n", "row 3: found 2 cells, expected 3"),
        ("a,b,c\n1,2,3\n4", "row 3: found 1 cells, expected 3"),
    ],
)
def test_a_file_that_was_cut_off_is_told_with_its_row(tmp_path: Path, text: str, message: str, encoding: str) -> None:
    path, form = tmp_path / "cut.csv", Format(encoding=encoding)
    path.write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=message):
        read_arrow(path, form=form)
    if "quote" in message:
        with pytest.raises(InputError, match=message):
            list(read_arrow_parts(path, lambda name: False, (), form))


@given(st.integers(len("name,text,n\n") + 1, len(WHOLE)))
def test_wherever_a_file_is_cut_no_row_is_made_up(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "cut.csv"
    path.write_text(WHOLE[:length], newline="")
    reason = ""
    kept = [("a", "one, two", "1"), ("b", 'says "no"', "2"), ("c", "over\ntwo lines", "3")]
    try:
        found = read_arrow(path, text=["n"]).to_pylist()
    except InputError as error:
        found, reason = [], str(error)
    assert found or "row " in reason
    # What a cut can leave unseen is the end of the last row: its last number.
    assert [tuple(row.values())[:2] for row in found] == [row[:2] for row in kept[: len(found)]]


def test_quotes_within_plain_cells_are_read(tmp_path: Path) -> None:
    path = tmp_path / "inch.csv"
    path.write_text('a,b\n5" pipe,1\nsix,2\n')
    assert read_arrow(path).to_pydict() == {"a": ['5" pipe', "six"], "b": [1, 2]}


def recording(**columns: object) -> pd.DataFrame:
    n = np.arange(40)
    base = {"momo": n % 4, "f.Ax": np.cos(n / 5), "gcode_string": np.where(n % 3 == 0, "G1 X1", "Y2.")}
    return pd.DataFrame({**base, **columns})


def _recordings(folder: Path, **columns: object) -> None:
    folder.mkdir()
    for name in ("a_1", "a_2", "a_3"):
        frame: pd.DataFrame = recording(**(columns if name == "a_2" else {}))
        frame.to_csv(folder / f"{name}_aligned.csv", index=False)


@pytest.mark.parametrize("mode", [7, -1, 1.5])
def test_a_motion_mode_that_no_controller_has_is_named_with_its_row(tmp_path: Path, mode: float) -> None:
    _recordings(tmp_path / "r", momo=np.where(np.arange(40) == 6, mode, 1.0))
    plain = {"source": "recordings", "path": "r", "window": {"length": 8, "stride": 4}}
    with pytest.raises(InputError, match=rf"recording 'a_2', row 6 \(from 0\): found the motion mode {mode:g} .*text"):
        load_data(parse_options(plain), tmp_path)
    assert load_data(parse_options({**plain, "labels": "text"}), tmp_path).dataset.heads["command"]


def test_recordings_without_any_motion_mode_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    for name in ("a_1", "a_2", "a_3"):
        recording(momo=4).to_csv(folder / f"{name}_aligned.csv", index=False)
    plain = {"source": "recordings", "path": "r", "window": {"length": 8, "stride": 4}}
    with pytest.raises(InputError, match="no row has a command"):
        load_data(parse_options(plain), tmp_path)
