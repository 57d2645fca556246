"""Networks: shapes, masks, what missing inputs do, and building the same network again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from imbalance_lab.data import preprocessing
from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.models.attention import Attention
from imbalance_lab.models.build import Blueprint, build_network, make_blueprint, rebuild_network
from imbalance_lab.models.dropout import Dropout
from imbalance_lab.models.heads import Classifier
from imbalance_lab.models.inputs import CLIP, Differences, InputScaler, difference_scale
from imbalance_lab.models.model_config import Denoising, ModelConfig

HEADS = {"command": ("G0", "G1", "G2"), "type": ("X", "XY")}


def dataset(n: int = 6, steps: int = 16, length: int = 16, channels: int = 5) -> SequenceDataset:
    rng = np.random.default_rng(0)
    continuous = rng.normal(3.0, 2.0, (n, steps, channels)).astype(np.float32)
    return SequenceDataset(
        continuous=continuous,
        categorical=rng.integers(0, 3, (n, steps, 1)),
        targets={h: rng.integers(0, len(c), (n, length)) for h, c in HEADS.items()},
        heads=HEADS,
        groups=np.array([f"r{i}" for i in range(n)]),
        channels=tuple("abcde"[:channels]),
        categorical_channels=("stat",),
        categories=(("5", "3"),),
        channel_groups={"frame": ("a", "b"), "motor": ("c",)},
        unit=np.arange(n),
        unit_position=np.tile(np.arange(length), (n, 1)),
        unit_length=np.full(n, length),
    )


def network(data: SequenceDataset, kind: str = "linear", **config: object):
    model = ModelConfig(hidden=16, attention_heads=2, **config)
    blueprint = make_blueprint(data, model, dict.fromkeys(HEADS, kind), {"command": 30.0} if kind == "cosine" else {})
    flat = data.continuous.reshape(-1, data.continuous.shape[2])
    return blueprint, build_network(
        blueprint, np.nanmean(flat, 0), np.nanstd(flat, 0), data, np.arange(len(data)), seed=1
    )


@pytest.mark.parametrize(("steps", "length"), [(16, 16), (16, 5), (1, 1)])
def test_output_shapes(steps: int, length: int) -> None:
    data = dataset(steps=steps, length=length)
    _, net = network(data)
    net.eval()
    scores = net(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))
    assert {h: tuple(s.shape) for h, s in scores.items()} == {"command": (6, length, 3), "type": (6, length, 2)}
    assert all(torch.isfinite(s).all() for s in scores.values())


def test_scaler_is_part_of_the_model() -> None:
    data = dataset()
    _, net = network(data)
    net.eval()
    shifted = data.continuous.copy()
    shifted[0, 3, 2] = np.nan
    values = net.prepare(torch.from_numpy(shifted), torch.from_numpy(data.categorical)).values
    assert values[0, 3, 2] == 0
    assert abs(float(values.mean())) < 0.05
    assert float(values.std()) == pytest.approx(1.0, abs=0.05)


def test_missing_modality_adds_nothing_but_its_bias() -> None:
    data = dataset()
    _, net = network(data)
    net.eval()
    without = data.continuous.copy()
    without[:, :, :2] = np.nan
    other = without.copy()
    other[:, :, :2] = np.nan
    categorical = torch.from_numpy(data.categorical)
    a = net(torch.from_numpy(without), categorical)["command"]
    b = net(torch.from_numpy(data.continuous), categorical)["command"]
    assert torch.isfinite(a).all()
    assert not torch.allclose(a, b)


def test_attention_weights_and_fused_kernel_agree() -> None:
    torch.manual_seed(0)
    layer = Attention(16, 4, dropout=0.0).eval()
    x = torch.randn(3, 7, 16)
    fused, none = layer(x, x)
    explicit, weights = layer(x, x, weights=True)
    assert none is None
    assert weights is not None
    assert weights.shape == (3, 4, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 7))
    torch.testing.assert_close(fused, explicit, rtol=1e-5, atol=1e-6)


def test_masking_all_heads_leaves_the_bias() -> None:
    torch.manual_seed(0)
    layer = Attention(16, 4, dropout=0.0).eval()
    x = torch.randn(2, 5, 16)
    out, _ = layer(x, x, head_mask=torch.zeros(4))
    torch.testing.assert_close(out, layer.output.bias.expand_as(out))


def test_cosine_head_returns_cosines() -> None:
    torch.manual_seed(0)
    head = Classifier(8, 3, "cosine", 30.0)
    z = head(100 * torch.randn(50, 8))
    assert float(z.detach().abs().max()) <= 1 + 1e-6
    assert head.bias is None
    data = dataset()
    _, net = network(data, kind="cosine")
    net.eval()
    prepared = net.prepare(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))
    raw = net.run(prepared).logits["command"]
    torch.testing.assert_close(
        net(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))["command"], 30 * raw
    )


def test_reconstruction_only_while_training() -> None:
    data = dataset()
    _, net = network(data, denoising=Denoising(noise=0.1, frame_dropout=0.5, weight=0.1))
    prepared = net.prepare(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))
    net.train()
    assert net.run(prepared).reconstruction is not None
    net.eval()
    assert net.run(prepared).reconstruction is None


def test_same_seed_same_weights_and_round_trip() -> None:
    data = dataset()
    blueprint, a = network(data)
    _, b = network(data)
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    plain = json.loads(json.dumps(blueprint.to_mapping()))
    again = rebuild_network(Blueprint.from_mapping(plain), a.state_dict())
    inputs = torch.from_numpy(data.continuous), torch.from_numpy(data.categorical)
    a.eval()
    for head, score in a(*inputs).items():
        torch.testing.assert_close(again(*inputs)[head], score)


def test_a_network_saved_with_a_convolution_per_modality_is_the_same_network() -> None:
    data = dataset()
    blueprint, net = network(data)
    state, project = net.state_dict(), "encoder.project."
    weight, bias = state.pop(f"{project}weight"), state.pop(f"{project}bias")
    for i, channels in enumerate(blueprint.layout.modalities):
        own = torch.tensor(channels)
        state[f"{project}index_{i}"] = own
        state[f"{project}convolutions.{i}.weight"] = weight[:, torch.cat([own, len(data.channels) + own])]
        state[f"{project}convolutions.{i}.bias"] = bias[i]
    again = rebuild_network(blueprint, state)
    inputs = torch.from_numpy(data.continuous), torch.from_numpy(data.categorical)
    for head, score in net.eval()(*inputs).items():
        assert torch.equal(again(*inputs)[head], score)


@pytest.mark.parametrize(("steps", "length"), [(16, 16), (16, 5), (1, 1)])
def test_a_data_set_without_continuous_channels_has_a_network(steps: int, length: int) -> None:
    data = replace(dataset(steps=steps, length=length, channels=0), channel_groups={})
    scaling = preprocessing.fit(data, np.arange(len(data)))
    assert scaling.mean.shape == scaling.std.shape == (0,)
    blueprint = make_blueprint(data, ModelConfig(hidden=16, attention_heads=2), dict.fromkeys(HEADS, "linear"), {})
    net = build_network(blueprint, scaling.mean, scaling.std, data, np.arange(len(data)), seed=1)
    scores = net(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))
    assert scores["command"].shape == (6, length, 3)


def test_the_input_convolution_is_the_sum_of_one_per_modality() -> None:
    data = dataset()
    blueprint, net = network(data)
    project, c = net.encoder.project, len(data.channels)
    values, differences = torch.randn(2, *data.continuous.shape)
    codes = torch.from_numpy(data.categorical)
    expected = project.embeddings[0](codes[..., 0])
    for own, bias in zip(blueprint.layout.modalities, project.bias, strict=True):
        weight = project.weight[:, [*own, *(c + i for i in own)]]
        x = torch.cat([values[..., list(own)], differences[..., list(own)]], dim=-1)
        expected = expected + torch.nn.functional.conv1d(x.mT, weight, bias, padding=2).mT
    torch.testing.assert_close(project(values, differences, codes), expected, rtol=1e-5, atol=1e-5)


def test_no_two_parameters_share_the_memory_of_their_gradients() -> None:
    """Clipping works in place: a memory that two gradients share would be scaled twice."""
    data = dataset()
    _, net = network(data)
    logits = net.train().run(net.prepare(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))).logits
    sum(z.square().sum() for z in logits.values()).backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert len({g.untyped_storage().data_ptr() for g in gradients}) == len(gradients)
    assert all(0 not in g.stride() for g in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differences_are_asinh_with_its_gradient(dtype: torch.dtype) -> None:
    steps = torch.cat([torch.zeros(2), torch.logspace(-12, torch.tensor(2.0 * CLIP).log10(), 400)]).to(dtype)
    values = torch.stack([torch.zeros_like(steps), torch.cat([steps[:200], -steps[200:]])]).view(1, 2, -1)
    observed, scale = torch.ones_like(values, dtype=torch.bool), torch.full((values.shape[-1],), 1e-7, dtype=dtype)
    differences = Differences(scale).to(dtype)
    found = differences(values, observed)[0, 1]
    expected = torch.asinh((values[0, 1] - values[0, 0]) / differences.scale)
    torch.testing.assert_close(found, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)
    values = values.requires_grad_()
    (gradient,) = torch.autograd.grad(differences(values, observed)[0, 1, :2].sum(), values)
    assert gradient[0, 1, :2].tolist() == pytest.approx([1e7, 1e7], rel=1e-5)  # 1 / scale, at a difference of 0


def test_differences_ignore_missing_neighbours() -> None:
    values = torch.tensor([[[0.0], [1.0], [5.0], [5.5]]])
    observed = torch.tensor([[[True], [True], [False], [True]]])
    scale = difference_scale(values, observed)
    assert float(scale) == 1.0
    out = Differences(scale)(values, observed)[0, :, 0]
    torch.testing.assert_close(out, torch.tensor([0.0, float(np.arcsinh(1.0)), 0.0, 0.0]))


def test_scaler_clips_glitches() -> None:
    scaler = InputScaler(torch.zeros(1), torch.ones(1))
    prepared = scaler(torch.tensor([[[1e9], [float("inf")]]]), torch.zeros(1, 2, 0, dtype=torch.long))
    assert prepared.values[0, :, 0].tolist() == [10.0, 0.0]
    assert prepared.observed[0, :, 0].tolist() == [True, False]


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_zeroes_the_share_it_should_and_scales_the_rest(p):
    x = torch.full((400, 500), 3.0, requires_grad=True)
    dropout = Dropout(p)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = dropout(x)
        again = dropout(x)
    kept = out != 0
    assert torch.allclose(out[kept], torch.tensor(3 / (1 - p)))
    # 200,000 units: five standard errors of a binomial share
    assert abs(kept.double().mean().item() - (1 - p)) < 5 * (p * (1 - p) / x.numel()) ** 0.5
    assert not torch.equal(out, again)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.allclose(gradient, kept / (1 - p))
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_all_is_that_of_pytorch(p):
    x = torch.ones(3, 4)
    assert torch.equal(Dropout(p)(x), torch.nn.Dropout(p)(x))


def test_dropout_keeps_half_precision():
    x = torch.ones(3, 4, dtype=torch.bfloat16)
    assert Dropout(0.5)(x).dtype == torch.bfloat16
