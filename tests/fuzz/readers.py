"""What this product reads that others may have written or damaged: a small valid file of each, and what is in it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from fuzz.mutations import (
    Draw,
    Mutation,
    changed_arrays,
    csv_cell,
    damaged,
    damaged_member,
    json_value,
    parquet_table,
    pick,
    yaml_value,
)
from training_cases import selection, tiny, trial_of

from imbalance_lab.comparison.costs import read_costs
from imbalance_lab.data.cache import load_cached, save_loaded
from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.data.gcode.vocabulary import build_vocabulary, legacy_targets, read_vocabulary, tokenize
from imbalance_lab.learners.all_learners import read_model
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.predictions import read_parquet, write_parquet
from imbalance_lab.run.trial_files import read_table, write_tables
from imbalance_lab.spec import load_experiment, parse_experiment
from imbalance_lab.training.checkpoint import load_checkpoint, save_checkpoint

N, STEPS = 24, 3


@dataclass(frozen=True)
class Reader:
    """A reader, and small valid files for it.

    ``make`` writes them into a folder, ``read`` reads the folder, ``agrees`` asserts that what was read is what others
    read in the same bytes; ``files`` are the names of those that are damaged, each with the ways to change what it
    says.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    agrees: Callable[[Path, Any], None]
    files: Mapping[str, tuple[Mutation, ...]]


def mutated(draw: Draw, content: bytes, ways: tuple[Mutation, ...]) -> bytes:
    """Damaged bytes, or as often a whole file that says something else."""
    return pick(draw, ways)(draw, content) if ways and draw(_half()) else damaged(draw, content)


def _half() -> Any:
    from hypothesis import strategies as st

    return st.booleans()


# --- what is compared ----------------------------------------------------------------------------------------------


def _agrees_with_numbers(data: LoadedData, channel: int, values: Any) -> None:
    """A channel (N, T) with what was read elsewhere: centred and scaled in more digits, or missing as there."""
    scaling = data.dataset.coding.scaling
    with np.errstate(all="ignore"):
        wide = (np.asarray(values).astype(np.longdouble) - scaling.centre[channel]) / scaling.scale[channel]
    top = np.finfo(np.float32).max
    finite = np.isfinite(wide.astype(np.float64))
    expected = np.where(finite, np.clip(wide, -top, top), np.nan).astype(np.float64)
    found = data.dataset.continuous[..., channel].astype(np.float64)
    beyond = np.isnan(found) & (np.abs(np.asarray(values).astype(np.longdouble)) > top)  # infinite in float32: missing
    expected[beyond] = np.nan
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def _words_of(data: LoadedData, head: str) -> Any:
    """Class names (N, L) of a head, "" where it is not scored."""
    names = np.array([*data.dataset.heads[head], ""], dtype=object)
    target = data.dataset.targets[head]
    return names[np.where(target == IGNORE, len(names) - 1, target)]


def _agrees_with_frame(data: LoadedData, frame: pd.DataFrame, rows: Any, targets: Any) -> None:
    """Inputs and targets with the rows (N, T) of a frame of which the numbers are numbers or text."""
    inside = rows >= 0
    for i, name in enumerate(data.dataset.channels):
        column = frame[name]
        numbers = pd.to_numeric(column.map(_bare), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if column.dtype.kind in "iu":
            numbers = column.to_numpy()
        if column.dtype.kind not in "iufO":
            continue  # times and the like become seconds
        _agrees_with_numbers(data, i, np.where(inside, numbers[rows], np.nan) if not inside.all() else numbers[rows])
    for head in targets:
        if head in data.dataset.heads:
            texts = np.array([_text(cell) for cell in frame[head]], dtype=object)
            found = _words_of(data, head)
            scored = found != ""
            assert (found[scored] == texts[rows][scored]).all(), (found[scored], texts[rows][scored])


def _bare(cell: Any) -> Any:
    return cell.strip(" \t") if isinstance(cell, str) else cell


def _text(cell: Any) -> str:
    if cell is None or (isinstance(cell, float | np.floating) and math.isnan(cell)):
        return ""
    return cell.decode() if isinstance(cell, bytes) else str(cell)


def _texts(column: Any) -> list[str]:
    """The text of each cell of a column; 0.1 in float32 is called 0.1."""
    return [_text(cell) for cell in (column.to_numpy() if column.dtype.kind == "f" else column.tolist())]


def _frame_of(path: Path) -> pd.DataFrame:
    """As pandas reads it; every cell of a CSV file as text."""
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=True, encoding="utf-8-sig")
    table = pq.read_table(path).replace_schema_metadata(None)  # pandas' own metadata may be what is damaged
    return table.to_pandas(integer_object_nulls=True)


