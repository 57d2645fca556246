"""scikit-learn's digits with a random forest: the suite's numbers are scikit-learn's own."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    classification_report,
    confusion_matrix,
    log_loss,
    matthews_corrcoef,
)

from imbalance_lab.analysis.suite import run_suite, tables
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.training.predict import to_predictions


def test_digits_report_agrees_with_scikit_learn() -> None:
    loaded = load_data(
        parse_options(
            {
                "source": "digits",
                "imbalance_ratio": 1,
                "split": {"test_fraction": 0.3, "val_fraction": 0.15, "seed": 42},
            }
        )
    )
    data, splits = loaded.dataset, loaded.splits
    head = next(iter(data.heads))
    x, y = data.continuous[:, 0], data.targets[head][:, 0]
    fit_on = np.concatenate([splits.train, splits.val])
    assert len(splits.test) == pytest.approx(0.3 * len(data), abs=1)
    forest = RandomForestClassifier(n_estimators=100, random_state=42).fit(x[fit_on], y[fit_on])
    p = forest.predict_proba(x[splits.test])
    scores = np.log(np.maximum(p, 1e-9))[:, None, :]  # (n, L = 1, K)
    table = to_predictions(data, splits, splits.test, {head: scores}, {"split": "test"})
    order = np.argsort(data.unit[splits.test], kind="stable")
    true, p = y[splits.test][order], p[order]
    pred = p.argmax(axis=1)
    analysis = run_suite(table, resamples=200)
    found = analysis.heads[head]
    np.testing.assert_array_equal(found.confusion.counts, confusion_matrix(true, pred))
    report = classification_report(true, pred, output_dict=True)
    per_class = tables(analysis)["per_class"].set_index("class")
    for c in range(10):
        row, name = report[str(c)], data.heads[head][c]
        assert per_class.loc[name, "support"] == row["support"]
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert per_class.loc[name, ours] == pytest.approx(row[theirs])
        assert per_class.loc[name, "auprc"] == pytest.approx(average_precision_score(true == c, p[:, c]), abs=1e-3)
    metrics = found.summary.metrics.set_index("metric")["value"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(true, pred))
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, pred))
    assert metrics["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert metrics["mcc"] == pytest.approx(matthews_corrcoef(true, pred))
    calibration = found.confidence.scores.set_index(["variant", "metric"])["value"]
    nll = log_loss(true, np.maximum(p, 1e-9) / np.maximum(p, 1e-9).sum(1, keepdims=True), labels=range(10))
    assert calibration.xs("nll", level="metric").iloc[0] == pytest.approx(nll, rel=1e-4)
