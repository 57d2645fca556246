"""Cross-validated runs: out-of-fold rows are pooled, each training is a source of variance, wrong folds are said."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from comparison_cases import run

from imbalance_lab.comparison import compare
from imbalance_lab.comparison.bootstrap import contrasts
from imbalance_lab.comparison.folds import pool_folds, typical_fold
from imbalance_lab.comparison.run_counts import join
from imbalance_lab.comparison.study import build
from imbalance_lab.comparison.training_noise import fold_noise
from imbalance_lab.errors import InputError
from imbalance_lab.metrics import calibration as metrics
from imbalance_lab.predictions import HeadsOfFile, open_parquet, write_parquet


def part(whole, fold, of=3):
    """One fold of a run: the rows whose recording is dealt to it, with names of its own recordings only."""
    h = whole.test.heads["command"]
    rows = np.flatnonzero(h.group % of == fold)
    own, code = np.unique(h.group[rows], return_inverse=True)
    names = ("sequence", "position", "from_start", "from_end", "true", "pred", "probabilities")
    cut = replace(
        h,
        **{name: getattr(h, name)[rows] for name in names},
        group=code.astype(np.int32),
        group_names=tuple(h.group_names[i] for i in own),
        slices={"operation": h.slices["operation"][rows]},
    )
    table = replace(whole.test, heads={"command": cut})
    return replace(whole, run_id=f"{whole.run_id}-f{fold}", test=table, fold=fold)


def crossed(whole, of=3):
    return [part(whole, fold, of) for fold in range(of)]


def grid(strategies, seeds=(0, 1), of=3):
    return [p for name, how in strategies.items() for s in seeds for p in crossed(run(name, s, **how), of)]


def test_pooled_folds_count_what_the_whole_run_counts():
    whole = [run("ce", 0), run("b", 0, noise=0.5)]
    plain = join(whole, baseline="ce", head="command")
    pooled = join([p for r in whole for p in crossed(r)], baseline="ce", head="command")
    assert pooled.n_recordings == plain.n_recordings == 12
    np.testing.assert_array_equal(pooled.confusion.sum(axis=1), plain.confusion.sum(axis=1))
    assert len(pooled.runs) == 2
    assert np.bincount(pooled.fold).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("scores", "fold"),
    [
        ((0.9, 0.5, 0.7), 2),
        ((0.9, 0.5, 0.7, 0.1), 1),  # two in the middle: the lower
        ((0.5, 0.5, 0.5), 1),
        ((None, 0.9, 0.1), 2),
        ((None, None), 0),
    ],
)
def test_the_fold_with_the_median_validation_score_stands_for_all(scores, fold):
    folds = [replace(run("ce", 0), run_id=f"f{i}", fold=i, val_score=score) for i, score in enumerate(scores)]
    assert typical_fold(folds).run_id == f"f{fold}"
    crossed_runs = [
        replace(r, val_score=score) for r, score in zip(crossed(run("ce", 0)), (0.9, 0.5, 0.7), strict=True)
    ]
    (pooled,) = pool_folds(crossed_runs)
    assert pooled.run_id == crossed_runs[2].run_id
    assert pooled.val_score == pytest.approx(0.7)


def test_a_comparison_of_folds_has_the_scores_of_the_pooled_rows():
    runs = grid({"ce": {}, "good": {"rare_gain": 2.0}})
    found = compare(runs, baseline="ce", primary_head="command", resamples=300)
    whole = [run(n, s, **h) for n, h in (("ce", {}), ("good", {"rare_gain": 2.0})) for s in (0, 1)]
    plain = compare(whole, baseline="ce", primary_head="command", resamples=300)
    metrics = ["strategy", "macro_f1", "recall/G3", "ece"]
    a, b = (f.leaderboard.set_index("strategy")[metrics[1:]].sort_index() for f in (found, plain))
    np.testing.assert_allclose(a["macro_f1"].filter(regex="^(ce|good)$"), b["macro_f1"].filter(regex="^(ce|good)$"))
    assert found.runs["seconds"].tolist() == [30.0] * 4
    assert found.facts["recordings"] == 12
    row = found.differences.query("strategy == 'good' and against == 'ce' and metric == 'macro_f1'").iloc[0]
    assert row["verdict"] == "better"
    assert row["low"] > 0


def test_shifts_add_up_to_what_the_run_differs_by():
    study = build(join(grid({"ce": {}, "b": {"noise": 0.5}}), baseline="ce", head="command"), resamples=100, seed=0)
    r = study.resampled
    for name in ("ce", "b"):
        own = study.joined.runs_of(name)
        differ = r.point[own] - r.point[own].mean(axis=0)
        at = r.index("macro_f1")
        np.testing.assert_allclose(r.shift[:, own].sum(axis=0)[:, at], differ[:, at], atol=2e-3)


def test_noise_by_fold_is_the_sum_over_folds():
    rng = np.random.default_rng(0)
    fold = np.repeat(np.arange(6), 50)
    sizes = {"training": 1.0, "cell": 1.0}
    training = sizes["training"] * rng.normal(size=(6, 40, 1))[fold] / 50
    cell = sizes["cell"] * rng.normal(size=(300, 40, 1)) / np.sqrt(50)
    noise = fold_noise(training + cell, fold, [np.arange(40)], [np.arange(40)])
    assert noise.variance[0, 0] == pytest.approx(12, rel=0.25)  # six folds, each 1 of the training and 1 of the cells
    assert 39 * 4 < noise.df[0, 0] <= 39 * 6


def test_one_seed_takes_the_folds_as_clusters():
    study = build(
        join(grid({"ce": {}, "b": {"noise": 0.5}}, (0,), of=6), baseline="ce", head="command"), resamples=100, seed=0
    )
    r = study.resampled
    c = contrasts(r, [study.side("b")], study.side("ce"))[0]
    at = r.index("macro_f1")
    u = np.array([(r.pull[r.fold == f, 1, at] - r.pull[r.fold == f, 0, at]).sum() for f in range(6)])
    assert c.df[at] == 5
    assert c.variance[at] == pytest.approx(6 / 5 * (u**2).sum())


def test_the_variance_is_no_less_than_that_over_recordings():
    study = build(join(grid({"ce": {}, "b": {"noise": 0.5}}), baseline="ce", head="command"), resamples=200, seed=0)
    c = contrasts(study.resampled, [study.side("b")], study.side("ce"))[0]
    assert (c.v_seeds >= 0).all()
    assert (c.variance >= c.v_recordings * (1 - 1e-12)).all()


def _drop(runs):
    return [r for r in runs if not (r.strategy == "b" and r.fold == 2)]


def _other_folds(runs):
    return [r for r in runs if r.strategy == "ce"] + crossed(run("b", 0, noise=0.5, recordings=12), of=4)[:3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "strategy 'b' with seed 0 has no fold 2; its folds are 0, 1, those of the comparison 0, 1, 2"),
        (_other_folds, "tests other recordings in fold 0"),
        (lambda runs: [*runs, replace(runs[0], run_id="again")], "both fold 0 of strategy 'ce' with seed 0"),
        (lambda runs: [*runs[:-1], replace(runs[-1], fold=None)], "has no fold; they test different recordings"),
        (lambda runs: [replace(r, test=runs[0].test) for r in runs], "folds 0 and 1 both test recording 'rec0'"),
        (lambda runs: [r for r in runs if r.fold == 0], "one fold"),
    ],
)
def test_wrong_folds_are_said_in_one_sentence(change, message):
    runs = change(grid({"ce": {}, "b": {"noise": 0.5}}, (0,)))
    with pytest.raises(InputError, match=message):
        join(runs, baseline="ce", head="command")


def test_two_collapsed_models_of_one_seed_borrow_the_spread_of_the_others():
    noises = {"ce": {}, "same": {}, "b": {"noise": 0.5}, "c": {"noise": 0.4}, "d": {"noise": 0.3}}
    study = build(join(grid(noises, (0,), of=6), baseline="ce", head="command"), resamples=100, seed=0)
    r = study.resampled
    others = [study.side(name) for name in ("same", "b", "c", "d")]
    at = r.index("macro_f1")
    alone = contrasts(r, others[1:2], study.side("ce"))[0]
    together = contrasts(r, others, study.side("ce"))
    assert together[0].value[at] == 0
    assert together[0].variance[at] > 0
    assert alone.df[at] == together[0].df[at] == 5


def test_no_spread_of_one_seed_counts_as_smaller_than_the_mean():
    noises = {"ce": {}, "like": {"noise": 0.41}, "b": {"noise": 1.5}, "c": {"noise": 0.9}}
    study = build(join(grid(noises, (0,), of=4), baseline="ce", head="command"), resamples=100, seed=0)
    r = study.resampled
    at = r.index("macro_f1")
    found = contrasts(r, [study.side(name) for name in ("like", "b", "c")], study.side("ce"))
    pulls = np.stack([[(c.pull[r.fold == f, at]).sum() for c in found] for f in range(4)])
    own = 4 / 3 * (pulls**2).sum(axis=0)
    assert own.min() < 0.5 * own.mean()
    np.testing.assert_allclose([c.variance[at] for c in found], np.maximum(own, own.mean()))


@pytest.mark.parametrize("of", [0, 3])
def test_runs_from_files_are_read_once_and_compared_as_runs_in_memory(tmp_path, monkeypatch, of):
    runs = [run(name, s, **how) for name, how in (("ce", {}), ("b", {"noise": 0.5})) for s in (0, 1)]
    if of:
        runs = [p for whole in runs for p in crossed(whole, of)]
    for r in runs:
        write_parquet(r.test, tmp_path / r.run_id)
    stored = [replace(r, test=open_parquet(tmp_path / r.run_id)) for r in runs]
    reads = Counter()
    read = HeadsOfFile.__getitem__
    monkeypatch.setattr(
        HeadsOfFile, "__getitem__", lambda heads, n: (reads.update([heads.path.name]), read(heads, n))[1]
    )
    a, b = (compare(r, baseline="ce", primary_head="command", resamples=200) for r in (runs, stored))
    for name in ("leaderboard", "differences", "flows", "runs"):
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name))
    assert a.choice.reason == b.choice.reason
    first = {r.run_id for r in runs if (r.strategy, r.seed) == ("ce", 0)}  # gives the rows that the others are held to
    assert reads == {r.run_id: 2 if r.run_id in first else 1 for r in runs}


def test_calibration_of_pooled_folds():
    whole = run("ce", 0)
    parts = []
    for p in crossed(whole):  # a temperature of its own for each fold
        parts.append(replace(p, test=replace(p.test, meta={**p.test.meta, "temperature": {"command": 1.5 + p.fold}})))
    found = join(parts, baseline="ce", head="command").calibration[0]
    h, heads = whole.test.heads["command"], [p.test.heads["command"] for p in parts]
    sizes = [len(own) for own in heads]
    assert found["ece"] == pytest.approx(metrics.ece(h.probabilities, h.true), abs=1e-7)
    assert found["nll"] == pytest.approx(metrics.nll(h.probabilities, h.true), abs=1e-7)
    scaled = [metrics.apply_temperature(own.probabilities, 1.5 + i) for i, own in enumerate(heads)]
    for name, of in (("ece", metrics.ece), ("nll", metrics.nll)):
        each = [of(p, own.true) for p, own in zip(scaled, heads, strict=True)]
        assert found[f"{name}_temperature"] == pytest.approx(np.average(each, weights=sizes), abs=1e-6)
        plain = [of(own.probabilities, own.true) for own in heads]  # the strategy corrects for no prior
        assert found[f"{name}_prior_undone"] == pytest.approx(np.average(plain, weights=sizes), abs=1e-7)


@pytest.mark.parametrize(("folds", "others", "said"), [(3, "b", True), (3, "bcd", False), (6, "b", False)])
def test_few_folds_of_one_seed_are_said_to_be_few(folds, others, said):
    runs = grid({"ce": {}, **{name: {"noise": 0.5} for name in others}}, (0,), of=folds)
    found = compare(runs, baseline="ce", primary_head="command", resamples=100)
    assert ("train two seeds" in found.choice.detail) == said
    assert found.choice.evidence["spread"]["se_trainings"] is None
