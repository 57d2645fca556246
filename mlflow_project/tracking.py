"""The life of a run, from when it is opened to FINISHED, FAILED or KILLED, and the tree that it stands in."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import mlflow
from mlflow.entities import Dataset, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking import MlflowClient

from imbalance_lab.addresses import without_secrets
from imbalance_lab.atomic import replacing
from imbalance_lab.errors import InputError, Stopped
from imbalance_lab.report.markdown import escaped
from imbalance_lab.run.launched import store_folder

NOTE = "mlflow.note.content"
FAILURE = "failure"
"""Tag of a run that was stopped: the reason."""

NOTE_LENGTH = 8000
"""Longest description that MLflow stores; it refuses or cuts what is longer."""

SIDE_BY_SIDE = ("leaderboard", "per_class", "summary")
"""Beginnings of the names of tables that MLflow's artifact view sets side by side."""

_BATCH = 1000  # what one log_batch call may hold,
_BATCH_OF = {"params": 100, "tags": 100}  # and of these
_ARTIFACTS = "./mlruns"  # where MLflow keeps the artifacts of a store without a server, see its documentation
_TABLES = "mlflow.loggedArtifacts"  # MLflow's list of tables; the artifact view offers no others
_ORIGIN = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit")


@dataclass(frozen=True)
class Store:
    """Where runs go: tracking URI and experiment."""

    uri: str
    experiment_id: str
    experiment_name: str

    def client(self) -> MlflowClient:
        """A client of this store."""
        return MlflowClient(tracking_uri=self.uri)

    def writing(self) -> AbstractContextManager[Any]:
        """Hold this while writing: one process at a time where the store is one SQLite file.

        SQLite gives its lock to whoever happens to ask at the right moment. On a busy machine one of eight
        writers can miss it for longer than the 20 s that MLflow waits, and fails with "database is locked".
        """
        from filelock import FileLock
        from sqlalchemy.engine import make_url

        url = make_url(self.uri) if self.uri.startswith("sqlite:") else None
        if url is None or url.database in (None, "", ":memory:"):
            return nullcontext()
        return FileLock(f"{url.database}.lock", is_singleton=True)


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI`` or ``sqlite:///mlflow.db`` in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def make_sqlite(uri: str) -> None:
    """Make the database of an SQLite store that is not there yet, under another name first.

    MLflow makes it in many steps; one that was killed in between would leave a file that no start can use. They are
    made in memory: on a disk each of them waits until it is written.
    """
    from filelock import FileLock
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.engine import make_url

    url = make_url(uri)
    if url.database in (None, "", ":memory:") or Path(str(url.database)).exists():
        return
    file = Path(str(url.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock", is_singleton=True):
        if file.exists():
            return
        with _environment({"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": ""}):  # another connection would find another memory
            made: Any = SqlAlchemyStore("sqlite://", _ARTIFACTS)
        with (
            replacing(file, durable=True) as partial,
            closing(made.engine.raw_connection()) as memory,
            closing(sqlite3.connect(partial)) as disk,
        ):
            memory.driver_connection.backup(disk)
        made.engine.dispose()  # what is made next in this process begins empty


def connect(store: Store) -> None:
    """Point MLflow's fluent functions of this process at a store, and at no run."""
    mlflow.set_tracking_uri(store.uri)
    os.environ.pop("MLFLOW_RUN_ID", None)


def open_store(experiment: str) -> Store:
    """Create database and experiment before any worker starts.

    Inside ``mlflow run --experiment-name X`` the runs go to X; otherwise to ``experiment``.

    Raises
    ------
    InputError
        If the tracking URI does not answer.
    """
    uri = tracking_uri()
    with _answering(uri), few_retries():
        if uri.startswith("sqlite:"):
            make_sqlite(uri)
        client = client_of_store()
        launcher = os.environ.get("MLFLOW_RUN_ID")
        if launcher:
            launched_in = client.get_run(launcher).info.experiment_id
            chosen = client.get_experiment(launched_in)
            if chosen.name != "Default":
                return Store(uri, chosen.experiment_id, chosen.name)
        found = client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        identifier = found.experiment_id if found is not None else _made_experiment(client, experiment)
    return Store(uri, identifier, experiment)


def client_of_store() -> MlflowClient:
    """A client of the tracking URI, to which MLflow's fluent functions are pointed too.

    Raises
    ------
    InputError
        If the store cannot be opened.
    """
    uri = tracking_uri()
    with _answering(uri):
        mlflow.set_tracking_uri(uri)
        return MlflowClient(tracking_uri=uri)


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """Within the block, whatever is raised says that the store does not answer: each driver raises its own."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            without_secrets(
                f"tracking URI {uri!r} does not answer ({reason}); set MLFLOW_TRACKING_URI to one that does"
            )
        ) from None


def _made_experiment(client: MlflowClient, name: str) -> str:
    """A new experiment; its artifacts lie beside the store, also where ``mlflow run`` called from another folder."""
    folder = store_folder()
    if folder is None:
        return str(client.create_experiment(name))
    return str(client.create_experiment(name, (folder / _ARTIFACTS / name).as_uri()))


def few_retries() -> AbstractContextManager[None]:
    """Within the block, a store that does not answer is given up in seconds; MLflow waits minutes for it."""
    short = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    return _environment({name: value for name, value in short.items() if name not in os.environ})


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def skipping_gone() -> Iterator[None]:
    """Within the block, what the store does not have is no error: a deletion that is sent again finds it so."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise


class RunLogger:
    """Writes to one run; metrics are buffered and sent in batches, those of a training every ``pause`` seconds.

    ``new``: the run was made just now, so that what the store holds of it is known without asking.
    """

    def __init__(self, store: Store, run_id: str, *, new: bool = False) -> None:
        self.store, self.run_id = store, run_id
        self.client = store.client()
        self._metrics: list[Metric] = []
        self._tables: list[dict[str, str]] | None = [] if new else None
        self.before: Mapping[str, float] = {}  # what a run that is taken up was told before it stopped
        self._sent = time.monotonic()
        self.pause = 10.0  # MLflow's page looks for new values every 30 s
        self.status = "FINISHED"  # how :func:`run` ends it when nothing was raised

    def metrics(
        self, values: Mapping[str, float], step: int = 0, *, model_id: str | None = None, data: Dataset | None = None
    ) -> None:
        """Buffer metrics, of a model and a data set where given; non-finite values are left out.

        So are final ones of no model that the run holds already: it was killed after they were sent.
        """
        now = int(time.time() * 1000)
        of: dict[str, Any] = {"run_id": self.run_id, "model_id": model_id} if model_id else {}
        of |= {"dataset_name": data.name, "dataset_digest": data.digest} if data else {}
        self._metrics += [
            Metric(key, float(value), now, step, **of)
            for key, value in values.items()
            if value is not None and abs(float(value)) < float("inf")
            if step or model_id or self.before.get(key) != float(value)
        ]
        if len(self._metrics) >= _BATCH:
            self.flush()

    def flush_in_time(self) -> None:
        """Send what is buffered where the last call was ``pause`` seconds ago."""
        if time.monotonic() - self._sent > self.pause:
            self.flush()

    def flush(self, *, params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None) -> None:
        """Send what is buffered, in one call with parameters and tags; parameters longer than a store takes are cut."""
        first: dict[str, Any] = {
            "params": [Param(name, without_secrets(str(value))[:6000]) for name, value in (params or {}).items()],
            "tags": [RunTag(name, without_secrets(str(value))) for name, value in (tags or {}).items()],
        }
        metrics, self._metrics, self._sent = self._metrics, [], time.monotonic()
        while metrics or any(first.values()):
            call = {name: values[: _BATCH_OF[name]] for name, values in first.items()}
            first = {name: values[_BATCH_OF[name] :] for name, values in first.items()}
            room = _BATCH - sum(map(len, call.values()))
            with self.store.writing():
                self.client.log_batch(self.run_id, metrics=metrics[:room], **call)
            metrics = metrics[room:]

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters."""
        self.flush(params=values)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        self.flush(tags=values)

    def untag(self, name: str) -> None:
        """Delete a tag, or find it gone."""
        with skipping_gone(), self.store.writing():
            self.client.delete_tag(self.run_id, name)

    def describe(self, text: str) -> None:
        """Set the description that the MLflow page shows."""
        self.tags({NOTE: text})

    def text(self, text: str, path: str) -> None:
        """Log a text artifact."""
        self.client.log_text(self.run_id, without_secrets(text), path)

    def folder(self, folder: Path, path: str | None = None, *, tags: Mapping[str, Any] | None = None) -> None:
        """Log everything in a folder, then send ``tags`` and what is buffered in one call.

        Its :data:`SIDE_BY_SIDE` tables are announced to the artifact view.
        """
        self.client.log_artifacts(self.run_id, str(folder), path)
        tables = sorted((folder / "tables").glob("*.json")) if path is None else []
        announced = self._announced(f"tables/{t.name}" for t in tables if t.stem.startswith(SIDE_BY_SIDE))
        self.flush(tags={**announced, **(tags or {})})

    def _announced(self, paths: Iterable[str]) -> dict[str, str]:
        """The tag that names tables which were logged as files, as ``log_table`` does for its own; {}: it does."""
        wanted = [{"path": path, "type": "table"} for path in paths]
        if wanted and self._tables is None:
            self._tables = json.loads(self.client.get_run(self.run_id).data.tags.get(_TABLES, "[]"))
        known = self._tables or []
        new = [entry for entry in wanted if entry not in known]
        if not new:
            return {}
        self._tables = known + new
        return {_TABLES: json.dumps(self._tables)}

    def logged_steps(self, key: str) -> int:
        """The largest step that ``key`` was logged with, -1 for none: where a resumed run goes on."""
        history = self.client.get_metric_history(self.run_id, key)
        return max((m.step for m in history), default=-1)

    def finish(self, status: str) -> None:
        """Flush and end the run (FINISHED, FAILED, KILLED)."""
        self.flush()
        with self.store.writing():
            self.client.set_terminated(self.run_id, status)

    def fail(self, error: BaseException | str) -> None:
        """End a run that was stopped: KILLED by an interrupt, else FAILED, with the reason in tag and description."""
        reason = reason_of(error)
        self.describe(f"{'Killed' if isinstance(error, KeyboardInterrupt) else 'Failed'}: {escaped(reason)}")
        self.tags({FAILURE: reason[:5000]})
        self.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")


@contextmanager
def run(store: Store, name: str, tags: Mapping[str, str], resume: str = "") -> Iterator[RunLogger]:
    """A run from its beginning to its end: FINISHED (or as its ``status`` says), else FAILED or KILLED with the reason.

    Under ``mlflow run`` the project's own run is taken when it lies in this experiment; a project run in another
    one gets a description that points to this run. ``resume`` is the id of a run that is taken up again.
    """
    logger = _taken_up(store, resume) if resume else _started(store, name, tags)
    try:
        yield logger
    except BaseException as error:
        with suppress(Exception):  # a store that is gone must not hide the reason
            logger.fail(error)
        raise
    logger.finish(logger.status)


def reason_of(error: BaseException | str) -> str:
    """Why a run was stopped, in one line where the error has one."""
    if isinstance(error, str) or type(error) is Stopped:
        return str(error)
    return without_secrets(f"{type(error).__name__}: {error}")


def take_up(store: Store, run_id: str) -> RunLogger:
    """A run that goes on: RUNNING, and no longer marked by what stopped it."""
    logger = RunLogger(store, run_id)
    with store.writing():
        logger.client.update_run(run_id, status="RUNNING")
        told = logger.client.get_run(run_id).data
    logger.before = told.metrics
    if FAILURE in told.tags:
        logger.untag(FAILURE)
    return logger


def end_children(store: Store, parent_run_id: str, error: BaseException) -> None:
    """End the child runs that are under way or wait, as their parent ends; their workers have ended before."""
    for child in children(store, parent_run_id):
        if child.info.status in ("RUNNING", "SCHEDULED"):
            RunLogger(store, child.info.run_id).fail(error)


def _taken_up(store: Store, run_id: str) -> RunLogger:
    os.environ.pop("MLFLOW_RUN_ID", None)
    return take_up(store, run_id)


def _started(store: Store, name: str, tags: Mapping[str, str]) -> RunLogger:
    client = store.client()
    launcher = os.environ.pop("MLFLOW_RUN_ID", None)
    if launcher and client.get_run(launcher).info.experiment_id == store.experiment_id:
        logger = RunLogger(store, launcher)
        client.update_run(launcher, name=name)
        logger.tags(tags)
    else:
        # Its role with its beginning: a run that is killed at once can still be found.
        own = {key: without_secrets(value) for key, value in tags.items()}
        run = client.create_run(store.experiment_id, run_name=name, tags={**_origin(client, launcher), **own})
        logger = RunLogger(store, run.info.run_id, new=True)
        if launcher:
            client.set_tag(launcher, "parent_run_id", logger.run_id)
            client.set_tag(
                launcher, NOTE, f"Started run `{logger.run_id}` in the experiment **{escaped(store.experiment_name)}**."
            )
    return logger


def take_launcher(client: MlflowClient, run_id: str, text: str) -> None:
    """Under ``mlflow run`` the project's own run exists before the command: say there what this command did.

    ``run_id`` is the run that holds the result.
    """
    launcher = os.environ.pop("MLFLOW_RUN_ID", None)
    if launcher and launcher != run_id:
        client.set_tag(launcher, "result_run_id", run_id)
        client.set_tag(launcher, NOTE, text)


def start_child(store: Store, parent_run_id: str, name: str, tags: Mapping[str, str]) -> RunLogger:
    """A child run of ``parent_run_id``; user and source are its parent's."""
    client = store.client()
    own = {"mlflow.parentRunId": parent_run_id, **_origin_of_parent(store, parent_run_id), **dict(tags)}
    with store.writing():
        run = client.create_run(store.experiment_id, run_name=name, tags=own)
    return RunLogger(store, run.info.run_id, new=True)


@lru_cache(maxsize=1)  # a worker starts many children of one parent, whose origin stays
def _origin_of_parent(store: Store, run_id: str) -> dict[str, str]:
    return origin_of(store.client().get_run(run_id))


def children(store: Store, parent_run_id: str) -> list[Any]:
    """The child runs of a parent, oldest first, however many."""
    client, token = store.client(), None
    found: list[Any] = []
    while True:
        page = client.search_runs(
            [store.experiment_id],
            filter_string=f"tags.`mlflow.parentRunId` = '{parent_run_id}'",
            order_by=["attributes.start_time ASC"],
            max_results=_PAGE,
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


_PAGE = 1000  # runs that a store is asked for at a time


def _origin(client: MlflowClient, run_id: str | None) -> dict[str, str]:
    """Who started this and from which source: as ``run_id`` has it, else as MLflow finds out."""
    from mlflow.tracking.context.registry import resolve_tags

    if run_id:
        return origin_of(client.get_run(run_id))
    # Without a name of its own, the source would be called __main__.py.
    tags = resolve_tags({"mlflow.source.name": __package__ or "mlflow_project"})
    return {key: without_secrets(tags[key]) for key in _ORIGIN if tags.get(key)}


def origin_of(run: Run) -> dict[str, str]:
    """Tags of a run that say who started it and from which source."""
    return {key: run.data.tags[key] for key in _ORIGIN if run.data.tags.get(key)}


def experiment_path(experiment_id: str, more: str = "") -> str:
    """Where MLflow's page shows the runs of an experiment, relative to any server; ``more`` is ``&name=value``."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning{more}"


def run_path(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Where MLflow's page shows a run, or one of its artifacts, relative to any server.

    Without ``workflowType`` a fresh browser shows the menu of another kind of work.
    """
    inner = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}{inner}?workflowType=machine_learning"


def run_address(uri: str, experiment_id: str, run_id: str) -> str:
    """Address of a run on the MLflow page.

    A store without a server is taken to be opened by ``mlflow ui`` on this machine, on its usual port.
    """
    return f"{_server(uri) or _LOCAL_UI}/{run_path(experiment_id, run_id)}"


_LOCAL_UI = "http://127.0.0.1:5000"


def _server(uri: str) -> str:
    """Address of the tracking server without user and password; "" for a store without one."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def open_line(store: Store, run_id: str | None = None, path: str = "") -> str:
    """How to look at the result: the command that starts the page, and the address of a run or the experiment.

    ``path`` is an address within the page that is given instead.
    """
    path = path or (run_path(store.experiment_id, run_id) if run_id else experiment_path(store.experiment_id))
    server = _server(store.uri)
    if server:
        return f"Open {server}/{path}"
    return f"Open with: mlflow ui --backend-store-uri {without_secrets(store.uri)}   then {_LOCAL_UI}/{path}"
