"""The parameters of a network as one row of numbers, so that K networks are one matrix."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from imbalance_lab.models.network import Network


@dataclass(frozen=True)
class ParameterLayout:
    """Where each parameter of a network lies in a row of P numbers, in the order of ``named_parameters``."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @staticmethod
    def of(network: Network) -> ParameterLayout:
        """The layout of a network."""
        names, parameters = zip(*network.named_parameters(), strict=True)
        return ParameterLayout(names, tuple(p.shape for p in parameters))

    @property
    def sizes(self) -> list[int]:
        """Numbers of each parameter."""
        return [shape.numel() for shape in self.shapes]

    def row(self, network: Network) -> Tensor:
        """A copy of a network's parameters, (P,)."""
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    def write(self, network: Network, row: Tensor) -> None:
        """Set a network's parameters to ``row`` (P,)."""
        with torch.no_grad():
            for parameter, own in zip(network.parameters(), self.parts(row).values(), strict=True):
                parameter.copy_(own)

    def parts(self, row: Tensor) -> dict[str, Tensor]:
        """Views of ``row`` (P,) in the parameters' shapes, by name."""
        chunks = row.split(self.sizes)
        return {n: c.view(s) for n, c, s in zip(self.names, chunks, self.shapes, strict=True)}

    def stacked_parts(self, rows: Tensor, trained: Collection[str]) -> dict[str, Tensor]:
        """Views of ``rows`` (K, P), each (K, \\*shape), by name; those not in ``trained`` are cut from the graph."""
        chunks = rows.split(self.sizes, dim=1)
        named = {n: c.unflatten(1, s) for n, c, s in zip(self.names, chunks, self.shapes, strict=True)}
        return {name: part if name in trained else part.detach() for name, part in named.items()}

    def mask(self, wanted: Callable[[str], bool], device: torch.device) -> Tensor:
        """Bool (P,): True on the parameters whose name is wanted."""
        flags = torch.tensor([wanted(name) for name in self.names])
        return flags.repeat_interleave(torch.tensor(self.sizes)).to(device)

    def state(self, network: Network, row: Tensor) -> dict[str, Tensor]:
        """The ``state_dict`` that ``network`` would have with the parameters of ``row`` (P,); copies."""
        parts = self.parts(row)
        return {name: parts.get(name, tensor).detach().clone() for name, tensor in network.state_dict().items()}
