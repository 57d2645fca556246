"""Post-hoc corrections, the free-lunch control, tau-normalisation and the strategies for tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.errors import InputError
from imbalance_lab.metrics.counts import confusion_counts, macro_f1
from imbalance_lab.predictions import HeadPredictions
from imbalance_lab.strategies import table_methods
from imbalance_lab.strategies.classifier_heads import fit_tau_norm, tau_normalize, tau_normalized_logits
from imbalance_lab.strategies.language.registry import names
from imbalance_lab.strategies.posthoc import (
    apply_posthoc,
    fit_free_lunch,
    fit_posthoc,
    fit_thresholds,
    prior_shift,
    tau_confusions,
    threshold_predict,
)

PRIOR = np.array([0.9, 0.08, 0.02])


def predictions(n=4000, seed=0, counts=(9000, 800, 200), k=3):
    """A model that has learnt the prior: p(c | x) of normal clusters, drawn with the prior."""
    rng = np.random.default_rng(seed)
    true = rng.choice(3, p=PRIOR, size=n)
    x = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[true]
    logits = np.full((n, k), -30.0)
    logits[:, :3] = 1.5 * x + np.log(PRIOR)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    index = np.arange(n)
    small = np.zeros(n, dtype=np.int32)
    return HeadPredictions(
        classes=tuple("abcdef"[:k]),
        train_counts=np.array(counts),
        sequence=index,
        position=small,
        from_start=small,
        from_end=small,
        group=small,
        group_names=("r",),
        true=true.astype(np.int32),
        pred=p.argmax(1).astype(np.int32),
        probabilities=p,
    )


def score(head):
    return float(macro_f1(confusion_counts(head.true, head.pred, len(head.classes))))


def test_free_lunch_is_the_best_of_its_grid_and_never_worse_than_nothing():
    head = predictions()
    tau = fit_free_lunch(head)
    assert tau > 0
    tried = {t: score(head.adjusted(t)) for t in (0.0, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, tau)}
    assert tried[tau] == pytest.approx(max(tried.values()))
    assert tried[tau] > tried[0.0]
    balanced = fit_free_lunch(head, "balanced_accuracy")
    assert balanced == pytest.approx(1.0, abs=0.35)  # the theory's tau
    assert balanced > tau


def test_free_lunch_ties_go_to_the_smaller_tau():
    head = predictions(50)
    sure = np.full((50, 3), 1e-9, dtype=np.float32)
    sure[np.arange(50), head.true] = 1
    perfect = HeadPredictions(**{**vars(head), "probabilities": sure, "pred": head.true})
    assert fit_free_lunch(perfect) == 0
    assert fit_free_lunch(perfect, grid=(2.0, 0.5)) == 0.5
    empty = {k: v[:0] for k, v in vars(head).items() if isinstance(v, np.ndarray) and k != "train_counts"}
    assert fit_free_lunch(HeadPredictions(**{**vars(head), **empty})) == 0


def test_the_adjusted_predictions_are_those_that_were_scored():
    head = predictions(seed=3)
    for tau, confusion in zip(
        (0.4, 1.3), tau_confusions(head.probabilities, head.true, head.train_counts, (0.4, 1.3)), strict=True
    ):
        np.testing.assert_array_equal(confusion, confusion_counts(head.true, head.adjusted(tau).pred, 3))


def test_a_class_never_seen_in_training_gets_no_bonus():
    counts = np.array([900, 100, 0])
    shift = prior_shift(counts, 1.0)
    assert shift[2] == shift[:2].min()
    assert shift.argmax() == 1
    head = predictions(k=4, counts=(9000, 800, 200, 0))
    assert (head.adjusted(2.0).pred != 3).all()
    assert np.isfinite(prior_shift(np.zeros(3), 1.0)).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(1, 60))
def test_thresholds_never_lose_on_validation(seed, k, n):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.5), size=n)
    y = rng.integers(0, k, n)
    t = fit_thresholds(p, y)
    assert t.max() == 1
    assert (t > 0).all()
    before, after = (float(macro_f1(confusion_counts(y, pred, k))) for pred in (p.argmax(1), threshold_predict(p, t)))
    assert after >= before - 1e-12


def test_thresholds_find_the_prior_correction():
    head = predictions(8000)
    t = fit_thresholds(head.probabilities, head.true)
    assert t[0] > t[1]
    tuned = score(apply_posthoc({"thresholds": {"thresholds": t.tolist()}}, head))
    one_parameter = score(head.adjusted(fit_free_lunch(head)))
    assert one_parameter > score(head)
    assert tuned > one_parameter - 0.005  # more freedom, on a coarser grid


def test_posthoc_steps_are_fitted_in_order_on_validation():
    head = predictions()
    fitted = fit_posthoc({"logit-adjust": {"tau": "auto"}, "temperature": {}, "tau-norm": {"tau": "auto"}}, head)
    assert list(fitted) == ["logit-adjust", "temperature"]
    assert fitted["logit-adjust"]["tau"] == fit_free_lunch(head)
    after = apply_posthoc(fitted, head)
    adjusted = head.adjusted(fitted["logit-adjust"]["tau"])
    np.testing.assert_array_equal(after.pred, adjusted.pred)
    assert -np.log(after.true_prob).mean() <= -np.log(adjusted.true_prob).mean() + 1e-6
    assert fit_posthoc({"logit-adjust": {"tau": 0.5}}, head) == {"logit-adjust": {"tau": 0.5}}


def test_tau_norm_of_the_classifier():
    rng = np.random.default_rng(0)
    y = rng.choice(3, p=PRIOR, size=600)
    features = np.eye(3)[y] + 0.7 * rng.normal(size=(600, 3))
    weight = np.diag([4.0, 1.0, 0.4])  # lengths follow the frequencies
    tau = fit_tau_norm(features, y, weight)
    assert tau > 0.3
    np.testing.assert_allclose(np.linalg.norm(tau_normalize(weight, 1.0), axis=1), 1)
    bias = np.array([3.0, 0.0, -1.0])
    with_bias = tau_normalized_logits(features, weight, 0.0, bias)
    np.testing.assert_allclose(with_bias, features @ weight.T + bias)
    assert (tau_normalize(np.zeros((2, 3)), 1.0) == 0).all()


# ---- tables --------------------------------------------------------------------------------


def table(n=(150, 40, 15), seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(n)), n)
    X = rng.normal(size=(len(y), 4))
    X[:, 0] += 2.0 * y
    X[:, 1] -= 2.0 * (y == 1)
    return X, y


def fitted(name, options, X, y, n_classes):
    """Probabilities of a table strategy that was fitted on X and y, as a function of rows."""
    model, _ = table_methods.fit_table_model(name, options, X, y, 0)
    return lambda rows: table_methods.class_probabilities(model, rows, n_classes)


@pytest.mark.parametrize("name", names("table"))
def test_every_table_strategy_learns_and_gives_probabilities(name):
    X, y = table()
    options = {"estimators": 10} if name in table_methods.ENSEMBLES else {"classifier": "logistic-regression"}
    if name == "estimator":
        options = {"path": "sklearn.ensemble:ExtraTreesClassifier"}
    if name == "kmeans-smote":
        X, y = table((150, 60, 50))
    predict = fitted(name, options, X, y, 5)
    p = predict(X)
    assert p.shape == (len(X), 5)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p[:, 3:] == 0).all()
    recall = np.diag(confusion_counts(y, p.argmax(1), 5))[:3] / np.bincount(y)
    assert recall.mean() > 0.6
    np.testing.assert_array_equal(fitted(name, options, X, y, 5)(X), p)


@pytest.mark.parametrize("classifier", ["random-forest", "gradient-boosting", "nearest-neighbours"])
def test_classifiers(classifier):
    X, y = table()
    p = fitted("plain", {"classifier": classifier}, X, y, 3)(X)
    assert (p.argmax(1) == y).mean() > 0.8


def test_class_weights_raise_rare_recall():
    X, y = table((400, 60, 15), seed=1)
    options = {"classifier": "logistic-regression"}
    plain = fitted("plain", options, X, y, 3)(X)
    weighted = fitted("plain", {**options, "class_weight": "balanced"}, X, y, 3)(X)
    assert (weighted.argmax(1) == 2)[y == 2].mean() > (plain.argmax(1) == 2)[y == 2].mean()


def test_resampled_features_are_balanced_and_follow_the_seed():
    X, y = table()
    rows, labels = table_methods.resample_features("smote", X, y, seed=1)
    assert np.bincount(labels).tolist() == [150, 150, 150]
    np.testing.assert_array_equal(rows, table_methods.resample_features("smote", X, y, seed=1)[0])
    assert not np.array_equal(rows, table_methods.resample_features("smote", X, y, seed=2)[0])


def test_tables_refuse_bad_input():
    X, y = table((30, 4, 2))
    with pytest.raises(InputError, match=r"'smote' cannot work on these data \(class 2 has 2 examples\)"):
        table_methods.resample_features("smote", X, y, 0)
    with pytest.raises(InputError, match="'smoke' is unknown; allowed: plain, estimator, random-over-sampling"):
        table_methods.fit_table_model("smoke", {}, X, y, 0)
    with pytest.raises(InputError, match="'smoke' is unknown; allowed: random-over-sampling"):
        table_methods.resample_features("smoke", X, y, 0)
    with pytest.raises(InputError, match="hold NaN"):
        table_methods.fit_table_model("plain", {}, np.full((3, 2), np.nan), [0, 1, 0], 0)
    with pytest.raises(InputError, match="has no option 'neighbours'"):
        table_methods.fit_table_model("random-over-sampling", {"neighbours": 3}, X, y, 0)


@pytest.mark.parametrize(
    ("name", "numbers"), [*((name, 2) for name in sorted(table_methods.RESAMPLERS)), ("smote", 0), ("smote-tomek", 0)]
)
def test_no_resampler_makes_fractions_of_a_category(name, numbers):
    from unittest import mock

    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 25, 15])
    codes = (rng.integers(0, 2, 100) + y) % 4
    X = np.column_stack([rng.normal(size=(100, numbers)) + y[:, None], np.eye(4)[codes]])
    given = {}
    classifier = mock.Mock()
    classifier.fit = lambda rows, labels: given.update(rows=rows, labels=labels)
    with mock.patch.object(table_methods, "make_classifier", return_value=classifier):
        table_methods.fit_table_model(name, {}, X, y, 0, category_blocks=[(numbers, numbers + 4)])
    block = given["rows"][:, numbers:]
    assert set(np.unique(block)) <= {0.0, 1.0}
    np.testing.assert_array_equal(block.sum(axis=1), 1)
    if name == "smote":
        assert np.bincount(given["labels"]).tolist() == [60, 60, 60]
