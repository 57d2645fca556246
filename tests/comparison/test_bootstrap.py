"""Differences, intervals, Holm and the three verdicts."""

from dataclasses import replace

import numpy as np
import pytest
from comparison_cases import run, runs_of
from scipy import stats

from imbalance_lab.comparison import margins as mg
from imbalance_lab.comparison.bootstrap import Side, alone, contrasts, verdicts
from imbalance_lab.comparison.differences import COLUMNS, differences, row
from imbalance_lab.comparison.resampling import Roles, Sums, recording_weights, resample
from imbalance_lab.comparison.run_counts import join
from imbalance_lab.comparison.study import CONTROL, build

ROLES = Roles(macro=np.ones(4, bool), rare=np.array([0, 0, 1, 1], bool), majority=np.array([1, 0, 0, 0], bool))


def study_of(runs, **options):
    return build(join(runs, baseline="ce", head="command"), resamples=400, seed=0, **options)


def resampled(counts, resamples=4000):
    weights = recording_weights(counts.shape[1], resamples, np.random.default_rng(0))
    return resample(Sums(mg.margins(counts)), weights, "abcd", ROLES)


def test_weights_are_positive_and_keep_the_number_of_recordings():
    w = recording_weights(7, 500, np.random.default_rng(0))
    assert (w > 0).all()
    np.testing.assert_allclose(w.sum(axis=1), 7)
    # Dirichlet(1, ..., 1) scaled by G: variance of a weight (G - 1) / (G + 1).
    assert w.var() == pytest.approx(6 / 8, rel=0.1)


def test_a_strategy_against_itself_is_zero_and_cannot_be_distinguished():
    twin = [run("twin", r.seed) for r in runs_of({"ce": [0, 1, 2]})]
    base = [run("ce", s) for s in (0, 1, 2)]
    table = differences(study_of(base + twin))
    own = table[(table["strategy"] == "twin") & (table["against"] == "ce")]
    known = own["difference"].notna()
    assert (own.loc[known, "difference"] == 0).all()
    assert own[["low", "high"]].isna().all(axis=None)  # no spread is no certainty
    assert set(own.loc[own["metric"] == "macro_f1", "verdict"]) == {"cannot distinguish"}
    assert "better" not in set(own["verdict"])
    assert "worse" not in set(own["verdict"])
    study = study_of(base)
    e = alone(contrasts(study.resampled, [study.side("ce")], study.side("ce"))[0])
    assert (e.value == 0).all()
    assert (e.p == 1).all()


def test_clearly_better_and_clearly_worse_strategies_are_found():
    runs = [run("ce", s) for s in (0, 1, 2)]
    runs += [run("good", s, rare_gain=2.0) for s in (0, 1, 2)]
    runs += [run("bad", s, blur=4.0) for s in (0, 1, 2)]
    table = differences(study_of(runs))
    good, bad = row(table, "good", "ce", "macro_f1"), row(table, "bad", "ce", "macro_f1")
    assert good["verdict"] == "better"
    assert 0 < good["low"] < good["difference"] < good["high"]
    assert good["paired_seeds"] == 3
    assert bad["verdict"] == "worse"
    assert row(table, "good", "ce", "rare_missed")["verdict"] == "better"
    assert row(table, "good", "ce", "rare_missed")["difference"] < 0
    assert row(table, "good", "ce", "recall/G2")["class"] == "G2"
    assert list(table.columns) == list(COLUMNS)


def test_differences_are_those_of_the_metric_functions():
    from imbalance_lab.metrics.counts import macro_f1, mcc, recall

    runs = runs_of({"ce": [0, 1], "focal": [0, 1]})
    study = study_of(runs)
    pooled = study.joined.confusion.sum(axis=1)
    table = differences(study)
    for name, metric in (("macro_f1", macro_f1), ("mcc", mcc), ("recall/G3", lambda c: recall(c)[..., 3])):
        values = metric(pooled)
        assert row(table, "focal", "ce", name)["difference"] == pytest.approx(values[2:].mean() - values[:2].mean())


def test_one_seed_interval_of_a_mean_is_the_t_interval_of_cluster_means():
    """With equal recordings recall is a mean over recordings, so the interval must be close to Student's."""
    rng = np.random.default_rng(5)
    g, n = 20, 200
    hits = rng.binomial(n, rng.beta(8, 3, g))
    counts = np.zeros((1, g, 4, 4), dtype=np.int64)
    counts[0, :, 0, 0], counts[0, :, 0, 1] = hits, n - hits
    counts[0, :, 1, 1], counts[0, :, 2, 2], counts[0, :, 3, 3] = 5, 5, 5
    r = resampled(counts)
    e = alone(contrasts(r, [Side(runs=np.array([0]), seeds=np.array([0]))])[0])
    low, high = stats.t.interval(0.95, g - 1, (hits / n).mean(), stats.sem(hits / n))
    at = r.index("recall/a")
    assert e.low[at] == pytest.approx(low, abs=0.15 * (high - low))
    assert e.high[at] == pytest.approx(high, abs=0.15 * (high - low))
    assert not e.seeds_in_interval


