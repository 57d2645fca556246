"""Any scikit-learn compatible classifier of an installed package, by its import path."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from imbalance_lab.errors import InputError
from imbalance_lab.signatures import check_options
from imbalance_lab.strategies.option_types import TableOptions

ESTIMATOR = "estimator"
"""Its name in the registry, and the key that holds the path in an experiment file."""


class OwnEstimator(TableOptions):
    """A classifier by import path, as scikit-learn's: ``fit``, ``predict_proba``, ``classes_`` (tables only).

    What: ``{estimator: "lightgbm:LGBMClassifier", options: {...}}``, of an installed package; ``resample`` names a
        sampler of imbalanced-learn before it, ``class_weight: balanced`` goes to the classifier or to its fit.
    When: the classifier that a team uses already; hold it against ``plain`` with gradient-boosting.
    Suggested values: the classifier's own; ``trust`` names further classes of its package that the stored model holds.
    Cost: that of the classifier.
    Source: its package.
    """

    path: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    class_weight: Literal["balanced"] | None = None
    resample: str | None = None
    trust: tuple[str, ...] = ()

    @field_validator("path")
    @classmethod
    def _names_a_class(cls, value: str) -> str:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", value):
            raise ValueError("package.module:Class")
        return value


def estimator_class(path: str) -> type[Any]:
    """The class of a path.

    Raises
    ------
    InputError
        If it does not import, is no classifier with probabilities, or is of no installed package (a stored model could
        not be read elsewhere).
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # whatever a package raises when it is imported
        text = " ".join(str(error).split())[:200]
        raise InputError(f"found {path!r}, which does not import ({type(error).__name__}: {text})") from None
    if not inspect.isclass(found):
        raise InputError(f"found {path!r}, but {module!r} has no class {name!r}")
    for method in ("fit", "predict_proba"):
        if not callable(getattr(found, method, None)):
            raise InputError(f"found {path!r}, which has no {method}; allowed: a classifier that gives probabilities")
    if not package_of(path):
        raise InputError(
            f"found {path!r}, which is of no installed package; a stored model could not be read elsewhere"
        )
    made: type[Any] = found
    return made


def package_of(path: str) -> tuple[str, ...]:
    """The installed package of a path, as it is named to pip; empty where there is none."""
    return tuple(sorted(set(packages_distributions().get(path.partition(".")[0].partition(":")[0], ()))))


def trusted_types(path: str, trust: tuple[str, ...]) -> frozenset[str]:
    """Full names of the types that a stored model may hold: the class itself, and the classes that ``trust`` names.

    Raises
    ------
    InputError
        If a name is no class of the estimator's own package.
    """
    own = estimator_class(path)
    top = path.partition(":")[0].partition(".")[0]
    for name in trust:
        module, _, leaf = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), leaf, None) if name.startswith(f"{top}.") else None
        except ImportError:
            found = None
        if not inspect.isclass(found) or f"{found.__module__}.{found.__qualname__}" != name:
            raise InputError(f"trust: found {name!r}; allowed: full names of classes of {top!r}")
    return frozenset({f"{own.__module__}.{own.__qualname__}", *trust})


def make_estimator(own: OwnEstimator, seed: int, labels: NDArray[np.int64]) -> tuple[Any, dict[str, Any]]:
    """The classifier, not yet fitted, and what its ``fit`` is given beside rows and labels.

    Raises
    ------
    InputError
        If the class or an option is not allowed, or ``class_weight`` is asked for and there is no way to give it.
    """
    cls = estimator_class(own.path)
    check_options(cls, own.options, "options")
    known, options, fitting = inspect.signature(cls).parameters, dict(own.options), dict[str, Any]()
    if "random_state" in known:
        options.setdefault("random_state", seed)
    if own.class_weight is not None:
        if "class_weight" in known:
            options["class_weight"] = own.class_weight
        elif "sample_weight" in inspect.signature(cls.fit).parameters:
            from sklearn.utils.class_weight import compute_sample_weight

            fitting["sample_weight"] = compute_sample_weight("balanced", labels)
        else:
            raise InputError(f"class_weight: found {own.class_weight!r}, but {own.path} takes no weights")
    try:
        return cls(**options), fitting
    except Exception as error:  # a class of another package may raise anything
        raise InputError(f"options: {own.path} refuses them ({' '.join(str(error).split())[:200]})") from None
