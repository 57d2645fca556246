"""A classical strategy bound to a data set: does it fit, what does it do to the classes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import LoadedData, SequenceDataset
from imbalance_lab.errors import InputError
from imbalance_lab.learners.classical_model import foreign_types
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.strategies.language.ledger import power_of_shares
from imbalance_lab.strategies.language.slots import StrategySpec
from imbalance_lab.strategies.own_estimator import ESTIMATOR, OwnEstimator, trusted_types
from imbalance_lab.strategies.table_methods import ENSEMBLES, RESAMPLERS, fit_table_model, too_few_rows

_BALANCING = ("over_sampling", "combine")  # modules of imbalanced-learn whose samplers equalise the classes


def check_table(strategy: StrategySpec, dataset: SequenceDataset) -> None:
    """Refuse a classical strategy on sequences, and post-hoc steps that need a network.

    Raises
    ------
    InputError
        Naming strategy, key and what is allowed.
    """
    assert strategy.table is not None
    steps, length = dataset.continuous.shape[1], dataset.target_length
    where = f"strategy {strategy.name!r}, key table"
    if (steps, length) != (1, 1):
        raise InputError(
            f"{where}: found {strategy.table.name!r} on sequences of {steps} steps with {length} labels; "
            "allowed for table and digits data (one step, one label) only"
        )
    if strategy.table.name == ESTIMATOR:
        check_estimator(OwnEstimator.model_validate(strategy.table.options.model_dump()), dataset, where)
    if any(step.name == "tau-norm" for step in strategy.posthoc):
        raise InputError(
            f"strategy {strategy.name!r}, key posthoc: found 'tau-norm' beside a table; it needs a network"
        )


def check_estimator(own: OwnEstimator, dataset: SequenceDataset, where: str) -> None:
    """Fit a team's classifier on a few made-up rows of the data's classes and store it, before anything is trained.

    Raises
    ------
    InputError
        If it cannot be made or fitted, or what is stored would hold types that are not trusted.
    """
    try:
        if own.resample is not None and own.resample not in RESAMPLERS:
            raise InputError(f"resample: found {own.resample!r}; allowed: {', '.join(RESAMPLERS)}")
        allowed = trusted_types(own.path, own.trust)
        classes = max(len(names) for names in dataset.heads.values())
        rows = np.random.default_rng(0).normal(
            size=(20 * classes, len(dataset.channels) + sum(dataset.categorical_sizes))
        )
        alone = own.model_copy(update={"resample": None})
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # what it says of made-up rows is of no use
            model, _ = fit_table_model(ESTIMATOR, alone.model_dump(), rows, np.arange(len(rows)) % classes, 0)
        foreign = foreign_types(model, allowed)
    except InputError as error:
        raise InputError(f"{where}.{ESTIMATOR}: {error}") from None
    if foreign:
        package = own.path.partition(":")[0].partition(".")[0]
        named = [name for name in foreign if name.startswith(f"{package}.")]
        way = f": trust: [{', '.join([*own.trust, *named])}]" if named == foreign else ""
        raise InputError(
            f"{where}.{ESTIMATOR}: a stored {own.path} holds {', '.join(foreign)}, which is not trusted; allowed: "
            f"the types of the catalogue's classifiers, and classes of its own package that trust names{way}"
        )


def bind_table(strategy: StrategySpec, loaded: LoadedData, seed: int) -> BoundStrategy:
    """A classical strategy as the rest of a run sees it: no phases, notes and prior correction.

    The power of the prior is 1 where every class is brought to one size (over-sampling, random
    under-sampling, balanced ensembles, balanced weights) and 0 where rows are only cleaned.

    Raises
    ------
    InputError
        See :func:`check_table`.
    """
    check_table(strategy, loaded.dataset)
    assert strategy.table is not None
    heads, train = loaded.dataset.heads, loaded.splits.train
    counts = {h: loaded.dataset.class_counts(h, train) for h in heads}
    absent = {h: [c for c, m in zip(heads[h], n.tolist(), strict=True) if m == 0] for h, n in counts.items()}
    equal = _equalises(strategy.table.name, strategy.table.options.model_dump())
    shares = {h: (n > 0) / max(1, (n > 0).sum()) if equal else n / max(1, n.sum()) for h, n in counts.items()}
    return BoundStrategy(
        name=strategy.name,
        phases=(),
        head_kinds=dict.fromkeys(heads, "linear"),
        prior_correction={h: power_of_shares(shares[h], counts[h]) for h in heads},
        posthoc={h: {c.name: c.options.model_dump() for c in strategy.posthoc} for h in heads if strategy.posthoc},
        notes={
            "seed": seed,
            "table": strategy.table.name,
            "class_counts": {h: dict(zip(heads[h], n.tolist(), strict=True)) for h, n in counts.items()},
            "excluded_classes": {h: missing for h, missing in absent.items() if missing},
            "class_weights": {},
            "too_few_rows": _too_few(strategy.table.name, strategy.table.options.model_dump(), counts, heads),
            "expected_shares": {
                "phase 1": {h: dict(zip(heads[h], s.tolist(), strict=True)) for h, s in shares.items()}
            },
        },
    )


def _too_few(
    name: str, options: Mapping[str, Any], counts: Mapping[str, NDArray[np.int64]], heads: Mapping[str, tuple[str, ...]]
) -> dict[str, list[str]]:
    """Head to what is to be said of its classes with too few rows for the resampler."""
    name = options["resample"] if name == ESTIMATOR else name
    if name not in RESAMPLERS:
        return {}
    said = {h: too_few_rows(name, n, heads[h], options.get("neighbours")) for h, n in counts.items()}
    return {head: sentences for head, sentences in said.items() if sentences}


def _equalises(name: str, options: Mapping[str, Any]) -> bool:
    if name == "plain":
        return options.get("class_weight") == "balanced"
    if name == ESTIMATOR:
        if options["class_weight"] == "balanced":
            return True
        if options["resample"] is None:
            return False
        name = str(options["resample"])
    if name in ENSEMBLES:
        return True
    return RESAMPLERS[name][0] in _BALANCING or name in ("random-under-sampling", "near-miss", "cluster-centroids")
