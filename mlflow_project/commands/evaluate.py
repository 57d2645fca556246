"""``evaluate``: a trained model on data that came later; a run of its own, linked to the version of the model."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from imbalance_lab.errors import InputError
from imbalance_lab.run.terminal import quiet, say
from mlflow_project.commands.options import named

_YES = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``evaluate``."""
    parser.add_argument("--model", default="", help="models:/NAME@ALIAS, models:/NAME/VERSION, or runs:/RUN_ID")
    parser.add_argument("--data", default="", help="folder, file or URI of the new data, of the experiment's source")
    parser.add_argument(
        "--allow_missing", nargs="?", const="true", default="", help="read columns that are not there as missing"
    )
    parser.add_argument("--experiment_name", default="", help="experiment of the new run (default: the model's own)")


def main(arguments: argparse.Namespace) -> int:
    """Evaluate, log, say what changed."""
    if not arguments.model or not arguments.data:
        raise InputError("evaluate: give --model (models:/NAME@champion or runs:/RUN_ID) and --data")
    if arguments.allow_missing.lower() not in _YES:
        raise InputError(f"--allow_missing: found {arguments.allow_missing!r}; allowed are true and false")
    experiment = named(arguments.experiment_name, "experiment_name") if arguments.experiment_name else ""
    quiet()
    from mlflow_project.new_data import evaluate
    from mlflow_project.tracking import open_line

    with tempfile.TemporaryDirectory() as folder:
        logger, found = evaluate(
            arguments.model, arguments.data, _YES[arguments.allow_missing.lower()], experiment, Path(folder)
        )
    for line in found.lines:
        say(line)
    say(f"The page is report/index.html of run {logger.run_id}. {open_line(logger.store, logger.run_id)}")
    return 0
