"""Random numbers of a network that is run for many trials at once: drawn before, in the order of a single trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from imbalance_lab.models.encoder import Corruption


@dataclass(frozen=True)
class Draw:
    """One call for random numbers in a forward pass of one trial.

    ``noise``: standard normal; ``shown``: bool, False with probability ``p``; ``keep``: 0 with
    probability ``p``, else 1 / (1 - p).
    """

    kind: Literal["noise", "shown", "keep"]
    shape: tuple[int, ...]
    dtype: torch.dtype
    p: float = 0.0


class Tape:
    """Hands out random numbers that were drawn before, or writes down which ones are asked for; mutable.

    A forward pass on an empty tape notes its draws in ``asked`` and gets neutral values; a pass on a
    loaded tape takes the loaded tensors one after another.
    """

    def __init__(self) -> None:
        self.asked: list[Draw] = []
        self._loaded: list[Tensor] | None = None

    def load(self, tensors: Sequence[Tensor] | None) -> None:
        """Hand out ``tensors`` from now on; None writes down."""
        self.asked = []
        self._loaded = None if tensors is None else list(tensors)

    def take(self, draw: Draw, device: torch.device) -> Tensor:
        """The next tensor."""
        if self._loaded is not None:
            return self._loaded.pop(0)
        self.asked.append(draw)
        return neutral(torch.empty(draw.shape, dtype=draw.dtype, device=device), draw)

    def keep(self, like: Tensor, p: float) -> Tensor:
        """A dropout mask of the shape and dtype of ``like``."""
        return self.take(Draw("keep", tuple(like.shape), like.dtype, p), like.device)


class TapeDropout(nn.Module):
    """Dropout whose mask comes from a tape."""

    def __init__(self, p: float, tape: Tape) -> None:
        super().__init__()
        self.p, self.tape = p, tape

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with masked elements 0 and the others scaled up; ``x`` itself in evaluation mode."""
        return x * self.tape.keep(x, self.p) if self.training and self.p else x


class TapeCorruption(nn.Module):
    """The encoder's corruption from a tape."""

    def __init__(self, corruption: Corruption, tape: Tape) -> None:
        super().__init__()
        self.noise, self.frame_dropout = corruption.noise, corruption.frame_dropout
        self.modalities, self.tape = corruption.modalities, tape

    def forward(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Noise and shown modalities; see :class:`~imbalance_lab.models.encoder.Corruption`."""
        noise = shown = None
        if self.noise:
            noise = self.tape.take(Draw("noise", tuple(values.shape), values.dtype), values.device)
        if self.frame_dropout:
            draw = Draw("shown", (len(values), self.modalities), torch.bool, self.frame_dropout)
            shown = self.tape.take(draw, values.device)
        return noise, shown


def neutral(into: Tensor, draw: Draw) -> Tensor:
    """Fill with what leaves the inputs as they are: no noise, everything shown and kept."""
    return into.fill_(0 if draw.kind == "noise" else 1)


def draw_all(draws: Sequence[Draw], generators: Sequence[torch.Generator | None], device: torch.device) -> list[Tensor]:
    """The numbers of K trials for one forward pass, each of shape (K, \\*draw.shape).

    Trial k draws from ``generators[k]`` in the order of ``draws``; None draws nothing and gets neutral values.
    """
    still = [k for k, generator in enumerate(generators) if generator is None]
    out = []
    for draw in draws:
        dtype = torch.float32 if draw.kind == "shown" else draw.dtype
        into = torch.empty((len(generators), *draw.shape), dtype=dtype, device=device)
        for row, generator in zip(into, generators, strict=True):
            if generator is not None:
                if draw.kind == "noise":
                    row.normal_(generator=generator)
                elif draw.kind == "shown":
                    row.uniform_(generator=generator)
                else:
                    row.bernoulli_(1 - draw.p, generator=generator)
        if draw.kind == "shown":
            into = into >= draw.p
        elif draw.kind == "keep":
            into.div_(1 - draw.p)
        for k in still:
            neutral(into[k], draw)
        out.append(into)
    return out
