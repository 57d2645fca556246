"""From what a classifier answered to a predictions table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.data.coding import texts_of
from imbalance_lab.errors import InputError
from imbalance_lab.evaluation.evaluation_labels import in_order, same_texts
from imbalance_lab.predictions import HeadPredictions, Predictions, primary_head


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
        name = column or config.get("head") or primary_head(output)
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
    targets : labels of shape (n,), of any type; rows without one are left out and counted in a note
    features : the evaluated table; ``group``, ``positions`` and ``slices`` may name its columns
    name : of the strategy, where the configuration names none

    Raises
    ------
    InputError
        If lengths differ, a label is not among ``label_list``, no row has a label, a prediction is
        missing, labels of two types share no class, or probabilities do not fit.
    """
    named: dict[str, Any] = {"targets": targets}
    if answer.labels is not None:
        named["predictions"] = answer.labels
    listed = answer.classes if answer.classes is not None else config.get("label_list")
    if listed is not None:
        named["label_list"] = listed
    counted = config.get("train_counts")
    if counted is not None:
        named["train_counts"] = list(counted)
    texts = same_texts(named)
    true, said = texts["targets"], texts.get("predictions")
    rows, notes = len(true), list[str]()
    if said is not None and len(said) != rows:
        raise InputError(f"the model gives {len(said)} labels for {rows} rows")
    probabilities = answer.probabilities
    if probabilities is not None and probabilities.shape != (rows, len(listed or ())):
        raise InputError(f"probabilities have shape {probabilities.shape}, expected ({rows}, {len(listed or ())})")
    kept = _labelled(true, notes)
    true, n = true[kept], len(kept)
    if said is not None:
        said = said[kept]
        _refuse_missing(said, kept, "predictions")
    classes = (
        tuple(texts["label_list"].tolist())
        if listed is not None
        else in_order({*true.tolist(), *([] if said is None else said.tolist())})
    )
    index = {c: i for i, c in enumerate(classes)}
    if probabilities is not None:
        probabilities = probabilities[kept]
    else:
        probabilities = np.full((n, len(classes)), 1 / len(classes))
        notes.append(
            "The model gives labels without probabilities: calibration, confidence, hard examples and label noise "
            "were not analysed."
        )
    codes = _codes(true, index, "targets")
    pred = probabilities.argmax(axis=1) if said is None else _codes(said, index, "predictions")
    at = _Rows(features, kept, rows)
    group, group_names = _groups(config.get("group"), at, notes)
    sequence, position, length = _places(config.get("positions"), config.get("group"), at, group)
    slices, slice_names = _slices(config.get("slices"), at)
    table = HeadPredictions(
        classes=classes,
        train_counts=_train_counts(counted, texts.get("train_counts"), index, codes, notes),
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


@dataclass(frozen=True)
class _Rows:
    """The evaluated table, and which of its rows are analysed."""

    features: Any
    kept: NDArray[np.int64]
    n: int

    def column(self, given: Any, key: str) -> NDArray[Any]:
        """Values of the rows that are analysed, given as such or by the name of a column."""
        if isinstance(given, str):
            if not hasattr(self.features, "columns") or given not in self.features.columns:
                raise InputError(f"evaluator_config key {key!r}: no column {given!r} in the evaluated data")
            return np.asarray(self.features[given])[self.kept]
        values = np.asarray(given).reshape(-1)
        if len(values) != self.n:
            raise InputError(f"evaluator_config key {key!r}: {len(values)} values for {self.n} rows")
        return values[self.kept]


def _labelled(true: NDArray[np.object_], notes: list[str]) -> NDArray[np.int64]:
    """Rows that have a label; the others are counted in a note."""
    kept = np.array([i for i, text in enumerate(true.tolist()) if text is not None], dtype=np.int64)
    if not len(kept):
        raise InputError(f"targets: none of the {len(true)} rows has a label")
    missing = len(true) - len(kept)
    if missing:
        notes.append(
            f"{missing:,} of {len(true):,} rows {'have' if missing > 1 else 'has'} no label and "
            f"{'were' if missing > 1 else 'was'} left out."
        )
    return kept


def _refuse_missing(texts: NDArray[np.object_], rows: NDArray[np.int64], what: str) -> None:
    missing = [int(row) for row, text in zip(rows, texts.tolist(), strict=True) if text is None]
    if missing:
        raise InputError(f"{what}: row {missing[0]} (from 0) is missing, expected a class ({len(missing)} such rows)")


def _codes(texts: NDArray[np.object_], index: Mapping[str, int], what: str) -> NDArray[np.int32]:
    unknown = [text for text in texts.tolist() if text not in index]
    if unknown:
        raise InputError(f"{what}: unknown class {unknown[0]!r}; the classes are {', '.join(index)}")
    return np.array([index[text] for text in texts.tolist()], dtype=np.int32)


def _groups(given: Any, rows: _Rows, notes: list[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if given is None:
        n = len(rows.kept)
        notes.append("No groups were given: every row counts as a unit of evidence of its own.")
        return np.arange(n, dtype=np.int32), tuple(f"row {i}" for i in rows.kept.tolist())
    texts = texts_of(rows.column(given, "group"))
    _refuse_missing(texts, rows.kept, "evaluator_config key 'group'")
    names, codes = np.unique(texts.astype(str), return_inverse=True)
    return codes.astype(np.int32), tuple(names.tolist())


def _places(
    given: Any, grouped: Any, rows: _Rows, group: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Sequence, position in it and its length; without positions each row is a sequence of its own."""
    n = len(rows.kept)
    if given is None:
        return np.arange(n, dtype=np.int64), np.zeros(n, dtype=np.int32), np.ones(n, dtype=np.int32)
    if grouped is None:
        raise InputError("evaluator_config key 'positions' needs 'group': which sequence each position lies in")
    position = _whole(rows.column(given, "positions"))
    if n and position.min() < 0:
        raise InputError(f"evaluator_config key 'positions': found {position.min()}; positions count from 0")
    pairs = np.stack([group, position])
    if np.unique(pairs, axis=1).shape[1] < n:
        raise InputError("evaluator_config key 'positions': a position occurs twice in one group")
    length = np.zeros(int(group.max(initial=0)) + 1, dtype=np.int32)
    np.maximum.at(length, group, position + 1)
    return group.astype(np.int64), position, length[group]


def _whole(values: NDArray[Any]) -> NDArray[np.int32]:
    try:
        out = values.astype(np.float64)
    except (TypeError, ValueError):
        out = np.full(len(values), np.nan)
    bad = ~(out == np.floor(out))
    if bad.any():
        found = values[int(bad.argmax())]
        raise InputError(f"evaluator_config key 'positions': found {found!r}, expected whole numbers from 0")
    return out.astype(np.int32)


def _slices(given: Any, rows: _Rows) -> tuple[dict[str, NDArray[np.int32]], dict[str, tuple[str, ...]]]:
    if given is None:
        return {}, {}
    by_name = dict(given) if isinstance(given, Mapping) else {name: name for name in given}
    codes, names = {}, {}
    for name, values in by_name.items():
        texts = [text or "missing" for text in texts_of(rows.column(values, "slices")).tolist()]
        found, inverse = np.unique(np.array(texts, dtype=np.str_), return_inverse=True)
        codes[name], names[name] = inverse.astype(np.int32), tuple(found.tolist())
    return codes, names


def _train_counts(
    given: Mapping[Any, int] | None,
    names: NDArray[np.object_] | None,
    index: Mapping[str, int],
    codes: NDArray[np.int32],
    notes: list[str],
) -> NDArray[np.int64]:
    if given is None or names is None:
        notes.append(
            "Training counts were not given (train_counts): the frequencies of the evaluated labels stand for them, "
            "in the trivial predictors and in rare against frequent classes."
        )
        return np.bincount(codes, minlength=len(index)).astype(np.int64)
    counts = np.zeros(len(index), dtype=np.int64)
    counts[_codes(names, index, "train_counts")] = [int(v) for v in given.values()]
    return counts