# --- sequences -----------------------------------------------------------------------------------------------------


@cache
def _arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "continuous": rng.normal(size=(N, STEPS, 2)).astype(np.float32),
        "categorical": rng.integers(0, 3, (N, STEPS, 1)),
        "mode_targets": np.tile([0, 1, 2], N // 3)[:, None],
        "groups": np.array([f"g{i // 3}" for i in range(N)]),
    }


def _sequences(path: Path) -> LoadedData:
    return load_data(parse_options({"source": "sequences", "path": str(path), "split": {"stratify": "none"}}))


def _agrees_with_arrays(arrays: Mapping[str, Any], data: LoadedData) -> None:
    for i in range(len(data.dataset.channels)):
        _agrees_with_numbers(data, i, arrays["continuous"][..., i])
    for head in data.dataset.heads:
        raw = np.asarray(arrays[f"{head}_targets"])
        target = data.dataset.targets[head]
        raw = raw.reshape(target.shape)
        scored = target != IGNORE  # a mask leaves others out
        assert (target == raw.astype(np.int64))[scored].all()
        assert scored.any()
    if "categorical" in arrays:
        for k, texts in enumerate(data.dataset.categories):
            codes = data.dataset.categorical[..., k]
            known = np.array(["", *texts], dtype=object)[codes]
            raw = np.asarray(arrays["categorical"])[..., k].astype(np.int64)
            assert (known[codes > 0] == raw[codes > 0].astype(str)).all()


def _npz_agrees(folder: Path, data: LoadedData) -> None:
    with np.load(folder / "a.npz", allow_pickle=False) as archive:
        wanted = [name for name in archive.files if name.endswith("_targets") or name in ("continuous", "categorical")]
        _agrees_with_arrays({name: archive[name] for name in wanted}, data)


def _as_torch(name: str, array: Any) -> Any:
    if array.dtype.kind in "US":
        return array.tolist()
    try:
        return torch.from_numpy(np.ascontiguousarray(array))
    except (TypeError, ValueError):
        return array


def _save_pt(path: Any, arrays: Mapping[str, Any]) -> None:
    torch.save({name: _as_torch(name, array) for name, array in arrays.items()}, path)


def _pt_agrees(folder: Path, data: LoadedData) -> None:
    try:
        content = torch.load(folder / "a.pt", weights_only=True)
    except Exception:  # arrays of NumPy within it
        return
    arrays = {
        str(name): (v.to_dense().float() if v.dtype is torch.bfloat16 else v.detach().to_dense()).resolve_conj().numpy()
        for name, v in content.items()
        if isinstance(v, torch.Tensor)
    }
    if "continuous" in arrays and all(f"{head}_targets" in arrays for head in data.dataset.heads):
        _agrees_with_arrays(arrays, data)


def _npz_arrays(draw: Draw, content: bytes) -> bytes:
    out = io.BytesIO()
    np.savez(out, **changed_arrays(draw, _arrays()))
    return out.getvalue()


