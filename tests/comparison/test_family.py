"""One procedure for verdict, p and interval of a family, and the noise of trainings that strategies share."""

from dataclasses import replace

import numpy as np
import pytest
from comparison_cases import head
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imbalance_lab.comparison import RunRecord, compare
from imbalance_lab.comparison.differences import row
from imbalance_lab.comparison.family import chi_square_scale, step_down
from imbalance_lab.comparison.run_counts import join
from imbalance_lab.comparison.training_noise import moderated, run_noise
from imbalance_lab.metrics.counts import macro_f1
from imbalance_lab.predictions import Predictions


def related(p, rho):
    return np.where(np.eye(p, dtype=bool), 1.0, rho)


def test_one_comparison_is_students_t():
    found = step_down(np.array([2.3]), np.array([7.0]), np.eye(1))
    assert found.critical[0] == pytest.approx(stats.t.ppf(0.975, 7))
    assert found.p[0] == pytest.approx(2 * stats.t.sf(2.3, 7))


def test_critical_value_of_many_treatments_against_a_control_is_dunnetts():
    """Equal correlations of one half and common degrees of freedom: Dunnett's test, as scipy has it."""
    rng = np.random.default_rng(0)
    control, *others = (rng.normal(size=6) for _ in range(6))
    theirs = stats.dunnett(*others, control=control, random_state=np.random.default_rng(1))
    df = 6 * 6 - 6
    pooled = np.mean([np.var(x, ddof=1) for x in (control, *others)])
    t = np.array([(x.mean() - control.mean()) / np.sqrt(pooled * 2 / 6) for x in others])
    np.testing.assert_allclose(t, theirs.statistic)
    largest = int(np.argmax(np.abs(t)))
    ours = step_down(t, np.full(5, float(df)), related(5, 0.5), draws=100_000)
    assert ours.p[largest] == pytest.approx(theirs.pvalue[largest], abs=0.01)  # the first step is single-step


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-8, 8), min_size=1, max_size=8), st.floats(0, 0.9), st.floats(2, 60))
def test_interval_and_p_never_disagree(t, rho, df):
    t = np.array(t)
    found = step_down(t, np.full(len(t), df), related(len(t), rho), draws=2000)
    excludes = np.abs(t) > found.critical
    assert (excludes == (found.p <= 0.05)).all()
    alone = 2 * stats.t.sf(np.abs(t), df)
    assert (found.p >= alone - 1e-12).all()
    assert (found.p <= np.minimum(1, len(t) * alone).max() + 1e-12).all()
    order = np.argsort(-np.abs(t), kind="stable")
    assert (np.diff(found.p[order]) >= 0).all()


def test_step_down_finds_at_least_what_a_single_step_finds():
    t = np.array([9.0, 2.45, 0.3])
    found = step_down(t, np.full(3, 20.0), np.eye(3))
    single = step_down(np.array([2.45, 2.44, 2.43]), np.full(3, 20.0), np.eye(3)).critical[0]
    assert found.critical[1] < single  # the next is held against the largest of what is left
    assert found.p[1] <= 0.05


def test_what_has_no_standard_error_takes_no_part():
    t = np.array([2.5, np.nan, 1.0])
    both = step_down(t, np.full(3, 9.0), related(3, 0.5))
    alone = step_down(t[[0, 2]], np.full(2, 9.0), related(2, 0.5))
    assert np.isnan(both.p[1])
    np.testing.assert_array_equal(both.p[[0, 2]], alone.p)
    assert np.isnan(step_down(np.array([np.nan]), np.array([9.0]), np.eye(1)).p[0])


def test_seed_effects_that_all_share_are_no_noise():
    rng = np.random.default_rng(0)
    common = rng.normal(size=3)
    point = np.concatenate([common + 0.01 * rng.normal(size=3) for _ in range(4)])[:, None]
    runs, seeds = [np.arange(3) + 3 * i for i in range(4)], [np.arange(3)] * 4
    paired = run_noise(point, runs, seeds)
    apart = run_noise(point, runs, [np.arange(3) + 10 * i for i in range(4)])
    assert (paired.variance < 1e-3).all()
    assert (apart.variance > 0.1).all()
    assert paired.most == pytest.approx(6)  # (4 - 1) x (3 - 1)
    assert apart.most == pytest.approx(8)


