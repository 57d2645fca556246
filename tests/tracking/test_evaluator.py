"""The ``imbalance`` plug-in of ``mlflow.models.evaluate``."""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from imbalance_lab.analysis.suite import run_suite, tables
from imbalance_lab.errors import InputError
from imbalance_lab.evaluation.evaluation_config import check_config
from imbalance_lab.evaluation.evaluation_inputs import Answer, answer_of_output, evaluated
from imbalance_lab.predictions import read_parquet
from mlflow_project.evaluator import ImbalanceEvaluator, TableArtifact

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader"),
    # What MLflow's own evaluator and model logging warn about is not this project's.
    pytest.mark.filterwarnings("ignore:::mlflow"),
    pytest.mark.filterwarnings("ignore:.*integer column"),
    pytest.mark.filterwarnings("ignore:.*pickle"),
    pytest.mark.filterwarnings("ignore:.*(load|exec)_module"),  # of MLflow's import hooks
]


def rare_table(n=400, seed=0):
    """Three classes (80, 15, 5 %) on two features, 20 groups."""
    rng = np.random.default_rng(seed)
    y = rng.choice(["common", "less", "rare"], p=[0.8, 0.15, 0.05], size=n)
    centre = {"common": (0.0, 0.0), "less": (2.0, 0.0), "rare": (0.0, 2.0)}
    x = np.array([centre[c] for c in y]) + rng.normal(size=(n, 2))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "target": y}), np.arange(n) % 20


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store, active for the test."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 40)
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("evaluated", artifact_location=(tmp_path / "artifacts").as_uri())
    )
    yield mlflow.MlflowClient(tracking_uri=uri)
    mlflow.set_tracking_uri("")


def names_of(client, run_id, folder=None):
    return {item.path for item in client.list_artifacts(run_id, folder)}


