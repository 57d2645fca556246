"""The parent run: audit, the map over trials, the comparison."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from imbalance_lab.data.cache import load_cached, save_loaded
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.notes import data_notes
from imbalance_lab.engine import Engine, Plan, open_engine, plan_for
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data
from imbalance_lab.run.search import trials_of
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from imbalance_lab.training.precision import check_precision
from imbalance_lab.training.training_config import resolve_gpus
from mlflow_project.jobs import end_run
from mlflow_project.parent import log_comparison
from mlflow_project.schema import log_dataset
from mlflow_project.task import TrialTask, kept_results, notes
from mlflow_project.terminal import Progress, say
from mlflow_project.tracking import (
    NOTE,
    NOTE_LENGTH,
    WORK,
    RunLogger,
    Store,
    children,
    open_line,
    open_store,
    start_parent,
    tracking_uri,
)
from mlflow_project.trials import Ledger, run_all
from mlflow_project.tuning import search_all, searches_left

_MOST_NAMED = 20  # lines in the description about how the trainings went; a tag names all that were run again


@dataclass(frozen=True)
class _Grid:
    """A grid whose parent run is open."""

    spec: ExperimentSpec
    loaded: LoadedData
    logger: RunLogger
    work: Path
    plan: Plan
    engine: Engine
    begun: float


def run_grid_of(spec: ExperimentSpec, jobs: int | None, engine: str = "local", cluster: str = "") -> int:
    """Run a whole experiment; the exit code is 0 when every trial finished, 1 otherwise.

    Parameters
    ----------
    jobs : trials at once (None: as many as the machine has cores, or the cluster workers)
    engine, cluster : where trials run, see :func:`imbalance_lab.engine.plan_for`
    """
    begun = time.perf_counter()
    # Everything a user can get wrong is found before a run exists.
    plan = _plan(spec, jobs, engine, cluster)
    loaded = load_data(spec.data)
    said = check_spec_against_data(spec, loaded)
    with open_engine(plan) as opened:
        store = open_store(spec.name)
        logger = start_parent(store, f"{spec.name} grid", {"experiment_name": spec.name, "status": "running"})
        grid = _Grid(spec, loaded, logger, WORK / logger.run_id, plan, opened, begun)
        try:
            save_loaded(loaded, grid.work / "data")
            logger.params(
                {
                    "spec.name": spec.name,
                    "spec.seeds": spec.seeds,
                    "spec.baseline": spec.baseline,
                    "spec.data.source": spec.data.source,
                    "data.digest": loaded.dataset.digest,
                }
            )
            logger.text(yaml.safe_dump(spec.to_mapping(), sort_keys=False), "spec.yaml")
            log_dataset(logger, loaded, "training")
            say(
                f"{spec.name}: {len(spec.strategies)} strategies x {len(spec.seeds)} seeds on {_about(loaded)}; "
                f"parent run {logger.run_id}"
            )
            audit_first(spec, loaded, logger, grid.work, said)
            return _train_and_compare(grid, {})
        except BaseException as error:
            fail(logger, error)
            raise


def resume_grid(parent_run_id: str, jobs: int | None, engine: str = "local", cluster: str = "") -> int:
    """Take up a grid again: finished trials stay, the others go on from their last epoch under their run ids.

    Raises
    ------
    InputError
        If the run does not exist, is not a grid, or its local folder is gone.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    client = mlflow.tracking.MlflowClient(tracking_uri=uri)
    try:
        run = client.get_run(parent_run_id)
    except MlflowException as error:
        raise InputError(f"--resume: no run {parent_run_id!r} in {uri} ({str(error).splitlines()[0]})") from None
    if run.data.tags.get("role") != "grid":
        raise InputError(f"--resume: run {parent_run_id!r} is not the parent run of a grid")
    work = WORK / parent_run_id
    if not (work / "data" / "about.json").exists():
        raise InputError(f"--resume: {work} is missing; a grid can go on only where its local folder is")
    experiment = client.get_experiment(run.info.experiment_id)
    store = Store(uri, experiment.experiment_id, experiment.name)
    spec_text = mlflow.artifacts.load_text(f"runs:/{parent_run_id}/spec.yaml")
    spec = parse_experiment(yaml.safe_load(spec_text), where=f"runs:/{parent_run_id}/spec.yaml")
    os.environ.pop("MLFLOW_RUN_ID", None)
    plan = _plan(spec, jobs, engine, cluster)
    with open_engine(plan) as opened:
        logger = RunLogger(store, parent_run_id)
        client.update_run(parent_run_id, status="RUNNING")
        known = {child.info.run_name: child for child in children(store, parent_run_id)}
        done = sum(child.info.status == "FINISHED" for child in known.values())
        say(f"{spec.name}: taking up parent run {parent_run_id}, {done} trials are finished")
        try:
            grid = _Grid(spec, load_cached(work / "data"), logger, work, plan, opened, time.perf_counter())
            return _train_and_compare(grid, {name: child.info.run_id for name, child in known.items()})
        except BaseException as error:
            fail(logger, error)
            raise


