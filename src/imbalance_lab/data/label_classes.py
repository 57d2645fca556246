"""Labels of rows: the classes of a column of them, and how a column that holds no classes is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.columns import Table
from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.data.source_options import SeriesOptions, TableOptions
from imbalance_lab.errors import InputError
from imbalance_lab.names import natural_key

MOST_CLASSES = 10_000
"""Of a head: tables of one class against another are made, K x K."""

_FRACTIONS = 20  # more distinct values with fractions than this are a measured quantity
_WHOLE = 50  # and so are more whole numbers than this, where they are also many for the rows
_ROWS_PER_CLASS = 10


@dataclass(frozen=True)
class RowLabels:
    """What a labeller says about n rows.

    Attributes
    ----------
    heads : mapping of head to its class names
    targets : mapping of head to int64 array of shape (n,), class index, or IGNORE without a label
    facts : what to record of the labels
    """

    heads: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, NDArray[np.int64]]
    facts: Mapping[str, object] = field(default_factory=dict)


def classes_of(
    texts: NDArray[np.object_], name: str, table: Table, options: TableOptions | SeriesOptions, known: bool = False
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names of a target column, and the class of each of its n rows (int64, IGNORE without a label).

    With ``known`` classes, those of a model that exists, one class is enough and none is taken for a quantity.

    Raises
    ------
    InputError
        A row without a label where they are not masked, fewer than two classes, too many, a measured quantity.
    """
    import pandas as pd

    codes, distinct = pd.factorize(texts)
    missing = codes < 0
    if missing.any() and options.unlabelled == "error":
        raise InputError(
            f"{table.place(int(missing.argmax()), name)}: the label is missing ({int(missing.sum())} such rows), "
            "expected a class in every row; set data.unlabelled: mask to leave such rows unscored"
        )
    classes = tuple(sorted(distinct.tolist(), key=natural_key)) if len(distinct) <= MOST_CLASSES else tuple(distinct)
    if len(classes) < (1 if known else 2):
        found = f"the one class {classes[0]!r}" if classes else "no label"
        raise InputError(f"{table.path}, column {name!r}: found {found}, expected at least two classes")
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"{table.path}, column {name!r}: found {len(classes):,} distinct values, expected at most {MOST_CLASSES:,} "
            "classes"
        )
    if options.target_kind == "auto" and not known:
        _refuse_quantity(classes, int((~missing).sum()), name, table)
    order = {c: i for i, c in enumerate(classes)}
    return classes, np.array([*(order[t] for t in distinct.tolist()), IGNORE], dtype=np.int64)[codes]


def _refuse_quantity(classes: Sequence[str], rows: int, name: str, table: Table) -> None:
    """Many distinct numbers are a measurement, and nearly as many classes as rows are none."""
    numbers = [_as_number(text, table.of(name).form.decimal) for text in classes]
    numeric = all(number is not None for number in numbers)
    fractions = numeric and any(number is not None and number % 1 for number in numbers)
    many = max(2, rows // 2)
    if numeric:
        many = min(many, _FRACTIONS if fractions else max(_WHOLE, rows // _ROWS_PER_CLASS))
    if len(classes) > many:
        raise InputError(
            f"{table.path}, column {name!r}: found {len(classes)} distinct values in {rows} rows, "
            f"{classes[0]!r} to {classes[-1]!r}, expected classes, not quantities"
            f"{' or names' if not numeric else ''}; set data.target_kind: classes if each is a class of its own"
        )


def _as_number(text: str, decimal: str) -> float | None:
    try:
        return float(text.replace(decimal, "."))
    except ValueError:
        return None
