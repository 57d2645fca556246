"""Named arrays of ``.npz`` and ``.pt`` files. Nothing in them is ever unpickled freely."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.files import check_archive
from imbalance_lab.errors import InputError
from imbalance_lab.memory import require_room

SUFFIXES = (".npz", ".pt", ".pth")
OF_HEAD = "_targets"
"""How the name of an array of labels ends; before it stands the head."""

_LARGE = 1 << 24  # bytes of an array from which on it is not even read where its length is wrong
_LONGEST = 40_000  # bytes of a name
_MOST_ITEMS = 2_000_000  # of a list
_NESTED = ("targets", "labels")


@dataclass(frozen=True)
class Arrays:
    """Plain arrays of one file, and the names of those that would have needed unpickling or are of no use."""

    path: Path
    plain: Mapping[str, NDArray[Any]]
    pickled: tuple[str, ...]
    unused: tuple[str, ...] = ()

    def first(self, names: tuple[str, ...]) -> NDArray[Any] | None:
        """The first of ``names`` that is there."""
        return next((self.plain[n] for n in names if n in self.plain), None)

    @property
    def holds(self) -> str:
        """What the file holds, in words."""
        pickled = (
            f" and the pickled arrays {', '.join(self.pickled)}, which are never unpickled" if self.pickled else ""
        )
        plain = sorted((*self.plain, *self.unused))
        return f"it holds {', '.join(plain) or 'no plain array'}{pickled}"


def read_arrays(path: Path, wanted: Collection[str | None]) -> Arrays:
    """The arrays of a file that are called as in ``wanted`` or as heads are; of the others the names.

    Raises
    ------
    InputError
        If the file is damaged, of another kind, or asks for more memory than there is.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} ends in {path.suffix or 'nothing'!r}, allowed: {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file")
    if path.suffix == ".npz":
        return _read_npz(path, wanted)
    part = _read_pt(path, wanted)
    unused = tuple(name for name in part.plain if not _of_use(name, wanted))
    return replace(part, plain={n: a for n, a in part.plain.items() if n not in unused}, unused=unused)


def _of_use(name: str, wanted: Collection[str | None]) -> bool:
    return name in wanted or name.endswith(OF_HEAD)


def _read_npz(path: Path, wanted: Collection[str | None]) -> Arrays:
    plain, pickled, unused = {}, [], []
    try:
        # np.load leaves a file open that it fails to read, unless it did not open it itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path} holds one array, expected an .npz archive of named arrays")
            headers = {name: _header(archive, name) for name in archive.files}
            _check_sizes(path, {n: h for n, h in headers.items() if h is not None and _of_use(n, wanted)})
            for name, header in headers.items():
                if header is not None and header[1].hasobject:
                    pickled.append(name)
                elif _of_use(name, wanted):
                    plain[name] = archive[name]
                else:  # a small file may hold gigabytes of zeros
                    unused.append(name)
    except InputError:
        raise
    except Exception as error:  # NumPy, zipfile, zlib and the tokenizer each fail in their own way
        raise InputError(f"{path} cannot be read as npz: {' '.join(str(error).split())}") from error
    return Arrays(path, plain, tuple(pickled), tuple(unused))


_Header = tuple[tuple[int, ...], "np.dtype[Any]"]
"""Shape and type of an array."""


def _header(archive: np.lib.npyio.NpzFile, name: str) -> _Header | None:
    """What an array says of itself, before it is read; None of a member that is no array of np.savez."""
    member = f"{name}.npy"
    assert archive.zip is not None
    if member not in archive.zip.namelist():
        return None
    with archive.zip.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return shape, dtype


def _check_sizes(path: Path, headers: Mapping[str, _Header]) -> None:
    """Refuse needed arrays that are too large for their file, for the memory, or beside ``continuous``.

    What is only a little too long or too short is told later, with what else may be wrong with it.
    """
    sizes = {name: math.prod(shape) * dtype.itemsize for name, (shape, dtype) in headers.items()}
    shape, _ = headers.get("continuous", ((), None))
    for name, ((first, *_), dtype) in ((n, ((*h[0], 1), h[1])) for n, h in headers.items()):
        if shape and sizes[name] > _LARGE and first not in (shape[0], shape[-1]):
            raise InputError(f"{path}, array {name!r} has {first} sequences, 'continuous' has {shape[0]}")
        if dtype.kind in "SU" and dtype.itemsize > _LONGEST:
            raise InputError(
                f"{path}, array {name!r} holds texts of {dtype.itemsize:,} bytes each; allowed are {_LONGEST:,}"
            )
    largest = max(sizes, key=lambda name: sizes[name], default="")
    require_room(f"{path}: its arrays (the largest is {largest!r})", sum(sizes.values()), path)


def _read_pt(path: Path, wanted: Collection[str | None]) -> Arrays:
    import torch

    check_archive(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle makes PyTorch raise whatever its next step happens to raise
        # PyTorch's own text advises to load the file unsafely; only the culprit is passed on.
        culprit = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds a {culprit.group(1)}" if culprit else "it is broken, or no file of torch.save"
        raise InputError(
            f"{path} cannot be read with weights_only=True (allowed: tensors, NumPy arrays of numbers or text, "
            f"plain values): {reason}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a mapping of names to arrays")
    plain, pickled, flat = {}, [], _flat(content)
    tensors = [value for value in flat.values() if isinstance(value, torch.Tensor)]
    # A tensor may repeat one value along its shape, or name the few that are not zero.
    require_room(f"{path}: its tensors", sum(t.numel() * t.element_size() for t in tensors), path)
    for name, value in flat.items():
        if isinstance(value, torch.Tensor):
            try:
                dense = value.detach().to_dense().resolve_conj()
                # NumPy has no bfloat16
                plain[str(name)] = (dense.float() if dense.dtype is torch.bfloat16 else dense).numpy()
            except (RuntimeError, TypeError) as error:  # of a kind that NumPy does not have: quantised, nested, ...
                raise InputError(
                    f"{path}, array {str(name)!r}: found a tensor of type {value.dtype} and layout {value.layout} that "
                    "holds no plain numbers; allowed are dense tensors of numbers"
                ) from error
        elif isinstance(value, list | tuple | np.ndarray):
            if not isinstance(value, np.ndarray):
                _check_list(value, str(name), path)
            try:
                array = np.asarray(value)
            except ValueError:
                array = np.empty(0, dtype=object)
            if array.dtype == object:
                pickled.append(str(name))
            else:
                plain[str(name)] = array
        elif value is not None and _of_use(str(name), wanted):
            raise InputError(f"{path}, {str(name)!r}: found a {type(value).__name__}, expected a tensor or a list")
    return Arrays(path, plain, tuple(pickled))


def _check_list(value: Sequence[Any], name: str, path: Path) -> None:
    """Refuse lists of lists that are short in the file, because it names one of them many times."""
    left, items = [value], 0
    while left:
        items += len(part := left.pop())
        if items > _MOST_ITEMS:
            raise InputError(f"{path}, list {name!r}: found more than {_MOST_ITEMS:,} items; save it as an array")
        left += [inner for inner in part if isinstance(inner, list | tuple)]


def _flat(content: Mapping[Any, Any]) -> dict[Any, Any]:
    """The values by name, with a mapping ``targets`` of head to labels spread out as ``<head>_targets``."""
    out = {name: value for name, value in content.items() if not (name in _NESTED and isinstance(value, dict))}
    for name in _NESTED:
        if isinstance(content.get(name), dict):
            out |= {f"{str(head).removesuffix(OF_HEAD)}{OF_HEAD}": value for head, value in content[name].items()}
    return out


def _numpy_globals() -> list[Any]:
    """What rebuilding a plain NumPy array calls; nothing here runs code from the file."""
    rebuild, scalar = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    # NumPy 1 and 2 write these two under different names into the file.
    named = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((rebuild, "_reconstruct"), (scalar, "scalar"))
    ]
    # "O" only so that a file which holds an object array beside the needed ones can be opened: its
    # elements are still limited to what is allowed here, and the array is named and not used.
    dtypes = list(dict.fromkeys(type(np.dtype(code)) for code in "?bBhHiIlLqQefdSUO"))
    return [np.ndarray, np.dtype, *dtypes, *named]


def needed(part: Arrays, name: str, dimensions: int) -> NDArray[Any]:
    """An array of numbers with so many dimensions.

    Raises
    ------
    InputError
        If it is not there, or is another one.
    """
    if name in part.pickled:
        raise InputError(
            f"{part.path}, array {name!r} is a pickled object array, which is never unpickled; save it as plain numbers"
        )
    if name not in part.plain:
        raise InputError(f"{part.path} has no array {name!r}; {part.holds}")
    array = part.plain[name]
    if array.ndim != dimensions or array.dtype.kind not in "iufb":
        raise InputError(
            f"{part.path}, array {name!r} has shape {array.shape} and type {array.dtype}, "
            f"expected {dimensions} dimensions of numbers"
        )
    return array
