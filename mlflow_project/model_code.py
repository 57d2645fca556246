"""The part of the package that a logged model needs: what its code imports, and nothing else."""

from __future__ import annotations

import shutil
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path

import imbalance_lab

_PACKAGE = Path(imbalance_lab.__file__).parent


def copy_code(script: Path, folder: Path) -> Path:
    """Copy the modules that ``script`` needs to ``folder``; returns the package's folder there.

    A model carries its code. Of some 220 files it needs a few dozen, and each of them is an upload per
    trial where artifacts go through a tracking server.
    """
    for file in needed(script):
        to = folder / _PACKAGE.name / file.relative_to(_PACKAGE)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
    return folder / _PACKAGE.name


@cache
def needed(script: Path) -> tuple[Path, ...]:
    """Files of the package that ``script`` imports, directly or not, also within functions."""
    finder = ModuleFinder(path=[str(_PACKAGE.parent)])  # other packages are pinned as requirements
    finder.run_script(str(script))
    own = (module for name, module in finder.modules.items() if name.partition(".")[0] == _PACKAGE.name)
    return tuple(sorted(Path(file) for module in own if (file := getattr(module, "__file__", None))))
