"""The search for hyper-parameters, once per strategy: Optuna's ask and tell, judged on validation alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from imbalance_lab.atomic import read_json, reading_own, write_json
from imbalance_lab.data.cache import load_cached
from imbalance_lab.engine import Engine, Failure, Plan
from imbalance_lab.errors import InputError, NonFiniteLossError
from imbalance_lab.randomness import derive_seed
from imbalance_lab.run.binding import ready_learner, set_threads
from imbalance_lab.run.workspace import Workspace
from imbalance_lab.spec import ExperimentSpec, TrialId, parse_experiment
from imbalance_lab.strategies.language.tunable import search_space, with_values
from imbalance_lab.strategies.search_space import Distribution, LogUniform, optuna_distributions
from imbalance_lab.training.course import selection_of
from imbalance_lab.training.together import Failed, Steps, Took, train_together
from imbalance_lab.training.training_config import resolve_device

_TRAINING = "training."

SEARCH_TOGETHER = 16
"""Trials of searches that a device is asked to train at once; Optuna's sampler learns nothing within a batch."""


@dataclass(frozen=True)
class Tried:
    """One trial of a search: its values by path, its validation score or None, and why it has none."""

    values: dict[str, Any]
    score: float | None
    pruned: str = ""


@dataclass(frozen=True)
class Tuning:
    """A finished search.

    ``chosen`` are the values of the best trial; empty where the experiment's own values won, which
    are always the first trial. ``space`` describes the distributions in words.
    """

    strategy: str
    metric: str
    seed: int
    score: float
    chosen: dict[str, Any]
    tried: tuple[Tried, ...]
    space: dict[str, str] = field(default_factory=dict)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values (JSON)."""
        return asdict(self)

    @staticmethod
    def from_mapping(plain: Mapping[str, Any]) -> Tuning:
        """The inverse of :meth:`to_mapping`."""
        return Tuning(**{**plain, "tried": tuple(Tried(**t) for t in plain["tried"])})


def trials_of(spec: ExperimentSpec, strategy: str) -> int:
    """How many trials a strategy gets; 0 where nothing is tuned.

    Its own ``tune``, else the experiment's; the baseline gets as many as the strategy with the most.
    """
    asked = {
        name: s.tune.trials if s.tune is not None else (spec.tune.trials if spec.tune is not None else 0)
        for name, s in spec.strategies.items()
    }
    return max(asked.values()) if strategy == spec.baseline else asked[strategy]


def check_search(spec: ExperimentSpec) -> None:
    """Refuse an experiment that searches where Optuna is not installed.

    Raises
    ------
    InputError
        If so.
    """
    if any(trials_of(spec, name) for name in spec.strategies):
        _optuna()


def space_of(spec: ExperimentSpec, strategy: str) -> dict[str, Distribution]:
    """Search space by path: the strategy's own options and, for networks, the two of every training.

    ``training.learning_rate`` spans a factor of 3 to both sides of the experiment's value,
    ``training.weight_decay`` 10^-4 to 0.3; every strategy, the baseline too, may move them.
    """
    chosen = spec.strategies[strategy]
    own = search_space(chosen)
    if chosen.table is not None:
        return own
    rate = spec.training.learning_rate
    return {
        f"{_TRAINING}learning_rate": LogUniform(rate / 3, min(10.0, rate * 3)),
        f"{_TRAINING}weight_decay": LogUniform(1e-4, 0.3),
        **own,
    }


def with_tuned(spec: ExperimentSpec, strategy: str, values: Mapping[str, Any]) -> ExperimentSpec:
    """The experiment with values of :func:`space_of` set for ``strategy``.

    Raises
    ------
    InputError
        If a value is not allowed, or the values correct the prior twice.
    """
    training = {k.removeprefix(_TRAINING): v for k, v in values.items() if k.startswith(_TRAINING)}
    own = {k: v for k, v in values.items() if not k.startswith(_TRAINING)}
    changed = with_values(spec.strategies[strategy], own) if own else spec.strategies[strategy]
    return spec.model_copy(
        update={
            "training": spec.training.model_copy(update=training),
            "strategies": {**spec.strategies, strategy: changed},
        }
    )


def search(
    spec: ExperimentSpec, strategy: str, *, trials: int, batch: int = 1, fold: int | None = None
) -> Generator[tuple[dict[str, Any], ...], Sequence[Tried], Tuning]:
    """The search of one strategy as a dialogue: yields batches of values, is sent what became of them.

    Optuna's TPE sampler asks; the first trial is the experiment as written (no values), so the choice
    is never worse than it on validation. Trials of one batch are asked before any of them is told;
    those that are still open count as bad ones (``constant_liar``), so that a batch spreads out.
    The same seed and the same ``batch`` give the same values, in whatever order a batch was trained;
    another ``batch`` gives other values from the 12th trial on, where the sampler's random start ends.

    Parameters
    ----------
    trials : how many, the first included
    batch : how many are asked at once
    fold : that the search is made on, None without folds; each has draws of its own

    Returns
    -------
    The finished search, as the value of ``StopIteration``.

    Raises
    ------
    InputError
        If Optuna is not installed, or no trial could be trained.

    References
    ----------
    Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011 (TPE);
    Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization", 2010 (constant liar).
    """
    optuna = _optuna()
    space = space_of(spec, strategy)
    seed = derive_seed(spec.seeds[0], "tune", strategy, *(() if fold is None else (fold,))) % 2**32
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=batch > 1)
    )
    distributions = optuna_distributions(space)
    total = trials if space else 1
    tried: list[Tried] = []
    while len(tried) < total:
        size = min(batch, total - len(tried))
        as_written = not tried
        asked = [study.ask(fixed_distributions=distributions) for _ in range(size - as_written)]
        results = yield ({},) * as_written + tuple(dict(a.params) for a in asked)
        for trial, result in zip(asked, results[int(as_written) :], strict=True):
            pruned = result.score is None
            study.tell(trial, result.score, state=optuna.trial.TrialState.PRUNED if pruned else None)
        tried.extend(results)
    scored = [t for t in tried if t.score is not None]
    if not scored:
        raise InputError(
            f"strategy {strategy!r}, key tune: none of {len(tried)} trials could be trained; {tried[0].pruned}"
        )
    best = max(scored, key=_score)
    return Tuning(
        strategy=strategy,
        metric=spec.selection.metric,
        seed=spec.seeds[0],
        score=_score(best),
        chosen=best.values,
        tried=tuple(tried),
        space={path: str(d) for path, d in space.items()},
    )


def judge(
    spec: ExperimentSpec, strategy: str, values: Mapping[str, Any], evaluate: Callable[[ExperimentSpec], float]
) -> Tried:
    """One trial of a search: what ``evaluate`` says of the experiment with ``values``.

    Values that cannot work together, and trainings whose loss became non-finite, count as pruned.

    Parameters
    ----------
    evaluate : experiment to the selection metric on validation, with the first seed
    """
    try:
        score = evaluate(with_tuned(spec, strategy, values))
    except (InputError, NonFiniteLossError) as error:
        return Tried(dict(values), None, f"{type(error).__name__}: {error}")
    return Tried(dict(values), score) if math.isfinite(score) else Tried(dict(values), None, "the score is not finite")


@dataclass(frozen=True)
class SearchTask:
    """One trial of a strategy's search, for a worker; ``work`` is the grid's folder, ``device`` replaces the spec's."""

    spec: dict[str, Any]
    strategy: str
    values: dict[str, Any]
    work: str
    threads: int
    device: str = ""
    fold: int | None = None


