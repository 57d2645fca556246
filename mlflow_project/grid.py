"""The parent run: audit, the map over trials, the comparison."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import Run
from tqdm import tqdm

from imbalance_lab.addresses import without_secrets
from imbalance_lab.audit.auditing import AuditReport, run_audit
from imbalance_lab.audit.pilot import read_pilot
from imbalance_lab.comparison.comparing import Comparison
from imbalance_lab.comparison.racing import Stop
from imbalance_lab.data.cache import load_cached
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.engine import Engine, Plan, open_engine, plan_for
from imbalance_lab.errors import AuditFailure, InputError
from imbalance_lab.report.markdown import escaped
from imbalance_lab.run.audit_files import strategy_weights, write_audit
from imbalance_lab.run.binding import check_spec_against_data
from imbalance_lab.run.comparison_files import (
    board_lines,
    compare_trials,
    deciding_metric,
    record_of,
    whole_trials,
    write_comparison,
)
from imbalance_lab.run.fold_data import kept_data, load_checked
from imbalance_lab.run.lock import Owner, owning
from imbalance_lab.run.race import never_begun, run_rounds
from imbalance_lab.run.scores import MAX_CLASSES_AS_METRICS
from imbalance_lab.run.search import check_search, search_all, searches_left, trials_of
from imbalance_lab.run.temporaries import forget_temporaries
from imbalance_lab.run.terminal import Progress, say
from imbalance_lab.run.trial import Trial
from imbalance_lab.run.trial_files import trim
from imbalance_lab.run.workspace import TrialResult, Workspace
from imbalance_lab.spec import ExperimentSpec, TrialId, parse_experiment
from imbalance_lab.training.precision import check_precision
from imbalance_lab.training.training_config import resolve_gpus
from mlflow_project import runs, tracking
from mlflow_project.schedule import Ledger, log_race, log_stopped, log_strategies, run_all
from mlflow_project.schema import IMAGES, Compared, log_comparison, log_dataset, log_spec, log_times
from mlflow_project.tracking import (
    NOTE,
    NOTE_LENGTH,
    RunLogger,
    children,
    end_children,
    open_line,
    open_store,
    tracking_uri,
)
from mlflow_project.trials import TrackedTrial, end_run
from mlflow_project.views import GridFacts, grid_filter, save_views, view_path

_MOST_NAMED = 20  # lines in the description about how the trainings went; a tag names all that were run again


@dataclass(frozen=True)
class Grid:
    """A grid whose parent run is open; ``loaded`` are the data, or those of the first fold.

    ``seconds`` are those of its parts, as they end.
    """

    spec: ExperimentSpec
    loaded: LoadedData
    logger: RunLogger
    plan: Plan
    engine: Engine
    begun: float
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def workspace(self) -> Workspace:
        """The grid's local folder."""
        return Workspace.of_run(self.logger.run_id)


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
    with kept_data(spec) as kept, open_engine(plan) as opened:
        loaded, said = kept.first, kept.said
        for line in said:
            say(line)
        store = open_store(spec.name)
        tags = {"role": "grid", "experiment_name": spec.name}
        with tracking.run(store, f"{spec.name} grid", tags) as logger, _in_hand(logger, opened):
            say(f"{spec.name}: parent run {logger.run_id}")
            grid = Grid(spec, loaded, logger, plan, opened, begun)
            log_spec(logger, spec)
            grid.workspace.take_data(kept.place)
            logger.params(
                {
                    "spec.name": spec.name,
                    "spec.seeds": spec.seeds,
                    "spec.baseline": spec.baseline,
                    "spec.data.source": spec.data.source,
                    **({"spec.folds": len(spec.folds)} if loaded.fold is not None else {}),
                    "data.digest": loaded.digest,
                }
            )
            log_dataset(logger, loaded, "training")
            say(
                f"{spec.name}: {len(spec.strategies)} strategies x {len(spec.seeds)} seeds"
                f"{'' if loaded.fold is None else f' x {loaded.fold.count} folds'} on {_about(loaded)}"
            )
            if spec.audit.budget != "off":
                grid.seconds.update(log_audit(spec, loaded, logger, said))
            code = _train_and_compare(grid, {})
        return code


