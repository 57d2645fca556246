"""What a trial draws of its figures; all tables are written all the same, each of them once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis_tables import segment_labels, table

from imbalance_lab.analysis.suite import head_tables, run_suite, shared_tables
from imbalance_lab.predictions import Predictions
from imbalance_lab.run.trial_files import read_table, write_analysis

FEW = {"calibration.png", "confusion.png", "figures/confusion_tool.png", "per_class.png"}


@pytest.fixture(scope="module")
def two_heads() -> Predictions:
    """Two heads whose errors fall anywhere."""
    rng = np.random.default_rng(0)
    heads = {}
    for name, k in (("command", 4), ("tool", 3)):
        true = segment_labels(1200, k, rng)
        pred = np.where(rng.random(1200) < 0.2, rng.integers(0, k, 1200), true)
        heads[name] = table(true, pred, k, np.full(60, 20))
    return Predictions(heads, {"split": "test", "strategy": "focal-2", "seed": 0, "primary_head": "command"})


def written(two_heads: Predictions, folder: Path, monkeypatch: pytest.MonkeyPatch, every: bool) -> set[str]:
    """Write an analysis; returns the pictures in its folder."""
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 30)
    write_analysis(two_heads, folder, resamples=30, every=every)
    return {str(path.relative_to(folder)) for path in folder.rglob("*.png")}


def test_a_trial_draws_few_figures_and_an_analysis_all(two_heads, tmp_path, monkeypatch):
    few = written(two_heads, tmp_path / "few", monkeypatch, every=False)
    every = written(two_heads, tmp_path / "every", monkeypatch, every=True)
    assert few == FEW
    assert few < every
    # Each is there for either head; those at the root belong to the main one.
    ends = {path.removeprefix("figures/") for path in every if path.endswith("_tool.png")}
    assert {"failure_modes_tool.png", "per_class_tool.png", "position_tool.png"} <= ends
    assert {"figures/failure_modes.png", "figures/position.png"} <= every
    pages = [(tmp_path / name / "report" / "index.html").read_text("utf-8") for name in ("few", "every")]
    assert [page.count("<img") for page in pages] == [len(few), len(every)]


def test_every_table_is_there_once_whatever_is_drawn(two_heads, tmp_path, monkeypatch):
    written(two_heads, tmp_path, monkeypatch, every=False)
    found = run_suite(two_heads, resamples=30)
    expected = head_tables(found, "command") | shared_tables(found)
    files = {path.name for path in (tmp_path / "tables").iterdir()}
    assert files == {f"{name}.json" for name in expected} | {"head_tool.json"}
    own = read_table(tmp_path / "tables" / "per_class.json")
    pd.testing.assert_frame_equal(own[expected["per_class"].columns], expected["per_class"], rtol=1e-9)
    other = json.loads((tmp_path / "tables" / "head_tool.json").read_text("utf-8"))
    assert set(other) == set(head_tables(found, "tool"))
    read = pd.DataFrame(**other["per_class"])
    expected_f1 = head_tables(found, "tool")["per_class"].set_index("class")["f1"]
    pd.testing.assert_series_equal(read.set_index("class")["f1"], expected_f1, rtol=1e-9)
