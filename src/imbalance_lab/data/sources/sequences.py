"""Processed sequences: arrays of ``.npz`` and ``.pt`` files to targets, splits and inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import Coding, Texts, fit_coding, texts_of
from imbalance_lab.data.dataset import IGNORE, ByFold, LoadedData, SequenceDataset
from imbalance_lab.data.files import existing
from imbalance_lab.data.gcode.targets import decode_masked, head_classes, token_targets
from imbalance_lab.data.gcode.vocabulary import read_vocabulary
from imbalance_lab.data.label_classes import MOST_CLASSES
from imbalance_lab.data.source_options import SequencesOptions
from imbalance_lab.data.sources.array_files import OF_HEAD, SUFFIXES, Arrays, needed, read_arrays
from imbalance_lab.data.split_plan import Plan, groups_of_rows, plan_split, sides_of_words, splits_of
from imbalance_lab.errors import InputError

_GROUPS = ("groups", "group", "recordings", "recording")
_SLICES = ("operation", "operation_type")
_MASKS = ("mask", "masks")
_NAMES = {"continuous": ("channels", "channel_names"), "categorical": ("categorical_channels", "categorical_names")}
_KNOWN = {"continuous", "categorical", "tokens", *_GROUPS, *_SLICES, *_MASKS, *(n for v in _NAMES.values() for n in v)}


def load_sequences(options: SequencesOptions, base: Path, coding: Coding | None = None) -> ByFold:
    """Load one file, or a folder with ``train*``, ``val*`` and ``test*`` files, fold by fold.

    One file is split by group; so is a folder where ``split`` names folds, a column or groups.
    ``coding`` is that of a model that exists: its channels are the inputs, as it codes them.

    Raises
    ------
    InputError
        Missing or broken file, a needed array that is missing, pickled or of the wrong shape.
    """
    path = existing(base / options.path, "path")
    files = _split_files(path) if path.is_dir() else [path]
    further = {side: existing(base / other, "file") for side, other in options.split.files.items()}
    wanted = {*_KNOWN, *options.target, options.split.column}
    parts = [_with_heads(read_arrays(file, wanted), options.target) for file in (*files, *further.values())]
    vocabulary = read_vocabulary(base / options.vocabulary) if options.vocabulary else None
    masked = options.unlabelled == "mask"
    found = [_targets(part, masked) for part in parts]
    targets = _joined_targets([t for t, _ in found])
    if not targets:
        if any("tokens" not in part.plain for part in parts):
            raise InputError(
                f"{files[0]} holds neither '<head>_targets' nor 'tokens'; {parts[0].holds}; "
                "data.target names arrays of labels that are called otherwise"
            )
        if vocabulary is None:
            raise InputError(f"{files[0]} holds 'tokens' but no '<head>_targets': give data.vocabulary, a JSON file")
        targets = token_targets(_joined_targets([{"t": needed(p, "tokens", 2)} for p in parts])["t"], vocabulary, path)
    heads = head_classes(targets, vocabulary)
    sizes = [len(needed(part, "continuous", 3)) for part in parts]
    if 0 in sizes:
        raise InputError(f"{parts[sizes.index(0)].path} holds no sequences")
    facts = _facts(parts, options)
    unlabelled = sum(n for _, n in found)
    if unlabelled:
        facts["unlabelled"] = f"{unlabelled} positions"
    unit_length_mask = _mask(parts, next(iter(targets.values())).shape)
    if options.encoding == "masked":
        targets, real = decode_masked(targets, unit_length_mask, path)
    else:
        real = unit_length_mask if unit_length_mask is not None else np.ones_like(next(iter(targets.values())), bool)
    groups, slices = _groups(parts, sizes, facts), _slices(parts)
    plan, group = _plan(parts, sizes, list(further), groups, targets, heads, options)
    raw = _raw_inputs(parts)
    data = _Sequences(parts, raw, targets, heads, groups, slices, real, {**facts, **plan.facts})
    plan = plan.of_data([groups, *targets.values(), *raw.values()])

    def of(fold: int | None) -> LoadedData:
        splits = splits_of(plan.side(fold), group)
        fitted = coding or fit_coding(data.numbers, data.texts, splits.train)
        return LoadedData(_dataset(data, fitted), splits, fold=plan.fold(fold))

    return of


def _split_files(folder: Path) -> list[Path]:
    out = []
    for name in ("train", "val", "test"):
        found = sorted(p for p in folder.iterdir() if p.name.startswith(name) and p.suffix in SUFFIXES)
        if len(found) != 1:
            raise InputError(
                f"folder {folder} holds {len(found)} files {name}*.npz or {name}*.pt, "
                "expected one each of train, val, test"
            )
        out.append(found[0])
    return out


def _with_heads(part: Arrays, target: tuple[str, ...]) -> Arrays:
    """The arrays with those of ``target`` called as heads are."""
    plain = dict(part.plain)
    for name in target:
        if name not in plain and name not in part.pickled:
            raise InputError(f"{part.path} has no array {name!r} (data.target); {part.holds}")
        head = name.removesuffix(OF_HEAD) + OF_HEAD
        if head != name and head in plain:
            raise InputError(f"{part.path} has {name!r} (data.target) and {head!r}; allowed: one of them for a head")
        plain[head] = _numbers_or_needed(part, name)
        if head != name:
            del plain[name]
    return replace(part, plain=plain)


def _numbers_or_needed(part: Arrays, name: str) -> NDArray[Any]:
    array = part.plain.get(name)
    return needed(part, name, 2) if array is None or array.dtype.kind not in "iufb" else array


def _targets(part: Arrays, masked: bool) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Targets of each head, and the positions without a label (NaN or -1) that are ``masked``."""
    out, unlabelled = {}, 0
    n = len(needed(part, "continuous", 3))
    for key in (*part.plain, *part.pickled):
        if not key.endswith("_targets"):
            continue
        array = part.plain.get(key)
        if array is not None and array.ndim == 1:
            array = array[:, None]
        if array is None or array.ndim != 2 or array.dtype.kind not in "iuf":
            needed(part, key, 2)
        assert array is not None
        if masked:
            without = np.isnan(array) | (array == -1)
            unlabelled += int(without.sum())
            array = np.where(without, IGNORE, array)
        if array.dtype.kind == "f":
            bad = ~np.isfinite(array) | (array != np.round(array))
            if bad.any():
                row = int(np.argwhere(bad)[0][0])
                found = array[row][bad[row]][0]
                raise InputError(
                    f"{part.path}, array {key!r}, sequence {row}: found {found}, expected class numbers"
                    + ("; set data.unlabelled: mask if it is no label" if np.isnan(found) else "")
                )
        if len(array) != n:
            raise InputError(f"{part.path}, array {key!r} has {len(array)} sequences, 'continuous' has {n}")
        if ((array < 0) & (array != IGNORE)).any():
            row = int(np.argwhere((array < 0) & (array != IGNORE))[0][0])
            raise InputError(
                f"{part.path}, array {key!r}, sequence {row}: found a negative class, allowed: 0.., {IGNORE} "
                "(and -1 for no label with data.unlabelled: mask)"
            )
        if array.max(initial=0) >= MOST_CLASSES:
            row = int(np.argwhere(array >= MOST_CLASSES)[0][0])
            raise InputError(
                f"{part.path}, array {key!r}, sequence {row}: found the class {array[row].max():.0f}, allowed: "
                f"0..{MOST_CLASSES - 1}; classes are numbered from 0 without large gaps"
            )
        out[key.removesuffix("_targets")] = array.astype(np.int64)
    lengths = {array.shape[1] for array in out.values()}
    if len(lengths) > 1:
        raise InputError(f"{part.path}: target arrays differ in length ({sorted(lengths)} positions)")
    return out, unlabelled


