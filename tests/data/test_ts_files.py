"""The script of examples/ts_files: archives of labelled recordings to the long table that ``source: series`` reads."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import imbalance_lab as il

SCRIPT = ROOT / "examples" / "ts_files" / "ts_long_table.py"
HEAD = "#﻿ words\n@problemName Two\n@timeStamps false\n@classLabel true a b\n@data\n"


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_channels_labels_and_parts(tmp_path: Path) -> None:
    folder = tmp_path / "Two"
    folder.mkdir()
    (folder / "Two_TRAIN.ts").write_text(HEAD + "1,2,?:4,5,6:0\n7,8:9,10:b\n", encoding="utf-8")
    (folder / "Two_TEST.ts").write_text(HEAD + "3:4:0\n", encoding="utf-8")
    done = made(str(folder), str(tmp_path / "two.csv"), "--channels", "x,y", "--labels", "idle")
    assert done.returncode == 0, done.stderr
    assert "3 recordings, 6 steps" in done.stdout
    table = pd.read_csv(tmp_path / "two.csv")
    assert table.columns.tolist() == ["recording", "part", "step", "x", "y", "label"]
    assert table["recording"].tolist() == ["train_0000"] * 3 + ["train_0001"] * 2 + ["test_0000"]
    assert table["step"].tolist() == [0, 1, 2, 0, 1, 0]
    np.testing.assert_array_equal(table["x"], [1, 2, np.nan, 7, 8, 3])
    assert table["label"].tolist() == ["idle"] * 3 + ["b"] * 2 + ["idle"]
    assert "--channels names 1" in made(str(folder), str(tmp_path / "x.csv"), "--channels", "x").stderr
    (folder / "Two_TEST.ts").write_text(HEAD.replace("Stamps false", "Stamps true") + "3:4:0\n", encoding="utf-8")
    assert "time stamps" in made(str(folder), str(tmp_path / "x.csv")).stderr
    assert "not installed" in made("no_such_package_here/Two", str(tmp_path / "x.csv")).stderr


def test_an_archive_is_read_by_its_experiment(tmp_path: Path) -> None:
    package = next((name for name in ("sktime", "aeon") if find_spec(name)), None)
    if package is None:
        pytest.skip("neither sktime nor aeon, whose wheels carry Japanese Vowels, is installed")
    done = made(f"{package}/JapaneseVowels", str(tmp_path / "vowels.parquet"))
    assert done.returncode == 0, done.stderr
    spec = il.load_experiment(ROOT / "experiments" / "vowels.yaml", {"data.path": str(tmp_path / "vowels.parquet")})
    loaded = il.load_data(spec.data)
    data = loaded.dataset
    assert len(data) == len(set(data.groups.tolist())) == 640
    assert (len(data.channels), len(data.heads["label"])) == (12, 9)
    assert all((data.class_counts("label", index) > 0).all() for _, index in loaded.splits.items())
