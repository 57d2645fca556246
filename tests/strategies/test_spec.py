"""Reading strategies, binding them to data, tuning."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

from imbalance_lab.errors import InputError
from imbalance_lab.spec import parse_experiment
from imbalance_lab.strategies.base import LossInputs
from imbalance_lab.strategies.bind import bind
from imbalance_lab.strategies.language import ledger, registry
from imbalance_lab.strategies.language.catalogue import catalogue, read_choice
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.strategies.language.tunable import search_space, with_values
from imbalance_lab.strategies.losses.cross_entropy import cross_entropy
from imbalance_lab.strategies.search_space import optuna_distributions

HEADS = {"command": ("G0", "G1", "G2", "G3"), "param": ("X", "Y")}


def targets(n=300, length=8, seed=0):
    rng = np.random.default_rng(seed)
    command = rng.choice(3, p=[0.8, 0.17, 0.03], size=(n, length))
    command[:, 0] = -100
    return {"command": command.astype(np.int64), "param": rng.integers(0, 2, (n, length))}


def read(text):
    return parse_strategy("s", yaml.safe_load(text), where="e.yaml")


def bound(text, **changes):
    return bind(read(text), **{"heads": HEADS, "targets": targets(), "primary": "command", "seed": 0, **changes})


GOOD = [
    "{}",
    "weights: inverse-sqrt",
    "weights: {ratio: 10}",
    "weights: {effective-number: {beta: auto}}",
    "loss: {focal: {gamma: 2}}",
    "{loss: focal, weights: balanced}",
    "sampler: rarest-class",
    "schedule: [{for: 0.5, sampler: class-balanced}, {for: 0.5, sampler: natural}]",
    "schedule: [{for: 0.2}, {for: 0.3, weights: {ratio: 5}}, {for: 0.5, loss: {focal: {gamma: 1}}, augment: remix}]",
    "loss: {logit-adjusted: {tau: 1}}",
    "{loss: ldam, schedule: {deferred: {weights: {effective-number: {beta: 0.9999}}}}}",
    "{loss: {ldam: {scale: 20}}, head: {cosine: {scale: 20}}}",
    "schedule: {crt: {resample: smote}}",
    "head: crt",
    "head: lws",
    "head: {tau-norm: {tau: 0.5}}",
    "{posthoc: [temperature, logit-adjust], augment: mixup, tune: {trials: 20}}",
    "posthoc: {thresholds: {}, temperature: {}}",
    "{sampler: class-balanced, loss: balanced-softmax, allow_double_correction: true}",
    "heads: {command: {loss: {logit-adjusted: {tau: 1.0}}, posthoc: []}, param: {}}",
    "{sampler: {class-balanced: {q: 0.5}}, weights: inverse-sqrt}",
    "sampler: {token-balanced: {target: {G0: 0.5, G1: 0.5}, head: command}}",
    "{sampler: class-balanced, heads: {param: {weights: balanced}}}",
]


@pytest.mark.parametrize("text", GOOD)
def test_round_trip(text):
    spec = read(text)
    again = parse_strategy("s", yaml.safe_load(yaml.safe_dump(spec.to_mapping())))
    assert again == spec
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"


@pytest.mark.parametrize("text", GOOD)
def test_every_good_strategy_binds_and_trains_a_step(text):
    strategy = bound(text)
    assert strategy.phases[0].start == 0
    assert strategy.phases[-1].stop == 1
    for a, b in zip(strategy.phases, strategy.phases[1:], strict=False):
        assert a.stop == b.start
    for phase in strategy.phases:
        index = phase.sampler.draw(16, torch.Generator().manual_seed(0), phase.start)
        for head, loss in phase.losses.items():
            target = torch.as_tensor(targets()[head])[index]
            logits = torch.randn(*target.shape, len(HEADS[head]), requires_grad=True)
            x = LossInputs(logits, target, torch.ones(*target.shape, 3), torch.tensor(phase.start))
            value, _ = loss(x, loss.init_state(torch.device("cpu")))
            value.backward()
            assert value.isfinite()
            assert logits.grad.isfinite().all()
            if head == "command":
                assert (logits.grad[target == -100] == 0).all()


BAD = [
    (
        "loss: {focal: {gamma: -1}}",
        r"'s', all heads, key loss.focal.gamma: found -1; allowed: greater than or equal to 0",
    ),
    ("loss: {focal: {gamma: .nan}}", "key loss.focal.gamma: found nan"),
    ("loss: {focal: {gama: 1}}", "key loss.focal: found unknown option 'gama'; allowed: gamma"),
    ("loss: {focal: 2}", "key loss.focal: found 2; allowed: a mapping of gamma"),
    ("loss: focl", "key loss: found 'focl'; allowed: cross-entropy, focal"),
    ("heads: {command: {loss: focl}}", "head 'command', key loss: found 'focl'"),
    ("heads: {command: {sampler: natural}}", "head 'command': found unknown key 'sampler'"),
    ("weigths: balanced", "unknown key 'weigths' .did you mean 'weights'"),
    ("weights: ratio", "key weights.ratio: found nothing"),
    ("weights: {ratio: 0}", "key weights.ratio: found 0; allowed: greater than 0"),
    ("weights: {explicit: {G0: -1}}", "key weights.explicit.G0: found -1"),
    ("weights: {explicit: {G0: 0}}", "at least one weight must be above 0"),
    ("weights: {effective-number: {beta: 1.5}}", "weights.effective-number.beta: found 1.5"),
    ("weights: [balanced]", "key weights: found .'balanced'.; allowed: a name"),
    ("schedule: [{for: 0.5}, {for: 0.4}]", "key schedule: found phases whose 'for' sums to 0.9; allowed: a sum of 1"),
    ("schedule: [{sampler: natural}]", "phase 1: found no 'for'"),
    ("schedule: [{for: 0}, {for: 1}]", "phase 1, key for: found 0"),
    ("schedule: [{for: 1, posthoc: temperature}]", "phase 1: found unknown key 'posthoc'"),
    ("schedule: {deferred: {weights: foo}}", "schedule.deferred, phase 2, key weights: found 'foo'"),
    ("schedule: {crt: {resample: foo}}", "key resample: found 'foo'; allowed: random-over-sampling"),
    (
        "{weights: balanced, loss: balanced-softmax}",
        "corrected 2 times, by loss balanced-softmax .1. and weights balanced",
    ),
    ("{weights: {ratio: 10}, sampler: class-balanced}", "corrected 2 times"),
    ("{sampler: class-balanced, heads: {command: {loss: logit-adjusted}}}", "head 'command': the class prior"),
    ("{loss: logit-adjusted, posthoc: {logit-adjust: {tau: 1}}}", "corrected 2 times"),
    ("schedule: [{for: 0.5}, {for: 0.5, sampler: class-balanced, weights: balanced}]", "corrected 2 times"),
    ("{loss: ldam, head: linear}", "key loss: found 'ldam' on a head of kind 'linear'; allowed: head cosine"),
    ("{loss: ldam, heads: {command: {head: linear}}}", "head 'command', key loss: found 'ldam'"),
    ("{loss: ldam, head: {cosine: {scale: 10}}}", "key head.cosine.scale: found 10; allowed: ldam's scale, 30"),
    ("{head: crt, schedule: [{for: 1}]}", "key head: found 'crt' beside a schedule"),
    ("{table: smote, loss: focal}", "key loss: found beside table 'smote'"),
    ("posthoc: [temperature, temperature]", "found the same step twice"),
    ("tune: {trials: 0}", "key tune.trials: found 0"),
    ("allow_double_correction: perhaps", "key allow_double_correction: found 'perhaps'"),
    ("3", "'s', all heads: found 3; allowed: a mapping"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[t for t, _ in BAD])
def test_bad_input_is_one_clear_sentence(text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(text)
    assert str(caught.value).startswith("e.yaml: strategy 's', ")
    assert "\n" not in str(caught.value)


BAD_BOUND = [
    (
        "weights: {explicit: {G0: 1, G1: 1, G2: 1, G9: 1}}",
        "head 'command', key weights.explicit: weight for unknown class 'G9'",
    ),
    (
        "heads: {command: {weights: {explicit: {G0: 1, G1: 1}}}}",
        "head 'command', key weights.explicit: no weight for class 'G2'",
    ),
    ("heads: {spindle: {weights: balanced}}", "head 'spindle': no such head; allowed: command, param"),
    ("sampler: {class-balanced: {head: spindle}}", "key sampler.head: found 'spindle'"),
    ("sampler: {token-balanced: {target: {G9: 1}}}", "head 'command', key sampler: share for unknown class 'G9'"),
    ("table: smote", "key table: found 'smote'"),
    ("{sampler: rarest-class, loss: logit-adjusted}", "corrected 2 times"),
    ("{schedule: {crt: {resample: smote, weights: balanced}}}", "corrected 2 times, by weights.*resample smote"),
    (
        "{loss: balanced-softmax, heads: {command: {weights: {explicit: {G0: 0.1, G1: 1, G2: 3}}}}}",
        "head 'command': the class",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD_BOUND, ids=[t for t, _ in BAD_BOUND])
def test_what_only_the_data_can_refuse(text, message):
    with pytest.raises(InputError, match=message):
        bound(text)


def test_a_sampler_needs_training_examples_of_its_head():
    empty = {**targets(), "command": np.full((300, 8), -100)}
    with pytest.raises(InputError, match="head 'command', key sampler: found 'class-balanced'"):
        bound("sampler: class-balanced", targets=empty)
    assert bound("weights: balanced", targets=empty).notes["excluded_classes"]["command"] == list(HEADS["command"])


def test_classes_without_examples_are_excluded_and_named():
    strategy = bound("{weights: balanced, loss: focal}")
    assert strategy.notes["excluded_classes"] == {"command": ["G3"]}
    weights = strategy.notes["class_weights"]["phase 1"]["command"]
    assert weights["G3"] == 0
    counts = strategy.notes["class_counts"]["command"]
    total = sum(counts.values())
    assert sum(weights[c] * n for c, n in counts.items()) / total == pytest.approx(1, abs=1e-12)
    assert weights["G2"] / weights["G0"] == pytest.approx(counts["G0"] / counts["G2"])


def test_the_prior_is_that_of_the_data_as_sampled():
    y = {
        "command": targets(2000, 1)["param"] * 0
        + np.random.default_rng(0).choice(3, p=[0.8, 0.17, 0.03], size=(2000, 1))
    }
    heads = {"command": HEADS["command"]}
    text = "{sampler: class-balanced, loss: logit-adjusted, allow_double_correction: true}"
    strategy = bound(text, targets=y, heads=heads)
    shares = strategy.notes["expected_shares"]["phase 1"]["command"]
    assert [shares[c] for c in ("G0", "G1", "G2")] == pytest.approx([1 / 3] * 3)
    state = strategy.phases[0].losses["command"].init_state(torch.device("cpu"))
    torch.testing.assert_close(state["offset"][:3], torch.full((3,), np.log(1 / 3), dtype=torch.float64))
    # the sampler has corrected all there is: the loss has nothing left to correct
    assert strategy.prior_correction["command"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "power"),
    [
        ("{}", 0),
        ("loss: focal", 0),
        ("weights: balanced", 1),
        ("weights: inverse-sqrt", 0.5),
        ("loss: {logit-adjusted: {tau: 0.7}}", 0.7),
        ("schedule: {deferred: {weights: balanced}}", 1),
        ("schedule: [{for: 0.5, weights: balanced}, {for: 0.5}]", 0),
        ("{loss: {logit-adjusted: {tau: 0.5}}, weights: inverse-sqrt}", 1),
    ],
)
def test_prior_correction(text, power):
    assert bound(text).prior_correction["command"] == pytest.approx(power, abs=1e-6)


def test_ledger_powers():
    counts = np.array([1000, 100, 10, 0])
    n = np.maximum(counts, 1).astype(float)
    assert ledger.power_of_weights(np.where(counts > 0, n**-0.7, 0), counts) == pytest.approx(0.7)
    assert ledger.power_of_shares(np.where(counts > 0, 1 / 3, 0), counts) == pytest.approx(1)
    assert ledger.power_of_shares(counts / counts.sum(), counts) == pytest.approx(0)
    assert ledger.power_of_weights([1, 10], [100, 99]) == 0


def test_two_stage_phases():
    crt = bound("schedule: {crt: {start: 0.6, resample: smote}}").phases
    assert [(p.start, p.stop, p.freeze_encoder, p.reset_heads, p.resample) for p in crt] == [
        (0.0, 0.6, False, False, None),
        (0.6, 1.0, True, True, "smote"),
    ]
    assert bound("schedule: {crt: {resample: smote}}").prior_correction["command"] == 1
    assert bound("schedule: {crt: {resample: tomek-links}}").prior_correction["command"] == 0
    lws = bound("head: lws").phases[1]
    assert (lws.freeze_encoder, lws.reset_heads, lws.head_mode) == (True, False, "scale")
    tau = bound("head: tau-norm")
    assert tau.posthoc["command"] == {"tau-norm": {"tau": "auto"}}
    assert len(tau.phases) == 1


def test_ldam_makes_its_head_cosine():
    strategy = bound("heads: {command: {loss: {ldam: {scale: 20}}}}")
    assert dict(strategy.head_kinds) == {"command": "cosine", "param": "linear"}
    assert dict(strategy.head_scales) == {"command": 20.0}


def test_losses_of_a_cosine_head_take_cosines():
    cosines = torch.rand(4, 8, 4, dtype=torch.float64) * 2 - 1
    target = torch.as_tensor(targets()["command"][:4])
    x = LossInputs(cosines, target, torch.ones(4, 8, 3), torch.tensor(0.0))
    for text in ("head: {cosine: {scale: 20}}", "loss: {ldam: {scale: 20, max_margin: 1.0e-12}}"):
        loss = bound(text).phases[0].losses["command"]
        value, _ = loss(x, loss.init_state(torch.device("cpu")))
        torch.testing.assert_close(value, cross_entropy(20 * cosines, target))


def test_phase_at_covers_the_training():
    strategy = bound("schedule: {deferred: {start: 0.8, weights: balanced}}")
    assert strategy.phase_at(0.79) is strategy.phases[0]
    assert strategy.phase_at(0.8) is strategy.phases[1]
    assert strategy.phase_at(1.0) is strategy.phases[1]


# ---- tuning --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", GOOD)
def test_every_value_of_the_search_space_can_be_set(text):
    spec = read(text)
    free = spec.model_copy(update={"allow_double_correction": True})
    for path, distribution in search_space(spec).items():
        if spec.head is not None and path in ("loss.ldam.scale", "head.cosine.scale"):
            continue  # the two must stay equal
        for value in getattr(distribution, "values", None) or (distribution.low, distribution.high):
            changed = with_values(free, {path: value})
            assert with_values(changed, {path: value}) == changed
            assert value in _values(changed.to_mapping()) or _is_default(changed, path, value)


def test_the_ledger_holds_while_tuning():
    spec = read("{sampler: {class-balanced: {q: 0.5}}, weights: inverse-sqrt}")
    with pytest.raises(InputError, match="corrected 2 times"):
        with_values(spec, {"sampler.class-balanced.q": 0.1})
    assert with_values(spec, {"sampler.class-balanced.q": 0.9}) != spec


def _values(tree):
    if isinstance(tree, dict):
        return [v for branch in tree.values() for v in _values(branch)]
    if isinstance(tree, list):
        return [v for branch in tree for v in _values(branch)]
    return [tree]


def _is_default(spec, path, value):
    """A value that is the option's default is not written out."""
    *_, slot, name, option = path.split(".")
    return registry.lookup(slot, name, "test").options.model_fields[option].default == value


