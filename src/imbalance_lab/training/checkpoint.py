"""Checkpoints: written atomically, tensors and plain data only, with a digest inside."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from imbalance_lab.atomic import replacing
from imbalance_lab.errors import InputError

FORMAT_VERSION = 2
_MAGIC = b"imbalance-lab checkpoint %d\n" % FORMAT_VERSION


class DamagedCheckpointError(InputError):
    """A file that is no checkpoint of this version, or not as it was written."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` so that a reader sees the old file or the new one, never half of one.

    The file is a line with the version, one with the SHA-256 of what follows, and what ``torch.save`` writes.
    """
    packed = BytesIO()
    torch.save({"version": FORMAT_VERSION, **content}, packed)
    with packed.getbuffer() as payload, replacing(path, durable=True) as partial, partial.open("wb") as stream:
        stream.write(_MAGIC)
        stream.write(sha256(payload).hexdigest().encode() + b"\n")
        stream.write(payload)


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Read a checkpoint, or None where there is none.

    Raises
    ------
    DamagedCheckpointError
        If the file is not a checkpoint of this version, or was changed since it was written.
    InputError
        If it belongs to other data, another strategy or another spec.
    """
    try:
        with path.open("rb") as stream:
            magic, digest, payload = stream.read(len(_MAGIC)), stream.read(65), stream.read()
    except FileNotFoundError:
        return None
    if magic != _MAGIC or digest != sha256(payload).hexdigest().encode() + b"\n":
        raise DamagedCheckpointError(f"{path}: not a whole checkpoint of this version; delete it to start afresh")
    content: dict[str, Any] = torch.load(BytesIO(payload), map_location="cpu", weights_only=True)
    if content["fingerprint"] != fingerprint:
        raise InputError(f"{path}: checkpoint of another trial (other data, strategy, seed or settings); delete it")
    return content


def without_damage(path: Path, fingerprint: str) -> bool:
    """Whether a checkpoint can be taken up or there is none; one that is damaged is deleted.

    Raises
    ------
    InputError
        If it belongs to another trial.
    """
    try:
        load_checkpoint(path, fingerprint)
    except DamagedCheckpointError:
        path.unlink()
        return False
    return True
