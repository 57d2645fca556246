"""From what ``mlflow.models.evaluate`` hands over to a predictions table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.errors import InputError
from imbalance_lab.predictions import HeadPredictions, Predictions

KEYS = (
    "head",
    "split",
    "strategy",
    "seed",
    "label_list",
    "probability_columns",
    "train_counts",
    "group",
    "positions",
    "slices",
    "tried",
    "resamples",
)
"""What ``evaluator_config={"imbalance": {...}}`` may hold."""


@dataclass(frozen=True)
class Answer:
    """What a model said: ``labels`` (n,), and where it says so ``probabilities`` (n, K) of ``classes``."""

    labels: NDArray[Any] | None
    probabilities: NDArray[np.float64] | None = None
    classes: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Evaluated:
    """A predictions table and what must be said beside it.

    ``has_probabilities`` is False where only labels are known; the table's probabilities are then
    uniform, which says nothing, and nothing that reads them may be shown.
    """

    predictions: Predictions
    has_probabilities: bool
    notes: tuple[str, ...]


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse unknown keys.

    Raises
    ------
    InputError
        Naming the key and the allowed ones.
    """
    for key in config:
        if key not in KEYS and key != "metric_prefix":
            raise InputError(f"evaluator_config of 'imbalance': unknown key {key!r}; allowed are {', '.join(KEYS)}")


def answer_of_model(model: Any, features: Any, column: str | None, config: Mapping[str, Any]) -> Answer:
    """Ask a pyfunc model; the estimator inside a scikit-learn flavour is asked for its probabilities too."""
    from mlflow.models.evaluation.default_evaluator import _extract_raw_model

    _, raw = _extract_raw_model(model)
    if raw is not None:
        labels = np.asarray(raw.predict(features))
        # A property of a pipeline that its last step does not offer raises AttributeError.
        if hasattr(raw, "predict_proba") and hasattr(raw, "classes_"):
            return Answer(labels, np.asarray(raw.predict_proba(features), dtype=np.float64), tuple(raw.classes_))
        return Answer(labels)
    return answer_of_output(model.predict(features), column, config)


def answer_of_output(output: Any, column: str | None, config: Mapping[str, Any]) -> Answer:
    """Read what a pyfunc model returned: labels, an (n, K) array of probabilities, a table or a mapping.

    Raises
    ------
    InputError
        If the output cannot be told apart.
    """
    listed = config.get("label_list")
    classes = None if listed is None else tuple(listed)
    if isinstance(output, Mapping):
        output = {key: np.asarray(value) for key, value in output.items()}
        name = column or config.get("head") or next(iter(output))
        if name not in output:
            raise InputError(f"the model's answer has no key {name!r}; it has {', '.join(map(str, output))}")
        scores = output.get(f"{name}_probabilities")
        if scores is None or classes is None:
            return Answer(output[name].reshape(-1))
        return Answer(output[name].reshape(-1), scores.reshape(-1, scores.shape[-1]).astype(np.float64), classes)
    if isinstance(output, pd.DataFrame):
        return answer_of_table(output, column, config)
    values = np.asarray(output)
    if values.ndim == 2 and values.shape[1] > 1:
        if classes is None:
            raise InputError(
                "the model returns one column per class; name the classes in that order in "
                "evaluator_config={'imbalance': {'label_list': [...]}}"
            )
        return Answer(None, values.astype(np.float64), classes)
    return Answer(values.reshape(-1))


def answer_of_table(table: pd.DataFrame, column: str | None, config: Mapping[str, Any]) -> Answer:
    """Labels from ``column`` (or the only column), probabilities from ``probability_columns``.

    Raises
    ------
    InputError
        If a column is missing or the label column cannot be told.
    """
    named = config.get("probability_columns")
    by_class = _by_class(named, config.get("label_list"))
    for wanted in (*by_class.values(), *([column] if column else ())):
        if wanted not in table.columns:
            raise InputError(f"column {wanted!r} is missing; the columns are {', '.join(map(str, table.columns))}")
    labels = None
    rest = [c for c in table.columns if c not in by_class.values()]
    if column:
        labels = table[column].to_numpy()
    elif len(rest) == 1:
        labels = table[rest[0]].to_numpy()
    elif not by_class:
        raise InputError("the model returns several columns; name the one with the label by predictions='...'")
    if not by_class:
        return Answer(labels)
    return Answer(labels, table[list(by_class.values())].to_numpy(dtype=np.float64), tuple(by_class))


