"""Leaderboard, flows, bill, cost ranges, tracked failures, the choice."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from comparison_cases import run, runs_of
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.comparison import compare
from imbalance_lab.comparison.costs import best_range, cost_ranges, expected_cost, read_costs
from imbalance_lab.comparison.failure_tracking import track
from imbalance_lab.comparison.flows import flows
from imbalance_lab.comparison.run_counts import join
from imbalance_lab.comparison.study import TRIVIAL, build
from imbalance_lab.errors import InputError

CLASSES = ("G0", "G1", "G2", "G3")


def comparison(runs, **options):
    return compare(runs, baseline="ce", primary_head="command", **{"resamples": 300} | options)


@pytest.fixture(scope="module")
def three():
    runs = [run("ce", s, val=0.5) for s in (0, 1, 2)]
    runs += [run("good", s, rare_gain=2.0, val=0.7) for s in (0, 1, 2)]
    runs += [run("same", s, noise=0.41, val=0.49) for s in (0, 1, 2)]
    costs = np.array([[0, 1, 5, 5], [1, 0, 5, 5], [20, 20, 0, 5], [20, 20, 5, 0.0]])
    return comparison(runs, costs=costs)


def test_leaderboard_is_numeric_and_complete(three):
    board = three.leaderboard
    assert [c for c in board if not pd.api.types.is_numeric_dtype(board[c])] == ["strategy"]
    assert set(board["strategy"]) == {
        "ce",
        "good",
        "same",
        *(f"{s} + free lunch" for s in ("ce", "good", "same")),
        *TRIVIAL,
    }
    assert board["strategy"].iloc[0] == "good"
    by = board.set_index("strategy")
    runs = three.runs[three.runs["strategy"] == "good"]
    assert by.loc["good", "macro_f1"] == pytest.approx(runs["macro_f1"].mean())
    assert by.loc["good", "macro_f1_sd"] == pytest.approx(runs["macro_f1"].std())
    assert by.loc["good", "macro_f1_min"] == pytest.approx(runs["macro_f1"].min())
    assert by.loc["good", "verdict"] == 1
    assert np.isnan(by.loc["ce", "verdict"])
    assert by.loc["good", "seconds"] == 10
    assert by.loc["ce", "free_lunch"] == pytest.approx(by.loc["ce + free lunch", "macro_f1"])
    assert by.loc["good", "over_control"] == pytest.approx(
        by.loc["good", "macro_f1"] - by.loc["ce + free lunch", "macro_f1"]
    )


def test_leaderboard_calibration_is_that_of_the_calibration_module(three):
    from imbalance_lab.metrics.calibration import apply_temperature, ece, nll

    tables = [run("ce", s).test.heads["command"] for s in (0, 1, 2)]
    by = three.leaderboard.set_index("strategy")
    assert by.loc["ce", "ece"] == pytest.approx(np.mean([ece(h.probabilities, h.true) for h in tables]))
    warm = [nll(apply_temperature(h.probabilities, 1.2), h.true) for h in tables]
    assert by.loc["ce", "nll_temperature"] == pytest.approx(np.mean(warm))
    assert by.loc["ce", "ece_prior_undone"] == by.loc["ce", "ece"]


def test_prior_is_undone_by_the_power_that_the_strategy_corrected():
    r = run("ce", 0)
    r.test.meta["prior_correction"] = {"command": 1.0}
    h = r.test.heads["command"]
    p = h.probabilities * (h.train_counts / h.train_counts.sum())
    from imbalance_lab.metrics.calibration import ece

    expected = ece(p / p.sum(axis=1, keepdims=True), h.true)
    assert comparison([r]).leaderboard["ece_prior_undone"].iloc[0] == pytest.approx(expected, rel=1e-3)


def test_trivial_predictors_by_hand(three):
    by = three.leaderboard.set_index("strategy")
    share = three.facts["class_positions"]["G0"] / three.facts["positions"]
    assert by.loc["always-majority", "macro_f1"] == pytest.approx(2 * share / (1 + share) / 4)
    assert by.loc["always-majority", "balanced_accuracy"] == pytest.approx(0.25)
    assert by.loc["uniform", "recall/G2"] == pytest.approx(0.25)
    assert by.loc["prior-sampling", "recall/G2"] == pytest.approx(0.05)


def test_flows_sum_to_the_positions_and_to_the_change_in_accuracy(three):
    f = three.flows[three.flows["strategy"] == "good"]
    states = ["fixed", "broken", "still_wrong", "still_right"]
    np.testing.assert_allclose(f[states].sum(axis=1), f["positions"])
    total = f[f["by"] == "all"].iloc[0]
    for by in ("class", "operation"):
        np.testing.assert_allclose(f.loc[f["by"] == by, states].sum(), total[states].astype(float))
    joined = join([run("ce", 0), run("good", 0, rare_gain=2.0)], baseline="ce", head="command")
    one = flows(joined, "good", "ce").iloc[0]
    right = [(joined.pred[i] == joined.true) for i in (0, 1)]
    assert one["fixed"] == (~right[0] & right[1]).sum()
    assert one["broken"] == (right[0] & ~right[1]).sum()
    assert one["net"] == right[1].sum() - right[0].sum()
    assert one["fixed_rate"] == pytest.approx(one["fixed"] / (~right[0]).sum())


def test_flows_pair_seeds_by_number():
    runs = [run("ce", 0), run("ce", 1), run("b", 1, noise=0.5), run("b", 7, noise=0.5)]
    joined = join(runs, baseline="ce", head="command")
    alone = join([run("ce", 1), run("b", 1, noise=0.5)], baseline="ce", head="command")
    assert flows(joined, "b", "ce")["pairs"].unique().tolist() == [1]
    pd.testing.assert_frame_equal(flows(joined, "b", "ce"), flows(alone, "b", "ce"))


def test_expected_cost_by_hand():
    confusion = np.array([[8, 2], [1, 9]])
    # 2 false alarms at 1 and 1 miss at 10 on 20 positions: 12 / 20 per position.
    assert expected_cost(confusion, np.array([[0, 1], [10, 0.0]])) == pytest.approx(600.0)


def test_expected_cost_of_the_bill_is_the_pooled_cost():
    costs = np.array([[0, 1, 5, 5], [1, 0, 5, 5], [20, 20, 0, 5], [20, 20, 5, 0.0]])
    runs = runs_of({"ce": [0], "focal": [0]})
    joined = join(runs, baseline="ce", head="command")
    table = comparison(runs, costs=costs)
    value = expected_cost(joined.confusion.sum(axis=1), costs)
    by = table.leaderboard.set_index("strategy")
    assert by.loc["ce", "expected_cost"] == pytest.approx(value[0])
    bill = table.bill.set_index("strategy")
    assert bill.loc["focal", "expected_cost"] == pytest.approx(value[1] - value[0])


def test_bill_by_hand(three):
    bill = three.bill.set_index("strategy").loc["good"]
    assert bill["rare_recall"] > 0
    assert bill["rare_missed"] < 0
    assert bill["false_rare_per_gain"] == pytest.approx(bill["false_rare"] / -bill["rare_missed"])
    d = three.differences
    d = d[(d["strategy"] == "good") & (d["against"] == "ce") & (d["metric"] == "false_rare")].iloc[0]
    assert (bill["false_rare_low"], bill["false_rare_high"]) == (d["low"], d["high"])


def test_best_range_by_hand():
    # 10 r + 0, 4 r + 6, 0 r + 30: the first to r = 1, the second to r = 6, then the third.
    low, high = best_range(np.array([10.0, 4, 0, 5]), np.array([0.0, 6, 30, 20]))
    np.testing.assert_allclose(low, [0, 1, 6, np.nan])
    np.testing.assert_allclose(high, [1, 6, np.inf, np.nan])


lines = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(lines, st.floats(0.001, 1000))
def test_best_range_agrees_with_looking_at_every_cost(points, ratio):
    missed, false = np.array(points, dtype=float).T
    low, high = best_range(missed, false)
    cost = ratio * missed + false
    cheapest = cost <= cost.min() * (1 + 1e-9) + 1e-9
    inside = (low < ratio * (1 - 1e-6)) & (ratio * (1 + 1e-6) < high)
    assert cheapest[inside].all()
    assert ((low <= ratio * (1 + 1e-6)) & (ratio * (1 - 1e-6) <= high))[cheapest & (cost == cost.min())].any()


def test_cost_ranges_cover_all_ratios_once(three):
    best = three.cost_ranges.dropna(subset=["ratio_low"])
    assert best["ratio_low"].iloc[0] == 0
    assert np.isinf(best["ratio_high"].iloc[-1])
    np.testing.assert_allclose(best["ratio_high"].iloc[:-1], best["ratio_low"].iloc[1:])
    assert best["strategy"].iloc[0] == "always-majority"
    assert three.cost_ranges["share_of_resamples"].between(0, 1).all()


def test_cost_ranges_are_reproducible():
    joined = join(runs_of({"ce": [0, 1], "focal": [0]}), baseline="ce", head="command")
    study = build(joined, resamples=200, seed=0)
    pd.testing.assert_frame_equal(cost_ranges(study, seed=3), cost_ranges(study, seed=3))


def test_cost_matrix_is_read_in_any_order(tmp_path):
    path = tmp_path / "costs.csv"
    path.write_text("true,b,a\nb,0,7\na,2.5,0\n", encoding="utf-8")
    np.testing.assert_array_equal(read_costs(path, ("a", "b")), [[0, 2.5], [7, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("t,a\na,0\nb,1\n", r"row 1: class 'b' is missing"),
        ("t,a,b\na,0,1\n", r"column 1: class 'b' is missing"),
        ("t,a,c\na,0,1\nb,1,0\n", r"row 1: unknown class 'c'"),
        ("t,a,b\na,0,1\na,1,0\n", r"column 1: class 'a' occurs twice"),
        ("t,a,b\na,0\nb,1,0\n", r"row 2: 2 cells, expected 3"),
        ("t,a,b\na,0,-1\nb,1,0\n", r"row 2, column 'b': cost '-1'"),
        ("t,a,b\na,0,1\nb,nan,0\n", r"row 3, column 'a': cost 'nan'"),
        ("t,a,b\na,0,1\nb,inf,0\n", r"row 3, column 'a': cost 'inf'"),
        ("t,a,b\na,0,x\nb,1,0\n", r"row 2, column 'b': cost 'x'"),
        ("t,a,b\na,0,\nb,1,0\n", r"row 2, column 'b': cost ''"),
    ],
)
def test_bad_cost_files_name_file_row_and_column(tmp_path, text, message):
    path = tmp_path / "costs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_costs(path, ("a", "b"))
    assert str(path) in str(caught.value)


def test_missing_and_unreadable_cost_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_costs(tmp_path / "none.csv", ("a",))
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a readable UTF-8"):
        read_costs(tmp_path / "bad.csv", ("a",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"costs": np.zeros((3, 3))}, r"shape \(3, 3\), expected \(4, 4\)"),
        ({"costs": np.full((4, 4), -1.0)}, "row 0, column 0"),
        ({"metric": "accuracy"}, "metric 'accuracy'"),
        ({"rare": ["G9"]}, "'G9'"),
        ({"resamples": 5}, "resamples is 5"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        comparison([run("ce", 0)], **options)


def test_failures_are_gone_remain_or_new():
    before = {
        "recommendations": [
            {"priority": 1, "category": "recall", "issue": "recall of G2 is 0.10 (12 of 120)"},
            {"priority": 2, "category": "calibration", "issue": "ECE 0.2 is above 0.05"},
        ],
        "findings": [{"check": "collapse", "subject": "command", "message": "1 class predicted"}],
    }
    after = {
        "recommendations": [
            {"priority": 3, "category": "recall", "issue": "recall of G2 is 0.45 (54 of 120)"},
            {"priority": 1, "category": "recall", "issue": "recall of G3 is 0.05 (1 of 20)"},
        ]
    }
    table = track(before, after)
    status = {(r.section, r.category, r.before or r.after): r.status for r in table.itertuples()}
    assert status == {
        ("findings", "collapse", "1 class predicted"): "gone",
        ("recommendations", "recall", "recall of G2 is 0.10 (12 of 120)"): "remains",
        ("recommendations", "calibration", "ECE 0.2 is above 0.05"): "gone",
        ("recommendations", "recall", "recall of G3 is 0.05 (1 of 20)"): "new",
    }
    kept = table[table["status"] == "remains"].iloc[0]
    assert (kept["priority_before"], kept["priority_after"]) == (1, 3)
    with pytest.raises(InputError, match="'findings' of the later"):
        track({}, {"findings": "none"})


def test_a_recommendation_is_one_failure_mode_for_each_class_of_its_evidence():
    def missed(classes, pairs):
        return {
            "priority": 2,
            "category": "imbalance",
            "head": "command",
            "issue": f"{len(classes)} classes are mostly missed",
            "threshold": f"upper end of the recall interval below 0.5, {pairs} pairs",
            "evidence": [{"class": c, "recall": 0.1} for c in classes],
        }

    table = track({"recommendations": [missed(["G2", "G3"], 12)]}, {"recommendations": [missed(["G3", "G4"], 9)]})
    assert dict(zip(table["subject"], table["status"], strict=True)) == {"G2": "gone", "G3": "remains", "G4": "new"}
    assert set(table["rule"]) == {"upper end of the recall interval below #, # pairs"}
    many = [f"c{i}" for i in range(10)]
    cut = track({"recommendations": [missed(["G2"], 1)]}, {"recommendations": [missed(many, 1)]})
    assert cut.set_index("subject").loc["G2", "status"] == "not listed"


def test_failure_modes_of_a_real_report_are_tracked():
    from imbalance_lab.analysis.report import to_report
    from imbalance_lab.analysis.suite import run_suite

    reports = [
        to_report(run_suite(r.test, resamples=100)) for r in (run("ce", 0, blur=3.0), run("b", 0, rare_gain=6.0))
    ]
    table = track(*reports)
    assert (track(reports[0], reports[0])["status"] == "remains").all()
    assert "gone" in set(table.loc[table["category"] == "imbalance", "status"])
    assert table.loc[table["status"] == "gone", "before"].str.len().gt(0).all()


def test_failures_of_paired_seeds_are_in_the_comparison():
    old = {"recommendations": [{"priority": 1, "category": "recall", "issue": "recall of G2 is 0.1"}]}
    out = comparison([run("ce", 0, report=old), run("b", 0, noise=0.5, report={}), run("b", 1, noise=0.5, report=old)])
    assert out.failures[["strategy", "seed", "status"]].to_numpy().tolist() == [["b", 0, "gone"]]
    assert comparison([run("ce", 0)]).failures.empty


def test_the_better_strategy_is_chosen_and_the_controls_are_named(three):
    choice = three.choice
    assert (choice.strategy, choice.selected, choice.use_free_lunch) == ("good", "good", False)
    assert "free-lunch control" in choice.reason
    assert "Always predicting the majority class" in choice.reason
    assert choice.evidence["against_baseline"]["verdict"] == "better"


def test_indistinguishable_strategies_leave_the_choice_open():
    runs = [run("ce", s, val=0.5, tau=0.0) for s in (0, 1, 2)]  # a correction that changes nothing
    runs += [run("same", s, noise=0.41, val=0.6, tau=0.0) for s in (0, 1, 2)]
    choice = comparison(runs).choice
    assert choice.strategy is None
    assert choice.selected == "same"
    assert choice.reason.startswith("The data cannot tell")
    assert "would have been seen" in choice.reason


def test_selection_is_by_validation_not_by_test():
    runs = [run("ce", s, val=0.9) for s in (0, 1, 2)] + [run("good", s, rare_gain=2.0, val=0.1) for s in (0, 1, 2)]
    choice = comparison(runs).choice
    assert choice.selected == "ce"
    assert choice.strategy != "good"


def test_a_correction_that_costs_nothing_can_win():
    runs = [run("ce", s, val=0.5, blur=3.0, tau=2.0) for s in (0, 1, 2)]
    runs += [run("little", s, val=0.6, blur=2.5) for s in (0, 1, 2)]
    choice = comparison(runs).choice
    assert (choice.strategy, choice.use_free_lunch) == ("ce", True)
    assert "post-hoc correction" in choice.reason


def test_a_model_no_better_than_always_majority_is_never_chosen():
    runs = [run("ce", s, val=0.5, blur=30.0) for s in (0, 1, 2)]
    choice = comparison(runs).choice
    assert choice.strategy is None
    assert "no more than always predicting the majority" in choice.reason


def test_missing_validation_missing_control_and_single_seeds_are_said():
    runs = [replace(run("ce", 0, tau=None), val_score=None), replace(run("b", 0, noise=0.5), val_score=None)]
    out = comparison(runs)
    assert out.choice.strategy is None
    assert "No run carries a validation score" in out.choice.reason
    assert "missing from the baseline's predictions" in out.choice.reason
    assert "one seed" in out.choice.reason
    assert out.facts["without_free_lunch"] == ["ce"]


def test_baseline_alone_is_a_comparison_too():
    out = comparison([run("ce", 0), run("ce", 1)])
    assert out.choice.strategy == "ce" or out.choice.use_free_lunch
    assert out.flows["net"].eq(0).all()


def test_a_value_lies_in_its_interval_on_every_scale(three):
    board = three.leaderboard
    for low in (name for name in board.columns if name.endswith("_low") and "difference" not in name):
        metric = low.removesuffix("_low")
        known = board[[metric, low, f"{metric}_high"]].dropna()
        assert (known[low] <= known[metric] + 1e-12).all(), metric
        assert (known[metric] <= known[f"{metric}_high"] + 1e-12).all(), metric
    assert (board["false_rare"] > 1).any()
