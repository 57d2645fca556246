"""A team's classifier by import path: checked before training, stored as a list of named types, read back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from strategies.test_wiring import rows, table_trial
from training_cases import selection, tiny

from imbalance_lab.errors import InputError
from imbalance_lab.learners.all_learners import read_model
from imbalance_lab.learners.table_binding import bind_table
from imbalance_lab.strategies.language.catalogue import catalogue
from imbalance_lab.strategies.language.parse import parse_strategy

TREES = "table: {estimator: 'sklearn.ensemble:ExtraTreesClassifier', options: {n_estimators: 5}}"
BAYES = "table: {estimator: 'sklearn.naive_bayes:GaussianNB', class_weight: balanced}"
SMOTE = "table: {estimator: 'sklearn.linear_model:LogisticRegression', resample: random-over-sampling}"


def spec_of(text: str):
    return parse_strategy("s", yaml.safe_load(text), where="test")


@pytest.mark.parametrize("text", [TREES, BAYES, SMOTE])
def test_it_is_fitted_stored_and_read_back(text: str, tmp_path) -> None:
    loaded = rows()
    learner = table_trial(text, loaded)
    (epoch,) = learner.train(selection(loaded))
    learner.save(tmp_path, {})
    assert json.loads((tmp_path / "about.json").read_text())["own"] == spec_of(text).table.options.path
    d, test = loaded.dataset, loaded.splits.test
    inputs = [torch.from_numpy(x[test]) for x in (d.continuous, d.categorical)]
    own, again = learner.predictor(*inputs), read_model(tmp_path).model(*inputs)
    for head in d.heads:
        np.testing.assert_array_equal(own[head].numpy(), again[head].numpy())
    if "resample" in text:
        assert len(set(epoch.seen["command"])) == 1


def test_an_entry_of_a_file_reads_back_as_itself() -> None:
    for text in (TREES, BAYES, SMOTE):
        spec = spec_of(text)
        assert parse_strategy("s", spec.to_mapping(), where="test") == spec


def test_balanced_weights_count_in_the_ledger_and_change_the_fit() -> None:
    loaded = rows()
    plain = BAYES.replace(", class_weight: balanced", "")
    assert bind_table(spec_of(BAYES), loaded, 0).prior_correction["command"] == pytest.approx(1)
    assert bind_table(spec_of(plain), loaded, 0).prior_correction["command"] == pytest.approx(0)
    priors = []
    for text in (BAYES, plain):
        learner = table_trial(text, loaded)
        list(learner.train(selection(loaded)))
        priors.append(learner.models["command"].class_prior_)
    assert np.allclose(priors[0], 1 / len(priors[0]))
    assert not np.allclose(priors[0], priors[1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{estimator: 'no_such_package_here:Tree'}", "does not import"),
        ("{estimator: 'sklearn.ensemble:Forest'}", "has no class 'Forest'"),
        ("{estimator: 'sklearn.svm:LinearSVC'}", "which has no predict_proba"),
        ("{estimator: 'training_cases:Tree'}", "has no class"),
        (
            "{estimator: 'sklearn.ensemble:ExtraTreesClassifier', options: {trees: 3}}",
            "unknown option 'trees'; allowed: n",
        ),
        ("{estimator: 'sklearn.ensemble:ExtraTreesClassifier', options: {n_estimators: -1}}", "cannot be fitted"),
        ("{estimator: 'sklearn.naive_bayes:GaussianNB', resample: smoke}", "resample: found 'smoke'; allowed: random"),
        ("{estimator: 'sklearn.neighbors:KNeighborsClassifier', class_weight: balanced}", "takes no weights"),
        (
            "{estimator: 'sklearn.naive_bayes:GaussianNB', trust: [numpy.testing._private.utils.runstring]}",
            "trust: found",
        ),
        ("{estimator: 'sklearn.naive_bayes:GaussianNB', trust: [sklearn]}", "trust: found 'sklearn'"),
        ("{estimator: 'sklearn.naive_bayes:GaussianNB', trust: [sklearn.utils.resample]}", "names of classes of"),
    ],
)
def test_what_cannot_work_is_refused_before_training(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=f"strategy 's', key table.estimator: .*{sentence}"):
        bind_table(spec_of(f"table: {text}"), rows(), 0)


def test_a_path_is_checked_when_the_file_is_read() -> None:
    with pytest.raises(InputError, match=r"package\.module:Class"):
        spec_of("table: {estimator: lightgbm}")
    with pytest.raises(InputError, match="one step, one label"):
        bind_table(spec_of(TREES), tiny(), 0)


def test_types_that_nobody_named_are_told_and_those_of_the_package_can_be_named(tmp_path) -> None:
    loaded, adam = rows(), "sklearn.neural_network._stochastic_optimizers.AdamOptimizer"
    network = (
        "estimator: 'sklearn.neural_network:MLPClassifier', options: {max_iter: 300, hidden_layer_sizes: [4], tol: 1}"
    )
    told = rf"a stored .*MLPClassifier holds {adam}, which is not trusted.*: trust: \[{adam}\]$"
    with pytest.raises(InputError, match=told):
        bind_table(spec_of(f"table: {{{network}}}"), loaded, 0)
    learner = table_trial(f"table: {{{network}, trust: [{adam}]}}", loaded)
    list(learner.train(selection(loaded)))
    learner.save(tmp_path, {})
    assert read_model(tmp_path).heads.keys() == loaded.dataset.heads.keys()
    about = json.loads((tmp_path / "about.json").read_text())
    (tmp_path / "about.json").write_text(json.dumps({**about, "trust": []}))
    with pytest.raises(InputError, match=f"holds {adam}"):
        read_model(tmp_path)


def test_lightgbm_with_weights_and_samplers_is_stored_and_read_back(tmp_path, capfd) -> None:
    pytest.importorskip("lightgbm", reason="lightgbm is not installed; pip install .[loops]")
    loaded = rows()
    own = "estimator: 'lightgbm:LGBMClassifier', options: {n_estimators: 4, min_child_samples: 2}"
    with pytest.raises(InputError, match=r"trust: \[lightgbm.basic.Booster\]$"):
        bind_table(spec_of(f"table: {{{own}}}"), loaded, 0)
    own += ", trust: [lightgbm.basic.Booster]"
    found = {}
    for more in ("", ", class_weight: balanced", ", resample: random-over-sampling"):
        text = f"table: {{{own}{more}}}"
        bind_table(spec_of(text), loaded, 0)
        assert capfd.readouterr() == ("", "")  # what it says of the made-up rows
        learner = table_trial(text, loaded)
        list(learner.train(selection(loaded)))
        capfd.readouterr()
        learner.save(tmp_path / more, {})
        d, test = loaded.dataset, loaded.splits.test
        inputs = [torch.from_numpy(x[test]) for x in (d.continuous, d.categorical)]
        again = read_model(tmp_path / more).model(*inputs)
        for head, logits in learner.predictor(*inputs).items():
            np.testing.assert_array_equal(again[head].numpy(), logits.numpy())
        found[more] = again["command"].numpy()
    assert not np.allclose(found[""], found[", class_weight: balanced"])
    assert not np.allclose(found[""], found[", resample: random-over-sampling"])


def test_a_stored_file_cannot_widen_what_is_trusted(tmp_path) -> None:
    loaded = rows()
    learner = table_trial(TREES, loaded)
    list(learner.train(selection(loaded)))
    learner.save(tmp_path, {})
    about = json.loads((tmp_path / "about.json").read_text())
    for trust in (["builtins.eval"], ["numpy.testing._private.utils.runstring"], ["sklearn"]):
        (tmp_path / "about.json").write_text(json.dumps({**about, "trust": trust}))
        with pytest.raises(InputError, match="trust: found"):
            read_model(tmp_path)


def test_gradient_boosting_is_a_name_of_the_catalogue() -> None:
    spec = parse_strategy("g", catalogue()["gradient-boosting"])
    assert spec.table is not None
    assert spec.table.options.classifier == "gradient-boosting"  # type: ignore[attr-defined]