def evaluated(
    answer: Answer, targets: Any, features: Any, config: Mapping[str, Any], *, head: str, name: str, run_id: str
) -> Evaluated:
    """The predictions table of an answer.

    Parameters
    ----------
    targets : array of shape (n,), the true labels
    features : the evaluated table; ``group``, ``positions`` and ``slices`` may name its columns
    name : of the strategy, where the configuration names none

    Raises
    ------
    InputError
        If lengths differ, a label is not among ``label_list``, or probabilities do not fit.
    """
    true = np.asarray(targets).reshape(-1)
    n = len(true)
    classes = _classes(answer, true, config)
    index = {c: i for i, c in enumerate(classes)}
    notes: list[str] = []
    if answer.probabilities is not None:
        if answer.probabilities.shape != (n, len(classes)):
            raise InputError(f"probabilities have shape {answer.probabilities.shape}, expected ({n}, {len(classes)})")
        probabilities = answer.probabilities
    else:
        probabilities = np.full((n, len(classes)), 1 / len(classes))
        notes.append(
            "The model gives labels without probabilities: calibration, confidence, hard examples and label noise "
            "were not analysed."
        )
    pred = probabilities.argmax(axis=1) if answer.labels is None else _codes(answer.labels, index, "predictions")
    codes = _codes(true, index, "targets")
    if len(pred) != n:
        raise InputError(f"the model gives {len(pred)} labels for {n} rows")
    group, group_names = _groups(config.get("group"), features, n, notes)
    sequence, position, length = _places(config.get("positions"), config.get("group"), features, group, n)
    slices, slice_names = _slices(config.get("slices"), features, n)
    table = HeadPredictions(
        classes=tuple(str(c) for c in classes),
        train_counts=_train_counts(config.get("train_counts"), classes, codes, notes),
        sequence=sequence,
        position=position,
        from_start=position,
        from_end=(length - 1 - position).astype(np.int32),
        group=group,
        group_names=group_names,
        true=codes,
        pred=pred.astype(np.int32),
        probabilities=probabilities.astype(np.float32),
        slices=slices,
        slice_names=slice_names,
    )
    meta = {
        "split": str(config.get("split", "test")),
        "strategy": str(config.get("strategy", name)),
        "seed": int(config.get("seed", 0)),
        "digest": _digest(table),
        "run_id": run_id,
        "notes": notes,
    }
    return Evaluated(Predictions({head: table}, meta), answer.probabilities is not None, tuple(notes))


def _digest(table: HeadPredictions) -> str:
    """Of the labels and where they lie: runs that agree in it can be compared, whatever their inputs were."""
    found = hashlib.sha256(repr((table.classes, table.group_names)).encode())
    for column in (table.true, table.group, table.sequence, table.position):
        found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()[:16]


def _by_class(named: Any, listed: Sequence[Any] | None) -> dict[Any, str]:
    if named is None:
        return {}
    if isinstance(named, Mapping):
        return dict(named)
    if listed is None:
        return {name: name for name in named}
    if len(listed) != len(named):
        raise InputError(f"probability_columns names {len(named)} columns, label_list {len(listed)} classes")
    return dict(zip(listed, named, strict=True))


def _classes(answer: Answer, true: NDArray[Any], config: Mapping[str, Any]) -> tuple[Any, ...]:
    if answer.classes is not None:
        return answer.classes
    if config.get("label_list") is not None:
        return tuple(config["label_list"])
    seen = true if answer.labels is None else np.concatenate([true, np.asarray(answer.labels).reshape(-1)])
    return tuple(np.unique(seen).tolist())


