"""Splits: disjoint, complete, grouped, stratified, deterministic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.data.splits import allot, assign_groups, class_counts, split_rows
from imbalance_lab.errors import InputError

FRACTIONS = (0.7, 0.15, 0.15)


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
    assert counts.tolist() == [[1, 3, 0], [0, 0, 1]]
