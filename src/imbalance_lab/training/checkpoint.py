"""Checkpoints: written atomically, tensors and plain data only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from imbalance_lab.atomic import replacing
from imbalance_lab.errors import InputError

FORMAT_VERSION = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` so that a reader sees the old file or the new one, never half of one."""
    with replacing(path, durable=True) as partial, partial.open("wb") as stream:
        torch.save({"version": FORMAT_VERSION, **content}, stream)


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Read a checkpoint, or None where there is none.

    Raises
    ------
    InputError
        If the file is not a checkpoint, or belongs to other data, another strategy or another spec.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a foreign or truncated file makes torch raise
        raise InputError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); delete it to start afresh"
        ) from None
    if not isinstance(content, dict) or content.get("version") != FORMAT_VERSION:
        raise InputError(f"{path}: not a checkpoint of this version; delete it to start afresh")
    if content["fingerprint"] != fingerprint:
        raise InputError(f"{path}: checkpoint of another trial (other data, strategy, seed or settings); delete it")
    return content
