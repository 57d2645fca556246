"""Places: rows of recordings, shared by all the windows that cover them.

What is planted or drawn per place stays consistent between windows that overlap.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE, LoadedData, RawText, SequenceDataset
from imbalance_lab.predictions import primary_head

Ints = NDArray[np.int64]


def main_head(dataset: SequenceDataset) -> str:
    """The head that faults are planted in: ``command`` where there is one, else the first."""
    return primary_head(dataset.targets)


def _numbered(dataset: SequenceDataset) -> tuple[Ints, int]:
    """Number of the place of every target position, shape (N, L), and how many there are.

    Padding has one place of its own, the last.
    """
    offset = np.concatenate([[0], np.cumsum(dataset.unit_length)])
    total = int(offset[-1])
    place = offset[dataset.unit][:, None] + dataset.unit_position
    return np.where(dataset.unit_position < 0, total, place), total + 1


def place_labels(dataset: SequenceDataset, head: str) -> tuple[Ints, Ints, Ints]:
    """(place of each position (N, L), label of each place (P,), recording of each place (P,))."""
    place, n = _numbered(dataset)
    label = np.full(n, IGNORE, dtype=np.int64)
    flat = dataset.targets[head].ravel()
    scored = flat != IGNORE
    label[place.ravel()[scored]] = flat[scored]
    recording = np.full(n, -1, dtype=np.int64)
    codes = np.unique(dataset.groups, return_inverse=True)[1]
    recording[place.ravel()] = np.repeat(codes, place.shape[1])
    label[-1] = IGNORE
    return place, label, recording


def with_labels(loaded: LoadedData, head: str, place: Ints, label: Ints, text: str) -> LoadedData:
    """``loaded`` with the label of every scored place replaced.

    ``text`` says what becomes of the raw text: ``"true"`` leaves the blocks and changes what the
    encoding says; ``"agrees"`` writes blocks, controller and encoding anew where labels moved.
    """
    old = loaded.dataset
    target = old.targets[head]
    # Val and test windows score their centres: what was not scored stays so.
    new = replace(old, targets={**old.targets, head: np.where(target == IGNORE, IGNORE, label[place])})
    return replace(loaded, dataset=new, raw=_raw_with(loaded, head, label, text))


def _raw_with(loaded: LoadedData, head: str, label: Ints, text: str) -> RawText | None:
    raw, dataset = loaded.raw, loaded.dataset
    if raw is None or dataset.target_length != dataset.continuous.shape[1] or dataset.target_length == 1:
        return raw  # rows of the text are not places of the targets
    names, first = np.unique(dataset.groups, return_index=True)
    units = dataset.unit[first]
    recording, block, controller, said = (
        np.asarray(words, dtype=np.str_) for words in (raw.recording, raw.block, raw.controller, raw.encoded)
    )
    code = np.clip(np.searchsorted(names, recording), 0, len(names) - 1)
    known = (names[code] == recording) & (raw.row < dataset.unit_length[units[code]])
    offset = np.concatenate([[0], np.cumsum(dataset.unit_length)])
    place = np.where(known, offset[units[code]] + raw.row, len(label) - 1)
    before = place_labels(dataset, head)[1]
    changed = known & (before[place] != label[place])
    classes = np.array([*dataset.heads[head], ""])
    now = classes[np.where(label[place] == IGNORE, len(classes) - 1, label[place])]
    encoded = np.where(changed, now, said)
    if text == "true" or not changed.any():
        return replace(raw, encoded=encoded)
    # Blocks are modal: once one of them moves, every block has to say its own command.
    word = re.compile(r"\bG0*[0-3]\b(?!\.)\s*")
    motion = np.isin(now, ("G0", "G1", "G2", "G3"))
    bare = np.array([word.sub("", text) for text in block.tolist()])
    explicit = np.where(motion, np.char.rstrip(np.char.add(np.char.add(now, " "), bare)), block)
    gone = changed & (now == "")
    return replace(
        raw,
        block=np.where(gone, "", explicit),
        controller=np.where(changed, now, controller),
        encoded=encoded,
    )


def rank_within(group: Ints, rng: np.random.Generator) -> Ints:
    """A random order 0, 1, ... within each group, shape as ``group``."""
    order = np.lexsort((rng.random(len(group)), group))
    sorted_group = group[order]
    start = np.concatenate([[True], sorted_group[1:] != sorted_group[:-1]])
    rank = np.empty(len(group), dtype=np.int64)
    index = np.arange(len(group))
    rank[order] = index - np.maximum.accumulate(np.where(start, index, 0))
    return rank
