"""The search for a strategy's hyper-parameters, once per strategy of a grid, and how it is logged."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from imbalance_lab.data.cache import load_cached
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.engine import Engine, Failure, Plan
from imbalance_lab.errors import InputError
from imbalance_lab.learners.all_learners import prepare_learner
from imbalance_lab.learners.protocol import Learner
from imbalance_lab.names import inside, key
from imbalance_lab.run.search import Tried, Tuning, judge, search, space_of, trials_of, with_tuned
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from imbalance_lab.training.course import selection_of
from imbalance_lab.training.together import Failed, Steps, Took, train_together
from imbalance_lab.training.training_config import resolve_device
from mlflow_project.binding import bind_strategy
from mlflow_project.task import prepare_worker
from mlflow_project.tracking import RunLogger

SEARCH_TOGETHER = 16
"""Trials of searches that a device is asked to train at once; Optuna's sampler learns nothing within a batch."""


def ready(spec: ExperimentSpec, strategy: str, seed: int, loaded: LoadedData, device: str = "") -> Learner:
    """A strategy of the experiment, bound and ready to be trained with ``seed``; ``device`` replaces the spec's.

    Raises
    ------
    InputError
        If the strategy does not fit the data.
    """
    chosen = spec.strategies[strategy]
    bound = bind_strategy(chosen, loaded, spec.main_head(loaded.dataset.heads), seed)
    training = spec.training.model_copy(update={"device": device}) if device else spec.training
    return prepare_learner(loaded, chosen, bound, spec.model, training, seed)


@dataclass(frozen=True)
class SearchTask:
    """One trial of a strategy's search, for a worker; ``work`` is the grid's folder, ``device`` replaces the spec's."""

    spec: dict[str, Any]
    strategy: str
    values: dict[str, Any]
    work: str
    threads: int
    device: str = ""


def run_search_tasks(tasks: Sequence[SearchTask], together: int | None = None) -> tuple[Tried, ...]:
    """Train strategies with the tasks' values and the experiment's first seed on one device; judged on validation.

    Parameters
    ----------
    tasks : of one grid and one device
    together : at most so many at once (default: as many as the device's memory holds)
    """
    first = tasks[0]
    prepare_worker(first.threads)
    spec = parse_experiment(first.spec, where="spec of the grid")
    loaded = load_cached(Path(first.work) / "data")
    heads = loaded.dataset.heads
    selection = selection_of(spec.selection.metric, heads, spec.main_head(heads))
    results: dict[int, float | Exception] = {}

    def start(task: SearchTask) -> Steps:
        tried = with_tuned(spec, task.strategy, task.values)
        return ready(tried, task.strategy, spec.seeds[0], loaded, task.device).steps(selection)

    device = resolve_device(first.device or spec.training.device)
    for event in train_together([partial(start, task) for task in tasks], device, most=together):
        match event:
            case Took(i, epoch) if epoch.best:
                results[i] = epoch.score
            case Failed(i, error):
                results[i] = error
    return tuple(_judged(spec, task, results[i]) for i, task in enumerate(tasks))


def _judged(spec: ExperimentSpec, task: SearchTask, result: float | Exception) -> Tried:
    """What became of a trial; whatever made it fail, it counts as one that cannot be chosen."""
    if isinstance(result, Exception):
        return Tried(task.values, None, f"{type(result).__name__}: {result}")
    return judge(spec, task.strategy, task.values, lambda tried: result)


def searches_left(spec: ExperimentSpec, strategies: Iterable[str], work: Path) -> dict[str, int]:
    """How many trials each search has that is not finished yet, by strategy."""
    wanted = {name: trials_of(spec, name) for name in strategies if not _file(work, name).exists()}
    return {name: n if space_of(spec, name) else 1 for name, n in wanted.items() if n}


