"""Stacked training: every trial gets what the one-by-one trainer gives it, to rounding."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models import dataset as small_dataset
from test_models import network as small_network
from training_cases import config, selection, tiny, trial_of

from imbalance_lab.errors import InputError, NonFiniteLossError
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import Network
from imbalance_lab.models.stacked import StackedNetwork
from imbalance_lab.models.stacked_draws import Draw, draw_all
from imbalance_lab.strategies.binding import FunctionLoss
from imbalance_lab.training.course import Epoch
from imbalance_lab.training.fit import Selection, autocast_for
from imbalance_lab.training.resident import make_resident
from imbalance_lab.training.stacked.fit import fit_stacked
from imbalance_lab.training.stacked.groups import can_stack, stack_groups, worth_stacking
from imbalance_lab.training.stacked.layout import ParameterLayout
from imbalance_lab.training.stacked.losses import function_of
from imbalance_lab.training.stacked.member import Member
from imbalance_lab.training.stacked.optimizer import adamw_, clip_, rates_of
from imbalance_lab.training.stacked.stack import Stack

CPU = torch.device("cpu")
LINEAR = {
    "plain": "{}",
    "weights": "weights: inverse-sqrt",
    "focal": "loss: {focal: {gamma: 2}}",
    "logit-adjusted": "loss: {logit-adjusted: {tau: 1.0}}",
    "class-balanced sampler": "sampler: class-balanced",
    "curriculum with remix": (
        "schedule: [{for: 0.5, sampler: class-balanced}, {for: 0.5, sampler: natural, augment: remix}]"
    ),
    "deferred weights": "schedule: {deferred: {weights: balanced, start: 0.5}}",
    "crt": "schedule: {crt: {start: 0.5}}",
    "lws": "schedule: {lws: {start: 0.5}}",
    "seesaw with mixup": "{loss: seesaw, sampler: {class-balanced: {q: 0.9}}, augment: mixup}",
    "loss that looks at the progress": "loss: influence-balanced",
}
COSINE = {"ldam": "loss: ldam", "cosine head": "head: cosine"}


def precise(trial):
    """The trial in float64, where two orders of summation differ by 1e-16, not by 1e-7."""
    trial.network.double()
    return trial


def varied(texts, loaded=None, **changes):
    """One trial per strategy, each with its own seed, learning rate, decay, clip and number of epochs."""
    return [
        precise(
            trial_of(
                text,
                loaded,
                seed=i % 3,
                **{
                    "learning_rate": (0.01, 0.003, 0.02)[i % 3],
                    "weight_decay": (0.01, 0.1)[i % 2],
                    "gradient_clip": (1.0, 0.3)[i % 2],
                    "epochs": (4, 5)[i % 2],
                    **changes,
                },
            )
        )
        for i, text in enumerate(texts)
    ]


def stacked(trials, chosen=None, **options):
    """The outcomes of each trial, in order."""
    found = [[] for _ in trials]
    for place, outcome in fit_stacked(trials, chosen or selection(trials[0].loaded), **options):
        found[place].append(outcome)
    return found


def one_by_one(trials, chosen=None):
    return [list(trial.train(chosen or selection(trial.loaded))) for trial in trials]


def assert_same_epochs(found, expected, tolerance=1e-6):
    """All but the seconds; losses are summed in float32 by both trainers."""
    plain = [{k: v for k, v in asdict(e).items() if k not in ("seconds", "loss", "head_loss")} for e in found]
    assert plain == [
        {k: v for k, v in asdict(e).items() if k not in ("seconds", "loss", "head_loss")} for e in expected
    ]
    for a, b in zip(found, expected, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=tolerance)
        assert a.head_loss == pytest.approx(b.head_loss, rel=tolerance, abs=1e-9)


def assert_same_weights(a: Network, b: Network, atol=1e-7):
    """Adam divides by the root of the second moment, which turns rounding of gradients that are 0 into 1e-9."""
    assert list(a.state_dict()) == list(b.state_dict())
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(tensor, b.state_dict()[name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("texts", "length"), [(LINEAR, 6), (COSINE, 6), (LINEAR, 1)], ids=["linear", "cosine", "mlp"])
def test_every_trial_equals_the_one_by_one_trainer_with_noise_and_dropout_on(texts, length):
    loaded = tiny(length)
    alone, together = varied(texts.values(), loaded), varied(texts.values(), loaded)
    assert alone[0].model.dropout > 0
    assert alone[0].model.denoising.noise > 0
    assert stack_groups(together) == [list(range(len(texts)))]
    before = [{n: p.clone() for n, p in t.network.state_dict().items()} for t in alone]
    expected, found = one_by_one(alone), stacked(together)
    for i, name in enumerate(texts):
        assert_same_epochs(found[i], expected[i])
        assert_same_weights(together[i].network, alone[i].network)
        assert any(not torch.equal(p, before[i][n]) for n, p in together[i].network.state_dict().items()), name
        assert not together[i].network.training


@pytest.mark.parametrize(("steps", "length", "layers"), [(16, 16, 1), (16, 5, 2), (1, 1, 1)])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_stacked_network_equals_each_network_and_its_gradients(steps, length, layers, kind):
    data = small_dataset(steps=steps, length=length)
    networks = [small_network(data, kind, layers=layers)[1].double().train() for _ in range(3)]
    for k, network in enumerate(networks[1:], 1):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(k), dtype=p.dtype), alpha=0.1)
    inputs = networks[0].prepare(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))
    together = StackedNetwork(networks[0])
    plan = together.draws(inputs)
    generators = [torch.Generator().manual_seed(100 + k) for k in range(3)]
    parameters = {
        name: torch.stack([dict(n.named_parameters())[name].detach() for n in networks]).requires_grad_()
        for name, _ in networks[0].named_parameters()
    }
    repeated = Prepared(*(x.expand(3, *x.shape) for x in inputs))
    out = together.run(parameters, repeated, draw_all(plan, generators, CPU))
    assert len(plan) == {(16, 1): 5, (16, 2): 9, (1, 1): 2}[steps, layers]  # noise, frames and every dropout
    total = sum(tensor.sin().sum() for tensor in out.values())
    total.backward()
    for k, network in enumerate(networks):
        torch.manual_seed(100 + k)
        expected = network.run(inputs)
        tensors = [*expected.logits.values(), expected.features]
        if expected.reconstruction is not None:
            tensors.append(expected.reconstruction)
            torch.testing.assert_close(out["reconstruction"][k], expected.reconstruction)
        sum(tensor.sin().sum() for tensor in tensors).backward()
        for head, logits in expected.logits.items():
            torch.testing.assert_close(out[f"logits/{head}"][k], logits)
        for name, p in network.named_parameters():
            if p.grad is not None:
                torch.testing.assert_close(parameters[name].grad[k], p.grad, rtol=1e-9, atol=1e-11)
    with torch.inference_mode():
        scored = together.run({n: p.detach() for n, p in parameters.items()}, inputs)
        for k, network in enumerate(networks):
            for head, logits in network.eval().run(inputs).logits.items():
                torch.testing.assert_close(scored[f"logits/{head}"][k], logits)


def test_half_precision_stays_close():
    data = small_dataset()
    network = small_network(data, layers=2)[1]
    inputs = network.prepare(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))
    together = StackedNetwork(network)
    parameters = {n: p.detach().expand(2, *p.shape).clone().requires_grad_() for n, p in network.named_parameters()}
    repeated = Prepared(*(x.expand(2, *x.shape) for x in inputs))
    found = []
    for wanted in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=wanted):
            plan = together.draws(inputs)
            out = together.run(parameters, repeated, draw_all(plan, [None, None], CPU))
        gradient = torch.autograd.grad(out["features"].square().sum(), parameters["encoder.lstm.weight_hh_l0"])[0]
        found.append((out["features"].detach(), gradient, {d.dtype for d in plan if d.kind != "shown"}))
    assert found[0][2] == found[1][2] == {torch.float32}
    difference = (found[0][0] - found[1][0]).abs().max()
    assert 0 < float(difference) < 0.1  # the products are in half precision
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0.1, atol=0.05 * float(found[1][1].abs().max()))


@settings(deadline=None, max_examples=25)
@given(
    rates=st.lists(st.floats(1e-5, 0.1), min_size=2, max_size=4),
    decay=st.floats(0, 0.5),
    done=st.integers(0, 30),
    seed=st.integers(0, 1000),
)
def test_optimizer_equals_adamw_with_clipping(rates, decay, done, seed):
    k, steps = len(rates), 4
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(k, 7, generator=random, dtype=torch.float64)
    gradients = torch.randn(done + steps, k, 7, generator=random, dtype=torch.float64) * 3
    frozen = torch.zeros(k, 7, dtype=torch.bool)
    frozen[0, 5:] = True
    limits = torch.linspace(0.5, 20, k, dtype=torch.float64)[:, None]
    decays = [decay / (i + 1) for i in range(k)]
    expected = []
    for i in range(k):
        kept = ~frozen[i]
        p = torch.nn.Parameter(rows[i, kept].clone())
        reference = torch.optim.AdamW([p], lr=rates[i], weight_decay=decays[i])
        for g in gradients:
            p.grad = g[i, kept].clone()
            torch.nn.utils.clip_grad_norm_([p], float(limits[i]))
            reference.step()
        whole = rows[i].clone()
        whole[kept] = p.detach()
        expected.append(whole)
    first, second, own = torch.zeros_like(rows), torch.zeros_like(rows), rows.clone()
    plans = [rates_of([[r] * n for r in rates], decays, [start] * k, rows) for n, start in ((done, 0), (steps, done))]
    for g, rate in zip(gradients, [r for plan in plans for r in plan], strict=True):
        gradient = g.masked_fill(frozen, 0)
        clip_(gradient, limits)
        adamw_(own, gradient, first, second, frozen, rate)
    torch.testing.assert_close(own, torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_draws_depend_on_the_own_generator_alone_and_frozen_trials_draw_nothing():
    plan = (
        Draw("noise", (40, 9), torch.float32),
        Draw("shown", (40, 9), torch.bool, 0.3),
        Draw("keep", (40, 9), torch.float32, 0.25),
    )

    def generator(seed):
        return torch.Generator().manual_seed(seed)

    many = draw_all(plan, [generator(1), None, generator(2)], CPU)
    alone = draw_all(plan, [generator(2)], CPU)
    assert all(torch.equal(a[2], b[0]) for a, b in zip(many, alone, strict=True))
    assert not torch.equal(many[0][0], many[0][2])
    assert (many[0][1] == 0).all()
    assert many[1][1].all()
    assert (many[2][1] == 1).all()
    assert float((~many[1][0]).float().mean()) == pytest.approx(0.3, abs=0.1)
    assert many[2][0].unique().tolist() == [0.0, pytest.approx(1 / 0.75)]


def test_losses_that_are_the_same_function_are_called_once():
    def loss(text, head="command"):
        return trial_of(text).strategy.phases[0].losses[head]

    same = ("loss: {logit-adjusted: {tau: 1.0}}", "loss: {logit-adjusted: {tau: 0.5}}", "loss: balanced-softmax")
    assert len({function_of(loss(text)) for text in same}) == 1  # they differ in their constants, which are states
    assert function_of(loss("{}")) == function_of(loss("{}", "side")) == function_of(loss("weights: balanced"))
    assert function_of(loss("loss: {focal: {gamma: 2}}")) != function_of(loss("loss: {focal: {gamma: 3}}"))
    assert function_of(loss("head: cosine")) != function_of(loss("{}"))
    assert function_of(loss("head: {cosine: {scale: 10}}")) != function_of(loss("head: {cosine: {scale: 20}}"))
    assert function_of(FunctionLoss(lambda inputs, state: (inputs.logits.sum(), state))) is None


def test_trials_stop_early_at_their_own_epochs_and_the_others_go_on():
    def scores(confusion):
        """Some function of the counts whose best epoch differs between trials."""
        return np.float64(-abs(int(confusion[:, 0].sum()) - 40))

    chosen = Selection("command", scores)
    settings_ = [{"patience": 1}, {"patience": 2}, {"patience": 8, "epochs": 3}, {"patience": 3}]
    make = [lambda s=s, i=i: precise(trial_of("{}", seed=i, **{"epochs": 8, **s})) for i, s in enumerate(settings_)]
    alone, together = [m() for m in make], [m() for m in make]
    expected, found = one_by_one(alone, chosen), stacked(together, chosen)
    lengths = [len(e) for e in found]
    assert len(set(lengths)) >= 3
    assert sum(bool(e[-1].stopped) for e in found) >= 2
    for i in range(len(make)):
        assert_same_epochs(found[i], expected[i])
        assert_same_weights(together[i].network, alone[i].network)


def test_network_holds_its_best_weights_when_its_last_epoch_is_yielded():
    trials = [precise(trial_of("{}", seed=s, epochs=n)) for s, n in ((0, 2), (1, 4))]
    expected = [precise(trial_of("{}", seed=0, epochs=2))]
    one_by_one(expected)
    for place, epoch in fit_stacked(trials, selection()):
        if place == 0 and epoch.number == 2:
            assert_same_weights(trials[0].network, expected[0].network)
            break
    else:
        pytest.fail("the short trial has no second epoch")


def exploding(trial, after):
    """The trial with a loss that becomes infinite after so many steps."""

    def step(inputs, state):
        steps = state["steps"] + 1
        plain = torch.nn.functional.cross_entropy(inputs.logits.flatten(0, 1), inputs.target.flatten().clamp(min=0))
        return torch.where(steps > after, torch.inf, 1.0) * plain, {"steps": steps}

    loss = FunctionLoss(step, {"steps": torch.zeros(())})
    phase = replace(trial.strategy.phases[0], losses={"command": loss, "side": loss})
    return replace(trial, strategy=replace(trial.strategy, phases=(phase,)))


def test_a_trial_that_diverges_fails_alone_and_says_where():
    make = lambda: [  # noqa: E731
        precise(trial_of("{}")),
        exploding(precise(trial_of("{}", seed=1)), after=4),
        precise(trial_of("sampler: class-balanced", seed=2)),
    ]
    alone, together = make(), make()
    found = stacked(together)
    with pytest.raises(NonFiniteLossError) as expected:
        list(alone[1].train(selection()))
    assert [type(e) for e in found[1]] == [Epoch, NonFiniteLossError]
    assert str(found[1][-1]) == str(expected.value)
    assert "epoch 2, step 2 of 3" in str(expected.value)
    for i in (0, 2):
        assert_same_epochs(found[i], list(alone[i].train(selection())))
        assert_same_weights(together[i].network, alone[i].network)


RESUMED = [*list(LINEAR.values())[4:8], LINEAR["seesaw with mixup"]]


def test_a_killed_stack_goes_on_stacked_or_one_by_one(tmp_path):
    expected = varied(RESUMED)
    history = one_by_one(expected)
    files = [tmp_path / f"{i}.pt" for i in range(len(RESUMED))]
    names = [f"trial {i}" for i in range(len(RESUMED))]
    begun = fit_stacked(varied(RESUMED), selection(), checkpoints=files, fingerprints=names)
    for _ in islice(begun, 2 * len(RESUMED) + 2):  # within an epoch of the stack: some trials are one epoch further
        pass
    begun.close()
    copies = [file.read_bytes() for file in files]
    again = varied(RESUMED)
    found = stacked(again, checkpoints=files, fingerprints=names)
    for i in range(len(RESUMED)):
        assert_same_epochs(found[i], history[i])
        assert_same_weights(again[i].network, expected[i].network)
    for file, content in zip(files, copies, strict=True):
        file.write_bytes(content)
    single = varied(RESUMED)
    for i, trial in enumerate(single):
        assert_same_epochs(list(trial.train(selection(), files[i], names[i])), history[i])
        assert_same_weights(trial.network, expected[i].network)


def test_what_was_begun_one_by_one_goes_on_stacked(tmp_path):
    expected = varied(RESUMED)
    history = one_by_one(expected)
    files = [tmp_path / f"{i}.pt" for i in range(len(RESUMED))]
    for i, trial in enumerate(varied(RESUMED)):
        begun = trial.train(selection(), files[i], "f")
        for _ in islice(begun, i):  # none, one, ... epochs; the last trial is finished
            pass
        begun.close()
    again = varied(RESUMED)
    found = stacked(again, checkpoints=files, fingerprints=["f"] * len(files))
    for i in range(len(RESUMED)):
        assert_same_epochs(found[i], history[i])
        assert_same_weights(again[i].network, expected[i].network)


@pytest.mark.parametrize(("share", "written"), [(1e-9, [1, 4]), (math.inf, [1, 2, 3, 4])])
def test_checkpoints_take_a_share_of_the_time_and_the_last_is_written(tmp_path, monkeypatch, share, written):
    found = {0: [], 1: []}
    save = Member.save

    def noted(member, rate):
        found[member.place].append(member.course.done)
        save(member, rate)

    monkeypatch.setattr(Member, "save", noted)
    monkeypatch.setattr("imbalance_lab.training.stacked.fit._CHECKPOINT_SHARE", share)
    trials = [trial_of("{}", seed=i, epochs=4, patience=4) for i in range(2)]
    stacked(trials, checkpoints=[tmp_path / f"{i}.pt" for i in range(2)], fingerprints=["a", "b"])
    assert found == {0: written, 1: written}


def test_finished_checkpoints_are_not_trained_again_and_a_foreign_one_fails_alone(tmp_path):
    files = [tmp_path / "0.pt", tmp_path / "1.pt"]
    first = stacked(varied(["{}", "{}"]), checkpoints=files, fingerprints=["a", "b"])
    stamps = [f.stat().st_mtime_ns for f in files]
    again = varied(["{}", "{}"])
    found = stacked(again, checkpoints=files, fingerprints=["a", "other"])
    assert found[0] == first[0]  # seconds included
    assert [type(e) for e in found[1]] == [InputError]
    assert "another trial" in str(found[1][0])
    assert [f.stat().st_mtime_ns for f in files] == stamps


def test_a_single_trial_and_a_small_size_give_the_same(tmp_path):
    texts = list(LINEAR.values())[:4]
    expected, one, two = varied(texts), varied(texts[:1]), varied(texts)
    history = one_by_one(expected)
    assert_same_epochs(stacked(one)[0], history[0])
    assert_same_weights(one[0].network, expected[0].network)
    found = stacked(two, size=2)  # the others wait until one has ended
    for i in range(len(texts)):
        assert_same_epochs(found[i], history[i])
        assert_same_weights(two[i].network, expected[i].network)


def test_float32_gives_the_same_up_to_rounding():
    texts = list(LINEAR.values())[:3]
    alone = [trial_of(text, seed=i, epochs=2) for i, text in enumerate(texts)]
    together = [trial_of(text, seed=i, epochs=2) for i, text in enumerate(texts)]
    for found, expected in zip(stacked(together), one_by_one(alone), strict=True):
        for a, b in zip(found, expected, strict=True):
            assert a.loss == pytest.approx(b.loss, rel=1e-4)
            assert a.seen == b.seen


def test_groups_hold_what_can_be_trained_together():
    loaded, other = tiny(), tiny(seed=1)
    trials = [
        trial_of("{}"),
        trial_of("loss: ldam"),
        trial_of("schedule: {crt: {start: 0.5, resample: smote}}"),
        trial_of("sampler: class-balanced", seed=3, learning_rate=0.5, epochs=9, patience=1),
        trial_of("{}", other),
        trial_of("{}", batch_size=4),
        trial_of("head: {cosine: {scale: 7}}"),
        "a table",
        trial_of("{}", precision="bfloat16"),
    ]
    assert stack_groups(trials) == [[0, 3], [1, 6], [2], [4], [5], [7], [8]]
    assert stack_groups([trials[0]] * 5, most=2) == [[0], [1, 2], [3, 4]]
    assert stack_groups([trials[0]] * 5, most=9) == [[0, 1, 2, 3, 4]]
    assert loaded is trials[0].loaded
    assert [can_stack(trials[i]) for i in (0, 2, 7)] == [True, False, False]
    assert not worth_stacking(trials[0])
    assert [worth_stacking(replace(trials[i], device="cuda")) for i in (0, 2)] == [True, False]
    with pytest.raises(InputError, match=r"trial 2 \(s, seed 0\): found other data"):
        list(fit_stacked([trials[0], trials[4]], selection()))
    with pytest.raises(InputError, match=r"trial 1 \(s, seed 0\): phase 2 resamples features \('smote'\)"):
        list(fit_stacked([trials[2]], selection()))
    with pytest.raises(InputError, match="size: found 0"):
        list(fit_stacked([trials[0]], selection(), size=0))
    assert list(fit_stacked([], selection())) == []


def test_epochs_share_the_wall_time():
    found = stacked([trial_of("{}", seed=s, epochs=1) for s in range(3)])
    seconds = [e[0].seconds for e in found]
    assert len(set(seconds)) == 1
    assert 0 < seconds[0] < math.inf


def test_a_head_without_a_loss_keeps_its_weights():
    def without(trial):
        phase = trial.strategy.phases[0]
        phase = replace(phase, losses={"command": phase.losses["command"]})
        return replace(trial, strategy=replace(trial.strategy, phases=(phase,)))

    make = lambda: [without(precise(trial_of("{}"))), precise(trial_of("{}", seed=1))]  # noqa: E731
    alone, together = make(), make()
    start = together[0].network.classifier("side").weight.detach().clone()
    expected, found = one_by_one(alone), stacked(together)
    assert torch.equal(together[0].network.classifier("side").weight, start)
    assert set(found[0][0].head_loss) == {"command"}
    for i in range(2):
        assert_same_epochs(found[i], expected[i])
        assert_same_weights(together[i].network, alone[i].network)


def stack_of(trials, device):
    """A stack as :func:`fit_stacked` builds it, and its training split."""
    layout = ParameterLayout.of(trials[0].network)
    members = [Member(i, t, layout, selection(), None, "") for i, t in enumerate(trials)]
    for member in members:
        member.enter()
    autocast = autocast_for(trials[0].training, device)
    train = make_resident(trials[0].network, trials[0].loaded.dataset, trials[0].loaded.splits.train, device)
    return Stack(StackedNetwork(trials[0].network), members, autocast), train


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_steps_do_not_synchronise_with_the_host():
    trials = [trial_of(text, seed=i, device="cuda") for i, text in enumerate(list(LINEAR.values())[:5])]
    stack, train = stack_of(trials, torch.device("cuda"))
    stack.run_steps(train, stack.plan_epoch(train))  # allocations and lazy initialisation
    plan = stack.plan_epoch(train)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        total, bad_step = stack.run_steps(train, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(total).all()
    assert (bad_step == plan.steps).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_reaches_the_scores_of_the_one_by_one_trainer():
    texts = list(LINEAR.values())
    alone = [trial_of(text, tiny(n=96), seed=i, device="cuda", epochs=8) for i, text in enumerate(texts)]
    together = [trial_of(text, tiny(n=96), seed=i, device="cuda", epochs=8) for i, text in enumerate(texts)]
    best = [
        [max(e.score for e in epochs if e.best) for epochs in f(t)]
        for f, t in ((one_by_one, alone), (stacked, together))
    ]
    assert np.mean(best[1]) == pytest.approx(np.mean(best[0]), abs=0.1)


def test_steps_run_without_a_plan_of_their_own():
    trials = [trial_of("{}", seed=s) for s in range(2)]
    stack, train = stack_of(trials, CPU)
    plan = stack.plan_epoch(train)
    before = stack.rows.clone()
    total, bad_step = stack.run_steps(train, plan)
    assert total.shape == (2, 3)
    assert bad_step.tolist() == [plan.steps] * 2
    assert not torch.equal(before, stack.rows)
    assert torch.equal(stack.rows[0], stack.members[0].row)  # members see what the stack does
    assert config().batch_size == 8
