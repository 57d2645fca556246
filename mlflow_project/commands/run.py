"""``run``: the main job. Audit, train strategy x seed, analyse each, compare."""

from __future__ import annotations

import argparse

from imbalance_lab.run.terminal import only_verdict, quiet
from mlflow_project.commands.options import (
    add_engine,
    add_experiment,
    add_overrides,
    experiment_of,
    integer,
    is_uri,
    overrides,
    yes,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``run``."""
    add_experiment(parser)
    add_overrides(parser)
    add_engine(parser)
    parser.add_argument(
        "--resume", default="", metavar="RUN_ID", help="parent run to take up where it stopped; last: the newest"
    )
    parser.add_argument(
        "--force", default="", nargs="?", const="yes", help="resume a grid that another process works on"
    )
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
    quiet()
    force = yes(arguments.force, "force")
    where = integer(arguments.jobs, "jobs"), arguments.engine or "local", arguments.cluster
    only, spec = yes(arguments.quiet, "quiet"), None if arguments.resume else experiment_of(arguments)
    from mlflow_project.grid import Resumption, resume_grid, run_grid_of  # after the spec: its faults are told at once

    with only_verdict(only):
        if spec is None:
            # A grid has kept its data: nothing is fetched to find that it is the same.
            told = argparse.Namespace(**{**vars(arguments), "data": "" if is_uri(arguments.data) else arguments.data})
            wanted = Resumption(arguments.resume, lambda: experiment_of(arguments), force, overrides(told))
            return resume_grid(wanted, *where)
        return run_grid_of(spec, *where)
