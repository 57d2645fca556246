"""imbalance-lab: audit, train, analyse and compare classifiers on imbalanced labels.

Importing this package imports neither torch, matplotlib nor scikit-learn; a name of the public face
(``__all__``) imports what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imbalance_lab.audit.auditing import run_audit
    from imbalance_lab.comparison import RunRecord, compare
    from imbalance_lab.face import analyze, make_predictions
    from imbalance_lab.load import load_data
    from imbalance_lab.loop import bind, collapse
    from imbalance_lab.predictions import read_parquet
    from imbalance_lab.run.trial import run_trial
    from imbalance_lab.spec import load_experiment

__version__ = "0.1.0"

__all__ = [
    "RunRecord",
    "analyze",
    "bind",
    "collapse",
    "compare",
    "load_data",
    "load_experiment",
    "make_predictions",
    "read_parquet",
    "run_audit",
    "run_trial",
]

# No name here is that of a submodule (audit, predictions): importing one would replace it on the package.
_HOMES = {
    "RunRecord": "comparison",
    "analyze": "face",
    "bind": "loop",
    "collapse": "loop",
    "compare": "comparison",
    "load_data": "load",
    "load_experiment": "spec",
    "make_predictions": "face",
    "read_parquet": "predictions",
    "run_audit": "audit.auditing",
    "run_trial": "run.trial",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
