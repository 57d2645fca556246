"""Splits: disjoint, complete, grouped, stratified, deterministic."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from imbalance_lab.data.source_options import GroupSplit
from imbalance_lab.data.split_plan import groups_of_rows, plan_split, splits_of
from imbalance_lab.data.splits import assign_groups, class_counts
from imbalance_lab.data.stratify import Demand, allot, deal, mend
from imbalance_lab.errors import InputError

FRACTIONS = (0.7, 0.15, 0.15)


def split_rows(groups, strata, targets, fractions, seed):
    heads = {str(i): [str(c) for c in range(int(t.max(initial=-1)) + 1)] for i, t in enumerate(targets)}
    of, group = groups_of_rows(groups, strata, {str(i): t for i, t in enumerate(targets)}, heads)
    return splits_of(plan_split(of, GroupSplit(fractions=fractions, seed=seed), fractions).side(None), group)


@pytest.mark.parametrize(
    ("n", "parts"), [(3, [1, 1, 1]), (4, [2, 1, 1]), (16, [11, 2, 3]), (100, [70, 15, 15]), (1, [1, 0, 0])]
)
def test_largest_remainder(n: int, parts: list[int]) -> None:
    assert allot(n, FRACTIONS).tolist() == parts


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_groups = draw(st.integers(3, 14))
    stratum = draw(st.lists(st.sampled_from("abc"), min_size=n_groups, max_size=n_groups))
    rows = draw(st.lists(st.integers(0, n_groups - 1), min_size=n_groups, max_size=40))
    group = np.array([*range(n_groups), *rows])
    label = np.array(draw(st.lists(st.integers(-1, 3), min_size=len(group), max_size=len(group))))
    names = np.array([f"g{i:02d}" for i in range(n_groups)])
    return names[group], np.array(stratum)[group], label


@settings(deadline=None, max_examples=40)
@given(tables(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_split_properties(table, seed, random) -> None:
    groups, strata, label = table
    splits = split_rows(groups, strata, [label[:, None]], FRACTIONS, seed)
    parts = [index for _, index in splits.items()]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    sides = [set(groups[index].tolist()) for index in parts]
    assert all(sides)
    assert not (sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])
    again = split_rows(groups, strata, [label[:, None]], FRACTIONS, seed)
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(splits.items(), again.items(), strict=True))
    order = list(range(len(groups)))
    random.shuffle(order)
    shuffled = split_rows(groups[order], strata[order], [label[order][:, None]], FRACTIONS, seed)
    assert [set(groups[order][index].tolist()) for _, index in shuffled.items()] == sides


def test_strata_of_four_reach_every_part() -> None:
    strata = np.repeat(["a", "b", "c"], 4)
    part = assign_groups(strata, np.zeros((12, 0), dtype=np.int64), FRACTIONS, 3)
    for name in "abc":
        assert set(part[strata == name].tolist()) == {0, 1, 2}


def test_small_strata_are_pooled_so_that_no_part_is_empty() -> None:
    part = assign_groups(np.array([f"op{i}" for i in range(9)]), np.zeros((9, 0), dtype=np.int64), FRACTIONS, 0)
    assert np.bincount(part, minlength=3).tolist() == [6, 1, 2]


def test_a_class_of_three_groups_is_in_every_part() -> None:
    counts = np.full((30, 2), 50)
    counts[:, 1] = 0
    counts[[4, 11, 20], 1] = 5
    for seed in range(10):
        part = assign_groups(np.full(30, "all"), counts, FRACTIONS, seed)
        assert set(part[[4, 11, 20]].tolist()) == {0, 1, 2}


def test_a_class_of_one_group_is_in_train() -> None:
    counts = np.full((12, 2), 50)
    counts[:, 1] = 0
    counts[7, 1] = 5
    assert all(assign_groups(np.full(12, "all"), counts, FRACTIONS, seed)[7] == 0 for seed in range(10))


def test_seeds_differ() -> None:
    strata, counts = np.full(40, "all"), np.zeros((40, 0), dtype=np.int64)
    parts = {tuple(assign_groups(strata, counts, FRACTIONS, seed).tolist()) for seed in range(5)}
    assert len(parts) == 5


def test_too_few_groups() -> None:
    with pytest.raises(InputError, match=r"2 group\(s\) to split, at least 3"):
        assign_groups(np.array(["a", "a"]), np.zeros((2, 1), dtype=np.int64), FRACTIONS, 0)


def test_class_counts_leave_unscored_positions_out() -> None:
    target = np.array([[0, 1, -100], [1, 1, -100], [2, -100, -100]])
    counts = class_counts(np.array([0, 0, 1]), 2, [target])
    assert counts.toarray().tolist() == [[1, 3, 0], [0, 0, 1]]


# ---- rare classes, large data, exchanges


def presence(groups, label, splits):
    """Groups of each class in each split, (3, K), from the rows themselves."""
    out = np.zeros((3, int(label.max()) + 1), dtype=int)
    for i, (_, index) in enumerate(splits.items()):
        pairs = {(groups[r], label[r]) for r in index.tolist()}
        for _, c in pairs:
            out[i, c] += 1
    return out


def skewed(rng, n, k):
    """Labels of a Zipf law, every class at least once."""
    chance = 1 / np.arange(1, k + 1) ** 1.2
    return np.concatenate([np.arange(k), rng.choice(k, size=n - k, p=chance / chance.sum())])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stratify", ["all", "target"])
@pytest.mark.parametrize("n", [300, 6000])
def test_classes_seen_once_or_twice_are_in_train_alone_and_all_others_in_every_split(seed, stratify, n) -> None:
    rng = np.random.default_rng(seed)
    label = skewed(rng, n, 40)
    rare = np.concatenate([np.arange(40, 55), np.repeat(np.arange(55, 62), 2)])  # 15 once, 7 twice
    label = np.concatenate([label, rare])
    groups = np.array([f"r{i:05d}" for i in range(len(label))])
    strata = np.array([f"c{c}" for c in label]) if stratify == "target" else np.full(len(label), "all")
    splits = split_rows(groups, strata, [label[:, None]], FRACTIONS, seed)
    held = presence(groups, label, splits)
    counts = np.bincount(label)
    assert (held[0, counts < 3] == counts[counts < 3]).all()
    assert (held[:, counts >= 3] > 0).all()
    sizes = np.array([len(index) for _, index in splits.items()]) / len(label)
    assert np.abs(sizes - FRACTIONS).max() < 0.05


@pytest.mark.parametrize("seed", range(5))
def test_recordings_with_rare_classes_of_several_heads(seed) -> None:
    """60 recordings; the rare classes of two heads lie in few of them, and each recording holds several classes."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(60), 30)
    first = rng.integers(0, 4, size=len(group))
    second = rng.integers(0, 3, size=len(group))
    for c, holders in ((4, 1), (5, 2), (6, 3), (7, 4), (8, 5)):
        for g in rng.choice(60, size=holders, replace=False):
            first[rng.choice(np.flatnonzero(group == g))] = c
    for c, holders in ((3, 3), (4, 3), (5, 6)):
        for g in rng.choice(60, size=holders, replace=False):
            second[rng.choice(np.flatnonzero(group == g))] = c
    names = np.array([f"g{i:02d}" for i in range(60)])[group]
    strata = np.array(list("abc"))[group % 3]
    splits = split_rows(names, strata, [first[:, None], second[:, None]], FRACTIONS, seed)
    for label in (first, second):
        held = presence(names, label, splits)
        groups = held.sum(axis=0)
        assert (held[0, groups < 3] == groups[groups < 3]).all()
        assert (held[:, groups >= 3] > 0).all()


