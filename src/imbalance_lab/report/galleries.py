"""Galleries: the actual inputs of the worst cases, looked up in the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.formats import percent
from imbalance_lab.plots.example_pages import ImageExample, WindowExample, image_gallery, window_gallery
from imbalance_lab.predictions import HeadPredictions
from imbalance_lab.report.run_figures import head_colours, scope_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_lab.analysis.results import ErrorAnalysis

CHANNELS = 4
_AROUND = 4  # steps before and after the error over which channels are compared
_SAMPLE = 512  # sequences that the channels' spreads are taken from


def galleries(
    analysis: ErrorAnalysis, head: str, predictions: HeadPredictions, dataset: SequenceDataset, most: int = 4
) -> tuple[dict[str, Figure], str]:
    """Figures of the worst case of each of the top confused pairs, beside its nearest right example.

    Returns
    -------
    figures : ``gallery_1`` ..., at most ``most`` (images: one sheet, ``gallery``)
    absent : why there are none, "" where there are some
    """
    table = analysis.heads[head].gallery
    if not len(table):
        return {}, "no error to show"
    scope = scope_of(analysis, head)
    if dataset.image_shape is not None:
        examples = [_image(row, dataset) for row in table.itertuples()]
        return {"gallery": image_gallery([e for e in examples if e is not None], scope)}, ""
    if dataset.continuous.shape[1] == 1:
        return {}, "rows of a table have no window to draw"
    sample = dataset.continuous[:: max(1, len(dataset) // _SAMPLE)]
    known = np.isfinite(sample).any(axis=(0, 1))  # a channel that later data lack has no spread
    spread = np.zeros(sample.shape[-1])
    spread[known] = np.nanstd(sample[..., known], axis=(0, 1))
    rates = analysis.heads[head].confusion.pairs.set_index(["true", "pred"])["rate"]
    colours = head_colours(analysis.heads[head])
    figures: dict[str, Figure] = {}
    for row in table[table["case"] == table["case"].min()].itertuples():
        wrong = _place(dataset, row.sequence, row.position)
        right = _place(dataset, row.neighbour_sequence, row.neighbour_position)
        if wrong is None or len(figures) >= most:
            continue
        channels = _telling_channels(dataset, wrong, right, spread)
        figures[f"gallery_{len(figures) + 1}"] = window_gallery(
            _window(dataset, predictions, wrong, channels, row, error=True),
            None if right is None else _window(dataset, predictions, right, channels, row, error=False),
            [dataset.channels[c] for c in channels],
            scope,
            colours=colours,
            rate=float(rates.get((row.true, row.pred), np.nan)),
        )
    return figures, "" if figures else "the inputs of the errors are not in this data set"


def _place(dataset: SequenceDataset, unit: float, position: float) -> tuple[int, int] | None:
    """(sequence, column) whose true sequence and place are these, the one with most context around it.

    None for NaN: the gallery table has no neighbour there.
    """
    if np.isnan(unit) or np.isnan(position):
        return None
    rows = np.flatnonzero(dataset.unit == unit)
    i, column = np.nonzero(dataset.unit_position[rows] == position)
    if not len(i):
        return None
    best = int(np.abs(column - dataset.target_length / 2).argmin())
    return int(rows[i[best]]), int(column[best])


def _telling_channels(
    dataset: SequenceDataset, wrong: tuple[int, int], right: tuple[int, int] | None, spread: NDArray[Any]
) -> list[int]:
    """Channels that differ most between the error and the right example, in standard deviations."""
    a = _cut(dataset, wrong)
    b = _cut(dataset, right) if right is not None else np.zeros_like(a)
    shape_a, shape_b = a - a.mean(axis=0), b - b.mean(axis=0)
    distance = np.nan_to_num(
        (np.abs(a - b) + np.abs(shape_a - shape_b)).mean(axis=0) / np.where(spread > 0, spread, np.inf)
    )
    return [int(c) for c in np.argsort(-distance, kind="stable")[:CHANNELS]]


def _cut(dataset: SequenceDataset, place: tuple[int, int]) -> NDArray[np.float32]:
    """Values around a place, (2 * _AROUND + 1, C); the edge is repeated beyond the window."""
    steps = dataset.continuous.shape[1]
    centre = place[1] if dataset.target_length == steps else steps // 2
    columns = np.clip(np.arange(centre - _AROUND, centre + _AROUND + 1), 0, steps - 1)
    return np.asarray(dataset.continuous[place[0]][columns])


def _window(
    dataset: SequenceDataset,
    predictions: HeadPredictions,
    place: tuple[int, int],
    channels: list[int],
    row: Any,
    *,
    error: bool,
) -> WindowExample:
    sequence, column = place
    steps = dataset.continuous.shape[1]
    true, pred = np.full(steps, "", dtype=object), np.full(steps, "", dtype=object)
    span = None
    unit = int(dataset.unit[sequence])
    if dataset.target_length == steps:
        of_unit = np.flatnonzero(predictions.sequence == unit)
        rank = {int(p): i for i, p in zip(of_unit, predictions.position[of_unit], strict=True)}
        for step, p in enumerate(dataset.unit_position[sequence].tolist()):
            if (i := rank.get(p)) is not None:
                true[step] = predictions.classes[predictions.true[i]]
                pred[step] = predictions.classes[predictions.pred[i]]
        if error:
            span = _span(true, pred, column)
    title = f"{dataset.groups[sequence]}, row {int(dataset.unit_position[sequence][column]):,}"
    title += (
        f": {row.pred} at {percent(row.confidence, 0)}, true {row.true}" if error else f": {row.true}, read rightly"
    )
    values = dataset.native(dataset.continuous[sequence][:, channels], channels)
    return WindowExample(values, true.tolist(), pred.tolist(), span, title)


def _span(true: NDArray[Any], pred: NDArray[Any], column: int) -> tuple[int, int]:
    """First and last step of the stretch of wrong steps around ``column``."""
    wrong = true != pred
    first = last = column
    while first > 0 and wrong[first - 1]:
        first -= 1
    while last + 1 < len(wrong) and wrong[last + 1]:
        last += 1
    return first, last


def _image(row: Any, dataset: SequenceDataset) -> ImageExample | None:
    place = _place(dataset, row.sequence, row.position)
    near = _place(dataset, row.neighbour_sequence, row.neighbour_position)
    if place is None:
        return None
    picture = [
        None if p is None else dataset.native(dataset.continuous[p[0], 0]).reshape(dataset.image_shape)
        for p in (place, near)
    ]
    assert picture[0] is not None
    return ImageExample(picture[0], str(row.true), str(row.pred), float(row.confidence), picture[1])
