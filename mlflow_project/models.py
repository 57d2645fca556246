"""Logging and loading of models."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

import imbalance_lab
from imbalance_lab.models.build import Blueprint, rebuild_network
from imbalance_lab.models.network import Network

MODEL_NAME = "model"
_REQUIREMENTS = ("mlflow", "torch", "numpy", "pydantic", "pandas", "scipy", "scikit-learn")


def write_network(folder: Path, network: Network, blueprint: Blueprint, posthoc: Mapping[str, Any]) -> None:
    """Weights (tensors only) and ``about.json`` (blueprint, post-hoc steps): what serving and interpretation read."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.save({name: t.detach().cpu() for name, t in network.state_dict().items()}, folder / "weights.pt")
    about = {"blueprint": blueprint.to_mapping(), "posthoc": dict(posthoc)}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def read_network(folder: Path) -> tuple[Network, Blueprint, dict[str, Any]]:
    """The network, its blueprint and its post-hoc steps from :func:`write_network`'s folder."""
    import torch

    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    blueprint = Blueprint.from_mapping(about["blueprint"])
    state = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
    return rebuild_network(blueprint, state), blueprint, about["posthoc"]


def log_network(
    run_id: str, folder: Path, blueprint: Blueprint, example: tuple[Any, Any], params: Mapping[str, Any]
) -> str:
    """Log the network of ``folder`` as a pyfunc model of the run; returns its model id.

    ``example`` is a small batch of raw (continuous, categorical) inputs.
    """
    continuous, categorical = (np.ascontiguousarray(x) for x in example)
    layout = blueprint.layout
    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(np.float32), (-1, layout.steps, layout.channels), "continuous")
    ]
    batch: dict[str, Any] = {"continuous": np.nan_to_num(continuous.astype(np.float32))}
    if layout.categorical_sizes:
        k = len(layout.categorical_sizes)
        inputs.append(TensorSpec(np.dtype(np.int64), (-1, layout.steps, k), "categorical"))
        batch["categorical"] = categorical.astype(np.int64)
    outputs: list[ColSpec | TensorSpec] = []
    for head, classes in blueprint.heads.items():
        outputs.append(TensorSpec(np.dtype(str), (-1, layout.target_length), head))
        shape = (-1, layout.target_length, len(classes))
        outputs.append(TensorSpec(np.dtype(np.float32), shape, f"{head}_probabilities"))
    pins = requirements()
    return log_pyfunc(run_id, "serving_model.py", {"network": str(folder)}, (inputs, outputs), batch, pins, params)


def log_pyfunc(
    run_id: str,
    code: str,
    artifacts: Mapping[str, str],
    schema: tuple[list[ColSpec | TensorSpec], list[ColSpec | TensorSpec]],
    example: Mapping[str, Any],
    pins: list[str],
    params: Mapping[str, Any],
) -> str:
    """Log a model from code (``code`` is a file beside this one) to a run that goes on; returns its model id."""
    before = os.environ.get("MLFLOW_RUN_ID")
    with mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name=MODEL_NAME,
            python_model=str(Path(__file__).with_name(code)),
            artifacts=dict(artifacts),
            # All of it: MLflow puts a model's code before what is installed, so that a part of the package
            # would hide the rest from whoever loads a model and then uses the package, or starts workers.
            code_paths=[str(Path(imbalance_lab.__file__).parent)],
            signature=ModelSignature(inputs=Schema(schema[0]), outputs=Schema(schema[1])),
            input_example=dict(example),
            pip_requirements=pins,
            params=dict(params),
        )
    # Leaving the block ended the run; the caller ends it when everything is logged.
    mlflow.tracking.MlflowClient().update_run(run_id, status="RUNNING")
    if before is not None:
        os.environ["MLFLOW_RUN_ID"] = before
    return str(info.model_id)


def requirements(packages: Sequence[str] = _REQUIREMENTS) -> list[str]:
    """Pins of what a logged model needs, without local build tags (``+cpu``)."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in packages]
