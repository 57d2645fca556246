"""What a watched stretch of the program did."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["host read", "copy from the host", "copy to the host", "generator of another device", "host scalar"]
"""What a step must not do.

host read : the host waits for a number of the device
copy from the host, copy to the host : the host waits, or (``non_blocking``) copies memory that is not pinned
generator of another device : PyTorch refuses it on a real device
host scalar : a 0-dimensional host tensor among device tensors; only in a captured step, which keeps its first value
"""

PRODUCT = ("/imbalance_lab/", "/mlflow_project/")


@dataclass(frozen=True)
class Event:
    """Something that a device would wait for, or would refuse; ``where`` is the product's innermost line."""

    kind: Kind
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}, at {self.where}"


@dataclass
class Found:
    """One stretch: ``kernels`` that were launched one by one, those of ``replayed`` graphs, and events."""

    kernels: Counter[str] = field(default_factory=Counter)
    replayed: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)

    @property
    def launches(self) -> int:
        """How often the host launched something; a graph is launched at once."""
        return self.kernels.total()

    @property
    def work(self) -> int:
        """Kernels that the device runs, however they were launched."""
        return self.kernels.total() - self.kernels["graph replay"] + self.replayed.total()


def faults(stretches: Iterable[Found]) -> list[str]:
    """Every distinct event of some stretches, as text."""
    return sorted({str(event) for found in stretches for event in found.events})


def place() -> str:
    """The innermost line of the product on the stack, as ``module.py:line (function)``."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if any(part in path for part in PRODUCT) and "/pretended_cuda/" not in path:
            short = path[max(path.rfind(part) for part in PRODUCT) + 1 :]
            return f"{short}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back  # type: ignore[assignment]
    return "a backward pass, or no line of the product"