@dataclass(frozen=True)
class Resumption:
    """How a grid is taken up again.

    Attributes
    ----------
    run_id : its parent run, or "last" for the newest grid of the experiment
    given : the experiment of the command line: whose newest grid "last" is, and what a grid trains that was killed
        before it had logged its own
    force : take it from a process that still works on it
    changes : keys of the experiment that the command line gives; but for ``audit.on_fail``, what to do after a failed
        audit, they have to be those that the grid was begun with
    """

    run_id: str
    given: Callable[[], ExperimentSpec]
    force: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


def resume_grid(wanted: Resumption, jobs: int | None, engine: str = "local", cluster: str = "") -> int:
    """Take up a grid again: finished trials stay, the others go on from their last epoch under their run ids.

    An audit that did not come to its end is made first; a grid that it stopped stays stopped.

    Raises
    ------
    InputError
        If the run does not exist, is not a grid, or another process works on it.
    AuditFailure
        If its audit failed and the experiment says ``on_fail: stop``.
    """
    client = tracking.client_of_store()
    run = _grid_run(client, wanted)
    run_id = str(run.info.run_id)
    workspace, store = Workspace.of_run(run_id), runs.store_of(client, run)
    runs.check_elsewhere(run, workspace, wanted.force)
    spec = _spec_of_grid(client, run, wanted)
    plan = _plan(spec, jobs, engine, cluster)
    with owning(workspace.root, force=wanted.force, say=say) as owner:
        loaded, said = _data_of_grid(spec, workspace)  # a grid that is refused stays as it is
        for result in workspace.results().values():  # the comparison reads them again when the others are trained
            dict(record_of(result).test.heads)
        with (
            open_engine(plan) as opened,
            tracking.run(store, "", {}, resume=run_id) as logger,
            _in_hand(logger, opened, owner),
        ):
            known = {
                child.info.run_name: child
                for child in children(store, run_id)
                if child.data.tags.get("role") != "strategy"  # a strategy over its folds is no trial
            }
            done = sum(child.info.status == "FINISHED" for child in known.values())
            say(f"{spec.name}: taking up parent run {run_id}, {done} trials are finished")
            grid = Grid(spec, loaded, logger, plan, opened, time.perf_counter())
            _audit_again(grid, run, said)
            code = _train_and_compare(grid, {name: child.info.run_id for name, child in known.items()})
    return code


def _grid_run(client: mlflow.MlflowClient, wanted: Resumption) -> Run:
    if wanted.run_id == "last":
        return runs.last_grid(client, wanted.given().name)
    run = runs.get_run(client, wanted.run_id, "resume")
    if run.data.tags.get("role") != "grid":
        raise InputError(f"--resume: run {wanted.run_id!r} is not the parent run of a grid")
    return run


def _spec_of_grid(client: mlflow.MlflowClient, run: Run, wanted: Resumption) -> ExperimentSpec:
    """The experiment that a grid logged, or the given one where it was killed before: nothing was trained then."""
    with tempfile.TemporaryDirectory() as folder:
        plain = runs.spec_of(client, run, Path(folder))
    if plain:
        return spec_gone_on_with(plain, f"runs:/{run.info.run_id}/spec.yaml", wanted.changes)
    spec, name = wanted.given(), run.data.tags.get("experiment_name")
    if spec.name != name:
        raise InputError(
            f"--resume: run {run.info.run_id!r} was killed before it logged its experiment {name!r}; found "
            f"{spec.name!r} as --experiment; name that one's file"
        )
    return spec


def spec_gone_on_with(plain: Mapping[str, Any], where: str, changes: Mapping[str, Any]) -> ExperimentSpec:
    """The logged experiment; a flag that would change what is trained is refused, since the flag would do nothing."""
    begun, left = parse_experiment(plain, where=where), dict(changes)
    kept = {key: left.pop(key) for key in ("audit.on_fail",) if key in left}
    data = getattr(begun.data, "path", None)  # the same file may be named in another way
    if data is not None and "data.path" in left and Path(left["data.path"]).resolve() == Path(data).resolve():
        del left["data.path"]
    for key, value in left.items():
        if parse_experiment(plain, where=where, overrides={key: value}) != begun:
            raise InputError(
                f"--resume: found {key}: {value!r}, with which the grid was not begun; leave it out or begin anew"
            )
    return parse_experiment(plain, where=where, overrides=kept)


