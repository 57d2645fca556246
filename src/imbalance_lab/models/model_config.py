"""The ``model:`` section of an experiment file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_OWN = frozenset({"factory", "options", "sources"})


class Denoising(BaseModel):
    """The denoising autoencoder beside the classifier.

    ``noise`` is the standard deviation of the Gaussian noise added to the scaled inputs,
    ``frame_dropout`` the probability that a whole channel group (a sensor frame) is hidden from
    a window, ``weight`` the factor of the reconstruction loss.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    noise: float = Field(0.1, ge=0)
    frame_dropout: float = Field(0.1, ge=0, lt=1)
    weight: float = Field(0.1, ge=0)


class ModelConfig(BaseModel):
    """Which network, and how large; everything needed to build it again.

    ``auto`` takes ``mm-dtae-lstm`` for sequences and ``mlp`` where T = L = 1.

    ``factory`` (``package.module:function``) builds a network of the team's own instead, called with
    :class:`~imbalance_lab.models.model_facts.ModelFacts` and ``options``; ``sources`` is its code, path to text, which
    reading an experiment file fills in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["auto", "mm-dtae-lstm", "mlp"] = "auto"
    hidden: int = Field(128, ge=8, le=4096)
    layers: int = Field(1, ge=1, le=8)
    attention_heads: int = Field(4, ge=1, le=64)
    dropout: float = Field(0.1, ge=0, lt=1)
    denoising: Denoising = Denoising()
    factory: str | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)
    sources: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("factory")
    @classmethod
    def _names_a_function(cls, value: str | None) -> str | None:
        if value is not None and not _FACTORY.fullmatch(value):
            raise ValueError(f"found {value!r}; expected package.module:function")
        return value

    @model_validator(mode="after")
    def _one_network(self) -> ModelConfig:
        beside = sorted(self.model_fields_set - _OWN)
        if self.factory is not None and beside:
            raise ValueError(f"found {beside[0]!r} beside a factory; allowed are factory and options")
        if self.factory is None and (self.options or self.sources):
            raise ValueError("found options without a factory; they are the factory's")
        return self

    @model_serializer(mode="wrap")
    def _what_builds_it(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The keys that the network depends on: those of a factory, or those of the project's networks."""
        plain: dict[str, Any] = handler(self)
        return {key: value for key, value in plain.items() if (key in _OWN) == (self.factory is not None)}

    def described(self) -> dict[str, Any]:
        """Plain values that are short: a digest stands for the code."""
        plain = self.model_dump(mode="json")
        if self.factory is not None:
            text = json.dumps(plain.pop("sources"), sort_keys=True)
            plain["code"] = sha256(text.encode()).hexdigest()[:16]
        return plain

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> ModelConfig:
        if self.hidden % (2 * self.attention_heads):
            raise ValueError(
                f"hidden is {self.hidden}; it must be a multiple of 2 * attention_heads = {2 * self.attention_heads}"
            )
        return self
