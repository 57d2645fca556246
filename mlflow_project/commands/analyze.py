"""``analyze``: the error analysis of a run or of a predictions table; no model and no training data needed."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from imbalance_lab.errors import InputError
from imbalance_lab.report.markdown import escaped
from imbalance_lab.run.terminal import quiet, say
from mlflow_project.commands.options import fetch, named

if TYPE_CHECKING:
    from imbalance_lab.data.dataset import SequenceDataset
    from imbalance_lab.predictions import Predictions
    from imbalance_lab.run.workspace import Workspace
    from mlflow_project.tracking import RunLogger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``analyze``."""
    parser.add_argument("--run_id", default="", help="run whose test predictions are analysed; the result goes to it")
    parser.add_argument("--predictions", default="", help="predictions table (Parquet) or its URI; makes a new run")
    parser.add_argument(
        "--experiment_name", default="analysis", help="experiment of the new run of --predictions (default analysis)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Analyse, log, say where."""
    if bool(arguments.run_id) == bool(arguments.predictions):
        raise InputError("analyze: give either --run_id or --predictions")
    experiment = named(arguments.experiment_name or "analysis", "experiment_name")
    quiet()
    from mlflow_project.tracking import open_line

    with tempfile.TemporaryDirectory() as folder:
        if arguments.run_id:
            logger, verdict = analyze_run(arguments.run_id, Path(folder))
        else:
            path = fetch(arguments.predictions, "predictions")
            logger, verdict = analyze_file(path, experiment, Path(folder))
    say(verdict)
    say(f"The page is report/index.html of run {logger.run_id}. {open_line(logger.store, logger.run_id)}")
    return 0


def analyze_run(run_id: str, folder: Path) -> tuple[RunLogger, str]:
    """Analyse the test predictions of a run again and log the result to that run; returns its logger and the verdict.

    The gallery is drawn where the grid's local copy of the data is still there, the training curves from the
    metrics that the run logged.

    Raises
    ------
    InputError
        If there is no such run, or it carries no predictions.
    """
    from imbalance_lab.predictions import read_parquet
    from imbalance_lab.run.trial_files import Background, write_analysis
    from mlflow_project import runs
    from mlflow_project.tracking import RunLogger, client_of_store, take_launcher

    client = client_of_store()
    run = runs.get_run(client, run_id, "run_id")
    predictions = runs.predictions_of(client, run, folder / "download")
    if predictions is None:
        raise InputError(f"--run_id: run {run_id!r} carries no {runs.PREDICTIONS}, which the analysis is made from")
    origin = runs.origin_of(client, run, folder / "download")
    out = folder / "analysis"
    dataset = local_dataset(runs.workspace_of(run), predictions)
    val = runs.artifact(client, run_id, "predictions/val.parquet", folder / "download" / run_id)
    labels = None if val is None else read_parquet(val)
    course = runs.logged_course(client, run, predictions.primary, labels)
    verdict = write_analysis(predictions, out, behind=Background(origin, dataset, course))
    logger = RunLogger(runs.store_of(client, run), run_id)
    logger.folder(out)
    take_launcher(client, run_id, f"Analysed run `{run_id}` again; the report is there. {verdict}")
    return logger, verdict


def analyze_file(path: Path, experiment: str, folder: Path) -> tuple[RunLogger, str]:
    """Analyse a predictions table and log the result to a new run with the tag ``role=analysis``."""
    from imbalance_lab.predictions import read_parquet
    from imbalance_lab.run.scores import prediction_metrics
    from imbalance_lab.run.trial_files import write_analysis
    from mlflow_project import tracking
    from mlflow_project.tracking import open_store

    predictions = read_parquet(path)
    out = folder / "analysis"
    verdict = write_analysis(predictions, out)
    store = open_store(experiment)
    with tracking.run(store, f"analysis of {path.stem}", {"role": "analysis", **_tags(predictions)}) as logger:
        logger.metrics(prediction_metrics(predictions))
        logger.folder(out)
        logger.client.log_artifact(logger.run_id, str(path), "predictions")
        logger.describe(escaped(verdict))
    return logger, verdict


def local_dataset(workspace: Workspace, predictions: Predictions) -> SequenceDataset | None:
    """The data of a grid where its local copy is still there and is what was predicted on; else None."""
    from imbalance_lab.data.cache import load_cached

    fold = predictions.meta.get("fold")
    if not workspace.has_data_of(fold):
        return None
    loaded = load_cached(workspace.data_of(fold))
    return loaded.dataset if loaded.digest == predictions.meta.get("digest") else None


def _tags(predictions: Predictions) -> dict[str, str]:
    known = {name: predictions.meta.get(name) for name in ("strategy", "seed", "digest", "split")}
    return {name: str(value) for name, value in known.items() if value is not None}