def _data_of_grid(spec: ExperimentSpec, workspace: Workspace) -> tuple[LoadedData, list[str]]:
    """The data that a grid kept, loaded anew where it was killed before; and what is to be known of them."""
    if workspace.has_data:
        first, *others = spec.folds
        for fold in others:
            load_cached(workspace.data_of(fold), verify=True)
        loaded = load_cached(workspace.data_of(first), verify=True)
        return loaded, check_spec_against_data(spec, loaded)
    if workspace.results() or any(workspace.root.glob("checkpoints/*.pt")):
        raise InputError(f"--resume: {workspace.data} is missing; a grid can go on only where its local folder is")
    with kept_data(spec) as kept:
        for line in kept.said:
            say(line)
        workspace.take_data(kept.place)
    return kept.first, [*kept.said]


def _audit_again(grid: Grid, run: Run, said: Sequence[str]) -> None:
    """Make an audit that was interrupted, and stop a grid that its audit stopped."""
    audit, tags = grid.spec.audit, run.data.tags
    if audit.budget == "off":
        return
    if "audit" not in tags:
        grid.seconds.update(log_audit(grid.spec, grid.loaded, grid.logger, said))
    elif tags.get("audit.failed") == "True" and audit.on_fail == "stop":
        raise _audit_failure(grid.workspace.audit / "index.html", "")


@contextmanager
def _in_hand(logger: RunLogger, engine: Engine, owner: Owner | None = None) -> Iterator[None]:
    """What is begun in a grid is ended with it: its folder is locked; when it is stopped, workers end, then runs.

    The error that stopped it carries the command that goes on as a note.
    """
    workspace = Workspace.of_run(logger.run_id)
    root = workspace.root
    try:
        with nullcontext(owner) if owner else owning(root, say=say) as mine:
            forget_temporaries(workspace.temporaries)
            logger.tags({runs.OWNER: str(mine)})
            yield
            forget_temporaries(workspace.temporaries)  # of workers that died and whose trials went on
            logger.untag(runs.OWNER)
    except BaseException as error:
        engine.stop()
        with suppress(Exception):  # a store that is gone must not hide the reason
            end_children(logger.store, logger.run_id, error)
        error.add_note(f"`python -m mlflow_project run --resume {logger.run_id}` goes on; what was done is in {root}")
        raise


def load_and_check(spec: ExperimentSpec, fold: int | None) -> tuple[LoadedData, Sequence[str]]:
    """The data of an experiment (of a fold), and what is to be known of them before anything is trained; printed too.

    Raises
    ------
    InputError
        If they cannot be read, or the experiment does not fit them.
    """
    loaded, said = load_checked(spec, fold)
    for line in said:
        say(line)
    return loaded, said


def log_audit(
    spec: ExperimentSpec, loaded: LoadedData, logger: RunLogger, said: Sequence[str] = ()
) -> dict[str, float]:
    """Audit, log page and tables under ``audit/``; what was ``said`` about the data stands on the page.

    Returns
    -------
    The seconds of each check, as ``audit/<check>``.

    Raises
    ------
    AuditFailure
        If a check failed and the spec says ``on_fail: stop``; the page is logged first.
    """
    report = _audit(spec, loaded)
    folder = Workspace.of_run(logger.run_id).audit
    write_audit(report, loaded, folder, spec.name, said)
    logger.text(report.sentence, "audit/verdict.txt")
    logger.folder(folder, "audit", tags={"audit": report.verdict.value, "audit.failed": str(report.failed)})
    of_fold = "" if loaded.fold is None else f" (train and test as in fold {loaded.fold.number})"
    say(f"Audit{of_fold}: {report.sentence}")
    if report.failed and spec.audit.on_fail == "stop":
        raise _audit_failure(folder / "index.html", f"{report.sentence} ")
    return {f"audit/{check}": s for check, s in report.seconds.items()}


def _audit_failure(page: Path, sentence: str) -> AuditFailure:
    return AuditFailure(
        f"the audit failed, so nothing was trained: {sentence}Read {page}; --on_fail warn, or "
        "'audit: {on_fail: warn}' in the experiment, trains all the same"
    )


