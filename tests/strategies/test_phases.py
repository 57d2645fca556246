"""Every phase of a schedule gets an epoch, however short the training; a spec with fewer epochs is refused."""

from pathlib import Path

import pytest
import torch
import yaml
from training_cases import selection, tiny, trial_of

from imbalance_lab.errors import InputError
from imbalance_lab.spec import parse_experiment
from imbalance_lab.strategies.language import registry
from imbalance_lab.strategies.language.parse import parse_strategy

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = yaml.safe_load((ROOT / "experiments/strategies.yaml").read_text())["strategies"]
SCHEDULED = sorted(name for name, plan in CATALOGUE.items() if "schedule" in plan)
LISTS = {
    "late": {"schedule": [{"for": 0.97}, {"for": 0.03, "weights": "balanced"}]},
    "early": {"schedule": [{"for": 0.01, "sampler": "class-balanced"}, {"for": 0.99}]},
    "three": {"schedule": [{"for": 0.9}, {"for": 0.05, "weights": "balanced"}, {"for": 0.05}]},
    "four": {"schedule": [{"for": 0.01}, {"for": 0.97, "weights": "balanced"}, {"for": 0.01}, {"for": 0.01}]},
}


def test_the_catalogue_tries_every_schedule():
    text = yaml.safe_dump([CATALOGUE[name] for name in SCHEDULED])
    assert all(e.name in text for e in registry.REGISTRY if e.slot == "schedule")


@pytest.mark.parametrize("epochs", range(1, 6))
@pytest.mark.parametrize("name", [*SCHEDULED, *LISTS])
def test_every_phase_begins_or_the_spec_is_refused(name, epochs):
    plan = CATALOGUE.get(name) or LISTS[name]
    spec = parse_strategy(name, plan, where="test")
    raw = {
        "name": "t",
        "data": {"source": "digits"},
        "training": {"epochs": epochs},
        "baseline": name,
        "strategies": {name: plan},
    }
    strategy = trial_of(yaml.safe_dump(plan), epochs=5).strategy
    n = len(strategy.phases)
    assert spec.least_epochs == n
    if epochs < n:
        with pytest.raises(InputError, match=f"found {epochs}, but strategy '{name}' needs at least {n}"):
            parse_experiment(raw, where="test")
        with pytest.raises(InputError, match=f"allowed: {n} or more"):
            strategy.layout(epochs)
        return
    parse_experiment(raw, where="test")
    layout = strategy.layout(epochs)
    assert len(layout) == epochs
    assert sorted(set(layout)) == list(range(n))
    assert layout == sorted(layout)


@pytest.mark.parametrize("name", SCHEDULED)
@pytest.mark.parametrize("epochs", [8, 10, 12, 30])
def test_a_training_long_enough_is_laid_out_by_the_shares(name, epochs):
    strategy = trial_of(yaml.safe_dump(CATALOGUE[name]), epochs=5).strategy
    by_share = [strategy.phases.index(strategy.phase_at(e / epochs)) for e in range(epochs)]
    assert strategy.layout(epochs) == by_share


@pytest.mark.parametrize("name", SCHEDULED)
@pytest.mark.parametrize("epochs", [2, 4])
def test_a_short_training_reaches_the_last_phase_and_chooses_from_it(name, epochs):
    trial = trial_of(yaml.safe_dump(CATALOGUE[name]), epochs=epochs)
    done = list(trial.train(selection()))
    assert [e.phase for e in done] == trial.strategy.layout(epochs)
    assert [e.phase for e in done if e.best][-1] == len(trial.strategy.phases) - 1


def test_deferred_weights_change_a_short_training():
    def weights(text):
        trial = trial_of(text, tiny(), epochs=4)
        list(trial.train(selection()))
        return torch.cat([p.detach().ravel() for p in trial.network.parameters()])

    plain, deferred = (weights(yaml.safe_dump(CATALOGUE[name])) for name in ("ldam", "ldam-drw"))
    assert not torch.equal(plain, deferred)


def test_early_stopping_counts_epochs_of_the_last_phase_only():
    trial = trial_of("schedule: [{for: 0.5}, {for: 0.5, weights: balanced}]", epochs=5, patience=1)
    done = list(trial.train(selection()))
    assert {e.phase for e in done} == {0, 1}
    assert all(not e.stopped for e in done if e.phase == 0)


@pytest.mark.parametrize("sampler", ["progressive", "dynamic"])
def test_a_sampler_that_moves_from_epoch_to_epoch_needs_two(sampler):
    raw = {"name": "t", "data": {"source": "digits"}, "baseline": "s", "strategies": {"s": {"sampler": sampler}}}
    parse_experiment({**raw, "training": {"epochs": 2}}, where="test")
    with pytest.raises(InputError, match="strategy 's' needs at least 2"):
        parse_experiment({**raw, "training": {"epochs": 1}}, where="test")