def _pt_tensors(draw: Draw, content: bytes) -> bytes:
    out = io.BytesIO()
    arrays: dict[str, Any] = {name: _as_torch(name, a) for name, a in changed_arrays(draw, _arrays()).items()}
    name = pick(draw, list(arrays) or ["continuous"])
    tensor = arrays.get(name)
    ways: list[Callable[[Any], Any]] = [
        lambda t: t, lambda t: t, lambda t: t.to_sparse(), lambda t: t.to(torch.bfloat16), lambda t: t.to("meta"),
        lambda t: t.to(torch.float8_e4m3fn), lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
        lambda t: torch.nn.Parameter(t.float()), lambda t: t.tolist(), lambda t: t.numpy(), lambda t: {"a": t},
        lambda t: t.conj() if t.is_complex() else t.to(torch.complex64).conj(), lambda t: t.expand(2, *t.shape),
        lambda t: t.numpy().astype(object), lambda t: torch.nested.nested_tensor(list(t)),
    ]  # fmt: skip
    if isinstance(tensor, torch.Tensor):
        with suppress(RuntimeError, TypeError, IndexError):
            arrays[name] = pick(draw, ways)(tensor)
    content_: Any = pick(draw, (arrays,) * 6 + ({"targets": arrays, **arrays}, list(arrays.values()), {1: arrays}))
    torch.save(content_, out)
    return out.getvalue()


# --- tables --------------------------------------------------------------------------------------------------------


@cache
def _rows() -> pd.DataFrame:
    i = np.arange(N)
    return pd.DataFrame(
        {
            "speed": np.round(np.cos(i / 3), 3),
            "count": i % 7,
            "tool": np.array(["drill", "mill", "saw"])[i % 3],
            "on": i % 2 == 0,
            "batch": [f"b{k // 3}" for k in i],
            "label": np.array(["good", "bad", "good"])[i % 3],
        }
    )


def _table(suffix: str) -> Reader:
    options = {
        "source": "table",
        "path": f"a{suffix}",
        "target": "label",
        "group": "batch",
        "split": {"stratify": "none"},
    }

    def agrees(folder: Path, data: LoadedData) -> None:
        frame = _frame_of(folder / f"a{suffix}")
        assert len(frame) == len(data.dataset)
        _agrees_with_frame(data, frame, np.arange(len(frame))[:, None], ["label"])
        assert data.dataset.groups.tolist() == [_text(cell) for cell in frame["batch"]]

    return Reader(
        lambda folder: _write(_rows(), folder / f"a{suffix}"),
        lambda folder: load_data(parse_options(options), folder),
        agrees,
        {f"a{suffix}": (csv_cell if suffix == ".csv" else parquet_table,)},
    )


def _write(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False, lineterminator="\n")
    else:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)


