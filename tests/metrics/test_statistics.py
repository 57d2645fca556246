"""Intervals and corrections against golden values, and the coverage of what the analyses report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.metrics import counts as metrics
from imbalance_lab.metrics import intervals as statistics
from imbalance_lab.metrics.clusters import ratio_interval, resampled


def golden(shared_dir: Path, test: str) -> list[dict[str, Any]]:
    cases = json.loads((shared_dir / "golden" / "statistics.json").read_text("utf-8"))["cases"]
    return [c for c in cases if c["params"]["test"] == test]


def test_wilson_agrees_with_golden(shared_dir: Path) -> None:
    for case in golden(shared_dir, "wilson"):
        for level, expected in case["expected"].items():
            got = statistics.wilson(case["inputs"]["successes"], case["inputs"]["n"], float(level))
            np.testing.assert_allclose(got, expected["wilson"], rtol=1e-9, atol=1e-12)


def test_corrections_agree_with_golden(shared_dir: Path) -> None:
    for case in golden(shared_dir, "holm"):
        p = case["inputs"]["p_values"]
        np.testing.assert_allclose(statistics.holm(p), case["expected"]["adjusted"], rtol=1e-9)
        np.testing.assert_allclose(statistics.benjamini_hochberg(p), case["expected"]["benjamini_hochberg"], rtol=1e-9)


def test_paired_tests_agree_with_golden(shared_dir: Path) -> None:
    for case in golden(shared_dir, "mcnemar"):
        i = case["inputs"]
        got = statistics.mcnemar_exact(i["only_first_right"], i["only_second_right"])
        assert got == pytest.approx(case["expected"]["p_exact"], rel=1e-9)
    for case in golden(shared_dir, "wilcoxon"):
        got = statistics.wilcoxon(case["inputs"]["x"], case["inputs"]["y"])
        expected = case["expected"]["scipy_default"]
        assert got == pytest.approx((expected["statistic"], expected["p"]), rel=1e-9)


def test_nan_p_values_are_not_counted() -> None:
    assert statistics.holm([0.01, np.nan, 0.02])[[0, 2]].tolist() == statistics.holm([0.01, 0.02]).tolist()
    assert np.isnan(statistics.benjamini_hochberg([np.nan, 0.5])[0])


def test_wilson_without_trials_is_nan() -> None:
    low, high = statistics.wilson([0, 1], [0, 2])
    assert np.isnan(low[0])
    assert np.isnan(high[0])
    assert 0 < low[1] < 0.5 < high[1] < 1


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 10))
@settings(deadline=None, max_examples=30)
def test_bootstrap_draws_as_many_groups_as_there_are(groups: int, resamples: int, seed: int) -> None:
    w = statistics.cluster_bootstrap_weights(groups, resamples, np.random.default_rng(seed))
    assert w.shape == (resamples, groups)
    assert (w.sum(axis=1) == groups).all()


def test_few_groups_widen_the_percentiles() -> None:
    samples = np.random.default_rng(0).normal(size=(4000, 2))
    plain, wide = statistics.percentile_interval(samples), statistics.percentile_interval(samples, n_groups=5)
    assert (wide[0] < plain[0]).all()
    assert (wide[1] > plain[1]).all()
    many = statistics.percentile_interval(samples, n_groups=10_000)
    np.testing.assert_allclose(many, plain, atol=0.02)


def test_nan_samples_are_left_out() -> None:
    samples = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    low, high = statistics.percentile_interval(samples)
    assert 1 <= low[0] < high[0] <= 3
    assert np.isnan([low[1], high[1]]).all()


def clustered_errors(rng: np.random.Generator, simulations: int, groups: int, size: int, rate: float) -> np.ndarray:
    """Errors per recording whose rate varies between recordings (beta), shape (simulations, groups)."""
    p = rng.beta(rate * 10, (1 - rate) * 10, size=(simulations, groups))
    return rng.binomial(size, p)


def test_cluster_intervals_of_rates_cover() -> None:
    """All simulations at once: they are the trailing axis of the counts."""
    rng = np.random.default_rng(0)
    simulations, groups, size, rate = 2000, 30, 50, 0.3
    errors = clustered_errors(rng, simulations, groups, size, rate).T
    w = statistics.cluster_bootstrap_weights(groups, 1000, rng).astype(float)
    low, high = ratio_interval(errors, np.full_like(errors, size), w)
    assert 0.93 <= ((low <= rate) & (rate <= high)).mean() <= 0.97
    # The same data with positions taken as independent: what the cluster bootstrap is there for.
    naive = statistics.wilson(errors.sum(axis=0), groups * size)
    assert ((naive[0] <= rate) & (rate <= naive[1])).mean() < 0.8


def test_wilson_intervals_cover() -> None:
    rng = np.random.default_rng(1)
    k = rng.binomial(60, 0.1, size=20_000)
    low, high = statistics.wilson(k, 60)
    assert 0.93 <= ((low <= 0.1) & (high >= 0.1)).mean() <= 0.97


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy", "mcc"])
def test_cluster_intervals_of_metrics_cover(metric: str) -> None:
    rng = np.random.default_rng(2)
    function = metrics.metric_by_name(metric)
    groups, size, simulations = 40, 60, 400
    recalls = np.array([0.9, 0.7, 0.6])
    prior = np.array([0.6, 0.3, 0.1])

    def draw(n: int) -> np.ndarray:
        """Confusion of n recordings; how well a recording is read varies."""
        shift = rng.normal(0, 0.5, size=(n, 1))
        odds = np.log(recalls / (1 - recalls)) + shift
        r = 1 / (1 + np.exp(-odds))
        rows = np.repeat(((1 - r) / 2)[:, :, None], 3, axis=2)
        rows[:, np.arange(3), np.arange(3)] = r
        return rng.multinomial(size, (prior[:, None] * rows).reshape(n, 9)).reshape(n, 3, 3)

    truth = float(function(draw(200_000).sum(axis=0)))
    covered = 0
    for _ in range(simulations):
        w = statistics.cluster_bootstrap_weights(groups, 400, rng).astype(float)
        low, high = statistics.percentile_interval(resampled(draw(groups), w, function), n_groups=groups)
        covered += bool(low <= truth <= high)
    # 400 simulations: the binomial standard error is 1.1 %.
    assert 0.93 <= covered / simulations <= 0.97
