"""A cross-validated strategy as a whole: scores over seeds and folds, out-of-fold predictions, one error analysis."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_lab.comparison.folds import pool_predictions
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.names import key
from imbalance_lab.predictions import Predictions, read_parquet, write_parquet
from imbalance_lab.run.binding import set_threads
from imbalance_lab.run.scores import HEAD_METRICS, corrected_metrics, head_metrics, prediction_metrics
from imbalance_lab.run.trial_files import Background, Origin, write_analysis
from imbalance_lab.run.workspace import TrialResult, predictions_file
from imbalance_lab.spec import ExperimentSpec, parse_experiment


@dataclass(frozen=True)
class StrategyTask:
    """A strategy whose trials have ended, for a worker; plain values.

    Attributes
    ----------
    trials : all of its seeds and folds
    spec : the experiment, as :meth:`~imbalance_lab.spec.ExperimentSpec.to_mapping` gives it
    folder : where its files go
    run_id : of the run that it is logged to
    """

    strategy: str
    trials: tuple[TrialResult, ...]
    spec: dict[str, Any]
    folder: str
    run_id: str
    threads: int = 1


@dataclass(frozen=True)
class StrategyOutcome:
    """What is logged of a strategy beside its folder: metrics by their names, and the verdict in one sentence."""

    strategy: str
    metrics: dict[str, float]
    verdict: str
    seeds: tuple[int, ...]
    folds: int
    positions: int
    recordings: int
    head: str
    seconds: float


def summarise_strategy(task: StrategyTask) -> StrategyOutcome:
    """Write the folder of a strategy: out-of-fold predictions, tables, figures, pages; see :func:`strategy_metrics`.

    Predictions and error analysis are those of the first seed, in which every recording is tested once; those of
    another seed are in its trials.
    """
    begun = time.perf_counter()
    set_threads(task.threads)
    folder, spec = Path(task.folder), parse_experiment(task.spec, where="spec of the grid")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    metrics = strategy_metrics(spec, task.trials)
    seeds = tuple(sorted({trial.id.seed for trial in task.trials}))
    parts = _by_fold(task.trials, seeds[0])
    pooled = pool_predictions([read_parquet(trial.predictions("test")) for trial in parts])
    pooled = replace(pooled, meta={**pooled.meta, "run_id": task.run_id})
    write_parquet(pooled, predictions_file(folder, "test"))
    behind = Background(
        Origin(task.run_id, spec), no_inputs="each fold scales its inputs anew; trials with analysis: full show them"
    )
    verdict = write_analysis(pooled, folder, behind=behind)
    head = pooled.heads[pooled.primary]
    return StrategyOutcome(
        strategy=task.strategy,
        metrics=metrics,
        verdict=verdict,
        seeds=seeds,
        folds=len(parts),
        positions=len(head),
        recordings=len(np.unique(head.group)),
        head=pooled.primary,
        seconds=time.perf_counter() - begun,
    )


def strategy_metrics(spec: ExperimentSpec, trials: Sequence[TrialResult]) -> dict[str, float]:
    """The metrics of a strategy by the names that a trial logs, the main head's first.

    * ``test/<head>/<metric>``: of the out-of-fold rows of a seed pooled, mean over seeds; what the leaderboard shows.
    * ``test/<head>/free_lunch/<metric>``: the same after each fold's own correction.
    * ``test/<head>/<metric>/sd_seeds``: standard deviation of the pooled score over seeds, with two seeds or more.
    * ``test/<head>/<metric>/sd_folds``: standard deviation of the single folds' scores, mean over seeds.
    * ``val/<head>/<metric>/selected``: mean over all trials. ``train/seconds``: their sum.
    """
    pooled: list[dict[str, float]] = []
    by_fold: list[dict[str, float]] = []
    main = ""
    for seed in sorted({trial.id.seed for trial in trials}):
        tests = [read_parquet(trial.predictions("test")) for trial in _by_fold(trials, seed)]
        whole = pool_predictions(tests)
        main = whole.primary
        corrected = pool_predictions([test.free_lunch() for test in tests])
        pooled.append(prediction_metrics(whole) | corrected_metrics(corrected))
        folds = [_scores(test) for test in tests]
        common = [name for name in folds[0] if all(name in fold for fold in folds)]
        by_fold.append({name: float(np.std([fold[name] for fold in folds], ddof=1)) for name in common})
    values = _mean(pooled)
    if len(pooled) > 1:
        scores = [name for name in values if name.count("/") == 2 and name.rpartition("/")[2] in HEAD_METRICS]
        values |= {f"{name}/sd_seeds": float(np.std([p[name] for p in pooled], ddof=1)) for name in scores}
    values |= {f"{name}/sd_folds": value for name, value in _mean(by_fold).items()}
    selected = f"val/{key(main)}/{spec.selection.metric.rpartition('/')[2]}/selected"
    values[selected] = float(np.mean([trial.val_score for trial in trials]))
    values["train/seconds"] = float(sum(trial.seconds for trial in trials))
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _by_fold(trials: Sequence[TrialResult], seed: int) -> list[TrialResult]:
    return sorted((t for t in trials if t.id.seed == seed), key=lambda t: t.id.fold or 0)


def _scores(test: Predictions) -> dict[str, float]:
    split = key(str(test.meta.get("split") or "test"))
    return {
        f"{split}/{key(head)}/{name}": value
        for head, p in test.heads.items()
        for name, value in head_metrics(confusion_counts(p.true, p.pred, len(p.classes))).items()
    }


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of what every row has."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if all(name in row for row in rows)}
