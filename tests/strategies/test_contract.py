"""The contract that every registered loss, sampler and card keeps."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from strategy_settings import LOSSES, SAMPLERS

from imbalance_lab.data import dataset
from imbalance_lab.strategies.base import LossInputs
from imbalance_lab.strategies.language import registry
from imbalance_lab.strategies.language.option_cards import SECTIONS, pages, sections
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.strategies.language.registry import REGISTRY, lookup
from imbalance_lab.strategies.losses import masking
from imbalance_lab.strategies.losses.bound_loss import HeadContext
from imbalance_lab.strategies.samplers.by_class import SamplerContext

K = 5
COUNTS = np.array([7582, 1880, 41, 51, 1])
CASES = [(name, options) for name, row in LOSSES.items() for options in row["options"]]
LOSS = pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


def context(counts=COUNTS, weighted=False, order=None):
    order = np.arange(len(counts)) if order is None else order
    n = np.asarray(counts)[order]
    w = np.where(n > 0, 1 + np.arange(len(n))[order] / 2, 0.0) if weighted else None
    return HeadContext("command", tuple(f"G{i}" for i in order), n, n / n.sum(), w)


def bound(name, options, **kwargs):
    loss = lookup("loss", name, "test").options(**options).bind(context(**kwargs))
    return loss, loss.init_state(torch.device("cpu"))


def inputs(logits, target, progress=0.9, weight=None):
    features = torch.linspace(0.1, 2, logits.shape[:-1].numel() * 6, dtype=logits.dtype)
    return LossInputs(logits, target, features.reshape(*logits.shape[:-1], 6), torch.tensor(progress), weight)


def batch(shape=(4, 7), k=K, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(*shape, k, generator=g, dtype=dtype) * 2
    return z, torch.randint(0, k, shape, generator=g)


def run(name, options, z, y, progress=0.9, **kwargs):
    loss, state = bound(name, options, **kwargs)
    z = z.clone().requires_grad_()
    value, state = loss(inputs(z, y, progress), state)
    (gradient,) = torch.autograd.grad(value, z)
    return value.detach(), gradient, state


def test_every_loss_and_sampler_has_a_row():
    assert set(registry.names("loss")) == set(LOSSES)
    assert set(registry.names("sampler")) == set(SAMPLERS)


def test_the_ignored_target_is_the_data_sets():
    assert masking.IGNORE == dataset.IGNORE == F.cross_entropy.__defaults__[2]


@LOSS
@WEIGHTED
@pytest.mark.parametrize("size", [30.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_finite_on_extreme_logits(name, options, weighted, size, dtype):
    z, y = batch(dtype=torch.float32)
    z = (torch.sign(z) * size).to(dtype)
    z[0, 0] = -size  # all equal
    z[0, 1], y[0, 1] = -size, 2
    z[0, 1, 2] = size  # as right as can be
    z[0, 2], y[0, 2] = size, 2
    z[0, 2, 2] = -size  # as wrong as can be
    value, gradient, state = run(name, options, z, y, weighted=weighted)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert all(t.isfinite().all() for t in state.values() if not torch.isneginf(t).any())


@LOSS
def test_finite_without_rare_classes_and_with_classes_never_seen(name, options):
    z, y = batch()
    y = y.clamp(max=1)
    for counts in (COUNTS, np.array([100, 10, 0, 0, 1]), np.array([100, 0, 0, 0, 0])):
        target = torch.where(torch.tensor(counts)[y] > 0, y, -100)
        value, gradient, _ = run(name, options, z, target, counts=counts)
        assert value.isfinite()
        assert gradient.isfinite().all()
    assert value > 0 or name in ("balanced-softmax", "logit-adjusted", "vector-scaling")


@LOSS
def test_a_target_of_a_class_never_seen_in_training_stays_finite(name, options):
    z, y = batch()
    value, gradient, _ = run(name, options, z, y, counts=np.array([100, 10, 0, 0, 1]))
    assert value.isfinite()
    assert gradient.isfinite().all()


@LOSS
@WEIGHTED
def test_masked_positions_have_no_gradient_and_no_influence(name, options, weighted):
    z, y = batch()
    y[:, 3:5] = -100
    y[2] = -100
    value, gradient, state = run(name, options, z, y, weighted=weighted)
    masked = y == -100
    assert (gradient[masked] == 0).all()
    assert (gradient[~masked] != 0).any()
    for junk in (float("nan"), float("inf"), 1e30):
        spoiled = z.clone()
        spoiled[masked] = junk
        again, gradient2, state2 = run(name, options, spoiled, y, weighted=weighted)
        torch.testing.assert_close(again, value, rtol=1e-12, atol=0)
        assert (gradient2[masked] == 0).all()
        torch.testing.assert_close(gradient2, gradient, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(state2, state, equal_nan=True)


@LOSS
def test_nothing_scored_is_zero(name, options):
    z, y = batch()
    value, gradient, _ = run(name, options, z, torch.full_like(y, -100))
    assert gradient.abs().max() == 0
    assert value == 0 or (name == "dice" and value.isfinite())


@LOSS
@WEIGHTED
def test_permuting_the_classes_permutes_the_result(name, options, weighted):
    z, y = batch()
    y[0, :3] = -100
    order = np.array([3, 0, 4, 2, 1])
    place = torch.tensor(np.argsort(order))
    value, gradient, state = run(name, options, z, y, weighted=weighted)
    moved_y = torch.where(y == -100, y, place[y.clamp(min=0)])
    value2, gradient2, state2 = run(name, options, z[..., order], moved_y, weighted=weighted, order=order)
    torch.testing.assert_close(value2, value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient2, gradient[..., order], rtol=1e-10, atol=1e-14)
    for key, tensor in state.items():
        if tensor.shape == (K,):
            torch.testing.assert_close(state2[key], tensor[order])


@pytest.mark.parametrize("name", [n for n, row in LOSSES.items() if row["plain"] is not None])
def test_equal_counts_reduce_to_cross_entropy(name):
    z, y = batch()
    y[1, 2:] = -100
    value, gradient, _ = run(name, LOSSES[name]["plain"], z, y, counts=np.full(K, 10))
    reference = z.clone().requires_grad_()
    expected = F.cross_entropy(reference.reshape(-1, K), y.reshape(-1), ignore_index=-100)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, reference)[0], rtol=1e-9, atol=1e-11)


@LOSS
@WEIGHTED
def test_gradcheck(name, options, weighted):
    z, y = batch((2, 3), seed=3)
    y[0, 0] = -100
    loss, state = bound(name, options, weighted=weighted)
    if name in ("seesaw", "ghm", "equalization-v2") or options.get("detach"):
        pytest.skip("parts of this loss are constants to the gradient by definition; the golden gradients cover it")
    assert torch.autograd.gradcheck(lambda v: loss(inputs(v, y), state)[0], (z.requires_grad_(),))


@LOSS
@pytest.mark.parametrize("shape", [(6,), (6, 1), (3, 8), (2, 3, 4)], ids=str)
def test_any_leading_shape_gives_the_same_as_flat(name, options, shape):
    z, y = batch(shape)
    y.view(-1)[0] = -100
    flat = run(name, options, z.reshape(-1, 1, K), y.reshape(-1, 1))
    got = run(name, options, z, y)
    torch.testing.assert_close(got[0], flat[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(got[1].reshape(-1, 1, K), flat[1], rtol=1e-10, atol=1e-15)


@LOSS
def test_position_weights_scale_the_loss_and_not_its_normalisation(name, options):
    z, y = batch()
    loss, state = bound(name, options)
    half = torch.full(y.shape, 0.5, dtype=torch.float64)
    whole, _ = loss(inputs(z, y), state)
    a, _ = loss(inputs(z, y, weight=half), state)
    if options.get("over") != "batch":  # a ratio of two sums has no positions
        torch.testing.assert_close(a * 2, whole, rtol=1e-12, atol=0)
    some = half.clone()
    some[0] = 0
    b, _ = loss(inputs(z, y, weight=some), state)
    assert b != a


@LOSS
def test_the_given_state_is_not_changed_and_the_new_one_can_be_saved(name, options):
    z, y = batch()
    loss, state = bound(name, options, weighted=True)
    before = {k: v.clone() for k, v in state.items()}
    _, after = loss(inputs(z, y), state)
    torch.testing.assert_close(state, before, equal_nan=True)
    assert set(after) == set(state)
    assert {k: (v.shape, v.dtype) for k, v in after.items()} == {k: (v.shape, v.dtype) for k, v in state.items()}
    assert not any(v.requires_grad for v in after.values())


def test_weights_do_not_cancel_in_a_batch_of_one_class():
    z, y = batch()
    light, _, _ = run("cross-entropy", {}, z, torch.zeros_like(y), weighted=True)
    heavy, _, _ = run("cross-entropy", {}, z[..., [4, 1, 2, 3, 0]], torch.full_like(y, 4), weighted=True)
    torch.testing.assert_close(heavy / light, torch.tensor(3.0, dtype=torch.float64))


@LOSS
def test_no_host_synchronisation(name, options):
    """Meta tensors have no values: anything that reads one on the host fails on them."""
    loss, state = bound(name, options, weighted=True)
    state = {k: v.to("meta") for k, v in state.items()}
    z, y = batch()
    value, _ = loss(
        LossInputs(z.to("meta"), y.to("meta"), torch.ones(4, 7, 6, device="meta"), torch.tensor(0.9)), state
    )
    assert value.shape == ()


@pytest.mark.cuda
@LOSS
def test_the_same_on_cuda(name, options):
    z, y = batch()
    value, gradient, _ = run(name, options, z, y, weighted=True)
    loss, _ = bound(name, options, weighted=True)
    on = z.cuda().requires_grad_()
    x = inputs(z, y)
    got, _ = loss(LossInputs(on, y.cuda(), x.features.cuda(), torch.tensor(0.9)), loss.init_state(torch.device("cuda")))
    torch.testing.assert_close(got.detach().cpu(), value, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(got, on)[0].cpu(), gradient, rtol=1e-8, atol=1e-11)


# ---- samplers ------------------------------------------------------------------------------


def labels(n=400, length=6, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(4, p=[0.85, 0.1, 0.04, 0.01], size=(n, length)).astype(np.int64)
    y[rng.random(y.shape) < 0.1] = -100
    y[5] = -100
    return y


def make_sampler(name, y, options=None):
    counts = np.bincount(y[y >= 0], minlength=5)  # class 4 has no example
    bind = lookup("sampler", name, "test").options(**(options or {})).bind
    return bind(SamplerContext(y, tuple("abcde"), counts, "test"))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("progress", [0.0, 0.5, 0.999])
def test_samplers_draw_what_they_say(name, progress):
    y = labels()
    sampler = make_sampler(name, y)
    expected = sampler.sequence_probabilities(progress)
    assert expected.shape == (len(y),)
    np.testing.assert_allclose(expected.sum(), 1)
    drawn = sampler.draw(200_000, torch.Generator().manual_seed(1), progress)
    assert drawn.dtype == torch.int64
    assert drawn.min() >= 0
    assert drawn.max() < len(y)
    seen = np.bincount(drawn.numpy(), minlength=len(y)) / 200_000
    assert (seen[expected == 0] == 0).all()
    z = (seen - expected) / np.sqrt(np.maximum(expected, 1e-12) / 200_000)
    assert np.abs(z).max() < 6


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_follow_their_generator(name):
    sampler = make_sampler(name, labels())
    draws = [sampler.draw(1000, torch.Generator().manual_seed(s), 0.3) for s in (7, 7, 8)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("name", [n for n, row in SAMPLERS.items() if row["natural"] is not None])
def test_samplers_reduce_to_natural(name):
    y = labels()
    y = np.where(y == -100, 0, y)  # sequences of equal length
    sampler = make_sampler(name, y, SAMPLERS[name]["natural"])
    np.testing.assert_allclose(sampler.sequence_probabilities(0.5), 1 / len(y), rtol=1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_work_for_single_positions(name):
    y = labels(300, 1)
    sampler = make_sampler(name, y)
    assert sampler.draw(10, torch.Generator().manual_seed(0), 0.5).shape == (10,)


# ---- cards and YAML ------------------------------------------------------------------------

EXAMPLES = {
    "ratio": {"ratio": 10},
    "explicit": {"explicit": {"G0": 0.1, "G1": 2}},
    "estimator": {"estimator": "sklearn.ensemble:ExtraTreesClassifier"},
}


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda e: f"{e.slot}-{e.name}")
def test_yaml_round_trip(entry):
    value = EXAMPLES.get(entry.name, entry.name)
    spec = parse_strategy("s", {entry.slot: value})
    text = yaml.safe_dump(spec.to_mapping())
    assert parse_strategy("s", yaml.safe_load(text)) == spec
    assert spec.to_mapping()


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda e: f"{e.slot}-{e.name}")
def test_every_entry_has_a_card(entry):
    assert tuple(sections(entry)) == SECTIONS
    assert all(sections(entry).values())
    assert entry.summary.endswith((".", ")"))
    assert len(entry.search) <= 2


def test_cards_on_disk_are_up_to_date(pytestconfig):
    folder = pytestconfig.rootpath / "docs" / "strategies"
    for name, text in pages().items():
        assert (folder / name).read_text(encoding="utf-8") == text, (
            f"run python -m imbalance_lab.strategies.language.option_cards {folder}"
        )
