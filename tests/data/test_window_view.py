"""Windows as indices into rows: what they give is what windows in memory would give, and rows are in memory once."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.data import preprocessing
from imbalance_lab.data.cache import load_cached, save_loaded
from imbalance_lab.data.sources.recordings import read_recordings
from imbalance_lab.data.window_view import WindowView, view_of
from imbalance_lab.data.windows import covering_starts, cut
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.models.inputs import InputScaler
from imbalance_lab.training.resident import Held, SharedRows, make_prepared, make_resident

CHANNELS = 3
KEYS: dict[str, Any] = {
    "windows": np.array([1, 0, 1]),
    "mask of windows": np.s_[np.array([True, False, True, *[False] * 9])[:12]],
    "one": 2,
    "slice": np.s_[1:5],
    "stride": np.s_[::2],
    "all": np.s_[:],
    "step": np.s_[:, 1],
    "last step": np.s_[:, -1],
    "cell": np.s_[:, 0, 2],
    "channel": np.s_[..., 1],
    "some channels": np.s_[:, :, np.array([2, 0])],
    "channels of some": np.s_[np.array([0, 2]), :, 1],
    "places": np.s_[np.array([0, 3, 1]), np.array([1, 0, 3])],
    "neighbours": np.s_[np.array([[0], [3]]), np.array([[0, 1], [2, 3]])],
    "values": np.s_[np.array([0, 3, 1]), np.array([1, 0, 3]), 2],
    "one value": np.s_[1, 3, 0],
}


def view(lengths: list[int], stride: int, by_channel: bool) -> tuple[WindowView[np.float32], np.ndarray]:
    """A view of windows of 4 steps and the same windows in memory."""
    n = np.array(lengths)
    table = np.arange(n.sum() * CHANNELS, dtype=np.float32).reshape(-1, CHANNELS)
    windows, starts = cut(n, covering_starts, 4, stride, centre=False), np.cumsum([0, *lengths[:-1]])
    rows = windows.rows(starts)
    dense = np.where((rows >= 0)[..., None], table[rows], np.float32(np.nan))
    return view_of(np.asfortranarray(table) if by_channel else table, windows, starts, np.nan), dense


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(1, 9), min_size=4, max_size=5), st.integers(1, 4), st.booleans())
def test_a_view_gives_what_windows_in_memory_give(key: Any, lengths: list[int], stride: int, by_channel: bool) -> None:
    found, dense = view(lengths, stride, by_channel)
    assert found.shape == dense.shape
    if isinstance(key, np.ndarray) and key.dtype == bool:
        key = np.resize(key, len(dense))
    np.testing.assert_array_equal(found[key], dense[key])
    assert np.asarray(found[key]).dtype == np.float32


def test_a_mask_of_steps_and_whatever_numpy_refuses() -> None:
    found, dense = view([9, 2, 7], 2, False)
    np.testing.assert_array_equal(found[dense[..., 0] > 20], dense[dense[..., 0] > 20])
    np.testing.assert_array_equal(np.asarray(found), dense)
    for key in (99, np.s_[:, 4], np.s_[0, 0, 3]):
        with pytest.raises(IndexError):
            found[key]


def mill(**options: Any) -> Any:
    return load_data(parse_options({"source": "simulated", "n_recordings": 9, **options}))


@pytest.mark.parametrize("options", [{}, {"window": {"length": 900, "stride": 100}}, {"task": "tokens"}])
def test_windows_in_memory_have_the_same_digest_scaling_and_batches(options: dict[str, Any], tmp_path: Path) -> None:
    loaded = mill(**options)
    shared = loaded.dataset
    assert isinstance(shared.continuous, WindowView)
    assert shared.continuous.table.nbytes < np.asarray(shared.continuous).nbytes
    held = replace(shared, continuous=np.asarray(shared.continuous), categorical=np.asarray(shared.categorical))
    assert held.digest == shared.digest
    train = loaded.splits.train
    one, other = preprocessing.fit(held, train), preprocessing.fit(shared, train)
    assert one.mean.tobytes() == other.mean.tobytes()
    assert one.std.tobytes() == other.std.tobytes()
    assert one.n_rows == other.n_rows

    save_loaded(loaded, tmp_path / "kept")
    again = load_cached(tmp_path / "kept").dataset
    assert again.continuous.table.flags.c_contiguous
    np.testing.assert_array_equal(np.asarray(again.continuous), held.continuous)
    np.testing.assert_array_equal(np.asarray(again.categorical), held.categorical)

    class Scaler:
        prepare = InputScaler(torch.from_numpy(one.mean), torch.from_numpy(one.std))

    cpu, order = torch.device("cpu"), torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    every = Held(make_prepared(Scaler(), held, train, cpu)).take(order)  # type: ignore[arg-type]
    for data in (shared, again):
        resident = make_resident(Scaler(), data, train, cpu)  # type: ignore[arg-type]
        assert isinstance(resident.source, SharedRows)
        for part, whole in zip(resident.batch(order)[0], every, strict=True):
            assert torch.equal(part, whole)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("ordered", [True, False])
def test_recordings_are_in_memory_less_than_twice(tmp_path: Path, kind: type, ordered: bool) -> None:
    rows, channels = 60_000, 60
    rng = np.random.default_rng(0)
    names = np.array([f"face_{i % 12:02d}" for i in range(rows)])
    columns = {
        "recording": np.sort(names) if ordered else names,
        "gcode_string": np.where(rng.random(rows) < 0.5, "G1 X1", "G0 Z2"),
        "momo": rng.integers(0, 4, rows),
        **{f"c{i}": rng.standard_normal(rows).astype(kind) for i in range(channels)},
    }
    path, table = tmp_path / "rows.parquet", rows * channels * 4
    pq.write_table(pa.table(columns), path, row_group_size=rows // 4)
    options = parse_options({"source": "recordings", "path": str(path), "split": {"stratify": "none"}})
    del columns, names
    load_data(options)  # whatever is imported on the way

    def traced(call: Any) -> tuple[float, float]:
        """What is held after a call, and its peak; a table counts when it is asked for, not as it fills."""
        tracemalloc.start()
        try:
            found = call()
            assert found is not None
            held, peak = tracemalloc.get_traced_memory()
            return (held + pa.default_memory_pool().bytes_allocated()) / table, peak / table
        finally:
            tracemalloc.stop()

    assert traced(lambda: read_recordings(path))[1] < 1.5
    held, peak = traced(lambda: load_data(options))
    assert held < 1.6  # windows in memory would be four times the table
    assert peak < 2.5
