"""Data for a model that was trained before: do they fit, and in which order are its classes?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.errors import InputError
from imbalance_lab.learners.stored import StoredModel


def with_classes(loaded: LoadedData, heads: Mapping[str, tuple[str, ...]]) -> LoadedData:
    """The data with the classes of a model in the model's order; later data may lack some of them.

    Raises
    ------
    InputError
        If a class is none of the model's.
    """
    dataset = loaded.dataset
    if set(dataset.heads) != set(heads) or dict(dataset.heads) == dict(heads):
        return loaded
    targets = {}
    for head, classes in heads.items():
        used = np.unique(dataset.targets[head][dataset.targets[head] != IGNORE])
        strange = [dataset.heads[head][c] for c in used.tolist() if dataset.heads[head][c] not in classes]
        if strange:
            raise InputError(
                f"--data: head {head!r} holds the class {strange[0]!r}, which the model does not know; "
                f"it knows {', '.join(classes)}"
            )
        code = {name: i for i, name in enumerate(classes)}
        table = np.array([*(code.get(name, IGNORE) for name in dataset.heads[head]), IGNORE], dtype=np.int64)
        targets[head] = table[np.where(dataset.targets[head] == IGNORE, len(table) - 1, dataset.targets[head])]
    return replace(loaded, dataset=replace(dataset, heads=dict(heads), targets=targets))


def check_fit(stored: StoredModel, loaded: LoadedData, trained_in: str) -> None:
    """Refuse data whose inputs or classes are not the model's.

    Raises
    ------
    InputError
        Naming what differs; ``trained_in`` is the id of the run that the model is of.
    """
    dataset, coding = loaded.dataset, stored.coding
    for what, wanted, found in (
        ("channels", coding.channels, dataset.channels),
        ("categories", coding.categories, dataset.categories),
        ("heads", dict(stored.heads), dict(dataset.heads)),
        ("steps of a window", stored.steps, dataset.continuous.shape[1]),
    ):
        if wanted != found:
            raise InputError(f"--data: the {what} differ from those that run {trained_in!r} was trained on")


def new_data(stored: StoredModel, loaded: LoadedData, trained_in: str) -> tuple[LoadedData, dict[str, dict[str, int]]]:
    """Later data with the heads and classes of a model, and how many positions are of classes that it does not know.

    Positions of an unknown class cannot be scored and are masked; heads that the model does not have are left out.

    Raises
    ------
    InputError
        If a head of the model is missing, no position is left to score, or the inputs are not the model's.
    """
    dataset = loaded.dataset
    targets, unknown = {}, {}
    for head, classes in stored.heads.items():
        if head not in dataset.heads:
            raise InputError(
                f"--data: the data have no labels of {head!r}, which the model predicts; they have "
                f"{', '.join(dataset.heads)}"
            )
        code = {name: i for i, name in enumerate(classes)}
        names = dataset.heads[head]
        counts = dataset.class_counts(head)
        strange = {name: int(n) for name, n in zip(names, counts, strict=True) if n and name not in code}
        if strange:
            unknown[head] = strange
        table = np.array([*(code.get(name, IGNORE) for name in names), IGNORE], dtype=np.int64)
        target = dataset.targets[head]
        targets[head] = table[np.where(target == IGNORE, len(names), target)]
    if all((target == IGNORE).all() for target in targets.values()):
        found = "; ".join(f"{head}: {', '.join(names)}" for head, names in unknown.items()) or "no label"
        known = "; ".join(f"{head}: {', '.join(classes)}" for head, classes in stored.heads.items())
        raise InputError(f"--data: no position has a class that the model knows; found {found}; it knows {known}")
    out = replace(loaded, dataset=replace(dataset, heads=dict(stored.heads), targets=targets))
    check_fit(stored, out, trained_in)
    return out, unknown
