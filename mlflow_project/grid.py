"""The parent run: audit, the map over trials, the comparison."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from imbalance_lab.data.cache import load_cached, save_loaded
from imbalance_lab.data.dataset import LoadedData, primary_head
from imbalance_lab.data.load import load_data
from imbalance_lab.engine import Failure, plan_for, run_grid
from imbalance_lab.errors import InputError
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from imbalance_lab.training.config import resolve_device
from mlflow_project.parent import log_comparison
from mlflow_project.schema import log_dataset
from mlflow_project.terminal import Progress, say
from mlflow_project.tracking import RunLogger, Store, children, open_line, open_store, start_parent, tracking_uri
from mlflow_project.trial import TrialResult, TrialTask, run_trial

WORK = Path(os.environ.get("IMBALANCE_LAB_WORK", "outputs"))
"""Where a grid keeps its data cache, checkpoints and local copies, one folder per parent run."""


def run_grid_of(spec: ExperimentSpec, jobs: int | None) -> int:
    """Run a whole experiment; the exit code is 0 when every trial finished, 1 otherwise."""
    device = resolve_device(spec.training.device)
    begun = time.perf_counter()
    # Everything a user can get wrong is found before a run exists.
    loaded = load_data(spec.data)
    check_spec_against_data(spec, loaded)
    store = open_store(spec.name)
    logger = start_parent(store, f"{spec.name} grid", {"experiment_name": spec.name, "status": "running"})
    try:
        work = WORK / logger.run_id
        save_loaded(loaded, work / "data")
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
        audit_first(spec, loaded, logger, work)
        return _train_and_compare(spec, loaded, logger, work, jobs, device, begun, resumed={})
    except BaseException as error:
        fail(logger, error)
        raise


def resume_grid(parent_run_id: str, jobs: int | None) -> int:
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
    logger = RunLogger(store, parent_run_id)
    client.update_run(parent_run_id, status="RUNNING")
    loaded = load_cached(work / "data")
    known = {child.info.run_name: child for child in children(store, parent_run_id)}
    done = sum(child.info.status == "FINISHED" for child in known.values())
    say(f"{spec.name}: taking up parent run {parent_run_id}, {done} trials are finished")
    try:
        device = resolve_device(spec.training.device)
        return _train_and_compare(spec, loaded, logger, work, jobs, device, time.perf_counter(), resumed=known)
    except BaseException as error:
        fail(logger, error)
        raise


def _train_and_compare(
    spec: ExperimentSpec,
    loaded: LoadedData,
    logger: RunLogger,
    work: Path,
    jobs: int | None,
    device: str,
    begun: float,
    resumed: dict[str, Any],
) -> int:
    plan = plan_for(jobs, len(spec.strategies) * len(spec.seeds), device)
    plain = spec.to_mapping()
    tasks = []
    results = _finished_results(work)
    for seed in spec.seeds:
        for strategy in spec.strategies:
            run_id = resumed[f"{strategy}-s{seed}"].info.run_id if f"{strategy}-s{seed}" in resumed else ""
            task = TrialTask(plain, strategy, seed, logger.store, logger.run_id, str(work), plan.threads, run_id)
            if task.name not in results:
                tasks.append(task)
    failures: list[tuple[str, str]] = []
    training_begun = time.perf_counter()
    with Progress(work / "progress", len(tasks), plan.jobs) as progress:
        for index, outcome in run_grid(run_trial, tasks, plan):
            name = tasks[index].name
            if isinstance(outcome, Failure):
                failures.append((name, outcome.reason))
                progress.done(f"{name}: FAILED, {outcome.reason}")
            else:
                results[name] = outcome
                _keep_result(work, name, outcome)
                progress.done(
                    f"{name}: {spec.selection.metric} {outcome.val_score:.3f} on validation, best epoch "
                    f"{outcome.best_epoch} of {outcome.epochs}, {outcome.seconds:.0f} s"
                )
    grid_seconds = time.perf_counter() - training_begun
    trial_seconds = sum(r.seconds + sum(r.phases.values()) for r in results.values())
    logger.metrics({"grid/seconds": grid_seconds, "grid/trial_seconds": trial_seconds, "grid/failed": len(failures)})
    order = [f"{strategy}-s{seed}" for strategy in spec.strategies for seed in spec.seeds]
    finished = [results[name] for name in order if name in results]
    if finished:
        log_comparison(logger, spec, finished, loaded, work, failures)
    logger.metrics({"grid/total_seconds": time.perf_counter() - begun})
    logger.tags({"status": "finished" if not failures else f"{len(failures)} trials failed"})
    logger.finish("FINISHED" if not failures else "FAILED")
    for name, reason in failures:
        say(f"{name} failed: {reason}")
    say(f"{len(finished)} trials in {time.perf_counter() - begun:.0f} s. {open_line(logger.store, logger.run_id)}")
    return 1 if failures else 0


def check_spec_against_data(spec: ExperimentSpec, loaded: LoadedData) -> None:
    """Find what only the data can tell: heads that do not exist, classes that a strategy names wrongly.

    Raises
    ------
    InputError
        Naming the key of the spec.
    """
    from mlflow_project.binding import bind_strategy

    heads = loaded.dataset.heads
    head = spec.selection.metric.partition("/")[0]
    if head not in ("auto", *heads):
        raise InputError(f"selection.metric: found head {head!r}; allowed are auto, {', '.join(heads)}")
    for name in spec.costs:
        if name not in heads:
            raise InputError(f"costs: found head {name!r}; allowed are {', '.join(heads)}")
    for strategy in spec.strategies.values():
        bind_strategy(strategy, loaded, primary_head(heads), spec.seeds[0])


def audit_first(spec: ExperimentSpec, loaded: LoadedData, logger: RunLogger, work: Path) -> None:
    """The audit at the start of the main job; raises AuditFailure when it fails and the spec says stop."""
    if spec.audit.budget == "off":
        return
    from mlflow_project.auditing import log_audit

    log_audit(spec, loaded, logger, work)


def fail(logger: RunLogger, error: BaseException) -> None:
    """Mark a run as failed with the reason."""
    logger.describe(f"Failed: {type(error).__name__}: {error}")
    logger.tags({"status": "failed", "failure": f"{type(error).__name__}: {error}"[:5000]})
    logger.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")


def _keep_result(work: Path, name: str, result: TrialResult) -> None:
    folder = work / "results"
    folder.mkdir(exist_ok=True)
    partial = folder / f"{name}.partial"
    partial.write_text(json.dumps(asdict(result)), encoding="utf-8")
    os.replace(partial, folder / f"{name}.json")


def _finished_results(work: Path) -> dict[str, TrialResult]:
    files = sorted((work / "results").glob("*.json")) if (work / "results").is_dir() else []
    return {f.stem: TrialResult(**json.loads(f.read_text(encoding="utf-8"))) for f in files}


def _about(loaded: LoadedData) -> str:
    d = loaded.dataset
    kind = "simulated recordings" if d.facts.get("simulated") else "recordings"
    groups = len(set(d.groups.tolist()))
    return f"{groups} {kind}, {len(d):,} sequences of {d.continuous.shape[1]} steps, {len(d.channels)} channels"
