"""``audit``: is it imbalance, or an artefact? The audit alone, nothing is trained."""

from __future__ import annotations

import argparse

from mlflow_project.commands._options import add_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``audit``."""
    add_experiment(parser)


def main(arguments: argparse.Namespace) -> int:
    """Audit and log; 3 when a check failed and the experiment says ``on_fail: stop``."""
    from mlflow_project.commands._options import experiment_of
    from mlflow_project.only_audit import audit_experiment
    from mlflow_project.quiet import quiet

    quiet()
    return audit_experiment(experiment_of(arguments))
