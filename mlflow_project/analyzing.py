"""The error analysis of a run or of a predictions table that exists already."""

from __future__ import annotations

from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from imbalance_lab.data.cache import load_cached
from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.errors import InputError
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.names import key
from imbalance_lab.predictions import Predictions, read_parquet
from imbalance_lab.spec import parse_experiment
from mlflow_project import runs
from mlflow_project.course import logged_course
from mlflow_project.run_artifacts import Origin, write_analysis
from mlflow_project.schema import class_metrics, head_metrics
from mlflow_project.tracking import WORK, RunLogger, open_store, start_parent


def analyze_run(run_id: str, folder: Path) -> tuple[RunLogger, str]:
    """Analyse the test predictions of a run again and log the result to that run; returns its logger and the verdict.

    The gallery is drawn where the grid's local copy of the data is still there, the training curves from the
    metrics that the run logged.

    Raises
    ------
    InputError
        If there is no such run, or it carries no predictions.
    """
    client = runs.client_of_store()
    run = runs.get_run(client, run_id, "run_id")
    predictions = runs.predictions_of(client, run, folder / "download")
    if predictions is None:
        raise InputError(f"--run_id: run {run_id!r} carries no {runs.PREDICTIONS}, which the analysis is made from")
    origin = _origin(client, run, folder / "download")
    out = folder / "analysis"
    dataset = local_dataset(run.data.tags.get("mlflow.parentRunId", run_id), predictions)
    val = runs.artifact(client, run_id, "predictions/val.parquet", folder / "download" / run_id)
    labels = None if val is None else read_parquet(val)
    course = logged_course(client, run, predictions.primary, labels)
    verdict = write_analysis(predictions, out, origin=origin, dataset=dataset, course=course)
    logger = RunLogger(runs.store_of(client, run), run_id)
    logger.folder(out)
    runs.take_launcher(client, run_id, f"Analysed run `{run_id}` again; the report is there. {verdict}")
    return logger, verdict


def _origin(client: MlflowClient, run: Run, folder: Path) -> Origin | None:
    """The experiment that a run logged; None where it logged none, or one that this version does not read."""
    found = runs.spec_of(client, run, folder)
    try:
        return Origin(run.info.run_id, parse_experiment(found, where="spec.yaml")) if found else None
    except InputError:
        return None


def analyze_file(path: Path, experiment: str, folder: Path) -> tuple[RunLogger, str]:
    """Analyse a predictions table and log the result to a new run with the tag ``role=analysis``."""
    predictions = read_parquet(path)
    out = folder / "analysis"
    verdict = write_analysis(predictions, out)
    store = open_store(experiment)
    logger = start_parent(store, f"analysis of {path.stem}", {"role": "analysis", **_tags(predictions)})
    try:
        logger.metrics(prediction_metrics(predictions))
        logger.folder(out)
        logger.client.log_artifact(logger.run_id, str(path), "predictions")
        logger.describe(verdict)
    except BaseException:
        logger.finish("FAILED")
        raise
    logger.finish("FINISHED")
    return logger, verdict


def local_dataset(grid_run_id: str, predictions: Predictions) -> SequenceDataset | None:
    """The data of a grid where its local copy is still there and is what was predicted on; else None."""
    folder = WORK / grid_run_id / "data"
    if not (folder / "about.json").is_file():
        return None
    dataset = load_cached(folder).dataset
    return dataset if dataset.digest == predictions.meta.get("digest") else None


def prediction_metrics(predictions: Predictions) -> dict[str, float]:
    """``<split>/<head>/<metric>`` of every head, under the keys that a trained run has."""
    split = key(str(predictions.meta.get("split") or "test"))
    values: dict[str, float] = {}
    for head, p in predictions.heads.items():
        confusion = confusion_counts(p.true, p.pred, len(p.classes))
        found = head_metrics(confusion) | class_metrics(confusion, p.classes)
        values |= {f"{split}/{key(head)}/{name}": v for name, v in found.items()}
    return values


def _tags(predictions: Predictions) -> dict[str, str]:
    known = {name: predictions.meta.get(name) for name in ("strategy", "seed", "digest", "split")}
    return {name: str(value) for name, value in known.items() if value is not None}
