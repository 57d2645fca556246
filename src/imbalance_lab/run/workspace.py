"""The local folder of a grid: where everything lies in it, and what its trials leave there for each other."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from imbalance_lab.atomic import read_json, reading_own, write_json
from imbalance_lab.errors import InputError
from imbalance_lab.names import inside
from imbalance_lab.spec import TrialId


def work_root() -> Path:
    """Where grids keep their folders: ``IMBALANCE_LAB_WORK``, else ``outputs`` in the working folder."""
    return Path(os.environ.get("IMBALANCE_LAB_WORK") or "outputs")


def made_root() -> Path:
    """:func:`work_root`, made where it is not there.

    Raises
    ------
    InputError
        If nothing can be written there.
    """
    root = work_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=root):
            return root
    except OSError as error:
        raise InputError(
            f"{root}: grids cannot keep their files there ({error.strerror or error}); IMBALANCE_LAB_WORK names "
            "another folder"
        ) from None


@dataclass(frozen=True)
class TrialResult:
    """What a finished trial tells its grid; plain values.

    Attributes
    ----------
    run_id : of the run that it was logged to, "" where it was not
    val_score : the selection metric on validation, of the epoch that was kept
    seconds : of training, wall time; ``phases`` are those of the parts that came after it
    folder : where its files are, see :mod:`imbalance_lab.run.trial_files`
    collapse_epoch : the epoch from which on a single class is predicted, None where several are
    """

    id: TrialId
    run_id: str
    val_score: float
    seconds: float
    epochs: int
    best_epoch: int
    folder: str
    collapse_epoch: int | None
    phases: dict[str, float] = field(default_factory=dict)

    def predictions(self, split: str) -> Path:
        """The predictions table of ``val`` or ``test`` (Parquet)."""
        return predictions_file(Path(self.folder), split)


@dataclass(frozen=True)
class Trained:
    """A trial that is trained and not ended yet: its run is open, and its checkpoint holds all that its end needs."""

    run_id: str


def predictions_file(folder: Path, split: str) -> Path:
    """The predictions table of a split in the folder of a trial."""
    return folder / "predictions" / f"{split}.parquet"


@dataclass(frozen=True)
class Workspace:
    """A grid's folder (or that of a trial alone); all its paths are made here."""

    root: Path

    @staticmethod
    def of_run(run_id: str) -> Workspace:
        """The folder of a run."""
        return Workspace(work_root() / run_id)

    @property
    def data(self) -> Path:
        """The loaded data: one data set, or a folder for each fold; see :meth:`data_of`."""
        return self.root / "data"

    def data_of(self, fold: int | None) -> Path:
        """The loaded data of a fold (None without folds), for :func:`imbalance_lab.data.cache.load_cached`."""
        return self.data if fold is None else self.data / f"fold-{fold}"

    @property
    def has_data(self) -> bool:
        """Whether the data lie there."""
        return self.has_data_of(None) or self.has_data_of(0)

    def has_data_of(self, fold: int | None) -> bool:
        """Whether the data of a fold lie there."""
        return (self.data_of(fold) / "about.json").is_file()

    @property
    def audit(self) -> Path:
        """The audit's page and tables."""
        return self.root / "audit"

    @property
    def comparison(self) -> Path:
        """The comparison's page and tables."""
        return self.root / "comparison"

    def take_data(self, other: Workspace) -> None:
        """Take over the data of another workspace on the same disk; they are there whole or not at all."""
        self.root.mkdir(parents=True, exist_ok=True)
        os.replace(other.data, self.data)
        with suppress(OSError):  # it may hold more
            other.root.rmdir()

    def strategy(self, name: str) -> Path:
        """The files of a strategy over all its folds."""
        return inside(self.root / "strategies", name)

    @property
    def progress(self) -> Path:
        """Small files that the terminal's lines are drawn from."""
        return self.root / "progress"

    @property
    def temporaries(self) -> Path:
        """Temporary files of the workers, see :mod:`imbalance_lab.run.temporaries`."""
        return self.root / "temporaries"

    def journal(self, what: str) -> Path:
        """Which tasks were begun, for :meth:`imbalance_lab.engine.Engine.map`."""
        return self.root / "starts" / what

    def trial(self, trial: TrialId) -> Path:
        """The files of a trial that has ended."""
        return inside(self.root / "trials", trial.name)

    def checkpoint(self, trial: TrialId) -> Path:
        """The state of a training between epochs."""
        return inside(self.root / "checkpoints", trial.name, ".pt")

    def tuning(self, strategy: str, fold: int | None = None) -> Path:
        """The finished search of a strategy, on a fold where there are folds."""
        return inside(self.root / "tuning", _within(strategy, fold), ".json")

    def tried(self, strategy: str, fold: int | None = None) -> Path:
        """What a search has tried so far."""
        return inside(self.root / "tuning", _within(strategy, fold), ".tried.json")

    def keep_result(self, result: TrialResult) -> None:
        """Keep a result; a worker does so itself, so that its death loses nothing."""
        _keep(self.root / "results", result.id.name, asdict(result))
        inside(self.root / "trained", result.id.name, ".json").unlink(missing_ok=True)
        self.checkpoint(result.id).unlink(missing_ok=True)

    def results(self) -> dict[str, TrialResult]:
        """The finished trials by name."""
        folder = self.root / "results"
        with reading_own(f"a result in {folder}"):
            kept = _kept(folder)
            return {name: TrialResult(**{**plain, "id": TrialId(**plain["id"])}) for name, plain in kept.items()}

    def keep_trained(self, trial: TrialId, trained: Trained) -> None:
        """Tell the grid that a trial can be ended; read while its worker trains on."""
        _keep(self.root / "trained", trial.name, asdict(trained))

    def trained(self) -> dict[str, Trained]:
        """The trials that are trained and not ended yet, by name."""
        return {name: Trained(**plain) for name, plain in _kept(self.root / "trained").items()}

    def tell_progress(self, trial: TrialId, state: dict[str, Any]) -> None:
        """Tell the grid how far a trial is."""
        write_json(inside(self.progress, trial.name, ".json"), {"name": trial.name, **state})

    def note(self, line: str) -> None:
        """Keep a line about how the trainings went, for the summary of the grid."""
        with (self.root / "notes.txt").open("a", encoding="utf-8") as stream:  # several workers may write
            stream.write(f"{line}\n")

    def notes(self) -> list[str]:
        """The lines of :meth:`note`."""
        file = self.root / "notes.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _within(strategy: str, fold: int | None) -> str:
    return strategy if fold is None else f"{strategy}-f{fold}"


def _keep(folder: Path, name: str, plain: dict[str, Any]) -> None:
    write_json(inside(folder, name, ".json"), {"name": name, "kept": plain})


def _kept(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for file in sorted(folder.glob("*.json")):
        with suppress(FileNotFoundError):  # a trial that was ended in this moment
            stored = read_json(file)
            found[stored["name"]] = stored["kept"]
    return found
