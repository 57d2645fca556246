"""In which numbers is computed: training may round, everything that is scored or served is float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from imbalance_lab.errors import InputError
from imbalance_lab.training.training_config import TrainingConfig, resolve_device


def training_autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """bfloat16 autocast where the configuration asks for it, else one that does nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


@contextmanager
def matrix_products(tf32: bool) -> Iterator[None]:
    """TF32 in CUDA's matrix products, convolutions and LSTMs, or plain float32; a CPU knows no difference."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def check_precision(config: TrainingConfig) -> None:
    """Try the primitives of bfloat16 once where it is asked for.

    Raises
    ------
    InputError
        If the device cannot compute in bfloat16, or is not there.
    """
    device = resolve_device(config.device)
    if config.precision != "bfloat16":
        return
    try:
        with torch.random.fork_rng(devices=[]):  # a layer draws its start values on the CPU
            lstm = torch.nn.LSTM(8, 8, batch_first=True).to(device)
            convolution = torch.nn.Conv1d(8, 8, 3, padding=1).to(device)
            linear = torch.nn.Linear(8, 8).to(device)
        x = torch.ones(2, 8, 4, device=device)
        with training_autocast(config, torch.device(device)):
            y = linear(lstm(convolution(x).transpose(1, 2))[0])
        y.float().sum().backward()
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"training.precision: found 'bfloat16', which {device} cannot compute ({reason}); "
            "allowed here are auto, float32"
        ) from None
