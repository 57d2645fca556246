"""The fast counts of the suite against the plain way of counting the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analysis_tables import independent, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from imbalance_lab.analysis import cross_head as cross
from imbalance_lab.analysis import tally
from imbalance_lab.analysis.error_runs import run_lengths
from imbalance_lab.analysis.position_bins import relative_bin
from imbalance_lab.analysis.prepared import prepare
from imbalance_lab.analysis.scatter import pick, row_max, scatter, scatter_runs
from imbalance_lab.analysis.segments import distance_to_change
from imbalance_lab.metrics.calibration import mass_bin
from imbalance_lab.metrics.clusters import clusters_of
from imbalance_lab.metrics.intervals import percentile_interval
from imbalance_lab.predictions import Predictions

seeds = st.integers(0, 999)


@given(seeds, st.integers(0, 200), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_scattering_is_counting(seed: int, n: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    code, values = np.sort(rng.integers(0, cells, n)), rng.random(n, dtype=np.float32)
    counts, sums, runs = np.ones(cells, dtype=np.int64), np.zeros(cells), np.zeros(cells)
    scatter(counts, code)
    scatter(sums, code, values.astype(np.float64))
    scatter_runs(runs, code, values)
    expected = np.bincount(code, weights=values, minlength=cells)
    assert (counts == 1 + np.bincount(code, minlength=cells)).all()
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
    np.testing.assert_allclose(runs, expected, rtol=1e-12)
    p = rng.random((n, cells))
    column = rng.integers(0, cells, n)
    assert (pick(p, column) == p[np.arange(n), column]).all()
    assert (row_max(p) == p.max(axis=1)).all()


@given(seeds, st.integers(2, 80))
@settings(deadline=None, max_examples=30)
def test_mass_bins_are_those_of_a_binary_search(seed: int, n_edges: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.unique(np.concatenate([[0.0, 1.0], rng.random(n_edges - 2)])).astype(np.float32)
    values = np.concatenate([rng.random(200, dtype=np.float32), edges])
    expected = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    assert (mass_bin(values, edges) == expected).all()


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), min_size=1, max_size=50))
@settings(deadline=None, max_examples=50)
def test_tenths_are_exact_for_any_place(places: list[tuple[int, int]]) -> None:
    start, end = (np.array(column, dtype=np.int32) for column in zip(*places, strict=True))
    tenth, inside = relative_bin(start, end)
    assert tenth.tolist() == [10 * a // (a + b + 1) for a, b in places]
    assert inside.tolist() == [a + b > 0 for a, b in places]


@given(seeds, st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_distance_to_change_by_parts(seed: int, n: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    labels, first = rng.integers(0, 2, n), rng.random(n) < 0.15
    first[0] = True
    marks = first.copy()
    marks[1:] |= labels[1:] != labels[:-1]
    start = np.flatnonzero(marks)
    end = np.append(start[1:], n) - 1
    closes = np.append(first[start[1:]], True)
    parts = [distance_to_change(start, end, first, closes, slice(i, i + step)) for i in range(0, n, step)]
    chain = np.cumsum(first)
    for i, found in enumerate(np.concatenate(parts)):
        same = np.flatnonzero(chain == chain[i])
        changes = [j for j in same[1:] if labels[j] != labels[j - 1]]
        expected = min((i - j + 1 if i >= j else j - i for j in changes), default=None)
        assert found == expected if expected is not None else found > 1000


@given(seeds, st.integers(0, 60))
@settings(deadline=None, max_examples=30)
def test_run_lengths_stop_at_chains(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    wrong, first = rng.random(n) < 0.5, rng.random(n) < 0.2
    expected: list[int] = []
    for i in range(n):
        if wrong[i] and (not expected or first[i] or not wrong[i - 1]):
            expected.append(0)
        if wrong[i]:
            expected[-1] += 1
    assert run_lengths(wrong, first).tolist() == expected


@given(seeds, st.integers(1, 4), st.floats(0, 0.9))
@settings(deadline=None, max_examples=30)
def test_percentiles_are_numpys(seed: int, columns: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(40, columns, 2))
    samples[rng.random(samples.shape) < missing] = np.nan
    low, high = percentile_interval(samples)
    filled = np.where(np.isnan(samples).all(axis=0), 0.0, samples)
    expected = np.nanquantile(filled, [0.025, 0.975], axis=0)
    expected[:, np.isnan(samples).all(axis=0)] = np.nan
    np.testing.assert_allclose([low, high], expected, rtol=1e-12)
    moved = percentile_interval(np.moveaxis(samples, 0, -1), axis=-1)
    np.testing.assert_array_equal(moved, [low, high])


def test_blocks_do_not_show_in_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    head = shuffled(independent(3), np.random.default_rng(0).permutation(6000))
    clusters = clusters_of(head.group, len(head.group_names))
    whole = tally.tally_head(head, clusters, binned_scores=True)
    assert (whole.confusion.sum(axis=0) == confusion_matrix(head.true, head.pred)).all()
    monkeypatch.setattr(tally, "BLOCK", 1 << 10)
    parts = tally.tally_head(head, clusters, binned_scores=True)
    for name in ("confusion", "scores", "positive_scores", "from_start", "from_end", "relative"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    for name in ("fine", "fine_confidence", "mass", "class_probability", "class_positive", "brier", "nll"):
        np.testing.assert_allclose(
            getattr(whole.calibration, name), getattr(parts.calibration, name), rtol=1e-12, atol=1e-12
        )


def test_many_heads_are_counted_by_the_patterns_that_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = {f"head{i}": independent(i, sequences=40) for i in range(4)}
    rows = np.flatnonzero(heads["head0"].position % 2 == 0)
    part = shuffled(heads["head3"], rows)
    predictions = Predictions({**heads, "head3": replace(part, slices={}, slice_names={})})
    plain = cross.cross_head(predictions, resamples=50)
    monkeypatch.setattr(cross, "MAX_CELLS", 100)
    rare = cross.cross_head(predictions, resamples=50)
    pd.testing.assert_frame_equal(plain.pairs, rare.pairs)
    pd.testing.assert_frame_equal(plain.exact_match, rare.exact_match)
    row = plain.pairs.query("head_a == 'head1' and head_b == 'head3'").iloc[0]
    wrong = heads["head1"].true[rows] != heads["head1"].pred[rows]
    assert row["n"] == len(rows)
    assert row["joint"] == (wrong & (part.true != part.pred)).sum()


def test_heads_of_one_run_share_their_draws() -> None:
    first, other = prepare(independent(1), "a"), independent(2)
    assert prepare(other, "b", like=first).weights is first.weights
    np.testing.assert_array_equal(prepare(other, "b").weights, first.weights)
    assert prepare(independent(2, recordings=7), "b", like=first).weights.shape[1] == 7
