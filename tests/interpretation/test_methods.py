"""Each method against what it must give on networks whose answer is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.data import preprocessing
from imbalance_lab.data.dataset import IGNORE, LoadedData, SequenceDataset, Splits
from imbalance_lab.errors import InputError
from imbalance_lab.interpretation.ablation import head_ablation
from imbalance_lab.interpretation.attention_maps import attention_maps
from imbalance_lab.interpretation.attribution import (
    INTEGRATED,
    SALIENCY,
    attribute,
    channel_shares,
    channel_table,
    heat,
    offset_shares,
)
from imbalance_lab.interpretation.drops import metric_drop
from imbalance_lab.interpretation.embeddings import embeddings
from imbalance_lab.interpretation.interpreting import interpret
from imbalance_lab.interpretation.parts import figures_of, tables
from imbalance_lab.interpretation.passes import Job, confusions_of, counting_for
from imbalance_lab.interpretation.permutation import cumulative_importance, permutation_importance, steps_of
from imbalance_lab.interpretation.permuted_inputs import Feature, channels, correlated, frames
from imbalance_lab.interpretation.randomised import randomised, sanity_check
from imbalance_lab.interpretation.scored import (
    Cases,
    choose_cases,
    choose_windows,
    cluster_mean,
    make_scored,
    subset,
)
from imbalance_lab.interpretation.temporal import block_importance, context_curve, offset_importance
from imbalance_lab.learners.classical_learner import prepare_classical
from imbalance_lab.learners.table_binding import bind_table
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.metrics.counts import metric_by_name
from imbalance_lab.metrics.curves import enough
from imbalance_lab.models.build import build_network, make_blueprint
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.models.network import Network
from imbalance_lab.plots.style import title_of
from imbalance_lab.report.interpretation_report import headline
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.training.course import selection_of
from imbalance_lab.training.precision import matrix_products
from imbalance_lab.training.resident import SharedRows

MACRO = metric_by_name("macro_f1")


def dataset(n=24, steps=10, channels=4, length=None, classes=("A", "B"), seed=0) -> SequenceDataset:
    """Recordings r0..r5; the label is the sign of channel ``c1`` at the step before (per-step), or of its mean."""
    rng = np.random.default_rng(seed)
    length = steps if length is None else length
    x = rng.standard_normal((n, steps, channels)).astype(np.float32)
    sign = (np.roll(x[..., 1], 1, axis=1) > 0).astype(np.int64)
    target = sign if length == steps else np.repeat((x[..., 1].mean(axis=1) > 0)[:, None], length, axis=1)
    target = target.astype(np.int64)
    if length == steps and steps > 1:
        target[:, 0] = IGNORE
    groups = np.array([f"r{i % 6}" for i in range(n)])
    return SequenceDataset(
        continuous=x,
        categorical=rng.integers(0, 3, (n, steps, 1)),
        targets={"command": target},
        heads={"command": classes},
        groups=groups,
        channels=tuple(f"c{i}" for i in range(channels)),
        unit=np.arange(n),
        unit_position=np.tile(np.arange(length), (n, 1)),
        unit_length=np.full(n, length),
        slices={"operation": np.array([f"op{i % 2}" for i in range(n)])},
        categorical_channels=("mode",),
        categories=(("5", "3"),),
        channel_groups={"left": ("c0", "c1"), "right": ("c2",)},
    )


def loaded(data: SequenceDataset) -> LoadedData:
    rows = np.arange(len(data))
    return LoadedData(data, Splits(train=rows, val=rows, test=rows))


def network_of(data: SequenceDataset, seed=0, **options) -> Network:
    rows = np.arange(len(data))
    scaling = preprocessing.fit(data, rows)
    config = ModelConfig(**{"hidden": 16, "attention_heads": 2, **options})
    blueprint = make_blueprint(data, config, dict.fromkeys(data.heads, "linear"), {})
    return build_network(blueprint, scaling.mean, scaling.std, data, rows, seed).eval()


def fitted(data: SequenceDataset, steps=60) -> Network:
    """A few full-batch steps; enough for the one causal channel."""
    network = network_of(data)
    scored = make_scored(network, data, np.arange(len(data)))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    network.train()
    for _ in range(steps):
        logits = network.run(scored.inputs).logits["command"]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), scored.targets["command"].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def data():
    return dataset(n=48)


@pytest.fixture(scope="module")
def network(data):
    return fitted(data)


@pytest.fixture(scope="module")
def scored(network, data):
    return make_scored(network, data, np.arange(len(data)))


@pytest.fixture(scope="module")
def cases(scored):
    return choose_cases(scored.targets["command"].numpy(), scored.recording, 2, 12, 0)


# --- choosing what to look at ---------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 40), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_chosen_windows_are_distinct_and_every_large_recording_is_there(recording, limit, seed):
    codes = np.array(recording)
    chosen = choose_windows(codes, limit, seed)
    assert len(chosen) == min(limit, len(codes)) == len(set(chosen.tolist()))
    share = np.bincount(codes) / len(codes)
    for r in np.flatnonzero(share * (len(chosen) - 1) > 1):
        assert (codes[chosen] == r).any()


@given(st.integers(0, 1000), st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_cases_have_their_label_and_are_spread_over_recordings(seed, per_class):
    rng = np.random.default_rng(seed)
    target = rng.integers(-1, 3, (20, 7))
    target[target == -1] = IGNORE
    recording = rng.integers(0, 4, 20)
    found = choose_cases(target, recording, 3, per_class, seed)
    assert (target[found.window, found.position] == found.label).all()
    for c in np.unique(found.label):
        mine = found.window[found.label == c]
        assert len(mine) <= per_class
        assert len(set(mine.tolist())) == len(mine)
        could = len(np.unique(recording[(target == c).any(axis=1)]))
        assert len(np.unique(recording[mine])) == min(could, len(mine))


def test_cluster_mean_is_the_mean_and_its_interval_holds_it():
    rng = np.random.default_rng(0)
    values, recording = rng.normal(2, 1, (200, 3)), np.arange(200) % 10
    values[0, 0] = np.nan
    mean, low, high = cluster_mean(values, recording, 0)
    assert mean == pytest.approx(np.nanmean(values, axis=0))
    assert (low < mean).all()
    assert (mean < high).all()
    _, low, _ = cluster_mean(values, np.zeros(200, dtype=int), 0)
    assert np.isnan(low).all()


# --- batched passes -------------------------------------------------------------------------------


def test_batched_jobs_equal_passes_one_at_a_time(scored, network, monkeypatch):
    rng = np.random.default_rng(3)
    n = len(scored)
    jobs = [
        Job(),
        *(Job(rng.permutation(n), (1, 2), (0,)) for _ in range(3)),
        Job(rng.permutation(n), (1,), (), (2, 3)),
    ]
    jobs.append(Job(head_mask=(0.0, 1.0)))
    counting = counting_for(scored)
    whole = list(confusions_of(scored, jobs, counting))
    monkeypatch.setattr(type(scored), "rows_per_pass", lambda self: 7)
    pieces = list(confusions_of(scored, jobs, counting))
    target = scored.targets["command"]
    for job, a, b in zip(jobs, whole, pieces, strict=True):
        assert (a["command"] == b["command"]).all()
        values, _, categorical = (x.clone() for x in scored.inputs)
        if job.order is not None:
            steps = list(job.steps) if job.steps else list(range(scored.steps))
            for s in steps:
                values[:, s, list(job.continuous)] = scored.inputs.values[job.order][:, s, list(job.continuous)]
                categorical[:, s, list(job.categorical)] = scored.inputs.categorical[job.order][
                    :, s, list(job.categorical)
                ]
        mask = None if job.head_mask is None else torch.tensor(job.head_mask)
        with torch.no_grad():
            pred = network.run(scored.inputs._replace(values=values, categorical=categorical), head_mask=mask)
        pred = pred.logits["command"].argmax(-1)
        for r in range(6):
            mine = torch.from_numpy(scored.recording == r)[:, None] & (target != IGNORE)
            assert int(a["command"][r].sum()) == int(mine.sum())
            assert int(np.trace(a["command"][r])) == int((mine & (pred == target)).sum())


def test_drop_of_nothing_is_zero_and_the_interval_covers_repeats():
    base = np.array([[[8, 2], [1, 9]], [[7, 3], [2, 8]], [[9, 1], [3, 7]]])
    same = metric_drop(base, [base, base], MACRO, 0)
    assert (same.value, same.low, same.high, same.repeat_sd) == (0, 0, 0, 0)
    chance = np.array([[[5, 5], [5, 5]]] * 3)
    worse = metric_drop(base, [chance, base], MACRO, 0)
    assert worse.value == pytest.approx(same.left - (same.left + 0.5) / 2, abs=1e-9)
    assert worse.low < worse.value < worse.high
    one = metric_drop(base[:1], [chance[:1], base[:1]], MACRO, 0)
    assert np.isfinite([one.low, one.high]).all()
    assert np.isnan(metric_drop(base[:1], [chance[:1]], MACRO, 0).low)


# --- permutation ----------------------------------------------------------------------------------


def test_features_name_every_input_once_per_kind(data):
    f = frames(data)
    assert [x.name for x in f] == ["left", "right", "other channels", "categorical channels"]
    assert sorted(i for x in f for i in x.continuous) == [0, 1, 2, 3]
    assert [x.name for x in channels(data)] == ["c0", "c1", "c2", "c3", "mode"]


def test_correlated_channels_are_found_by_rank():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 500))
    values = np.stack([a, np.exp(a), b, -a + 0.05 * b, np.zeros(500)], axis=1)
    (group,) = correlated(values, ["a", "b", "c", "d", "e"])
    assert group.continuous == (0, 1, 3)
    assert correlated(values[:, :1], ["a"]) == ()


def test_permutation_finds_the_channel_that_causes_the_label(scored, data):
    counting = counting_for(scored)
    found = permutation_importance(scored, [*frames(data), *channels(data)], counting, repeats=5)
    table = found.table
    single = table[table["kind"] == "channel"]
    assert single.iloc[0]["feature"] == "c1"
    assert bool(single.iloc[0]["counts"])
    assert single.iloc[0]["drop"] > 5 * single.iloc[1:]["drop"].abs().max()
    grouped = table[table["kind"] == "frame"].set_index("feature")["drop"]
    assert grouped.idxmax() == "left"
    assert grouped["left"] > 0.2
    assert found.base["value"].iloc[0] > 0.9
    again = permutation_importance(scored, [channels(data)[1]], counting, repeats=5).table
    assert again["drop"].iloc[0] == single.iloc[0]["drop"]  # a subset of features gives the same numbers


def test_permuting_everything_of_a_randomised_network_loses_nothing(scored, data):
    other = replace(scored, network=randomised(scored.network, 1))
    table = permutation_importance(other, channels(data), counting_for(other), repeats=5).table
    assert table["drop"].abs().max() < 0.15


def test_cumulative_curve_starts_at_the_metric_and_ends_at_chance(scored, data):
    single = list(channels(data))
    ranked = [single[1], single[0], single[2], single[3]]
    curve = cumulative_importance(scored, ranked, counting_for(scored), head="command", repeats=3)
    assert curve["k"].tolist() == [0, 1, 2, 3, 4]
    assert curve["left"].iloc[0] > 0.9
    assert curve["left"].iloc[-1] < 0.7
    assert enough(curve)["k"] == 1
    assert enough(pd.DataFrame({"left": [0.5, 0.5], "k": [0, 1]})) is None
    assert steps_of(20) == [1, 2, 3, 5, 8, 13, 20]


# --- attribution ----------------------------------------------------------------------------------


def test_integrated_gradients_sum_to_the_change_of_the_score(scored, cases):
    found = attribute(scored, "command", cases, steps=64)
    total = found.values[INTEGRATED].sum(axis=(1, 2))
    assert total == pytest.approx(found.score - found.baseline_score, abs=0.05)
    assert found.delta == pytest.approx(total - (found.score - found.baseline_score), abs=1e-3)
    assert found.relative_delta < 0.02
    assert attribute(scored, "command", cases, steps=2).relative_delta > found.relative_delta


def test_attribution_names_the_causal_channel_and_its_moment(scored, cases, data):
    found = attribute(scored, "command", cases, steps=32)
    for method in (INTEGRATED, SALIENCY):
        shares = np.nanmean(channel_shares(found, method), axis=0)
        assert shares.argmax() == 1
    offsets, by_offset = offset_shares(found, INTEGRATED)
    assert offsets[np.nansum(by_offset, axis=0).argmax()] in (-1, 0)
    assert np.nansum(by_offset, axis=1) == pytest.approx(1)
    table = channel_table(found, data.channels, ("A", "B"))
    assert table.groupby(["method", "class"])["share"].sum().to_numpy() == pytest.approx(1)
    picture = heat(found, INTEGRATED, 1, 3)
    assert picture.shape == (4, 7)
    assert np.unravel_index(picture.argmax(), picture.shape)[0] == 1


def test_windows_that_share_rows_are_scored_as_held_ones_are():
    shared = load_data(parse_options({"source": "simulated", "n_recordings": 6, "window": {"length": 16, "stride": 4}}))
    held = replace(
        shared.dataset,
        continuous=np.asarray(shared.dataset.continuous),
        categorical=np.asarray(shared.dataset.categorical),
    )
    network, rows = network_of(held), shared.splits.test
    one, other = make_scored(network, held, rows), make_scored(network, shared.dataset, rows)
    assert isinstance(other.source, SharedRows)
    assert other.source.continuous.data_ptr() == shared.dataset.continuous.table.ctypes.data  # no copy of a row
    assert one.shape == other.shape == (16, *(x.shape[2] for x in (held.continuous, held.categorical)))
    for part, whole in zip(subset(other, np.arange(0, len(rows), 3)).inputs, one.inputs, strict=True):
        assert torch.equal(part, whole[::3])
    cases = choose_cases(one.targets["command"].numpy(), one.recording, 4, 6, 0)
    found = [attribute(data, "command", cases, steps=2).values[INTEGRATED] for data in (one, other)]
    assert found[0].any()
    np.testing.assert_array_equal(*found)
    pd.testing.assert_frame_equal(
        *(offset_importance(d, "command", cases, [-1, 0], repeats=1, seed=0) for d in (one, other))
    )


def test_a_slow_channel_without_influence_gets_no_attribution():
    data = dataset(n=48)
    slow = data.continuous.copy()
    # An almost constant channel: its differences are read on a scale a million times finer than its values.
    slow[..., 3] = 5 + np.arange(48)[:, None] + 1e-5 * slow[..., 3]
    data = replace(data, continuous=slow)
    scored = make_scored(fitted(data), data, np.arange(48))
    found = attribute(
        scored, "command", choose_cases(scored.targets["command"].numpy(), scored.recording, 2, 12, 0), steps=32
    )
    shares = np.nanmean(channel_shares(found, INTEGRATED), axis=0)
    assert shares[1] > 2 * shares[3]


def test_randomisation_check_is_one_with_itself_and_lower_with_random_weights(scored, cases):
    found = attribute(scored, "command", cases, steps=8)
    itself = sanity_check(found, found)
    assert itself["correlation"].to_numpy() == pytest.approx(1)
    other = attribute(replace(scored, network=randomised(scored.network, 1)), "command", cases, steps=8)
    table = sanity_check(found, other).set_index(["method", "over"])
    assert table.loc[(INTEGRATED, "cells"), "correlation"] < 0.8


def test_randomised_draws_every_weight_and_leaves_the_original(network):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    other = randomised(network, 1)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert torch.equal(other.scaler.mean, network.scaler.mean)
    changed = {k for k, v in other.state_dict().items() if not torch.equal(v, before[k])}
    assert {"encoder.lstm.weight_ih_l0", "encoder.attention.query.weight", "classifiers.0.weight"} <= changed


# --- attention ------------------------------------------------------------------------------------


def test_attention_rows_sum_to_one_and_uniform_weights_have_known_numbers(scored, cases):
    network = randomised(scored.network, 0)
    with torch.no_grad():
        for part in (network.encoder.attention.query, network.encoder.attention.key_value):
            part.weight.zero_()
            part.bias.zero_()
    found = attention_maps(replace(scored, network=network), "command", ("A", "B"), cases.take(np.arange(3)))
    assert found.mean["encoder"].sum(axis=-1) == pytest.approx(1)
    assert found.heads["entropy"].to_numpy() == pytest.approx(np.log(10), abs=1e-5)
    assert found.heads["distance"].to_numpy() == pytest.approx(found.heads["distance_uniform"].to_numpy(), abs=1e-5)
    assert found.profile["weight"].to_numpy() == pytest.approx(0.1, abs=1e-6)
    assert found.cases.groupby(["case", "attention_head"])["weight"].sum().to_numpy() == pytest.approx(1)
    assert len(found.chosen) == 3


def test_ablation_of_all_heads_changes_what_one_head_alone_need_not(scored):
    table = head_ablation(scored, counting_for(scored))
    assert table["ablated"].tolist() == ["attention head 0", "attention head 1", "all attention heads"]
    with torch.no_grad():
        silent = randomised(scored.network, 0)
        silent.encoder.attention.output.weight.zero_()
    unused = head_ablation(replace(scored, network=silent), counting_for(scored))
    assert unused["drop"].to_numpy() == pytest.approx(0)


# --- time -----------------------------------------------------------------------------------------


def test_the_causal_moment_costs_most_and_little_context_is_enough(scored, cases):
    table = offset_importance(scored, "command", cases, range(-4, 5), repeats=3)
    assert table.loc[table["drop"].idxmax(), "offset"] == -1
    assert table["drop"].max() > 0.2
    inside = (cases.position[:, None] + np.arange(-4, 5) >= 0) & (cases.position[:, None] + np.arange(-4, 5) < 10)
    assert table["n"].tolist() == inside.sum(axis=0).tolist()
    curve = context_curve(scored, "command", cases, (0, 1, 3), repeats=3)
    assert curve["reach"].tolist() == [0, 1, 3, 9]
    assert curve["probability"].iloc[-1] > 0.9
    assert curve["probability"].iloc[0] < curve["probability"].iloc[2]


def test_blocks_of_a_target_without_steps(data):
    tokens = dataset(n=24, length=3)
    scored = make_scored(network_of(tokens), tokens, np.arange(24))
    table = block_importance(scored, counting_for(scored), head="command", blocks=4, repeats=2)
    assert table["first_step"].tolist()[0] == 0
    assert table["last_step"].tolist()[-1] == 9
    assert (table["first_step"].to_numpy()[1:] == table["last_step"].to_numpy()[:-1] + 1).all()


# --- embeddings -----------------------------------------------------------------------------------


def test_separable_features_are_pure_and_shuffled_ones_are_chance(scored, data):
    points = choose_cases(scored.targets["command"].numpy(), scored.recording, 2, 60, 0, one_per_window=False)
    found = embeddings(scored, points, ("A", "B"), {"operation": data.slices["operation"]})
    by_class = found.separation[found.separation["by"] == "class"]
    assert (by_class["rate"] > 0.8).all()
    assert (by_class["low"] <= by_class["rate"]).all()
    assert found.variance["cumulative"].iloc[-1] <= 1 + 1e-9
    assert 0.5 < found.maps["trustworthiness"].iloc[0] <= 1
    rng = np.random.default_rng(0)
    shuffled = Cases(points.window, points.position, rng.permutation(points.label))
    random = embeddings(scored, shuffled, ("A", "B"), {})
    assert (random.separation["rate"] - 0.5).abs().max() < 0.2


# --- everything -----------------------------------------------------------------------------------


def test_interpret_measures_everything_on_a_sequence_network(network, data):
    seen = []
    found = interpret(network, loaded(data), "quick", progress=seen.append)
    names = set(tables(found))
    assert {"permutation", "offsets", "context", "attention_heads", "head_ablation", "attribution_sanity"} <= names
    assert seen == list(found.seconds)
    assert "c1" in headline(found) or "left" in headline(found)
    again = interpret(network, loaded(data), "quick")
    for name, table in tables(found).items():
        pd.testing.assert_frame_equal(table, tables(again)[name])
    assert all(title_of(f) for f in figures_of(found).values())
    assert not any("simulated" in s for s in found.summary)


def test_what_does_not_apply_is_absent_with_a_reason():
    table = dataset(n=40, steps=1, length=1)
    x = table.continuous[:, 0, 1] > 0
    table = replace(table, targets={"command": x[:, None].astype(np.int64)}, channel_groups={})
    found = interpret(network_of(table), loaded(table), "quick")
    assert found.attention is None
    assert found.ablation is None
    assert found.offsets is None
    assert found.absent["attention"] == "the network has no attention layer"
    assert "one step" in found.absent["offsets"]
    assert found.attribution is not None
    drawn = figures_of(found)
    assert "attention_encoder" not in drawn
    assert "importance_channels" in drawn


def test_classical_classifiers_are_permuted_and_the_rest_is_absent():
    table = dataset(n=120, steps=1, length=1)
    x = table.continuous[:, 0, 1] > 0
    table = replace(table, targets={"command": x[:, None].astype(np.int64)}, channel_groups={})
    everything = loaded(table)
    strategy = parse_strategy("forest", {"table": {"plain": {"classifier": "random-forest"}}})
    trial = prepare_classical(everything, strategy, bind_table(strategy, everything, 0), 0)
    list(trial.train(selection_of("auto/macro_f1", table.heads, "command")))
    model = trial.predictor
    probabilities = trial.predict("test", {}).heads["command"].probabilities
    seen = model.run(make_scored(model, table, everything.splits.test).inputs).logits["command"][:, 0].softmax(-1)
    np.testing.assert_allclose(seen.numpy(), probabilities, atol=1e-6)
    found = interpret(model, everything, "quick")
    assert found.permutation.table["feature"].iloc[0] == table.channels[1]
    assert found.permutation.table["drop"].iloc[0] > 0.3
    for part in ("attention", "ablation", "attribution", "embeddings"):
        assert "a classical classifier has no" in found.absent[part]
        assert getattr(found, part) is None
    drawn = set(figures_of(found))
    assert "importance_channels" in drawn
    assert not any(name.startswith(("attention", "embedding", "attribution")) for name in drawn)


def test_token_targets_read_the_decoder(data):
    tokens = dataset(n=24, length=3)
    found = interpret(network_of(tokens), loaded(tokens), "full")
    assert set(found.attention.mean) == {"encoder", "decoder"}
    assert found.attention.mean["decoder"].shape == (2, 3, 10)
    assert found.blocks is not None
    assert found.offsets is None
    assert "blocks" in figures_of(found)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"head": "x"}, "allowed are command"), ({"budget": "huge"}, "quick, full"), ({"metric": "luck"}, "macro_f1")],
)
def test_bad_arguments_are_named(network, data, options, word):
    with pytest.raises(InputError, match=word):
        interpret(network, loaded(data), **options)


def test_a_split_without_labels_is_refused(network, data):
    empty = replace(data, targets={"command": np.full_like(data.targets["command"], IGNORE)})
    with pytest.raises(InputError, match="no scored position"):
        interpret(network, loaded(empty))


def test_feature_size_counts_both_kinds():
    assert Feature("x", "frame", (0, 1), (2,)).size == 3


def test_nothing_is_interpreted_in_rounded_matrix_products(network, data, monkeypatch):
    """TF32 stays off in every pass, also where a process has switched it on, which is as it was afterwards."""
    seen = set()
    run = type(network).run

    def watched(self, inputs, **keywords):
        seen.add((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return run(self, inputs, **keywords)

    monkeypatch.setattr(type(network), "run", watched)
    with matrix_products(tf32=True):
        interpret(network, loaded(data))
        assert torch.backends.cuda.matmul.allow_tf32
    assert seen == {(False, False)}
