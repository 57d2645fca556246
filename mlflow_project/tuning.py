"""The search for a strategy's hyper-parameters, once per strategy of a grid, and how it is logged."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imbalance_lab.data.cache import load_cached
from imbalance_lab.data.dataset import LoadedData, primary_head
from imbalance_lab.engine import Engine, Failure
from imbalance_lab.errors import InputError
from imbalance_lab.names import key
from imbalance_lab.run.search import Tried, Tuning, judge, search, space_of, trials_of
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from imbalance_lab.training.table_trial import TableTrial, prepare_table_trial
from imbalance_lab.training.trial import PreparedTrial, prepare_trial, selection_of
from mlflow_project.binding import bind_strategy
from mlflow_project.task import prepare_worker
from mlflow_project.tracking import RunLogger


def ready(spec: ExperimentSpec, strategy: str, seed: int, loaded: LoadedData) -> PreparedTrial | TableTrial:
    """A strategy of the experiment, bound and ready to be trained with ``seed``.

    Raises
    ------
    InputError
        If the strategy does not fit the data.
    """
    chosen = spec.strategies[strategy]
    bound = bind_strategy(chosen, loaded, primary_head(loaded.dataset.heads), seed)
    if chosen.table is not None:
        return prepare_table_trial(loaded, chosen, bound, seed)
    return prepare_trial(loaded, bound, spec.model, spec.training, seed)


@dataclass(frozen=True)
class SearchTask:
    """One trial of a strategy's search, for a worker; ``work`` is the grid's folder."""

    spec: dict[str, Any]
    strategy: str
    values: dict[str, Any]
    work: str
    threads: int


def run_search_task(task: SearchTask) -> Tried:
    """Train the strategy with the task's values and the experiment's first seed; judged on validation."""
    prepare_worker(task.threads)
    spec = parse_experiment(task.spec, where="spec of the grid")
    loaded = load_cached(Path(task.work) / "data")
    heads = loaded.dataset.heads
    selection = selection_of(spec.selection.metric, heads, primary_head(heads))

    def evaluate(tried: ExperimentSpec) -> float:
        epochs = ready(tried, task.strategy, spec.seeds[0], loaded).train(selection)
        return max(e.score for e in epochs if e.best)

    return judge(spec, task.strategy, task.values, evaluate)


def searches_left(spec: ExperimentSpec, strategies: Iterable[str], work: Path) -> dict[str, int]:
    """How many trials each search has that is not finished yet, by strategy."""
    wanted = {name: trials_of(spec, name) for name in strategies if not _file(work, name).exists()}
    return {name: n if space_of(spec, name) else 1 for name, n in wanted.items() if n}


def search_all(
    spec: ExperimentSpec,
    strategies: Iterable[str],
    work: Path,
    engine: Engine,
    threads: int,
    ended: Callable[[str], None] = lambda text: None,
) -> None:
    """Search the hyper-parameters of every strategy that asks for it, once per strategy, before its trials.

    All searches go on side by side in rounds: each asks for a batch, the batches of a round are one
    map over the engine, and are told in the order in which they were asked. A batch is what fills the
    engine (one trial where there are at least as many searches as places). What was tried is kept under
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
    batch = max(1, math.ceil(engine.jobs / max(1, len(left))))
    begun = {name: _begin(spec, name, trials, batch, work) for name, trials in left.items()}
    searches = {name: s for name, s in begun.items() if s is not None}
    plain, folder = spec.to_mapping(), str(work.absolute())
    while searches:
        asked = [(name, values) for name, s in searches.items() for values in s.asked]
        tasks = [SearchTask(plain, name, values, folder, threads) for name, values in asked]
        results: dict[int, Tried] = {}
        for done in engine.map(run_search_task, tasks, journal=work / "starts" / "search"):
            found = done.outcome
            if isinstance(found, Failure):
                found = Tried(tasks[done.index].values, None, found.reason)
            results[done.index] = found
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
    return work / "tuning" / f"{strategy}{suffix}"


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
