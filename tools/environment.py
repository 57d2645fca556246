"""Writes ``python_env.yaml`` and ``conda.yaml`` from ``constraints.txt``: ``python -m tools.environment``.

Both install the project itself with the pins of ``constraints.txt``. MLflow caches an environment by
the content of its file, so each file holds a digest of the pins: a change of pins makes a new one.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

PYTHON = "3.11.7"
"""A full version: pyenv, which MLflow's virtualenv manager asks, installs no other."""

CONSTRAINTS = "constraints.txt"


def files(constraints: str) -> dict[str, str]:
    """Name to content of both environment files, for the text of ``constraints.txt``."""
    pins = pinned(constraints)
    digest = hashlib.sha256(constraints.encode()).hexdigest()[:16]
    header = (
        "# Made by `python -m tools.environment` from constraints.txt; do not edit.\n"
        f"# sha256 of constraints.txt: {digest}\n"
    )
    # The digest stands among the requirements too (a comment to pip): MLflow's virtualenv and uv managers name
    # an environment by the parsed file, conda's by its bytes.
    lines = (f'"# pins {digest}"', f'"--constraint {CONSTRAINTS}"', '"-e ."')
    build = ("pip", f"setuptools=={pins['setuptools']}")
    python_env = (
        f'{header}python: "{PYTHON}"\nbuild_dependencies:\n'
        + "".join(f"  - {b}\n" for b in build)
        + "dependencies:\n"
        + "".join(f"  - {line}\n" for line in lines)
    )
    conda = (
        f"{header}name: imbalance-lab\nchannels:\n  - conda-forge\n"
        f"dependencies:\n  - python={PYTHON}\n  - pip\n  - pip:\n" + "".join(f"      - {line}\n" for line in lines)
    )
    return {"python_env.yaml": python_env, "conda.yaml": conda}


def pinned(constraints: str) -> dict[str, str]:
    """Package (lower case) to version, of ``name==version`` lines."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines if line)}


def main(root: Path = Path()) -> int:
    """Write both files beside ``constraints.txt`` of ``root``."""
    for name, content in files((root / CONSTRAINTS).read_text(encoding="utf-8")).items():
        (root / name).write_text(content, encoding="utf-8")
        print(f"wrote {root / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
