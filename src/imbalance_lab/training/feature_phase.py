"""A phase on resampled features: the encoder is frozen, so its outputs are computed once and resampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.errors import InputError
from imbalance_lab.models.network import Network
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.strategies.samplers.pools import NaturalSampler
from imbalance_lab.strategies.table_methods import resample_features, sizes_within_reach
from imbalance_lab.training.precision import matrix_products
from imbalance_lab.training.resident import Resident
from imbalance_lab.training.validating import evaluation_batches

MAX_ROWS = 20_000
"""Feature rows of a head that are handed to a resampler: its neighbour search is quadratic in them."""


@dataclass(frozen=True)
class FeatureBank:
    """Resampled features of every head.

    ``features[head]`` float (n, H) and ``labels[head]`` int64 (n,) on the training device; a head
    without a scored training position is left out. ``seen[head]`` counts the rows of each class.
    """

    features: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    seen: Mapping[str, list[int]]

    def orders(self, generator: torch.Generator) -> dict[str, Tensor]:
        """A permutation of each head's rows."""
        return {head: torch.randperm(len(y), generator=generator, device=y.device) for head, y in self.labels.items()}

    def batch(self, orders: Mapping[str, Tensor], step: int, steps: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Features (B, 1, H) and labels (B, 1) of every head in step ``step`` of ``steps``.

        Each head's rows are dealt evenly to the steps of an epoch, so that B differs between heads.
        """
        out = {}
        for head, order in orders.items():
            index = order[step * len(order) // steps : (step + 1) * len(order) // steps]
            if len(index):
                out[head] = (self.features[head][index, None], self.labels[head][index, None])
        return out


def check_resampling(strategy: BoundStrategy) -> None:
    """Refuse what a phase on resampled features cannot honour.

    Raises
    ------
    InputError
        ``resample`` without a frozen encoder, or beside a sampler or an augmentation of sequences.
    """
    for number, phase in enumerate(strategy.phases, 1):
        if phase.resample is None:
            continue
        where = f"strategy {strategy.name!r}, phase {number}, key resample"
        if not phase.freeze_encoder:
            raise InputError(f"{where}: found {phase.resample!r}; allowed with freeze_encoder: true only")
        if phase.augment is not None:
            raise InputError(f"{where}: found {phase.resample!r} beside an augment; allowed: one of the two")
        if not isinstance(phase.sampler, NaturalSampler):
            raise InputError(
                f"{where}: found {phase.resample!r} beside a sampler of sequences; allowed with sampler natural only"
            )


@torch.inference_mode()
def head_features(
    network: Network, data: Resident, limit: int | None = None
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Features (n, H) and labels (n,) of each head's scored positions, by a network in evaluation mode.

    With ``limit`` a head keeps at most that many positions: the same number of each class, and all
    of a class that has fewer (:func:`keep_evenly`), spread evenly over the data.
    """
    network.eval()
    keep = {head: _kept(target.cpu().numpy(), limit) for head, target in data.targets.items()}
    parts: dict[str, list[Tensor]] = {head: [] for head in data.targets}
    for start, stop in evaluation_batches(data):
        with matrix_products(tf32=False):
            features = network.run(data.batch(torch.arange(start, stop, device=data.device))[0]).features.float()
        for head, chosen in keep.items():
            parts[head].append(features[torch.from_numpy(chosen[start:stop]).to(data.device)].cpu())
    return {
        head: (torch.cat(chunks).numpy(), data.targets[head].cpu().numpy()[keep[head]])
        for head, chunks in parts.items()
    }


def keep_evenly(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """How many of each class to keep, (K,): at most q, with the largest q whose sum stays within ``limit``."""
    ordered = np.sort(counts)
    # With the i smallest classes whole, the other K - i share what is left.
    left = limit - np.concatenate([[0], np.cumsum(ordered)[:-1]])
    quota = left // np.arange(len(counts), 0, -1)
    whole = ordered <= quota
    q = int(counts.max(initial=0)) if whole.all() else int(quota[int(np.argmin(whole))])
    return np.minimum(counts, max(q, 1))


def _kept(target: NDArray[np.int64], limit: int | None) -> NDArray[np.bool_]:
    """Which positions (n, L) of a head are used."""
    scored = target != IGNORE
    if limit is None or scored.sum() <= limit:
        return scored
    flat = np.flatnonzero(scored.ravel())
    label = target.ravel()[flat]
    kept = np.zeros(target.size, dtype=bool)
    for c, n in enumerate(keep_evenly(np.bincount(label), limit).tolist()):
        own = flat[label == c]
        kept[own[np.arange(n) * len(own) // max(n, 1)]] = True
    return kept.reshape(target.shape)


def make_bank(network: Network, train: Resident, strategy: BoundStrategy, phase_number: int, seed: int) -> FeatureBank:
    """Compute and resample the training features of a frozen phase.

    A head with more than :data:`MAX_ROWS` scored positions is thinned first. A class with too few
    rows for a neighbour search keeps the rows it has, as does a head with a single class.

    Raises
    ------
    InputError
        If the resampler cannot work on these features; names strategy, phase and head.
    """
    name = strategy.phases[phase_number].resample
    assert name is not None
    device = train.device
    features, labels, seen = {}, {}, {}
    for head, (x, y) in head_features(network, train, MAX_ROWS).items():
        k = network.n_classes(head)
        rows, classes = x, y
        if len(np.unique(y)) > 1:
            draw = derive_seed(seed, "resample", phase_number, head) % 2**32
            try:
                rows, classes = resample_features(name, x, y, draw, None, sizes_within_reach(name, y))
            except InputError as error:
                raise InputError(
                    f"strategy {strategy.name!r}, head {head!r}, phase {phase_number + 1}, key resample: {error}"
                ) from None
        seen[head] = np.bincount(classes, minlength=k).tolist()
        if len(classes):
            features[head] = torch.from_numpy(np.asarray(rows, dtype=np.float32)).to(device)
            labels[head] = torch.from_numpy(np.asarray(classes, dtype=np.int64)).to(device)
    return FeatureBank(features, labels, seen)
