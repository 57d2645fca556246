"""How each golden file of a strategy is checked."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from golden.golden_support import (
    array,
    check_loss,
    close,
    close_to_largest,
    differs,
    doubles,
    labels,
    only_keys,
    value_and_gradient,
)

from imbalance_lab.strategies import classifier_heads, posthoc, table_methods, weights
from imbalance_lab.strategies.losses import dice as dice_module
from imbalance_lab.strategies.losses import equalization, focal, ghm, influence_balanced, ldam, prior, seesaw, smoothing
from imbalance_lab.strategies.losses.cross_entropy import cross_entropy
from imbalance_lab.strategies.samplers import by_class


def class_weights(inputs, params, expected):
    counts = np.array(inputs["class_counts"])
    seen = counts > 0
    if params["method"] == "balanced":
        only_keys(expected, {"classes_present", "weights_present", "weights", "all_classes_call"})
        got = weights.balanced(counts)
        assert np.flatnonzero(seen).tolist() == expected["classes_present"]
        close(got[seen], expected["weights_present"])
        close(got, expected.get("weights", got.tolist()))
        assert (got[~seen] == 0).all()
        return
    assert params["method"] == "effective_number"
    only_keys(expected, {"weights", "weights_unnormalised", "trap_value", "note", "weights_of_nonzero_classes_alone"})
    got = weights.effective_number(counts, params["beta"])
    if "trap_value" in expected:
        close(got[seen], expected["weights_of_nonzero_classes_alone"])
        assert (got[~seen] == 0).all()
        assert np.isfinite(got).all()
        assert not np.allclose(got, array(expected["trap_value"]), equal_nan=True)
        return
    close(got, expected["weights"])
    plain = array(expected["weights_unnormalised"])
    close(got, (plain * len(plain) / plain.sum()).tolist())


def drw_schedule(inputs, params, expected):
    only_keys(expected, {"epoch", "weights"})
    from imbalance_lab.strategies.schedules import Deferred

    phases = Deferred(start=params["switch_epoch"] / params["epochs"], weights="balanced").phases()
    for epoch, row in zip(expected["epoch"], expected["weights"], strict=True):
        late = epoch / params["epochs"] >= phases[0]["for"]
        assert ("weights" in phases[int(late)]) is late
        beta = params["beta_after"] if late else params["beta_before"]
        close(weights.effective_number(inputs["class_counts"], beta), row)


def weighted_ce(inputs, params, expected):
    only_keys(expected, {"weighted_mean", "mean_over_n"})
    y, w = labels(inputs["labels"]), doubles(inputs["class_weights"])
    ratio = expected["mean_over_n"]["ratio_to_weighted_mean"]
    gradient = (array(expected["weighted_mean"]["grad_logits"]) * ratio).tolist()
    value = check_loss(lambda z: cross_entropy(z, y, w), inputs["logits"], expected["mean_over_n"]["loss"], gradient)
    if abs(ratio - 1) > 1e-6:
        differs(value, expected["weighted_mean"]["loss"])


def focal_softmax(inputs, params, expected):
    known = {"loss", "grad_logits", "per_sample", "keras_loss", "keras_grad_logits", "note", "trap_value"}
    known |= {"trap_grad_has_nan", "trap_rel_diff", "ldam_drw_unweighted_loss", "ldam_drw_grad_has_nan"}
    only_keys(expected, known)
    y, alpha, gamma = labels(inputs["labels"]), doubles(inputs.get("alpha")), params["gamma"]
    value = check_loss(
        lambda z: focal.focal_loss(z, y, gamma, alpha), inputs["logits"], expected["loss"], expected["grad_logits"]
    )
    z = torch.tensor(inputs["logits"], dtype=torch.float64)
    each = [focal.focal_loss(z[i], y[i], gamma, alpha).item() for i in range(len(y))]
    close_to_largest(each, expected["per_sample"])
    if expected.get("trap_rel_diff", 0) > 1e-6:
        differs(value, expected["trap_value"])
    if "keras_grad_logits" in expected:  # probabilities clipped at 1e-7
        differs(value, expected["keras_loss"])


def focal_sigmoid(inputs, params, expected):
    z = torch.tensor(inputs["logits"], dtype=torch.float64)
    if params["variant"] == "cb_focal":
        only_keys(expected, {"loss", "grad_logits"})
        y, w = labels(inputs["labels"]), doubles(inputs["class_weights"])
        check_loss(
            lambda v: focal.sigmoid_focal_loss(v, y, params["gamma"], w),
            inputs["logits"],
            expected["loss"],
            expected["grad_logits"],
        )
        return
    assert params["variant"] == "torchvision"
    only_keys(
        expected,
        {"loss", "loss_sum", "grad_logits", "torchvision_loss"}
        | {"torchvision_grad_max_abs_diff", "torchvision_grad_has_nan"},
    )
    t, alpha = doubles(inputs["targets"]), params["alpha"]
    share = 1.0 if alpha < 0 else alpha * t + (1 - alpha) * (1 - t)
    check_loss(
        lambda v: (focal.sigmoid_focal_elements(v, t, params["gamma"]) * share).mean(),
        inputs["logits"],
        expected["loss"],
        expected["grad_logits"],
    )
    close((focal.sigmoid_focal_elements(z, t, params["gamma"]) * share).sum(), expected["loss_sum"])


def _reweighted(expected: dict, class_weights, y) -> tuple[float, list]:
    """Loss and gradient of a weighted mean, as a mean over positions."""
    factor = 1.0 if class_weights is None else float(array(class_weights)[y.numpy()].mean())
    return expected["loss"] * factor, (array(expected["grad_logits"]) * factor).tolist()


def ldam_file(inputs, params, expected):
    only_keys(expected, {"loss", "grad_logits", "per_sample_unweighted", "margins"})
    margins = ldam.ldam_margins(inputs["class_counts"], params["max_m"])
    close(margins, expected["margins"])
    y, w, m = labels(inputs["labels"]), doubles(inputs.get("class_weights")), torch.tensor(margins)
    value, gradient = _reweighted(expected, inputs.get("class_weights"), y)
    check_loss(lambda z: ldam.ldam_loss(z, y, m, params["s"], w), inputs["logits"], value, gradient)
    z = torch.tensor(inputs["logits"], dtype=torch.float64)
    each = [ldam.ldam_loss(z[i], y[i], m, params["s"]).item() for i in range(len(y))]
    close_to_largest(each, expected["per_sample_unweighted"])


def balanced_softmax(inputs, params, expected):
    only_keys(expected, {"loss", "grad_logits", "per_sample", "plain_cross_entropy"})
    y, offset = labels(inputs["labels"]), torch.tensor(prior.log_prior(inputs["class_counts"]))
    value = check_loss(
        lambda z: prior.prior_cross_entropy(z, y, offset),
        inputs["logits"],
        expected["loss"],
        expected["grad_logits"],
    )
    z = torch.tensor(inputs["logits"], dtype=torch.float64)
    close_to_largest(
        [prior.prior_cross_entropy(z[i], y[i], offset).item() for i in range(len(y))], expected["per_sample"]
    )
    if "plain_cross_entropy" in expected:
        close(value, expected["plain_cross_entropy"])


def logit_adjustment(inputs, params, expected):
    counts, tau, eps = inputs["class_counts"], params["tau"], params["eps"]
    if params["kind"] == "posthoc":
        _logit_adjustment_posthoc(inputs, params, expected)
        return
    assert params["kind"] == "loss"
    only_keys(expected, {"loss", "loss_no_eps", "adjustment", "grad_logits", "per_sample"})
    y = labels(inputs["labels"])
    with_eps = torch.tensor(prior.log_prior(counts, tau, eps))
    close(with_eps, expected["adjustment"])
    official = check_loss(
        lambda z: prior.prior_cross_entropy(z, y, with_eps), inputs["logits"], expected["loss"], expected["grad_logits"]
    )
    exact = torch.tensor(prior.log_prior(counts, tau))
    value, gradient = value_and_gradient(lambda z: prior.prior_cross_entropy(z, y, exact), inputs["logits"])
    if "loss_no_eps" in expected:
        close(value, expected["loss_no_eps"])
        return
    unseen = array(counts) == 0
    assert unseen.any()
    assert (gradient[:, unseen] == 0).all()
    z = torch.tensor(inputs["logits"], dtype=torch.float64) + exact
    close(value, F.cross_entropy(z, y).item())
    assert value <= official


def _logit_adjustment_posthoc(inputs, params, expected):
    known = {"adjusted_logits", "predictions", "predictions_unadjusted", "predictions_no_eps"}
    only_keys(expected, known | {"max_abs_diff_to_no_eps", "note"})
    counts, tau = array(inputs["class_counts"]), params["tau"]
    got = array(inputs["logits"]) + posthoc.prior_shift(counts, tau)
    official, seen = array(expected["adjusted_logits"]), counts > 0
    assert array(inputs["logits"]).argmax(1).tolist() == expected["predictions_unadjusted"]
    # the official epsilon inside the logarithm moves a logit by up to 1e-12 / pi^tau
    shift = 2e-12 / (counts[seen] / counts.sum()).min() ** tau + 1e-12
    np.testing.assert_allclose(got[:, seen], official[:, seen], rtol=0, atol=shift)
    if seen.all():
        assert got.argmax(1).tolist() == expected["predictions_no_eps"]
        return
    moved = got - array(inputs["logits"])
    np.testing.assert_allclose(moved[:, ~seen].max(), moved[:, seen].min(), atol=1e-12)
    assert (official[:, ~seen] - got[:, ~seen]).min() > 10


def vs_loss(inputs, params, expected):
    only_keys(expected, {"loss", "grad_logits", "per_sample_unweighted", "Delta", "iota"})
    delta, iota = prior.vector_scaling_terms(inputs["class_counts"], params["gamma"], params["tau"])
    close(1 / delta, expected["Delta"])
    close(iota, expected["iota"])
    y, w = labels(inputs["labels"]), doubles(inputs.get("class_weights"))
    d, i = torch.tensor(delta), torch.tensor(iota)
    value, gradient = _reweighted(expected, inputs.get("class_weights"), y)
    check_loss(lambda z: prior.prior_cross_entropy(z, y, i, d, w), inputs["logits"], value, gradient)
    z = torch.tensor(inputs["logits"], dtype=torch.float64)
    each = [prior.prior_cross_entropy(z[n], y[n], i, d).item() for n in range(len(y))]
    close_to_largest(each, expected["per_sample_unweighted"])


def seesaw_file(inputs, params, expected):
    only_keys(expected, {"loss", "grad_logits", "per_sample"})
    y, n = labels(inputs["labels"]), doubles(inputs["cum_samples"])
    p, q, eps = params["p"], params["q"], params["eps"]
    check_loss(
        lambda z: seesaw.seesaw_loss(z, y, n, p, q, eps), inputs["logits"], expected["loss"], expected["grad_logits"]
    )
    z = torch.tensor(inputs["logits"], dtype=torch.float64)
    each = [seesaw.seesaw_loss(z[i], y[i], n, p, q, eps).item() for i in range(len(y))]
    close_to_largest(each, expected["per_sample"])


def ghm_c(inputs, params, expected):
    only_keys(expected, {"calls"})
    state = torch.zeros(params["bins"], dtype=torch.float64)
    for call, want in zip(inputs["calls"], expected["calls"], strict=True):
        only_keys(want, {"loss", "grad_logits", "loss_mmdet_3_3_0", "acc_sum"})
        y = labels(call["labels"])
        y = torch.where(torch.tensor(call["label_weight"]) > 0, y, -100)
        check_loss(
            lambda z, y=y, s=state: ghm.ghm_loss(z, y, s, params["momentum"])[0],
            call["logits"],
            want["loss"],
            want["grad_logits"],
        )
        close(want["loss"], want["loss_mmdet_3_3_0"], rtol=1e-6)
        state = ghm.ghm_loss(torch.tensor(call["logits"], dtype=torch.float64), y, state, params["momentum"])[1]
        if "acc_sum" in want:
            close(state, want["acc_sum"])


def influence_balanced_file(inputs, params, expected):
    only_keys(expected, {"loss", "grad_logits", "grad_feature_norm", "grad_logits_detached", "ib_weight"})
    y, w = labels(inputs["labels"]), doubles(inputs.get("class_weights"))
    h = torch.tensor(inputs["feature_l1_norm"], dtype=torch.float64, requires_grad=True)

    def loss(z, detach=False):
        return influence_balanced.influence_balanced_loss(z, y, h, params["alpha"], params["epsilon"], w, detach=detach)

    check_loss(loss, inputs["logits"], expected["loss"], expected["grad_logits"])
    check_loss(lambda z: loss(z, True), inputs["logits"], expected["loss"], expected["grad_logits_detached"])
    (grad_h,) = torch.autograd.grad(loss(torch.tensor(inputs["logits"], dtype=torch.float64)), h)
    close_to_largest(grad_h, expected["grad_feature_norm"])
    p = torch.tensor(inputs["logits"], dtype=torch.float64).softmax(-1)
    distance = (p - F.one_hot(y, p.shape[-1])).abs().sum(-1)
    close(params["alpha"] / (distance * h.detach() + params["epsilon"]), expected["ib_weight"])


def eqlv2(inputs, params, expected):
    only_keys(expected, {"calls"})
    assert params["variant"] in ("no_background", "with_background")
    background = params["variant"] == "with_background"
    state = equalization.equalization_start(params["num_classes"])
    for call, want in zip(inputs["calls"], expected["calls"], strict=True):
        only_keys(want, {"loss", "grad_logits", "pos_grad", "neg_grad", "pos_neg"})
        y = labels(call["labels"])

        def loss(z, y=y, state=state):
            return equalization.equalization_loss(
                z, y, state, params["gamma"], params["mu"], params["alpha"], background=background
            )

        check_loss(lambda z, loss=loss: loss(z)[0], call["logits"], want["loss"], want["grad_logits"])
        state = loss(torch.tensor(call["logits"], dtype=torch.float64))[1]
        for key in ("pos_grad", "neg_grad", "pos_neg"):
            close(state[key], want[key])


def label_aware_smoothing(inputs, params, expected):
    only_keys(expected, {"loss", "grad_logits", "smoothing", "paper_loss"})
    power = 2.0 if params["power"] is None else params["power"]
    e = smoothing.smoothing_by_frequency(
        inputs["class_counts"], params["smooth_head"], params["smooth_tail"], params["shape"], power
    )
    close(e, expected["smoothing"])
    y, e = labels(inputs["labels"]), torch.tensor(e)
    check_loss(
        lambda z: smoothing.label_smoothing_loss(z, y, e, "all"),
        inputs["logits"],
        expected["loss"],
        expected["grad_logits"],
    )
    paper, _ = value_and_gradient(lambda z: smoothing.label_smoothing_loss(z, y, e, "others"), inputs["logits"])
    close(paper, expected["paper_loss"])
    assert smoothing.LabelAware().spread == "others"
    if abs(expected["paper_loss"] / expected["loss"] - 1) > 1e-6:
        differs(paper, expected["loss"])


def dice_self_adjusting(inputs, params, expected):
    y, options = labels(inputs["labels"]), (params["alpha"], params["smooth"], params["square_denominator"])
    dice = dice_module.self_adjusting_dice
    if params["mode"] == "sigmoid_one_column":
        only_keys(expected, {"official_loss", "official_grad_logits"})
        check_loss(
            lambda z: dice(z, y, *options, "batch"),
            inputs["logits"],
            expected["official_loss"],
            expected["official_grad_logits"],
        )
        return
    assert params["mode"] == "softmax_multiclass"
    only_keys(
        expected,
        {"official_loss", "official_grad_logits", "per_sample_loss", "per_sample_grad_logits"}
        | {"batch_loss", "trap_value"},
    )
    gradient = expected.get("per_sample_grad_logits", expected["official_grad_logits"])
    value = check_loss(lambda z: dice(z, y, *options), inputs["logits"], expected["per_sample_loss"], gradient)
    batch, _ = value_and_gradient(lambda z: dice(z, y, *options, "batch"), inputs["logits"])
    close(batch, expected["batch_loss"])
    if "trap_value" in expected:
        differs(value, expected["trap_value"])
        differs(batch, expected["trap_value"])


def tau_norm(inputs, params, expected):
    only_keys(expected, {"weight", "logits", "predictions"})
    want, tau = array(expected["weight"]), params["tau"]
    zero = ~np.any(array(inputs["weight"]), axis=1)
    got = classifier_heads.tau_normalize(inputs["weight"], tau)
    close(got[~zero], want[~zero].tolist())
    assert (got[zero] == 0).all()
    logits = classifier_heads.tau_normalized_logits(inputs["features"], inputs["weight"], tau)
    close(logits[:, ~zero], array(expected["logits"])[:, ~zero].tolist())
    if not zero.any():
        assert logits.argmax(1).tolist() == expected["predictions"]


def progressive_sampling(inputs, params, expected):
    counts = inputs["class_counts"]
    if params["kind"] == "square_root":
        only_keys(expected, {"class_probabilities"})
        close(by_class.class_probabilities(counts, 0.5), expected["class_probabilities"])
        return
    assert params["kind"] == "progressive"
    only_keys(expected, {"class_probabilities_per_epoch"})
    last = params["epochs"] - 1
    got = [by_class.progressive_probabilities(counts, e / last) for e in range(params["epochs"])]
    close(got, expected["class_probabilities_per_epoch"])


def resampling(inputs, params, expected):
    names = {
        "RandomOverSampler": "random-over-sampling",
        "RandomUnderSampler": "random-under-sampling",
        "SMOTE": "smote",
    }
    counts = np.array(inputs["class_counts"])
    y = np.repeat(np.arange(len(counts)), counts)
    X = np.random.default_rng(0).normal(size=(len(y), 2)) + y[:, None]
    X[:, 1] += np.arange(len(y))  # makes every row different
    strategy = params["sampling_strategy"]
    if isinstance(strategy, dict):
        strategy = {int(k): v for k, v in strategy.items()}
    neighbours = params.get("k_neighbors")

    def run():
        return table_methods.resample_features(names[params["method"]], X, y, 0, neighbours, strategy)

    if "error" in expected:
        only_keys(expected, {"error"})
        assert expected["error"] == "ValueError"
        with pytest.raises(ValueError, match="cannot work on these data"):
            run()
        return
    only_keys(expected, {"class_counts", "total", "originals_kept_first_in_order", "sampled_without_replacement"})
    rows, classes = run()
    assert np.bincount(classes, minlength=len(counts)).tolist() == expected["class_counts"]
    assert len(classes) == expected["total"]
    if expected.get("originals_kept_first_in_order"):
        np.testing.assert_array_equal(rows[: len(X)], X)
    if "sampled_without_replacement" in expected:
        assert (len(np.unique(rows, axis=0)) == len(rows)) is expected["sampled_without_replacement"] or (
            len(rows) == len(X)  # nothing to sample: equal counts
        )


CHECKS = {
    "balanced_softmax": balanced_softmax,
    "class_weights": class_weights,
    "dice_self_adjusting": dice_self_adjusting,
    "drw_schedule": drw_schedule,
    "eqlv2": eqlv2,
    "focal_sigmoid": focal_sigmoid,
    "focal_softmax": focal_softmax,
    "ghm_c": ghm_c,
    "influence_balanced": influence_balanced_file,
    "label_aware_smoothing": label_aware_smoothing,
    "ldam": ldam_file,
    "logit_adjustment": logit_adjustment,
    "progressive_sampling": progressive_sampling,
    "resampling": resampling,
    "seesaw": seesaw_file,
    "tau_norm": tau_norm,
    "vs_loss": vs_loss,
    "weighted_ce": weighted_ce,
}
