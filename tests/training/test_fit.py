"""The training loop: resume, early stopping, collapse, non-finite losses, what was seen."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_cases import config, selection, tiny, trial_of

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.errors import InputError, NonFiniteLossError
from imbalance_lab.models.network import BuiltInNetwork
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import LossInputs
from imbalance_lab.strategies.losses.bound_loss import FunctionLoss
from imbalance_lab.training.checkpoint import (
    DamagedCheckpointError,
    load_checkpoint,
    save_checkpoint,
    without_damage,
)
from imbalance_lab.training.collapse import collapse_epoch, prediction_spread
from imbalance_lab.training.feature_phase import MAX_ROWS, head_features, keep_evenly, make_bank
from imbalance_lab.training.fit import Selection, fit_steps, learning_rate_at
from imbalance_lab.training.graph import _out_of_memory
from imbalance_lab.training.precision import check_precision, matrix_products
from imbalance_lab.training.resident import make_resident

KINDS = {
    "plain": "{}",
    "curriculum": "schedule: [{for: 0.5, sampler: class-balanced}, {for: 0.5, sampler: natural, augment: remix}]",
    "crt with resampled features": "schedule: {crt: {start: 0.5, resample: smote}}",
    "crt": "schedule: {crt: {start: 0.5}}",
    "lws": "schedule: {lws: {start: 0.5}}",
    "loss with a state": "{loss: seesaw, sampler: {class-balanced: {q: 0.9}}, augment: mixup}",
    "cosine": "{loss: ldam}",
}


def done(epochs):
    return [{k: v for k, v in asdict(e).items() if k != "seconds"} for e in epochs]


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and list(a) == list(b)


@pytest.mark.parametrize("text", KINDS.values(), ids=KINDS)
def test_resumed_training_is_bit_identical(text, tmp_path):
    whole = trial_of(text)
    expected = done(whole.train(selection()))
    for stop in (1, 3):  # within the first and within the last phase
        file = tmp_path / f"{stop}.pt"
        begun = trial_of(text).train(selection(), file, "f")
        first = done(islice(begun, stop))
        begun.close()
        again = trial_of(text)
        assert first == expected[:stop]
        assert done(again.train(selection(), file, "f")) == expected
        assert same(again.network.state_dict(), whole.network.state_dict())
    weights = [w for n, w in whole.network.state_dict().items() if n.startswith("classifiers")]
    assert all(torch.isfinite(w).all() for w in weights)


def test_finished_checkpoint_yields_its_epochs_without_training(tmp_path):
    file = tmp_path / "c.pt"
    expected = list(trial_of("{}").train(selection(), file, "f"))
    again = trial_of("{}")
    begun = file.stat().st_mtime_ns
    assert list(again.train(selection(), file, "f")) == expected  # seconds included: nothing was done again
    assert file.stat().st_mtime_ns == begun


def test_checkpoint_of_another_trial_and_broken_file_are_refused(tmp_path):
    file = tmp_path / "c.pt"
    list(trial_of("{}", epochs=1).train(selection(), file, "f"))
    with pytest.raises(InputError, match="another trial"):
        list(trial_of("{}", epochs=1).train(selection(), file, "g"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        load_checkpoint(file, "f")
    save_checkpoint(file, {"fingerprint": "f", "epochs": []})
    assert load_checkpoint(file, "f")["epochs"] == []
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]  # nothing half-written stays


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_checkpoint_is_never_accepted(tmp_path_factory, at, bit, cut):
    file = tmp_path_factory.mktemp("damaged") / "c.pt"
    save_checkpoint(file, {"fingerprint": "f", "weights": {"w": torch.arange(50.0)}})
    assert without_damage(file, "f")
    content = bytearray(file.read_bytes())
    place = int(at * len(content))
    if cut:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(file, "f")
    assert not without_damage(file, "f")
    assert load_checkpoint(file, "f") is None  # the trial starts anew


def test_same_seed_same_result_and_other_seed_another():
    runs = [trial_of("sampler: class-balanced", seed=s, epochs=2) for s in (3, 3, 4)]
    losses = [[e.loss for e in run.train(selection())] for run in runs]
    assert losses[0] == losses[1] != losses[2]
    tables = [run.predict("test", {}).heads["command"].probabilities for run in runs]
    assert np.array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])


def test_training_learns_and_keeps_the_best_epoch():
    trial = trial_of("{}", epochs=8)
    epochs = list(trial.train(selection()))
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    best = max((e for e in epochs if e.best), key=lambda e: e.number)
    assert best.score == max(e.score for e in epochs)
    val = trial.predict("val", {}).heads["command"]
    kept = np.zeros((3, 3), dtype=int)
    np.add.at(kept, (val.true, val.pred), 1)
    assert kept.tolist() == best.confusion["command"]  # the network holds the weights of the best epoch


def test_early_stopping_counts_epochs_of_the_last_phase_alone(tmp_path):
    def falling(confusion, scores=iter(np.linspace(1, 0, 100))):  # noqa: B008 - one iterator is meant
        return np.float64(next(scores))

    falls = Selection("command", falling)
    file = tmp_path / "c.pt"
    trial = trial_of("schedule: [{for: 0.5}, {for: 0.5, sampler: class-balanced}]", epochs=12, patience=2)
    epochs = list(trial.train(falls, file, "f"))
    assert [e.phase for e in epochs] == [0] * 6 + [1] * 3
    assert [e.best for e in epochs] == [False] * 6 + [True, False, False]
    assert [bool(e.stopped) for e in epochs] == [False] * 8 + [True]
    assert "2 epochs" in epochs[-1].stopped
    again = trial_of("schedule: [{for: 0.5}, {for: 0.5, sampler: class-balanced}]", epochs=12, patience=2)
    assert len(list(again.train(falls, file, "f"))) == 9  # a stopped training stays stopped
    assert same(again.network.state_dict(), trial.network.state_dict())


def test_collapse_monitor_sees_a_model_that_predicts_one_class():
    trial = trial_of("{}", epochs=3, learning_rate=1e-6)
    with torch.no_grad():
        trial.network.classifier("command").bias[1] = 50.0
    epochs = list(trial.train(selection()))
    spreads = [prediction_spread(np.asarray(e.confusion["command"])) for e in epochs]
    assert [s.classes_predicted for s in spreads] == [1, 1, 1]
    assert collapse_epoch([s.collapsed for s in spreads]) == 1
    assert spreads[0].entropy == 0 < spreads[0].label_entropy
    assert collapse_epoch([True, False, True, True]) == 3
    assert collapse_epoch([True, False]) is None
    assert collapse_epoch([]) is None
    assert not prediction_spread(np.array([[5, 0], [0, 0]])).collapsed  # one class is all there is


def test_non_finite_loss_stops_with_the_place_and_what_to_do():
    trial = trial_of("{}")

    def explode(inputs, state):
        steps = state["steps"] + 1
        loss = inputs.logits.sum() * 0 + torch.where(steps > 4, torch.inf, 1.0)
        return loss, {"steps": steps}

    loss = FunctionLoss(explode, {"steps": torch.zeros(())})
    phase = replace(trial.strategy.phases[0], losses={"command": loss, "side": loss})
    broken = replace(trial, strategy=replace(trial.strategy, phases=(phase,)))
    with pytest.raises(NonFiniteLossError, match=r"epoch 2, step 2 of 3 \(strategy s.*lower the learning rate"):
        list(broken.train(selection()))


def test_seen_class_counts_are_those_of_the_drawn_sequences():
    loaded = tiny()
    train = loaded.splits.train
    natural = list(trial_of("{}", epochs=2).train(selection()))
    data = {h: loaded.dataset.class_counts(h, train).tolist() for h in loaded.dataset.heads}
    assert natural[0].seen == natural[1].seen == data  # a permutation brings every position once
    trial = trial_of("sampler: rarest-class", epochs=1)
    drawn = []
    sampler = trial.strategy.phases[0].sampler

    class Spy:
        def draw(self, size, generator, progress):
            drawn.append(sampler.draw(size, generator, progress))
            return drawn[-1]

    phase = replace(trial.strategy.phases[0], sampler=Spy())
    spied = replace(trial, strategy=replace(trial.strategy, phases=(phase,)))
    epoch = next(iter(spied.train(selection())))
    target = loaded.dataset.targets["command"][train][drawn[0].numpy()]
    assert epoch.seen["command"] == np.bincount(target[target != IGNORE], minlength=3).tolist()
    assert epoch.seen["command"][2] / sum(epoch.seen["command"]) > data["command"][2] / sum(data["command"])


def test_frozen_phase_trains_the_heads_alone():
    for text, moves in {
        "schedule: {crt: {start: 0.5}}": ("weight", "bias"),
        "schedule: {crt: {start: 0.5, resample: smote}}": ("weight", "bias"),
        "schedule: {lws: {start: 0.5}}": ("class_scale",),
    }.items():
        trial = trial_of(text)
        course = trial.train(selection())
        list(islice(course, 2))
        before = {n: p.detach().clone() for n, p in trial.network.named_parameters()}
        next(course)
        changed = {n for n, p in trial.network.named_parameters() if not torch.equal(p, before[n])}
        assert changed == {f"classifiers.{h}.{m}" for h in (0, 1) for m in moves}, text


def test_resampled_phase_sees_balanced_features():
    trial = trial_of("schedule: {crt: {start: 0.5, resample: random-over-sampling}}")
    epochs = list(trial.train(selection()))
    natural, balanced = epochs[0].seen["command"], epochs[-1].seen["command"]
    assert balanced == [max(natural)] * 3
    assert epochs[-1].seen["side"][0] == epochs[-1].seen["side"][1]
    assert epochs[2].loss > epochs[3].loss > 0
    assert set(epochs[-1].head_loss) == {"command", "side"}


def test_feature_bank_holds_the_features_of_the_frozen_network():
    trial = trial_of("schedule: {crt: {start: 0.5, resample: random-over-sampling}}")
    data = make_resident(trial.network, tiny().dataset, tiny().splits.train, torch.device("cpu"))
    own = head_features(trial.network, data)
    target = tiny().dataset.targets["command"][tiny().splits.train]
    features, labels = own["command"]
    assert labels.tolist() == target[target != IGNORE].tolist()
    with torch.inference_mode():
        every = trial.network.run(data.batch(torch.arange(len(data)))[0]).features.numpy()
    assert np.allclose(features, every[target != IGNORE])
    bank = make_bank(trial.network, data, trial.strategy, 1, 0)
    rows = {r.tobytes() for r in features[labels == 2]}
    assert {r.tobytes() for r in bank.features["command"][bank.labels["command"] == 2].numpy()} == rows
    orders = bank.orders(torch.Generator().manual_seed(0))
    parts = [bank.batch(orders, s, 7)["command"] for s in range(7)]
    assert sorted(torch.cat([y for _, y in parts]).flatten().tolist()) == sorted(bank.labels["command"].tolist())
    assert parts[0][0].shape[1:] == (1, 16)
    assert max(len(y) for _, y in parts) - min(len(y) for _, y in parts) <= 1


def test_thinning_keeps_rare_classes_whole():
    assert keep_evenly(np.array([100, 5, 40]), 60).tolist() == [27, 5, 27]
    assert keep_evenly(np.array([100, 5, 40]), 1000).tolist() == [100, 5, 40]
    assert keep_evenly(np.array([100, 0, 100]), 60).tolist() == [30, 0, 30]
    rng = np.random.default_rng(0)
    for counts in rng.integers(0, 500, size=(200, 5)):
        kept = keep_evenly(counts, 600)
        quota = kept.max()
        assert kept.sum() <= 600
        assert (kept == np.minimum(counts, quota)).all()
        assert np.minimum(counts, quota + 1).sum() > 600 or (kept == counts).all()  # no larger quota fits
    trial = trial_of("{}")
    data = make_resident(trial.network, tiny().dataset, tiny().splits.train, torch.device("cpu"))
    labels = head_features(trial.network, data, 30)["command"][1]
    full = tiny().dataset.class_counts("command", tiny().splits.train)
    assert np.bincount(labels, minlength=3).tolist() == keep_evenly(full, 30).tolist()
    assert MAX_ROWS == 20_000


def test_resampling_leaves_classes_with_too_few_rows_and_says_what_cannot_work():
    loaded = tiny(n=24, seed=5)
    counts = loaded.dataset.class_counts("command", loaded.splits.train)
    assert 0 < counts.min() < 6
    trial = trial_of("schedule: {crt: {start: 0.5, resample: smote}}", loaded)
    seen = list(trial.train(selection(loaded)))[-1].seen["command"]
    rare = int(counts.argmin())
    assert seen[rare] == counts[rare]
    assert sorted(seen)[1:] == [counts.max()] * 2
    for change, message in (
        ({"freeze_encoder": False}, "freeze_encoder: true"),
        ({"sampler": trial_of("sampler: class-balanced").strategy.phases[0].sampler}, "sampler natural only"),
        ({"augment": trial_of("augment: mixup").strategy.phases[0].augment}, "one of the two"),
    ):
        phases = (trial.strategy.phases[0], replace(trial.strategy.phases[1], **change))
        wrong = replace(trial, strategy=replace(trial.strategy, phases=phases))
        with pytest.raises(InputError, match=f"'s', phase 2, key resample.*{message}"):
            next(iter(wrong.train(selection(loaded))))


def test_learning_rate_warms_up_and_falls():
    settings = config(epochs=10, learning_rate=1.0, warmup=0.2)
    rates = [learning_rate_at(p, settings) for p in np.linspace(0, 0.999, 200)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert np.all(np.diff(rates[45:]) < 0)


def test_fit_without_a_selection_that_improves_keeps_the_first_candidate():
    trial = trial_of("{}", epochs=3)
    device = torch.device("cpu")
    splits = tiny().splits
    flat = Selection("command", lambda confusion: np.float64("nan"))
    parts = [make_resident(trial.network, tiny().dataset, i, device) for i in (splits.train, splits.val)]
    steps = fit_steps(trial.network, *parts, trial.strategy, trial.training, flat, seed=0)
    epochs = [e for e in steps if e is not None]
    assert epochs[0].best
    assert len(epochs) == 3


SHARED = ("{}", "augment: mixup", "loss: seesaw", "schedule: {crt: {start: 0.5, resample: random-over-sampling}}")


def test_trainings_that_share_a_thread_are_what_each_is_alone():
    """Steps in turn: noise, samplers, carried state and learning rates of one never reach another."""
    alone = [list(trial_of(text, seed=i).train(selection())) for i, text in enumerate(SHARED)]
    trials = [trial_of(text, seed=i) for i, text in enumerate(SHARED)]
    going = dict(enumerate(t.steps(selection()) for t in trials))
    found: list[list] = [[] for _ in trials]
    before = torch.get_rng_state()
    while going:
        for i, steps in tuple(going.items()):
            told = next(steps, "ended")
            assert torch.equal(torch.get_rng_state(), before)  # nothing is left behind between two launches
            if told == "ended":
                del going[i]
            elif told is not None:
                found[i].append(told)
    for mine, theirs in zip(found, alone, strict=True):
        assert [replace(e, seconds=0.0) for e in mine] == [replace(e, seconds=0.0) for e in theirs]


def test_steps_are_those_of_a_plain_loop():
    """The tables, the counter and what is updated in place, against a loop as a textbook writes it."""
    trial, own = trial_of("loss: seesaw", epochs=2), trial_of("loss: seesaw", epochs=2)
    epochs = list(trial.train(selection()))
    data = make_resident(own.network, tiny().dataset, tiny().splits.train, torch.device("cpu"))
    phase, config = own.strategy.phases[0], own.training
    optimizer = torch.optim.AdamW(own.network.parameters(), weight_decay=config.weight_decay, fused=True)
    state = {h: loss.init_state(torch.device("cpu")) for h, loss in phase.losses.items()}
    steps = -(-len(data) // config.batch_size)
    for e in range(2):
        own.network.train()
        generator = torch.Generator().manual_seed(derive_seed(0, "sampler", e))
        order = phase.sampler.draw(len(data), generator, e / 2)
        torch.manual_seed(derive_seed(0, "noise", e))
        total = 0.0
        for i, index in enumerate(order.split(config.batch_size)):
            progress = (e + i / steps) / 2
            optimizer.param_groups[0]["lr"] = learning_rate_at(progress, config)
            inputs, targets = data.batch(index)
            out = own.network.run(inputs)
            loss = own.model.denoising.weight * out.reconstruction
            for h in phase.losses:
                arguments = LossInputs(out.logits[h], targets[h], out.features, torch.tensor(progress))
                value, state[h] = phase.losses[h](arguments, state[h])
                loss = loss + value
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(own.network.parameters(), config.gradient_clip)
            optimizer.step()
            total += loss.item()
        assert epochs[e].loss == pytest.approx(total / steps, rel=1e-5)
        assert epochs[e].steps == steps


def test_a_checkpoint_of_another_device_goes_on_here(tmp_path):
    """On CUDA learning rate and step count are tensors, and the optimiser is told so: nothing of that is taken over."""
    file = tmp_path / "t.pt"
    whole = list(trial_of("{}").train(selection()))
    part = trial_of("{}").train(selection(), file, "x")
    next(part), next(part)
    content = load_checkpoint(file, "x")
    group = content["optimizer"]["param_groups"][0]
    group["lr"], group["capturable"] = torch.tensor(0.5), True
    save_checkpoint(file, content)
    again = list(trial_of("{}").train(selection(), file, "x"))
    assert [e.loss for e in again] == [e.loss for e in whole]


def test_bfloat16_that_a_machine_cannot_compute_is_one_sentence(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("could not create a primitive descriptor for a matmul primitive")

    check_precision(config(precision="bfloat16") if _computes_bfloat16() else config())
    monkeypatch.setattr(torch.nn.LSTM, "forward", refuse)
    check_precision(config(precision="auto"))
    with pytest.raises(InputError, match=r"training\.precision: found 'bfloat16', which cpu cannot compute .*float32"):
        check_precision(config(precision="bfloat16"))


def _computes_bfloat16():
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_only_training_rounds(precision, monkeypatch):
    """Validation, tau-normalisation and prediction are float32 without TF32 whatever the training is."""
    seen = set()
    run = BuiltInNetwork.run

    def watched(self, inputs, **keywords):
        backends = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        seen.add((self.training, torch.is_autocast_enabled("cpu"), *backends))
        return run(self, inputs, **keywords)

    if precision == "bfloat16" and not _computes_bfloat16():
        pytest.skip("this CPU has no bfloat16")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(BuiltInNetwork, "run", watched)
    trial = trial_of("posthoc: {tau-norm: {tau: auto}}", precision=precision)
    list(trial.train(selection()))
    trial.after_training("macro_f1")
    trial.predict("test", {})
    tf32 = False  # a matter of CUDA: a CPU that knows TF32 computes in float32 all the same
    assert seen == {(True, precision == "bfloat16", tf32, tf32), (False, False, False, False)}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    with matrix_products(tf32=True):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_trying_bfloat16_draws_no_random_number():
    before = torch.get_rng_state()
    with suppress(InputError):
        check_precision(config(precision="bfloat16"))
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_that_ran_out_in_a_capture_is_told_from_a_capture_that_failed():
    ended = RuntimeError("the capture was left with unjoined work")
    ended.__context__ = torch.OutOfMemoryError("while capturing")
    assert _out_of_memory(ended) is ended.__context__
    assert _out_of_memory(RuntimeError("operation not permitted when stream is capturing")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("text", ["{}", "augment: mixup", "loss: seesaw", "head: lws", "sampler: rarest-class"])
def test_a_graph_trains_as_single_launches_do(text):
    import warnings

    def epochs(graphs):
        trial = trial_of(text, device="cuda", epochs=6)
        trial.network.encoder.dropout.p = 0.0
        return [e for e in trial.steps(selection(), graphs=graphs) if e is not None], trial

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a step that cannot be captured
        (graphed, a), (eager, b) = epochs(True), epochs(False)
    for x, y in zip(graphed, eager, strict=True):
        assert x.loss == pytest.approx(y.loss, rel=1e-4)
        assert x.seen == y.seen
    for x, y in zip(a.network.parameters(), b.network.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)
