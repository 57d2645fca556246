"""The search for a strategy's hyper-parameters, once per strategy of a grid, and how it is logged."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from imbalance_lab.data.dataset import LoadedData, primary_head
from imbalance_lab.spec import ExperimentSpec
from imbalance_lab.training.fit import Selection
from imbalance_lab.training.table_trial import TableTrial, prepare_table_trial
from imbalance_lab.training.trial import PreparedTrial, prepare_trial
from imbalance_lab.training.tuning import Tried, Tuning, trials_of, tune
from mlflow_project.binding import bind_strategy
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


def tuning_of(
    spec: ExperimentSpec,
    strategy: str,
    loaded: LoadedData,
    selection: Selection,
    work: Path,
    progress: Callable[[int, int, float], None] | None = None,
) -> Tuning | None:
    """The strategy's search with the first seed, or None where nothing is tuned.

    It is kept under ``work/tuning``: the first seed's trial searches, the others read. Seeds that
    start at the same time search side by side and then all take what was kept first.

    Parameters
    ----------
    progress : called after each trial of the search with its number, how many there are, and its score
    """
    trials = trials_of(spec, strategy)
    if not trials:
        return None
    file = work / "tuning" / f"{strategy}.json"
    if not file.exists():

        def evaluate(tried: ExperimentSpec) -> float:
            epochs = ready(tried, strategy, spec.seeds[0], loaded).train(selection)
            return max(e.score for e in epochs if e.best)

        def report(number: int, result: Tried) -> None:
            if progress is not None:
                progress(number, trials, float("nan") if result.score is None else result.score)

        found = tune(spec, strategy, evaluate, trials=trials, progress=report)
        _keep_first(file, json.dumps(found.to_mapping(), indent=1))
    return Tuning.from_mapping(json.loads(file.read_text(encoding="utf-8")))


def _keep_first(file: Path, text: str) -> None:
    """Write ``file`` at once, unless it exists by now."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    with contextlib.suppress(FileExistsError):
        os.link(partial, file)
    partial.unlink()


def log_tuning(logger: RunLogger, tuning: Tuning) -> None:
    """Every value tried (``tuning.json``), and the chosen ones as parameters ``tuned.<path>``."""
    logger.text(json.dumps(tuning.to_mapping(), indent=1), "tuning.json")
    logger.params(
        {
            "tune.trials": len(tuning.tried),
            "tune.pruned": sum(t.score is None for t in tuning.tried),
            "tune.score": tuning.score,
            **{f"tuned.{path}": value for path, value in tuning.chosen.items()},
        }
    )
