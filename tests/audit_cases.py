"""Small loaded data for the tests of the audit, made by hand."""

from dataclasses import replace

import numpy as np

from imbalance_lab.data.dataset import IGNORE, LoadedData, RawText, SequenceDataset, Splits

CLASSES = ("G0", "G1", "G2", "G3")


def recordings(
    n_recordings=18, rows=60, length=12, channels=6, shares=(0.25, 0.25, 0.25, 0.25), signal=3.0, seed=0, stride=None
) -> LoadedData:
    """Per-step labels in runs; channel c carries class c mod 4 with strength ``signal``; splits by recording."""
    rng = np.random.default_rng(seed)
    stride = stride or length
    label = rng.choice(4, size=(n_recordings, rows // 4), p=shares).repeat(4, axis=1)
    values = rng.standard_normal((n_recordings, rows, channels)).astype(np.float32)
    for c in range(channels):
        values[..., c] += signal * (label == c % 4)
    starts = np.arange(0, rows - length + 1, stride)
    place = starts[:, None] + np.arange(length)
    per = len(starts)
    unit = np.repeat(np.arange(n_recordings), per)
    position = np.tile(place, (n_recordings, 1))
    names = np.array([f"{'abc'[i % 3]}_{i:03d}" for i in range(n_recordings)])
    dataset = SequenceDataset(
        continuous=values[unit[:, None], position],
        categorical=np.zeros((len(unit), length, 0), dtype=np.int64),
        targets={"command": label[unit[:, None], position]},
        heads={"command": CLASSES},
        groups=names[unit],
        channels=tuple(f"c{i}" for i in range(channels)),
        unit=unit,
        unit_position=position,
        unit_length=np.full(n_recordings, rows),
        slices={"operation": np.array([n[0] for n in names])[unit]},
    )
    side = np.arange(n_recordings) % 6
    part = np.where(side == 4, 1, np.where(side == 5, 2, 0))[unit]
    splits = Splits(*(np.flatnonzero(part == p) for p in range(3)))
    raw = RawText(
        recording=np.repeat(names, rows),
        row=np.tile(np.arange(rows), n_recordings),
        block=np.array([f"{CLASSES[c]} X{i % 7}.5" for i, c in enumerate(label.ravel())]),
        controller=np.array(CLASSES)[label.ravel()],
        encoded=np.array(CLASSES)[label.ravel()],
    )
    return LoadedData(dataset, splits, raw)


def tokens(fillers: bool, n=300, seed=0) -> LoadedData:
    """Token sequences ``command, parameter, number`` in four heads, masked or with fillers written as 0."""
    rng = np.random.default_rng(seed)
    blank = 0 if fillers else IGNORE
    target = {h: np.full((n, 6), blank) for h in ("type", "command", "param_type", "param_value")}
    lengths = rng.choice([3, 5], size=n)
    command = rng.choice(3, size=n, p=[0.05, 0.85, 0.1])
    for i in range(n):
        target["type"][i, 0], target["command"][i, 0] = 1, command[i]
        for j in range(1, lengths[i], 2):
            target["type"][i, j], target["param_type"][i, j] = 2, rng.integers(3)
            target["type"][i, j + 1], target["param_type"][i, j + 1] = 3, rng.integers(3)
            target["param_value"][i, j + 1] = rng.integers(10)
    position = np.where(np.arange(6) < lengths[:, None], np.arange(6), -1)
    values = rng.standard_normal((n, 8, 4)).astype(np.float32) + command[:, None, None]
    groups = np.array([f"r{i % 20:02d}" for i in range(n)])
    dataset = SequenceDataset(
        continuous=values.astype(np.float32),
        categorical=np.zeros((n, 8, 0), dtype=np.int64),
        targets=target,
        heads={
            "type": ("special", "command", "parameter", "numeric"),
            "command": ("G0", "G1", "G2"),
            "param_type": ("X", "Y", "Z"),
            "param_value": tuple("0123456789"),
        },
        groups=groups,
        channels=("a", "b", "c", "d"),
        unit=np.arange(n),
        unit_position=position,
        unit_length=lengths,
    )
    part = np.arange(n) % 20
    splits = Splits(np.flatnonzero(part < 14), np.flatnonzero((part >= 14) & (part < 17)), np.flatnonzero(part >= 17))
    return LoadedData(dataset, splits)


def with_data(loaded: LoadedData, **changes) -> LoadedData:
    """``loaded`` with fields of its data set replaced."""
    return replace(loaded, dataset=replace(loaded.dataset, **changes))


def with_labels(loaded: LoadedData, label, head="command") -> LoadedData:
    """``loaded`` with the targets of one head replaced."""
    return with_data(loaded, targets={**loaded.dataset.targets, head: label})