def test_variances_that_agree_are_pooled_and_one_that_does_not_stays_large():
    rng = np.random.default_rng(1)
    df = np.full(12, 4.0)
    alike = rng.chisquare(4, 12)[:, None] / 4
    pooled, degrees = moderated(alike, df[:, None])
    assert np.ptp(pooled) < 0.5 * np.ptp(alike)
    assert (degrees > 6).all()
    wild = alike.copy()
    wild[0] = 400.0
    drawn, own = moderated(wild, df[:, None])
    assert drawn[0, 0] > 50
    assert (own <= df.sum()).all()


def test_a_strategy_with_one_seed_takes_the_spread_of_the_others():
    rng = np.random.default_rng(2)
    point = rng.normal(size=(9, 1))
    runs = [np.arange(0, 4), np.arange(4, 8), np.array([8])]
    noise = run_noise(point, runs, [np.arange(4), np.arange(4) + 5, np.array([0])])
    assert noise.variance[2, 0] == pytest.approx(noise.variance[:2, 0].mean())
    none = run_noise(point[:2], [np.array([0]), np.array([1])], [np.array([0]), np.array([0])])
    assert none.most == 0
    assert (none.df == 0).all()


@pytest.mark.parametrize(("low", "high"), [(0.25, 1000.0), (1.0, 17.0), (4.0, 4.0)])
def test_interpolated_quantiles_of_chi_square_are_those_of_scipy(low, high):
    rng = np.random.default_rng(0)
    u, df = rng.random(2000), np.exp(rng.uniform(np.log(low), np.log(high), 30))
    df[[0, -1]] = low, high
    expected = stats.chi2.ppf(u[:, None], df) / df
    np.testing.assert_allclose(chi_square_scale(u, df), expected, rtol=1e-11)
    np.testing.assert_allclose(chi_square_scale(u, df[:2]), expected[:, :2], rtol=1e-12)


def noisy(strategy, seed, harm, trial):
    """A run on 18 recordings whose errors depend on class, recording, strategy and seed; ``harm`` lowers its logits."""
    data = np.random.default_rng([trial, 0])
    group = np.repeat(np.arange(18), 250).astype(np.int32)
    true = data.choice(4, len(group), p=[0.5, 0.25, 0.15, 0.1]).astype(np.int32)
    shared = data.normal(0, 0.4, (18, 4))
    own = np.random.default_rng([trial, 1, *strategy.encode()]).normal(0, 0.2, (18, 4))
    model = np.random.default_rng([trial, 2, seed, *strategy.encode()])
    logit = np.array([2.5, 2.0, 1.5, 1.2]) - harm + shared + own + model.normal(0, 0.15, 4)
    right = model.random(len(true)) < 1 / (1 + np.exp(-logit[group, true]))
    pred = np.where(right, true, (true + model.integers(1, 4, len(true))) % 4).astype(np.int32)
    p = np.full((len(true), 4), 0.1, dtype=np.float32)
    p[np.arange(len(true)), pred] = 0.7
    base = head(n=len(true), recordings=18)
    table = replace(base, true=true, pred=pred, group=group, sequence=group.astype(np.int64), probabilities=p)
    return RunRecord(strategy, seed, f"{strategy}-{seed}", Predictions({"command": table}, {}), val_score=0.5)


@pytest.mark.parametrize("trial", range(4))
def test_a_difference_of_15_hundredths_that_both_seeds_and_all_recordings_show_is_seen(trial):
    names = {"ce": 0.0, "a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0, "harmed": 0.85}
    runs = [noisy(name, seed, harm, trial) for name, harm in names.items() for seed in (0, 1)]
    joined = join(runs, baseline="ce", head="command")
    for seed in (0, 1):
        before, after = joined.confusion[seed], joined.confusion[10 + seed]
        assert -0.2 < macro_f1(after.sum(axis=0)) - macro_f1(before.sum(axis=0)) < -0.1
        shares = [c.trace(axis1=1, axis2=2) / c.sum(axis=(1, 2)) for c in (before, after)]
        assert (shares[1] < shares[0]).all()
    found = compare(runs, baseline="ce", primary_head="command", resamples=400)
    d = row(found.differences, "harmed", "ce", "macro_f1")
    assert -0.18 < d["difference"] < -0.12
    assert found.choice.verdicts["harmed"] == "worse"
    assert d["high"] < 0
    assert "harmed is worse (difference -0.1" in found.choice.headline
