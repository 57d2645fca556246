"""Folds: each recording is tested once, no recording is on two sides, classes are where they can be."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imbalance_lab.data.cache import load_cached, save_loaded
from imbalance_lab.data.coding import fit_coding
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.source_options import GroupSplit
from imbalance_lab.data.split_plan import TEST, TRAIN, VAL, groups_of_rows, plan_split
from imbalance_lab.errors import InputError
from imbalance_lab.load import folds_of, load_data, load_folds, parse_options, with_split

FRACTIONS = (0.7, 0.15, 0.15)
MILL = {"source": "simulated", "n_recordings": 12, "rows_per_recording": 120, "n_frames": 1}


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    n_groups = draw(st.integers(5, 20))
    folds = draw(st.integers(2, min(6, n_groups)))
    stratum = np.array(draw(st.lists(st.sampled_from("abc"), min_size=n_groups, max_size=n_groups)))
    rows = draw(st.lists(st.integers(0, n_groups - 1), max_size=30))
    group = np.array([*range(n_groups), *rows])
    rare = draw(st.lists(st.integers(0, 4), min_size=len(group), max_size=len(group)))
    label = np.where(np.arange(len(group)) < n_groups, 0, np.array(rare))  # class 0 lies in every group
    return np.array([f"g{i:02d}" for i in range(n_groups)])[group], stratum[group], label, folds


def sides(groups: np.ndarray, strata: np.ndarray, label: np.ndarray, folds: int, seed: int) -> tuple:
    of, group = groups_of_rows(groups, strata, {"y": label[:, None]}, {"y": list("01234")})
    return of, plan_split(of, GroupSplit(folds=folds, seed=seed), FRACTIONS).sides, group


@settings(deadline=None, max_examples=40)
@given(tables(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_each_group_is_tested_once_and_every_class_is_where_it_can_be(table, seed, random) -> None:
    groups, strata, label, folds = table
    of, side, _ = sides(groups, strata, label, folds, seed)
    assert ((side == TEST).sum(axis=0) == 1).all()
    sizes = (side == TEST).sum(axis=1)
    assert sizes.max() - sizes.min() <= 1
    assert all((side == part).any(axis=1).all() for part in (TRAIN, VAL))
    held = of.counts.toarray() > 0
    for c in range(5):
        members = int(held[:, c].sum())
        trained = [(held[:, c] & (row == TRAIN)).any() for row in side]
        assert members < 2 or sum(trained) >= 1
    assert all(held[row == part, 0].any() for row in side for part in range(3))  # class 0 lies everywhere
    order = list(range(len(groups)))
    random.shuffle(order)
    _, again, _ = sides(groups[order], strata[order], label[order], folds, seed)
    assert np.array_equal(side, again) or set(strata) != {"a"}  # a group's stratum may hang on a tie of its rows


@pytest.mark.parametrize("seed", range(6))
def test_rare_classes_lie_in_as_many_folds_as_they_can(seed: int) -> None:
    rng = np.random.default_rng(seed)
    held = np.zeros((40, 5), dtype=int)
    held[:, 0] = 1
    for c, members in ((1, 12), (2, 6), (3, 3), (4, 2)):
        held[rng.choice(40, members, replace=False), c] = 1
    row, label = np.nonzero(held)
    _, side, _ = sides(np.char.zfill(row.astype(str), 2), np.full(len(row), "all"), label, 6, seed)
    tested = (side == TEST).argmax(axis=0)
    assert [len(set(tested[held[:, c] > 0])) for c in range(5)] == [6, 6, 6, 3, 2]
    for k in range(6):
        for c in range(5):
            assert (held[side[k] == TRAIN, c] > 0).any(), (k, c)


@pytest.mark.parametrize("n", [30, 6000])
def test_strata_and_sizes_are_even_at_any_scale(n: int) -> None:
    rng = np.random.default_rng(n)
    label = rng.choice(5, n, p=[0.5, 0.2, 0.2, 0.05, 0.05])
    names, strata = np.char.zfill(np.arange(n).astype(str), 5), np.array(list("abcde"))[label]
    _, side, _ = sides(names, strata, label, 5, 1)
    assert (np.bincount((side == TEST).argmax(axis=0)) == n // 5).all()
    by_stratum = [[((strata == s) & (row == TEST)).sum() for row in side] for s in "abcde"]
    assert all(max(counts) - min(counts) <= 1 + n // 1000 for counts in by_stratum)
    assert (abs((side == VAL).sum(axis=1) - n * 0.8 * 0.15 / 0.85) < 1).all()


def table_file(folder: Path, n: int = 60) -> dict[str, object]:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"x": rng.normal(size=n), "colour": rng.choice(["red", "blue"], n), "machine": [f"m{i % 15}" for i in range(n)]}
    )
    frame["grade"] = np.where(frame["x"] > 0.5, "good", "bad")
    frame.to_csv(folder / "t.csv", index=False)
    return {"source": "table", "path": str(folder / "t.csv"), "target": "grade", "group": "machine"}


def sequences_file(folder: Path) -> dict[str, object]:
    rng = np.random.default_rng(4)
    np.savez(
        folder / "s.npz",
        continuous=rng.normal(size=(30, 5, 2)).astype(np.float32),
        categorical=rng.integers(0, 3, (30, 5, 1)),
        type_targets=rng.integers(0, 3, (30, 1)),
        recording=np.array([f"r{i // 2:02d}" for i in range(30)]),
    )
    return {"source": "sequences", "path": str(folder / "s.npz"), "encoding": "legacy"}


def recordings_file(folder: Path) -> dict[str, object]:
    from imbalance_lab.simulator.mill import SimulatedMill, simulate

    simulate(SimulatedMill(n_recordings=12, rows_per_recording=120, n_frames=1)).to_parquet(folder / "r.parquet")
    return {"source": "recordings", "path": str(folder / "r.parquet")}


def source(name: str, folder: Path) -> dict[str, object]:
    if name == "table":
        return table_file(folder)
    if name == "sequences":
        return sequences_file(folder)
    if name == "recordings":
        return recordings_file(folder)
    if name == "tokens":
        return {**MILL, "task": "tokens"}
    return {**MILL} if name == "simulated" else {"source": "digits"}


SOURCES = ("recordings", "simulated", "tokens", "table", "sequences", "digits")


def names_of(loaded: LoadedData) -> list[set[str]]:
    return [set(loaded.dataset.groups[index].tolist()) for _, index in loaded.splits.items()]


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_folds(name: str, tmp_path: Path) -> None:
    options = parse_options({**source(name, tmp_path), "split": {"folds": 3}})
    assert folds_of(options) == 3
    loaded = list(load_folds(options, tmp_path))
    tested = [group for data in loaded for group in names_of(data)[2]]
    assert len(tested) == len(set(tested))
    for data in loaded:
        train, val, test = names_of(data)
        assert train
        assert val
        assert test
        assert not train & val | train & test | val & test
    assert len({data.fold.digest for data in loaded}) == 1
    assert [data.fold.number for data in loaded] == [0, 1, 2]
    place: dict[int, str] = {}  # a unit is the same true sequence in all folds
    for data in loaded:
        for unit, group in zip(data.dataset.unit.tolist(), data.dataset.groups.tolist(), strict=True):
            assert place.setdefault(unit, group) == group
    units = [set(data.dataset.unit[data.splits.test].tolist()) for data in loaded]
    assert not units[0] & units[1] | units[0] & units[2] | units[1] & units[2]
    assert all(np.array_equal(data.dataset.unit_length, loaded[0].dataset.unit_length) for data in loaded)
    alone = load_data(options, tmp_path, fold=1)
    assert (alone.dataset.digest, alone.fold) == (loaded[1].dataset.digest, loaded[1].fold)


def test_scaling_is_that_of_the_train_part(tmp_path: Path) -> None:
    options = parse_options({**table_file(tmp_path), "split": {"folds": 3}})
    table = pd.read_csv(tmp_path / "t.csv").assign(x=lambda t: 1e6 * (t["x"] + 1000))
    table["colour"] = [f"c{i // 4}" for i in range(60)]  # some are in few rows
    table.to_csv(tmp_path / "t.csv", index=False)
    centres = set()
    for data in load_folds(options):
        rows = table.iloc[data.splits.train]
        assert data.dataset.native(data.dataset.continuous)[:, 0, 0] == pytest.approx(table["x"], rel=1e-9)
        expected = fit_coding({"x": table["x"].to_numpy()}, {"colour": table["colour"].to_numpy()}, data.splits.train)
        assert data.dataset.scaling.centre[0] == expected.scaling.centre[0]
        assert set(data.dataset.categories[0]) == set(rows["colour"])
        centres.add(float(data.dataset.scaling.centre[0]))
    assert len(centres) > 1


def test_the_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import imbalance_lab.data.sources.recordings as module

    reads: list[Path] = []
    read = module.read_columns
    monkeypatch.setattr(module, "read_columns", lambda path, *a, **k: reads.append(path) or read(path, *a, **k))
    options = parse_options({**recordings_file(tmp_path), "split": {"folds": 4}})
    assert len(list(load_folds(options))) == 4
    assert len(reads) == 1


def test_a_fold_survives_the_cache(tmp_path: Path) -> None:
    data = load_data(parse_options({**MILL, "split": {"folds": 3}}), fold=2)
    save_loaded(data, tmp_path / "cache")
    assert load_cached(tmp_path / "cache").fold == data.fold


def test_without_folds_there_is_one_split() -> None:
    options = parse_options(MILL)
    assert folds_of(options) is None
    (only,) = load_folds(options)
    assert only.fold is None
    assert only.dataset.digest == load_data(options).dataset.digest


@pytest.mark.parametrize("split", [{"folds": 4}, {"test": ["a", 3], "val": ["b"]}, {"fractions": [0.5, 0.3, 0.2]}])
@pytest.mark.parametrize("data", [MILL, {"source": "table", "path": "x", "target": "y"}])
def test_options_that_were_written_out_are_read_again(data: dict[str, object], split: dict[str, object]) -> None:
    options = parse_options({**data, "split": split})
    assert parse_options(options.model_dump(mode="json")) == options


def test_another_way_to_split_keeps_seed_and_strata() -> None:
    options = parse_options({**MILL, "split": {"fractions": [0.6, 0.2, 0.2], "stratify": "none", "seed": 3}})
    folds = with_split(options, folds=4)
    assert (folds_of(folds), folds.split.seed, folds.split.stratify) == (4, 3, "none")
    assert folds.model_dump(exclude={"split"}) == options.model_dump(exclude={"split"})
    assert with_split(folds, test=["a"]).split.names == {TEST: ("a",)}
    legacy = parse_options({"source": "recordings", "path": "x", "task": "tokens", "encoding": "legacy"})
    assert with_split(legacy, folds=3).split.by == "recording"
    with pytest.raises(ValidationError, match="come without a file"):
        with_split(options, test="more.csv")


@pytest.fixture(scope="module")
def in_processes() -> Iterator[list[str]]:
    code = (
        "from imbalance_lab.load import *\n"
        f"for d in load_folds(parse_options({{**{MILL!r}, 'split': {{'folds': 3}}}})):\n"
        "    print(d.fold.digest, d.dataset.digest, d.dataset.facts.get('notes_on_folds'))\n"
    )
    return [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]


def test_folds_do_not_hang_on_the_process(in_processes: list[str]) -> None:
    assert in_processes[0] == in_processes[1]
    assert len(in_processes[0].splitlines()) == 3


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"folds": 1}, "greater than or equal to 2"),
        ({"folds": 3, "fractions": [0.6, 0.2, 0.2]}, "folds and fractions are different ways to split"),
        ({"folds": 3, "test": ["a"]}, "folds and test are different ways to split"),
        ({"folds": 3, "column": "part"}, "folds and column are different ways to split"),
        ({"val": ["a"]}, "val is given without test"),
        ({"test": []}, "names no recording"),
        ({"test": ["a", "b"], "val": ["b"]}, "'b' is under test and under val"),
        ({"folds": 3, "by": "sequence"}, "need by: recording"),
    ],
)
def test_impossible_options(split: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        parse_options({"source": "recordings", "path": "x", "split": split})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**MILL, "split": {"column": "part"}}, "come without a file"),
        ({**MILL, "split": {"test": "more.csv"}}, "come without a file"),
        ({"source": "digits", "split": {"test": "more.csv"}}, "come without a file"),
        ({"source": "digits", "split": {"folds": 3, "test_fraction": 0.2}}, "folds and test_fraction"),
        ({"source": "table", "path": "x", "target": "y", "split": {"column": "y"}}, "split.column as well"),
    ],
)
def test_impossible_options_of_a_source(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        parse_options(data)
    assert message in str(error.value)


def test_more_folds_than_recordings_says_what_works() -> None:
    with pytest.raises(InputError, match=r"folds is 20, but there are 12 recording\(s\); the largest .* is folds: 12$"):
        next(load_folds(parse_options({**MILL, "split": {"folds": 20}})))
    with pytest.raises(InputError, match=r"folds is 2, but there are 3 recording\(s\); folds: 3 works"):
        next(load_folds(parse_options({**MILL, "n_recordings": 3, "split": {"folds": 2}})))


def test_more_folds_than_recordings_of_any_class_says_what_works(tmp_path: Path) -> None:
    rows = [(i, f"g{i:02d}", "abc"[i % 3]) for i in range(12)]
    pd.DataFrame(rows, columns=["x", "group", "y"]).to_csv(tmp_path / "t.csv", index=False)
    options = {"source": "table", "path": "t.csv", "target": "y", "group": "group"}
    with pytest.raises(InputError, match=r"no class of y lies in more than 4 .*; the largest that works is folds: 4$"):
        next(load_folds(parse_options({**options, "split": {"folds": 5}}), tmp_path))
    assert len(list(load_folds(parse_options({**options, "split": {"folds": 4}}), tmp_path))) == 4


def test_a_fold_that_cannot_learn_a_class_is_noted(tmp_path: Path) -> None:
    rows = [(i, f"g{i:02d}", "b" if i % 2 else "a") for i in range(12)] + [(3, "g05", "rare"), (4, "g05", "rare")]
    pd.DataFrame(rows, columns=["x", "group", "y"]).to_csv(tmp_path / "t.csv", index=False)
    options = {"source": "table", "path": "t.csv", "target": "y", "group": "group", "split": {"folds": 3}}
    loaded = list(load_folds(parse_options(options), tmp_path))
    fold = next(k for k, data in enumerate(loaded) if "g05" in names_of(data)[2])
    for data in loaded:
        notes = str(data.dataset.facts["notes_on_folds"])
        assert f"Fold {fold} lacks class 'rare' of y in train" in notes
        assert "rare of y (1)" in notes
        assert ("g05" in names_of(data)[0]) == (data.fold.number != fold)


def test_many_lacking_classes_are_counted_and_not_all_listed() -> None:
    label = np.array([0] * 30 + list(range(1, 13)))  # twelve classes in one group each
    names = np.char.zfill(np.arange(len(label)).astype(str), 2)
    heads = {"y": [f"c{i}" for i in range(13)]}
    of, _ = groups_of_rows(names, np.full(len(label), "all"), {"y": label[:, None]}, heads)
    notes = plan_split(of, GroupSplit(folds=3), FRACTIONS).notes
    assert len(notes) == 7
    assert notes[5] == "7 more classes are lacking in the train part of a fold."
    assert notes[6].startswith("12 class(es) lie in fewer recordings than the 3 folds")


@pytest.mark.parametrize(
    ("split", "fold", "message"),
    [
        ({"folds": 3}, None, "folds is 3: expected a fold of 0 to 2, found None"),
        ({"folds": 3}, 3, "folds is 3: expected a fold of 0 to 2, found 3"),
        ({}, 0, "fold 0 is asked for, but data.split.folds is not set"),
    ],
)
def test_a_fold_that_is_not_there(split: dict[str, object], fold: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data(parse_options({**MILL, "split": split}), fold=fold)


@pytest.mark.parametrize("task", ["steps", "tokens"])
def test_real_recordings_in_six_folds(shared_dir: Path, task: str) -> None:
    path = str(shared_dir / "data/gcode_fingerprinting/recordings.parquet")
    options = parse_options({"source": "recordings", "path": path, "task": task, "split": {"folds": 6}})
    loaded = list(load_folds(options))
    tested = [group for data in loaded for group in names_of(data)[2]]
    assert len(tested) == len(set(tested)) == 108
    for data in loaded:
        assert [len(names) for names in names_of(data)] == [75, 15, 18]
        everywhere = np.ones(len(data.dataset.heads["command"]), dtype=bool)
        if data.presence is not None:  # windows of train and of held-out recordings are cut differently
            everywhere = (data.presence.train["command"].sum(axis=0) >= 6) & (
                data.presence.held_out["command"].sum(axis=0) >= 6
            )
        assert everywhere.sum() >= 4
        for _, index in data.splits.items():
            assert (data.dataset.class_counts("command", index)[everywhere] > 0).all()
