"""Logged models give the labels of the run's own predictions; classical ones are skops files."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from strategies.test_wiring import rows, table_trial
from training_cases import selection, tiny, trial_of

from imbalance_lab.learners.all_learners import read_model
from imbalance_lab.strategies.table_methods import ENSEMBLES, Classifier

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns about its own type hints when it is imported
    from imbalance_lab.run.trial import fitted_predictions
    from mlflow_project.serving_model import ImbalanceModel

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
    ),
]


def served(folder):
    model = ImbalanceModel()
    model.load_context(SimpleNamespace(artifacts={"model": str(folder)}, model_config=None))
    return model


@pytest.mark.parametrize("text", ["table: plain", "table: {easy-ensemble: {estimators: 3}}"])
def test_served_probabilities_are_those_of_the_run(text, tmp_path):
    loaded = rows()
    trial = table_trial(text, loaded)
    list(trial.train(selection(loaded)))
    counts = {h: loaded.dataset.class_counts(h, loaded.splits.train).tolist() for h in loaded.dataset.heads}
    steps = {"logit-adjust": {"tau": 1.0}}
    trial.save(tmp_path, {h: {"steps": steps, "train_counts": counts[h]} for h in counts})
    d, test = loaded.dataset, loaded.splits.test
    columns = d.coding.decode(d.continuous[test], d.categorical[test])
    answer = served(tmp_path).predict(None, pd.DataFrame({name: values[:, 0] for name, values in columns.items()}))
    own = trial.predict("test", {}).heads["command"].adjusted(1.0)
    assert np.allclose(answer["command_probabilities"][:, 0], own.probabilities, atol=1e-5)
    assert answer["command"][:, 0].tolist() == [own.classes[i] for i in own.pred]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.skops", "1.skops", "about.json"]
    without = served(tmp_path).predict(None, d.continuous[test][:, 0])  # a bare 2-D array: categories unknown
    assert without["side"].shape == (len(test), 1)


def same_labels(answer, run, loaded):
    """Every row of a run's test predictions has the label that the served model gives it."""
    d, test = loaded.dataset, loaded.splits.test
    row_of = {unit: i for i, unit in enumerate(d.unit[test].tolist())}
    for head, own in run.heads.items():
        row = np.array([row_of[unit] for unit in own.sequence.tolist()])
        assert len(own) == int(d.class_counts(head, test).sum()) > 0
        assert answer[head][row, own.position].tolist() == [own.classes[i] for i in own.pred]
        served = answer[f"{head}_probabilities"][row, own.position]
        np.testing.assert_allclose(served, own.probabilities, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{head: cosine, loss: ldam}",
        "posthoc: {tau-norm: {tau: auto}}",
        "posthoc: {logit-adjust: {tau: auto}}",
        "posthoc: thresholds",
        "schedule: {crt: {start: 0.5, resample: random-over-sampling}}",
    ],
)
def test_a_served_network_gives_the_labels_of_the_run(text, precision, device, tmp_path):
    """Trained in whatever precision and wherever: scored and served in float32."""
    if precision == "bfloat16" and device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no bfloat16")
    loaded = tiny()
    trial = trial_of(text, device=device, precision=precision, epochs=2)
    list(trial.train(selection()))
    predicted = fitted_predictions(trial, {}, "macro_f1")
    run, posthoc = predicted.test, predicted.posthoc
    trial.save(tmp_path, posthoc)
    d, test = loaded.dataset, loaded.splits.test
    answer = served(tmp_path).predict(None, {"continuous": d.continuous[test].astype(np.float64)})
    same_labels(answer, run, loaded)


@pytest.mark.parametrize(
    "text",
    [
        "table: plain",
        "{table: balanced-random-forest, posthoc: {logit-adjust: {tau: auto}}}",
        # classifiers by import path
        "{table: {estimator: 'sklearn.ensemble:HistGradientBoostingClassifier', options: {max_iter: 5}}, "
        "posthoc: {logit-adjust: {tau: auto}}}",
        "table: {estimator: 'sklearn.naive_bayes:GaussianNB', class_weight: balanced}",
        "table: {estimator: 'sklearn.linear_model:LogisticRegression', resample: random-over-sampling}",
    ],
)
def test_a_served_classical_model_gives_the_labels_of_the_run(text, tmp_path):
    loaded = rows()
    trial = table_trial(text, loaded)
    list(trial.train(selection(loaded)))
    predicted = fitted_predictions(trial, {}, "macro_f1")
    run, posthoc = predicted.test, predicted.posthoc
    trial.save(tmp_path, posthoc)
    d, test = loaded.dataset, loaded.splits.test
    columns = d.coding.decode(d.continuous[test], d.categorical[test])
    answer = served(tmp_path).predict(None, pd.DataFrame({name: values[:, 0] for name, values in columns.items()}))
    same_labels(answer, run, loaded)


def test_a_file_with_foreign_types_is_refused(tmp_path):
    skops.io.dump(SimpleNamespace(x=1), tmp_path / "0.skops")
    (tmp_path / "about.json").write_text(json.dumps({"heads": {"a": ["x", "y"]}, "coding": {}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"types.SimpleNamespace, expected the types of the catalogue"):
        served(tmp_path)


def test_a_file_that_would_run_a_command_is_refused(tmp_path):
    """numpy.testing holds a function that executes its argument; trusting a package would trust that too."""
    from numpy.testing._private.utils import runstring

    skops.io.dump({"step": runstring}, tmp_path / "0.skops")
    (tmp_path / "about.json").write_text(json.dumps({"heads": {"a": ["x", "y"]}, "coding": {}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"numpy\.testing\._private\.utils\.runstring, expected the types"):
        served(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *(f"table: {{plain: {{classifier: {c}}}}}" for c in get_args(Classifier)),
        *(f"table: {{{name}: {{estimators: 3}}}}" for name in ENSEMBLES),
        "table: smote",
    ],
)
def test_every_classifier_of_the_catalogue_can_be_read_back(text, tmp_path):
    loaded = rows()
    trial = table_trial(text, loaded)
    list(trial.train(selection(loaded)))
    counts = {h: loaded.dataset.class_counts(h, loaded.splits.train).tolist() for h in loaded.dataset.heads}
    trial.save(tmp_path, {h: {"steps": {}, "train_counts": counts[h]} for h in counts})
    assert read_model(tmp_path).heads == {h: tuple(c) for h, c in loaded.dataset.heads.items()}
