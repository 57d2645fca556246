"""Predictions tables with known errors, for the tests of the analyses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.predictions import HeadPredictions


def probabilities_of(pred: NDArray, k: int, rng: np.random.Generator, sharp: float = 1.5) -> NDArray[np.float32]:
    """Float32 rows that sum to 1 and are largest at ``pred``."""
    p = rng.random((len(pred), k), dtype=np.float32)
    p[np.arange(len(pred)), pred] += np.float32(sharp)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def table(
    true: NDArray,
    pred: NDArray,
    k: int,
    lengths: NDArray,
    recordings: int = 20,
    seed: int = 0,
    probabilities: NDArray | None = None,
    train_counts: NDArray | None = None,
) -> HeadPredictions:
    """A head whose rows are whole sequences of the given lengths; sequence i is of recording i mod ``recordings``."""
    rng = np.random.default_rng(seed)
    sequence = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    position = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
    group = (sequence % recordings).astype(np.int32)
    if train_counts is None:
        train_counts = 10 * np.bincount(true, minlength=k)
    return HeadPredictions(
        classes=tuple(f"G{i}" for i in range(k)),
        train_counts=np.asarray(train_counts, dtype=np.int64),
        sequence=sequence,
        position=position,
        from_start=position,
        from_end=(np.repeat(lengths, lengths) - 1 - position).astype(np.int32),
        group=group,
        group_names=tuple(f"rec{i}" for i in range(recordings)),
        true=true.astype(np.int32),
        pred=pred.astype(np.int32),
        probabilities=probabilities_of(pred, k, rng) if probabilities is None else probabilities,
        slices={"operation": (group % 3).astype(np.int32)},
        slice_names={"operation": ("adaptive", "face", "pocket")},
    )


def segment_labels(
    n: int, k: int, rng: np.random.Generator, mean: int = 10, prior: NDArray | None = None
) -> NDArray[np.int64]:
    """Labels in stretches of random length."""
    stretch = rng.geometric(1 / mean, size=n)
    return np.repeat(rng.choice(k, size=n, p=prior), stretch)[:n]


def random_errors(true: NDArray, k: int, rate: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Predictions that are wrong at ``rate``, independently, and then any other class alike."""
    other = (true + rng.integers(1, k, size=len(true))) % k
    return np.where(rng.random(len(true)) < rate, other, true)


def independent(
    seed: int = 0, sequences: int = 100, length: int = 60, k: int = 4, rate: float = 0.15, recordings: int = 20
) -> HeadPredictions:
    """A head whose errors depend on nothing."""
    rng = np.random.default_rng(seed)
    n = sequences * length
    true = segment_labels(n, k, rng)
    return table(true, random_errors(true, k, rate, rng), k, np.full(sequences, length), recordings, seed)


def shuffled(head: HeadPredictions, order: NDArray) -> HeadPredictions:
    """The same rows in another order."""
    names = ("sequence", "position", "from_start", "from_end", "group", "true", "pred", "probabilities")
    changed = {n: getattr(head, n)[order] for n in names}
    return replace(head, **changed, slices={n: s[order] for n, s in head.slices.items()})