def _codes(labels: NDArray[Any], index: Mapping[Any, int], what: str) -> NDArray[np.int32]:
    values, inverse = np.unique(np.asarray(labels).reshape(-1), return_inverse=True)
    texts = {str(c): i for c, i in index.items()}
    unknown = [v for v in values.tolist() if v not in index and str(v) not in texts]
    if unknown:
        raise InputError(f"{what}: unknown class {unknown[0]!r}; the classes are {', '.join(texts)}")
    codes = np.array([index[v] if v in index else texts[str(v)] for v in values.tolist()], dtype=np.int32)
    return codes[inverse]


def _column(given: Any, features: Any, n: int, key: str) -> NDArray[Any]:
    """Values given as such, or by the name of a column of the evaluated table."""
    if isinstance(given, str):
        if not hasattr(features, "columns") or given not in features.columns:
            raise InputError(f"evaluator_config key {key!r}: no column {given!r} in the evaluated data")
        return np.asarray(features[given])
    values = np.asarray(given).reshape(-1)
    if len(values) != n:
        raise InputError(f"evaluator_config key {key!r}: {len(values)} values for {n} rows")
    return values


def _groups(given: Any, features: Any, n: int, notes: list[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if given is None:
        notes.append("No groups were given: every row counts as a unit of evidence of its own.")
        return np.arange(n, dtype=np.int32), tuple(f"row {i}" for i in range(n))
    names, codes = np.unique(_column(given, features, n, "group").astype(str), return_inverse=True)
    return codes.astype(np.int32), tuple(names.tolist())


def _places(
    given: Any, grouped: Any, features: Any, group: NDArray[np.int32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Sequence, position in it and its length; without positions each row is a sequence of its own."""
    if given is None:
        return np.arange(n, dtype=np.int64), np.zeros(n, dtype=np.int32), np.ones(n, dtype=np.int32)
    if grouped is None:
        raise InputError("evaluator_config key 'positions' needs 'group': which sequence each position lies in")
    position = _column(given, features, n, "positions").astype(np.int32)
    if n and position.min() < 0:
        raise InputError(f"evaluator_config key 'positions': found {position.min()}; positions count from 0")
    pairs = np.stack([group, position])
    if np.unique(pairs, axis=1).shape[1] < n:
        raise InputError("evaluator_config key 'positions': a position occurs twice in one group")
    length = np.zeros(int(group.max(initial=0)) + 1, dtype=np.int32)
    np.maximum.at(length, group, position + 1)
    return group.astype(np.int64), position, length[group]


def _slices(given: Any, features: Any, n: int) -> tuple[dict[str, NDArray[np.int32]], dict[str, tuple[str, ...]]]:
    if given is None:
        return {}, {}
    by_name = dict(given) if isinstance(given, Mapping) else {name: name for name in given}
    codes, names = {}, {}
    for name, values in by_name.items():
        found, inverse = np.unique(_column(values, features, n, "slices").astype(str), return_inverse=True)
        codes[name], names[name] = inverse.astype(np.int32), tuple(found.tolist())
    return codes, names


def _train_counts(
    given: Mapping[Any, int] | None, classes: tuple[Any, ...], codes: NDArray[np.int32], notes: list[str]
) -> NDArray[np.int64]:
    if given is None:
        notes.append(
            "Training counts were not given (train_counts): the frequencies of the evaluated labels stand for them, "
            "in the trivial predictors and in rare against frequent classes."
        )
        return np.bincount(codes, minlength=len(classes)).astype(np.int64)
    texts = {str(k): int(v) for k, v in given.items()}
    if unknown := [k for k in texts if k not in {str(c) for c in classes}]:
        raise InputError(f"train_counts: unknown class {unknown[0]!r}; the classes are {', '.join(map(str, classes))}")
    return np.array([texts.get(str(c), 0) for c in classes], dtype=np.int64)
