"""How each golden file of a metric, a calibration measure or a statistical test is checked."""

import numpy as np
from golden.golden_support import array, close, number, only_keys

from imbalance_lab.metrics import calibration as cal
from imbalance_lab.metrics import counts as m
from imbalance_lab.metrics import intervals as st


def metrics(inputs, params, expected):
    k = params["num_classes"]
    y, p = np.array(inputs["y_true"]), array(inputs["probabilities"])
    c = m.confusion_counts(y, np.array(inputs["y_pred"]), k)
    np.testing.assert_array_equal(c, expected["confusion"])
    present = c.sum(1) > 0
    auprc = m.auprc(y, p)
    got = {
        "accuracy": m.accuracy(c),
        "balanced_accuracy": m.balanced_accuracy(c),
        "precision_per_class": np.nan_to_num(m.precision(c)),
        "recall_per_class": np.nan_to_num(m.recall(c)),
        "f1_per_class": np.nan_to_num(m.f1(c)),
        "macro_f1_labels_all": m.macro_f1_all(c),
        "macro_f1_nan": m.macro_f1_nan(c),
        "macro_f1_sklearn_default": m.macro_f1_nan(c),
        "macro_f1_present": m.macro_f1(c),
        "weighted_f1": m.weighted_f1(c),
        "micro_f1": m.micro_f1(c),
        "balanced_f1": m.balanced_f1(c),
        "mcc": m.mcc(c),
        "kappa": m.kappa(c),
        "kappa_linear": m.kappa(c, "linear"),
        "kappa_quadratic": m.kappa(c, "quadratic"),
        "gmean_multiclass": m.gmean_observed(c),
        "gmean_multiclass_correction_0_001": m.gmean_observed(c, 0.001),
        "gmean_present": m.gmean(c),
        "gmean_macro_sensitivity_specificity": m.gmean_macro_sensitivity_specificity(c),
        "auprc_per_class": auprc,
        "auprc_macro_present": np.nanmean(auprc[present]),
        "auroc_per_class": m.auroc(y, p),
    }
    only_keys(expected, {"confusion", *got})
    for key in set(expected) - {"confusion"}:
        close(got[key], expected[key])


def calibration(inputs, params, expected):
    p, y = array(inputs["probabilities"]), np.array(inputs["labels"])
    got = {
        "brier_sum": cal.brier(p, y),
        "brier_half": cal.brier(p, y, "half"),
        "brier_mean": cal.brier(p, y, "mean"),
        "accuracy": (p.argmax(1) == y).mean(),
        "nll": cal.nll(p, y, clip=0.0),
        "nll_sklearn_clipped": cal.nll(p, y, np.finfo(np.float64).eps),
        "nll_unclipped_is_infinite": np.isinf(cal.nll(p, y, clip=0.0)),
    }
    only_keys(expected, {*got, *(f"bins_{b}" for b in params["bins"])})
    for key in set(expected) & set(got):
        close(got[key], expected[key])
    for bins in params["bins"]:
        _calibration_bins(p, y, bins, expected[f"bins_{bins}"], params["kind"] == "edges")


def _calibration_bins(p, y, bins, expected, edges):
    right = {"closed": "right"}
    left = {"closed": "left"}
    exact = {
        "ece": cal.ece(p, y, bins),
        "mce": cal.mce(p, y, bins),
        "ece_right_closed": cal.ece(p, y, bins, **right),
        "mce_right_closed": cal.mce(p, y, bins, **right),
        "ece_left_closed": cal.ece(p, y, bins, **left),
        "mce_left_closed": cal.mce(p, y, bins, **left),
        "ace_equal_width": cal.ace(p, y, bins, "width"),
        "ace_equal_mass": cal.ace(p, y, bins, "mass"),
        "adaptive_ece_quantile": cal.adaptive_ece(p, y, bins),
        "adaptive_ece_sorted_split": cal.adaptive_ece(p, y, bins, "sorted"),
        "classwise_ece": cal.classwise_ece(p, y, bins)[0],
        "classwise_ece_per_class": cal.classwise_ece(p, y, bins)[1],
        "classwise_ece_right_closed": cal.classwise_ece(p, y, bins, **right)[0],
        "classwise_ece_left_closed": cal.classwise_ece(p, y, bins, **left)[0],
    }
    single = {  # computed in float32 by their sources
        "ece_torchmetrics": exact["ece"],
        "mce_torchmetrics": exact["mce"],
        "ece_gpleiss": exact["ece"],
        "classwise_ece_focal_calibration": exact["classwise_ece"],
    }
    if y.max() < p.shape[1] - 1:  # that code takes the number of classes from the largest label
        del single["classwise_ece_focal_calibration"]
    # torchmetrics puts a confidence of exactly 1 in a bin of its own: another definition where there are such
    other = {"note", "equal_mass_note", "classwise_ece_torchmetrics", "adaptive_ece_focal_calibration"}
    other.add("classwise_ece_focal_calibration")
    only_keys(expected, {*exact, *single, *other})
    for key in set(expected) & set(exact):
        close(exact[key], expected[key])
    for key in set(expected) & set(single):
        if not edges:
            close(single[key], expected[key], rtol=1e-6)


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
    close(cal.nll(scaled, y), expected["nll_after"], rtol=1e-8)


def statistics(inputs, params, expected):
    test = params["test"]
    if test == "wilson":
        for level, want in expected.items():
            only_keys(want, {"wilson", "wilson_cc"})
            close(st.wilson(inputs["successes"], inputs["n"], float(level)), want["wilson"])
    elif test == "holm":
        only_keys(expected, {"adjusted", "reject", "bonferroni", "benjamini_hochberg"})
        p = np.array(inputs["p_values"])
        close(st.holm(p), expected["adjusted"])
        assert (st.holm(p) <= params["alpha"]).tolist() == expected["reject"]
        close(np.minimum(1, p * len(p)), expected["bonferroni"])
        close(st.benjamini_hochberg(p), expected["benjamini_hochberg"])
    elif test == "mcnemar":
        only_keys(expected, {"p_exact", "statistic", "chi2_corrected", "p_chi2_corrected"})
        close(st.mcnemar_exact(inputs["only_first_right"], inputs["only_second_right"]), expected["p_exact"])
    else:
        assert test == "wilcoxon"
        for name, want in expected.items():
            options = {}
            if name != "scipy_default":
                zeros, method, *corrected = name.split("/")
                assert zeros in ("wilcox", "pratt", "zsplit")
                assert method in ("exact", "approx")
                options = {"zero_method": zeros, "method": method, "correction": corrected == ["corrected"]}
            close(st.wilcoxon(inputs["x"], inputs["y"], **options), [want["statistic"], want["p"]])


CHECKS = {
    "calibration": calibration,
    "metrics": metrics,
    "statistics": statistics,
    "temperature_scaling": temperature_scaling,
}
