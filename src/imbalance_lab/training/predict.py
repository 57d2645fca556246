"""Class scores of a split to the predictions table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE, SequenceDataset, Splits
from imbalance_lab.predictions import HeadPredictions, Predictions


def softmax(scores: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Class scores (..., K) as probabilities, computed in float64."""
    z = scores.astype(np.float64)
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return (z / z.sum(axis=-1, keepdims=True)).astype(np.float32)


def to_predictions(
    dataset: SequenceDataset,
    splits: Splits,
    index: NDArray[np.int64],
    scores: Mapping[str, NDArray[np.float32]],
    meta: Mapping[str, Any],
) -> Predictions:
    """The predictions table of the sequences at ``index``.

    Parameters
    ----------
    scores : head to float array (n, L, K); a softmax makes them probabilities
    meta : see :class:`~imbalance_lab.predictions.Predictions`; the data's digest and the categories of
        its inputs are added

    Rows are ordered by true sequence and position, so that tables of two runs line up.
    """
    group_names, group = np.unique(dataset.groups, return_inverse=True)
    slices = {name: np.unique(values, return_inverse=True) for name, values in dataset.slices.items()}
    heads = {}
    for head, score in scores.items():
        target = dataset.targets[head][index]
        row, column = np.nonzero(target != IGNORE)
        unit, place = dataset.unit[index][row], dataset.unit_position[index][row, column]
        order = np.lexsort((place, unit))
        row, column, unit, place = row[order], column[order], unit[order], place[order]
        probabilities = softmax(score[row, column])
        heads[head] = HeadPredictions(
            classes=dataset.heads[head],
            train_counts=dataset.class_counts(head, splits.train),
            sequence=unit,
            position=place.astype(np.int32),
            from_start=place.astype(np.int32),
            from_end=(dataset.unit_length[unit] - 1 - place).astype(np.int32),
            group=group[index][row].astype(np.int32),
            group_names=tuple(group_names.tolist()),
            true=target[row, column].astype(np.int32),
            pred=probabilities.argmax(axis=1).astype(np.int32),
            probabilities=probabilities,
            slices={name: codes[index][row].astype(np.int32) for name, (_, codes) in slices.items()},
            slice_names={name: tuple(names.tolist()) for name, (names, _) in slices.items()},
        )
    texts = dict(zip(dataset.categorical_channels, map(list, dataset.categories), strict=True))
    known = {"categories": texts} if texts else {}
    return Predictions(heads=heads, meta={"digest": dataset.digest, **known, **meta})
