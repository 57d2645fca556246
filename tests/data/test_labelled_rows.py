"""One builder for labels of rows: what the G-code labeller says, and that its source does not matter."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.data.gcode.blocks import parse_column
from imbalance_lab.data.gcode.labels import motion_labels
from imbalance_lab.data.label_classes import RowLabels
from imbalance_lab.data.sources.labelled_rows import count_labels
from imbalance_lab.data.sources.recording_rows import recordings_of_rows
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options

TEXT = pd.Series(["G1 X1", None, "Y2", "G0 Z1", None], dtype=object)
STARTS = np.array([0, 3])


def place(row: int) -> str:
    return f"here {row}"


def test_the_gcode_labeller_says_heads_and_targets_of_rows() -> None:
    frame = pd.DataFrame({"gcode_string": TEXT, "momo": [1.0, 4.0, 2.0, np.nan, 0.0]})
    blocks = parse_column(TEXT)
    controller = motion_labels(frame, blocks, STARTS, "controller", place)
    assert controller.targets["command"].tolist() == [1, IGNORE, 2, IGNORE, 0]
    assert controller.heads["addresses"] == ("X", "Y", "Z")
    assert controller.targets["addresses"].tolist() == [0, IGNORE, 1, 2, IGNORE]
    assert controller.facts == {"labels": "controller (momo)", "rows_without_command": 2}
    text = motion_labels(frame, blocks, STARTS, "text", place)
    assert text.targets["command"].tolist() == [1, IGNORE, 1, 0, IGNORE]
    with pytest.raises(InputError, match=r"here 1: found the motion mode 7 in column 'momo' \(1 such rows\)"):
        motion_labels(frame.assign(momo=[1, 7, 1, 1, 1]), blocks, STARTS, "controller", place)


def test_rows_without_a_command_are_scored_only_by_a_model_that_knows_them() -> None:
    frame = pd.DataFrame({"gcode_string": TEXT, "momo": np.full(5, np.nan)})
    with pytest.raises(InputError, match="no row has a command"):
        motion_labels(frame, parse_column(TEXT), STARTS, "controller", place)
    known = motion_labels(frame, parse_column(TEXT), STARTS, "controller", place, known=True)
    assert (known.targets["command"] == IGNORE).all()
    nothing = pd.Series([None] * 5, dtype=object)
    with pytest.raises(InputError, match="no row carries a label"):
        motion_labels(frame, parse_column(nothing), STARTS, "text", place, known=True)


def test_labels_are_counted_in_their_recording() -> None:
    rows = recordings_of_rows(5, np.array(["b", "b", "b", "a", "a"], dtype=object), place)
    labels = RowLabels(
        {"x": ("p", "q", "r"), "y": ("s", "t")},
        {"x": np.array([0, 0, IGNORE, 1, 0]), "y": np.array([1, 1, 1, IGNORE, 0])},
    )
    assert count_labels(rows, labels).toarray().tolist() == [[2, 0, 0, 0, 3], [1, 1, 0, 1, 0]]


def test_the_same_labels_give_the_same_windows_whoever_says_them(tmp_path: Path) -> None:
    rng, lengths = np.random.default_rng(0), (45, 9, 38, 40, 51)
    names = np.repeat([f"a_{i}" for i in range(len(lengths))], lengths)
    momo = rng.integers(0, 4, len(names)).astype(float)
    momo[::7] = np.nan
    frame = pd.DataFrame(
        {"recording": names, "gcode_string": "G1 X1", "momo": momo, "f.x": rng.normal(size=len(names))}
    )
    frame.to_parquet(tmp_path / "all.parquet")
    both = {
        "path": "all.parquet",
        "window": {"length": 16, "stride": 5},
        "split": {"test": ["a_1", "a_4"], "val": ["a_2"]},
    }
    gcode = load_data(parse_options({"source": "recordings", **both}), tmp_path)
    series = {"source": "series", "recording": "recording", "target": "momo", "include": ["f.*"], **both}
    column = load_data(parse_options(series), tmp_path)
    a, b = gcode.dataset, column.dataset
    np.testing.assert_array_equal(a.targets["command"], b.targets["momo"])
    np.testing.assert_array_equal(a.continuous[...], b.continuous[...])
    for name in ("unit", "unit_position", "unit_length", "groups"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for (_, one), (_, other) in zip(gcode.splits.items(), column.splits.items(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (a.targets["command"] == IGNORE).any()
    assert (a.unit_position < 0).any()
