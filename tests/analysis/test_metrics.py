"""Metrics and calibration against golden values, scikit-learn and torchmetrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from imbalance_lab.errors import InputError
from imbalance_lab.metrics import calibration as c
from imbalance_lab.metrics import counts as m


def cases(shared_dir: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((shared_dir / "golden" / f"{name}.json").read_text("utf-8"))["cases"]
    return found


def numbers(x: Any) -> np.ndarray:
    values = x if isinstance(x, list) else [x]
    return np.array([np.nan if v in (None, "nan") else float(v) for v in values])


def same(got: Any, expected: Any, name: str) -> None:
    np.testing.assert_allclose(np.atleast_1d(got), numbers(expected), rtol=1e-9, atol=1e-12, err_msg=name)


def test_metrics_agree_with_golden(shared_dir: Path) -> None:
    for case in cases(shared_dir, "metrics"):
        i, e = case["inputs"], case["expected"]
        conf = m.confusion_counts(i["y_true"], i["y_pred"], case["params"]["num_classes"])
        assert conf.tolist() == e["confusion"]
        got = {
            "accuracy": m.accuracy(conf),
            "balanced_accuracy": m.balanced_accuracy(conf),
            "macro_f1_labels_all": m.macro_f1_all(conf),
            "macro_f1_nan": m.macro_f1_nan(conf),
            "macro_f1_sklearn_default": m.macro_f1_nan(conf),
            "macro_f1_present": m.macro_f1(conf),
            "weighted_f1": m.weighted_f1(conf),
            "micro_f1": m.micro_f1(conf),
            "balanced_f1": m.balanced_f1(conf),
            "mcc": m.mcc(conf),
            "kappa": m.kappa(conf),
            "kappa_linear": m.kappa(conf, "linear"),
            "kappa_quadratic": m.kappa(conf, "quadratic"),
            "gmean_multiclass": m.gmean_observed(conf),
            "gmean_multiclass_correction_0_001": m.gmean_observed(conf, 0.001),
            "gmean_present": m.gmean(conf),
            "gmean_macro_sensitivity_specificity": m.gmean_macro_sensitivity_specificity(conf),
            "auprc_per_class": m.auprc(i["y_true"], i["probabilities"]),
            "auroc_per_class": m.auroc(i["y_true"], i["probabilities"]),
        }
        for name, value in got.items():
            same(value, e[name], f"{case['params']} {name}")
        for name, value in (("precision", m.precision(conf)), ("recall", m.recall(conf)), ("f1", m.f1(conf))):
            same(np.nan_to_num(value), np.nan_to_num(numbers(e[f"{name}_per_class"])).tolist(), name)


def test_calibration_agrees_with_golden(shared_dir: Path) -> None:
    for case in cases(shared_dir, "calibration"):
        p, y, e = np.array(case["inputs"]["probabilities"]), np.array(case["inputs"]["labels"]), case["expected"]
        for bins in (10, 15):
            mean, each = c.classwise_ece(p, y, bins)
            got = {
                "ece": c.ece(p, y, bins),
                "ece_right_closed": c.ece(p, y, bins),
                "ece_left_closed": c.ece(p, y, bins, "left"),
                "mce": c.mce(p, y, bins),
                "ace_equal_width": c.ace(p, y, bins, "width"),
                "ace_equal_mass": c.ace(p, y, bins, "mass"),
                "adaptive_ece_quantile": c.adaptive_ece(p, y, bins),
                "adaptive_ece_sorted_split": c.adaptive_ece(p, y, bins, "sorted"),
                "classwise_ece": mean,
                "classwise_ece_per_class": each,
            }
            expected = e[f"bins_{bins}"]
            for name in expected.keys() & got.keys():
                same(got[name], expected[name], f"{case['params']} {bins} {name}")
        for kind in ("sum", "half", "mean"):
            same(c.brier(p, y, kind), e[f"brier_{kind}"], kind)
        if "nll" in e:
            same(c.nll(p, y, clip=0.0), e["nll"], "nll")
        else:
            assert np.isinf(c.nll(p, y, clip=0.0))
            same(c.nll(p, y, clip=float(np.finfo(float).eps)), e["nll_sklearn_clipped"], "nll clipped")


def test_temperature_agrees_with_golden(shared_dir: Path) -> None:
    for case in cases(shared_dir, "temperature_scaling"):
        t = c.fit_temperature(np.array(case["inputs"]["logits"]), np.array(case["inputs"]["labels"]))
        expected = case["expected"]
        if expected["temperature"] is None:
            assert t == float(expected["limit"])
        else:
            assert t == pytest.approx(expected["temperature"], rel=1e-9)


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
        assert c.width_bin(edges[:-1], bins, "left").tolist() == list(range(1, bins))


def test_ece_agrees_with_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 500)
    y = rng.integers(0, 4, 500)
    expected = multiclass_calibration_error(torch.tensor(p), torch.tensor(y), 4, 15, "l1")
    assert c.ece(p, y) == pytest.approx(float(expected), abs=1e-6)


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
    for average, got in (("weighted", m.weighted_f1(conf)), ("macro", m.macro_f1_nan(conf))):
        assert got == pytest.approx(sk.f1_score(true, pred, average=average, zero_division=0))
    chosen = np.unique(true)
    expected = sk.f1_score(true, pred, labels=chosen, average="macro", zero_division=0)
    assert m.macro_f1(conf) == pytest.approx(expected)
    assert m.macro_f1(conf, chosen) == pytest.approx(expected)


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
