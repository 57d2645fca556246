"""``analyze``: the error analysis of a run or of a predictions table; no model and no training data needed."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``analyze``."""
    parser.add_argument("--run_id", default="", help="run whose test predictions are analysed; the result goes to it")
    parser.add_argument("--predictions", default="", help="predictions table (Parquet) or its URI; makes a new run")
    parser.add_argument(
        "--experiment_name", default="analysis", help="experiment of the new run of --predictions (default analysis)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Analyse, log, say where."""
    import tempfile
    from pathlib import Path

    from imbalance_lab.errors import InputError
    from mlflow_project.analyzing import analyze_file, analyze_run
    from mlflow_project.commands._options import fetch, named
    from mlflow_project.quiet import quiet
    from mlflow_project.terminal import say
    from mlflow_project.tracking import open_line

    if bool(arguments.run_id) == bool(arguments.predictions):
        raise InputError("analyze: give either --run_id or --predictions")
    experiment = named(arguments.experiment_name or "analysis", "experiment_name")
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.run_id:
            logger, verdict = analyze_run(arguments.run_id, Path(folder))
        else:
            path = fetch(arguments.predictions, "predictions")
            logger, verdict = analyze_file(path, experiment, Path(folder))
    say(verdict)
    say(f"The page is report/index.html of run {logger.run_id}. {open_line(logger.store, logger.run_id)}")
    return 0
