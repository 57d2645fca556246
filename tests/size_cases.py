"""Small files and keys that ask for much, each read in a process of its own; run as a script it prints what they took.

``python tests/size_cases.py [NAME ...]``: one line of JSON for each case. What was imported before is not counted.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 3 << 30  # bytes that a case may take before it is stopped: the machine is others' too
N, T = 30, 4
ZEROS = 1 << 28


def arrays() -> dict[str, np.ndarray]:
    """Thirty whole sequences."""
    rng = np.random.default_rng(0)
    return {
        "continuous": rng.normal(size=(N, T, 2)),
        "categorical": rng.integers(0, 3, (N, T, 1)),
        "mode_targets": rng.integers(0, 3, (N, 1)),
        "groups": np.array([f"g{i // 3}" for i in range(N)]),
    }


def npz(folder: Path, **changed: Any) -> dict[str, Any]:
    np.savez(folder / "a.npz", **{**arrays(), **changed})
    return {"source": "sequences", "path": "a.npz"}


def npz_with(folder: Path, name: str, shape: tuple[int, ...], descr: str = "|u1") -> dict[str, Any]:
    """An archive with an array of zeros, packed."""
    others = arrays()
    others.pop(name, None)
    np.savez(folder / "a.npz", **others)
    size = int(np.prod(shape, dtype=object)) * np.dtype(descr).itemsize
    with (
        zipfile.ZipFile(folder / "a.npz", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_2_0(member, {"descr": descr, "fortran_order": False, "shape": shape})
        for _ in range(min(size, ZEROS) >> 20):
            member.write(bytes(1 << 20))
    return {"source": "sequences", "path": "a.npz"}


def pt(folder: Path, **changed: Any) -> dict[str, Any]:
    import torch

    found = {k: v.tolist() if v.dtype.kind == "U" else torch.from_numpy(v) for k, v in arrays().items()}
    torch.save({**found, **changed}, folder / "a.pt")
    return {"source": "sequences", "path": "a.pt"}


def pt_wide(folder: Path) -> dict[str, Any]:
    import torch

    return pt(folder, continuous=torch.zeros(1).expand(1 << 30, T, 2))


def pt_sparse(folder: Path) -> dict[str, Any]:
    import torch

    return pt(folder, continuous=torch.sparse_coo_tensor([[0], [0], [0]], [1.0], (1 << 30, T, 2)))


def pt_packed(folder: Path) -> dict[str, Any]:
    options = pt(folder)
    with zipfile.ZipFile(folder / "a.pt") as plain:
        parts = {m.filename: plain.read(m) for m in plain.infolist()}
    with zipfile.ZipFile(folder / "a.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
        with packed.open("archive/data/9", "w", force_zip64=True) as member:
            for _ in range(ZEROS >> 19):
                member.write(bytes(1 << 20))
    return options


def pt_laughs(folder: Path) -> dict[str, Any]:
    nested: list[Any] = ["x"] * 10
    for _ in range(9):
        nested = [nested] * 10
    return pt(folder, groups=nested)


def wide_table(folder: Path, suffix: str) -> dict[str, Any]:
    import pandas as pd

    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 20_000)), columns=[f"c{i}" for i in range(20_000)])
    frame = frame.assign(y=np.resize(["a", "b"], 60), g=[f"g{i // 2}" for i in range(60)]).copy()
    path = folder / f"a.{suffix}"
    frame.round(2).to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)
    return {"source": "table", "path": path.name, "target": "y", "group": "g"}


def parquet_of_one_value(folder: Path) -> dict[str, Any]:
    """2^26 rows of zeros, in row groups that are all the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = pa.table({"x": np.zeros(1 << 22, dtype=np.float64), "y": np.zeros(1 << 22, dtype=np.int8)})
    with pq.ParquetWriter(folder / "a.parquet", part.schema, compression="zstd") as writer:
        for _ in range(16):
            writer.write_table(part, row_group_size=1 << 22)
    return {"source": "table", "path": "a.parquet", "target": "y"}