def test_tuning_paths():
    spec = read("{weights: {ratio: 10}, heads: {command: {loss: focal}}, posthoc: [temperature]}")
    assert set(search_space(spec)) == {"weights.ratio", "heads.command.loss.focal.gamma"}
    changed = with_values(spec, {"weights.ratio": 30, "heads.command.loss.focal.gamma": 1.5})
    assert changed.to_mapping() == {
        "weights": {"ratio": 30.0},
        "posthoc": ["temperature"],
        "heads": {"command": {"loss": {"focal": {"gamma": 1.5}}}},
    }
    assert search_space(read("{}")) == {}
    with pytest.raises(InputError, match=r"no option 'loss\.focal\.gamma'"):
        with_values(spec, {"loss.focal.gamma": 1})


def test_optuna_speaks_the_same_space():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = read("{weights: {ratio: 10}, loss: focal}")
    study = optuna.create_study()
    trial = study.ask(optuna_distributions(search_space(spec)))
    assert with_values(spec, trial.params).to_mapping()["weights"]["ratio"] == trial.params["weights.ratio"]


def test_reading_an_experiment_needs_no_torch():
    """A wrong key is told at once: torch is imported when a strategy is bound."""
    code = (
        "import sys; from pathlib import Path; from imbalance_lab.spec import load_experiment; "
        f"load_experiment(Path({str(ROOT / 'experiments' / 'strategies.yaml')!r})); "
        "print([m for m in ('torch', 'pandas', 'sklearn', 'scipy', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


EXPERIMENT = {
    "name": "x",
    "data": {"source": "simulated"},
    "strategies": {"cross-entropy": {}, "own": {"loss": "focal"}},
}


def chosen(text):
    return parse_experiment(EXPERIMENT, where="e.yaml", overrides={"strategies": read_choice(text)}).strategies


def test_a_choice_takes_names_of_the_experiment_of_the_catalogue_and_options():
    found = chosen(
        "cross-entropy, own,focal: {gamma: 1},ratio: 10,mine: {loss: seesaw, sampler: rarest-class},curriculum"
    )
    assert list(found) == ["cross-entropy", "own", "focal", "ratio", "mine", "curriculum"]
    assert found["own"].loss.options.gamma == 2
    assert found["focal"].loss.options.gamma == 1
    assert found["ratio"].weights.options.ratio == 10
    assert (found["mine"].loss.name, found["mine"].sampler.name) == ("seesaw", "rarest-class")
    assert len(found["curriculum"].phases) == 2


def test_every_strategy_of_the_catalogue_can_be_chosen_by_its_name():
    for name, definition in catalogue().items():
        assert parse_strategy(name, definition, where="catalogue") == chosen(name)[name]
    optional = {e.name for e in registry.REGISTRY if not any(f.is_required() for f in e.options.model_fields.values())}
    assert optional <= set(catalogue())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "focl",
            r"unknown strategy 'focl' \(did you mean 'focal'\?\); allowed are the experiment's cross-entropy, own",
        ),
        ("own,own", r"--strategies: found .*found key 'own' twice"),
        ("focal: {gamma: 1", r"--strategies: found .*expected names separated by commas"),
        ("nothing: {gamma: 1}", r"strategy 'nothing': found .*allowed are options of a name of the catalogue"),
        ("focal: {gama: 1}", r"found unknown option 'gama'"),
        ("{a: 1}: b", r"expected names"),
        ("../x: {loss: focal}", r"found the name '\.\./x': the character '/'"),
    ],
)
def test_choices_that_are_none(text, message):
    with pytest.raises(InputError, match=message):
        chosen(text)


@pytest.mark.parametrize("name", ["../../x", "", "a/b", ".x", "x\n", "y" * 101])
def test_names_that_choose_a_folder_are_refused_when_the_file_is_read(name):
    for raw in (
        {**EXPERIMENT, "strategies": {"cross-entropy": {}, name: {}}},
        {**EXPERIMENT, "name": name},
    ):
        with pytest.raises(InputError, match=r"^e\.yaml: key '(strategies|name)': found .*a name of a strategy"):
            parse_experiment(raw, where="e.yaml")


def test_names_that_differ_in_case_alone_are_refused():
    raw = {**EXPERIMENT, "strategies": {"cross-entropy": {}, "Focal": {}, "focal": {}}}
    with pytest.raises(InputError, match=r"found 'Focal' and 'focal', which some file systems take for one"):
        parse_experiment(raw, where="e.yaml")
