"""``interpret``: what a trained run looks at; the results join the run's artifacts."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``interpret``."""
    parser.add_argument("--run_id", default="", metavar="RUN_ID", help="child run: one strategy, one seed")
    parser.add_argument("--budget", default="full", help="quick (seconds) or full (minutes; default)")
    parser.add_argument("--data", default="", help="folder, file or URI that replaces data.path of the experiment")


def main(arguments: argparse.Namespace) -> int:
    """Interpret, log, say where."""
    import tempfile
    from pathlib import Path

    from imbalance_lab.errors import InputError
    from mlflow_project.interpreting import interpret_run
    from mlflow_project.quiet import quiet
    from mlflow_project.terminal import say
    from mlflow_project.tracking import open_line

    if not arguments.run_id:
        raise InputError("interpret: --run_id is missing; give the id of a child run")
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        logger, sentence = interpret_run(
            arguments.run_id,
            arguments.budget or "full",
            arguments.data,
            Path(folder),
            lambda part: say(f"interpretation: {part}"),
        )
    say(sentence)
    say(f"The page is report/interpretation.html of run {logger.run_id}. {open_line(logger.store, logger.run_id)}")
    return 0