@cache
def _steps() -> pd.DataFrame:
    i = np.arange(4 * N)
    return pd.DataFrame(
        {
            "machine": [f"m{k // 16}" for k in i],
            "step": i % 16,
            "a": np.round(np.sin(i / 5), 3),
            "b": np.round(np.cos(i / 7), 3).astype(np.float32),
            "kind": np.array(["x", "y"])[i // 8 % 2],
            "state": np.array(["idle", "cut"])[i // 4 % 2],
        }
    )


def _series(suffix: str) -> Reader:
    options = {
        "source": "series", "path": f"a{suffix}", "recording": "machine", "order": "step", "target": "state",
        "window": {"length": 8, "stride": 4}, "split": {"stratify": "none"},
    }  # fmt: skip

    def agrees(folder: Path, data: LoadedData) -> None:
        frame = _frame_of(folder / f"a{suffix}")
        _agrees_with_frame(data, frame, _rows_of_windows(data, frame["machine"]), ["state"])

    return Reader(
        lambda folder: _write(_steps(), folder / f"a{suffix}"),
        lambda folder: load_data(parse_options(options), folder),
        agrees,
        {f"a{suffix}": (csv_cell if suffix == ".csv" else parquet_table,)},
    )


def _rows_of_windows(data: LoadedData, column: Any) -> Any:
    """Row (N, T) of each step of the windows; -1 where a window is padded."""
    d = data.dataset
    first = {name: row for row, name in reversed(list(enumerate(_texts(column))))}
    starts = np.array([first[group] for group in d.groups.tolist()])
    return np.where(d.unit_position >= 0, starts[:, None] + d.unit_position, -1)


@cache
def _recording_rows() -> pd.DataFrame:
    i = np.arange(4 * N)
    return pd.DataFrame(
        {
            "recording": [f"a_{k // 16}" for k in i],
            "gcode_string": np.where(i % 3 == 0, "G1 X1", "Y2."),
            "momo": i % 4,
            "f.Ax": np.round(np.cos(i / 5), 3),
            "f.Ay": np.round(np.sin(i / 5), 3).astype(np.float32),
        }
    )


def _recordings(suffix: str) -> Reader:
    options = {
        "source": "recordings", "path": f"a{suffix}", "window": {"length": 8, "stride": 4},
        "split": {"stratify": "none"},
    }  # fmt: skip

    def agrees(folder: Path, data: LoadedData) -> None:
        frame = _frame_of(folder / f"a{suffix}")
        if "t_console" in frame.columns:  # repeated rows are left out
            return
        frame["recording"] = _texts(frame["recording"])
        frame = frame.sort_values("recording", kind="stable", ignore_index=True)
        _agrees_with_frame(data, frame, _rows_of_windows(data, frame["recording"]), [])

    return Reader(
        lambda folder: _write(_recording_rows(), folder / f"a{suffix}"),
        lambda folder: load_data(parse_options(options), folder),
        agrees,
        {f"a{suffix}": (csv_cell if suffix == ".csv" else parquet_table,)},
    )


# --- what a run reads beside its data ------------------------------------------------------------------------------

_EXPERIMENT = """\
name: small
description: as a person would write it
data:
  source: series
  path: a.csv
  target: [state]
  window: {length: 8, stride: 4}
  split: {fractions: [0.6, 0.2, 0.2], seed: 1}
audit: {on_fail: warn, budget: quick}
model: {name: mm-dtae-lstm, hidden: 16, attention_heads: 2}
training: {epochs: 6, batch_size: 16, learning_rate: 5.0e-3, patience: 2}
seeds: [0, 1]
baseline: cross-entropy
strategies:
  cross-entropy: {}
  focal: {loss: {focal: {gamma: 2.0}}, sampler: class-balanced}
  curriculum: {schedule: [{for: 0.5, sampler: class-balanced}, {for: 0.5, sampler: natural}]}
  adjusted: {posthoc: {logit-adjust: {tau: auto}}, weights: {ratio: 10}}
selection: {metric: state/macro_f1}
comparison: {margin: 0.02}
tune: {trials: 3}
"""


def _experiment_agrees(folder: Path, spec: Any) -> None:
    raw = yaml.safe_load((folder / "a.yaml").read_text(encoding="utf-8"))
    plain = spec.to_mapping()
    assert parse_experiment(plain, where="again").to_mapping() == plain
    _same_leaves({k: v for k, v in raw.items() if k not in ("strategies", "data")}, plain)
    assert list(plain["strategies"]) == [str(name) for name in raw["strategies"]]


def _same_leaves(raw: Any, plain: Any) -> None:
    if isinstance(raw, dict) and isinstance(plain, dict):
        for name, value in raw.items():
            _same_leaves(value, plain[name])
    elif isinstance(raw, bool | int | float) and isinstance(plain, int | float) and not isinstance(plain, bool):
        assert float(raw) == float(plain)
    elif isinstance(raw, str) and isinstance(plain, str):
        assert raw == plain


def _make_vocabulary(folder: Path) -> None:
    made = build_vocabulary({"G1 X1.5 Y-2": 3, "G0 Z0. F100": 2, "M3 S1000": 1})
    plain = {"vocab": dict(made.tokens), "config": {"precision": dict(made.precision), "bucket_digits": 2}}
    (folder / "a.json").write_text(json.dumps(plain), encoding="utf-8")


def _read_vocabulary(folder: Path) -> Any:
    found = read_vocabulary(folder / "a.json")
    tokens = [t for text in ("G1 X1.5 Y-2", "G0 Z0. F1e9 S-5", "M3 X1e-300") for t in tokenize(text, found)]
    for token in [*tokens, *found.tokens]:
        legacy_targets(token, found)
    return found


def _vocabulary_agrees(folder: Path, found: Any) -> None:
    assert dict(found.tokens) == json.loads((folder / "a.json").read_text(encoding="utf-8"))["vocab"]


_CLASSES = ("G0", "G1", "G2")


def _costs_agree(folder: Path, found: Any) -> None:
    text = (folder / "a.csv").read_text(encoding="utf-8-sig")
    lines = [
        [cell.strip() for cell in line]
        for line in csv.reader(io.StringIO(text, newline=""))
        if any(c.strip() for c in line)
    ]
    for line in lines[1:]:
        for name, cell in zip(lines[0][1:], line[1:], strict=True):
            assert found[_CLASSES.index(line[0]), _CLASSES.index(name)] == float(cell)


@cache
def _trained() -> Any:
    trial = trial_of("{}", tiny(length=2, n=24), epochs=1)
    list(trial.train(selection(tiny(length=2, n=24))))
    return trial


def _predictions_agree(folder: Path, found: Any) -> None:
    whole = ("true", "pred", "sequence", "position", "from_start", "from_end")
    table = pq.read_table(
        folder / "a.parquet", columns=["head", *whole, "group", "probabilities"]
    )  # others are not read
    head = np.array(table["head"].cast(pa.string()).to_pylist(), dtype=object)
    for name, read in found.heads.items():
        part = table.filter(pa.array(head == name))
        assert len(read) == part.num_rows
        for column in whole:
            assert getattr(read, column).tolist() == [int(v) for v in part[column].to_pylist()], column
        assert [read.group_names[g] for g in read.group] == [_text(v) for v in part["group"].to_pylist()]
        rows = [[np.float32(p) for p in row] for row in part["probabilities"].to_pylist()]
        assert read.probabilities.tolist() == [[float(p) for p in row] for row in rows]


def _make_checkpoint(folder: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"weight": torch.from_numpy(rng.normal(size=(4, 4))), "bias": torch.zeros(4)}
    save_checkpoint(folder / "a.pt", {"fingerprint": "f", "epoch": 3, "network": weights, "history": [{"loss": 0.5}]})


def _checkpoint_agrees(folder: Path, found: Any) -> None:
    made = folder.with_name("made") / "a.pt"
    assert (folder / "a.pt").read_bytes() == made.read_bytes(), "a damaged checkpoint was taken up"


def _make_classifiers(folder: Path) -> None:
    from strategies.test_wiring import rows, table_trial

    loaded = rows(n=48)
    trial = table_trial("table: {rus-boost: {estimators: 2}}", loaded)
    list(trial.train(selection(loaded)))
    trial.save(folder, {h: {"steps": {}, "train_counts": [1, 1, 1]} for h in loaded.dataset.heads})


def _make_network(folder: Path) -> None:
    trial = _trained()
    trial.save(folder, {h: {"steps": {}, "train_counts": [1, 1, 1]} for h in trial.loaded.dataset.heads})


def _model_agrees(folder: Path, stored: Any) -> None:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    heads = about["blueprint"]["heads"] if "blueprint" in about else about["heads"]
    assert {head: list(classes) for head, classes in stored.heads.items()} == heads


def _make_tables(folder: Path) -> None:
    write_tables({"a": _rows()[["label", "speed", "count", "on"]]}, folder)


def _table_agrees(folder: Path, found: Any) -> None:
    plain = json.loads((folder / "a.json").read_text(encoding="utf-8"))
    assert [str(c) for c in found.columns] == [str(c) for c in plain["columns"]]
    assert len(found) == len(plain["data"])
    for i, row in enumerate(plain["data"]):
        for cell, value in zip(found.iloc[i].tolist(), row, strict=True):
            assert cell == value or (value is None and pd.isna(cell)) or (value != value and cell != cell)


def _data_agrees(folder: Path, found: LoadedData) -> None:
    for name, array in {
        "continuous": found.dataset.continuous,
        "target.0": next(iter(found.dataset.targets.values())),
    }.items():
        np.testing.assert_array_equal(array, np.load(folder / f"{name}.npy", allow_pickle=False))


def _whole_data(folder: Path) -> LoadedData:
    found = load_cached(folder)
    for array in (found.dataset.continuous, found.dataset.groups, found.splits.train):
        np.asarray(array).copy()
    return found


READERS: Mapping[str, Reader] = {
    "npz": Reader(
        lambda folder: np.savez(folder / "a.npz", **_arrays()),
        lambda folder: _sequences(folder / "a.npz"), _npz_agrees, {"a.npz": (_npz_arrays, damaged_member)},
    ),
    "pt": Reader(
        lambda folder: _save_pt(folder / "a.pt", _arrays()),
        lambda folder: _sequences(folder / "a.pt"), _pt_agrees, {"a.pt": (_pt_tensors, damaged_member)},
    ),
    "table-csv": _table(".csv"),
    "table-parquet": _table(".parquet"),
    "series-csv": _series(".csv"),
    "series-parquet": _series(".parquet"),
    "recordings-csv": _recordings(".csv"),
    "recordings-parquet": _recordings(".parquet"),
    "predictions": Reader(
        lambda folder: write_parquet(_trained().predict("test", {"seed": 0}), folder / "a.parquet"),
        lambda folder: read_parquet(folder / "a.parquet"), _predictions_agree, {"a.parquet": (parquet_table,)},
    ),
    "experiment": Reader(
        lambda folder: (folder / "a.yaml").write_text(_EXPERIMENT, encoding="utf-8") and None,
        lambda folder: load_experiment(folder / "a.yaml"), _experiment_agrees, {"a.yaml": (yaml_value,)},
    ),
    "vocabulary": Reader(_make_vocabulary, _read_vocabulary, _vocabulary_agrees, {"a.json": (json_value,)}),
    "costs": Reader(
        lambda folder: (folder / "a.csv").write_text("x,G0,G1,G2\nG0,0,1,2.5\nG1,1,0,1\nG2,8,4,0\n") and None,
        lambda folder: read_costs(folder / "a.csv", _CLASSES), _costs_agree, {"a.csv": (csv_cell,)},
    ),
    "checkpoint": Reader(
        _make_checkpoint, lambda folder: load_checkpoint(folder / "a.pt", "f"), _checkpoint_agrees, {"a.pt": ()}
    ),
    "classifiers": Reader(
        _make_classifiers, read_model, _model_agrees, {"about.json": (json_value,), "0.skops": (damaged_member,)}
    ),
    "network": Reader(
        _make_network, read_model, _model_agrees, {"about.json": (json_value,), "weights.pt": (damaged_member,)}
    ),
    "run-table": Reader(
        _make_tables, lambda folder: read_table(folder / "a.json"), _table_agrees, {"a.json": (json_value,)}
    ),
    "data-copy": Reader(
        lambda folder: save_loaded(tiny(length=2, n=24), folder), _whole_data, _data_agrees,
        {"about.json": (json_value,), **dict.fromkeys(("continuous.npy", "target.0.npy", "groups.npy"), ())},
    ),
}  # fmt: skip
