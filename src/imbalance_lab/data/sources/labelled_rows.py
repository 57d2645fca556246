"""Recordings with labels: windows over their rows, fold by fold, whoever says what the labels are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from imbalance_lab.data.channels import Inputs
from imbalance_lab.data.dataset import IGNORE, LoadedData, RawText, SequenceDataset, Splits
from imbalance_lab.data.label_classes import RowLabels
from imbalance_lab.data.source_options import Window
from imbalance_lab.data.sources.recording_rows import RecordingRows
from imbalance_lab.data.split_plan import TRAIN, Plan
from imbalance_lab.data.splits import class_counts
from imbalance_lab.data.window_view import view_of
from imbalance_lab.data.windows import Windows, step_windows

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledRows:
    """R recordings of n rows in all, with a label of each head in each row, or none.

    Attributes
    ----------
    inputs : bool array of shape (R,), the recordings in train, to the inputs of the rows, fitted on those
    slices : windows, and their rows in the table (N, T), to the slices of each window
    splits : windows, and the side of each recording (R,), to the windows of each split
    facts : what to record beside the facts of inputs, plan and labels
    """

    rows: RecordingRows
    labels: RowLabels
    inputs: Callable[[NDArray[np.bool_]], Inputs]
    slices: Callable[[Windows, Ints], Mapping[str, NDArray[np.str_]]]
    plan: Plan
    splits: Callable[[Windows, Ints], Splits]
    window: Window
    facts: Mapping[str, object]
    raw: RawText | None = None

    def of(self, fold: int | None) -> LoadedData:
        """The data of a fold, in windows as :func:`~imbalance_lab.data.windows.step_windows` cuts them."""
        part = self.plan.side(fold)
        inputs = self.inputs(part == TRAIN)  # before the windows: columns and coded columns are the most
        windows = step_windows(self.rows.lengths, part == TRAIN, self.window.length, self.window.stride)
        rows = windows.rows(self.rows.starts)
        dataset = data_of_windows(
            self.rows,
            inputs,
            windows,
            heads=self.labels.heads,
            targets={head: windows.targets(t, rows, IGNORE) for head, t in self.labels.targets.items()},
            units=(windows.recording, windows.position, self.rows.lengths),
            slices=self.slices(windows, rows),
            facts={**self.facts, **inputs.facts, **self.plan.facts, **self.labels.facts, "windows": len(windows)},
        )
        return LoadedData(dataset, self.splits(windows, part), self.raw, fold=self.plan.fold(fold))


def count_labels(rows: RecordingRows, labels: RowLabels) -> sparse.csr_array:
    """Rows of each class of each head in each recording, shape (R, K)."""
    widths = [len(labels.heads[head]) for head in labels.targets]
    return class_counts(rows.of_row, len(rows.names), list(labels.targets.values()), widths)


def data_of_windows(
    rows: RecordingRows,
    inputs: Inputs,
    windows: Windows,
    heads: Mapping[str, tuple[str, ...]],
    targets: Mapping[str, Ints],
    units: tuple[Ints, Ints, Ints],
    slices: Mapping[str, NDArray[np.str_]],
    facts: Mapping[str, object],
) -> SequenceDataset:
    """The data set of N windows over shared rows; ``units`` are its unit, unit_position and unit_length."""
    unit, unit_position, unit_length = units
    return SequenceDataset(
        continuous=view_of(inputs.continuous, windows, rows.starts, np.nan),
        categorical=view_of(inputs.categorical, windows, rows.starts, 0),
        targets=targets,
        heads=heads,
        groups=rows.names[windows.recording],
        channels=inputs.coding.channels,
        unit=unit,
        unit_position=unit_position,
        unit_length=unit_length,
        slices=slices,
        categorical_channels=inputs.coding.categorical_channels,
        categories=inputs.coding.categories,
        scaling=inputs.coding.scaling,
        channel_groups=inputs.groups,
        facts=facts,
    )
