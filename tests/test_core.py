"""The spec, the predictions table, the data cache, the engine, checkpoints."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.data.cache import load_cached, save_loaded
from imbalance_lab.engine import Failure, Plan, open_engine, plan_for
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.predictions import HeadPredictions, Predictions, read_parquet, write_parquet
from imbalance_lab.randomness import derive_seed
from imbalance_lab.spec import load_experiment, parse_experiment
from imbalance_lab.training.checkpoint import load_checkpoint, save_checkpoint
from imbalance_lab.training.collapse import collapse_epoch, prediction_spread

ROOT = Path(__file__).resolve().parents[1]


def head(n: int = 40, k: int = 3, seed: int = 0) -> HeadPredictions:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), n).astype(np.float32)
    position = np.arange(n, dtype=np.int32) % 10
    return HeadPredictions(
        classes=tuple("ABCDEFG"[:k]),
        train_counts=np.arange(k) * 10,
        sequence=np.arange(n) // 10,
        position=position,
        from_start=position,
        from_end=9 - position,
        group=(np.arange(n) // 20 % 2).astype(np.int32),
        group_names=("r0", "r1"),
        true=rng.integers(0, k, n).astype(np.int32),
        pred=p.argmax(1).astype(np.int32),
        probabilities=p,
        slices={"operation": (np.arange(n) % 2).astype(np.int32)},
        slice_names={"operation": ("face", "pocket")},
    )


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 60), k=st.integers(1, 6), seed=st.integers(0, 9))
def test_predictions_survive_parquet(n: int, k: int, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("p") / "test.parquet"
    table = Predictions(
        {"command": head(n, k, seed), "other": head(n + 3, k, seed + 1)}, {"split": "test", "seed": seed}
    )
    write_parquet(table, path)
    again = read_parquet(path)
    assert again.meta == table.meta
    for name, before in table.heads.items():
        after = again.heads[name]
        assert after.classes == before.classes
        for column in (
            "sequence",
            "position",
            "from_start",
            "from_end",
            "true",
            "pred",
            "probabilities",
            "train_counts",
        ):
            np.testing.assert_array_equal(getattr(after, column), getattr(before, column), err_msg=column)
        names = np.array(before.group_names)[before.group]
        np.testing.assert_array_equal(np.array(after.group_names)[after.group], names)
        slices = np.array(before.slice_names["operation"])[before.slices["operation"]]
        np.testing.assert_array_equal(np.array(after.slice_names["operation"])[after.slices["operation"]], slices)


def test_derived_columns() -> None:
    h = head()
    rows = np.arange(len(h))
    order = np.argsort(-h.probabilities, axis=1)
    np.testing.assert_array_equal(h.true_rank, 1 + (order == h.true[:, None]).argmax(1))
    others = np.where(np.arange(3) == h.true[:, None], -1, h.probabilities).max(1)
    np.testing.assert_allclose(h.margin, h.probabilities[rows, h.true] - others, atol=1e-7)
    np.testing.assert_array_equal(h.margin < 0, ~h.right)


def test_adjustment_leaves_unseen_classes_where_they_are() -> None:
    h = head()
    assert h.train_counts[0] == 0
    same = h.adjusted(0.0)
    np.testing.assert_allclose(same.probabilities, h.probabilities, atol=1e-6)
    adjusted = h.adjusted(2.0)
    assert np.isfinite(adjusted.probabilities).all()
    np.testing.assert_allclose(adjusted.probabilities.sum(1), 1, atol=1e-5)
    gain = np.log(adjusted.probabilities) - np.log(h.probabilities)
    assert (gain[:, 1] >= gain[:, 0] - 1e-5).all()


@pytest.mark.parametrize("bad", [np.nan, 0.7])
def test_probabilities_must_sum_to_one(bad: float) -> None:
    p = head().probabilities.copy()
    p[5, 0] = bad if np.isnan(bad) else p[5, 0] + bad
    with pytest.raises(InputError, match="row 5"):
        replace(head(), probabilities=p)


def test_foreign_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(InputError, match="without imbalance-lab metadata"):
        read_parquet(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_parquet(path)
    with pytest.raises(InputError, match="no such file"):
        read_parquet(tmp_path / "missing.parquet")


def test_a_copy_of_the_data_that_names_no_head_is_damaged(tmp_path: Path) -> None:
    save_loaded(load_data(parse_options({"source": "simulated", "n_recordings": 6})), tmp_path)
    about = json.loads((tmp_path / "about.json").read_text(encoding="utf-8"))
    (tmp_path / "about.json").write_text(json.dumps(about | {"heads": []}), encoding="utf-8")
    with pytest.raises(InputError, match="names no head"):
        load_cached(tmp_path)


@pytest.mark.parametrize("task", ["steps", "tokens"])
def test_cache_gives_the_same_data(tmp_path: Path, task: str) -> None:
    window = {"length": 32, "stride": 32}
    loaded = load_data(parse_options({"source": "simulated", "n_recordings": 6, "task": task, "window": window}))
    loaded = replace(loaded, left_out={"never": {"train": 0, "val": 2, "test": 1}})
    save_loaded(loaded, tmp_path / "data")
    save_loaded(loaded, tmp_path / "data")  # replaces
    again = load_cached(tmp_path / "data")
    assert again.dataset.digest == loaded.dataset.digest == replace(again.dataset).digest
    np.testing.assert_array_equal(again.splits.test, loaded.splits.test)
    assert again.dataset.heads == loaded.dataset.heads
    assert again.raw is not None
    assert loaded.raw is not None
    np.testing.assert_array_equal(again.raw.block, loaded.raw.block)
    assert dict(again.dataset.facts) == dict(loaded.dataset.facts)
    # The audit of a grid, begun or resumed, is made of the copy.
    assert again.left_out == loaded.left_out
    assert (again.presence is None) == (loaded.presence is None) == (task == "steps")
    if again.presence is not None and loaded.presence is not None:
        np.testing.assert_array_equal(again.presence.names, loaded.presence.names)
        np.testing.assert_equal(again.presence.train, loaded.presence.train)
        np.testing.assert_equal(again.presence.held_out, loaded.presence.held_out)


def test_every_experiment_parses_and_round_trips() -> None:
    files = sorted((ROOT / "experiments").glob("*.yaml"))
    assert files
    for file in files:
        spec = load_experiment(file)
        again = parse_experiment(spec.to_mapping(), where="round trip")
        assert again.to_mapping() == spec.to_mapping(), file.name
        assert spec.baseline in spec.strategies


def test_overrides() -> None:
    spec = load_experiment(
        ROOT / "experiments" / "default.yaml",
        {
            "training.epochs": 2,
            "strategies": {"focal-2": None, "curriculum": None},
            "seeds": [5],
            "training.device": "cpu",
        },
    )
    assert list(spec.strategies) == ["focal-2", "curriculum"]
    assert spec.baseline == "focal-2"
    assert (spec.training.epochs, spec.seeds, spec.training.device) == (2, (5,), "cpu")


def _square(x: int) -> int:
    if x == 2:
        raise ValueError("two is refused")
    return x * x


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_trial_does_not_stop_the_others(jobs: int) -> None:
    with open_engine(Plan(jobs, 1)) as engine:
        outcomes = {ended.index: ended.outcome for ended in engine.map(_square, [1, 2, 3])}
    assert outcomes[0] == 1
    assert outcomes[2] == 9
    assert outcomes[1] == Failure(1, "ValueError: two is refused")


def test_plan() -> None:
    assert plan_for(3, 2).jobs == 2
    assert plan_for(None, 8, ("cuda:0",)).jobs == 1
    with pytest.raises(InputError, match="jobs: found 0"):
        plan_for(0, 2)


def test_checkpoint_is_refused_by_another_trial(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    assert load_checkpoint(path, "x") is None
    save_checkpoint(path, {"fingerprint": "x", "weights": {"w": torch.ones(2)}})
    content = load_checkpoint(path, "x")
    assert content is not None
    assert torch.equal(content["weights"]["w"], torch.ones(2))
    with pytest.raises(InputError, match="another trial"):
        load_checkpoint(path, "y")
    path.write_bytes(b"half a file")
    with pytest.raises(InputError, match="not a whole checkpoint"):
        load_checkpoint(path, "x")
    assert list(tmp_path.iterdir()) == [path]


def test_seeds_differ_by_purpose() -> None:
    assert derive_seed(0, "weights") != derive_seed(0, "sampler", 0) != derive_seed(1, "sampler", 0)
    assert derive_seed(3, "a", 1) == derive_seed(3, "a", 1) < 2**63


def test_collapse_monitor() -> None:
    spread = prediction_spread(np.array([[0, 5], [0, 95]]))
    assert spread.collapsed
    assert spread.entropy == 0
    assert not prediction_spread(np.array([[1, 4], [0, 95]])).collapsed
    assert not prediction_spread(np.array([[0, 0], [0, 95]])).collapsed  # one class in the labels: nothing to collapse
    assert collapse_epoch([True, False, True, True]) == 3
    assert collapse_epoch([True, True]) == 1
    assert collapse_epoch([True, False]) is None
    assert collapse_epoch([]) is None
