"""``compare``: which of these runs? Paired statistics, figures and a verdict, across grids."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imbalance_lab.errors import InputError
from imbalance_lab.run.launched import seen_from_caller
from imbalance_lab.run.terminal import quiet, say
from imbalance_lab.spec import ComparisonSection

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from imbalance_lab.comparison.records import RunRecord
    from imbalance_lab.spec import ExperimentSpec
    from mlflow_project.tracking import RunLogger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``compare``."""
    parser.add_argument("--run_ids", default="", help="runs, separated by commas; a grid stands for its trials")
    parser.add_argument("--experiment_name", default="", help="instead: every run of this experiment with predictions")
    parser.add_argument(
        "--filter", default="", help="MLflow filter of --experiment_name (\"tags.strategy != ''\"); default: all"
    )
    parser.add_argument("--baseline", default="", help="strategy to compare with (default: the one tagged so)")
    parser.add_argument("--metric", default="macro_f1", help="macro_f1, balanced_accuracy or mcc")
    parser.add_argument(
        "--margin", default="", help="differences within it do not matter (default: as the runs' experiment says)"
    )
    parser.add_argument("--costs", default="", help="cost matrix (CSV; rows true, columns predicted)")


def main(arguments: argparse.Namespace) -> int:
    """Compare, log, say the verdict."""
    margin = _margin(arguments.margin)
    if bool(arguments.run_ids) == bool(arguments.experiment_name):
        raise InputError("compare: give either --run_ids or --experiment_name")
    quiet()
    from mlflow_project.tracking import open_line

    if arguments.run_ids:
        found = runs_by_id([part.strip() for part in arguments.run_ids.split(",") if part.strip()])
    else:
        found = runs_of_experiment(arguments.experiment_name, arguments.filter)
    if not found:
        raise InputError("compare: none of the runs finished; nothing to compare")
    with tempfile.TemporaryDirectory() as folder:
        logger, verdict = compare_runs(
            found,
            Path(folder),
            baseline=arguments.baseline,
            metric=arguments.metric,
            margin=margin,
            costs=seen_from_caller(Path(arguments.costs)) if arguments.costs else None,
        )
    say(verdict)
    say(f"The page is comparison/index.html of run {logger.run_id}. {open_line(logger.store, logger.run_id)}")
    return 0


def compare_runs(
    found: Sequence[Run],
    folder: Path,
    *,
    baseline: str = "",
    metric: str = "macro_f1",
    margin: float | None = None,
    costs: Path | None = None,
) -> tuple[RunLogger, str]:
    """Compare runs and log the result to a new run with the tag ``role=comparison``; its logger and the verdict.

    The comparison lies in the experiment of the first run. Without a ``margin`` it is that of the runs' experiments.
    Strategies that a race stopped are left out, with a line; the verdict on the others has what the race did not spend.

    Raises
    ------
    InputError
        If a run carries no predictions, the runs are of different data or folds, or their experiments have different
        margins.
    """
    from imbalance_lab.comparison.comparing import compare
    from imbalance_lab.run.comparison_files import write_comparison
    from mlflow_project import runs as lookup
    from mlflow_project import tracking
    from mlflow_project.schema import Compared, log_comparison

    client = tracking.client_of_store()
    found = without_stopped(found)
    by_run = [(run, lookup.record_of(client, run, folder / "download", metric)) for run in found]
    missing = [run.info.run_id for run, record in by_run if record is None]
    if missing:
        raise InputError(f"run {missing[0]!r} carries no {lookup.PREDICTIONS}; only runs with predictions are compared")
    records = [record for _, record in by_run if record is not None]
    _same_data(records)
    chosen = baseline or baseline_of(found, records)
    head = records[0].test.primary
    experiments_of = _experiments(client, found, folder / "download")
    result = compare(
        records,
        baseline=chosen,
        primary_head=head,
        metric=metric,
        margin=_common_margin(experiments_of) if margin is None else margin,
        costs=costs,
        raced=any(spec.comparison.race for spec in experiments_of.values()),
    )
    store = lookup.store_of(client, found[0])
    out = folder / "comparison"
    title = f"{store.experiment_name}: which strategy?"
    experiments = {run.info.run_id: run.info.experiment_id for run in found}
    compared = Compared(experiments, _only(found), simulated=lookup.is_simulated(found))
    links = compared.links(store.uri)
    write_comparison(result, out, links, title=title, metric=metric, simulated=compared.simulated)
    tags = {
        "role": "comparison",
        "experiment_name": store.experiment_name,
        "digest": str(result.facts["digest"]),
        "compared": ",".join(record.run_id for record in records)[:5000],
    }
    with tracking.run(store, f"comparison of {len(records)} runs", tags) as logger:
        log_comparison(logger, result, out, compared)
    return logger, result.choice.reason


def runs_by_id(run_ids: Sequence[str]) -> list[Run]:
    """The runs with these ids; the parent run of a grid stands for its finished trials.

    Raises
    ------
    InputError
        If there is no such run, or it is that of a strategy over its folds.
    """
    from mlflow_project import runs as lookup
    from mlflow_project import tracking

    client = tracking.client_of_store()
    found: list[Run] = []
    for run_id in run_ids:
        run = lookup.get_run(client, run_id, "run_ids")
        if run.data.tags.get("role") == "grid":
            children = lookup.search(client, run.info.experiment_id, f"tags.`mlflow.parentRunId` = '{run_id}'")
            found += [child for child in children if not _is_of_strategy(child)]
        elif _is_of_strategy(run):
            raise InputError(
                f"--run_ids: run {run_id!r} sums up the folds of strategy {run.data.tags.get('strategy')!r}; a "
                f"comparison takes its trials, or the grid: {run.data.tags.get('mlflow.parentRunId')}"
            )
        else:
            found.append(run)
    return list({run.info.run_id: run for run in found}.values())


