"""Faults planted on purpose, each by name and strength, so that the audit can be tested against the truth.

Every fault is a pure function ``(loaded, strength, rng) -> LoadedData`` that changes one thing.
Draws are made per *place* (a row of a recording), never per window, so that windows that
overlap stay consistent with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE, LoadedData, SequenceDataset, Splits
from imbalance_lab.data.scaling import Scaling
from imbalance_lab.errors import InputError
from imbalance_lab.simulator.places import Ints, main_head, place_labels, rank_within, with_labels

if TYPE_CHECKING:
    import pandas as pd

FRAME_FAULTS = ("label-channel", "missingness-slice")
"""Faults that live in the recordings themselves; the others live in how they were prepared."""

TOKEN_TYPES = ("special", "command", "parameter", "numeric")
PLANTED_CHANNEL = "planted.Label"


def plant(loaded: LoadedData, fault: str, strength: float, seed: int) -> LoadedData:
    """A copy of ``loaded`` with one fault; strength 0 returns ``loaded`` itself.

    ===================  ================================================================
    fault                what ``strength`` is
    ===================  ================================================================
    placeholder-class    share of the first class's positions to which the head does not
                         apply (the head ``type`` tells; it is added where there is none)
    collision            share of the head's classes that are written with one id (at least 2)
    absent-class         share of the rarest class's positions that lose their label in one
                         of the splits val and test; 1 leaves none
    overlapping-windows  share of the test sequences exchanged with sequences of train
    label-channel        probability that the added channel equals the class id; else a
                         class drawn at random
    missingness-slice    share of the recordings of one operation in which one frame is
                         missing, as it is in no other operation
    no-signal-class      share of one rare class's labels that lie on rows drawn from the
                         other classes (or, without time, have such rows' inputs)
    label-noise          share of the places whose label is wrong; 0.05 is the usual case
    constant-metric      share of the majority among scored positions, where it is below it
    ===================  ================================================================

    The head is ``command`` where there is one, else the first. In ``collision`` and
    ``label-noise`` the raw text stays true and only what the encoding says changes; where
    labels vanish or move, the raw text is rewritten to agree.

    Raises
    ------
    InputError
        If the fault is unknown, the strength is outside [0, 1], or the data cannot hold the fault.
    """
    if fault not in _PLANTERS:
        raise InputError(f"unknown fault {fault!r}; allowed are {', '.join(FAULTS)}")
    if not 0 <= strength <= 1:
        raise InputError(f"strength of the fault {fault!r} is {strength}; allowed is 0 to 1")
    if strength == 0:
        return loaded
    return _PLANTERS[fault](loaded, strength, np.random.default_rng([seed, FAULTS.index(fault)]))


def plant_frame(frame: pd.DataFrame, fault: str, strength: float, seed: int) -> pd.DataFrame:
    """Plant one of :data:`FRAME_FAULTS` in a table of recordings (see :func:`plant` for ``strength``).

    The label is the controller's motion mode ``momo``, the operation the start of the recording's name.
    """
    rng = np.random.default_rng([seed, FAULTS.index(fault)])
    if strength == 0:
        return frame
    if fault == "label-channel":
        mode = frame["momo"].to_numpy(dtype=np.float32)
        keep = rng.random(len(mode)) < strength
        return frame.assign(**{PLANTED_CHANNEL: np.where(keep, mode, rng.integers(0, 4, len(mode))).astype(np.float32)})
    names = frame["recording"].to_numpy(dtype=str)
    recordings, of_row = np.unique(names, return_inverse=True)
    operation = np.array([name.rsplit("_", 1)[0] for name in recordings])
    hit = _pick_slice(operation, strength, rng)
    frames = sorted({c.split(".")[0] for c in frame.columns if "." in c and c != PLANTED_CHANNEL})
    chosen = str(rng.choice(frames))
    gone = [c for c in frame.columns if c.startswith(f"{chosen}.")]
    return frame.assign(**{c: frame[c].mask(hit[of_row]) for c in gone})


def _rarest(counts: Ints, recordings: Ints, head: str) -> int:
    """The rarest class that at least three recordings hold."""
    able = (counts > 0) & (recordings >= 3)
    if able.sum() < 2:
        raise InputError(f"head {head!r}: {int(able.sum())} classes occur in three recordings; a fault needs two")
    return int(np.where(able, counts, np.iinfo(np.int64).max).argmin())


def _rarest_class(dataset: SequenceDataset, head: str) -> int:
    target = dataset.targets[head]
    n_classes = len(dataset.heads[head])
    codes = np.unique(dataset.groups, return_inverse=True)[1]
    n_groups = int(codes.max()) + 1
    scored = target != IGNORE
    pair = target[scored] * n_groups + np.broadcast_to(codes[:, None], target.shape)[scored]
    recordings = np.bincount(np.unique(pair) // n_groups, minlength=n_classes)
    return _rarest(dataset.class_counts(head), recordings, head)


# ---- the faults


def _placeholder(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    head = main_head(dataset)
    target = dataset.targets[head]
    flat = target.ravel()
    filler = int(np.flatnonzero(dataset.class_counts(head))[0]) if (flat != IGNORE).any() else -1
    real = int((flat == filler).sum())
    if filler < 0:
        raise InputError(f"head {head!r} has no labelled position; a placeholder class needs some")
    order = rng.permutation(flat.size)
    free = order[flat[order] == IGNORE]  # first the positions that have no label anyway ...
    other = order[(flat[order] != IGNORE) & (flat[order] != filler)]
    spare = np.concatenate([free, other[: int(0.8 * len(other))]])  # ... then those of other classes, in proportion
    wanted = round(strength / (1 - strength) * real) if strength < 1 else flat.size
    fillers = spare[:wanted]
    if wanted > len(spare):  # not enough of them: the rest come from the class itself
        own = order[flat[order] == filler]
        fillers = np.concatenate([spare, own[: round(strength * (len(spare) + real)) - len(spare)]])
    types, names = _token_types(dataset, head, flat)
    parameter = names.index("parameter") if "parameter" in names else len(names) - 1
    types[fillers] = np.where(types[fillers] == names.index("command"), parameter, types[fillers])
    written = flat.copy()
    written[fillers] = filler
    targets = {**dataset.targets, head: written.reshape(target.shape), "type": types.reshape(target.shape)}
    return replace(loaded, dataset=replace(dataset, targets=targets, heads={**dataset.heads, "type": names}))


def _token_types(dataset: SequenceDataset, head: str, flat: Ints) -> tuple[Ints, tuple[str, ...]]:
    """The type head, flat, and its classes; where there is none, labelled positions are commands, others special."""
    if "type" in dataset.targets and "command" in dataset.heads["type"]:
        names = dataset.heads["type"]
        types = dataset.targets["type"].ravel().copy()
        types[types == IGNORE] = 0
        return types, names
    return np.where(flat == IGNORE, 0, TOKEN_TYPES.index("command")), TOKEN_TYPES


def _collision(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    head = main_head(dataset)
    classes = dataset.heads[head]
    counts = dataset.class_counts(head)
    used = np.flatnonzero(counts)
    if len(used) < 2:
        raise InputError(f"head {head!r}: {len(used)} class occurs; a collision needs two")
    merged = rng.permutation(used)[: max(2, round(strength * len(used)))]
    survivor = int(merged[counts[merged].argmax()])
    table = np.arange(len(classes))
    table[merged] = survivor
    place, label, _ = place_labels(dataset, head)
    planted = with_labels(loaded, head, place, np.where(label == IGNORE, IGNORE, table[np.maximum(label, 0)]), "true")
    if planted.raw is None:
        return planted
    words = dict(planted.raw.vocabulary) or {name: i for i, name in enumerate(classes)}
    shared = words.get(classes[survivor], survivor)
    words |= {classes[m]: shared for m in merged.tolist()}
    return replace(planted, raw=replace(planted.raw, vocabulary=words))


def _absent(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    head = main_head(dataset)
    rare = _rarest_class(dataset, head)
    split = loaded.splits.test if rng.random() < 0.5 else loaded.splits.val
    place, label, _ = place_labels(dataset, head)
    inside = np.zeros(len(label), dtype=bool)
    inside[place[split]] = True
    candidates = rng.permutation(np.flatnonzero(inside & (label == rare)))
    label[candidates[: round(strength * len(candidates))]] = IGNORE
    return with_labels(loaded, head, place, label, "agrees")


def _overlapping(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    splits = loaded.splits
    n = min(max(1, round(strength * len(splits.test))), len(splits.train), len(splits.test))
    out, into = rng.permutation(len(splits.test))[:n], rng.permutation(len(splits.train))[:n]
    train, test = splits.train.copy(), splits.test.copy()
    train[into], test[out] = splits.test[out], splits.train[into]
    return replace(loaded, splits=Splits(np.sort(train), splits.val, np.sort(test)))


def _label_channel(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    place, label, _ = place_labels(dataset, main_head(dataset))
    scored = label[label != IGNORE]
    drawn = rng.choice(scored, len(label))
    value = np.where((label != IGNORE) & (rng.random(len(label)) < strength), label, drawn).astype(np.float32)
    steps = dataset.continuous.shape[1]
    at = np.arange(steps) * dataset.target_length // steps  # target position of each input step
    channel = value[place][:, at][:, :, None]
    known = dataset.scaling
    return replace(
        loaded,
        dataset=replace(
            dataset,
            continuous=np.concatenate([np.asarray(dataset.continuous), channel], axis=2),
            channels=(*dataset.channels, PLANTED_CHANNEL),
            scaling=known and Scaling(np.append(known.centre, 0.0), np.append(known.scale, 1.0)),
            channel_groups={**dataset.channel_groups, "planted": (PLANTED_CHANNEL,)},
        ),
    )


def _pick_slice(operation: NDArray[np.str_], strength: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which recordings lose the frame: ``strength`` of those of one operation, shape as ``operation``."""
    names = np.unique(operation)
    if len(names) < 2:
        raise InputError(f"operation {names[0]!r} is the only one; missingness by slice needs two")
    members = rng.permutation(np.flatnonzero(operation == rng.choice(names)))
    hit = np.zeros(len(operation), dtype=bool)
    hit[members[: max(1, round(strength * len(members)))]] = True
    return hit


def _missingness(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    frames = {
        name: cs
        for name, cs in sorted(dataset.channel_groups.items())
        if name != "planted" and cs and all("." in c for c in cs)
    }
    groups = frames or {c: (c,) for c in dataset.channels}
    chosen = groups[str(rng.choice(sorted(groups)))]
    columns = np.array([dataset.channels.index(c) for c in chosen])
    continuous = np.array(dataset.continuous)
    if dataset.slices:
        by = dataset.slices.get("operation", next(iter(dataset.slices.values())))
        _, first, of = np.unique(dataset.groups, return_index=True, return_inverse=True)
        rows = np.flatnonzero(_pick_slice(by[first], strength, rng)[of])
        continuous[np.ix_(rows, np.arange(continuous.shape[1]), columns)] = np.nan
    else:  # no slice to hide in: the pattern follows a class
        head = main_head(dataset)
        place, label, _ = place_labels(dataset, head)
        hit = (label == _rarest_class(dataset, head)) & (rng.random(len(label)) < strength)
        steps = continuous.shape[1]
        at = np.arange(steps) * dataset.target_length // steps
        block = continuous[:, :, columns]
        block[hit[place][:, at]] = np.nan
        continuous[:, :, columns] = block
    return replace(loaded, dataset=replace(dataset, continuous=continuous))


def _no_signal(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    head = main_head(dataset)
    rare = _rarest_class(dataset, head)
    if dataset.target_length == 1 or dataset.target_length != dataset.continuous.shape[1]:
        return _no_signal_rows(loaded, head, rare, strength, rng)
    # In time, single rows cannot be given foreign inputs: the jump would give them away. So the
    # labels go to rows of other classes instead, and the rows they leave are unlabelled.
    place, label, recording = place_labels(dataset, head)
    own = np.flatnonzero(label == rare)
    own = rng.permutation(own)[: round(strength * len(own))]
    wanted = np.bincount(recording[own], minlength=recording.max() + 1)
    others = np.flatnonzero((label != IGNORE) & (label != rare))
    taken = others[rank_within(recording[others], rng) < wanted[recording[others]]]
    label[own], label[taken] = IGNORE, rare
    return with_labels(loaded, head, place, label, "agrees")


def _no_signal_rows(loaded: LoadedData, head: str, rare: int, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    continuous, categorical = np.array(dataset.continuous), np.array(dataset.categorical)
    holds = (dataset.targets[head] == rare).any(axis=1)
    for _, split in loaded.splits.items():  # donors of the same split: no copies across splits
        receivers, donors = split[holds[split]], split[~holds[split]]
        if not len(donors):
            raise InputError(
                f"head {head!r}: every sequence holds class {dataset.heads[head][rare]!r}; none can lend inputs"
            )
        receivers = rng.permutation(receivers)[: round(strength * len(receivers))]
        source = rng.choice(donors, len(receivers), replace=len(receivers) > len(donors))
        continuous[receivers], categorical[receivers] = dataset.continuous[source], dataset.categorical[source]
    return replace(loaded, dataset=replace(dataset, continuous=continuous, categorical=categorical))


def _label_noise(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    head = main_head(dataset)
    place, label, _ = place_labels(dataset, head)
    used = np.flatnonzero(dataset.class_counts(head))
    if len(used) < 2:
        raise InputError(f"head {head!r}: {len(used)} class occurs; wrong labels need two")
    scored = rng.permutation(np.flatnonzero(label != IGNORE))
    wrong = scored[: round(strength * len(scored))]
    at = np.searchsorted(used, label[wrong])
    label[wrong] = used[(at + rng.integers(1, len(used), len(wrong))) % len(used)]
    return with_labels(loaded, head, place, label, "true")


def _constant_metric(loaded: LoadedData, strength: float, rng: np.random.Generator) -> LoadedData:
    dataset = loaded.dataset
    head = main_head(dataset)
    place, label, _ = place_labels(dataset, head)
    counts = dataset.class_counts(head)
    major = int(counts.argmax())
    rest = int(counts.sum() - counts[major])
    keep = min(1.0, counts[major] * (1 - strength) / (strength * max(rest, 1)))
    if keep == 1.0:
        return loaded
    split = np.zeros(len(label), dtype=np.int64)
    for code, (_, index) in enumerate(loaded.splits.items()):
        split[place[index]] = code
    minor = np.flatnonzero((label != IGNORE) & (label != major))
    group = label[minor] * 3 + split[minor]
    size = np.bincount(group)
    # Every class stays in every split that had it: only the balance changes.
    quota = np.maximum(np.round(keep * size), (size > 0).astype(float))
    label[minor[rank_within(group, rng) >= quota[group]]] = IGNORE
    return with_labels(loaded, head, place, label, "agrees")


_PLANTERS: Mapping[str, Callable[[LoadedData, float, np.random.Generator], Any]] = MappingProxyType(
    {
        "placeholder-class": _placeholder,
        "collision": _collision,
        "absent-class": _absent,
        "overlapping-windows": _overlapping,
        "label-channel": _label_channel,
        "missingness-slice": _missingness,
        "no-signal-class": _no_signal,
        "label-noise": _label_noise,
        "constant-metric": _constant_metric,
    }
)
FAULTS = tuple(_PLANTERS)
"""Names of the faults that :func:`plant` knows."""
