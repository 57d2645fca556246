"""``evaluate``: a trained model on data that came later; a run of its own, linked to the version of the model."""

from __future__ import annotations

import argparse
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imbalance_lab.errors import InputError
from imbalance_lab.report.markdown import code, escaped
from imbalance_lab.run.terminal import quiet, say
from mlflow_project.commands.options import fetch, named
from mlflow_project.commands.promote import CORRECTED

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from imbalance_lab.predictions import Predictions
    from imbalance_lab.run.evaluating import Evaluated
    from mlflow_project.tracking import RunLogger

_YES = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``evaluate``."""
    parser.add_argument("--model", default="", help="models:/NAME@ALIAS, models:/NAME/VERSION, or runs:/RUN_ID")
    parser.add_argument("--data", default="", help="folder, file or URI of the new data, of the experiment's source")
    parser.add_argument(
        "--allow_missing", nargs="?", const="true", default="", help="read columns that are not there as missing"
    )
    parser.add_argument("--experiment_name", default="", help="experiment of the new run (default: the model's own)")


def main(arguments: argparse.Namespace) -> int:
    """Evaluate, log, say what changed."""
    if not arguments.model or not arguments.data:
        raise InputError("evaluate: give --model (models:/NAME@champion or runs:/RUN_ID) and --data")
    if arguments.allow_missing.lower() not in _YES:
        raise InputError(f"--allow_missing: found {arguments.allow_missing!r}; allowed are true and false")
    experiment = named(arguments.experiment_name, "experiment_name") if arguments.experiment_name else ""
    quiet()
    from mlflow_project.tracking import open_line

    with tempfile.TemporaryDirectory() as folder:
        logger, found = evaluate_found(
            arguments.model, arguments.data, _YES[arguments.allow_missing.lower()], experiment, Path(folder)
        )
    for line in found.lines:
        say(line)
    say(f"The page is report/index.html of run {logger.run_id}. {open_line(logger.store, logger.run_id)}")
    return 0


@dataclass(frozen=True)
class FoundModel:
    """A model that was found: its files, and the run that trained it.

    Attributes
    ----------
    run : that trained it, logged its experiment and its test predictions
    folder : what its learner saved
    model_id : of MLflow
    version : name and version in the registry, empty where it is not of it
    """

    run: Run
    folder: Path
    model_id: str
    version: tuple[str, str] | tuple[()]
    corrected: bool


def evaluate_found(
    model: str, data: str, allow_missing: bool, experiment: str, folder: Path
) -> tuple[RunLogger, Evaluated]:
    """Evaluate a model on data that came later and log the result to a new run.

    Raises
    ------
    InputError
        If there is no such model, another version wrote it, or the data do not fit it.
    """
    from imbalance_lab.learners.all_learners import read_model
    from imbalance_lab.run.evaluating import evaluate_model, load_new
    from imbalance_lab.run.scores import prediction_metrics
    from mlflow_project import runs, tracking
    from mlflow_project.schema import dataset_of

    client = tracking.client_of_store()
    trained = find_model(client, model, folder / "model")
    run_id = trained.run.info.run_id
    stored = read_model(trained.folder)
    plain = runs.spec_of(client, trained.run, folder / "spec")
    if not plain:
        raise InputError(
            f"--model: run {run_id!r} of {model!r} logged no spec.yaml, so it is not known how data are read"
        )
    before = _test_report(client, trained, folder / "before")
    path = fetch(data, "data")
    loaded = load_new(plain, path, stored, where=f"runs:/{run_id}/spec.yaml", allow_missing=allow_missing)
    out = folder / "out"
    found = evaluate_model(stored, loaded, before, out, trained_in=run_id)
    store = tracking.open_store(experiment or runs.store_of(client, trained.run).experiment_name)
    tags = _tags(trained, model, data)
    strategy = tags.get("strategy", trained.run.info.run_name or "model")
    with tracking.run(store, f"evaluation of {strategy} on {path.name}", tags) as logger:
        _log_inputs(logger, trained, found)
        logger.metrics(prediction_metrics(found.predictions), model_id=trained.model_id, data=dataset_of(found.loaded))
        logger.folder(out)
        said = [f"{code(model)} on {code(data)}.", *map(escaped, (*found.lines, found.verdict))]
        logger.describe("\n\n".join(said)[: tracking.NOTE_LENGTH])
    return logger, found


def find_model(client: MlflowClient, model: str, folder: Path) -> FoundModel:
    """The files and the run of ``models:/...``, ``runs:/RUN_ID`` (with or without ``/model``) or a run's id.

    Raises
    ------
    InputError
        If there is no such model or run, or it was not logged by this project.
    """
    from mlflow_project import runs

    if model.startswith("models:/"):
        return _registered(client, model, folder)
    match = re.fullmatch(r"(?:runs:/)?([0-9a-zA-Z]+)(?:/model)?/?", model)
    if match is None:
        raise InputError(
            f"--model: found {model!r}; allowed are models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID"
        )
    run = runs.get_run(client, match.group(1), "model")
    model_id, place = runs.trained_model(client, run, folder)
    return _found(client, run, place, model_id, ())


def _registered(client: MlflowClient, model: str, folder: Path) -> FoundModel:
    import mlflow
    from mlflow.exceptions import MlflowException

    from mlflow_project import runs

    try:
        info = mlflow.models.get_model_info(model)
    except (MlflowException, OSError) as error:
        raise InputError(
            f"--model: no model {model!r} in {client.tracking_uri} ({str(error).splitlines()[0]})"
        ) from None
    if not info.run_id:
        raise InputError(f"--model: {model!r} belongs to no run, so it was not logged by this project")
    run = runs.get_run(client, info.run_id, "model")
    place = runs.model_files(model, run, folder)
    return _found(client, run, place, str(info.model_id), _version(client, model))


def _found(
    client: MlflowClient, run: Run, place: Path, model_id: str, version: tuple[str, str] | tuple[()]
) -> FoundModel:
    """The model that ``run`` logged; a correction is logged by the promotion, not by the training."""
    from mlflow_project import runs

    promoted = run.data.tags.get("promoted_run_id")
    if promoted:
        run = runs.get_run(client, promoted, "model")
    return FoundModel(run, place, model_id, version, corrected=bool(promoted))


def _version(client: MlflowClient, model: str) -> tuple[str, str] | tuple[()]:
    """Name and version of a model of the registry; () of one that is called by its id."""
    name, at, alias = model.removeprefix("models:/").partition("@")
    if at:
        return name, str(client.get_model_version_by_alias(name, alias).version)
    name, slash, version = name.partition("/")
    return (name, version) if slash else ()


def _test_report(client: MlflowClient, trained: FoundModel, folder: Path) -> Predictions:
    from mlflow_project import runs

    before = runs.predictions_of(client, trained.run, folder)
    if before is None:
        raise InputError(
            f"--model: run {trained.run.info.run_id!r} carries no {runs.PREDICTIONS}, so nothing can be compared"
        )
    return before.free_lunch() if trained.corrected else before


def _tags(trained: FoundModel, model: str, data: str) -> dict[str, str]:
    of_run = trained.run.data.tags
    known: dict[str, str] = {name: of_run[name] for name in ("strategy", "seed") if name in of_run}
    if trained.corrected and "strategy" in known:
        known["strategy"] += CORRECTED
    version = {"model_name": trained.version[0], "model_version": trained.version[1]} if trained.version else {}
    return {
        "role": "evaluation",
        "model": model,
        "model_run_id": trained.run.info.run_id,
        "data": data,
        **version,
        **known,
    }


def _log_inputs(logger: RunLogger, trained: FoundModel, found: Evaluated) -> None:
    """The new data and the model, as inputs of the run: the model's page then lists it."""
    from mlflow.entities import DatasetInput, InputTag, LoggedModelInput

    from mlflow_project.schema import dataset_of

    data = DatasetInput(dataset_of(found.loaded), [InputTag("mlflow.data.context", "evaluation")])
    with logger.store.writing():
        logger.client.log_inputs(logger.run_id, [data], [LoggedModelInput(trained.model_id)])