def search_all(
    spec: ExperimentSpec,
    strategies: Iterable[str],
    work: Path,
    engine: Engine,
    plan: Plan,
    ended: Callable[[str], None] = lambda text: None,
) -> None:
    """Search the hyper-parameters of every strategy that asks for it, once per strategy, before its trials.

    All searches go on side by side in rounds: each asks for a batch, the batches of a round are one
    map over the engine, and are told in the order in which they were asked. A batch is what fills the
    engine (one trial where there are at least as many searches as places); a worker with a device of its
    own counts as :data:`SEARCH_TOGETHER` places, and trains its share at once. What was tried is kept under
    ``work/tuning`` after each round, so that an interrupted search goes on, with its old batch size.
    A search without a single usable trial is kept as failed; :func:`tuning_of` then raises.

    Parameters
    ----------
    ended : called with "" after each trial, with a line of text when a search ends

    Raises
    ------
    InputError
        If Optuna is not installed.
    """
    left = searches_left(spec, strategies, work)
    places = len(plan.devices) * (plan.together or SEARCH_TOGETHER) if plan.devices else engine.jobs
    batch = max(1, math.ceil(places / max(1, len(left))))
    begun = {name: _begin(spec, name, trials, batch, work) for name, trials in left.items()}
    searches = {name: s for name, s in begun.items() if s is not None}
    plain, folder = spec.to_mapping(), str(work.absolute())
    while searches:
        asked = [(name, values) for name, s in searches.items() for values in s.asked]
        tasks = [SearchTask(plain, name, values, folder, plan.threads) for name, values in asked]
        n = len(plan.devices) or len(tasks)
        shares = [range(i, len(tasks), n) for i in range(min(n, len(tasks)))]  # the tasks of each job
        devices = plan.devices or ("",) * n
        jobs = [[replace(tasks[k], device=devices[i]) for k in share] for i, share in enumerate(shares)]
        results: dict[int, Tried] = {}
        run = partial(run_search_tasks, together=plan.together)
        for done in engine.map(run, jobs, journal=work / "starts" / "search"):
            found = done.outcome
            if isinstance(found, Failure):
                found = tuple(Tried(task.values, None, found.reason) for task in jobs[done.index])
            for k, one in zip(shares[done.index], found, strict=True):
                results[k] = one
                ended("")
        for name, old in tuple(searches.items()):
            tried = tuple(results[i] for i, (owner, _) in enumerate(asked) if owner == name)
            new = _told(old, name, tried, work, ended)
            if new is None:
                del searches[name]
            else:
                _write(_file(work, name, ".tried.json"), {"batch": new.batch, "tried": [asdict(t) for t in new.tried]})
                searches[name] = new


def tuning_of(work: Path, strategy: str) -> Tuning | None:
    """The finished search of a strategy, or None where nothing was tuned.

    Raises
    ------
    InputError
        If none of its trials could be trained.
    """
    file = _file(work, strategy)
    if not file.exists():
        return None
    plain = json.loads(file.read_text(encoding="utf-8"))
    if "failed" in plain:
        raise InputError(plain["failed"])
    return Tuning.from_mapping(plain)


@dataclass(frozen=True)
class _Search:
    """A search in progress; ``asked`` waits to be tried."""

    dialogue: Generator[tuple[dict[str, Any], ...], Sequence[Tried], Tuning]
    batch: int
    asked: tuple[dict[str, Any], ...]
    tried: tuple[Tried, ...] = ()


def _begin(spec: ExperimentSpec, name: str, trials: int, batch: int, work: Path) -> _Search | None:
    """Start a search, or bring a kept one to where it stopped; None where that ends it."""
    kept = _file(work, name, ".tried.json")
    start: dict[str, Any] = {"batch": batch, "tried": []}
    plain = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else start
    before = tuple(Tried(**t) for t in plain["tried"])
    dialogue = search(spec, name, trials=trials, batch=plain["batch"])
    now: _Search | None = _Search(dialogue, plain["batch"], next(dialogue))
    while now is not None and len(now.tried) < len(before):
        known = before[len(now.tried) :]
        now = _told(now, name, known[: len(now.asked)], work, lambda text: None)
    return now


def _told(
    old: _Search, name: str, tried: tuple[Tried, ...], work: Path, ended: Callable[[str], None]
) -> _Search | None:
    """Tell a search what became of its batch; None when that was the last one and the outcome is written."""
    try:
        return replace(old, asked=old.dialogue.send(tried), tried=(*old.tried, *tried))
    except StopIteration as end:
        tuning: Tuning = end.value
        _write(_file(work, name), tuning.to_mapping())
        pruned = sum(t.score is None for t in tuning.tried)
        ended(f"{name}: searched {len(tuning.tried)} trials ({pruned} pruned), best {tuning.score:.3f} on validation")
    except InputError as error:
        _write(_file(work, name), {"failed": str(error)})
        ended(str(error))
    return None


def _file(work: Path, strategy: str, suffix: str = ".json") -> Path:
    return inside(work / "tuning", strategy, suffix)


def _write(file: Path, plain: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(json.dumps(plain, indent=1), encoding="utf-8")
    os.replace(partial, file)


def log_tuning(logger: RunLogger, tuning: Tuning) -> None:
    """Every value tried (``tuning.json``), and the chosen ones as parameters ``tuned.<path>``."""
    logger.text(json.dumps(tuning.to_mapping(), indent=1), "tuning.json")
    logger.params(
        {
            "tune.trials": len(tuning.tried),
            "tune.pruned": sum(t.score is None for t in tuning.tried),
            "tune.score": tuning.score,
            **{f"tuned.{key(path)}": value for path, value in tuning.chosen.items()},
        }
    )
