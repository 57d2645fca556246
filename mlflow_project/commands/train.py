"""``train``: one strategy with one seed, as a single run."""

from __future__ import annotations

import argparse

from mlflow_project.commands._options import add_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``train``."""
    add_experiment(parser)
    parser.add_argument("--strategy", default="", help="name of a strategy of the experiment (default: its baseline)")
    parser.add_argument("--seed", default="", help="seed (default: the first of the experiment)")
    parser.add_argument("--epochs", default="", help="epochs of the training")
    parser.add_argument("--device", default="", help="auto, cpu, cuda or cuda:N")


def main(arguments: argparse.Namespace) -> int:
    """Train, analyse, log."""
    from mlflow_project.commands._options import experiment_of, integer
    from mlflow_project.quiet import quiet
    from mlflow_project.single import train_one

    quiet()
    return train_one(experiment_of(arguments), arguments.strategy, integer(arguments.seed, "seed"))
