"""The ``training:`` section of an experiment file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from imbalance_lab.errors import InputError


class TrainingConfig(BaseModel):
    """How long and on what to train.

    ``patience`` counts epochs of the last phase without a better selection metric.
    ``precision`` is that of training alone: ``auto`` is float32, on CUDA with TF32 matrix products; ``bfloat16``
    is autocast. Everything that is scored, interpreted or served is computed in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    epochs: int = Field(20, ge=1, le=100_000)
    batch_size: int = Field(64, ge=1, le=1_000_000)
    learning_rate: float = Field(3.0e-3, gt=0, le=10)
    weight_decay: float = Field(0.01, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    warmup: float = Field(0.2, ge=0, lt=1)
    patience: int = Field(8, ge=1)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


def resolve_device(name: str) -> str:
    """``auto`` to ``cuda`` where there is one, else ``cpu``; others are checked.

    Raises
    ------
    InputError
        If a CUDA device is asked for that this machine does not have.
    """
    count = _cuda_devices()
    if name == "auto":
        return "cuda" if count else "cpu"
    if name.startswith("cuda"):
        number = int(name.partition(":")[2] or 0)
        if number >= count:
            have = f"{count} CUDA device(s)" if count else "no CUDA device"
            raise InputError(
                f"device: found {name!r}, but this machine has {have}; allowed are auto, cpu"
                + ("" if not count else ", cuda, " + ", ".join(f"cuda:{i}" for i in range(count)))
            )
    return name


def resolve_gpus(name: str) -> tuple[str, ...]:
    """The GPUs that trainings are divided over: all visible ones for ``auto`` and ``cuda``, one for ``cuda:N``.

    Empty for a CPU.

    Raises
    ------
    InputError
        See :func:`resolve_device`.
    """
    device = resolve_device(name)
    if device == "cuda":
        return tuple(f"cuda:{i}" for i in range(_cuda_devices()))
    return () if device == "cpu" else (device,)


def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
