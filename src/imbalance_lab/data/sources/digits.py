"""scikit-learn's digits, made long-tailed with imbalanced-learn."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coding, fit_coding
from imbalance_lab.data.dataset import LoadedData, SequenceDataset, Splits
from imbalance_lab.data.source_options import DigitsOptions
from imbalance_lab.errors import InputError

SIDE = 8


def long_tail(counts: NDArray[np.int64], ratio: float) -> dict[int, int]:
    """Images that each class keeps: ``n_max * ratio ** (-c / (K - 1))``, at most what it has (Cui et al. 2019)."""
    k = len(counts)
    wanted = counts.max() * ratio ** (-np.arange(k) / max(1, k - 1))
    return {c: int(min(n, max(1, round(w)))) for c, (n, w) in enumerate(zip(counts.tolist(), wanted, strict=True))}


def load_digits(options: DigitsOptions, coding: Coding | None = None) -> LoadedData:
    """Load 8 x 8 images of ten digits as sequences of one step with 64 pixels.

    The test images are set aside first, val is carved from the rest; ratio 1 leaves the classes
    as they are. Groups and units are the images' numbers in scikit-learn's data set, so that runs
    with other ratios can still be joined.

    Raises
    ------
    InputError
        If the ratio leaves a class with too few images for the split.
    """
    from sklearn.datasets import load_digits as fetch
    from sklearn.model_selection import train_test_split

    pixels, label = fetch(return_X_y=True)
    label = label.astype(np.int64)
    images = np.arange(len(label), dtype=np.int64)
    split = options.split
    try:
        if options.imbalance_on == "all":
            images = _thin(images, label, options.imbalance_ratio, split.seed)
        rest, test = train_test_split(
            images, test_size=split.test_fraction, random_state=split.seed, stratify=label[images]
        )
        if options.imbalance_on == "train":
            rest = _thin(rest, label, options.imbalance_ratio, split.seed)
        train, val = train_test_split(rest, test_size=split.val_fraction, random_state=split.seed, stratify=label[rest])
    except ValueError as error:
        raise InputError(
            f"imbalance_ratio {options.imbalance_ratio:g} with test_fraction {split.test_fraction:g} and "
            f"val_fraction {split.val_fraction:g} leaves too few images of a class: {error}"
        ) from error
    kept = np.sort(np.concatenate([train, val, test]))
    n = len(kept)
    splits = Splits(*(np.searchsorted(kept, np.sort(part)) for part in (train, val, test)))
    channels = [f"pixel_{r}_{c}" for r in range(SIDE) for c in range(SIDE)]
    columns = dict(zip(channels, pixels[kept].T, strict=True))
    coding = coding or fit_coding(columns, {}, splits.train)
    dataset = SequenceDataset(
        continuous=coding.encode(columns).continuous[:, None, :],
        categorical=np.zeros((n, 1, 0), dtype=np.int64),
        targets={"digit": label[kept][:, None]},
        heads={"digit": tuple(str(d) for d in range(10))},
        groups=np.char.zfill(kept.astype(np.str_), 4),
        channels=coding.channels,
        scaling=coding.scaling,
        unit=kept,
        unit_position=np.zeros((n, 1), dtype=np.int64),
        unit_length=np.ones(len(label), dtype=np.int64),
        channel_groups={f"row {r}": tuple(f"pixel_{r}_{c}" for c in range(SIDE)) for r in range(SIDE)},
        image_shape=(SIDE, SIDE),
        facts={"imbalance_ratio": options.imbalance_ratio, "imbalance_on": options.imbalance_on, "images": n},
    )
    return LoadedData(dataset, splits)


def _thin(images: NDArray[np.int64], label: NDArray[np.int64], ratio: float, seed: int) -> NDArray[np.int64]:
    """The images that ``make_imbalance`` keeps of these."""
    from imblearn.datasets import make_imbalance

    if ratio == 1.0:
        return images
    wanted = long_tail(np.bincount(label[images], minlength=10), ratio)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of imbalanced-learn about scikit-learn's own API
        kept, _ = make_imbalance(images[:, None], label[images], sampling_strategy=wanted, random_state=seed)
    return kept[:, 0]
