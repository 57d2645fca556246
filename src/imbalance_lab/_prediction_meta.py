"""What a predictions table says of itself in its metadata: refused unless it is what the analyses take for granted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from imbalance_lab.errors import InputError

FORMAT_VERSION = 1
META_KEY = b"imbalance_lab"

_ByHead = dict[str, FiniteFloat | None] | None


class _Head(BaseModel):
    model_config = ConfigDict(strict=True)
    classes: list[str] = Field(min_length=1)
    train_counts: list[Annotated[int, Field(ge=0, lt=1 << 62)]]

    @model_validator(mode="after")
    def _one_count_a_class(self) -> _Head:
        if len(self.classes) != len(self.train_counts):
            raise ValueError(f"found {len(self.train_counts)} train_counts of {len(self.classes)} classes")
        return self


class _Meta(BaseModel):
    """The keys that are computed with; others are shown as they are."""

    model_config = ConfigDict(extra="allow")
    seed: int | None = None
    fold: int | None = None
    folds: int | None = None
    free_lunch: dict[str, FiniteFloat] | None = None
    temperature: dict[str, Annotated[FiniteFloat, Field(gt=0)] | None] | None = None
    prior_correction: _ByHead = None
    classes_in_macro: dict[str, list[str | int] | None] | None = None


class _Metadata(BaseModel):
    version: Literal[1]
    heads: dict[str, _Head]
    meta: _Meta


def read_metadata(metadata: Mapping[bytes, bytes] | None, path: Path) -> dict[str, Any]:
    """``heads`` (head to ``classes`` and ``train_counts``) and ``meta``, plain values.

    Raises
    ------
    InputError
        If they are missing, of another version, or a value is of another kind than expected.
    """
    if META_KEY not in (metadata or {}):
        raise InputError(f"{path}: Parquet without imbalance-lab metadata; expected a table written by a run")
    try:
        plain: Any = json.loads((metadata or {})[META_KEY])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its imbalance-lab metadata are not JSON ({error})") from None
    version = plain.get("version") if isinstance(plain, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: predictions format {version}, this version reads {FORMAT_VERSION}")
    try:
        _Metadata.model_validate(plain)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        raise InputError(f"{path}: metadata key {key!r}: {fault['msg'].removeprefix('Value error, ')}") from None
    checked: dict[str, Any] = plain
    return checked