def _plan(spec: ExperimentSpec, jobs: int | None, engine: str, cluster: str) -> Plan:
    uri = tracking_uri()
    if cluster and uri.startswith("sqlite:"):
        raise InputError(
            f"tracking URI {uri!r}: found an SQLite file with cluster {cluster!r}; set MLFLOW_TRACKING_URI to the "
            "address of a tracking server"
        )
    check_precision(spec.training)
    trials = max(len(spec.strategies) * len(spec.seeds), sum(trials_of(spec, name) for name in spec.strategies))
    return plan_for(jobs, trials, resolve_gpus(spec.training.device), engine, cluster)


def _train_and_compare(grid: _Grid, run_ids: dict[str, str]) -> int:
    """Search, train, compare; ``run_ids`` are the child runs of an earlier start by trial."""
    spec, logger, work = grid.spec, grid.logger, grid.work
    _search(grid)
    trained = _train(grid, run_ids)
    order = [f"{strategy}-s{seed}" for strategy in spec.strategies for seed in spec.seeds]
    finished = [trained.results[name] for name in order if name in trained.results]
    failures = trained.failures
    begun = time.perf_counter()
    if finished:
        log_comparison(logger, spec, finished, grid.loaded, work, failures)
    run_again = [f"{name} was started {n} times, because its worker died" for name, n in trained.again.items()]
    logger.metrics({"time/comparison": time.perf_counter() - begun})
    remarks = notes(work) + run_again
    if remarks:
        lines = "".join(f"\n- {line}" for line in remarks[:_MOST_NAMED])
        text = logger.client.get_run(logger.run_id).data.tags.get(NOTE, "")
        logger.describe(text[: NOTE_LENGTH - len(lines)] + lines)
    if run_again:
        logger.tags({"run_again": ", ".join(trained.again)[:5000]})
    logger.metrics({"time/total": time.perf_counter() - grid.begun})
    logger.tags({"status": "finished" if not failures else f"{len(failures)} trials failed"})
    logger.finish("FINISHED" if not failures else "FAILED")
    for line in [f"{name} failed: {reason}" for name, reason in failures] + remarks:
        say(line)
    say(f"{len(finished)} trials in {time.perf_counter() - grid.begun:.0f} s. {open_line(logger.store, logger.run_id)}")
    return 1 if failures else 0


def _search(grid: _Grid) -> None:
    """The searches of the strategies that ask for one, before any trial."""
    trials = sum(searches_left(grid.spec, grid.spec.strategies, grid.work).values())
    if not trials:
        return
    begun = time.perf_counter()
    with Progress(grid.work / "progress", trials, grid.engine.jobs) as progress:
        search_all(grid.spec, grid.spec.strategies, grid.work, grid.engine, grid.plan, progress.done)
    grid.logger.metrics({"time/search": time.perf_counter() - begun})


