"""Logging of classical classifiers: skops files and plain JSON, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.types import ColSpec, TensorSpec

from imbalance_lab.training.table_trial import TableTrial
from mlflow_project.models import log_pyfunc, requirements

_REQUIREMENTS = ("mlflow", "scikit-learn", "imbalanced-learn", "skops", "numpy", "pydantic", "pandas", "scipy", "torch")


def write_table_models(folder: Path, trial: TableTrial, posthoc: Mapping[str, Any]) -> None:
    """One ``<number>.skops`` per head and ``about.json`` (inputs, classes, post-hoc steps)."""
    import skops.io

    folder.mkdir(parents=True, exist_ok=True)
    heads = trial.loaded.dataset.heads
    for number, head in enumerate(heads):
        if trial.models[head] is not None:
            skops.io.dump(trial.models[head], folder / f"{number}.skops")
    about = {
        "heads": {head: list(classes) for head, classes in heads.items()},
        "channels": list(trial.loaded.dataset.channels),
        "categorical_channels": list(trial.loaded.dataset.categorical_channels),
        "mean": list(trial.inputs.mean),
        "categorical_sizes": list(trial.inputs.categorical_sizes),
        "posthoc": dict(posthoc),
    }
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def log_table_models(
    run_id: str, folder: Path, trial: TableTrial, example: tuple[Any, Any], params: Mapping[str, Any]
) -> str:
    """Log the classifiers of ``folder`` as one pyfunc model of the run; returns its model id.

    Inputs and outputs are those of a network's model: ``example`` is a small batch of raw
    (continuous, categorical) inputs.
    """
    continuous, categorical = (np.ascontiguousarray(x) for x in example)
    dataset = trial.loaded.dataset
    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(np.float32), (-1, 1, len(dataset.channels)), "continuous")
    ]
    batch: dict[str, Any] = {"continuous": np.nan_to_num(continuous.astype(np.float32))}
    if dataset.categorical_sizes:
        k = len(dataset.categorical_sizes)
        inputs.append(TensorSpec(np.dtype(np.int64), (-1, 1, k), "categorical"))
        batch["categorical"] = categorical.astype(np.int64)
    outputs: list[ColSpec | TensorSpec] = []
    for head, classes in dataset.heads.items():
        outputs.append(TensorSpec(np.dtype(str), (-1, 1), head))
        outputs.append(TensorSpec(np.dtype(np.float32), (-1, 1, len(classes)), f"{head}_probabilities"))
    pins = requirements(_REQUIREMENTS)
    return log_pyfunc(run_id, "serving_table.py", {"classifiers": str(folder)}, (inputs, outputs), batch, pins, params)
