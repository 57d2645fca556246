"""Looking up runs that exist already: what they predicted, what they were told, what launched this process."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from imbalance_lab.addresses import without_secrets
from imbalance_lab.atomic import read_json
from imbalance_lab.comparison.records import RunRecord
from imbalance_lab.errors import InputError
from imbalance_lab.formats import METRIC_WORDS, listed
from imbalance_lab.learners.stored import check_files
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.names import key
from imbalance_lab.plain_yaml import read_yaml
from imbalance_lab.predictions import Predictions, open_parquet, read_parquet
from imbalance_lab.run.scores import score_of
from imbalance_lab.run.training_curves import Course, metric_name
from imbalance_lab.run.trial_files import REPORT, Origin
from imbalance_lab.run.workspace import Workspace
from imbalance_lab.spec import parse_experiment
from imbalance_lab.training.collapse import prediction_spread
from mlflow_project.models import MODEL_DIGEST, model_of
from mlflow_project.tracking import Store, few_retries

PREDICTIONS = "predictions/test.parquet"
VAL_PREDICTIONS = "predictions/val.parquet"
_MAX_RUNS = 1000
_MAX_SPEC = 1 << 24  # characters of a logged experiment, which holds the code of a team's own network too


def get_run(client: MlflowClient, run_id: str, flag: str) -> Run:
    """The run with that id.

    Raises
    ------
    InputError
        Naming ``flag``, if there is no such run or the store does not answer.
    """
    if not run_id:
        raise InputError(f"--{flag}: found nothing; expected the id of a run")
    try:
        with few_retries():
            return client.get_run(run_id)
    except (MlflowException, OSError) as error:
        raise InputError(
            f"--{flag}: no run {run_id!r} in {without_secrets(client.tracking_uri)} ({str(error).splitlines()[0]})"
        ) from None


def store_of(client: MlflowClient, run: Run) -> Store:
    """The store and experiment that a run lies in."""
    experiment = client.get_experiment(run.info.experiment_id)
    return Store(client.tracking_uri, experiment.experiment_id, experiment.name)


def artifact(client: MlflowClient, run_id: str, path: str, folder: Path) -> Path | None:
    """A local copy of one artifact under ``folder``, or None where the run does not have it."""
    parent, _, name = path.rpartition("/")
    try:
        names = {Path(item.path).name for item in client.list_artifacts(run_id, parent or None)}
    except (MlflowException, OSError):  # a folder that is not there is an error in some stores
        return None
    if name not in names:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return Path(client.download_artifacts(run_id, path, str(folder)))


def trained_model(client: MlflowClient, run: Run, folder: Path) -> tuple[str, Path]:
    """Id of the model that a run logged, and a local copy under ``folder`` of what its learner saved.

    Raises
    ------
    InputError
        If the run logged no whole model, or the files are not those that it logged.
    """
    model_id = str(model_of(client, run).model_id)
    return model_id, model_files(f"models:/{model_id}", run, folder)


def model_files(uri: str, run: Run, folder: Path) -> Path:
    """A local copy under ``folder`` of what a learner saved, from the model at ``uri`` that ``run`` logged.

    Raises
    ------
    InputError
        If there is no such model, it is not of this project, or its files are not those that were logged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        place = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise InputError(f"the files of the model {uri!r} cannot be read ({str(error).splitlines()[0]})") from None
    about = next((place / "artifacts").glob("*/about.json"), None)
    if about is None:
        raise InputError(f"{uri!r} was not logged by this project; it has no artifacts/<learner>/about.json")
    check_model_files(about.parent, run)
    return about.parent


def check_model_files(folder: Path, run: Run) -> None:
    """Refuse a model whose files were changed since ``run`` logged them; to be called before they are read.

    Raises
    ------
    InputError
        If the digests differ, see :func:`imbalance_lab.learners.stored.check_files`.
    """
    where, logged = f"{folder.name}/ of run {run.info.run_id!r}", run.data.tags.get(MODEL_DIGEST, "")
    check_files(folder, logged, where, f"tag {MODEL_DIGEST}")


