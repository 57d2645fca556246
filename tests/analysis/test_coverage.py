"""Intervals of calibration hold the population's value as often as they say, for calibrated models too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from analysis_tables import independent
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.analysis.confidence import confidence_analysis
from imbalance_lab.analysis.gap_intervals import absolute_sum_interval
from imbalance_lab.analysis.prepared import prepare
from imbalance_lab.metrics.intervals import percentile_interval

SIMULATIONS = 300


def noisy_gaps(truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimates of the gaps ``truth`` (15,) in many simulations at once (the rows), and their resamples."""
    rng = np.random.default_rng(seed)
    spread = 0.002 + 0.004 * rng.random(15)
    groups = truth + spread * np.sqrt(30) * rng.normal(size=(30, SIMULATIONS, 15))
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=400) / 30
    gaps = groups.mean(axis=0)
    return gaps, np.tensordot(weights, groups, axes=1) - gaps


FEW = np.array([0.5, -0.3, 0.2] + [0.0] * 12)
ALL = np.array([1.0, -1.0, 1.0] * 5) / 15


@pytest.mark.parametrize(
    ("size", "shape", "percentiles_cover"),
    [(0.0, FEW, False), (0.02, FEW, False), (0.15, FEW, False), (0.6, ALL, True)],
)
def test_intervals_of_sums_of_absolute_gaps_cover(size: float, shape: np.ndarray, percentiles_cover: bool) -> None:
    gaps, deviations = noisy_gaps(size * shape, 0)
    low, high = absolute_sum_interval(gaps, deviations, 30)
    # Binomial(300, 0.95): 99.9 % of the time between 0.907 and 0.983.
    assert 0.907 <= ((low <= size) & (size <= high)).mean() <= 0.983
    resampled = np.abs(gaps + deviations).sum(axis=2)
    plain_low, plain_high = percentile_interval(resampled, n_groups=30)
    plain = ((plain_low <= size) & (size <= plain_high)).mean()
    assert plain > 0.9 if percentiles_cover else plain < 0.1  # what this interval is there for
    assert (high - low).mean() < 2 * (plain_high - plain_low).mean()


@pytest.mark.parametrize("sharpness", [1.0, 1.5])
def test_calibration_intervals_cover(sharpness: float) -> None:
    """Through the whole analysis; ``benchmarks/analysis.py --coverage`` looks at more models."""
    from benchmarks.analysis import calibration_coverage

    table = calibration_coverage(150, 20, 120, sharpness, 0.3, resamples=200)
    ece = table.loc[["ece", "ece_mass", "classwise_ece", "ece of G0", "ece of G1", "ece of G2"]]
    bins = table[table.index.str.startswith("bin to")]
    # Binomial(150, 0.95): 99.9 % of the time at least 0.887; fewer where recordings are few.
    assert ece["covered"].min() >= 0.88, table.to_string()
    assert table.loc[["brier", "nll"], "covered"].min() >= 0.88
    # 10 bins or so of 150 tables: the error of the mean is below 1 %.
    assert 0.93 <= np.average(bins["covered"], weights=bins["simulations"]) <= 0.97
    if sharpness == 1:
        assert (ece["value"] > 2 * ece["truth"]).all()  # noise alone is most of what is observed


@given(st.integers(1, 4), st.integers(1, 15), st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_interval_ends_are_ordered_for_any_gaps(rows: int, bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gaps = rng.normal(scale=0.05, size=(rows, bins)) * (rng.random((rows, bins)) < 0.7)
    deviations = rng.normal(scale=0.02, size=(200, rows, bins)) * (gaps != 0)
    low, high = absolute_sum_interval(gaps, deviations, 10)
    assert (low >= 0).all()
    assert (low <= high).all()
    still = np.abs(gaps).sum(axis=1)[~deviations.any(axis=(0, 2))]
    assert np.isin(still, low).all()  # no spread: the sum itself


def test_every_bin_of_the_reliability_table_has_an_interval() -> None:
    head = independent(5)
    bins = confidence_analysis(prepare(head, resamples=100)).reliability
    assert ((bins["low"] <= bins["accuracy"]) & (bins["accuracy"] <= bins["high"])).all()
    single = confidence_analysis(prepare(independent(5, recordings=1))).reliability
    assert single[["low", "high"]].isna().all().all()
    pd.testing.assert_series_equal(single["count"], bins["count"])
