"""Logged classical models: skops files, the same numbers as the run's own predictions."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import skops.io
from test_strategies_wiring import rows, table_trial
from training_cases import selection

from imbalance_lab.training.model_files import write_classifiers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns about its own type hints when it is imported
    from mlflow_project.serving_model import ImbalanceModel


def served(folder):
    model = ImbalanceModel()
    model.load_context(SimpleNamespace(artifacts={"model": str(folder)}))
    return model


@pytest.mark.parametrize("text", ["table: plain", "table: {easy-ensemble: {estimators: 3}}"])
def test_served_probabilities_are_those_of_the_run(text, tmp_path):
    loaded = rows()
    trial = table_trial(text, loaded)
    list(trial.train(selection(loaded)))
    counts = {h: loaded.dataset.class_counts(h, loaded.splits.train).tolist() for h in loaded.dataset.heads}
    steps = {"logit-adjust": {"tau": 1.0}}
    write_classifiers(tmp_path, trial, {h: {"steps": steps, "train_counts": counts[h]} for h in counts})
    d, test = loaded.dataset, loaded.splits.test
    columns = d.coding.decode(d.continuous[test], d.categorical[test])
    answer = served(tmp_path).predict(None, pd.DataFrame({name: values[:, 0] for name, values in columns.items()}))
    own = trial.predict("test", {}).heads["command"].adjusted(1.0)
    assert np.allclose(answer["command_probabilities"][:, 0], own.probabilities, atol=1e-5)
    assert answer["command"][:, 0].tolist() == [own.classes[i] for i in own.pred]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.skops", "1.skops", "about.json"]
    without = served(tmp_path).predict(None, d.continuous[test][:, 0])  # a bare 2-D array: categories unknown
    assert without["side"].shape == (len(test), 1)


def test_a_file_with_foreign_types_is_refused(tmp_path):
    skops.io.dump(SimpleNamespace(x=1), tmp_path / "0.skops")
    (tmp_path / "about.json").write_text(json.dumps({"heads": {"a": ["x", "y"]}, "coding": {}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"types.SimpleNamespace, expected types of scikit-learn"):
        served(tmp_path)
