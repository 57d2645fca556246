"""Flags that several commands share, and how they become overrides of a spec."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalance_lab.addresses import without_secrets
from imbalance_lab.errors import InputError
from imbalance_lab.names import NAME_RULE, check_name
from imbalance_lab.run.launched import seen_from_caller

if TYPE_CHECKING:
    from imbalance_lab.spec import ExperimentSpec


DEFAULT_EXPERIMENT = "experiments/default.yaml"
_FOLDER = "experiments"


def shipped() -> dict[str, Path]:
    """The experiments that come with the project, ``experiments/NAME.yaml`` to the file.

    They lie in the installed package, or beside it in a checkout.
    """
    package = Path(__file__).resolve().parents[1]
    found = (folder for folder in (package / _FOLDER, package.parent / _FOLDER) if folder.is_dir())
    folder = next(found, None)
    return {} if folder is None else {f"{_FOLDER}/{file.name}": file for file in sorted(folder.glob("*.yaml"))}


def experiment_file(location: str) -> Path:
    """The file that ``location`` names: in the working folder, where ``mlflow run`` was called, or the project's.

    Raises
    ------
    InputError
        If there is no such file there, and none of that name comes with the project.
    """
    path = seen_from_caller(Path(location))
    if path.is_file():
        return path
    known = shipped()
    if path.as_posix() not in known:
        raise InputError(f"{path}: no such experiment file; with the project come {', '.join(known) or 'none'}")
    return known[path.as_posix()]


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """``--experiment`` and ``--data``, of run, audit and train."""
    parser.add_argument(
        "--experiment",
        default=DEFAULT_EXPERIMENT,
        help=f"experiment file, of the working folder or else of the project (default {DEFAULT_EXPERIMENT})",
    )
    parser.add_argument("--data", default="", help="folder, file or URI that replaces data.path of the experiment")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """What ``-P`` may replace in an experiment."""
    parser.add_argument(
        "--strategies",
        default="",
        help="names of the experiment or the catalogue, separated by commas: a,focal: {gamma: 1}",
    )
    parser.add_argument("--seeds", default="", help="seeds, separated by commas")
    add_folds(parser)
    parser.add_argument("--epochs", default="", help="epochs of each training")
    parser.add_argument("--device", default="", help="auto, cpu, cuda (all GPUs) or cuda:N (one)")
    parser.add_argument("--on_fail", default="", help="after a failed audit: stop or warn (default: audit.on_fail)")


def add_folds(parser: argparse.ArgumentParser) -> None:
    """``--folds``, of run, audit and train."""
    parser.add_argument(
        "--folds", default="", help="cross-validate in so many folds, whatever way to split the experiment names"
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Where the trials of ``run`` go."""
    parser.add_argument(
        "--jobs",
        default="",
        help="trials at once (default: one per core on a CPU, as many as fit on a GPU, one per worker of a cluster)",
    )
    parser.add_argument("--engine", default="local", help="local, dask or ray (default local: this machine's cores)")
    parser.add_argument(
        "--cluster", default="", help="address of a cluster that runs already: tcp://host:8786, ray://host:10001"
    )


def named(text: str, flag: str) -> str:
    """``text`` where it may name an experiment or a model that is made.

    Raises
    ------
    InputError
        If it is no such name.
    """
    try:
        return check_name(text)
    except ValueError as error:
        raise InputError(f"--{flag}: found {text!r}: {error}; {NAME_RULE}") from None


def alias(text: str, flag: str) -> str:
    """``text`` where MLflow takes it as the alias of a version.

    Raises
    ------
    InputError
        If it does not.
    """
    if not re.fullmatch(r"[\w-]{1,255}", text) or re.fullmatch(r"v\d+|latest", text, re.IGNORECASE):
        raise InputError(
            f"--{flag}: found {text!r}; an alias has letters, digits, _ and -, at most 255, and is neither "
            "'latest' nor the number of a version such as 'v1'"
        )
    return text


def integers(text: str, flag: str) -> list[int]:
    """``0,1,2`` to a list.

    Raises
    ------
    InputError
        If a part is not an integer.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--{flag}: found {text!r}; expected integers separated by commas") from None


def integer(text: str, flag: str) -> int | None:
    """One integer, or None for an empty text."""
    if not text:
        return None
    values = integers(text, flag)
    if len(values) != 1:
        raise InputError(f"--{flag}: found {text!r}; expected one integer")
    return values[0]


def on_fail_of(arguments: argparse.Namespace) -> str:
    """What ``--on_fail`` says, "" where it says nothing.

    Raises
    ------
    InputError
        If it is neither stop nor warn.
    """
    found = str(getattr(arguments, "on_fail", ""))
    if found not in ("", "stop", "warn"):
        raise InputError(f"--on_fail: found {found!r}; allowed are stop and warn")
    return found


def yes(text: str, flag: str) -> bool:
    """Whether a flag is set: alone, or with "yes"; "no" and "" as if it were not there, as MLflow needs it.

    Raises
    ------
    InputError
        If its value is another one.
    """
    if text not in ("", "yes", "no"):
        raise InputError(f"--{flag}: found {text!r}; allowed are yes and no")
    return text == "yes"


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The dotted keys that the flags replace."""
    values: dict[str, Any] = {}
    if arguments.data:
        values["data.path"] = str(fetch(arguments.data))
    if getattr(arguments, "strategies", ""):
        from imbalance_lab.strategies.language.catalogue import read_choice

        values["strategies"] = read_choice(arguments.strategies)
    if getattr(arguments, "seeds", ""):
        values["seeds"] = integers(arguments.seeds, "seeds")
    if (folds := integer(getattr(arguments, "folds", ""), "folds")) is not None:
        if folds < 2:
            raise InputError(f"--folds: found {folds}; allowed are integers from 2")
        values["folds"] = folds
    if (epochs := integer(getattr(arguments, "epochs", ""), "epochs")) is not None:
        values["training.epochs"] = epochs
    if getattr(arguments, "device", ""):
        values["training.device"] = arguments.device
    if on_fail := on_fail_of(arguments):
        values["audit.on_fail"] = on_fail
    return values


def experiment_of(arguments: argparse.Namespace) -> ExperimentSpec:
    """The experiment that ``--experiment`` names, with what the other flags replace."""
    from imbalance_lab.spec import load_experiment

    named = arguments.experiment
    path = fetch(named, "experiment") if is_uri(named) else experiment_file(named)
    return load_experiment(path, overrides(arguments))


def is_uri(location: str) -> bool:
    """Whether MLflow has to fetch what lies there."""
    return "://" in location or location.startswith(("runs:/", "models:/"))


def fetch(location: str, flag: str = "data") -> Path:
    """A local path for ``location``; URIs (``runs:/``, ``s3://`` ...) are downloaded by MLflow.

    Raises
    ------
    InputError
        If a URI cannot be fetched.
    """
    if not is_uri(location):
        return seen_from_caller(Path(location))
    import mlflow

    from mlflow_project.tracking import tracking_uri

    try:
        return Path(mlflow.artifacts.download_artifacts(location, tracking_uri=tracking_uri()))
    except Exception as error:  # every store raises its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--{flag}: {without_secrets(location)!r} cannot be fetched ({without_secrets(reason)})"
        ) from None
