"""Which positions a gallery should show; drawing them needs the inputs and is done elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.confusion import confusion_analysis
from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import ROW, Analysis, Plot, Table, columns
from imbalance_lab.analysis.rows import largest, row_table
from imbalance_lab.predictions import HeadPredictions

_CASES = 3  # errors of each
_PAIRS = 5  # confused pairs that are shown

POOL = 2000


def _right_examples(head: HeadPredictions, label: int) -> NDArray[np.intp]:
    """At most ``POOL`` evenly spaced correctly classified positions of a class."""
    rows = np.flatnonzero((head.true == label) & (head.pred == label))
    return rows[:: max(1, -(-len(rows) // POOL))]


def gallery_selection(prepared: Prepared) -> pd.DataFrame:
    """The most confident errors of each of the top pairs, each with its nearest right example of the true class.

    Returns
    -------
    DataFrame: pair (rank), case (rank within the pair), then the columns of
    :func:`imbalance_lab.analysis.rows.row_table`, and neighbour_row, neighbour_sequence,
    neighbour_recording, neighbour_position, neighbour_distance. Distance is Euclidean between
    probability vectors, among at most 2,000 evenly spaced right examples; neighbour_row is -1 where the
    class has none.
    """
    head, errors = prepared.head, prepared.errors
    pairs = prepared.once(confusion_analysis).pairs  # most frequent first
    codes = {name: i for i, name in enumerate(head.classes)}
    found: list[tuple[int, int, int, int, float]] = []  # pair, case, row, neighbour, distance
    pools: dict[int, NDArray[np.intp]] = {}
    for rank, (true, pred) in enumerate(zip(pairs["true"][:_PAIRS], pairs["pred"][:_PAIRS], strict=True)):
        label = codes[true]
        of_pair = np.flatnonzero((errors.true == label) & (errors.pred == codes[pred]))
        rows = errors.row[of_pair[largest(errors.confidence[of_pair], _CASES)]]
        if label not in pools:
            pools[label] = _right_examples(head, label)
        pool = pools[label]
        nearest, distance = np.full(len(rows), -1), np.full(len(rows), np.nan)
        if len(pool):
            gaps = np.linalg.norm(head.probabilities[rows][:, None] - head.probabilities[pool][None], axis=2)
            best = gaps.argmin(axis=1)
            nearest, distance = pool[best], gaps[np.arange(len(rows)), best]
        found += zip([rank + 1] * len(rows), range(1, len(rows) + 1), rows, nearest, distance, strict=True)
    if not found:
        return pd.DataFrame()
    pair, case, row, neighbour, gap = (np.array(column) for column in zip(*found, strict=True))
    table = row_table(head, row)
    table.insert(0, "case", case)
    table.insert(0, "pair", pair)
    other = row_table(head, np.maximum(neighbour, 0))
    table["neighbour_row"] = neighbour
    for column in ("sequence", "recording", "position"):
        table[f"neighbour_{column}"] = other[column].where(pd.Series(neighbour >= 0), None)
    table["neighbour_distance"] = gap
    return table


ANALYSIS: Analysis[pd.DataFrame] = Analysis(
    "gallery",
    gallery_selection,
    "the cases that the gallery shows",
    tables=(
        Table(
            "gallery",
            "",
            "gallery",
            "Cases shown",
            (
                *columns("count", "pair", "case"),
                *ROW,
                *columns("count", "neighbour_row", "neighbour_sequence"),
                *columns("text", "neighbour_recording"),
                *columns("count", "neighbour_position"),
                *columns("number", "neighbour_distance"),
            ),
            "The most confident errors of the top pairs.",
            most=30,
            fold=True,
        ),
    ),
    plots=(Plot("gallery", "gallery", None, drawn="main head"),),
    needs_probabilities=True,
)
