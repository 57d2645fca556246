"""``compare``: which of these runs? Paired statistics, figures and a verdict, across grids."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``compare``."""
    parser.add_argument("--run_ids", default="", help="runs, separated by commas; a grid stands for its trials")
    parser.add_argument("--experiment_name", default="", help="instead: every run of this experiment with predictions")
    parser.add_argument(
        "--filter", default="", help="MLflow filter of --experiment_name (\"tags.strategy != ''\"); default: all"
    )
    parser.add_argument("--baseline", default="", help="strategy to compare with (default: the one tagged so)")
    parser.add_argument("--metric", default="macro_f1", help="macro_f1, balanced_accuracy or mcc")
    parser.add_argument("--costs", default="", help="cost matrix (CSV; rows true, columns predicted)")


def main(arguments: argparse.Namespace) -> int:
    """Compare, log, say the verdict."""
    import tempfile
    from pathlib import Path

    from imbalance_lab.errors import InputError
    from mlflow_project.comparing import compare_runs, runs_by_id, runs_of_experiment
    from mlflow_project.quiet import quiet
    from mlflow_project.terminal import say
    from mlflow_project.tracking import open_line

    if bool(arguments.run_ids) == bool(arguments.experiment_name):
        raise InputError("compare: give either --run_ids or --experiment_name")
    quiet()
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
            costs=Path(arguments.costs) if arguments.costs else None,
        )
    say(verdict)
    say(f"The page is comparison/index.html of run {logger.run_id}. {open_line(logger.store, logger.run_id)}")
    return 0
