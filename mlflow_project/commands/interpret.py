"""``interpret``: what a trained run looks at; the results join the run's artifacts."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imbalance_lab.errors import InputError
from imbalance_lab.run.terminal import quiet, say
from mlflow_project.commands.options import fetch

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from imbalance_lab.data.coding import Coding
    from imbalance_lab.data.dataset import LoadedData
    from mlflow_project.tracking import RunLogger

_BUDGETS = ("quick", "full")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``interpret``."""
    parser.add_argument("--run_id", default="", metavar="RUN_ID", help="child run: one strategy, one seed")
    parser.add_argument("--budget", default="full", help="quick (seconds) or full (minutes; default)")
    parser.add_argument("--data", default="", help="folder, file or URI that replaces data.path of the experiment")


def main(arguments: argparse.Namespace) -> int:
    """Interpret, log, say where."""
    if not arguments.run_id:
        raise InputError("interpret: --run_id is missing; give the id of a child run")
    budget = arguments.budget or "full"
    if budget not in _BUDGETS:
        raise InputError(f"--budget: found {budget!r}; allowed are {', '.join(_BUDGETS)}")
    quiet()
    from mlflow_project.tracking import open_line

    with tempfile.TemporaryDirectory() as folder:
        logger, sentence = interpret_run(
            arguments.run_id,
            "quick" if budget == "quick" else "full",
            arguments.data,
            Path(folder),
            lambda part: say(f"interpretation: {part}"),
        )
    say(sentence)
    say(f"The page is report/interpretation.html of run {logger.run_id}. {open_line(logger.store, logger.run_id)}")
    return 0


def interpret_run(
    run_id: str, budget: Literal["quick", "full"], data: str, folder: Path, progress: Callable[[str], None]
) -> tuple[RunLogger, str]:
    """Interpret the model that a child run logged and log the result to it; returns its logger and one sentence.

    The data are the grid's local copy where it is there, else those that the run's experiment names;
    ``data`` replaces their path.

    Raises
    ------
    InputError
        If the run is unknown or holds no model, or the data do not fit the model.
    """
    from imbalance_lab.learners.all_learners import read_model
    from imbalance_lab.run.model_data import check_fit, with_classes
    from imbalance_lab.run.trial_files import write_interpretation
    from mlflow_project import runs
    from mlflow_project.tracking import RunLogger, client_of_store, take_launcher

    client = client_of_store()
    run = runs.get_run(client, run_id, "run_id")
    _, place = runs.trained_model(client, run, folder / "download")
    stored = read_model(place)
    loaded = with_classes(_data_of(client, run, data, folder, stored.coding), stored.heads)
    check_fit(stored, loaded, run_id)
    _check_digest(loaded, run, data)
    unknown = str(loaded.dataset.facts.get("unknown_categories", ""))
    if unknown:
        progress(f"Read as missing: {unknown}.")
    tags = run.data.tags
    fold = f", fold {tags['fold']}" if "fold" in tags else ""
    what = f"{tags.get('strategy', run.info.run_name)}, seed {tags.get('seed', '?')}{fold}"
    title = f"Interpretation of {what}, test split"
    out = folder / "interpretation"
    seed = int(tags.get("seed") or 0)
    sentence = write_interpretation(stored.model, loaded, out, budget=budget, seed=seed, title=title, progress=progress)
    if unknown:
        sentence = f"{sentence} Categories that the model does not know are read as missing: {unknown}."
    logger = RunLogger(runs.store_of(client, run), run_id)
    logger.folder(out)
    take_launcher(client, run_id, f"Interpreted run `{run_id}`; the page is there. {sentence}")
    return logger, sentence


def _data_of(client: MlflowClient, run: Run, data: str, folder: Path, coding: Coding) -> LoadedData:
    """The run's data, or those at ``data``, coded as the model knows them."""
    from imbalance_lab.data.cache import load_cached
    from imbalance_lab.load import load_data
    from imbalance_lab.spec import parse_experiment
    from mlflow_project import runs

    workspace = runs.workspace_of(run)
    given = run.data.tags.get("fold")
    fold = None if given is None else int(given)
    if not data and workspace.has_data_of(fold):
        return load_cached(workspace.data_of(fold))
    plain = runs.spec_of(client, run, folder / "download")
    if not plain:
        raise InputError(f"--run_id: run {run.info.run_id!r} logged no spec.yaml, so its data cannot be loaded")
    overrides = {"data.path": str(fetch(data, "data"))} if data else {}
    spec = parse_experiment(plain, where=f"runs:/{run.info.run_id}/spec.yaml", overrides=overrides)
    return load_data(spec.data, coding=coding, fold=fold)


def _check_digest(loaded: LoadedData, run: Run, data: str) -> None:
    digest, found = run.data.params.get("data.digest", ""), loaded.dataset.digest
    if digest and digest != found and not data:
        raise InputError(
            f"--run_id: the data have the digest {found}, run {run.info.run_id!r} was trained on {digest}; "
            "name the data with --data to interpret it on other data"
        )
