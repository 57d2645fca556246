"""What a network is built for, in plain values: the first argument of a factory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelFacts:
    """Inputs and outputs of a network.

    Attributes
    ----------
    channels : names of the C continuous channels
    categories : levels of each of the K categorical inputs; codes are 0 .. levels - 1, 0 is missing or unknown
    steps : T, input steps
    target_length : L, scored positions; T where every step has one
    classes : head to its number of classes
    """

    channels: tuple[str, ...]
    categories: tuple[int, ...]
    steps: int
    target_length: int
    classes: Mapping[str, int]
