"""A race: what it spends, whom it stops, and that a recording which validates several folds is one recording."""

from dataclasses import replace

import numpy as np
import pytest
from comparison_cases import run
from scipy.stats import t as student

from imbalance_lab.comparison import compare
from imbalance_lab.comparison.bootstrap import contrasts
from imbalance_lab.comparison.family import step_down
from imbalance_lab.comparison.racing import RACE_ALPHA, VERDICT_ALPHA, Round, Stop, _joined, look
from imbalance_lab.comparison.study import build
from imbalance_lab.predictions import Predictions


def validated(whole, fold, recordings):
    """What a training of one fold says of its validation recordings: those of ``whole`` with these numbers."""
    h = whole.test.heads["command"]
    rows = np.flatnonzero(np.isin(h.group, recordings))
    names = ("sequence", "position", "from_start", "from_end", "true", "pred", "probabilities", "group")
    cut = replace(h, **{n: getattr(h, n)[rows] for n in names}, slices={}, slice_names={})
    return replace(whole, test=Predictions({"command": cut}, whole.test.meta), fold=fold)


DRAWN = ((0, 1, 2, 3, 4), (3, 4, 5, 6, 7), (0, 6, 8, 9, 10))
"""Validation recordings of three folds: some validate two."""


def grid(strategies, folds=3, seeds=(0, 1)):
    return [
        validated(run(name, 10 * f + s, **how), f, DRAWN[f])
        for name, how in strategies.items()
        for f in range(folds)
        for s in seeds
    ]


def seeded(runs):
    """Seeds 0 and 1 in every fold, with models of their own."""
    return [replace(r, seed=r.seed % 10) for r in runs]


@pytest.mark.parametrize(("of", "parts"), [(3, "folds"), (6, "folds"), (5, "seeds")])
def test_all_looks_together_spend_the_races_share(of, parts):
    rounds = [Round(k, of, parts) for k in range(1, of + 1)]
    looks = [at for at in rounds if at.looks]
    assert [at.after for at in looks] == [*range(2, of)]
    spent = [at.alpha for at in looks]
    assert sum(spent) == pytest.approx(RACE_ALPHA)
    assert spent == sorted(spent), "little is spent early"
    assert pytest.approx(0.05) == RACE_ALPHA + VERDICT_ALPHA


def test_equal_strategies_are_stopped_in_no_more_grids_than_the_share():
    rng, grids, others = np.random.default_rng(0), 40_000, 5
    folds = rng.standard_normal((grids, 6, 1 + others))  # each fold's score; the baseline is shared
    difference = folds[..., 1:] - folds[..., :1]
    related, df = 0.5 + 0.5 * np.eye(others), np.full(others, 1e6)
    stopped = np.zeros(grids, dtype=bool)
    for k in range(2, 6):
        z = difference[:, :k].sum(axis=1) / np.sqrt(2 * k)
        bound = step_down(np.zeros(others), df, related, 2 * Round(k, 6, "folds").alpha).critical[0]
        stopped |= (z < -bound).any(axis=1)
    assert 0.3 * RACE_ALPHA < stopped.mean() < 1.15 * RACE_ALPHA


def test_a_quantile_beyond_the_draws_is_bonferronis():
    found = step_down(np.zeros(8), np.full(8, 20.0), 0.5 + 0.5 * np.eye(8), 1e-4)
    again = step_down(np.zeros(8), np.full(8, 20.0), np.eye(8), 1e-4)
    np.testing.assert_array_equal(found.critical, again.critical)
    assert found.critical[0] == pytest.approx(student.ppf(1 - 1e-4 / 16, 20))


def test_a_worse_strategy_is_stopped_and_an_equal_one_is_not():
    runs = seeded(grid({"ce": {}, "equal": {"noise": 0.41}, "worse": {"noise": 3.0}, "better": {"rare_gain": 1.0}}))
    (stop,) = look(runs, Round(3, 4, "folds"), baseline="ce", head="command")
    assert stop.strategy == "worse"
    assert stop.low < stop.difference < stop.high < 0
    assert stop.sentence.startswith(f"stopped after 3 of 4 folds: worse than ce by {-stop.difference:.3f} in macro F1")
    assert f"{stop.low:+.3f} to {stop.high:+.3f}" in stop.sentence
    assert look(runs, Round(3, 4, "folds"), baseline="ce", head="command") == [stop]
    assert look(runs, Round(4, 4, "folds"), baseline="ce", head="command") == [], "nothing is left to stop"
    assert look(runs, Round(1, 4, "folds"), baseline="ce", head="command") == [], "one fold tells no spread"


