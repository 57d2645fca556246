"""Keep other packages' chatter off the terminal: a command prints what it has to say."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Silence MLflow's and alembic's informational output in this process."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run against a server
    for name in ("mlflow", "alembic", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="mlflow")
    for text in ("integer column", "Add type hints to the", "Failed to infer signature"):
        warnings.filterwarnings("ignore", message=f".*{text}")