def predictions_of(client: MlflowClient, run: Run, folder: Path) -> Predictions | None:
    """Test predictions of a run, or None where it carries none."""
    path = artifact(client, run.info.run_id, PREDICTIONS, folder / run.info.run_id)
    return None if path is None else read_parquet(path)


def record_of(client: MlflowClient, run: Run, folder: Path, metric: str = "macro_f1") -> RunRecord | None:
    """What a comparison by ``metric`` takes of a run, or None where it carries no predictions.

    The strategy and the seed come from the run's tags, else from what the table says of itself. The predictions are
    read from ``folder`` whenever they are asked for.
    """
    run_id, tags = run.info.run_id, run.data.tags
    path = artifact(client, run_id, PREDICTIONS, folder / run_id)
    if path is None:
        return None
    test = open_parquet(path)
    report = artifact(client, run_id, REPORT, folder / run_id)
    strategy = tags.get("strategy") or test.meta.get("strategy") or run.info.run_name
    fold = tags.get("fold", test.meta.get("fold"))
    return RunRecord(
        strategy=str(strategy),
        seed=int(tags.get("seed") or test.meta.get("seed") or 0),
        run_id=run_id,
        test=test,
        val_score=_val_score(client, run, folder, test.primary, metric),
        seconds=run.data.metrics.get("train/seconds"),
        report=None if report is None else read_json(report),
        fold=None if fold is None else int(fold),
    )


def _val_score(client: MlflowClient, run: Run, folder: Path, head: str, metric: str) -> float | None:
    """A head's score on validation: what the training was selected by, or from the predictions by another metric.

    A strategy that was selected by one metric must not be ranked by it where another decides.
    """
    logged = run.data.metrics.get(f"val/{key(head)}/{metric}/selected")
    if logged is not None or metric not in METRIC_WORDS:
        return logged
    path = artifact(client, run.info.run_id, VAL_PREDICTIONS, folder / run.info.run_id)
    if path is None:
        return None
    return score_of(open_parquet(path).heads[head], metric)


def spec_of(client: MlflowClient, run: Run, folder: Path) -> dict[str, Any]:
    """The experiment that a run logged, as plain values; empty where it logged none.

    Raises
    ------
    InputError
        If its file is damaged.
    """
    path = artifact(client, run.info.run_id, "spec.yaml", folder / run.info.run_id)
    if path is None:
        return {}
    where = f"runs:/{run.info.run_id}/spec.yaml"
    try:
        found = read_yaml(path.read_text(encoding="utf-8"), where, _MAX_SPEC)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: cannot be read as UTF-8 text ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{where}: found {type(found).__name__} at the top, expected a mapping of keys")
    return found


def is_simulated(runs: Sequence[Run]) -> bool:
    """Whether any of the runs was trained on simulated recordings, as its data set says."""
    for run in runs:
        for one in run.inputs.dataset_inputs if run.inputs else []:
            try:
                source = json.loads(one.dataset.source)
            except ValueError:  # a data set that another program logged
                continue
            if isinstance(source, dict) and source.get("simulated"):
                return True
    return False


def origin_of(client: MlflowClient, run: Run, folder: Path) -> Origin | None:
    """The experiment that a run logged; None where it logged none, or one that this version does not read."""
    try:
        found = spec_of(client, run, folder)
        return Origin(run.info.run_id, parse_experiment(found, where="spec.yaml")) if found else None
    except InputError:
        return None


OWNER = "owner"
"""Tag of a grid: the process that works on it, or did."""


def last_grid(client: MlflowClient, experiment: str) -> Run:
    """The newest grid of an experiment file, wherever its runs lie.

    Raises
    ------
    InputError
        If there is none.
    """
    with few_retries():
        places = [found.experiment_id for found in client.search_experiments()]
    newest, grids = ["attributes.start_time DESC"], "tags.role = 'grid'"
    wanted = f'{grids} and tags.experiment_name = "{experiment}"'  # a name may hold an apostrophe, but no such quote
    found = client.search_runs(places, wanted, order_by=newest, max_results=1)
    if found:
        return found[0]
    others = client.search_runs(places, grids, order_by=newest, max_results=100)
    names = list(dict.fromkeys(run.data.tags.get("experiment_name", "") for run in others))
    raise InputError(
        f"--resume: no grid of {experiment!r} in {without_secrets(client.tracking_uri)}; "
        + (f"--experiment names the file of one that is there: {listed(names)}" if names else "it holds no grid")
    )


