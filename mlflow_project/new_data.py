"""A trained model on data that came later: what is found in the store, and what is logged of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import DatasetInput, InputTag, LoggedModelInput, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from imbalance_lab.errors import InputError
from imbalance_lab.learners.all_learners import FOLDERS
from imbalance_lab.predictions import Predictions
from imbalance_lab.run.evaluating import Evaluated, evaluate_model, load_new, read_trained
from imbalance_lab.run.scores import prediction_metrics
from mlflow_project import runs, tracking
from mlflow_project.commands.options import fetch
from mlflow_project.commands.promote import CORRECTED
from mlflow_project.markdown import code, escaped
from mlflow_project.models import logged_models
from mlflow_project.schema import dataset_of
from mlflow_project.tracking import NOTE_LENGTH, RunLogger, open_store


@dataclass(frozen=True)
class Trained:
    """A model that was found: its files, and the run that trained it.

    Attributes
    ----------
    run : that trained it, logged its experiment and its test predictions
    folder : what its learner saved
    model_id : of MLflow, None where it is known by its run alone
    version : name and version in the registry, empty where it is not of it
    """

    run: Run
    folder: Path
    model_id: str | None
    version: tuple[str, str] | tuple[()]
    corrected: bool


def evaluate(model: str, data: str, allow_missing: bool, experiment: str, folder: Path) -> tuple[RunLogger, Evaluated]:
    """Evaluate a model on data that came later and log the result to a new run.

    Raises
    ------
    InputError
        If there is no such model, another version wrote it, or the data do not fit it.
    """
    client = runs.client_of_store()
    trained = find_model(client, model, folder / "model")
    run_id = trained.run.info.run_id
    stored = read_trained(trained.folder, model)
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
    store = open_store(experiment or runs.store_of(client, trained.run).experiment_name)
    strategy = trained.run.data.tags.get("strategy", trained.run.info.run_name or "model")
    with tracking.run(store, f"evaluation of {strategy} on {path.name}", _tags(trained, model, data)) as logger:
        _log_inputs(logger, trained, found)
        logger.metrics(prediction_metrics(found.predictions), model_id=trained.model_id, data=dataset_of(found.loaded))
        logger.folder(out)
        logger.describe(
            "\n\n".join([f"{code(model)} on {code(data)}.", *map(escaped, (*found.lines, found.verdict))])[:NOTE_LENGTH]
        )
    return logger, found


def find_model(client: MlflowClient, model: str, folder: Path) -> Trained:
    """The files and the run of ``models:/...``, ``runs:/RUN_ID`` (with or without ``/model``) or a run's id.

    Raises
    ------
    InputError
        If there is no such model or run, or it was not logged by this project.
    """
    if model.startswith("models:/"):
        return _registered(client, model, folder)
    match = re.fullmatch(r"(?:runs:/)?([0-9a-zA-Z]+)(?:/model)?/?", model)
    if match is None:
        raise InputError(
            f"--model: found {model!r}; allowed are models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID"
        )
    run = runs.get_run(client, match.group(1), "model")
    run_id = run.info.run_id
    place = runs.trained_model(client, run, folder)
    if place is None:
        raise InputError(
            f"--model: run {run_id!r} holds no {' and no '.join(f'{n}/' for n in FOLDERS)}; it trained no model"
        )
    newest = max(logged_models(client, run), key=lambda model: model.creation_timestamp, default=None)
    return Trained(run, place, None if newest is None else str(newest.model_id), (), corrected=False)


def _registered(client: MlflowClient, model: str, folder: Path) -> Trained:
    try:
        info = mlflow.models.get_model_info(model)
        place = Path(mlflow.artifacts.download_artifacts(model, dst_path=str(_made(folder))))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"--model: no model {model!r} in {client.tracking_uri} ({str(error).splitlines()[0]})"
        ) from None
    about = sorted((place / "artifacts").glob("*/about.json"))
    if not about or not info.run_id:
        raise InputError(f"--model: {model!r} was not logged by this project; it has no artifacts/<learner>/about.json")
    run = runs.get_run(client, info.run_id, "model")
    runs.check_model_files(about[0].parent, run)
    promoted = run.data.tags.get("promoted_run_id")  # a correction is logged by the promotion, not by the training
    if promoted:
        run = runs.get_run(client, promoted, "model")
    version = _version(client, model)
    return Trained(run, about[0].parent, info.model_id, version, corrected=bool(promoted))


def _version(client: MlflowClient, model: str) -> tuple[str, str] | tuple[()]:
    """Name and version of a model of the registry; () of one that is called by its id."""
    name, at, alias = model.removeprefix("models:/").partition("@")
    if at:
        return name, str(client.get_model_version_by_alias(name, alias).version)
    name, slash, version = name.partition("/")
    return (name, version) if slash else ()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _test_report(client: MlflowClient, trained: Trained, folder: Path) -> Predictions:
    before = runs.predictions_of(client, trained.run, folder)
    if before is None:
        raise InputError(
            f"--model: run {trained.run.info.run_id!r} carries no {runs.PREDICTIONS}, so nothing can be compared"
        )
    return before.free_lunch() if trained.corrected else before


def _tags(trained: Trained, model: str, data: str) -> dict[str, str]:
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


def _log_inputs(logger: RunLogger, trained: Trained, found: Evaluated) -> None:
    """The new data and the model, as inputs of the run: the model's page then lists it."""
    data = DatasetInput(dataset_of(found.loaded), [InputTag("mlflow.data.context", "evaluation")])
    models = [LoggedModelInput(trained.model_id)] if trained.model_id else None
    with logger.store.writing():
        logger.client.log_inputs(logger.run_id, [data], models)
