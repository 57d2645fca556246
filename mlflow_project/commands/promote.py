"""``promote``: register the model that a comparison chose."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``promote``."""
    parser.add_argument("--parent_run_id", default="", help="run of a grid or of a comparison")
    parser.add_argument("--strategy", default="", help="which to take when the verdict cannot tell, or against it")
    parser.add_argument("--model_name", default="", help="registered model (default: name of the experiment)")
    parser.add_argument("--alias", default="champion", help="alias of the new version (default champion)")


def main(arguments: argparse.Namespace) -> int:
    """Register; 2 when the verdict is "cannot distinguish" and no strategy is named."""
    import tempfile
    from pathlib import Path

    from mlflow_project.commands._options import alias, named
    from mlflow_project.promoting import promote
    from mlflow_project.quiet import quiet
    from mlflow_project.terminal import say
    from mlflow_project.tracking import open_line

    model = named(arguments.model_name, "model_name") if arguments.model_name else ""
    given = alias(arguments.alias or "champion", "alias")
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        done = promote(
            arguments.parent_run_id,
            strategy=arguments.strategy,
            model_name=model,
            alias=given,
            folder=Path(folder),
        )
    one = done.candidate
    say(
        f"Registered {one.strategy}, seed {one.seed} as version {done.version} of {done.name!r}; "
        f"load it with models:/{done.name}@{given}"
    )
    say(open_line(done.logger.store, done.logger.run_id))
    return 0
