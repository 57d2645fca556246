"""The code of a logged model (MLflow's "models from code"): no pickle; weights or skops files, and plain JSON."""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel


class ImbalanceModel(PythonModel):
    """Raw rows or windows in; labels and probabilities of every head out: :func:`imbalance_lab.serving.answer`."""

    # The logged signature validates the input; without this MLflow asks for type hints at every load.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Read the model's folder, with the installed library or, where there is none, with the one that it brings.

        Neither is read where it is not as it was logged; a model of a version before this check has no digests.
        """
        logged = context.model_config or {}
        archive = context.artifacts.get("package")
        if archive is not None and find_spec("imbalance_lab") is None:
            if "package" in logged and sha256(Path(archive).read_bytes()).hexdigest() != logged["package"]:
                raise ValueError(f"{Path(archive).name} is not the one that was logged; the model is not loaded")
            sys.path.append(str(archive))
        from imbalance_lab.learners.all_learners import read_model
        from imbalance_lab.learners.stored import check_files

        folder = Path(context.artifacts["model"])
        check_files(folder, logged.get("digest", ""), f"artifacts/{folder.name}/", "config of MLmodel")
        self.stored = read_model(folder)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads the hints
        """Score a batch."""
        from imbalance_lab.serving import answer

        return answer(self.stored, model_input)


mlflow.models.set_model(ImbalanceModel())