def check_metrics(metrics, true, pred):
    assert metrics["test/target/macro_f1"] == pytest.approx(f1_score(true, pred, average="macro"))
    assert metrics["test/target/balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, pred))
    for name, value in zip(np.unique(true), recall_score(true, pred, average=None), strict=True):
        assert metrics[f"test/target/recall/{name}"] == pytest.approx(value)


def test_sklearn_model_beside_the_default_evaluator(store, tmp_path):
    table, groups = rare_table()
    features, y = table[["a", "b"]], table["target"]
    model = LogisticRegression().fit(features, y)
    with mlflow.start_run() as run:
        uri = mlflow.sklearn.log_model(model, name="model", serialization_format="skops").model_uri
        result = mlflow.models.evaluate(
            uri,
            table,
            targets="target",
            model_type="classifier",
            evaluators=["default", "imbalance"],
            evaluator_config={
                "default": {"log_model_explainability": False},
                "imbalance": {"group": groups, "train_counts": y.value_counts().to_dict(), "resamples": 100},
            },
        )
    check_metrics(result.metrics, y, model.predict(features))
    assert result.metrics["accuracy_score"] == pytest.approx(result.metrics["test/target/accuracy"])
    logged = store.get_run(run.info.run_id)
    assert logged.data.metrics["test/target/macro_f1"] == result.metrics["test/target/macro_f1"]
    assert {"confusion.png", "per_class.png", "calibration.png", "report", "tables"} <= names_of(store, run.info.run_id)
    assert isinstance(result.artifacts["imbalance_per_class"], TableArtifact)
    assert set(result.artifacts["imbalance_per_class"].content["class"]) == {"common", "less", "rare"}
    carried = read_parquet(
        tmp_path / mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/predictions/test.parquet")
    )
    np.testing.assert_allclose(carried.heads["target"].probabilities, model.predict_proba(features), atol=1e-6)
    assert len(carried.heads["target"].group_names) == 20


def test_imbalanced_learn_pipeline(store):
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.pipeline import make_pipeline

    table, groups = rare_table()
    features, y = table[["a", "b"]], table["target"]
    model = make_pipeline(RandomOverSampler(random_state=0), LogisticRegression()).fit(features, y)
    trusted = ["imblearn.over_sampling._random_over_sampler.RandomOverSampler", "imblearn.pipeline.Pipeline"]
    with mlflow.start_run() as run:
        uri = mlflow.sklearn.log_model(
            model, name="model", serialization_format="skops", skops_trusted_types=trusted
        ).model_uri
        result = mlflow.models.evaluate(
            uri,
            table,
            targets="target",
            model_type="classifier",
            evaluators="imbalance",
            evaluator_config={"group": groups, "resamples": 100},
        )
    check_metrics(result.metrics, y, model.predict(features))
    notes = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/imbalance_notes.json")["notes"]
    assert any("train_counts" in note for note in notes)


def test_static_labels_give_no_calibration(store):
    table, _ = rare_table()
    table["said"] = np.where(table["a"] > 1, "less", "common")
    with mlflow.start_run() as run:
        result = mlflow.models.evaluate(
            data=table,
            targets="target",
            predictions="said",
            model_type="classifier",
            evaluators="imbalance",
            evaluator_config={"resamples": 100},
        )
    check_metrics(result.metrics, table["target"], table["said"])
    found = names_of(store, run.info.run_id) | names_of(store, run.info.run_id, "tables")
    assert {"confusion.png", "tables/per_class.json"} <= found
    for absent in ("calibration.png", "predictions", "error_analysis_report.json", "tables/calibration.json"):
        assert absent not in found
    assert not [name for name in found if "confiden" in name or "reliab" in name or "hard_examples" in name]
    assert "auprc" not in result.artifacts["imbalance_per_class"].content
    page = result.artifacts["imbalance_report"].content
    assert "labels without probabilities" in page
    assert "Calibration error (ECE)" not in page


def test_static_probabilities_of_two_models_can_be_compared(store):
    from mlflow_project.__main__ import main

    table, groups = rare_table()
    table["machine"] = groups
    classes = ["common", "less", "rare"]
    columns = {c: f"p_{c}" for c in classes}
    for name, seed in (("first", 1), ("second", 2)):
        p = np.random.default_rng(seed).dirichlet(np.ones(3), size=len(table))
        said = table.assign(said=np.array(classes)[p.argmax(axis=1)], **dict(zip(columns.values(), p.T, strict=True)))
        with mlflow.start_run(run_name=name) as run:
            result = mlflow.models.evaluate(
                data=said,
                targets="target",
                predictions="said",
                model_type="classifier",
                evaluators="imbalance",
                evaluator_config={"probability_columns": columns, "group": "machine", "resamples": 100},
            )
        check_metrics(result.metrics, said["target"], said["said"])
        assert "calibration.png" in names_of(store, run.info.run_id)
    assert main(["compare", "--experiment_name", "evaluated", "--baseline", "first"]) == 0
    (made,) = store.search_runs([run.info.experiment_id], "tags.role = 'comparison'")
    assert made.data.metrics["leaderboard/target/macro_f1/second"] == pytest.approx(
        result.metrics["test/target/macro_f1"]
    )


def test_what_labels_allow_does_not_depend_on_probabilities():
    table, groups = rare_table()
    said = np.where(table["a"] > 1, "less", "common")
    config = {"group": groups, "positions": np.arange(len(table)) // 20, "label_list": ["common", "less", "rare"]}
    common = {"head": "target", "name": "n", "run_id": "r"}
    random = np.random.default_rng(0).dirichlet(np.ones(3), size=len(table))
    found = [
        evaluated(Answer(said, p, c), table["target"], None, config, **common).predictions
        for p, c in ((None, None), (random, ("common", "less", "rare")))
    ]
    first, second = (tables(run_suite(f, resamples=100, labels_only=True)) for f in found)
    assert set(first) == set(second)
    assert "transitions" in first
    for name in first:
        pd.testing.assert_frame_equal(first[name], second[name], obj=name)


def test_outputs_of_pyfunc_models():
    p = np.array([[0.2, 0.8], [0.9, 0.1]])
    listed = {"label_list": ["no", "yes"]}
    assert answer_of_output(p, None, listed).classes == ("no", "yes")
    frame = pd.DataFrame(p, columns=["p_no", "p_yes"]).assign(label=["yes", "no"])
    asked = {**listed, "probability_columns": ["p_no", "p_yes"]}
    answer = answer_of_output(frame, "label", asked)
    assert answer.labels.tolist() == ["yes", "no"]
    np.testing.assert_array_equal(answer.probabilities, p)
    heads = {"state": np.array([["yes"], ["no"]]), "state_probabilities": p[:, None, :]}
    answer = answer_of_output(heads, "state", listed)
    assert answer.labels.tolist() == ["yes", "no"]
    np.testing.assert_array_equal(answer.probabilities, p)
    assert answer_of_output(["yes", "no"], None, {}).probabilities is None


@pytest.mark.parametrize(
    ("answer", "config", "message"),
    [
        (Answer(np.array(["x", "y", "other"])), {"label_list": ["x", "y"]}, "unknown class 'other'"),
        (Answer(np.array(["x", "y"])), {}, "2 labels for 3 rows"),
        (Answer(None, np.ones((3, 2)), ("x", "y")), {}, "sum to"),
        (Answer(np.array(["x", "y", "x"])), {"group": [1, 2]}, "2 values for 3 rows"),
        (Answer(np.array(["x", "y", "x"])), {"positions": [0, 1, 2]}, "needs 'group'"),
        (Answer(np.array(["x", "y", "x"])), {"group": [0, 0, 1], "positions": [0, 0, 0]}, "occurs twice"),
        (Answer(np.array(["x", "y", "x"])), {"train_counts": {"z": 1}}, "unknown class 'z'"),
    ],
)
def test_wrong_input_is_one_sentence(answer, config, message):
    with pytest.raises(InputError, match=message):
        evaluated(answer, ["x", "y", "y"], None, config, head="h", name="n", run_id="r")


def analysed(true, pred, config=None):
    return evaluated(Answer(pred), true, None, config or {}, head="h", name="n", run_id="r")


@pytest.mark.parametrize(
    "true",
    [
        [0.0, np.nan, 1.0, 1.0],
        np.array([0.0, np.nan, 1.0, 1.0]),
        ["0", None, "1", "1"],
        ["0", "", "1", "1"],
        pd.Series([0, pd.NA, 1, 1], dtype="Int64"),
        pd.Series(["0", pd.NA, "1", "1"], dtype="string"),
        pd.Series(["0", None, "1", "1"], dtype="category"),
        [False, pd.NaT, True, True],
    ],
)
@pytest.mark.parametrize(
    "pred", [[0, 0, 1, 0], ["0", "0", "1", "0"], [0.0, 0.0, 1.0, 0.0], [False, False, True, False]]
)
def test_missing_labels_are_left_out_and_types_match(true, pred):
    digits, flags = (isinstance(v, str) for v in (true[0], pred[0])), (isinstance(v, bool) for v in (true[0], pred[0]))
    if any(digits) and any(flags):
        with pytest.raises(InputError, match="they share no class"):
            analysed(true, np.array(pred))
        return
    found = analysed(true, np.array(pred))
    table = found.predictions.heads["h"]
    assert table.true.tolist() == [0, 1, 1]
    assert table.pred.tolist() == [0, 1, 0]
    assert table.group_names == ("row 0", "row 2", "row 3")
    assert "1 of 4 rows has no label and was left out." in found.notes


def test_values_beside_the_labels_follow_the_rows_that_are_left():
    features = pd.DataFrame({"machine": ["a", "a", "b", "b"], "place": [0, 1, 0, 1], "shift": ["x", "y", None, "x"]})
    config = {"group": "machine", "positions": "place", "slices": ["shift"], "train_counts": {1: 5, 0.0: 7}}
    answer = Answer(np.array(["1", "0", "1", "0"]), np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6], [1.0, 0.0]]), (0, 1))
    found = evaluated(answer, ["1", None, "1", "0"], features, config, head="h", name="n", run_id="r")
    table = found.predictions.heads["h"]
    assert table.classes == ("0", "1")
    assert table.train_counts.tolist() == [7, 5]
    np.testing.assert_allclose(table.probabilities[:, 0], [0.1, 0.4, 1.0])
    assert [table.group_names[g] for g in table.group] == ["a", "b", "b"]
    assert table.position.tolist() == [0, 0, 1]
    assert [table.slice_names["shift"][c] for c in table.slices["shift"]] == ["x", "missing", "x"]


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (["a", "b"], [0, 1], r"targets are texts \('a', 'b'\), predictions are numbers \('0', '1'\): they share no"),
        (["01", "1"], [1, 1], "'01' and '1' are both 1"),
        ([True, False], ["yes", "no"], "they share no class"),
        ([None, np.nan], ["a", "b"], "none of the 2 rows has a label"),
        (["a", "b"], ["a", None], r"predictions: row 1 \(from 0\) is missing"),
    ],
)
def test_labels_that_do_not_match_are_one_sentence(true, pred, message):
    with pytest.raises(InputError, match=message):
        analysed(true, pred)


