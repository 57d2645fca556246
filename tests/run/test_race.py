"""The rounds of a grid with a race: what is trained when, what is stopped, and that a second start decides alike."""

from __future__ import annotations

import numpy as np
import pytest
from comparison_cases import run
from grid_fixture import tiny_mapping

from imbalance_lab.errors import InputError
from imbalance_lab.predictions import write_parquet
from imbalance_lab.run.comparison_files import whole_trials
from imbalance_lab.run.race import never_begun, run_rounds
from imbalance_lab.run.workspace import TrialResult, predictions_file
from imbalance_lab.spec import parse_experiment

MODELS = {"cross-entropy": {}, "equal": {"noise": 0.41}, "worse": {"noise": 3.0}}


def spec_of(folds, seeds, race=True):
    changed = {"seeds": list(seeds), "strategies": {name: {} for name in MODELS}, "comparison": {"race": race}}
    return parse_experiment(tiny_mapping() | changed, where="t", overrides={"folds": folds} if folds else {})


class Machine:
    """Trains by writing predictions; ``fails`` are names of trials that raise."""

    def __init__(self, folder, fails=()):
        self.folder, self.fails = folder, fails
        self.results, self.rounds, self.told = {}, [], []

    def train(self, trials):
        self.rounds.append([t.name for t in trials if t.name not in self.results])
        for t in trials:
            if t.name in self.results or t.name in self.fails:
                continue
            number = 100 * (t.fold or 0) + t.seed
            made = run(t.strategy, number, **MODELS[t.strategy]).test
            file = predictions_file(self.folder / t.name, "val")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_parquet(made, file)
            self.results[t.name] = TrialResult(t, t.name, 0.5, 1.0, 1, 1, str(self.folder / t.name), None)

    def run(self, spec):
        return run_rounds(spec, self.train, self.results, self.told.append)


def test_a_stopped_strategy_has_no_later_trial_and_a_second_start_decides_alike(tmp_path):
    spec, machine = spec_of(4, (0, 1)), Machine(tmp_path)
    stops = machine.run(spec)
    assert [(s.strategy, s.round.after) for s in stops] == [("worse", 2)]
    assert machine.told == stops
    assert [len(r) for r in machine.rounds] == [6, 6, 4, 4]
    assert all(name.endswith(f"-f{k}") for k, names in enumerate(machine.rounds) for name in names)
    assert never_begun(spec, stops) == 4 == len(spec.trials()) - len(machine.results)
    machine.rounds.clear()
    assert machine.run(spec) == stops
    assert not any(machine.rounds), "nothing is trained again"
    later = Machine(tmp_path)
    later.results = {n: r for n, r in machine.results.items() if not n.endswith(("f2", "f3"))}
    assert later.run(spec) == stops
    whole, lines = whole_trials(spec, list(machine.results.values()), stops)
    assert {r.id.strategy for r in whole} == {"cross-entropy", "equal"}
    assert lines == []


def test_seeds_are_the_rounds_without_folds(tmp_path):
    spec, machine = spec_of(0, (3, 1, 2)), Machine(tmp_path)
    stops = machine.run(spec)
    assert [(s.strategy, s.round.words) for s in stops] == [("worse", "after 2 of 3 seeds")]
    assert machine.rounds[0] == [f"{name}-s3" for name in MODELS]
    assert len(machine.results) == 8


def test_without_a_race_all_trials_are_one_round(tmp_path):
    machine = Machine(tmp_path)
    assert machine.run(spec_of(3, (0, 1), race=False)) == []
    assert [len(r) for r in machine.rounds] == [18]


@pytest.mark.parametrize("failed", ["worse-s0-f0", "cross-entropy-s1-f1"])
def test_a_failed_trial_keeps_its_strategy_out_of_the_looks(tmp_path, failed):
    machine = Machine(tmp_path, fails=(failed,))
    assert machine.run(spec_of(3, (0, 1))) == []
    assert len(machine.results) == 17


@pytest.mark.parametrize(
    ("folds", "seeds", "words"),
    [
        (2, (0, 1), "comparison.race: found true with 2 folds; a race stops strategies from the second on"),
        (0, (0, 1), "comparison.race: found true with 2 seeds; .* needs at least 3 folds, or without folds 3 seeds"),
        (0, (0,), "comparison.race: found true with 1 seed;"),
    ],
)
def test_a_race_of_too_few_rounds_is_one_sentence(folds, seeds, words):
    with pytest.raises(InputError, match=words):
        spec_of(folds, seeds)
    assert np.isfinite(spec_of(folds, seeds, race=False).comparison.margin)
