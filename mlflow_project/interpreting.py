"""The interpretation of one trained network as files: tables, figures, a page; the folder is logged as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from imbalance_lab.data.cache import load_cached
from imbalance_lab.data.coding import Coding
from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.errors import InputError
from mlflow_project import runs
from mlflow_project.tracking import WORK, RunLogger

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from imbalance_lab.learners.stored import StoredModel
    from imbalance_lab.models.predictor import Predictor

_BUDGETS = ("quick", "full")


def write_interpretation(
    network: Predictor,
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
    from imbalance_lab.interpretation.interpreting import interpret
    from imbalance_lab.interpretation.parts import figures_of, tables
    from imbalance_lab.plots.style import save_png
    from imbalance_lab.report.interpretation_report import PREFIX, headline, render_interpretation, to_json
    from imbalance_lab.report.page import write
    from mlflow_project.run_artifacts import write_tables

    found = interpret(network, loaded, budget, seed, progress=progress)
    write_tables({f"{PREFIX}{name}": table for name, table in tables(found).items()}, folder / "tables")
    figures = figures_of(found)
    for name, figure in figures.items():
        save_png(figure, folder / "figures" / f"{PREFIX}{name}.png")
    (folder / "interpretation.json").write_text(to_json(found), encoding="utf-8")
    write(render_interpretation(found, figures, title=title), folder / "report" / "interpretation.html")
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
    from imbalance_lab.learners.all_learners import FOLDERS, read_model

    if budget not in _BUDGETS:
        raise InputError(f"--budget: found {budget!r}; allowed are {', '.join(_BUDGETS)}")
    client = runs.client_of_store()
    run = runs.get_run(client, run_id, "run_id")
    found = (runs.artifact(client, run_id, name, folder / "download") for name in FOLDERS)
    place = next((path for path in found if path is not None), None)
    if place is None:
        raise InputError(
            f"--run_id: run {run_id!r} holds no {'/ and no '.join(FOLDERS)}/; only trained child runs can be "
            "interpreted"
        )
    stored = read_model(place)
    loaded = with_classes(_data_of(client, run, data, folder, stored.coding), stored.heads)
    _check_fit(stored, loaded, run, data)
    unknown = str(loaded.dataset.facts.get("unknown_categories", ""))
    if unknown:
        progress(f"Read as missing: {unknown}.")
    tags = run.data.tags
    title = f"Interpretation of {tags.get('strategy', run.info.run_name)}, seed {tags.get('seed', '?')}, test split"
    out = folder / "interpretation"
    seed = int(tags.get("seed") or 0)
    chosen: Literal["quick", "full"] = "quick" if budget == "quick" else "full"
    sentence = write_interpretation(stored.model, loaded, out, chosen, seed, title=title, progress=progress)
    if unknown:
        sentence = f"{sentence} Categories that the model does not know are read as missing: {unknown}."
    logger = RunLogger(runs.store_of(client, run), run_id)
    logger.folder(out)
    runs.take_launcher(client, run_id, f"Interpreted run `{run_id}`; the page is there. {sentence}")
    return logger, sentence


def _data_of(client: MlflowClient, run: Run, data: str, folder: Path, coding: Coding) -> LoadedData:
    """The run's data, or those at ``data``, coded as the model knows them."""
    from imbalance_lab.load import load_data
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
    spec = parse_experiment(plain, where=f"runs:/{run.info.run_id}/spec.yaml", overrides=overrides)
    return load_data(spec.data, coding=coding)


def with_classes(loaded: LoadedData, heads: Mapping[str, tuple[str, ...]]) -> LoadedData:
    """The data with the classes of a model in the model's order; later data may lack some of them.

    Raises
    ------
    InputError
        If a class is none of the model's.
    """
    dataset = loaded.dataset
    if set(dataset.heads) != set(heads) or dict(dataset.heads) == dict(heads):
        return loaded
    targets = {}
    for head, classes in heads.items():
        used = np.unique(dataset.targets[head][dataset.targets[head] != IGNORE])
        strange = [dataset.heads[head][c] for c in used.tolist() if dataset.heads[head][c] not in classes]
        if strange:
            raise InputError(
                f"--data: head {head!r} holds the class {strange[0]!r}, which the model does not know; "
                f"it knows {', '.join(classes)}"
            )
        code = {name: i for i, name in enumerate(classes)}
        table = np.array([*(code.get(name, IGNORE) for name in dataset.heads[head]), IGNORE], dtype=np.int64)
        targets[head] = table[np.where(dataset.targets[head] == IGNORE, len(table) - 1, dataset.targets[head])]
    return replace(loaded, dataset=replace(dataset, heads=dict(heads), targets=targets))


def _check_fit(stored: StoredModel, loaded: LoadedData, run: Run, data: str) -> None:
    dataset, coding = loaded.dataset, stored.coding
    for what, wanted, found in (
        ("channels", coding.channels, dataset.channels),
        ("categories", coding.categories, dataset.categories),
        ("heads", dict(stored.heads), dict(dataset.heads)),
        ("steps of a window", stored.steps, dataset.continuous.shape[1]),
    ):
        if wanted != found:
            raise InputError(f"--data: the {what} differ from those that run {run.info.run_id!r} was trained on")
    digest = run.data.params.get("data.digest", "")
    if digest and digest != dataset.digest and not data:
        raise InputError(
            f"--run_id: the data have the digest {dataset.digest}, run {run.info.run_id!r} was trained on {digest}; "
            "name the data with --data to interpret it on other data"
        )
