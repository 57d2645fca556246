"""A split, resident on the training device: no DataLoader in the hot loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.data.window_view import WindowView
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.predictor import Predictor

_CHUNK = 4096  # sequences that are copied at a time


class Source(Protocol):
    """Where the inputs of n sequences come from."""

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        ...

    @property
    def steps(self) -> int:
        """Steps T of a sequence."""
        ...

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> Prepared:
        """The inputs of the sequences at ``index``, int64 on the same device."""
        ...


@dataclass(frozen=True)
class Held:
    """Inputs that were prepared once, all of them."""

    inputs: Prepared

    @property
    def device(self) -> torch.device:
        """See :class:`Source`."""
        return self.inputs.values.device

    @property
    def steps(self) -> int:
        """See :class:`Source`."""
        return self.inputs.values.shape[1]

    def __len__(self) -> int:
        return self.inputs.values.shape[0]

    def take(self, index: Tensor) -> Prepared:
        """See :class:`Source`."""
        return Prepared(*(x.index_select(0, index) for x in self.inputs))


@dataclass(frozen=True)
class SharedRows:
    """Windows of rows that they share, gathered and prepared when a batch asks for them.

    Prepared windows would be in memory as often as they overlap. On a CPU the rows are those of the data set, which
    may be a mapped file.

    Attributes
    ----------
    continuous : float32 (m, C), coded rows
    categorical : int64 (m, K)
    start, stop : int64 (n,), first row of each window and the first beyond its recording
    offsets : int64 (T,), 0 ... T - 1
    padded : whether a window is longer than its recording
    """

    network: Predictor
    continuous: Tensor
    categorical: Tensor
    start: Tensor
    stop: Tensor
    offsets: Tensor
    padded: bool

    @property
    def device(self) -> torch.device:
        """See :class:`Source`."""
        return self.continuous.device

    @property
    def steps(self) -> int:
        """See :class:`Source`."""
        return len(self.offsets)

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: Tensor) -> Prepared:
        """See :class:`Source`."""
        rows = self.start.index_select(0, index)[:, None] + self.offsets
        if not self.padded:
            return self.network.prepare(self._at(self.continuous, rows), self._at(self.categorical, rows))
        beyond = rows >= self.stop.index_select(0, index)[:, None]
        rows = rows.masked_fill(beyond, 0)
        continuous = self._at(self.continuous, rows).masked_fill(beyond[..., None], float("nan"))
        return self.network.prepare(continuous, self._at(self.categorical, rows).masked_fill(beyond[..., None], 0))

    @staticmethod
    def _at(table: Tensor, rows: Tensor) -> Tensor:
        return table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])


@dataclass(frozen=True)
class Resident:
    """Inputs and targets of one split on a device; ``targets[head]`` int64 (n, L)."""

    source: Source
    targets: dict[str, Tensor]

    @property
    def device(self) -> torch.device:
        """Where inputs and targets lie."""
        return self.source.device

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, index: Tensor) -> tuple[Prepared, dict[str, Tensor]]:
        """The sequences at ``index``, int64 on the same device."""
        return self.source.take(index), {head: target.index_select(0, index) for head, target in self.targets.items()}


def make_resident(
    network: Predictor, dataset: SequenceDataset, index: NDArray[np.int64], device: torch.device
) -> Resident:
    """The sequences at ``index`` on ``device``, scaled with the network's own scaler: once, or batch by batch."""
    source: Source
    if isinstance(dataset.continuous, WindowView) and isinstance(dataset.categorical, WindowView):
        source = _shared(network, dataset.continuous, dataset.categorical, index, device)
    else:
        source = Held(make_prepared(network, dataset, index, device))
    return Resident(source, targets_of(dataset, index, device))


def make_prepared(
    network: Predictor, dataset: SequenceDataset, index: NDArray[np.int64], device: torch.device
) -> Prepared:
    """Inputs of the sequences at ``index`` on ``device``, all of them prepared."""
    parts = []
    for start in range(0, len(index), _CHUNK):
        rows = index[start : start + _CHUNK]
        raw = torch.from_numpy(dataset.continuous[rows]).to(device)
        parts.append(network.prepare(raw, torch.from_numpy(dataset.categorical[rows]).to(device)))
    return Prepared(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def targets_of(dataset: SequenceDataset, index: NDArray[np.int64], device: torch.device) -> dict[str, Tensor]:
    """Targets of the sequences at ``index`` by head, int64 (n, L)."""
    return {head: torch.from_numpy(target[index]).to(device) for head, target in dataset.targets.items()}


def _shared(
    network: Predictor,
    continuous: WindowView[np.float32],
    categorical: WindowView[np.int64],
    index: NDArray[np.int64],
    device: torch.device,
) -> SharedRows:
    start, stop = np.asarray(continuous.start[index]), np.asarray(continuous.stop[index])
    tables: list[NDArray[np.float32] | NDArray[np.int64]] = [continuous.table, categorical.table]
    if device.type != "cpu":  # another memory holds the rows of this split alone
        change = np.zeros(len(continuous.table) + 1, dtype=np.int64)
        np.add.at(change, start, 1)
        np.add.at(change, stop, -1)
        used = np.flatnonzero(np.cumsum(change[:-1]) > 0)
        tables = [table[used] for table in tables]
        length = stop - start
        start = np.searchsorted(used, start)
        stop = start + length
    rows, codes = (torch.from_numpy(table).to(device) for table in tables)
    return SharedRows(
        network,
        rows,
        codes,
        torch.from_numpy(start).to(device),
        torch.from_numpy(stop).to(device),
        torch.arange(continuous.steps, device=device),
        bool((stop - start < continuous.steps).any()),
    )