def check_elsewhere(run: Run, workspace: Workspace, force: bool) -> None:
    """Refuse to go on with a grid that runs where this folder is not seen; its lock cannot tell then.

    Raises
    ------
    InputError
        If it is RUNNING, its folder is not here, and ``force`` is not said.
    """
    owner = run.data.tags.get(OWNER, "")
    here = not owner or owner.endswith(f" on {socket.gethostname()}")
    if run.info.status == "RUNNING" and not here and not workspace.root.exists() and not force:
        raise InputError(
            f"--resume: run {run.info.run_id!r} is RUNNING, by {owner}, and {workspace.root} is not here; go on where "
            "its folder is, or take over with --force"
        )


def workspace_of(run: Run) -> Workspace:
    """The local folder of the grid that a run belongs to, or of the run itself."""
    return Workspace.of_run(run.data.tags.get("mlflow.parentRunId", run.info.run_id))


def search(client: MlflowClient, experiment_id: str, wanted: str) -> list[Run]:
    """Finished runs of an experiment that match a filter of MLflow, the newest first.

    Raises
    ------
    InputError
        If that is no filter.
    """
    finished = "attributes.status = 'FINISHED'"
    try:
        return list(
            client.search_runs(
                [experiment_id],
                filter_string=f"{wanted} and {finished}" if wanted else finished,
                order_by=["attributes.start_time DESC"],
                max_results=_MAX_RUNS,
            )
        )
    except MlflowException as error:
        raise InputError(f"--filter: {wanted!r} is not a filter of runs ({str(error).splitlines()[0]})") from None


def experiment_named(client: MlflowClient, name: str) -> Experiment:
    """The experiment with that name.

    Raises
    ------
    InputError
        If there is none.
    """
    try:
        with few_retries():
            experiment = client.get_experiment_by_name(name)
    except MlflowException as error:
        raise InputError(f"--experiment_name: found {name!r} ({str(error).splitlines()[0]})") from None
    if experiment is None:
        raise InputError(f"--experiment_name: no experiment {name!r} in {without_secrets(client.tracking_uri)}")
    return experiment


def carries_predictions(client: MlflowClient, run: Run) -> bool:
    """Whether a run has a table of test predictions."""
    folder = PREDICTIONS.partition("/")[0]
    return any(item.path == PREDICTIONS for item in client.list_artifacts(run.info.run_id, folder))


def logged_course(client: MlflowClient, run: Run, head: str, val: Predictions | None) -> Course | None:
    """The course of a finished run from the history of its metrics; None where it logged no loss (a classical fit).

    ``val`` are its validation predictions, whose labels the level to reach is taken from.
    """
    selected = [key for key in run.data.metrics if key.startswith("val/") and key.endswith("/selected")]
    series = {"train_loss": "train/loss", "pred_entropy": f"val/{key(head)}/prediction_entropy"}
    if len(selected) == 1:
        series["val_metric"] = selected[0].removesuffix("/selected")
    columns = {
        name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, key)} for name, key in series.items()
    }
    if not columns["train_loss"]:
        return None
    table = pd.DataFrame({name: column for name, column in columns.items() if column}).sort_index()
    label_entropy = None
    if val is not None and head in val.heads and len(val.heads[head]):
        labels = val.heads[head]
        label_entropy = prediction_spread(confusion_counts(labels.true, labels.pred, len(labels.classes))).label_entropy
    best, collapsed = run.data.metrics.get("train/best_epoch"), run.data.tags.get("collapse_epoch")
    return Course(
        epochs=table.rename_axis("epoch").reset_index(),
        metric=metric_name(series.get("val_metric", "")),
        best_epoch=None if best is None else int(best),
        collapse_epoch=None if collapsed is None else int(collapsed),
        label_entropy=label_entropy,
    )
