"""``run``: the main job. Audit, train strategy x seed, analyse each, compare."""

from __future__ import annotations

import argparse

from mlflow_project.commands.options import add_engine, add_experiment, add_overrides, experiment_of, integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``run``."""
    add_experiment(parser)
    add_overrides(parser)
    add_engine(parser)
    parser.add_argument("--resume", default="", metavar="RUN_ID", help="parent run to take up again where it stopped")


def main(arguments: argparse.Namespace) -> int:
    """Run or resume a grid; 0 when every trial finished."""
    from mlflow_project.grid import resume_grid, run_grid_of
    from mlflow_project.terminal import quiet

    quiet()
    where = integer(arguments.jobs, "jobs"), arguments.engine or "local", arguments.cluster
    if arguments.resume:
        return resume_grid(arguments.resume, *where)
    return run_grid_of(experiment_of(arguments), *where)
