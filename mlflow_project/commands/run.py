"""``run``: the main job. Audit, train strategy x seed, analyse each, compare."""

from __future__ import annotations

import argparse

from imbalance_lab.errors import InputError
from imbalance_lab.run.terminal import only_verdict, quiet
from mlflow_project.commands.options import add_engine, add_experiment, add_overrides, experiment_of, integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``run``."""
    add_experiment(parser)
    add_overrides(parser)
    add_engine(parser)
    parser.add_argument("--resume", default="", metavar="RUN_ID", help="parent run to take up again where it stopped")
    parser.add_argument(
        "--quiet",
        nargs="?",
        const="yes",
        default="",
        metavar="yes|no",
        help="say no more than the verdict and where to open it",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run or resume a grid; 0 when every trial finished."""
    if arguments.quiet not in ("", "yes", "no"):
        raise InputError(f"--quiet: found {arguments.quiet!r}; allowed are yes, no")
    quiet()
    where = integer(arguments.jobs, "jobs"), arguments.engine or "local", arguments.cluster
    spec = None if arguments.resume else experiment_of(arguments)
    from mlflow_project.grid import resume_grid, run_grid_of  # after the spec: what is wrong with it is told at once

    with only_verdict(arguments.quiet == "yes"):
        return resume_grid(arguments.resume, *where) if spec is None else run_grid_of(spec, *where)
