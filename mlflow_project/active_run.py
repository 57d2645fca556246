"""The error analysis of a loop of one's own, in the MLflow run that is active."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow

from imbalance_lab.errors import InputError
from imbalance_lab.face import make_head_predictions
from imbalance_lab.predictions import write_parquet
from imbalance_lab.run.scores import prediction_metrics
from imbalance_lab.run.trial_files import write_analysis

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def log_error_analysis(
    true: ArrayLike | Mapping[str, ArrayLike],
    probabilities: ArrayLike | Mapping[str, ArrayLike],
    *,
    classes: Sequence[str] | Mapping[str, Sequence[str]],
    groups: ArrayLike | None = None,
    train_counts: ArrayLike | Mapping[str, ArrayLike] | None = None,
) -> str:
    """Run every analysis and log tables, figures, report, predictions and metrics to the active run.

    Returns the verdict in one sentence. Parameters are those of
    :func:`imbalance_lab.face.make_head_predictions`; the run stays active.

    Raises
    ------
    InputError
        If no run is active, or an array does not fit.
    """
    run = mlflow.active_run()
    if run is None:
        raise InputError("log_error_analysis: no MLflow run is active; call it within mlflow.start_run()")
    found = make_head_predictions(true, probabilities, classes, groups=groups, train_counts=train_counts)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        verdict = write_analysis(found, folder)
        write_parquet(found, folder / "predictions" / "test.parquet")
        mlflow.log_artifacts(str(folder), run_id=run.info.run_id)
    mlflow.log_metrics(prediction_metrics(found), run_id=run.info.run_id)
    mlflow.set_tag("imbalance.verdict", verdict)
    return verdict