def _train(grid: _Grid, run_ids: dict[str, str]) -> Ledger:
    """Train and end the trials that have no result yet."""
    spec, logger, work = grid.spec, grid.logger, grid.work
    plain, folder = spec.to_mapping(), str(work.absolute())
    kept = kept_results(work)
    tasks: list[TrialTask] = []
    for seed in spec.seeds:
        for strategy in spec.strategies:
            task = TrialTask(plain, strategy, seed, logger.store, logger.run_id, folder, grid.plan.threads)
            task = replace(task, run_id=run_ids.get(task.name, ""))
            if task.name not in kept:
                tasks.append(task)
            elif task.run_id:
                end_run(task)
    begun = time.perf_counter()
    at_once = len(tasks) if grid.plan.devices else grid.engine.jobs
    with Progress(work / "progress", len(tasks), at_once) as progress:
        ledger = Ledger(spec.selection.metric, kept, progress.done)
        run_all(tasks, grid.plan, grid.engine, work, ledger)
    trial_seconds = sum(r.seconds + sum(r.phases.values()) for r in ledger.results.values())
    values = {"time/trials": time.perf_counter() - begun, "time/trials_summed": trial_seconds}
    if ledger.training_s is not None:
        values["time/training"] = ledger.training_s
    logger.metrics({**values, "trials/failed": len(ledger.failures)})
    return ledger


def check_spec_against_data(spec: ExperimentSpec, loaded: LoadedData) -> list[str]:
    """Find what only the data can tell: heads that do not exist, classes that a strategy names wrongly.

    Returns
    -------
    list of str
        What is to be known before anything is trained, printed too: columns that are not read, classes
        with too few rows for a resampler.

    Raises
    ------
    InputError
        Naming the key of the spec.
    """
    from mlflow_project.binding import bind_strategy

    heads = loaded.dataset.heads
    head = spec.selection.metric.rpartition("/")[0]
    if head in loaded.left_out:
        allowed = ", ".join(heads)
        raise InputError(f"selection.metric: train holds no label of head {head!r}; allowed are auto, {allowed}")
    if head not in ("auto", *heads):
        raise InputError(f"selection.metric: found head {head!r}; allowed are auto, {', '.join(heads)}")
    for name in spec.costs:
        if name not in heads:
            raise InputError(f"costs: found head {name!r}; allowed are {', '.join(heads)}")
    said = data_notes(loaded.dataset.facts)
    for strategy in spec.strategies.values():
        bound = bind_strategy(strategy, loaded, spec.main_head(heads), spec.seeds[0])
        few = bound.notes.get("too_few_rows")
        for name, lines in few.items() if isinstance(few, dict) else ():
            said.append(f"{strategy.name}, head {name}: {'; '.join(lines)}")
    for line in said:
        say(line)
    return said


def audit_first(spec: ExperimentSpec, loaded: LoadedData, logger: RunLogger, work: Path, said: Sequence[str]) -> None:
    """The audit at the start of the main job; raises AuditFailure when it fails and the spec says stop."""
    if spec.audit.budget == "off":
        return
    from mlflow_project.auditing import log_audit

    log_audit(spec, loaded, logger, work, said)


def fail(logger: RunLogger, error: BaseException) -> None:
    """Mark a run as failed with the reason."""
    logger.describe(f"Failed: {type(error).__name__}: {error}")
    logger.tags({"status": "failed", "failure": f"{type(error).__name__}: {error}"[:5000]})
    logger.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")


def _about(loaded: LoadedData) -> str:
    d = loaded.dataset
    kind = "simulated recordings" if d.facts.get("simulated") else "recordings"
    groups = len(set(d.groups.tolist()))
    never = f"; left out, as train holds no label of it: {', '.join(loaded.left_out)}" if loaded.left_out else ""
    shape = f"{len(d):,} sequences of {d.continuous.shape[1]} steps, {len(d.channels)} channels"
    return f"{groups} {kind}, {shape}{never}"