def run_search_tasks(tasks: Sequence[SearchTask], together: int | None = None) -> tuple[Tried, ...]:
    """Train strategies with the tasks' values and the experiment's first seed on one device; judged on validation.

    Parameters
    ----------
    tasks : of one grid and one device
    together : at most so many at once (default: as many as the device's memory holds)
    """
    first = tasks[0]
    set_threads(first.threads)
    spec = parse_experiment(first.spec, where="spec of the grid")
    parts = {fold: load_cached(Workspace(Path(first.work)).data_of(fold)) for fold in {task.fold for task in tasks}}
    results: dict[int, float | Exception] = {}

    def start(task: SearchTask) -> Steps:
        tried = with_tuned(spec, task.strategy, task.values)
        loaded = parts[task.fold]
        heads = loaded.dataset.heads
        selection = selection_of(spec.selection.metric, heads, spec.main_head(heads))
        seed = TrialId(task.strategy, spec.seeds[0], task.fold).randomness
        return ready_learner(tried, task.strategy, seed, loaded, task.device).steps(selection)

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


SearchKey = tuple[str, int | None]
"""Which search: a strategy, and the fold (None without folds)."""


def searches_left(
    spec: ExperimentSpec, strategies: Iterable[str], workspace: Workspace, folds: Sequence[int | None] | None = None
) -> dict[SearchKey, int]:
    """How many trials each search has that is not finished yet; ``folds``: on these alone (default: on all)."""
    wanted = {
        (name, fold): trials_of(spec, name)
        for name in strategies
        for fold in (spec.folds if folds is None else folds)
        if not workspace.tuning(name, fold).exists()
    }
    return {(name, fold): n if space_of(spec, name) else 1 for (name, fold), n in wanted.items() if n}