def parquet_series(folder: Path) -> dict[str, Any]:
    parquet_of_one_value(folder)
    return {"source": "series", "path": "a.parquet", "target": "y"}


def many_classes(folder: Path) -> dict[str, Any]:
    n = 100_000
    lines = (f"{i % 7},k{i % (n // 2)}\n" for i in range(2 * n))
    (folder / "a.csv").write_text("x,y\n" + "".join(lines))
    return {"source": "table", "path": "a.csv", "target": "y", "target_kind": "classes"}


def tokens(folder: Path, vocabulary: str) -> dict[str, Any]:
    whole = arrays()
    del whole["mode_targets"]
    np.savez(folder / "a.npz", **whole, tokens=np.zeros((N, 2), dtype=np.int64))
    (folder / "v.json").write_text(vocabulary)
    return {"source": "sequences", "path": "a.npz", "vocabulary": "v.json"}


def recordings(folder: Path, **window: int) -> dict[str, Any]:
    import pandas as pd

    n = np.arange(900)
    frame = pd.DataFrame({"momo": n % 4, "f.Ax": np.cos(n / 5), "gcode_string": "G1 X1", "recording": n // 100})
    frame.astype({"recording": str}).to_csv(folder / "a.csv", index=False)
    return {"source": "recordings", "path": "a.csv", "window": window}


BASE = "name: x\ndata: {source: simulated}\nstrategies: {cross-entropy: {}}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)

DATA: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "npz: label of 2^40": (lambda f: npz(f, mode_targets=np.full((N, 1), 1 << 40)), "found the class 1099511627776"),
    "npz: label of 20,000": (lambda f: npz(f, mode_targets=np.full((N, 1), 20_000)), "found the class 20000"),
    "npz: code of 10^9": (lambda f: npz(f, categorical=np.full((N, T, 1), 10**9)), ""),
    "npz: unused array of 256 MiB": (lambda f: npz_with(f, "spectrum", (ZEROS,)), ""),
    "npz: unused array that declares 2^60": (lambda f: npz_with(f, "spectrum", (1 << 60,)), ""),
    "npz: labels longer than the inputs": (lambda f: npz_with(f, "mode_targets", (ZEROS, 1)), "'continuous' has 30"),
    "npz: inputs that are packed 1,000 times": (lambda f: npz_with(f, "continuous", (N, 1 << 21, 5)), "times what the"),
    "npz: inputs that declare 2^60": (lambda f: npz_with(f, "continuous", (1 << 60, T, 2), "<f8"), "times what the"),
    "npz: names of 100 million letters": (lambda f: npz_with(f, "groups", (N,), "<U100000000"), "texts of 400,000,000"),
    "pt: one value repeated": (pt_wide, "its tensors takes"),
    "pt: sparse": (pt_sparse, "its tensors takes"),
    "pt: packed": (pt_packed, "packed in it takes"),
    "pt: a list of one list": (pt_laughs, "more than 2,000,000 items"),
    "csv: 20,000 columns": (lambda f: wide_table(f, "csv"), ""),
    "parquet: 20,000 columns": (lambda f: wide_table(f, "parquet"), ""),
    "parquet: one value in 2^26 rows": (parquet_of_one_value, "times what the file holds"),
    "parquet: the same as a series": (parquet_series, "times what the file holds"),
    "csv: 50,000 classes": (many_classes, "expected at most 10,000 classes"),
    "json: 100,000 levels": (lambda f: tokens(f, "[" * 100_000), "is not JSON"),
    "json: bucket_digits 9": (
        lambda f: tokens(f, '{"vocab": {"A": 0}, "config": {"bucket_digits": 9}}'),
        "from 1 to 4",
    ),
    "window: 10^9 rows": (lambda f: recordings(f, length=10**9), "less than or equal to 1000000"),
    "window: 10^5 rows": (lambda f: recordings(f, length=10**5, stride=10**5), ""),
    "mill: 10^9 rows": (
        lambda f: {"source": "simulated", "n_recordings": 10_000, "rows_per_recording": 100_000},
        "n_recordings x rows_per_recording is 1000000000",
    ),
}
"""Case to what makes its file and gives the ``data:`` section, and what the refusal says ("": it is read)."""

TEXTS: dict[str, tuple[str, str]] = {
    "yaml: aliases": (BOMB, "with the aliases written out"),
    "yaml: 1,000 levels": (BASE + "x: " + "[" * 1000 + "]" * 1000, "more than 40 levels"),
    "yaml: 2 MB": (BASE + "description: " + "x" * 2_000_000, "allowed are at most"),
    "yaml: hidden 10^9": (BASE + "model: {hidden: 1000000000}", "model.hidden"),
    "yaml: epochs 10^12": (BASE + "training: {epochs: 1000000000000}", "training.epochs"),
    "yaml: 90,000 seeds": (BASE + f"seeds: {list(range(90_000))}", "key 'seeds'"),
    "yaml: seed 10^30": (BASE + "seeds: [1000000000000000000000000000000]", "seeds are integers from 0 to 4294967295"),
    "yaml: 10^9 searches": (BASE + "tune: {trials: 1000000000}", "tune.trials"),
}
"""Case to an experiment file, and what its refusal says."""


def refusal(case: str, folder: Path) -> str:
    """Why a case is refused, "" where it is read; anything else that is raised is a fault."""
    from pydantic import ValidationError

    from imbalance_lab.comparison.costs import read_costs
    from imbalance_lab.errors import InputError
    from imbalance_lab.load import load_data, parse_options
    from imbalance_lab.spec import load_experiment

    try:
        if case in DATA:
            load_data(parse_options(json.loads((folder / "options.json").read_text())), folder)
        elif case in TEXTS:
            load_experiment(folder / "x.yaml")
        else:
            read_costs(folder / "costs.csv", ("a", "b"))
    except (InputError, ValidationError) as error:
        return " ".join(str(error).split())
    return ""


COSTS = {"costs: 300 MB": "at most"}


def prepare(case: str, folder: Path) -> None:
    """Write the files of a case."""
    if case in DATA:
        (folder / "options.json").write_text(json.dumps(DATA[case][0](folder)))
    elif case in TEXTS:
        (folder / "x.yaml").write_text(TEXTS[case][0])
    else:
        with (folder / "costs.csv").open("wb") as file:
            file.truncate(300 << 20)


def expected(case: str) -> str:
    """What the refusal of a case says, "" where it is read."""
    return DATA[case][1] if case in DATA else TEXTS[case][1] if case in TEXTS else COSTS[case]


CASES = (*DATA, *TEXTS, *COSTS)


def measure(case: str, folder: Path) -> dict[str, Any]:
    """Read a case in a child of this process: ``said``, ``fault``, ``seconds`` (of the processor) and ``peak`` (bytes).

    The peak is what it took beyond what this process had imported.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        own = {"case": case, "said": "", "fault": ""}
        try:
            before, used = _status("VmRSS"), _status("VmData")
            resource.setrlimit(resource.RLIMIT_DATA, (used + LIMIT, used + LIMIT))
            begun = time.process_time()
            own["said"] = refusal(case, folder)
        except BaseException as error:  # whatever it is, it is what the case found
            own["fault"] = f"{type(error).__name__}: {error}"[:300]
        own |= {"seconds": time.process_time() - begun, "peak": _status("VmHWM") - before}
        os.write(write_end, json.dumps(own).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        found = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(found) if found else {"case": case, "fault": f"ended with {status}", "said": "", "peak": 0}


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(names: list[str]) -> None:
    """Measure the cases; files are made before in children too, so that what making them took is not this process's."""
    import pyarrow.parquet
    import torch

    import imbalance_lab.comparison.costs
    import imbalance_lab.spec  # noqa: F401

    torch.set_num_threads(1)
    pyarrow.set_cpu_count(1)
    for case in names or CASES:
        with tempfile.TemporaryDirectory() as made:
            child = os.fork()
            if child == 0:
                try:
                    prepare(case, Path(made))
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0, case
            print(json.dumps(measure(case, Path(made))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
