"""The code of a logged classical model (MLflow's "models from code"): skops files and plain JSON only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel


class TableModel(PythonModel):
    """Raw rows in; labels and probabilities of every head out.

    Input: ``continuous`` float32 (B, 1, C), NaN where missing, and, where the data have them,
    ``categorical`` int64 (B, 1, K) codes; a bare array or a 2-D one is ``continuous``; a DataFrame
    has the columns of both.
    Output: per head ``<head>`` labels (B, 1) and ``<head>_probabilities`` (B, 1, K), after the
    strategy's own post-hoc correction.
    """

    # The logged signature validates the input; without this MLflow asks for type hints at every load.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Read the classifiers; refuses a file with types of other packages than those that made it."""
        from imbalance_lab.training.table_files import load_classifiers

        self.about, self.models = load_classifiers(Path(context.artifacts["classifiers"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads the hints
        """Score a batch; see the class."""
        from imbalance_lab.predictions import bare_head
        from imbalance_lab.strategies.posthoc import apply_posthoc
        from imbalance_lab.training.table_trial import TableInputs, table_probabilities

        inputs = TableInputs(tuple(self.about["mean"]), tuple(self.about["categorical_sizes"]))
        features = inputs.features(*self._inputs(model_input))
        answer: dict[str, Any] = {}
        for head, names in self.about["heads"].items():
            posthoc = self.about["posthoc"][head]
            p = table_probabilities(self.models[head], features, len(names)).astype(np.float32)
            scored = apply_posthoc(posthoc["steps"], bare_head(tuple(names), np.asarray(posthoc["train_counts"]), p))
            answer[head] = np.asarray(names)[scored.pred][:, None]
            answer[f"{head}_probabilities"] = scored.probabilities[:, None, :]
        return answer

    def _inputs(self, model_input: Any) -> tuple[Any, Any]:
        categorical = None
        if isinstance(model_input, dict):
            continuous, categorical = model_input["continuous"], model_input.get("categorical")
        elif hasattr(model_input, "to_numpy"):
            continuous = model_input[self.about["channels"]].to_numpy()
            if self.about["categorical_channels"]:
                categorical = model_input[self.about["categorical_channels"]].to_numpy()[:, None, :]
        else:
            continuous = model_input
        continuous = np.asarray(continuous, dtype=np.float32)
        if continuous.ndim == 2:
            continuous = continuous[:, None, :]
        if categorical is None:
            categorical = np.zeros((len(continuous), 1, len(self.about["categorical_sizes"])), dtype=np.int64)
        return continuous, np.asarray(categorical, dtype=np.int64)


mlflow.models.set_model(TableModel())
