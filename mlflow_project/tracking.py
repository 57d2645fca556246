"""The run tree and the logging schema, in one place."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from imbalance_lab.errors import InputError

NOTE = "mlflow.note.content"
_BATCH = 1000  # what one log_batch call may hold


@dataclass(frozen=True)
class Store:
    """Where runs go: tracking URI and experiment."""

    uri: str
    experiment_id: str
    experiment_name: str

    def client(self) -> MlflowClient:
        """A client of this store."""
        return MlflowClient(tracking_uri=self.uri)


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI`` or ``sqlite:///mlflow.db`` in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def open_store(experiment: str) -> Store:
    """Create database and experiment before any worker starts.

    Inside ``mlflow run --experiment-name X`` the runs go to X; otherwise to ``experiment``.

    Raises
    ------
    InputError
        If the tracking URI does not answer.
    """
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(tracking_uri=uri)
    try:
        with _few_retries():
            launcher = os.environ.get("MLFLOW_RUN_ID")
            if launcher:
                launched_in = client.get_run(launcher).info.experiment_id
                chosen = client.get_experiment(launched_in)
                if chosen.name != "Default":
                    return Store(uri, chosen.experiment_id, chosen.name)
            found = client.get_experiment_by_name(experiment)
            if found is not None and found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            identifier = found.experiment_id if found is not None else client.create_experiment(experiment)
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"tracking URI {uri!r} does not answer ({reason}); set MLFLOW_TRACKING_URI to one that does"
        ) from None
    return Store(uri, identifier, experiment)


class _few_retries:  # noqa: N801 - reads as a statement
    """MLflow waits minutes for a server that is not there; asked once, seconds are enough."""

    def __enter__(self) -> None:
        short = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
        self._before = {name: os.environ.get(name) for name in short}
        os.environ.update({name: value for name, value in short.items() if name not in os.environ})

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)


class RunLogger:
    """Writes to one run; metrics are buffered and sent in batches."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self.client = store.client()
        self._metrics: list[Metric] = []
        self._sent = time.monotonic()

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Buffer metrics; non-finite values are left out (a store may refuse them)."""
        now = int(time.time() * 1000)
        self._metrics += [
            Metric(metric_key(key), float(value), now, step)
            for key, value in values.items()
            if value is not None and abs(float(value)) < float("inf")
        ]
        if len(self._metrics) >= _BATCH or time.monotonic() - self._sent > 2.0:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        for start in range(0, len(self._metrics), _BATCH):
            self.client.log_batch(self.run_id, metrics=self._metrics[start : start + _BATCH])
        self._metrics = []
        self._sent = time.monotonic()

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; values longer than a store takes are cut."""
        items = [Param(metric_key(key), str(value)[:6000]) for key, value in values.items()]
        for start in range(0, len(items), 100):
            self.client.log_batch(self.run_id, params=items[start : start + 100])

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        self.client.log_batch(self.run_id, tags=[RunTag(key, str(value)) for key, value in values.items()])

    def describe(self, text: str) -> None:
        """Set the description that the MLflow page shows."""
        self.client.set_tag(self.run_id, NOTE, text)

    def text(self, text: str, path: str) -> None:
        """Log a text artifact."""
        self.client.log_text(self.run_id, text, path)

    def folder(self, folder: Path, path: str | None = None) -> None:
        """Log everything in a folder."""
        self.client.log_artifacts(self.run_id, str(folder), path)

    def table(self, frame: Any, path: str) -> None:
        """Log a DataFrame as an MLflow table (JSON), empty ones too."""
        if len(frame):
            self.client.log_table(self.run_id, frame, path)
        else:
            self.client.log_dict(self.run_id, {"columns": list(frame.columns), "data": []}, path)

    def logged_steps(self, key: str) -> int:
        """The largest step that ``key`` was logged with, -1 for none: where a resumed run goes on."""
        history = self.client.get_metric_history(self.run_id, metric_key(key))
        return max((m.step for m in history), default=-1)

    def finish(self, status: str) -> None:
        """Flush and end the run (FINISHED, FAILED, KILLED)."""
        self.flush()
        self.client.set_terminated(self.run_id, status)


def metric_key(name: str) -> str:
    """``name`` with characters that MLflow does not allow in keys replaced by ``_``."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def start_parent(store: Store, name: str, tags: Mapping[str, str]) -> RunLogger:
    """The parent run of a grid: the project's own run when that lies in this experiment, else a new one.

    A project run in another experiment (``mlflow run`` without ``--experiment-name``) gets a
    description that points to the parent.
    """
    client = store.client()
    launcher = os.environ.pop("MLFLOW_RUN_ID", None)
    if launcher and client.get_run(launcher).info.experiment_id == store.experiment_id:
        logger = RunLogger(store, launcher)
        client.update_run(launcher, name=name)
    else:
        run = client.create_run(store.experiment_id, run_name=name)
        logger = RunLogger(store, run.info.run_id)
        if launcher:
            client.set_tag(launcher, "parent_run_id", logger.run_id)
            client.set_tag(
                launcher, NOTE, f"Started run `{logger.run_id}` in the experiment **{store.experiment_name}**."
            )
    logger.tags({"role": "grid", **tags})
    return logger


def start_child(store: Store, parent_run_id: str, name: str, tags: Mapping[str, str]) -> RunLogger:
    """A child run of ``parent_run_id``."""
    run = store.client().create_run(
        store.experiment_id, run_name=name, tags={"mlflow.parentRunId": parent_run_id, **dict(tags)}
    )
    return RunLogger(store, run.info.run_id)


def children(store: Store, parent_run_id: str) -> list[Any]:
    """The child runs of a parent, oldest first."""
    return list(
        store.client().search_runs(
            [store.experiment_id],
            filter_string=f"tags.`mlflow.parentRunId` = '{parent_run_id}'",
            order_by=["attributes.start_time ASC"],
            max_results=10_000,
        )
    )


def open_line(store: Store, run_id: str | None = None) -> str:
    """How to look at the result: the command that starts the page, and the address of the experiment."""
    path = f"#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    if run_id:
        path = f"#/experiments/{store.experiment_id}/runs/{run_id}"
    if store.uri.startswith(("http://", "https://")):
        return f"Open {store.uri.rstrip('/')}/{path}"
    return f"Open with: mlflow ui --backend-store-uri {store.uri}   then http://127.0.0.1:5000/{path}"