def test_text_and_booleans_match_without_case():
    table = analysed(["true", "FALSE", "true"], [True, False, False]).predictions.heads["h"]
    assert table.classes == ("False", "True")
    assert table.right.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tried": "abc"}, "key 'tried': found 'abc'; expected a list"),
        ({"label_list": "ab"}, "key 'label_list': found 'ab'; expected a list"),
        ({"label_list": ["a", "a"]}, "'a' is listed twice"),
        ({"label_list": []}, "at least one class"),
        ({"train_counts": [3, 4]}, "key 'train_counts'"),
        ({"train_counts": {"a": -1}}, "key 'train_counts'"),
        ({"resamples": 0}, "key 'resamples': found 0"),
        ({"seed": "x"}, "key 'seed': found 'x'"),
        ({"split": 3}, "key 'split': found 3"),
        ({"slices": "machine"}, "key 'slices': found 'machine'"),
        ({"probability_columns": "p"}, "key 'probability_columns'"),
        ({"group": 3}, "key 'group': found 3"),
        ({"head": 3}, "key 'head'"),
        ({"strategy": 3}, "key 'strategy'"),
        ({"metric_prefix": 3}, "key 'metric_prefix'"),
    ],
)
def test_every_key_of_the_configuration_is_checked(config, message):
    with pytest.raises(InputError, match=message):
        check_config(config)


