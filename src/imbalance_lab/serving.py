"""Rows as the file has them in; labels and probabilities of every head out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coded, Coding, RowColumns, texts_of, unknown_words
from imbalance_lab.data.sources.recording_rows import RecordingRows, recordings_of_rows, refuse_falling
from imbalance_lab.data.windows import step_windows
from imbalance_lab.errors import InputError
from imbalance_lab.learners.stored import StoredModel
from imbalance_lab.predictions import bare_head
from imbalance_lab.strategies.posthoc import apply_posthoc
from imbalance_lab.training.predict import softmax

UNKNOWN = "unknown_categories"
"""Key of the answer that counts, for each row or window, the categories that the model does not know."""


def answer(stored: StoredModel, given: Any) -> dict[str, NDArray[Any]]:
    """Score a batch: rows of a table, windows, or the rows of recordings where the model labels each step.

    Categories that train did not have are read as missing; they are counted in the answer
    (:data:`UNKNOWN`, for models that read categories) and named in a warning.

    Parameters
    ----------
    given : see :func:`coded_rows` for a model that labels the rows of recordings, :func:`coded_inputs` for others

    Returns
    -------
    Per head ``<head>`` labels (B, L) and ``<head>_probabilities`` (B, L, K), after the strategy's own
    post-hoc correction; int64 (B,) under :data:`UNKNOWN`. B counts rows and L is 1 where rows are given.

    Raises
    ------
    InputError
        See :func:`coded_rows` and :func:`coded_inputs`.
    """
    if stored.coding.rows:
        coded, recordings = coded_rows(stored.coding, stored.coding.rows, given)
        scores = _scores_of_rows(stored, coded, recordings)
    else:
        coded = coded_inputs(stored.coding, stored.steps, given)
        scores = stored.scores(len(coded.continuous), lambda part: (coded.continuous[part], coded.categorical[part]))
    if coded.unknown:
        warnings.warn(f"Unknown categories, read as missing: {unknown_words(coded.unknown)}.", stacklevel=2)
    out: dict[str, NDArray[Any]] = {}
    for head, logits in scores.items():
        posthoc, classes = stored.posthoc[head], stored.heads[head]
        flat = softmax(logits.reshape(-1, logits.shape[-1]))
        scored = apply_posthoc(posthoc["steps"], bare_head(classes, np.asarray(posthoc["train_counts"]), flat))
        out[head] = np.asarray(classes)[scored.pred].reshape(logits.shape[:2])
        out[f"{head}_probabilities"] = scored.probabilities.reshape(logits.shape)
    if stored.coding.categorical_channels:
        out[UNKNOWN] = coded.strange.sum(axis=tuple(range(1, coded.strange.ndim)))
    return out


def _scores_of_rows(stored: StoredModel, coded: Coded, recordings: RecordingRows) -> dict[str, NDArray[np.float32]]:
    """Class scores (n, 1, K) of n rows: each from the window whose centre is nearest, as test data are scored."""
    tested = np.zeros(len(recordings.lengths), dtype=bool)
    windows = step_windows(recordings.lengths, tested, stored.steps, stored.steps)
    rows = windows.rows(recordings.starts)

    def inputs(part: slice) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        continuous, categorical = coded.continuous[rows[part]], coded.categorical[rows[part]]
        padding = rows[part] < 0
        continuous[padding], categorical[padding] = np.nan, 0
        return continuous, categorical

    window, step = np.nonzero(windows.scored)
    order = np.argsort(rows[window, step])
    found = stored.scores(len(rows), inputs)
    return {head: z[window[order], step[order]][:, None] for head, z in found.items()}


def coded_rows(coding: Coding, columns: RowColumns, given: Any) -> tuple[Coded, RecordingRows]:
    """Rows of recordings as inputs (n, C) and (n, K), and which of them are a recording.

    Parameters
    ----------
    given : a data frame (or a mapping) with the columns of the file, in any order, one row per step, the steps of
        a recording below each other and in their order. Without the column of the recordings all rows are one;
        the column of the order is checked where it is there. Other columns are ignored.

    Raises
    ------
    InputError
        If it is no table, a column of the model is missing or holds text where numbers are expected, recordings
        interleave, or a step lies before the one above it.
    """
    import pandas as pd

    if not hasattr(given, "columns") and not isinstance(given, Mapping):
        raise InputError(f"found {type(given).__name__}, expected a table of rows with the columns of the file")
    frame = given if hasattr(given, "columns") else pd.DataFrame(given)
    named = columns.recording
    texts = texts_of(frame[named]) if named is not None and named in frame else None
    recordings = recordings_of_rows(len(frame), texts, lambda row: f"row {row} (from 0), column {named!r}")
    if columns.order is not None and columns.order in frame:
        order = np.asarray(frame[columns.order])
        if order.dtype.kind not in "iufM":
            raise InputError(f"column {columns.order!r} holds {order.dtype}, expected numbers or times")
        refuse_falling(order, recordings, lambda row: f"row {row} (from 0), column {columns.order!r}")
    return coding.encode(frame), recordings


def coded_inputs(coding: Coding, steps: int, given: Any) -> Coded:
    """Raw rows or windows as inputs of shape (B, T, C) and (B, T, K).

    Parameters
    ----------
    given : where T = 1 a data frame (or a mapping) with the columns of the file, in any order; columns
        that the model does not read are ignored. Otherwise ``continuous`` (B, T, C) in the
        channels' own units, NaN where missing, and ``categorical`` (B, T, K) as the file has
        them, in a mapping; an array is ``continuous``, (B, C) where T = 1.

    Raises
    ------
    InputError
        If a column is missing or holds text where numbers are expected, or a shape does not fit.
    """
    if hasattr(given, "columns") or (isinstance(given, Mapping) and "continuous" not in given):
        if steps != 1:
            raise InputError(f"found a table, expected windows 'continuous' of {steps} steps")
        import pandas as pd

        frame = given if hasattr(given, "columns") else pd.DataFrame(given)
        return _as_windows(coding.encode(frame))
    parts = given if isinstance(given, Mapping) else {"continuous": given}
    continuous = _windows(parts["continuous"], steps, coding.channels, "continuous")
    texts = parts.get("categorical")
    if texts is None:
        texts = np.full((*continuous.shape[:2], len(coding.categorical_channels)), None, dtype=object)
    texts = _windows(texts, steps, coding.categorical_channels, "categorical")
    columns = {name: continuous[..., i] for i, name in enumerate(coding.channels)}
    columns |= {name: texts[..., i] for i, name in enumerate(coding.categorical_channels)}
    return coding.encode(columns)


def _as_windows(coded: Coded) -> Coded:
    """Rows as windows of one step."""
    return Coded(
        coded.continuous[:, None], coded.categorical[:, None], coded.strange[:, None], coded.unknown, coded.facts
    )


def _windows(values: Any, steps: int, names: tuple[str, ...], key: str) -> NDArray[Any]:
    found = np.asarray(values)
    if found.ndim == 2 and steps == 1:
        found = found[:, None]
    if found.ndim != 3 or found.shape[1:] != (steps, len(names)):
        raise InputError(f"{key!r} has the shape {found.shape}, expected (rows, {steps}, {len(names)})")
    return found