def runs_of_experiment(name: str, wanted: str) -> list[Run]:
    """Finished runs of an experiment that carry predictions; the newest of each strategy, seed and fold.

    Runs that sum up the folds of a strategy are left out: their trials are compared.

    Raises
    ------
    InputError
        If there is no such experiment, the filter is not one that MLflow reads, or no run is left.
    """
    from mlflow_project import runs as lookup
    from mlflow_project import tracking

    client = tracking.client_of_store()
    experiment = lookup.experiment_named(client, name)
    matching = lookup.search(client, experiment.experiment_id, wanted)
    carrying = [run for run in matching if not _is_of_strategy(run) and lookup.carries_predictions(client, run)]
    if not carrying:
        raise InputError(
            f"--experiment_name: none of {len(matching)} finished runs of {name!r} that match the filter {wanted!r} "
            f"carries {lookup.PREDICTIONS}"
        )
    newest: dict[tuple[str, str, str], Run] = {}
    for run in carrying:  # newest first
        tags = run.data.tags
        newest.setdefault((tags.get("strategy", run.info.run_name), tags.get("seed", "0"), tags.get("fold", "")), run)
    if len(newest) < len(carrying):
        say(
            f"{len(carrying) - len(newest)} older runs of the same strategy, seed and fold are left out; "
            "--filter or --run_ids choose others"
        )
    return list(newest.values())[::-1]


def baseline_of(found: Sequence[Run], records: Sequence[RunRecord]) -> str:
    """The strategy that the runs are tagged with as their baseline, else ``cross-entropy``.

    Raises
    ------
    InputError
        If that does not name exactly one of the strategies.
    """
    names = list(dict.fromkeys(record.strategy for record in records))
    tagged = dict.fromkeys(
        record.strategy
        for run, record in zip(found, records, strict=True)
        if run.data.tags.get("baseline", "").lower() == "true"
    )
    if len(tagged) == 1:
        return next(iter(tagged))
    if not tagged and "cross-entropy" in names:
        return "cross-entropy"
    raise InputError(f"--baseline: found nothing; name the strategy to compare with, one of {', '.join(names)}")


def _is_of_strategy(run: Run) -> bool:
    """Whether a run sums up the trials of a strategy over its folds."""
    return bool(run.data.tags.get("role") == "strategy")


def _margin(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--margin: found {text!r}; expected a number between 0 and 1") from None


def without_stopped(found: Sequence[Run]) -> list[Run]:
    """The runs of strategies that no race stopped; those that it stopped are named in a line each.

    Raises
    ------
    InputError
        If none is left.
    """
    from mlflow_project.schema import STOPPED

    gone = {run.data.tags.get("strategy", ""): words for run in found if (words := run.data.tags.get(STOPPED))}
    for strategy, words in gone.items():
        say(f"{strategy} is not compared: the race stopped it {words}")
    left = [run for run in found if not run.data.tags.get(STOPPED)]
    if not left:
        raise InputError(f"compare: found runs of {', '.join(gone)} alone, which a race stopped; name the grid")
    return left


def _experiments(client: MlflowClient, found: Sequence[Run], folder: Path) -> dict[str, ExperimentSpec]:
    """The experiments that the runs logged, by the run that was asked: one of each grid."""
    from mlflow_project import runs as lookup

    asked = {run.data.tags.get("mlflow.parentRunId", run.info.run_id): run for run in found}
    origins = {run.info.run_id: lookup.origin_of(client, run, folder) for run in asked.values()}
    return {run_id: origin.spec for run_id, origin in origins.items() if origin is not None}


def _common_margin(experiments: Mapping[str, ExperimentSpec]) -> float:
    """The margin of the experiments; the default where none says one.

    Raises
    ------
    InputError
        If they differ.
    """
    margins: dict[float, str] = {}
    for run_id, spec in experiments.items():
        margins.setdefault(spec.comparison.margin, run_id)
    if len(margins) > 1:
        (a, first), (b, second) = list(margins.items())[:2]
        raise InputError(
            f"the experiments of runs {first!r} and {second!r} have the margins {a:g} and {b:g}; say one with --margin"
        )
    return next(iter(margins), ComparisonSection().margin)


def _only(found: Sequence[Run]) -> str:
    """MLflow's filter of the runs' common grid, "" where they have none: an address cannot hold the ids of many."""
    parents = {run.data.tags.get("mlflow.parentRunId", "") for run in found}
    return f"tags.`mlflow.parentRunId` = '{parents.pop()}'" if len(parents) == 1 and parents != {""} else ""


def _same_data(records: Sequence[RunRecord]) -> None:
    """Before anything else: two grids may hold the same strategies and seeds on different data or folds."""
    first = records[0]
    for record in records[1:]:
        folds = [r.test.meta.get("folds") for r in (first, record)]
        if folds[0] != folds[1]:
            a, b = ("one split" if n is None else f"{n} folds" for n in folds)
            raise InputError(
                f"runs {first.run_id!r} ({a}) and {record.run_id!r} ({b}) test different recordings; only runs with "
                "the same folds can be compared"
            )
        digests = [str(r.test.meta.get("digest")) for r in (first, record)]
        if digests[0] != digests[1]:
            raise InputError(
                f"runs {first.run_id!r} (data digest {digests[0]}) and {record.run_id!r} (data digest {digests[1]}) "
                f"are of different data{' or folds' if folds[0] else ''}; only runs on the same data can be compared"
            )
