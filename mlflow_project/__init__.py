"""The MLflow side of imbalance-lab: the only code that imports mlflow."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_project.evaluator import log_error_analysis

__all__ = ["log_error_analysis"]


def __getattr__(name: str) -> object:
    if name != "log_error_analysis":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlflow_project import evaluator

    return evaluator.log_error_analysis