def test_the_documented_keys_are_the_allowed_ones():
    import re

    with pytest.raises(InputError) as refused:
        check_config({"?": 1})
    allowed = str(refused.value).partition("allowed are ")[2].split(", ")
    assert set(re.findall(r"``(\w+)``", ImbalanceEvaluator.__doc__)) - {"test"} == set(allowed)
    check_config(
        {
            "label_list": np.array(["a", "b"]),
            "probability_columns": {"a": "pa", "b": "pb"},
            "train_counts": {"a": np.int64(3)},
            "group": pd.Series([1, 2]),
            "positions": (0, 1),
            "slices": {"shift": ["x", "y"]},
            "tried": ("focal",),
            "resamples": 50,
            "seed": None,
        }
    )


def test_wrong_configuration_and_model_type():
    with pytest.raises(InputError, match="unknown key 'grops'"):
        ImbalanceEvaluator().evaluate(
            model_type="classifier", dataset=None, run_id="r", evaluator_config={"grops": [1]}
        )
    with pytest.raises(InputError, match="label_list"):
        answer_of_output(np.ones((3, 2)), None, {})
    assert not ImbalanceEvaluator.can_evaluate(model_type="regressor", evaluator_config={})


def test_entry_point_is_registered():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="mlflow.model_evaluator", name="imbalance")
    assert found.load() is ImbalanceEvaluator
