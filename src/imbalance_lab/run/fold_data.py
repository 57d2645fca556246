"""The data of a grid, loaded, checked and kept for its workers: one data set, or one for each fold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imbalance_lab.data.cache import load_cached, save_loaded
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.freed import give_back
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, load_folds
from imbalance_lab.run.binding import check_spec_against_data
from imbalance_lab.run.temporaries import forget_loading, loading_in
from imbalance_lab.run.workspace import Workspace, made_root
from imbalance_lab.spec import ExperimentSpec


@dataclass(frozen=True)
class Kept:
    """What a grid trains on.

    Attributes
    ----------
    first : the data, or those of the first fold, as the workers have them: mapped files, not a copy beside those
    said : what is to be known of them before anything is trained
    place : a folder whose data :meth:`imbalance_lab.run.workspace.Workspace.take_data` takes over
    """

    first: LoadedData
    said: tuple[str, ...]
    place: Workspace


@contextmanager
def kept_data(spec: ExperimentSpec) -> Iterator[Kept]:
    """Load what an experiment trains on, fold by fold, and check that every strategy fits every fold.

    One fold is in memory at a time; the files are read once. The folder is gone at the end, but for what a workspace
    took.

    Raises
    ------
    InputError
        If the data cannot be read, or the experiment does not fit them; names the fold.
    """
    said: dict[str, None] = {}
    place = None
    holder = None
    try:
        for loaded in load_folds(spec.data):
            said |= dict.fromkeys(_checked(spec, loaded))
            if place is None:
                root = made_root()
                forget_loading(root)
                holder = loading_in(root)
                place = Workspace(Path(holder.name))
            save_loaded(loaded, place.data_of(None if loaded.fold is None else loaded.fold.number))
            del loaded  # else it is there while the next fold is made
        assert place is not None
        give_back()
        first = load_cached(place.data_of(spec.folds[0]))
        if spec.folds != (None,) and len(spec.seeds) == 1:
            said["one seed: each fold counts as one training with its recordings; more seeds tell the two apart"] = None
        yield Kept(first, tuple(said), place)
    finally:
        if holder is not None:
            holder.cleanup()


def load_checked(spec: ExperimentSpec, fold: int | None = None) -> tuple[LoadedData, tuple[str, ...]]:
    """The data of an experiment (of one of its folds), and what is to be known of them before anything is trained.

    Raises
    ------
    InputError
        If they cannot be read, or the experiment does not fit them.
    """
    loaded = load_data(spec.data, fold=fold)
    return loaded, tuple(_checked(spec, loaded))


def _checked(spec: ExperimentSpec, loaded: LoadedData) -> list[str]:
    try:
        return check_spec_against_data(spec, loaded)
    except InputError as error:
        if loaded.fold is None:
            raise
        raise InputError(f"fold {loaded.fold.number}: {error}") from None
