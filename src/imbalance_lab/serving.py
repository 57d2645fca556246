"""Rows as the file has them in; labels and probabilities of every head out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coded, Coding, unknown_words
from imbalance_lab.errors import InputError
from imbalance_lab.learners.stored import StoredModel
from imbalance_lab.predictions import bare_head
from imbalance_lab.strategies.posthoc import apply_posthoc

UNKNOWN = "unknown_categories"
"""Key of the answer that counts, for each row or window, the categories that the model does not know."""


def answer(stored: StoredModel, given: Any) -> dict[str, NDArray[Any]]:
    """Score a batch.

    Categories that train did not have are read as missing; they are counted in the answer
    (:data:`UNKNOWN`, for models that read categories) and named in a warning.

    Parameters
    ----------
    given : see :func:`coded_inputs`

    Returns
    -------
    Per head ``<head>`` labels (B, L) and ``<head>_probabilities`` (B, L, K), after the strategy's own
    post-hoc correction; int64 (B,) under :data:`UNKNOWN`.

    Raises
    ------
    InputError
        See :func:`coded_inputs`.
    """
    import torch

    coded = coded_inputs(stored.coding, stored.steps, given)
    if coded.unknown:
        warnings.warn(f"Unknown categories, read as missing: {unknown_words(coded.unknown)}.", stacklevel=2)
    with torch.inference_mode():
        scores = stored.model(torch.from_numpy(coded.continuous), torch.from_numpy(coded.categorical))
    out: dict[str, NDArray[Any]] = {}
    for head, logits in scores.items():
        posthoc, classes = stored.posthoc[head], stored.heads[head]
        flat = torch.softmax(logits.double(), dim=-1).flatten(0, 1).numpy().astype(np.float32)
        scored = apply_posthoc(posthoc["steps"], bare_head(classes, np.asarray(posthoc["train_counts"]), flat))
        out[head] = np.asarray(classes)[scored.pred].reshape(logits.shape[:2])
        out[f"{head}_probabilities"] = scored.probabilities.reshape(logits.shape)
    if stored.coding.categorical_channels:
        out[UNKNOWN] = coded.strange.reshape(len(coded.strange), -1).sum(axis=1)
    return out


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
