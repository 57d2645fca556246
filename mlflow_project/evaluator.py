"""The error analysis for any classifier, in an MLflow run.

By ``mlflow.models.evaluate(..., evaluators=["default", "imbalance"])``, or from a loop of one's own by
:func:`log_error_analysis`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric
from mlflow.models import EvaluationArtifact, EvaluationResult
from mlflow.models.evaluation.artifacts import ImageEvaluationArtifact, TextEvaluationArtifact
from mlflow.models.evaluation.base import ModelEvaluator
from mlflow.tracking import MlflowClient

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from imbalance_lab.evaluation.evaluation_inputs import Answer
    from imbalance_lab.learners.stored import StoredModel


class TableArtifact(EvaluationArtifact):  # type: ignore[misc] # mlflow.models is not typed
    """A table of the run as a DataFrame."""

    def _save(self, output_artifact_path: str) -> None:
        Path(output_artifact_path).write_text(self.content.to_json(orient="split", index=False), encoding="utf-8")

    def _load_content_from_file(self, local_artifact_path: str) -> Any:
        from imbalance_lab.run.trial_files import read_table

        return read_table(Path(local_artifact_path))


class ImbalanceEvaluator(ModelEvaluator):
    """Adds metrics, tables, figures and the report to the run that evaluates a classifier.

    Scikit-learn and pyfunc models, functions and static predictions are read; probabilities where
    there are any. Optional keys of ``evaluator_config={"imbalance": {...}}``:

    ``label_list`` (classes, in the order of probability columns), ``probability_columns`` (class to
    column, or columns in the order of ``label_list``), ``train_counts`` (class to count), ``group`` and
    ``positions`` (values or the name of a column; positions count from 0 within a group),
    ``slices`` (columns, or name to values), ``head`` (of the answer, and what the labels are called),
    ``split`` (``test``), ``strategy`` (the run's name), ``seed`` (0), ``tried`` (names of strategies that
    are not recommended again), ``resamples`` (1000, of the intervals), ``metric_prefix``.

    Rows without a label are left out and counted in ``imbalance_notes.json``. Classes are matched by
    what they say: 1.0 is 1, and beside numbers ``"1"`` is 1 too.
    """

    name = "imbalance"

    @classmethod
    def can_evaluate(cls, *, model_type: str, evaluator_config: dict[str, Any], **_: Any) -> bool:
        """Classifiers only."""
        return model_type == "classifier"

    def evaluate(
        self,
        *,
        model_type: str,
        dataset: Any,
        run_id: str,
        evaluator_config: dict[str, Any] | None,
        model: Any = None,
        extra_metrics: Any = None,
        custom_artifacts: Any = None,
        predictions: str | None = None,
        **_: Any,
    ) -> EvaluationResult:
        """Analyse and log to ``run_id``.

        Raises
        ------
        InputError
            If a key of the configuration or the model's answer does not fit the data.
        """
        # Heavy imports wait for the first evaluation: MLflow loads this module with every plug-in.
        from imbalance_lab.errors import InputError
        from imbalance_lab.evaluation.evaluation_config import check_config
        from imbalance_lab.evaluation.evaluation_inputs import (
            Answer,
            answer_of_table,
            evaluated,
        )
        from imbalance_lab.predictions import write_parquet
        from imbalance_lab.run.scores import prediction_metrics
        from imbalance_lab.run.trial_files import write_analysis

        config = dict(evaluator_config or {})
        check_config(config)
        features = dataset.features_data
        if model is not None:
            answer = _answer_of_model(model, features, predictions, config)
        elif dataset.predictions_data is None:
            raise InputError("the imbalance evaluator needs a model or a column of predictions; neither was given")
        else:
            answer = Answer(dataset.predictions_data)
            if config.get("probability_columns") is not None:
                scored = answer_of_table(features, None, {**config})
                answer = Answer(answer.labels, scored.probabilities, scored.classes)
        head = str(config.get("head") or getattr(dataset, "targets_name", None) or "label")
        client = MlflowClient()
        run = client.get_run(run_id)
        found = evaluated(
            answer, dataset.labels_data, features, config, head=head, name=run.info.run_name, run_id=run_id
        )
        tried, resamples = tuple(config.get("tried", ())), int(config.get("resamples", 1000))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            verdict = write_analysis(
                found.predictions,
                folder,
                tried=tried,
                resamples=resamples,
                labels_only=not found.has_probabilities,
            )
            if found.has_probabilities:
                split = found.predictions.meta["split"]
                write_parquet(found.predictions, folder / "predictions" / f"{split}.parquet")
            (folder / "imbalance_notes.json").write_text(
                json.dumps({"verdict": verdict, "notes": found.notes}, indent=1), encoding="utf-8"
            )
            client.log_artifacts(run_id, str(folder))
            artifacts = _artifacts(folder, run.info.artifact_uri.rstrip("/"))
        values = prediction_metrics(found.predictions)
        prefix = config.get("metric_prefix") or ""
        values = {f"{prefix}{key}": value for key, value in values.items()}
        _log_metrics(client, run_id, values)
        client.set_tag(run_id, "imbalance.verdict", verdict)
        return EvaluationResult(metrics=values, artifacts=artifacts, run_id=run_id)


def _answer_of_model(model: Any, features: Any, column: str | None, config: Mapping[str, Any]) -> Answer:
    """Ask a pyfunc model; the estimator inside a scikit-learn flavour is asked for its probabilities too."""
    import numpy as np
    from mlflow.models.evaluation.default_evaluator import _extract_raw_model

    from imbalance_lab.evaluation.evaluation_inputs import Answer, answer_of_output
    from imbalance_lab.predictions import primary_head

    _, raw = _extract_raw_model(model)
    if raw is not None:
        labels = np.asarray(raw.predict(features))
        # A property of a pipeline that its last step does not offer raises AttributeError.
        if hasattr(raw, "predict_proba") and hasattr(raw, "classes_"):
            return Answer(labels, np.asarray(raw.predict_proba(features), dtype=np.float64), tuple(raw.classes_))
        return Answer(labels)
    output = model.predict(features)
    stored = _stored_model(model)
    if stored is not None and config.get("label_list") is None:
        head = column or config.get("head") or primary_head(stored.heads)
        config = {**config, "label_list": stored.heads.get(head)}
    return answer_of_output(output, column, config)


def _stored_model(model: Any) -> StoredModel | None:
    """What this project's own logged models hold, which tells their classes."""
    from mlflow.exceptions import MlflowException

    try:
        return getattr(model.unwrap_python_model(), "stored", None)
    except (AttributeError, MlflowException):
        return None


