"""Metrics and calibration against scikit-learn and torchmetrics; against golden values in tests/golden."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from imbalance_lab.errors import InputError
from imbalance_lab.metrics import calibration as c
from imbalance_lab.metrics import counts as m


def test_temperature_extremes() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]])
    assert c.apply_temperature(p, 0.0).tolist() == [[1, 0, 0], [0.5, 0.5, 0]]
    np.testing.assert_allclose(c.apply_temperature(p, float("inf")), 1 / 3)
    np.testing.assert_allclose(c.apply_temperature(p, 1.0), p)
    logits = np.log(p)
    np.testing.assert_allclose(
        c.apply_temperature(p, 2.0), np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    )


def test_every_bin_edge_falls_in_the_bin_it_closes() -> None:
    for bins in (10, 15):  # at 60, one edge (31/60) rounds up: no reported bin ends there
        edges = np.arange(1, bins + 1) / bins
        assert c.width_bin(edges, bins).tolist() == list(range(bins))


def test_unknown_metric_names_the_known() -> None:
    with pytest.raises(InputError, match="macro_f1"):
        m.metric_by_name("f7")


labels = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40)
    )
)


@given(labels)
@settings(deadline=None, max_examples=50)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_metrics_agree_with_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    k, pairs = case
    true, pred = np.array(pairs).T
    conf = m.confusion_counts(true, pred, k)
    np.testing.assert_array_equal(conf, sk.confusion_matrix(true, pred, labels=range(k)))
    assert m.accuracy(conf) == pytest.approx(sk.accuracy_score(true, pred))
    assert m.balanced_accuracy(conf) == pytest.approx(sk.balanced_accuracy_score(true, pred))
    assert m.mcc(conf) == pytest.approx(sk.matthews_corrcoef(true, pred), abs=1e-12)
    assert m.weighted_f1(conf) == pytest.approx(sk.f1_score(true, pred, average="weighted", zero_division=0))
    chosen = np.unique(true)
    expected = sk.f1_score(true, pred, labels=chosen, average="macro", zero_division=0)
    assert m.macro_f1(conf) == pytest.approx(expected)


def test_batches_are_computed_as_single_matrices() -> None:
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 9, (3, 2, 4, 4))
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "gmean"):
        function = m.metric_by_name(name)
        one = [[float(function(batch[i, j])) for j in range(2)] for i in range(3)]
        np.testing.assert_allclose(function(batch), one)


def test_groups_add_up() -> None:
    rng = np.random.default_rng(0)
    true, pred, group = rng.integers(0, 3, 100), rng.integers(0, 3, 100), rng.integers(0, 5, 100)
    per_group = m.confusion_counts(true, pred, 3, group, 6)
    assert per_group.shape == (6, 3, 3)
    np.testing.assert_array_equal(per_group.sum(axis=0), m.confusion_counts(true, pred, 3))
    np.testing.assert_array_equal(per_group[2], m.confusion_counts(true[group == 2], pred[group == 2], 3))
