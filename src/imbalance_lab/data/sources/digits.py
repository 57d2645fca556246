"""scikit-learn's digits, made long-tailed with imbalanced-learn."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coding, fit_coding
from imbalance_lab.data.dataset import ByFold, LoadedData, SequenceDataset, Splits
from imbalance_lab.data.source_options import DigitsOptions
from imbalance_lab.data.split_plan import Plan, groups_of_rows, plan_split
from imbalance_lab.errors import InputError

SIDE = 8


def long_tail(counts: NDArray[np.int64], ratio: float) -> dict[int, int]:
    """Images that each class keeps: ``n_max * ratio ** (-c / (K - 1))``, at most what it has (Cui et al. 2019)."""
    k = len(counts)
    wanted = counts.max() * ratio ** (-np.arange(k) / max(1, k - 1))
    return {c: int(min(n, max(1, round(w)))) for c, (n, w) in enumerate(zip(counts.tolist(), wanted, strict=True))}


def load_digits(options: DigitsOptions, coding: Coding | None = None) -> ByFold:
    """Load 8 x 8 images of ten digits as sequences of one step with 64 pixels, fold by fold.

    The test images are set aside first, val is carved from the rest; ratio 1 leaves the classes
    as they are. Groups and units are the images' numbers in scikit-learn's data set, so that runs
    with other ratios can still be joined. With ``imbalance_on: train`` every image is tested in one
    fold, and those that are not tested there are thinned.

    Raises
    ------
    InputError
        If the ratio leaves a class with too few images for the split.
    """
    from sklearn.datasets import load_digits as fetch

    pixels, label = fetch(return_X_y=True)
    label = label.astype(np.int64)
    images, split, ratio = np.arange(len(label), dtype=np.int64), options.split, options.imbalance_ratio
    if options.imbalance_on == "all":
        images = _thin(images, label, ratio, split.seed)
    if split.drawn:
        plan, sides = Plan(np.zeros((1, 0), dtype=np.int64)), None
    else:
        images = np.sort(images)  # as the groups are
        names, heads = _numbers(images), {"digit": [str(d) for d in range(10)]}
        groups, _ = groups_of_rows(names, label[images].astype(np.str_), {"digit": label[images][:, None]}, heads)
        plan = plan_split(groups, split, ()).of_data([images, label, pixels])
        sides = plan.sides

    def of(fold: int | None) -> LoadedData:
        if sides is None:
            parts = _drawn(images, label, options)
        else:
            parts = [images[sides[fold or 0] == side] for side in range(3)]
            if options.imbalance_on == "train":  # each by itself, so that validation keeps an image of every digit
                parts[:2] = (_thin(part, label, ratio, split.seed) for part in parts[:2])
        dataset, splits = _dataset(pixels, label, parts, coding)
        about = {"imbalance_ratio": ratio, "imbalance_on": options.imbalance_on, "images": len(dataset)}
        return LoadedData(replace(dataset, facts={**about, **plan.facts}), splits, fold=plan.fold(fold))

    return of


def _numbers(images: NDArray[np.int64]) -> NDArray[np.str_]:
    return np.char.zfill(images.astype(np.str_), 4)


def _drawn(images: NDArray[np.int64], label: NDArray[np.int64], options: DigitsOptions) -> list[NDArray[np.int64]]:
    """Images of train, val and test by shares, as scikit-learn draws them."""
    from sklearn.model_selection import train_test_split

    split = options.split
    try:
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
    return [train, val, test]


def _dataset(
    pixels: NDArray[np.float64], label: NDArray[np.int64], parts: list[NDArray[np.int64]], coding: Coding | None
) -> tuple[SequenceDataset, Splits]:
    kept = np.sort(np.concatenate(parts))
    splits = Splits(*(np.searchsorted(kept, np.sort(part)) for part in parts))
    n = len(kept)
    channels = [f"pixel_{r}_{c}" for r in range(SIDE) for c in range(SIDE)]
    columns = dict(zip(channels, pixels[kept].T, strict=True))
    coding = coding or fit_coding(columns, {}, splits.train)
    dataset = SequenceDataset(
        continuous=coding.encode(columns).continuous[:, None, :],
        categorical=np.zeros((n, 1, 0), dtype=np.int64),
        targets={"digit": label[kept][:, None]},
        heads={"digit": tuple(str(d) for d in range(10))},
        groups=_numbers(kept),
        channels=coding.channels,
        scaling=coding.scaling,
        unit=kept,
        unit_position=np.zeros((n, 1), dtype=np.int64),
        unit_length=np.ones(len(label), dtype=np.int64),
        channel_groups={f"row {r}": tuple(f"pixel_{r}_{c}" for c in range(SIDE)) for r in range(SIDE)},
        image_shape=(SIDE, SIDE),
    )
    return dataset, splits


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
