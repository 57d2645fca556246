"""Targets of processed sequence files: which head applies where, and what the classes are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.data.gcode.vocabulary import TYPES, Vocabulary, legacy_targets
from imbalance_lab.errors import InputError

HEADS = ("type", "command", "param_type", "param_value")
APPLIES: Mapping[str, tuple[int, ...]] = {"command": (1,), "param_type": (2, 3), "param_value": (3,)}
"""Token types (special 0, command 1, parameter 2, numeric 3) to which each head applies."""


def token_targets(tokens: NDArray[np.int64], vocabulary: Vocabulary, path: Path) -> dict[str, NDArray[np.int64]]:
    """Four targets of token ids (N, L), fillers written as 0.

    Raises
    ------
    InputError
        If a token id is not in the vocabulary.
    """
    names = {number: token for token, number in vocabulary.tokens.items()}
    distinct, inverse = np.unique(tokens, return_inverse=True)
    strange = [int(number) for number in distinct if int(number) not in names]
    if strange:
        raise InputError(
            f"{path}, array 'tokens': the vocabulary does not match, it has no token of id {strange[0]} "
            f"({len(strange)} such ids; it has {len(names)} tokens)"
        )
    table = np.array([legacy_targets(names[int(number)], vocabulary) for number in distinct], dtype=np.int64)
    return {head: table[:, k][inverse].reshape(tokens.shape) for k, head in enumerate(HEADS)}


def head_classes(targets: Mapping[str, NDArray[np.int64]], vocabulary: Vocabulary | None) -> dict[str, tuple[str, ...]]:
    """Class names of each head: those of the vocabulary where it is given, else the numbers.

    Raises
    ------
    InputError
        If a target is beyond the vocabulary's classes.
    """
    known: dict[str, tuple[str, ...]] = {"type": TYPES} if set(APPLIES) <= set(targets) else {}
    if vocabulary is not None:
        known |= {
            "type": TYPES,
            "command": vocabulary.commands,
            "param_type": vocabulary.parameters,
            "param_value": tuple(str(i) for i in range(10**vocabulary.bucket_digits)),
        }
    out = {}
    for head, target in targets.items():
        needed = int(target.max(initial=0)) + 1
        names = known.get(head)
        if names is not None and needed > len(names):
            raise InputError(
                f"array '{head}_targets': found class {needed - 1}, but the vocabulary knows {len(names)} classes "
                f"(0..{len(names) - 1}): it does not match"
            )
        out[head] = names if names is not None else tuple(str(i) for i in range(needed))
    return out


def decode_masked(
    targets: Mapping[str, NDArray[np.int64]], mask: NDArray[np.bool_] | None, path: Path
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.bool_]]:
    """Replace fillers by IGNORE: where a head does not apply by the type head, in padding, off the mask.

    Trailing positions of type special are padding; a special token before the last real one is a
    word that the vocabulary does not know, and stays a class of the type head.

    Returns
    -------
    targets : head to int64 array of shape (N, L)
    real : bool array of shape (N, L), the positions that are no padding
    """
    any_head = next(iter(targets.values()))
    real = np.ones(any_head.shape, dtype=bool) if mask is None else mask.copy()
    dependent = [head for head in APPLIES if head in targets]
    kind = targets.get("type")
    if dependent and kind is None:
        raise InputError(
            f"{path} has {', '.join(f'{h}_targets' for h in dependent)} but no 'type_targets', which tells where they "
            "apply; add it, or set encoding: legacy"
        )
    if kind is not None and dependent:
        word = (kind > 0) & real
        after = np.flip(np.maximum.accumulate(np.flip(word, axis=1), axis=1), axis=1)
        real = real & after
    out = {}
    for head, target in targets.items():
        applies = real
        if kind is not None and head in APPLIES:
            applies = real & np.isin(kind, APPLIES[head])
        out[head] = np.where(applies, target, IGNORE)
    return out, real