def _joined_targets(parts: list[dict[str, Any]]) -> dict[str, NDArray[np.int64]]:
    """Targets of all files, one after the other, padded at the end to the longest."""
    names = set(parts[0])
    if any(set(p) != names for p in parts):
        raise InputError(f"the files hold different heads: {[sorted(p) for p in parts]}")
    longest = max((a.shape[1] for p in parts for a in p.values()), default=0)
    pad = {"t": 0}
    return {
        name: np.concatenate(
            [
                np.pad(p[name], ((0, 0), (0, longest - p[name].shape[1])), constant_values=pad.get(name, IGNORE))
                for p in parts
            ]
        ).astype(np.int64)
        for name in parts[0]
    }


def _mask(parts: list[Arrays], shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    masks = [part.first(_MASKS) for part in parts]
    if any(mask is None for mask in masks):
        return None
    for part, mask in zip(parts, masks, strict=True):
        expected = (len(part.plain["continuous"]), shape[1])
        if mask is not None and mask.shape != expected:
            raise InputError(f"{part.path}, array 'mask' has shape {mask.shape}, expected {expected} as the targets")
    return np.concatenate([m for m in masks if m is not None]).astype(bool)


def _groups(parts: list[Arrays], sizes: list[int], facts: dict[str, object]) -> NDArray[np.str_]:
    found = [part.first(_GROUPS) for part in parts]
    if all(g is not None and g.shape == (n,) for g, n in zip(found, sizes, strict=True)):
        return np.concatenate([np.asarray(g).astype(np.str_) for g in found])
    facts["groups"] = "none given: each sequence is its own group, so leakage between splits cannot be excluded"
    width = len(str(sum(sizes)))
    return np.char.zfill(np.arange(sum(sizes)).astype(np.str_), width)


def _slices(parts: list[Arrays]) -> dict[str, NDArray[np.str_]]:
    found = [part.first(_SLICES) for part in parts]
    if any(s is None or s.ndim != 1 for s in found):
        return {}
    return {"operation": np.concatenate([np.asarray(s).astype(np.str_) for s in found])}


def _plan(
    parts: list[Arrays],
    sizes: list[int],
    further: list[int],
    groups: NDArray[np.str_],
    targets: Mapping[str, NDArray[np.int64]],
    heads: Mapping[str, tuple[str, ...]],
    options: SequencesOptions,
) -> tuple[Plan, NDArray[np.int64]]:
    """The plan of the split, and the group of each sequence."""
    own = len(parts) - len(further)
    if own == 3 and options.split.drawn:
        # the files are the split, as they are: the audit tells whether a group lies in several of them
        rows = np.arange(sum(sizes), dtype=np.int64)
        return Plan(np.repeat(np.arange(3), sizes)[None]), rows
    strata = np.full(len(groups), "all")
    if options.split.stratify == "target":
        strata = _rarest_class(list(targets.values())).astype(np.str_)
    side = np.repeat([-1] * own + further, sizes).astype(np.int64) if further else None
    of_groups, group = groups_of_rows(groups, strata, targets, heads, side)
    if side is not None and of_groups.given is not None and (of_groups.given[group] != side).any():
        row = int((of_groups.given[group] != side).argmax())
        raise InputError(f"group {str(groups[row])!r} is in two of the files of the split; allowed: one side")
    column = options.split.column
    if column:
        words, place = _words(parts, sizes, column)
        of_groups = replace(of_groups, given=sides_of_words(words, group, of_groups.names, place))
    return plan_split(of_groups, options.split, options.split.fractions), group


def _words(parts: list[Arrays], sizes: list[int], name: str) -> tuple[NDArray[Any], Callable[[int], str]]:
    """Words of the array that gives the split, and where each stands."""
    for part, size in zip(parts, sizes, strict=True):
        if name not in part.plain or part.plain[name].shape != (size,):
            raise InputError(f"{part.path} has no array {name!r} of {size} words (data.split.column); {part.holds}")
    starts = np.cumsum([0, *sizes])

    def place(row: int) -> str:
        file = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{parts[file].path}, array {name!r}, sequence {row - int(starts[file])}"

    return np.concatenate([part.plain[name].astype(np.str_) for part in parts]), place


def _rarest_class(targets: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Number of the rarest class (of any head) that each sequence holds; -1 where it holds none."""
    best_count = np.full(len(targets[0]), np.iinfo(np.int64).max)
    best, offset = np.full(len(targets[0]), -1, dtype=np.int64), 0
    for target in targets:
        counts = np.bincount(target[target >= 0], minlength=1)
        count = np.where(target >= 0, counts[np.maximum(target, 0)], np.iinfo(np.int64).max)
        place = count.argmin(axis=1)
        rows = np.arange(len(target))
        better = count[rows, place] < best_count
        best = np.where(better, target[rows, place] + offset, best)
        best_count = np.minimum(best_count, count[rows, place])
        offset += len(counts)
    return best


def _facts(parts: list[Arrays], options: SequencesOptions) -> dict[str, object]:
    facts: dict[str, object] = {"files": ", ".join(part.path.name for part in parts), "encoding": options.encoding}
    pickled = sorted({name for part in parts for name in part.pickled})
    if pickled:
        facts["object_arrays_ignored"] = ", ".join(pickled)
    unused = sorted({name for part in parts for name in part.unused})
    if unused:
        facts["arrays_not_used"] = ", ".join(unused)
    return facts


def _names(parts: list[Arrays], kind: str, n: int) -> tuple[str, ...]:
    given = parts[0].first(_NAMES[kind])
    if given is not None and given.shape == (n,):
        return tuple(str(name) for name in given.tolist())
    return tuple(f"{kind}_{i}" for i in range(n))


@dataclass(frozen=True)
class _Sequences:
    """What the files hold, one after the other."""

    parts: list[Arrays]
    raw: Mapping[str, NDArray[Any]]  # continuous (N, T, C) and categorical (N, T, K)
    targets: Mapping[str, NDArray[np.int64]]
    heads: Mapping[str, tuple[str, ...]]
    groups: NDArray[np.str_]
    slices: Mapping[str, NDArray[np.str_]]
    real: NDArray[np.bool_]
    facts: Mapping[str, object]

    @cached_property
    def numbers(self) -> dict[str, NDArray[Any]]:
        """Continuous channel to its values (N, T)."""
        values = self.raw["continuous"]
        return {n: values[..., i] for i, n in enumerate(_names(self.parts, "continuous", values.shape[2]))}

    @cached_property
    def texts(self) -> dict[str, Texts]:
        """Categorical channel to its codes as text (N, T)."""
        codes = self.raw["categorical"]
        names = enumerate(_names(self.parts, "categorical", codes.shape[2]))
        return {name: _code_texts(codes[..., k]) for k, name in names}


def _raw_inputs(parts: list[Arrays]) -> dict[str, NDArray[Any]]:
    shapes = {part.plain["continuous"].shape[1:] for part in parts}
    if len(shapes) > 1:
        raise InputError(f"the files differ in steps or channels: 'continuous' has {sorted(shapes)} per sequence")
    continuous = np.concatenate([part.plain["continuous"] for part in parts])
    n, steps, channels = continuous.shape
    if any("categorical" in part.plain or "categorical" in part.pickled for part in parts):
        categorical = np.concatenate([needed(part, "categorical", 3) for part in parts]).astype(np.int64)
        if categorical.shape[:2] != (n, steps):
            raise InputError(
                f"{parts[0].path}, array 'categorical' has shape {categorical.shape}, expected ({n}, {steps}, K)"
            )
    else:
        categorical = np.zeros((n, steps, 0), dtype=np.int64)
    if not steps or not channels + categorical.shape[2]:
        raise InputError(
            f"{parts[0].path} holds no input: 'continuous' has shape {continuous.shape}, 'categorical' "
            f"{categorical.shape}; expected steps, and channels in one of them"
        )
    return {"continuous": continuous, "categorical": categorical}


def _dataset(data: _Sequences, coding: Coding) -> SequenceDataset:
    coded = coding.encode({**data.numbers, **data.texts})
    n, real = len(data.groups), data.real
    place = np.broadcast_to(np.arange(real.shape[1]), real.shape)
    return SequenceDataset(
        continuous=coded.continuous,
        categorical=coded.categorical,
        targets=data.targets,
        heads=data.heads,
        groups=data.groups,
        channels=coding.channels,
        unit=np.arange(n, dtype=np.int64),
        unit_position=np.where(real, place, -1).astype(np.int64),
        unit_length=np.where(real, place + 1, 0).max(axis=1, initial=0).astype(np.int64),
        slices=data.slices,
        categorical_channels=coding.categorical_channels,
        categories=coding.categories,
        scaling=coding.scaling,
        facts={**data.facts, **coded.facts},
    )


def _code_texts(codes: NDArray[np.int64]) -> Texts:
    """Codes of a file as text; negative ones are missing."""
    texts = texts_of(codes)
    texts[codes < 0] = None
    return texts
