"""The code of a logged model (MLflow's "models from code"): no pickle, weights and plain JSON only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel


class ImbalanceModel(PythonModel):
    """Raw windows in; labels and probabilities of every head out.

    Input: ``continuous`` float32 (B, T, C) in the channels' own units, NaN where missing, and, where
    the data have them, ``categorical`` int64 (B, T, K) codes; a bare array is ``continuous``. For
    tables and images a 2-D array (B, C) is taken as T = 1.
    Output: per head ``<head>`` labels (B, L) and ``<head>_probabilities`` (B, L, K), after the
    strategy's own post-hoc correction.
    """

    # The logged signature validates the input; without this MLflow asks for type hints at every load.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Rebuild the network from the blueprint and the weights."""
        import torch

        from imbalance_lab.models.build import Blueprint, rebuild_network

        folder = Path(context.artifacts["network"])
        self.about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.blueprint = Blueprint.from_mapping(self.about["blueprint"])
        state = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
        self.network = rebuild_network(self.blueprint, state)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads the hints
        """Score a batch; see the class."""
        import torch

        from imbalance_lab.predictions import bare_head
        from imbalance_lab.strategies.posthoc import apply_posthoc

        continuous, categorical = self._inputs(model_input)
        with torch.inference_mode():
            scores = self.network(torch.from_numpy(continuous), torch.from_numpy(categorical))
        answer: dict[str, Any] = {}
        for head, logits in scores.items():
            posthoc = self.about["posthoc"][head]
            flat = torch.softmax(logits.double(), dim=-1).flatten(0, 1).numpy()
            classes = self.blueprint.heads[head]
            raw = bare_head(classes, np.asarray(posthoc["train_counts"]), flat.astype(np.float32))
            scored = apply_posthoc(posthoc["steps"], raw)
            answer[head] = np.asarray(classes)[scored.pred].reshape(logits.shape[:2])
            answer[f"{head}_probabilities"] = scored.probabilities.reshape(logits.shape)
        return answer

    def _inputs(self, model_input: Any) -> tuple[Any, Any]:
        layout = self.blueprint.layout
        k = len(layout.categorical_sizes)
        if isinstance(model_input, dict):
            continuous, categorical = model_input["continuous"], model_input.get("categorical")
        elif hasattr(model_input, "to_numpy"):
            columns = [*self.blueprint.channels]
            continuous = model_input[columns].to_numpy()
            names = list(self.blueprint.categorical_channels)
            categorical = model_input[names].to_numpy()[:, None, :] if names else None
        else:
            continuous, categorical = model_input, None
        continuous = np.asarray(continuous, dtype=np.float32)
        if continuous.ndim == 2:
            continuous = continuous[:, None, :]
        if categorical is None:
            categorical = np.zeros((*continuous.shape[:2], k), dtype=np.int64)
        return np.ascontiguousarray(continuous), np.ascontiguousarray(np.asarray(categorical, dtype=np.int64))


mlflow.models.set_model(ImbalanceModel())
