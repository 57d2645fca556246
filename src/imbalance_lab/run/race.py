"""The rounds of a grid: all trials at once, or with a race fold after fold, without those that were stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from imbalance_lab.comparison.racing import Round, Stop, look
from imbalance_lab.comparison.records import RunRecord
from imbalance_lab.predictions import open_parquet
from imbalance_lab.run.comparison_files import deciding_metric
from imbalance_lab.run.workspace import TrialResult
from imbalance_lab.spec import ExperimentSpec, TrialId


def run_rounds(
    spec: ExperimentSpec,
    train: Callable[[Sequence[TrialId]], None],
    results: Mapping[str, TrialResult],
    tell: Callable[[Stop], None],
) -> list[Stop]:
    """Train round after round; what is stopped depends on nothing but what finished trials predict on validation.

    So a grid that is taken up again decides as it did before.

    Parameters
    ----------
    train : trains those of the trials that have no result yet
    results : the finished trials by name, filled by ``train``
    tell : called with each strategy that is stopped

    Returns
    -------
    list of Stop
        The strategies whose later trials were never begun; empty without a race. A strategy with a trial that failed
        takes no part in later looks, and is not stopped.
    """
    stops: list[Stop] = []
    done: list[TrialId] = []
    for at, due in _rounds(spec):
        racing = [trial for trial in due if trial.strategy not in {stop.strategy for stop in stops}]
        train(racing)
        done += racing
        if at is not None and at.looks:
            for stop in _looked(spec, at, done, stops, results):
                stops.append(stop)
                tell(stop)
    return stops


def never_begun(spec: ExperimentSpec, stops: Sequence[Stop]) -> int:
    """How many trials were saved."""
    rounds = list(_rounds(spec))
    return sum(t.strategy == s.strategy for s in stops for _, due in rounds[s.round.after :] for t in due)


def _rounds(spec: ExperimentSpec) -> Iterator[tuple[Round | None, list[TrialId]]]:
    """The trials of each round: a fold with all seeds, or a seed where there are no folds; all at once without a race.

    Every strategy once, then again: what is left when a grid is stopped can be compared.
    """
    trials = sorted(spec.trials(), key=lambda t: (spec.seeds.index(t.seed), t.fold or 0))
    if not spec.comparison.race:
        yield None, trials
        return
    parts, count = spec.race_rounds
    for n in range(count):
        own = [t for t in trials if (t.fold if parts == "folds" else spec.seeds.index(t.seed)) == n]
        yield Round(n + 1, count, parts), own


def _looked(
    spec: ExperimentSpec,
    at: Round,
    done: Sequence[TrialId],
    stops: Sequence[Stop],
    results: Mapping[str, TrialResult],
) -> list[Stop]:
    out = {stop.strategy for stop in stops} | {trial.strategy for trial in done if trial.name not in results}
    if spec.baseline in out:
        return []
    runs = []
    for trial in done:
        if trial.strategy not in out:
            val = open_parquet(results[trial.name].predictions("val"))
            runs.append(RunRecord(trial.strategy, trial.seed, results[trial.name].run_id, val, fold=trial.fold))
    head = runs[0].test.primary
    return look(runs, at, baseline=spec.baseline, head=head, metric=deciding_metric(spec))