def _audit(spec: ExperimentSpec, loaded: LoadedData) -> AuditReport:
    with tqdm(desc="audit", unit="check", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(check: str, done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.set_postfix_str(check)

        return run_audit(
            loaded,
            strategies=strategy_weights(spec, loaded),
            progress=progress,
            budget="full" if spec.audit.budget == "full" else "counts",
            margin=spec.comparison.margin,
            pilot=None if spec.audit.pilot is None else read_pilot(spec.audit.pilot),
        )


def _plan(spec: ExperimentSpec, jobs: int | None, engine: str, cluster: str) -> Plan:
    uri = tracking_uri()
    if cluster and uri.startswith("sqlite:"):
        raise InputError(
            f"tracking URI {uri!r}: found an SQLite file with cluster {without_secrets(cluster)!r}; set "
            "MLFLOW_TRACKING_URI to the address of a tracking server"
        )
    check_precision(spec.training)
    check_search(spec)
    searched = sum(trials_of(spec, name) for name in spec.strategies) * len(spec.folds)
    trials = max(len(spec.trials()), searched)
    return plan_for(jobs, trials, resolve_gpus(spec.training.device), engine, cluster)


def _train_and_compare(grid: Grid, run_ids: Mapping[str, str]) -> int:
    """Search, train, compare; ``run_ids`` are the trials' runs of an earlier start by name."""
    logger = grid.logger
    _search(grid)
    trained = _train(grid, run_ids)
    finished = [trained.results[t.name] for t in grid.spec.trials() if t.name in trained.results]
    whole, lacking = whole_trials(grid.spec, finished, trained.stops)
    if grid.spec.comparison.race:
        log_race(logger, grid.spec, trained.stops)
    runs_of, unsaid = _summarise(grid, whole, trained)
    begun = time.perf_counter()
    view, board, verdict = _compare(grid, whole, trained, runs_of) if whole else ("", [], "")
    grid.seconds["comparison"] = time.perf_counter() - begun
    remarks = _remark(grid, trained, [*lacking, *unsaid])
    grid.seconds["total"] = time.perf_counter() - grid.begun
    log_times(logger, grid.seconds)
    for result in finished:  # each run holds its files
        trim(Path(result.folder))
    if trained.failures or unsaid:
        logger.status = "FAILED"
    for name, reason in trained.failures:
        say(f"{name} failed: {reason}", always=True)
    for line in [*remarks, *board]:
        say(line)
    if verdict:
        say(verdict, always=True)
    path = view_path(logger.store.experiment_id, view) if view else ""
    where = open_line(logger.store, logger.run_id, path)
    say(f"{len(finished)} trials in {grid.seconds['total']:.0f} s. {where}", always=True)
    return 1 if trained.failures or unsaid else 0


def _summarise(grid: Grid, whole: Sequence[TrialResult], trained: Ledger) -> tuple[dict[str, str], list[str]]:
    """With folds, a run for each strategy, of those that the race stopped too: their ids, and what went wrong."""
    if grid.loaded.fold is None or not whole:
        return {}, []
    begun = time.perf_counter()
    found, unsaid = log_strategies(grid.spec, grid.loaded, grid.logger, whole, grid.engine, grid.plan)
    found |= log_stopped(grid.spec, grid.loaded, grid.logger, trained.stops, [*trained.results.values()])
    grid.seconds["strategies"] = time.perf_counter() - begun
    return found, unsaid


def _remark(grid: Grid, trained: Ledger, more: Sequence[str] = ()) -> list[str]:
    """How the trainings went, as far as it is worth a line; said in the parent's description too."""
    run_again = [f"{name} was started {n} times, because its worker died" for name, n in trained.again.items()]
    remarks = [*grid.workspace.notes(), *run_again, *more]
    if remarks:
        lines = "".join(f"\n- {escaped(line)}" for line in remarks[:_MOST_NAMED])
        text = grid.logger.client.get_run(grid.logger.run_id).data.tags.get(NOTE, "")
        grid.logger.describe(text[: NOTE_LENGTH - len(lines)] + lines)
    if run_again:
        grid.logger.tags({"run_again": ", ".join(trained.again)[:5000]})
    return remarks


def _search(grid: Grid) -> None:
    """The searches of the strategies that ask for one, before any trial."""
    spec, workspace = grid.spec, grid.workspace
    trials = sum(searches_left(spec, spec.strategies, workspace).values())
    if not trials:
        return
    begun = time.perf_counter()
    with Progress(workspace.progress, trials, grid.engine.jobs) as progress:
        search_all(spec, spec.strategies, workspace, grid.engine, grid.plan, progress.done)
    grid.seconds["search"] = time.perf_counter() - begun


def _train(grid: Grid, run_ids: Mapping[str, str]) -> Ledger:
    """Train and end the trials that have no result yet."""
    spec, logger, workspace = grid.spec, grid.logger, grid.workspace
    plain, folder = spec.to_mapping(), str(workspace.root.absolute())
    kept = workspace.results()
    tracked = {
        one.name: TrackedTrial(
            Trial(one, plain, folder, grid.plan.threads), logger.store, logger.run_id, run_ids.get(one.name, "")
        )
        for one in spec.trials()
    }
    for name in kept:
        if name in tracked and tracked[name].run_id:
            end_run(tracked[name])
    begun, left = time.perf_counter(), len(tracked) - len(kept)
    at_once = left if grid.plan.devices else grid.engine.jobs
    with Progress(workspace.progress, left, at_once) as progress:
        ledger = Ledger(spec.selected(grid.loaded.dataset.heads), kept, progress.done)

        def train(trials: Sequence[TrialId]) -> None:
            due = [tracked[trial.name] for trial in trials if trial.name not in ledger.results]
            if due:
                run_all(due, grid.plan, grid.engine, workspace, ledger)

        def stopped(stop: Stop) -> None:
            say(f"{stop.strategy}: {stop.sentence}")
            progress.drop(never_begun(spec, [stop]))

        ledger.stops = run_rounds(spec, train, ledger.results, stopped)
    grid.seconds["trials"] = time.perf_counter() - begun
    grid.seconds["trials_summed"] = sum(r.seconds + sum(r.phases.values()) for r in ledger.results.values())
    if ledger.training_s is not None:
        grid.seconds["training"] = ledger.training_s
    logger.metrics({"trials/failed": len(ledger.failures)})
    return ledger


def _compare(
    grid: Grid, results: Sequence[TrialResult], trained: Ledger, strategies: Mapping[str, str]
) -> tuple[str, list[str], str]:
    """Compare the finished trials and log the result to the parent run; key of the view, leaderboard, verdict.

    ``strategies`` are the runs of the strategies over their folds, where there are such runs.
    """
    spec, logger = grid.spec, grid.logger
    found = compare_trials(spec, results, trained.stops)
    simulated = bool(grid.loaded.dataset.facts.get("simulated"))
    ids = [*(result.run_id for result in results), *strategies.values()]
    role = "strategy" if strategies else ""
    view = _prepare_view(grid, found, role)
    experiments, only = dict.fromkeys(ids, logger.store.experiment_id), grid_filter(logger.run_id, role)
    compared = Compared(experiments, only, trained.failures, simulated, view, strategies)
    links = compared.links(logger.store.uri)
    folder, title = grid.workspace.comparison, f"{spec.name}: which strategy?"
    pages = {name: links[run_id] for name, run_id in strategies.items()}
    metric = deciding_metric(spec)
    write_comparison(found, folder, links, title=title, metric=metric, simulated=simulated, strategies=pages)
    log_comparison(logger, found, folder, compared, grid.loaded.digest)
    return view, board_lines(found, metric), found.choice.reason


def _prepare_view(grid: Grid, found: Comparison, role: str) -> str:
    """The view of MLflow's page for this grid, of its runs with this role; its key."""
    logger, head = grid.logger, str(found.facts["head"])
    counts = grid.loaded.dataset.class_counts(head, grid.loaded.splits.train)
    classes = grid.loaded.dataset.heads[head]
    rare = [classes[c] for c in np.argsort(counts, kind="stable") if 0 < counts[c] < counts.sum() / len(counts)]
    facts = GridFacts(
        grid=grid.spec.name,
        parent_id=logger.run_id,
        started=logger.client.get_run(logger.run_id).info.start_time,
        head=head,
        rare=tuple(rare) if len(classes) <= MAX_CLASSES_AS_METRICS else (),
        figures=IMAGES,
        role=role,
    )
    with logger.store.writing():
        return save_views(
            logger.client, logger.store.experiment_id, facts, grouped=len(grid.spec.seeds) > 1 and not role
        )


def _about(loaded: LoadedData) -> str:
    d = loaded.dataset
    kind = "simulated recordings" if d.facts.get("simulated") else "recordings"
    groups = len(set(d.groups.tolist()))
    never = f"; left out, as train holds no label of it: {', '.join(loaded.left_out)}" if loaded.left_out else ""
    shape = f"{len(d):,} sequences of {d.continuous.shape[1]} steps, {len(d.channels)} channels"
    return f"{groups} {kind}, {shape}{never}"