def test_the_baseline_is_never_stopped():
    runs = seeded(grid({"ce": {"noise": 3.0}, "good": {}}))
    assert look(runs, Round(3, 4, "folds"), baseline="ce", head="command") == []


def test_too_few_recordings_stop_nothing():
    few = [replace(r, fold=None) for r in seeded(grid({"ce": {}, "worse": {"noise": 3.0}}, folds=1))]
    assert look(few, Round(2, 3, "seeds"), baseline="ce", head="command") == []


def test_seeds_are_rounds_where_there_are_no_folds():
    runs = [run(name, s, **how) for name, how in {"ce": {}, "worse": {"noise": 3.0}}.items() for s in (0, 1)]
    (stop,) = look(runs, Round(2, 3, "seeds"), baseline="ce", head="command")
    assert stop.sentence.startswith("stopped after 2 of 3 seeds: worse than ce by ")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_recording_that_validates_two_folds_is_one_recording(seeds):
    twice = [
        validated(run(name, s, **how), f, range(12))
        for name, how in {"ce": {}, "b": {"noise": 0.8}}.items()
        for f in range(2)
        for s in seeds
    ]
    joined = _joined(twice, "ce", "command")
    assert (joined.n_recordings, joined.n_clusters) == (12, 24)
    found = [build(j, resamples=2000, seed=0) for j in (joined, replace(joined, unit=None))]
    known, apart = (contrasts(s.resampled, [s.side("b")], s.side("ce"))[0] for s in found)
    once = build(
        _joined([replace(r, fold=None) for r in twice if r.fold == 0], "ce", "command"), resamples=2000, seed=0
    )
    alone = contrasts(once.resampled, [once.side("b")], once.side("ce"))[0]
    assert known.value[0] == pytest.approx(alone.value[0])
    if len(seeds) > 1:
        assert known.v_recordings[0] == pytest.approx(alone.v_recordings[0], rel=0.2)  # other draws
    assert known.v_recordings[0] > 1.3 * apart.v_recordings[0]


def test_many_recordings_are_pooled_alike_in_every_fold():
    runs = [validated(run(n, s, recordings=900), f, range(900)) for n in ("ce", "b") for f in range(2) for s in (0, 1)]
    joined = _joined(runs, "ce", "command")
    assert joined.n_clusters <= 1000
    assert joined.n_recordings <= 500
    assert set(np.bincount(joined.unit)) == {2}


def test_a_comparison_after_a_race_has_what_is_left_and_names_the_stopped():
    at = Round(2, 6, "folds")
    stops = [Stop("worse", "ce", "macro_f1", at, -0.2, -0.3, -0.1)]
    runs = [run(name, s, noise=noise, n=1000) for name, noise in (("ce", 0.4), ("b", 0.6)) for s in (0, 1, 2)]
    how = {"baseline": "ce", "primary_head": "command", "resamples": 200}
    plain, raced = compare(runs, **how), compare(runs, **how, raced=True, stopped=stops)
    assert plain.stopped.empty
    assert plain.facts.get("family_wise_error") is None
    assert raced.facts["family_wise_error"] == VERDICT_ALPHA
    wide, narrow = (c.differences.set_index(["strategy", "against", "metric"]).loc[("b", "ce", "macro_f1")]
                    for c in (raced, plain))  # fmt: skip
    assert wide["high"] - wide["low"] > 1.02 * (narrow["high"] - narrow["low"])
    assert raced.stopped["strategy"].tolist() == ["worse"]
    said = "A race on validation stopped 1 strategy as worse than ce: worse after 2 of 6 folds."
    assert said in raced.choice.reason
    assert "race" not in plain.choice.reason


def test_a_baseline_that_is_left_alone_says_why():
    stops = [Stop("worse", "ce", "macro_f1", Round(2, 6, "folds"), -0.2, -0.3, -0.1)]
    runs = [run("ce", s, tau=None, n=1000) for s in (0, 1)]
    alone = compare(runs, baseline="ce", primary_head="command", resamples=100, raced=True, stopped=stops)
    assert alone.choice.headline.startswith("Choose ce: the race stopped every other strategy")
    assert alone.choice.title == "ce: the race stopped all others"