def test_seed_variance_is_that_of_paired_differences():
    """Every recording the same: only seeds vary, and the interval is the paired t interval over seeds."""
    one = np.array([[80, 20, 0, 0], [10, 40, 0, 0], [0, 0, 30, 0], [0, 0, 0, 30]])
    shift = [0, 4, 7, 1, 3, 9]  # three seeds of the baseline, then of the strategy
    moved = np.zeros((6, 4, 4), dtype=np.int64)
    moved[:, 0, 0], moved[:, 0, 1] = shift, np.negative(shift)
    counts = np.repeat((one + moved)[:, None], 10, axis=1)
    r = resampled(counts, 300)
    seeds = np.arange(3)
    e = alone(contrasts(r, [Side(np.arange(3, 6), seeds)], Side(np.arange(3), seeds))[0])
    d = (np.array(shift[3:]) - np.array(shift[:3])) / 100
    low, high = stats.t.interval(0.95, 2, d.mean(), stats.sem(d))
    at = r.index("recall/a")
    assert (e.low[at], e.high[at]) == pytest.approx((low, high))
    assert e.p[at] == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    # Other seed numbers: two independent samples.
    apart = alone(contrasts(r, [Side(np.arange(3, 6), seeds + 10)], Side(np.arange(3), seeds))[0])
    expected = np.sqrt(np.var(shift[:3], ddof=1) / 3 + np.var(shift[3:], ddof=1) / 3) / 100
    assert apart.se[at] == pytest.approx(expected)


def test_a_class_in_fewer_than_six_recordings_cannot_be_called_different():
    """Recall 0 against 1 in all of five recordings is no evidence at 5 %: a sign test reaches 2^-4."""

    def missing(strategy, seed, recordings):
        made = run(strategy, seed, recordings=recordings)
        head = made.test.heads["command"]
        pred = np.where((head.true == 3) & (strategy == "ce"), 0, np.where(head.true == 3, 3, head.pred))
        return replace(made, test=replace(made.test, heads={"command": replace(head, pred=pred.astype(np.int32))}))

    for recordings, verdict in ((5, "insufficient"), (12, "better")):
        runs = [missing(s, seed, recordings) for s in ("ce", "focal") for seed in (0, 1, 2)]
        found = row(differences(study_of(runs)), "focal", "ce", "recall/G3")
        assert found["difference"] == 1
        assert found["verdict"] == verdict, recordings


def test_rare_support_is_insufficient_and_absent_classes_are_not_zero():
    runs = runs_of({"ce": [0], "focal": [0]}, n=600, recordings=2)
    table = differences(study_of(runs))
    assert set(table["verdict"]) == {"insufficient"}
    assert table[["low", "high", "p"]].isna().all(axis=None)


def test_free_lunch_control_is_that_of_the_predictions_table():
    runs = runs_of({"ce": [0, 1], "focal": [0]})
    study = study_of(runs)
    from imbalance_lab.comparison.training_counts import free_lunch_pred

    for r in runs:
        expected = r.test.free_lunch().heads["command"].pred
        np.testing.assert_array_equal(free_lunch_pred(r.test, "command", r.test.heads["command"]), expected)
    table = differences(study)
    assert row(table, "focal", "ce" + CONTROL, "macro_f1") is not None
    assert row(table, "ce" + CONTROL, "ce", "macro_f1")["verdict"] in {"better", "worse", "cannot distinguish"}
    without = differences(study_of([run("ce", 0, tau=None), run("focal", 0)]))
    assert row(without, "focal", "ce" + CONTROL, "macro_f1") is None


def test_macro_classes_are_fixed_by_the_data():
    study = study_of([run("ce", 0)])
    assert study.roles.macro.tolist() == [True] * 4
    runs = [run("ce", 0)]
    runs[0].test.meta["classes_in_macro"] = {"command": ["G0", "G1"]}
    narrowed = study_of(runs)
    assert narrowed.roles.macro.tolist() == [True, True, False, False]


def test_verdicts_know_which_direction_is_good():
    out = verdicts(
        np.array([1.0, 1.0, -1.0, 1.0, 1.0]),
        np.array([0.01, 0.01, 0.05, 0.06, np.nan]),
        np.array([True, False, True, True, True]),
    )
    assert out.tolist() == ["better", "worse", "worse", "cannot distinguish", "insufficient"]


def test_resampling_is_reproducible_and_depends_on_the_seed():
    joined = join(runs_of({"ce": [0], "focal": [0]}), baseline="ce", head="command")
    a, b, c = (build(joined, resamples=200, seed=s).resampled.samples for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_type_one_error_of_equal_strategies_is_held():
    """150 null experiments at 12 recordings x 3 seeds: 5 % +- 3.5 %, and far below the naive rate."""
    from benchmarks.comparison import intervals, simulate

    rng = np.random.default_rng(0)
    product, naive = [], []
    for _ in range(150):
        out = {m: reject[0] for m, reject, _ in intervals(simulate(rng, 12, 3, 2), rng, 200)}
        product.append(out["product"])
        naive.append(out["positions"])
    assert np.mean(product) <= 0.085
    assert np.mean(naive) > 0.3
