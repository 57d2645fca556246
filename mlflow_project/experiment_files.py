"""Where an experiment file is: in the working folder, or among those that come with the project."""

from __future__ import annotations

from pathlib import Path

from imbalance_lab.errors import InputError

DEFAULT_EXPERIMENT = "experiments/default.yaml"
_FOLDER = "experiments"


def shipped() -> dict[str, Path]:
    """The experiments that come with the project, ``experiments/NAME.yaml`` to the file.

    They lie in the installed package, or beside it in a checkout.
    """
    package = Path(__file__).resolve().parent
    found = (folder for folder in (package / _FOLDER, package.parent / _FOLDER) if folder.is_dir())
    folder = next(found, None)
    return {} if folder is None else {f"{_FOLDER}/{file.name}": file for file in sorted(folder.glob("*.yaml"))}


def experiment_file(location: str) -> Path:
    """The file that ``location`` names; what lies in the working folder comes first.

    Raises
    ------
    InputError
        If there is no such file there, and none of that name comes with the project.
    """
    path = Path(location)
    if path.is_file():
        return path
    known = shipped()
    if path.as_posix() not in known:
        raise InputError(f"{path}: no such experiment file; with the project come {', '.join(known) or 'none'}")
    return known[path.as_posix()]