def search_all(
    spec: ExperimentSpec,
    strategies: Iterable[str],
    workspace: Workspace,
    engine: Engine,
    plan: Plan,
    ended: Callable[[str], None] = lambda text: None,
    folds: Sequence[int | None] | None = None,
) -> None:
    """Search the hyper-parameters of every strategy that asks for it, once per strategy and fold, before its trials.

    A search within a fold sees that fold's train and validation alone, so that what it chooses knows nothing of the
    recordings that the fold tests.

    All searches go on side by side in rounds: each asks for a batch, the batches of a round are one
    map over the engine, and are told in the order in which they were asked. A batch is what fills the
    engine (one trial where there are at least as many searches as places); a worker with a device of its
    own counts as :data:`SEARCH_TOGETHER` places, and trains its share at once. What was tried is kept under
    the workspace after each round, so that an interrupted search goes on, with its old batch size.
    A search without a single usable trial is kept as failed; :func:`tuning_of` then raises.

    Parameters
    ----------
    ended : called with "" after each trial, with a line of text when a search ends
    folds : the searches of these alone (default: of all that the experiment has)

    Raises
    ------
    InputError
        If Optuna is not installed.
    """
    left = searches_left(spec, strategies, workspace, folds)
    places = len(plan.devices) * (plan.together or SEARCH_TOGETHER) if plan.devices else engine.jobs
    batch = max(1, math.ceil(places / max(1, len(left))))
    begun = {key: _begin(spec, key, trials, batch, workspace) for key, trials in left.items()}
    searches = {key: s for key, s in begun.items() if s is not None}
    plain, folder = spec.to_mapping(), str(workspace.root.absolute())
    while searches:
        asked = [(key, values) for key, s in searches.items() for values in s.asked]
        tasks = [SearchTask(plain, key[0], values, folder, plan.threads, fold=key[1]) for key, values in asked]
        n = len(plan.devices) or len(tasks)
        shares = [range(i, len(tasks), n) for i in range(min(n, len(tasks)))]  # the tasks of each job
        devices = plan.devices or ("",) * n
        jobs = [[replace(tasks[k], device=devices[i]) for k in share] for i, share in enumerate(shares)]
        results: dict[int, Tried] = {}
        run = partial(run_search_tasks, together=plan.together)
        for done in engine.map(run, jobs, journal=workspace.journal("search")):
            found = done.outcome
            if isinstance(found, Failure):
                found = tuple(Tried(task.values, None, found.reason) for task in jobs[done.index])
            for k, one in zip(shares[done.index], found, strict=True):
                results[k] = one
                ended("")
        for key, old in tuple(searches.items()):
            tried = tuple(results[i] for i, (owner, _) in enumerate(asked) if owner == key)
            new = _told(old, key, tried, workspace, ended)
            if new is None:
                del searches[key]
            else:
                write_json(workspace.tried(*key), {"batch": new.batch, "tried": [asdict(t) for t in new.tried]})
                searches[key] = new


def tuning_of(workspace: Workspace, strategy: str, fold: int | None = None) -> Tuning | None:
    """The finished search of a strategy (on a fold), or None where nothing was tuned.

    Raises
    ------
    InputError
        If none of its trials could be trained.
    """
    file = workspace.tuning(strategy, fold)
    if not file.exists():
        return None
    with reading_own(str(file)):
        plain = read_json(file)
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


def _begin(spec: ExperimentSpec, key: SearchKey, trials: int, batch: int, workspace: Workspace) -> _Search | None:
    """Start a search, or bring a kept one to where it stopped; None where that ends it."""
    kept = workspace.tried(*key)
    start: dict[str, Any] = {"batch": batch, "tried": []}
    with reading_own(str(kept)):
        plain = read_json(kept) if kept.exists() else start
        before, batch = tuple(Tried(**t) for t in plain["tried"]), int(plain["batch"])
    dialogue = search(spec, key[0], trials=trials, batch=batch, fold=key[1])
    now: _Search | None = _Search(dialogue, batch, next(dialogue))
    while now is not None and len(now.tried) < len(before):
        known = before[len(now.tried) :]
        now = _told(now, key, known[: len(now.asked)], workspace, lambda text: None)
    return now


def _told(
    old: _Search, key: SearchKey, tried: tuple[Tried, ...], workspace: Workspace, ended: Callable[[str], None]
) -> _Search | None:
    """Tell a search what became of its batch; None when that was the last one and the outcome is written."""
    try:
        return replace(old, asked=old.dialogue.send(tried), tried=(*old.tried, *tried))
    except StopIteration as end:
        tuning: Tuning = end.value
        write_json(workspace.tuning(*key), tuning.to_mapping())
        pruned = sum(t.score is None for t in tuning.tried)
        name = key[0] if key[1] is None else f"{key[0]}, fold {key[1]}"
        ended(f"{name}: searched {len(tuning.tried)} trials ({pruned} pruned), best {tuning.score:.3f} on validation")
    except InputError as error:
        write_json(workspace.tuning(*key), {"failed": str(error)})
        ended(str(error))
    return None


def _score(result: Tried) -> float:
    assert result.score is not None
    return result.score


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError(
            "tune: found a search, but Optuna is not installed; pip install 'imbalance-lab[tune]', or remove tune"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
