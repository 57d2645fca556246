"""The strategies of an experiment and its data, brought together."""

from __future__ import annotations

import gc

import torch

from imbalance_lab.audit.pilot import read_pilot
from imbalance_lab.comparison.costs import read_costs
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.notes import data_notes
from imbalance_lab.errors import InputError
from imbalance_lab.learners.all_learners import bind_strategy, prepare_learner
from imbalance_lab.learners.protocol import Learner
from imbalance_lab.spec import ExperimentSpec


def set_threads(threads: int) -> None:
    """What a process needs before it trains: its cores, no denormal numbers, a short walk of the collector.

    What is imported stays to the end; a full collection of garbage would take 0.3 s to walk over it, once per trial
    and more.
    """
    if not gc.get_freeze_count():
        gc.freeze()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormal numbers make a recurrent step many times slower


def ready_learner(spec: ExperimentSpec, strategy: str, seed: int, loaded: LoadedData, device: str = "") -> Learner:
    """A strategy of the experiment, bound and ready to be trained with ``seed``; ``device`` replaces the spec's.

    Raises
    ------
    InputError
        If the strategy does not fit the data.
    """
    chosen = spec.strategies[strategy]
    bound = bind_strategy(chosen, loaded, spec.main_head(loaded.dataset.heads), seed)
    training = spec.training.model_copy(update={"device": device}) if device else spec.training
    return prepare_learner(loaded, chosen, bound, spec.model, training, seed)


def check_spec_against_data(spec: ExperimentSpec, loaded: LoadedData) -> list[str]:
    """Find what only the data can tell: heads that do not exist, classes that a strategy or a cost matrix misnames.

    Returns
    -------
    list of str
        What is to be known before anything is trained: columns that are not read, classes with too few
        rows for a resampler.

    Raises
    ------
    InputError
        Naming the key of the spec.
    """
    heads = loaded.dataset.heads
    head = spec.selection.metric.rpartition("/")[0]
    if head in loaded.left_out:
        allowed = ", ".join(heads)
        raise InputError(f"selection.metric: train holds no label of head {head!r}; allowed are auto, {allowed}")
    if head not in ("auto", *heads):
        raise InputError(f"selection.metric: found head {head!r}; allowed are auto, {', '.join(heads)}")
    for name in spec.costs:
        if name not in heads:
            raise InputError(f"costs: found head {name!r}; allowed are {', '.join(heads)}")
        try:
            read_costs(spec.costs[name], heads[name])  # again by the comparison: the file is small
        except InputError as error:
            raise InputError(f"costs.{name}: {error}") from None
    if spec.audit.pilot is not None:
        try:
            pilot = read_pilot(spec.audit.pilot)  # again by the audit: the file is small
        except InputError as error:
            raise InputError(f"audit.pilot: {error}") from None
        if pilot.head not in heads:
            raise InputError(
                f"audit.pilot: {spec.audit.pilot} is of head {pilot.head!r}; the data have {', '.join(heads)}"
            )
    said = data_notes(loaded.dataset.facts)
    for strategy in spec.strategies.values():
        bound = bind_strategy(strategy, loaded, spec.main_head(heads), spec.seeds[0])
        if spec.model.factory is not None and strategy.table is None:
            # A network of the team's own: built and tried on two rows before anything is trained.
            training = spec.training.model_copy(update={"device": "cpu"})
            prepare_learner(loaded, strategy, bound, spec.model, training, spec.seeds[0])
        few = bound.notes.get("too_few_rows")
        for name, lines in few.items() if isinstance(few, dict) else ():
            said.append(f"{strategy.name}, head {name}: {'; '.join(lines)}")
    return said
