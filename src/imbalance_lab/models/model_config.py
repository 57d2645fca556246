"""The ``model:`` section of an experiment file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["auto", "mm-dtae-lstm", "mlp"] = "auto"
    hidden: int = Field(128, ge=8, le=4096)
    layers: int = Field(1, ge=1, le=8)
    attention_heads: int = Field(4, ge=1, le=64)
    dropout: float = Field(0.1, ge=0, lt=1)
    denoising: Denoising = Denoising()

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> ModelConfig:
        if self.hidden % (2 * self.attention_heads):
            raise ValueError(
                f"hidden is {self.hidden}; it must be a multiple of 2 * attention_heads = {2 * self.attention_heads}"
            )
        return self
