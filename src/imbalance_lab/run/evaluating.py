"""A model that exists on data that came later: predict, analyse, say what changed since its test report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.data.coding import MissingColumns
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.errors import InputError
from imbalance_lab.evaluation.changes import changes, sentences
from imbalance_lab.learners.stored import StoredModel
from imbalance_lab.load import load_data
from imbalance_lab.predictions import Predictions, write_parquet
from imbalance_lab.run.model_data import new_data
from imbalance_lab.run.trial_files import Background, write_analysis, write_tables
from imbalance_lab.run.workspace import predictions_file
from imbalance_lab.spec import parse_experiment
from imbalance_lab.strategies.posthoc import apply_posthoc
from imbalance_lab.training.predict import to_predictions

SPLIT = "evaluate"
"""What the predictions table says of itself, and the first part of the names of its metrics."""

_CARRIED = ("experiment", "strategy", "seed", "primary_head", "prior_correction", "temperature", "classes_in_macro")


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found; everything is in its folder.

    Attributes
    ----------
    changes : table of :func:`imbalance_lab.evaluation.changes.changes`
    lines : the same in words
    """

    loaded: LoadedData
    predictions: Predictions
    changes: pd.DataFrame
    lines: tuple[str, ...]
    verdict: str


def load_new(
    plain: Mapping[str, Any], path: Path, stored: StoredModel, *, where: str, allow_missing: bool
) -> LoadedData:
    """Data at ``path`` as a model reads them; every recording is tested.

    Parameters
    ----------
    plain : the experiment that the model was trained with
    where : where it was read from
    allow_missing : read columns that are not there as missing

    Raises
    ------
    InputError
        If they lack a column of the model, or are not what the experiment's source reads.
    """
    data = plain.get("data")
    if not isinstance(data, Mapping) or "path" not in data:
        raise InputError(
            f"--model: it was trained on the source {data.get('source') if isinstance(data, Mapping) else None!r}, "
            "which reads no file; evaluate needs a model of recordings, series, sequences or a table"
        )
    given = {**data, "path": str(path), "split": {"all_test": True}}
    spec = parse_experiment({**plain, "data": given}, where=where)
    try:
        return load_data(spec.data, coding=replace(stored.coding, allow_missing=allow_missing))
    except MissingColumns as error:
        raise InputError(f"--data: {error}; --allow_missing reads them as missing") from None


def evaluate_model(
    stored: StoredModel, loaded: LoadedData, before: Predictions, folder: Path, *, trained_in: str
) -> Evaluated:
    """Predict all of ``loaded``, run the error analysis and compare with the model's test predictions.

    Writes ``predictions/evaluate.parquet``, the report, tables and figures of a trial, ``tables/changes`` and
    ``changes.json`` under ``folder``.

    Parameters
    ----------
    before : the model's test predictions, whose temperature and main head are kept
    trained_in : id of the run that the model is of

    Raises
    ------
    InputError
        If the data do not fit the model.
    """
    loaded, unknown = new_data(stored, loaded, trained_in)
    meta = {name: before.meta[name] for name in _CARRIED if name in before.meta}
    predictions = predict_new(stored, loaded, {**meta, "split": SPLIT, "run_id": trained_in})
    write_parquet(predictions, predictions_file(folder, SPLIT))
    verdict = write_analysis(predictions, folder, behind=Background(dataset=loaded.dataset))
    found = changes(before, predictions)
    facts = loaded.dataset.facts
    lines = tuple(sentences(found, before, predictions, unknown, _notes(facts)))
    write_tables({"changes": found}, folder / "tables")
    about = {"model_run_id": trained_in, "digest": loaded.dataset.digest, "in_words": lines, "unknown_classes": unknown}
    (folder / "changes.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    return Evaluated(loaded, predictions, found, lines, verdict)


def _notes(facts: Mapping[str, object]) -> list[str]:
    said = {
        "columns_read_as_missing": "Columns that the model reads and the data lack, read as missing: {}.",
        "unknown_categories": "Categories that the model does not know, read as missing: {}.",
        "unlabelled": "Without a label, not scored: {}.",
    }
    notes = [words.format(facts[name]) for name, words in said.items() if facts.get(name)]
    return notes if facts.get("columns_read_as_missing") else ["No column that the model reads is missing.", *notes]


def predict_new(stored: StoredModel, loaded: LoadedData, meta: Mapping[str, Any]) -> Predictions:
    """The predictions table of all of ``loaded``, after the strategy's own post-hoc correction."""
    data, index = loaded.dataset, loaded.splits.test
    scores = stored.scores(len(index), lambda part: (data.continuous[index[part]], data.categorical[index[part]]))
    raw = to_predictions(data, loaded.splits, index, scores, meta)
    heads = {}
    for head, table in raw.heads.items():
        posthoc = stored.posthoc[head]
        known = replace(table, train_counts=np.asarray(posthoc["train_counts"], dtype=np.int64))
        heads[head] = apply_posthoc(posthoc["steps"], known) if posthoc["steps"] else known
    return replace(raw, heads=heads)
