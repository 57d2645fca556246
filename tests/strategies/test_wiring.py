"""Every entry of the catalogue goes through the training, and what comes after it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from engine_cases import searched
from sklearn.ensemble import RandomForestClassifier
from training_cases import MODEL, selection, tiny, trial_of

from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.errors import InputError, NonFiniteLossError
from imbalance_lab.learners.classical_learner import prepare_classical
from imbalance_lab.learners.classical_model import TableInputs
from imbalance_lab.learners.table_binding import bind_table
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.metrics.counts import confusion_counts, macro_f1
from imbalance_lab.models.build import rebuild_network
from imbalance_lab.run.search import Tuning, space_of, trials_of, with_tuned
from imbalance_lab.spec import load_experiment, parse_experiment
from imbalance_lab.strategies.language import registry
from imbalance_lab.strategies.language.parse import parse_strategy

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = yaml.safe_load((ROOT / "experiments/strategies.yaml").read_text(encoding="utf-8"))["strategies"]
TABLES = [e.name for e in registry.REGISTRY if e.slot == "table"]


@pytest.fixture(scope="module")
def mill() -> LoadedData:
    """A small simulated mill: two heads, some classes without an example in a split."""
    options = {
        "source": "simulated",
        "n_recordings": 6,
        "rows_per_recording": 80,
        "n_frames": 1,
        "imbalance_ratio": 8,
        "window": {"length": 16, "stride": 16},
        "exclude": ["line", "pos*", "feed", "momo"],
        "split": {"by": "recording", "stratify": "none", "fractions": [0.5, 0.25, 0.25], "seed": 0},
    }
    return load_data(parse_options(options))


def rows(n=240, seed=0, categories=True) -> LoadedData:
    """A table with T = L = 1, missing values and a categorical column."""
    loaded = tiny(length=1, n=n, seed=seed, blank=0.0)
    d = loaded.dataset
    code = np.random.default_rng(seed).integers(0, 3, size=(n, 1, 1))
    coded = {"categorical": code, "categorical_channels": ("kind",), "categories": (("a", "b"),)}
    return replace(loaded, dataset=replace(d, **(coded if categories else {})))


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_strategy_of_the_experiment_trains_on_a_simulated_mill(name, mill):
    plan = CATALOGUE[name]
    epochs = 5 if "schedule" in plan else 1  # enough to reach the last phase of each schedule
    trial = trial_of(yaml.safe_dump(plan), mill, epochs=epochs, batch_size=16)
    done = list(trial.train(selection(mill)))
    assert len(done) == epochs
    assert done[-1].phase == len(trial.strategy.phases) - 1
    assert all(np.isfinite(e.loss) for e in done)
    trial.after_training("macro_f1")
    val = trial.predict("val", {})
    assert {h: len(p) for h, p in val.heads.items()} == {
        h: int(mill.dataset.class_counts(h, mill.splits.val).sum()) for h in mill.dataset.heads
    }


def test_the_experiment_holds_every_entry_of_the_catalogue_that_a_network_can_use():
    text = yaml.safe_dump(CATALOGUE)
    missing = [
        f"{e.slot} {e.name}"
        for e in registry.REGISTRY
        if e.slot != "table" and e.name not in ("cross-entropy", "natural", "linear", "explicit") and e.name not in text
    ]
    assert missing == []  # explicit weights need the names of a data set's classes
    base, whole = (load_experiment(ROOT / f"experiments/{n}.yaml") for n in ("gcode-motion", "strategies"))
    assert (whole.data, whole.model, whole.training) == (base.data, base.model, base.training)
    assert len(whole.seeds) == 3


@pytest.mark.parametrize("head", ["{}", "head: cosine"])
def test_tau_norm_shortens_class_vectors_and_is_part_of_the_weights(head):
    trial = trial_of(f"{{posthoc: {{tau-norm: {{tau: 0.5}}}}, {head.strip('{}')}}}", epochs=2)
    list(trial.train(selection()))
    c = trial.network.classifier("command")
    length = c.weight.norm(dim=1) if c.kind == "linear" else torch.ones(3)
    before = trial.predict("val", {}).heads["command"]
    assert trial.after_training("macro_f1") == {"command": {"tau": 0.5}, "side": {"tau": 0.5}}
    assert torch.allclose(c.class_scale, length**-0.5)
    served = rebuild_network(trial.blueprint, trial.network.state_dict())
    index = trial.loaded.splits.val
    d = trial.loaded.dataset
    with torch.inference_mode():
        scores = served(torch.from_numpy(d.continuous[index]), torch.from_numpy(d.categorical[index]))["command"]
    after = trial.predict("val", {}).heads["command"]
    scored = torch.from_numpy(d.targets["command"][index] >= 0)
    assert np.allclose(torch.softmax(scores, -1)[scored].numpy(), after.probabilities, atol=1e-6)
    assert np.allclose(after.probabilities, before.probabilities) == (c.kind == "cosine")


def test_tau_norm_is_never_worse_on_validation():
    trial = trial_of("posthoc: tau-norm", epochs=2, seed=1)
    list(trial.train(selection()))

    def score():
        p = trial.predict("val", {}).heads["command"]
        return float(macro_f1(confusion_counts(p.true, p.pred, 3)))

    before = score()
    tau = trial.after_training("macro_f1")["command"]["tau"]
    assert score() >= before
    assert 0 <= tau <= 1
    assert trial_of("{}", epochs=1).after_training("macro_f1") == {}


def table_trial(text, loaded, seed=0):
    spec = parse_strategy("t", yaml.safe_load(text), where="test")
    return prepare_classical(loaded, spec, bind_table(spec, loaded, seed), seed)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_strategy_fits_and_predicts(name):
    loaded = rows()
    options = {"plain": {}, "rus-boost": {"estimators": 5}}.get(name, {"estimators": 5})
    text = f"table: {{{name}: {options}}}" if name in registry.table_methods.ENSEMBLES else f"table: {name}"
    if name == "estimator":
        text = "table: {estimator: 'sklearn.ensemble:ExtraTreesClassifier'}"
    trial = table_trial(text, loaded)
    (epoch,) = trial.train(selection(loaded))
    val, test = (trial.predict(s, {"seed": 0}) for s in ("val", "test"))
    known = {"digest": loaded.dataset.digest, "categories": {"kind": ["a", "b"]}}
    assert test.meta == {**known, "split": "test", "seed": 0}
    p = val.heads["command"]
    assert confusion_counts(p.true, p.pred, 3).tolist() == epoch.confusion["command"]
    assert epoch.score == float(macro_f1(np.array(epoch.confusion["command"])))
    accuracy = np.mean([h.right.mean() for h in test.heads.values()])
    assert accuracy > 0.55  # chance is about 0.5 of both heads together
    counts = loaded.dataset.class_counts("command", loaded.splits.train)
    seen = np.array(epoch.seen["command"])
    if name in ("random-over-sampling", "smote", "svm-smote", "borderline-smote"):
        assert seen.tolist() == [counts.max()] * 3
    elif name == "random-under-sampling":
        assert seen.tolist() == [counts.min()] * 3
    elif name == "plain":
        assert seen.tolist() == counts.tolist()


def test_plain_forest_is_scikit_learns_own():
    loaded = rows(categories=False)
    trial = table_trial("table: plain", loaded, seed=42)
    list(trial.train(selection(loaded)))
    d, splits = loaded.dataset, loaded.splits
    mean = np.nanmean(d.continuous[splits.train][:, 0].astype(np.float64), axis=0)
    x = np.where(np.isnan(d.continuous[:, 0]), mean, d.continuous[:, 0])
    one = replace(d, targets={"command": d.targets["command"]}, heads={"command": d.heads["command"]})
    alone = table_trial("table: plain", replace(loaded, dataset=one), seed=42)
    list(alone.train(selection(loaded)))
    forest = RandomForestClassifier(100, random_state=42).fit(x[splits.train], d.targets["command"][splits.train, 0])
    ours = alone.predict("test", {}).heads["command"].probabilities
    assert np.allclose(ours, forest.predict_proba(x[splits.test]), atol=1e-6)


def test_missing_values_become_training_means_and_categories_columns():
    inputs = TableInputs((1.5, -2.0), (3,))
    x = inputs.features(np.array([[[np.nan, 4.0]], [[0.5, np.inf]]]), np.array([[[2]], [[0]]]))
    assert x.tolist() == [[1.5, 4.0, 0, 0, 1], [0.5, -2.0, 1, 0, 0]]


def test_table_strategies_say_what_they_cannot_do():
    with pytest.raises(InputError, match=r"strategy 't', key table: found 'smote' on sequences of 6 steps.*table and"):
        table_trial("table: smote", tiny())
    with pytest.raises(InputError, match=r"key posthoc: found 'tau-norm' beside a table"):
        table_trial("{table: smote, posthoc: tau-norm}", rows())
    few = rows(n=40, seed=5)
    counts = few.dataset.class_counts("command", few.splits.train)
    assert 0 < counts[2] < 6
    trial = table_trial("table: smote", few)  # as the second stage of crt: such a class keeps the rows it has
    assert list(trial.train(selection(few)))[-1].seen["command"][2] == counts[2]
    assert f"class 'G2' has {counts[2]} row(s)" in trial.strategy.notes["too_few_rows"]["command"][-1]
    alike = np.zeros_like(few.dataset.targets["command"])
    one = replace(few, dataset=replace(few.dataset, targets={**few.dataset.targets, "command": alike}))
    message = r"strategy 't', head 'command', key table: resampler 'smote' cannot work .*class 'G0' has 20 examples"
    with pytest.raises(InputError, match=message):
        list(table_trial("table: smote", one).train(selection(one)))


def test_table_strategies_say_how_much_of_the_prior_they_correct():
    loaded = rows()
    for text, power in (
        ("table: plain", 0),
        ("table: {plain: {class_weight: balanced}}", 1),
        ("table: smote", 1),
        ("table: tomek-links", 0),
        ("table: random-under-sampling", 1),
        ("table: easy-ensemble", 1),
    ):
        bound = table_trial(text, loaded).strategy
        assert bound.prior_correction["command"] == pytest.approx(power), text


def experiment(**changes):
    raw = {
        "name": "t",
        "data": {"source": "digits"},
        "seeds": [0, 1],
        "training": {"epochs": 1, "device": "cpu"},
        "model": MODEL.model_dump(),
        "strategies": {
            "cross-entropy": {},
            "focal": {"loss": {"focal": {"gamma": 2}}},
            "forest": {"table": "plain"},
            "both": {"sampler": {"class-balanced": {"q": 0.9}}, "loss": {"logit-adjusted": {"tau": 0.5}}},
        },
        **changes,
    }
    return parse_experiment(raw, where="test")


def test_every_strategy_gets_the_same_number_of_trials():
    spec = experiment(tune={"trials": 7})
    assert {n: trials_of(spec, n) for n in spec.strategies} == dict.fromkeys(spec.strategies, 7)
    assert trials_of(experiment(), "focal") == trials_of(experiment(), "cross-entropy") == 0
    one = experiment(strategies={"cross-entropy": {}, "focal": {"loss": "focal", "tune": {"trials": 4}}, "x": {}})
    assert {n: trials_of(one, n) for n in one.strategies} == {"cross-entropy": 4, "focal": 4, "x": 0}


def test_search_spaces_hold_the_trainings_own_options_for_every_network():
    spec = experiment()
    both = {"training.learning_rate", "training.weight_decay"}
    assert set(space_of(spec, "cross-entropy")) == both
    assert set(space_of(spec, "focal")) == both | {"loss.focal.gamma"}
    assert set(space_of(spec, "forest")) == {"table.plain.classifier"}
    changed = with_tuned(spec, "focal", {"training.weight_decay": 0.2, "loss.focal.gamma": 1.0})
    assert changed.training.weight_decay == 0.2
    assert changed.training.learning_rate == spec.training.learning_rate
    assert changed.strategies["focal"].loss.options.gamma == 1.0
    assert changed.strategies["both"] == spec.strategies["both"]


def test_search_finds_a_better_value_and_is_the_same_each_time():
    spec = experiment()

    def evaluate(tried):
        if tried.training.weight_decay > 0.1:
            raise NonFiniteLossError("loss became NaN")
        return 1.0 - abs(tried.strategies["focal"].loss.options.gamma - 0.7)

    found = searched(spec, "focal", evaluate, 25)
    again = searched(spec, "focal", evaluate, 25)
    assert found == again
    assert len(found.tried) == 25
    assert found.tried[0].values == {}  # the experiment as written comes first
    assert found.score == max(t.score for t in found.tried if t.score is not None) > found.tried[0].score
    assert abs(found.chosen["loss.focal.gamma"] - 0.7) < 0.4
    assert any(t.pruned.startswith("NonFiniteLossError") for t in found.tried)
    assert Tuning.from_mapping(json.loads(json.dumps(found.to_mapping()))) == found


def test_search_prunes_values_that_correct_the_prior_twice():
    found = searched(experiment(), "both", lambda spec: 0.5, 25)
    pruned = [t for t in found.tried if t.score is None]
    assert 0 < len(pruned) < 25
    assert all("together at most power 1" in t.pruned for t in pruned)
    assert found.chosen == {}  # a tie goes to the experiment as written

    def never(spec):
        raise InputError("no")

    with pytest.raises(InputError, match="'focal', key tune: none of 3 trials"):
        searched(experiment(), "focal", never, 3)


def test_search_without_optuna_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'imbalance-lab\[tune\]'"):
        searched(experiment(), "focal", lambda spec: 0.0, 2)


def test_strategies_command_lists_every_card():
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_project", "strategies"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for slot, name, summary in registry.one_line_cards():
        assert any(line.split()[:1] == [name] and summary in line for line in done.stdout.splitlines()), (slot, name)
    heads = [line.partition(":")[0] for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert heads == list(dict.fromkeys(e.slot for e in registry.REGISTRY))
    wrong = subprocess.run(
        [sys.executable, "-m", "mlflow_project", "strategies", "--slot", "x"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "allowed: weights, loss" in wrong.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom mlflow_project.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'mlflow', 'numpy', 'pandas', 'sklearn', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
