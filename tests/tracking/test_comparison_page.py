"""The page of a comparison, whatever metric decides it."""

import numpy as np
import pytest
from comparison_cases import run

from imbalance_lab.comparison import compare
from imbalance_lab.comparison.study import CONTROL, TRIVIAL
from imbalance_lab.report.comparison_figures import board_of, verdicts_of
from imbalance_lab.run.comparison_files import write_comparison
from imbalance_lab.run.trial_files import read_table
from mlflow_project.schema import Compared, _board_rows

METRICS = ("macro_f1", "balanced_accuracy", "mcc")


@pytest.fixture(scope="module")
def runs():
    return [run("ce", s, val=0.5) for s in (0, 1)] + [run("good", s, rare_gain=2.0, val=0.7) for s in (0, 1)]


@pytest.mark.parametrize("metric", METRICS)
def test_page_and_board_of_each_metric(metric, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 30)
    found = compare(runs, baseline="ce", primary_head="command", metric=metric, resamples=200)
    board = board_of(found, metric=metric)
    assert board.columns.is_unique
    assert set(METRICS) <= set(board.columns)
    assert list(board[metric]) == sorted(board[metric], reverse=True)
    write_comparison(found, tmp_path, {}, title="which?", metric=metric)
    page = (tmp_path / "comparison" / "index.html").read_text(encoding="utf-8")
    assert {"macro_f1": "macro F1", "balanced_accuracy": "balanced accuracy", "mcc": "MCC"}[metric] in page
    table = read_table(tmp_path / "tables" / "leaderboard.json").set_index("strategy")
    ends = table[[f"{metric}_low", f"{metric}_high"]]
    assert ends.loc[["ce", "good"]].notna().all(axis=None)
    low, high = ends.to_numpy().T
    value = table[metric].to_numpy()
    known = ~np.isnan(low)
    assert ((low <= value) & (value <= high))[known].all()


def test_the_first_screen_shows_the_choice_beside_the_baseline(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 30)
    more = [run(f"fair-{i}", s, rare_gain=2.5, val=0.6) for i in range(3) for s in (0, 1)]
    found = compare([*runs, *more], baseline="ce", primary_head="command", resamples=200)
    pages = []
    monkeypatch.setattr("imbalance_lab.run.comparison_files.write", lambda page, path: pages.append(page))
    write_comparison(found, tmp_path, {}, title="which?", metric="macro_f1")
    labels = [number.label for number in pages[0].numbers]
    if found.choice.strategy:
        chosen = f"{found.choice.strategy}{CONTROL if found.choice.use_free_lunch else ''}"
        assert labels[0] == f"macro F1, {chosen} (chosen)"
    assert "macro F1, ce (baseline)" in labels[:2]
    assert any(label.startswith("macro F1 without any input") for label in labels)
    assert len(labels) <= 5


def test_a_score_that_cannot_vary_has_no_interval(runs):
    found = compare(runs, baseline="ce", primary_head="command", resamples=200)
    trivial = found.leaderboard.set_index("strategy").loc[list(TRIVIAL)]
    for metric in ("balanced_accuracy", "mcc"):  # 1 / classes and 0, whatever the recordings
        assert trivial[[f"{metric}_low", f"{metric}_high"]].isna().all(axis=None)


def test_note_and_table_say_the_decision_beside_the_metric_that_decides(runs, monkeypatch):
    for module in ("verdict", "choosing"):
        monkeypatch.setattr(f"imbalance_lab.comparison.{module}.told", lambda d: "worse")
    found = compare(runs, baseline="ce", primary_head="command", metric="mcc", resamples=200)
    heading, _, *rows = _board_rows(found, Compared({}))
    assert "MCC" in heading
    assert "macro F1" not in heading
    board = found.leaderboard.set_index("strategy")
    for name in ("ce", "good"):
        (line,) = (line for line in rows if line.startswith(f"| {name}&"))
        assert f"{board.loc[name, 'mcc']:.3f}" in line
        assert f"{board.loc[name, 'mcc_low']:.3f} to {board.loc[name, 'mcc_high']:.3f}" in line
    assert "worse" in next(line for line in rows if line.startswith("| good&"))
    table = verdicts_of(found, metric="mcc").set_index(["strategy", "against"])["verdict"]
    assert (table == "worse").all()
    assert table.index.isin([("good", "ce"), ("good", "ce + free lunch"), ("ce", "ce + free lunch")]).sum() == 3
