"""A trained model in a folder: ``about.json`` and, beside it, what its learner writes; no pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.atomic import read_json
from imbalance_lab.data.coding import Coding
from imbalance_lab.errors import InputError
from imbalance_lab.models.predictor import Predictor

_ABOUT = "about.json"
_BATCH = 1 << 16  # steps that are scored at a time


@dataclass(frozen=True)
class StoredModel:
    """A model that was read back, and what it reads and answers.

    Attributes
    ----------
    coding : the columns it reads, and how they become inputs
    steps, target_length : T and L
    heads : head to its classes
    posthoc : head to ``steps`` and ``train_counts`` (see :mod:`imbalance_lab.strategies.posthoc`)
    """

    model: Predictor
    coding: Coding
    steps: int
    target_length: int
    heads: Mapping[str, tuple[str, ...]]
    posthoc: Mapping[str, Any]

    @property
    def answered(self) -> int:
        """Labels of a head in the answer to one row, window or sequence: a row of a recording has one."""
        return 1 if self.coding.rows else self.target_length

    def scores(
        self, sequences: int, inputs: Callable[[slice], tuple[NDArray[np.float32], NDArray[np.int64]]]
    ) -> dict[str, NDArray[np.float32]]:
        """Class scores (sequences, L, K) of each head; ``inputs`` gives (b, T, C) and (b, T, K) of some of them."""
        import torch

        if not sequences:
            return {h: np.zeros((0, self.target_length, len(names)), np.float32) for h, names in self.heads.items()}
        self.model.eval()
        at_once = max(1, _BATCH // max(1, self.steps))
        parts: dict[str, list[NDArray[np.float32]]] = {head: [] for head in self.heads}
        with torch.inference_mode():
            for start in range(0, sequences, at_once):
                continuous, categorical = inputs(slice(start, start + at_once))
                scored = self.model(torch.from_numpy(continuous), torch.from_numpy(categorical))
                for head, logits in scored.items():
                    parts[head].append(logits.float().cpu().numpy())
        return {head: np.concatenate(part) for head, part in parts.items()}


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what a learner says of its model, plain values (JSON); makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def read_about(folder: Path) -> dict[str, Any]:
    """The inverse of :func:`write_about`."""
    about: dict[str, Any] = read_json(folder / _ABOUT)
    return about


def with_posthoc(source: Path, folder: Path, posthoc: Mapping[str, Any]) -> None:
    """Copy a model's folder, with other post-hoc steps."""
    import shutil

    shutil.copytree(source, folder)
    write_about(folder, {**read_about(folder), "posthoc": dict(posthoc)})


def files_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files of a model's folder; equal for copies of it."""
    files = sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file())
    lines = []
    for name, path in files:
        with path.open("rb") as stream:
            lines.append(f"{file_digest(stream, 'sha256').hexdigest()}  {name}\n")
    return sha256("".join(lines).encode()).hexdigest()


def check_files(folder: Path, logged: str, where: str, known_from: str) -> None:
    """Refuse a model whose files were changed since they were logged; to be called before they are read.

    Parameters
    ----------
    logged : their digest then; "" where a version before this check logged them, they are read as they are then
    where, known_from : what the message calls the folder, and where that digest stands

    Raises
    ------
    InputError
        If the digests differ.
    """
    found = files_digest(folder) if logged else ""
    if found != logged:
        raise InputError(
            f"the files of the model in {where} are not those that were logged: found the digest {found[:16]}, "
            f"expected {logged[:16]} ({known_from}); the model is not loaded"
        )
