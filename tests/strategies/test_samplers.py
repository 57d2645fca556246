"""Samplers at scale, expected shares, the token-balance solver, mixing."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from imbalance_lab.errors import InputError
from imbalance_lab.strategies.augment import Mixup, Remix, remix_weight
from imbalance_lab.strategies.samplers.by_class import SamplerContext, curriculum_power, progressive_probabilities
from imbalance_lab.strategies.samplers.pools import (
    NaturalSampler,
    Pools,
    PoolSampler,
    draw_from_pools,
    expected_shares,
    position_pools,
    rarest_class,
)
from imbalance_lab.strategies.samplers.token_balance import (
    TokenBalanced,
    capped,
    distinct_rows,
    sequence_class_counts,
    solve_token_balance,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_exact_at_a_hundred_million_sequences():
    """Offsets alone stand for the data: sequences sorted by class, the rarest holding one."""
    sizes = np.array([10**8 - 10**6 - 1, 10**6, 1])
    pools = Pools(torch.as_tensor(np.concatenate([[0], np.cumsum(sizes)])))
    p = np.full(3, 1 / 3)
    started = time.perf_counter()
    drawn = draw_from_pools(pools, p, 600_000, generator()).numpy()
    assert time.perf_counter() - started < 5
    pool = np.searchsorted(np.cumsum(sizes), drawn, side="right")
    assert np.abs(np.bincount(pool, minlength=3) / 600_000 - 1 / 3).max() < 0.004
    assert (drawn[pool == 2] == 10**8 - 1).all()
    big = drawn[pool == 0]
    assert big.max() > 2**26  # beyond where float32 counts and 2^24 categories end
    assert np.unique(big % 2).tolist() == [0, 1]  # odd numbers too: float32 has none up there
    eighths = np.bincount(big * 8 // sizes[0], minlength=8) / len(big)
    assert np.abs(eighths - 1 / 8).max() < 0.006


def test_an_index_of_ten_million_positions():
    rng = np.random.default_rng(0)
    target = (rng.random((200_000, 50)) < 0.001).astype(np.int64)
    started = time.perf_counter()
    pools = position_pools(target, 2)
    sampler = PoolSampler(pools, lambda progress: np.array([0.5, 0.5]), len(target))
    drawn = sampler.draw(50_000, generator(), 0.0).numpy()
    assert time.perf_counter() - started < 5
    holds = target.any(axis=1)
    share = holds[drawn].mean()
    expected = sampler.sequence_probabilities(0.0)[holds].sum()
    assert abs(share - expected) < 0.02
    assert pools.order.dtype == torch.int32


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=6), st.integers(0, 2**31))
def test_pools_draw_only_from_pools_with_probability(sizes, seed):
    sizes = np.array(sizes)
    if not sizes.any():
        return
    p = sizes / sizes.sum()
    pools = Pools(torch.as_tensor(np.concatenate([[0], np.cumsum(sizes)])))
    drawn = draw_from_pools(pools, p, 200, generator(seed)).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < sizes.sum()


def test_natural_is_a_permutation_per_epoch():
    sampler = NaturalSampler(50)
    g = generator()
    first, second = sampler.draw(50, g, 0.0), sampler.draw(50, g, 0.1)
    assert sorted(first.tolist()) == list(range(50))
    assert not torch.equal(first, second)
    counts = np.bincount(sampler.draw(120, g, 0.0).numpy(), minlength=50)
    assert counts.sum() == 120
    assert set(counts) == {2, 3}


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**31))
def test_expected_shares_and_rarest_class_by_definition(n, length, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(-1, 4, size=(n, length))
    y[y < 0] = -100
    p = rng.random(n)
    p /= p.sum()
    total = np.zeros(4)
    for row, weight in zip(y, p, strict=True):
        for c in row[row >= 0]:
            total[c] += weight
    want = total / total.sum() if total.sum() else total
    np.testing.assert_allclose(expected_shares(y, 4, p), want, atol=1e-12)
    counts = np.array([10, 5, 7, 5])
    got = rarest_class(y, counts)
    for row, c in zip(y, got, strict=True):
        seen = row[row >= 0]
        assert (c == 4) if not len(seen) else (c in seen and counts[c] == counts[seen].min())


def test_progressive_and_curriculum_ends():
    counts = [90, 9, 1]
    np.testing.assert_allclose(progressive_probabilities(counts, 0), [0.9, 0.09, 0.01])
    np.testing.assert_allclose(progressive_probabilities(counts, 1), 1 / 3)
    for course in ("linear", "cosine", "convex"):
        g = [curriculum_power(t, course) for t in np.linspace(0, 1, 11)]
        assert g[0] == 1
        assert abs(g[-1]) < 1e-12
        assert (np.diff(g) < 0).all()


# ---- token balance -------------------------------------------------------------------------


def test_token_balance_reaches_what_can_be_reached():
    """Pure sequences exist for every class: uniform shares are achievable exactly."""
    compositions = np.array([[10, 0, 0], [0, 10, 0], [5, 0, 5], [0, 0, 10]])
    solved = solve_token_balance(compositions, np.array([100, 10, 5, 1]), np.full(3, 1 / 3))
    np.testing.assert_allclose(solved.achievable, 1 / 3, atol=1e-3)
    assert solved.divergence < 1e-5
    assert solved.gap < 1e-5


def test_token_balance_says_what_cannot_be_reached():
    """Every sequence is at least 90 % class 0: no weights can do better than 10 % of class 1."""
    compositions = np.array([[10, 0], [9, 1]])
    solved = solve_token_balance(compositions, np.array([50, 50]), np.full(2, 0.5))
    np.testing.assert_allclose(solved.achievable, [0.9, 0.1], atol=1e-4)
    np.testing.assert_allclose(solved.sequence_share, [0, 1], atol=1e-3)
    assert solved.divergence > 0.5


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.floats(1, 20), st.integers(0, 2**31))
def test_capped_fills_up_to_its_limit(g, factor, seed):
    rng = np.random.default_rng(seed)
    natural = rng.dirichlet(np.ones(g))
    limit = np.minimum(natural * factor, 1)
    wish = rng.random(g) ** 4 + 1e-9
    got = capped(wish, limit)
    assert got.sum() == pytest.approx(1)
    assert (got <= limit * (1 + 1e-9)).all()
    free = got < limit * (1 - 1e-9)
    ratio = got / wish
    if free.any():  # what is not at its limit keeps its proportions, and gets no less than what is
        np.testing.assert_allclose(ratio[free], ratio[free][0], rtol=1e-6)
        assert (ratio[~free] <= ratio[free][0] * (1 + 1e-6)).all()


def test_capped_keeps_tiny_wishes_apart():
    limit = np.array([0.5, 0.4, 0.8])
    np.testing.assert_allclose(capped(np.array([1.0, 1e-300, 2e-300]), limit), [0.5, 0.5 / 3, 1 / 3])


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 25), st.integers(2, 5), st.sampled_from([np.inf, 10.0, 1.5]), st.integers(0, 2**31))
def test_token_balance_is_optimal_and_consistent(g, k, repeats, seed):
    rng = np.random.default_rng(seed)
    compositions = rng.integers(0, 8, size=(g, k)) * (rng.random((g, k)) < 0.6)
    compositions[np.arange(g), rng.integers(0, k, g)] += 1
    present = compositions.any(axis=0)
    target = np.where(present, 1.0, 0) / present.sum()
    multiplicity = rng.integers(1, 9, g)
    solved = solve_token_balance(compositions, multiplicity, target, repeats)
    # the shares follow from the probabilities of drawing
    tokens = solved.sequence_share @ compositions
    np.testing.assert_allclose(tokens / tokens.sum(), solved.achievable, atol=1e-9)
    # no direction improves by more than the gap says: first-order bound by a linear programme
    p = compositions / compositions.sum(axis=1, keepdims=True)
    pull = p[:, present] @ (target[present] / solved.achievable[present])
    natural = multiplicity * compositions.sum(axis=1)
    natural = natural / natural.sum()
    limit = np.minimum(natural * repeats, 1.0)
    best = linprog(-pull, A_eq=np.ones((1, g)), b_eq=[1.0], bounds=np.stack([np.zeros(g), limit], axis=1))
    share = solved.sequence_share * compositions.sum(axis=1)
    share = share / share.sum()
    assert (share <= limit * (1 + 1e-6)).all()
    assert -best.fun - share @ pull <= solved.gap * 1.5 + 1e-6
    assert solved.gap < 5e-3


def test_token_balanced_sampler_beats_the_others_on_tokens():
    rng = np.random.default_rng(0)
    y = np.zeros((500, 20), dtype=np.int64)
    for c, share in ((1, 0.3), (2, 0.05)):
        rows = rng.random(500) < share
        y[rows, : 8 + c] = c
    counts = np.bincount(y.ravel(), minlength=4)
    where = SamplerContext(y, ("a", "b", "c", "never"), counts, "test")
    shares = expected_shares(y, 4, TokenBalanced().bind(where).sequence_probabilities(0.0))
    natural = counts / counts.sum()
    assert shares[3] == 0
    assert shares[2] > 5 * natural[2]
    assert shares[0] < natural[0]
    aimed = TokenBalanced(target={"c": 1}).bind(where).sequence_probabilities(0.0)
    assert expected_shares(y, 4, aimed)[2] >= shares[2] - 1e-9
    facts = TokenBalanced(max_repeats=2).bind(where).facts
    assert facts["target"] == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3, "never": 0}
    assert facts["achievable"]["c"] <= 2 * natural[2] * (1 + 1e-6) < facts["without_limit"]["c"]
    assert 0 < facts["effective_sequences"] <= 500
    with pytest.raises(InputError, match="unknown class 'z'"):
        TokenBalanced(target={"z": 1}).bind(where)
    with pytest.raises(InputError, match="no class with training examples"):
        TokenBalanced(target={"never": 1}).bind(where)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**31))
def test_distinct_rows(n, k, seed):
    rows = np.random.default_rng(seed).integers(0, 3, size=(n, k))
    first, inverse = distinct_rows(rows)
    np.testing.assert_array_equal(rows[first[inverse]], rows)
    assert len(first) == len(np.unique(rows, axis=0))


def test_sequence_class_counts():
    y = np.array([[0, 2, -100], [1, 1, 1], [-100, -100, -100]])
    np.testing.assert_array_equal(sequence_class_counts(y, 3), [[1, 0, 1], [0, 3, 0], [0, 0, 0]])


# ---- augmentation --------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_weights_follow_their_beta(alpha):
    mix = Mixup(alpha=alpha).bind({})
    partner, weight = mix.mix(torch.arange(40_000), generator(3))
    assert sorted(partner.tolist()) == list(range(40_000))
    assert weight.min() >= 0
    assert weight.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(weight.mean().item() - 0.5) < 0.01
    assert abs(weight.var().item() - variance) < 0.01


def test_mixup_target_weights_respect_masks():
    mix = Mixup().bind({})
    own = torch.tensor([[0, 1, -100, -100]])
    partner = torch.tensor([[1, -100, 1, -100]])
    weight = mix.target_weight("command", own, partner, torch.tensor([0.3]))
    torch.testing.assert_close(weight, torch.tensor([[0.3, 1.0, 0.0, 0.0]]))


def test_remix_gives_the_label_to_the_rarer_class():
    counts = torch.tensor([100, 10, 40])
    own, partner = torch.tensor([0, 1, 0, 0, 1]), torch.tensor([1, 0, 2, 1, 0])
    weight = torch.tensor([0.4, 0.6, 0.4, 0.7, 0.4])
    # 0: own frequent and light -> partner; 1: own rare and partner light -> own; 2: ratio 2.5 < kappa;
    # 3: own frequent but heavy; 4: own rare, partner heavy (1 - w = .6)
    expected = torch.tensor([0.0, 1.0, 0.4, 0.7, 0.4])
    torch.testing.assert_close(remix_weight(own, partner, weight, counts), expected)
    mix = Remix().bind({"command": np.array([100, 10, 40])})
    got = mix.target_weight("command", own[:, None], partner[:, None], weight)
    torch.testing.assert_close(got[:, 0], expected)
    plain = mix.target_weight("other", own[:, None], partner[:, None], weight)
    torch.testing.assert_close(plain[:, 0], weight)