def test_large_data_do_not_depend_on_the_order_of_rows_and_keep_the_fractions() -> None:
    rng = np.random.default_rng(3)
    label, second = skewed(rng, 20_000, 1000), skewed(rng, 20_000, 30)
    groups = np.array([f"r{i:05d}" for i in range(20_000)])
    strata = np.full(20_000, "all")
    start = time.process_time()
    splits = split_rows(groups, strata, [label[:, None], second[:, None]], FRACTIONS, 1)
    assert time.process_time() - start < 5  # a tenth of a second where nothing else runs
    order = rng.permutation(20_000)
    again = split_rows(groups[order], strata, [label[order][:, None], second[order][:, None]], FRACTIONS, 1)
    assert [set(groups[i]) for _, i in splits.items()] == [set(groups[order][i]) for _, i in again.items()]
    for values in (label, second):
        counts = np.bincount(values)
        held = presence(groups, values, splits)
        assert (held[:, counts >= 3] > 0).all()
        assert (held[0, counts < 3] == counts[counts < 3]).all()
        often = counts >= 100
        assert np.abs(held[:, often] / counts[often] - np.array(FRACTIONS)[:, None]).max() < 0.03
    other = split_rows(groups, strata, [label[:, None], second[:, None]], FRACTIONS, 2)
    assert not np.array_equal(other.test, splits.test)


def test_equal_parts_for_cross_validation() -> None:
    """The core deals out to any number of parts: here five folds with each class of five groups in each."""
    rng = np.random.default_rng(0)
    label = skewed(rng, 4000, 60)
    counts = class_counts(np.arange(4000), 4000, [label[:, None]])
    fold = deal(counts, np.zeros(4000, dtype=np.int64), [0.2] * 5, rng)
    table = np.zeros((5, 60), dtype=int)
    np.add.at(table, (fold, label), 1)
    often = np.bincount(label) >= 5
    assert (table[:, often] > 0).all()
    assert np.ptp(table[:, often], axis=0).max() <= 1
    assert np.bincount(fold).min() > 780


def test_an_exchange_brings_what_no_split_has() -> None:
    """A class of three groups that all lie in train: two exchanges mend it, sizes and strata stay."""
    counts = np.zeros((12, 2), dtype=np.int64)
    counts[:, 0] = 9
    counts[:3, 1] = 1
    part = np.repeat([0, 1, 2], [8, 2, 2])
    strata = np.zeros(12, dtype=np.int64)
    demand = Demand.of(sparse.csr_array(counts), None, 3)
    assert demand.faults(demand.held(part)) == 2
    mended = mend(part, demand, strata, counts.sum(axis=1), FRACTIONS)
    assert demand.faults(demand.held(mended)) == 0
    assert np.bincount(mended).tolist() == [8, 2, 2]
    assert set(mended[:3].tolist()) == {0, 1, 2}


def test_held_out_windows_that_hold_less_are_counted_as_such() -> None:
    """Of four groups with the class two keep it when held out: those two go to val and test."""
    counts = np.full((20, 2), 5)
    counts[4:, 1] = 0
    held_out = counts.copy()
    held_out[:2, 1] = 0
    for seed in range(5):
        part = assign_groups(np.full(20, "all"), counts, FRACTIONS, seed, held_out=sparse.csr_array(held_out))
        assert set(part[2:4].tolist()) == {1, 2}
        assert (part[:2] == 0).any()


def test_more_rare_groups_than_train_can_hold_leave_val_and_test_half_of_their_size() -> None:
    label = np.arange(40)
    label[30:] = 0
    part = assign_groups(np.full(40, "all"), class_counts(np.arange(40), 40, [label[:, None]]), FRACTIONS, 0)
    assert np.bincount(part, minlength=3)[1:].min() >= 3
