"""The search for hyper-parameters of one strategy: Optuna's ask and tell, judged on validation alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from imbalance_lab.errors import InputError, NonFiniteLossError
from imbalance_lab.randomness import derive_seed
from imbalance_lab.spec import ExperimentSpec
from imbalance_lab.strategies.language.tunable import search_space, with_values
from imbalance_lab.strategies.search_space import Distribution, LogUniform, optuna_distributions

_TRAINING = "training."


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
    spec: ExperimentSpec, strategy: str, *, trials: int, batch: int = 1
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
    seed = derive_seed(spec.seeds[0], "tune", strategy) % 2**32
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


def tune(
    spec: ExperimentSpec,
    strategy: str,
    evaluate: Callable[[ExperimentSpec], float],
    *,
    trials: int,
    progress: Callable[[int, Tried], None] | None = None,
) -> Tuning:
    """:func:`search` with every trial judged here, one after the other.

    Parameters
    ----------
    evaluate : experiment to the selection metric on validation, with the first seed
    trials : how many, the first included
    progress : called after each trial with its number (from 1) and result

    Raises
    ------
    InputError
        As :func:`search`.
    """
    searching = search(spec, strategy, trials=trials)
    (values,) = next(searching)
    number = 0
    while True:
        result = judge(spec, strategy, values, evaluate)
        number += 1
        if progress is not None:
            progress(number, result)
        try:
            (values,) = searching.send((result,))
        except StopIteration as end:
            found: Tuning = end.value
            return found


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
