"""Small files that ask for much: refused, or read without what nobody needs."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from size_cases import N, arrays

from imbalance_lab.data import files
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.files import Format, read_arrow
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options

MIB = 1 << 20


def sequences(path: Path, **options: object) -> LoadedData:
    return load_data(parse_options({"source": "sequences", "path": str(path), **options}))


def test_an_array_that_is_not_needed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays())
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 28,)})
    with zipfile.ZipFile(path, "a") as archive:  # the header of 2 GiB; whoever reads the array finds no values
        archive.writestr("spectrum.npy", header.getvalue())
    with np.load(path) as archive, pytest.raises(ValueError, match=r"EOF|cannot reshape|read"):
        archive["spectrum"]
    data = sequences(path).dataset
    assert data.facts["arrays_not_used"] == "spectrum"
    assert len(data) == N


@pytest.mark.parametrize("label", [1 << 40, 1 << 16])
@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_a_label_that_asks_for_as_many_classes_is_refused(tmp_path: Path, label: int, suffix: str) -> None:
    content = arrays()
    content["mode_targets"] = content["mode_targets"].astype(np.int64)
    content["mode_targets"][7] = label
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, **content)
    else:
        import torch

        torch.save({k: v if v.dtype.kind == "U" else torch.from_numpy(v) for k, v in content.items()}, path)
    with pytest.raises(InputError, match=rf"array 'mode_targets', sequence 7: found the class {label}, allowed"):
        sequences(path)


def test_a_tensor_that_is_marked_as_a_folder_is_refused(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "a.pt"
    torch.save({k: v if v.dtype.kind == "U" else torch.from_numpy(v) for k, v in arrays().items()}, path)
    assert len(sequences(path).dataset) == N
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"a/data/1") - 46  # in the directory at the end
    content[entry + 38] |= 0x10  # PyTorch would return a tensor of what lay in memory
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"'a/data/1' in it is marked as a folder, but holds bytes"):
        sequences(path)


def test_a_large_code_takes_no_more_than_a_small_one(tmp_path: Path) -> None:
    content = arrays()
    content["categorical"] = content["categorical"].astype(np.int64)
    content["categorical"][0, 0, 0] = 1_000_000_000
    np.savez(tmp_path / "a.npz", **content)
    tracemalloc.start()
    try:
        data = sequences(tmp_path / "a.npz").dataset
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 * MIB  # a table of codes would take 8 GB
    assert data.categorical.max() <= len(data.categories[0])


@pytest.mark.parametrize("digits", [0, 5, 9, "3"])
def test_digits_of_a_vocabulary_are_bounded(tmp_path: Path, digits: object) -> None:
    content = arrays()
    content["tokens"] = np.zeros((N, 2), dtype=np.int64)
    del content["mode_targets"]
    np.savez(tmp_path / "a.npz", **content)
    plain = {"vocab": {"PAD": 0, "G1": 1}, "config": {"bucket_digits": digits}}
    (tmp_path / "v.json").write_text(json.dumps(plain))
    with pytest.raises(InputError, match=r"config.bucket_digits: found .* expected an integer from 1 to 4"):
        sequences(tmp_path / "a.npz", vocabulary=str(tmp_path / "v.json"))


def test_names_of_columns_are_compared_once(tmp_path: Path) -> None:
    compared = 0

    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return super().__hash__()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names = [Name(f"c{i}") for i in range(20_000)]
    assert files._named_twice(names) is None
    assert compared < 1000  # each with each would be 400 million
    assert files._named_twice([*names, Name("c7")]) == "c7"
    path = tmp_path / "wide.csv"
    path.write_text(",".join(names) + "\n" + ",".join(["1"] * len(names)) + "\n")
    assert read_arrow(path, form=Format()).num_columns == 20_000