def _log_metrics(client: MlflowClient, run_id: str, values: dict[str, float]) -> None:
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(key, value, now, 0) for key, value in values.items()])


def _artifacts(folder: Path, base: str) -> dict[str, Any]:
    """What ``EvaluationResult.artifacts`` offers: the main table and figure, and the page."""
    from PIL import Image

    def uri(path: str) -> str:
        return f"{base}/{path}"

    from imbalance_lab.run.trial_files import read_table

    with Image.open(folder / "confusion.png") as image:
        image.load()
    return {
        "imbalance_per_class": TableArtifact(
            uri("tables/per_class.json"), read_table(folder / "tables" / "per_class.json")
        ),
        "imbalance_confusion": ImageEvaluationArtifact(uri("confusion.png"), image),
        "imbalance_report": TextEvaluationArtifact(
            uri("report/index.html"), (folder / "report" / "index.html").read_text(encoding="utf-8")
        ),
    }


def log_error_analysis(
    true: ArrayLike | Mapping[str, ArrayLike],
    probabilities: ArrayLike | Mapping[str, ArrayLike],
    *,
    classes: Sequence[str] | Mapping[str, Sequence[str]],
    groups: ArrayLike | None = None,
    train_counts: ArrayLike | Mapping[str, ArrayLike] | None = None,
) -> str:
    """Run every analysis and log tables, figures, report, predictions and metrics to the active run.

    Returns the verdict in one sentence. Parameters are those of
    :func:`imbalance_lab.face.make_head_predictions`; the run stays active.

    Raises
    ------
    InputError
        If no run is active, or an array does not fit.
    """
    import mlflow

    from imbalance_lab.errors import InputError
    from imbalance_lab.face import make_head_predictions
    from imbalance_lab.predictions import write_parquet
    from imbalance_lab.run.scores import prediction_metrics
    from imbalance_lab.run.trial_files import write_analysis

    run = mlflow.active_run()
    if run is None:
        raise InputError("log_error_analysis: no MLflow run is active; call it within mlflow.start_run()")
    found = make_head_predictions(true, probabilities, classes, groups=groups, train_counts=train_counts)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        verdict = write_analysis(found, folder)
        write_parquet(found, folder / "predictions" / "test.parquet")
        mlflow.log_artifacts(str(folder), run_id=run.info.run_id)
    mlflow.log_metrics(prediction_metrics(found), run_id=run.info.run_id)
    mlflow.set_tag("imbalance.verdict", verdict)
    return verdict
