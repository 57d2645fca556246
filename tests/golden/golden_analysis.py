"""How each golden file of a metric, a calibration measure or a statistical test is checked."""

import numpy as np
import pytest
from golden.golden_support import array, close, number, only_keys

from imbalance_lab import make_predictions
from imbalance_lab.analysis.confidence import confidence_analysis
from imbalance_lab.analysis.prepared import prepare
from imbalance_lab.metrics import calibration as cal
from imbalance_lab.metrics import counts as m
from imbalance_lab.metrics import intervals as st

# Other definitions than the product's: nothing here computes them.
OTHER_METRICS = {
    *("macro_f1_labels_all", "macro_f1_nan", "macro_f1_sklearn_default", "micro_f1", "balanced_f1", "auroc_per_class"),
    *("kappa", "kappa_linear", "kappa_quadratic", "gmean_multiclass", "gmean_multiclass_correction_0_001"),
    "gmean_macro_sensitivity_specificity",
}
OTHER_SCORES = {"brier_half", "brier_mean", "nll_sklearn_clipped", "nll_unclipped_is_infinite"}
OTHER_BINNED = {
    *("note", "equal_mass_note", "mce", "mce_right_closed", "mce_left_closed", "mce_torchmetrics"),
    *("ece_left_closed", "classwise_ece_left_closed", "ace_equal_width", "ace_equal_mass"),
    *("adaptive_ece_sorted_split", "adaptive_ece_focal_calibration", "classwise_ece_torchmetrics"),
}


def metrics(inputs, params, expected):
    k = params["num_classes"]
    y, p = np.array(inputs["y_true"]), array(inputs["probabilities"])
    c = m.confusion_counts(y, np.array(inputs["y_pred"]), k)
    np.testing.assert_array_equal(c, expected["confusion"])
    auprc = m.auprc(y, p)
    got = {
        "accuracy": m.accuracy(c),
        "balanced_accuracy": m.balanced_accuracy(c),
        "precision_per_class": np.nan_to_num(m.precision(c)),
        "recall_per_class": np.nan_to_num(m.recall(c)),
        "f1_per_class": np.nan_to_num(m.f1(c)),
        "macro_f1_present": m.macro_f1(c),
        "weighted_f1": m.weighted_f1(c),
        "mcc": m.mcc(c),
        "gmean_present": m.gmean(c),
        "auprc_per_class": auprc,
        "auprc_macro_present": np.nanmean(auprc[c.sum(1) > 0]),
    }
    only_keys(expected, {"confusion", *got, *OTHER_METRICS})
    for key in set(expected) & set(got):
        close(got[key], expected[key])


def calibration(inputs, params, expected):
    """The analysis counts float32 probabilities in 15 bins: other numbers of bins are only looked at for their keys."""
    p, y = array(inputs["probabilities"]), np.array(inputs["labels"])
    table = make_predictions(y, p, [f"class {k}" for k in range(p.shape[1])]).heads["target"]
    found = confidence_analysis(prepare(table, resamples=2))
    scores = found.scores.set_index(["variant", "metric"])["value"]["as predicted"]
    got = {"brier_sum": scores["brier"], "accuracy": table.right.mean()}
    if (p[np.arange(len(y)), y] > cal.CLIP).all():
        got["nll"] = scores["nll"]
    bins = {f"bins_{b}" for b in params["bins"]}
    only_keys(expected, {"nll", *got, *bins, *OTHER_SCORES})
    for key in set(expected) & set(got):
        close(got[key], expected[key], rtol=1e-6, atol=1e-7)
    binned = {"ece": scores["ece"], "classwise_ece": scores["classwise_ece"]}
    each = found.classwise.set_index("class")["ece"].reindex(list(table.classes)).to_numpy()
    exact = {
        **binned,
        **{f"{name}_right_closed": value for name, value in binned.items()},
        "classwise_ece_per_class": each,
        "adaptive_ece_quantile": scores["ece_mass"],
    }
    single = {"ece_torchmetrics": "ece", "ece_gpleiss": "ece", "classwise_ece_focal_calibration": "classwise_ece"}
    if y.max() < p.shape[1] - 1:  # that code takes the number of classes from the largest label
        del single["classwise_ece_focal_calibration"]
    if params["kind"] != "edges":  # confidences of exactly 1 have a bin of their own in torchmetrics
        exact |= {name: binned[own] for name, own in single.items()}
    for name in bins:
        only_keys(expected[name], {*exact, *single, "classwise_ece_focal_calibration", *OTHER_BINNED})
    want = expected["bins_15"]
    for key in set(want) & set(exact):
        close(exact[key], want[key], rtol=1e-6, atol=1e-7)


def temperature_scaling(inputs, params, expected):
    z, y = array(inputs["logits"]), np.array(inputs["labels"])
    known = {"nll_before", "temperature", "nll_after", "temperature_official_lbfgs", "nll_after_official_lbfgs"}
    only_keys(expected, known | {"limit", "note", "nll_infimum"})

    def nll(t):
        s = z / t
        s = s - s.max(1, keepdims=True)
        return (np.log(np.exp(s).sum(1)) - s[np.arange(len(y)), y]).mean()

    close(nll(1.0), expected["nll_before"])
    t = cal.fit_temperature(z, y)
    if expected["temperature"] is None:
        assert t == float(expected["limit"])
        return
    close(t, expected["temperature"], rtol=1e-8)
    close(nll(t), expected["nll_after"])
    assert nll(t) <= number(expected["nll_after_official_lbfgs"]) + 1e-12
    p = np.exp(z - z.max(1, keepdims=True))
    scaled = cal.apply_temperature(p / p.sum(1, keepdims=True), t)
    close(-np.log(scaled[np.arange(len(y)), y]).mean(), expected["nll_after"], rtol=1e-8)


def statistics(inputs, params, expected):
    test = params["test"]
    if test == "wilson":
        for level, want in expected.items():
            only_keys(want, {"wilson", "wilson_cc"})
            close(st.wilson(inputs["successes"], inputs["n"], float(level)), want["wilson"])
    elif test == "holm":
        only_keys(expected, {"adjusted", "reject", "bonferroni", "benjamini_hochberg"})
        p = np.array(inputs["p_values"])
        close(st.benjamini_hochberg(p), expected["benjamini_hochberg"])
    else:
        assert test in ("mcnemar", "wilcoxon")
        pytest.skip("positions of a recording depend on each other: the product has no such test")


CHECKS = {
    "calibration": calibration,
    "metrics": metrics,
    "statistics": statistics,
    "temperature_scaling": temperature_scaling,
}
