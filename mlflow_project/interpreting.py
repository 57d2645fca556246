"""The interpretation of one trained network as files: tables, figures, a page; the folder is logged as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imbalance_lab.data.cache import load_cached
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.errors import InputError
from imbalance_lab.models.network import Network
from imbalance_lab.training.table_network import ClassicalModel
from mlflow_project import runs
from mlflow_project.tracking import WORK, RunLogger

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PREFIX = "interpretation_"
_NETWORK = "network"
_CLASSIFIERS = "classifiers"
_BUDGETS = ("quick", "full")


@dataclass(frozen=True)
class Inputs:
    """What a logged model reads and answers: channels, classes by head, steps of a window."""

    channels: tuple[str, ...]
    categorical_channels: tuple[str, ...]
    heads: Mapping[str, tuple[str, ...]]
    steps: int


def write_interpretation(
    network: Network | ClassicalModel,
    loaded: LoadedData,
    folder: Path,
    budget: Literal["quick", "full"],
    seed: int,
    *,
    title: str = "Interpretation",
    progress: Callable[[str], None] | None = None,
) -> str:
    """Interpret ``network`` on the test split and write everything under ``folder``; returns one sentence.

    Writes ``tables/interpretation_*.json`` (and CSV), ``figures/interpretation_*.png``,
    ``interpretation.json`` and ``report/interpretation.html``.
    """
    from imbalance_lab.interpretation.interpret import interpret, tables
    from imbalance_lab.report.images import figure_view
    from imbalance_lab.report.interpretation_report import figures_of, headline, render_interpretation, to_json
    from imbalance_lab.report.page import write
    from mlflow_project.run_artifacts import write_tables

    found = interpret(network, loaded, budget, seed, progress=progress)
    write_tables({f"{PREFIX}{name}": table for name, table in tables(found).items()}, folder / "tables")
    # Each figure is drawn once; file and page share its bytes.
    views = {name: figure_view(f"{PREFIX}{name}", figure) for name, figure in figures_of(found).items()}
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    for view in views.values():
        (pictures / f"{view.name}.png").write_bytes(view.png)
    (folder / "interpretation.json").write_text(to_json(found), encoding="utf-8")
    write(render_interpretation(found, views, title=title), folder / "report" / "interpretation.html")
    return headline(found)


def interpret_run(
    run_id: str, budget: str, data: str, folder: Path, progress: Callable[[str], None]
) -> tuple[RunLogger, str]:
    """Interpret the model that a child run logged and log the result to it; returns its logger and one sentence.

    The data are the grid's local copy where it is there, else those that the run's experiment names;
    ``data`` replaces their path.

    Raises
    ------
    InputError
        If the budget or run is unknown, the run holds no network, or the data do not fit the network.
    """
    from imbalance_lab.training.table_files import load_classifiers
    from imbalance_lab.training.table_trial import TableInputs
    from mlflow_project.models import read_network

    if budget not in _BUDGETS:
        raise InputError(f"--budget: found {budget!r}; allowed are {', '.join(_BUDGETS)}")
    client = runs.client_of_store()
    run = runs.get_run(client, run_id, "run_id")
    stored = runs.artifact(client, run_id, _NETWORK, folder / "download")
    classifiers = runs.artifact(client, run_id, _CLASSIFIERS, folder / "download") if stored is None else None
    network: Network | ClassicalModel
    if stored is not None:
        network, blueprint, _ = read_network(stored)
        inputs = Inputs(
            blueprint.channels, blueprint.categorical_channels, dict(blueprint.heads), blueprint.layout.steps
        )
    elif classifiers is not None:
        about, models = load_classifiers(classifiers)
        heads = {head: tuple(classes) for head, classes in about["heads"].items()}
        rows = TableInputs(tuple(about["mean"]), tuple(about["categorical_sizes"]))
        network = ClassicalModel(rows, {head: len(classes) for head, classes in heads.items()}, models)
        inputs = Inputs(tuple(about["channels"]), tuple(about["categorical_channels"]), heads, 1)
    else:
        raise InputError(
            f"--run_id: run {run_id!r} holds no {_NETWORK}/ and no {_CLASSIFIERS}/; only trained child runs can be "
            "interpreted"
        )
    loaded = _data_of(client, run, data, folder)
    _check_fit(inputs, loaded, run, data)
    tags = run.data.tags
    title = f"Interpretation of {tags.get('strategy', run.info.run_name)}, seed {tags.get('seed', '?')}, test split"
    out = folder / "interpretation"
    seed = int(tags.get("seed") or 0)
    chosen: Literal["quick", "full"] = "quick" if budget == "quick" else "full"
    sentence = write_interpretation(network, loaded, out, chosen, seed, title=title, progress=progress)
    logger = RunLogger(runs.store_of(client, run), run_id)
    logger.folder(out)
    runs.take_launcher(client, run_id, f"Interpreted run `{run_id}`; the page is there. {sentence}")
    return logger, sentence


def _data_of(client: MlflowClient, run: Run, data: str, folder: Path) -> LoadedData:
    from imbalance_lab.data.load import load_data
    from imbalance_lab.spec import parse_experiment
    from mlflow_project.commands._options import fetch

    grid = run.data.tags.get("mlflow.parentRunId", run.info.run_id)
    cached = WORK / grid / "data"
    if not data and (cached / "about.json").is_file():
        return load_cached(cached)
    plain = runs.spec_of(client, run, folder / "download")
    if not plain:
        raise InputError(f"--run_id: run {run.info.run_id!r} logged no spec.yaml, so its data cannot be loaded")
    overrides = {"data.path": str(fetch(data, "data"))} if data else {}
    return load_data(parse_experiment(plain, where=f"runs:/{run.info.run_id}/spec.yaml", overrides=overrides).data)


def _check_fit(inputs: Inputs, loaded: LoadedData, run: Run, data: str) -> None:
    dataset = loaded.dataset
    for what, wanted, found in (
        ("channels", inputs.channels, dataset.channels),
        ("categorical channels", inputs.categorical_channels, dataset.categorical_channels),
        ("heads", tuple(inputs.heads.items()), tuple(dataset.heads.items())),
        ("steps of a window", inputs.steps, dataset.continuous.shape[1]),
    ):
        if wanted != found:
            raise InputError(f"--data: the {what} differ from those that run {run.info.run_id!r} was trained on")
    digest = run.data.params.get("data.digest", "")
    if digest and digest != dataset.digest and not data:
        raise InputError(
            f"--run_id: the data have the digest {dataset.digest}, run {run.info.run_id!r} was trained on {digest}; "
            "name the data with --data to interpret it on other data"
        )
