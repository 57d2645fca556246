"""Planted error patterns are found, and independent random errors are not taken for findings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analysis_tables import independent, probabilities_of, random_errors, segment_labels, table

from imbalance_lab.analysis.class_frequency import class_frequency
from imbalance_lab.analysis.confusion import pair_table
from imbalance_lab.analysis.cross_head import cross_head
from imbalance_lab.analysis.error_runs import error_runs
from imbalance_lab.analysis.failure_modes import failure_modes
from imbalance_lab.analysis.position import position_bias
from imbalance_lab.analysis.prepared import prepare
from imbalance_lab.analysis.segments import segment_analysis
from imbalance_lab.analysis.slices import slice_analysis
from imbalance_lab.analysis.suite import run_suite
from imbalance_lab.predictions import HeadPredictions, Predictions

K = 4


def test_a_confused_pair_is_found_at_its_rate() -> None:
    rng = np.random.default_rng(0)
    true = segment_labels(20_000, K, rng)
    pred = random_errors(true, K, 0.05, rng)
    pred = np.where((true == 2) & (rng.random(len(true)) < 0.4), 1, pred)
    prepared = prepare(table(true, pred, K, np.full(200, 100)), resamples=300)
    pairs, tested = pair_table(prepared)
    top = pairs.iloc[0]
    assert (top["true"], top["pred"]) == ("G2", "G1")
    rate = 0.4 + 0.6 * 0.05 / 3
    assert top["low"] < rate < top["high"]
    assert top["q"] < 1e-6
    assert top["lift"] > 1.5
    assert tested == K * (K - 1)
    assert (pairs["q"][1:] > 0.01).sum() >= 8  # the background stays background


def test_runs_of_known_length_are_found() -> None:
    rng = np.random.default_rng(1)
    n, length = 12_000, 5
    true = segment_labels(n, K, rng)
    wrong = np.zeros(n, dtype=bool)
    starts = rng.choice(n // 20, size=n // 100, replace=False) * 20 + 3  # apart: runs never touch
    wrong[(starts[:, None] + np.arange(length)).ravel()] = True
    head = table(true, np.where(wrong, (true + 1) % K, true), K, np.full(n // 100, 100))
    runs = error_runs(prepare(head, resamples=0))
    assert runs.verdict == "runs"
    assert runs.mean_length == length
    assert runs.longest == length
    assert runs.lengths.set_index("length")["runs"][length] == len(starts)
    assert runs.expected_mean_length < 1.2


def test_expected_runs_agree_with_drawn_permutations() -> None:
    rng = np.random.default_rng(2)
    head = independent(2, sequences=30, length=12, rate=0.4)
    runs = error_runs(prepare(head, resamples=0))
    wrong = (head.true != head.pred).reshape(30, 12)
    drawn = []
    for _ in range(1500):
        padded = np.pad(rng.permuted(wrong, axis=1), ((0, 0), (1, 1)))
        edges = np.flatnonzero(np.diff(padded.ravel().astype(int)))
        drawn.append(np.bincount(edges[1::2] - edges[::2], minlength=21)[1:21])
    mean = np.mean(drawn, axis=0)
    np.testing.assert_allclose(runs.lengths["expected"][:6], mean[:6], rtol=0.1, atol=0.05)
    assert runs.expected_runs == pytest.approx(mean.sum(), rel=0.01)


def test_joint_failures_of_two_heads_are_found() -> None:
    rng = np.random.default_rng(3)
    n = 10_000
    true = segment_labels(n, K, rng)
    together = rng.random(n) < 0.1
    heads = {}
    for name in ("command", "param_type"):
        wrong = together | (rng.random(n) < 0.05)
        heads[name] = table(true, np.where(wrong, (true + 1) % K, true), K, np.full(100, 100))
    both = cross_head(Predictions(heads), resamples=200)
    row = both.pairs.iloc[0]
    assert (
        row["joint"]
        == (heads["command"].true != heads["command"].pred)[heads["param_type"].true != heads["param_type"].pred].sum()
    )
    assert row["lift"] > 4
    assert row["q"] < 1e-6
    wrong = np.stack([h.true != h.pred for h in heads.values()])
    assert row["phi"] == pytest.approx(np.corrcoef(wrong)[0, 1])
    exact = both.exact_match.iloc[0]
    assert exact["rate"] == pytest.approx(1 - wrong.any(axis=0).mean())
    assert exact["low"] < exact["rate"] < exact["high"]


def test_heads_that_apply_at_other_places_are_joined_by_place() -> None:
    head = independent(4)
    kept = np.flatnonzero(head.position % 3 == 0)
    fields = ("sequence", "position", "from_start", "from_end", "group", "true", "pred", "probabilities")
    part = replace(head, **{f: getattr(head, f)[kept] for f in fields}, slices={}, slice_names={})
    both = cross_head(Predictions({"a": head, "b": part}), resamples=50)
    wrong = head.true != head.pred
    assert both.pairs.iloc[0][["n", "joint"]].tolist() == [len(kept), wrong[kept].sum()]
    assert both.pairs.iloc[0]["phi"] == pytest.approx(1)
    assert both.exact_match.iloc[0][["n", "right"]].tolist() == [len(head), (~wrong).sum()]
    # Sequence ids may be any int64, hashes included.
    far = {n: replace(h, sequence=h.sequence * 10**15 - 2**62) for n, h in {"a": head, "b": part}.items()}
    again = cross_head(Predictions(far), resamples=50)
    assert again.pairs.equals(both.pairs)


def test_many_classes_share_one_reference() -> None:
    rng = np.random.default_rng(10)
    k = 70
    true = segment_labels(40_000, k, rng)
    pred = random_errors(true, k, 0.3, rng)
    pred = np.where((true == 5) & (rng.random(len(true)) < 0.5), 6, pred)
    pairs, tested = pair_table(prepare(table(true, pred, k, np.full(400, 100)), resamples=20))
    assert tested == k * (k - 1)
    assert pairs.iloc[0][["true", "pred"]].tolist() == ["G5", "G6"]
    assert pairs.iloc[0]["q"] < 0.01
    assert (pairs["q"][1:] < 0.05).mean() < 0.05


def test_errors_at_the_ends_of_unequal_sequences_are_found() -> None:
    rng = np.random.default_rng(5)
    lengths = rng.integers(20, 150, size=150)
    n = int(lengths.sum())
    true = segment_labels(n, K, rng)
    end = np.repeat(lengths, lengths) - 1 - np.concatenate([np.arange(x) for x in lengths])
    pred = np.where(rng.random(n) < np.where(end < 5, 0.6, 0.05), (true + 1) % K, true)
    prepared = prepare(table(true, pred, K, lengths), resamples=200)
    result = position_bias(prepared)
    trends = {t.along: t for t in result.trends}
    assert trends["from_end"].verdict == "falls"
    assert trends["from_end"].p < 1e-6
    rates = result.table[result.table["along"] == "from_end"].set_index("bin")["rate"]
    assert (rates[["0", "1", "2", "3", "4"]] > 0.45).all()
    assert (rates[["10-14", "20-29"]] < 0.15).all()
    tags = failure_modes(prepared).tags.set_index("tag")
    assert tags.loc["boundary", "verdict"] == "more"


def test_a_class_that_is_only_rare_shows_as_rare_and_not_as_a_place() -> None:
    rng = np.random.default_rng(6)
    prior = np.array([0.6, 0.3, 0.092, 0.008])
    true = segment_labels(60_000, K, rng, mean=4, prior=prior)
    pred = np.where((true == 3) & (rng.random(len(true)) < 0.7), 0, random_errors(true, K, 0.05, rng))
    prepared = prepare(table(true, pred, K, np.full(600, 100)), resamples=200)
    groups = class_frequency(prepared).groups.set_index("group")
    assert groups.loc["few", "rate"] > 0.6
    assert groups.loc["many", "rate"] < 0.1
    assert class_frequency(prepared).trend.verdict == "falls"
    tags = failure_modes(prepared).tags.set_index("tag")
    assert tags.loc["rare class", "verdict"] == "more"
    assert all(t.p > 0.001 for t in position_bias(prepared).trends)


def test_blurred_transitions_are_told_from_missed_segments() -> None:
    rng = np.random.default_rng(7)
    true = segment_labels(12_000, K, rng, mean=15)
    late = np.concatenate([true[:1], true[:-1]])  # every change is seen one step late
    head = table(true, late, K, np.full(100, 120))
    result = segment_analysis(prepare(head, resamples=100))
    assert result.transition_p < 1e-6
    within = result.transitions.set_index("place")["rate"]
    assert within["within 1"] > 0.4
    assert within["inside (more than 4)"] < 0.02
    assert result.scores.set_index("class").loc["all", "recall"] > 0.85  # within the tolerance
    strict = segment_analysis(prepare(head, resamples=0), tolerance=0)
    assert strict.scores.set_index("class").loc["all", "recall"] < 0.1


def test_missed_short_segments_are_counted_by_length() -> None:
    true = np.zeros(4000, dtype=np.int64)
    starts = np.arange(20, 3980, 40)
    true[starts], true[starts + 1] = 1, 1
    true[np.arange(30, 3980, 40)] = 2
    pred = np.where(true == 1, 0, true)
    result = segment_analysis(prepare(table(true, pred, 3, np.full(20, 200)), resamples=0))
    missed = result.missed.set_index("length")
    assert missed.loc["2", ["segments", "missed"]].tolist() == [len(starts), len(starts)]
    assert missed.loc["1", "missed"] == 0
    assert result.missed_by_class.set_index("class").loc["G1", "rate"] == 1


def test_a_bad_operation_is_the_worst_slice() -> None:
    rng = np.random.default_rng(8)
    head = independent(8, recordings=30)
    bad = (head.slices["operation"] == 1) & (head.true == 2) & (rng.random(len(head)) < 0.5)
    pred = np.where(bad, 3, head.pred)
    result = slice_analysis(
        prepare(replace(head, pred=pred.astype(np.int32), probabilities=probabilities_of(pred, K, rng)), resamples=200)
    )
    worst = result.worst.iloc[0]
    assert worst["slice"] == "operation=face & class=G2"
    assert worst["q"] < 1e-3
    assert worst["excess_over_parts"] > 0.1
    assert result.tried == 3 + 4 + 12


def _random_tables(count: int) -> list[Predictions]:
    out = []
    for seed in range(count):
        heads: dict[str, HeadPredictions] = {
            "command": independent(2 * seed, 60, 50),
            "param_type": independent(2 * seed + 1, 60, 50),
        }
        out.append(Predictions(heads))
    return out


def test_independent_errors_give_no_finding_beyond_the_nominal_rate() -> None:
    """120 tables without any pattern: p below 0.05 in about one of twenty, q below 0.05 hardly ever."""
    p: dict[str, list[float]] = {}
    q: dict[str, list[bool]] = {}
    for predictions in _random_tables(120):
        prepared = prepare(predictions.heads["command"], resamples=0)
        for trend in position_bias(prepared).trends:
            p.setdefault(trend.along, []).append(trend.p)
        p.setdefault("class frequency", []).append(class_frequency(prepared).trend.p)
        p.setdefault("transitions", []).append(segment_analysis(prepared).transition_p)
        p.setdefault("runs", []).append(error_runs(prepared).p)
        p.setdefault("joint", []).append(cross_head(predictions, 0).pairs.iloc[0]["p"])
        q.setdefault("slices", []).append(bool((slice_analysis(prepared).worst["q"] < 0.05).any()))
        q.setdefault("pairs", []).append(bool((pair_table(prepared)[0]["q"] < 0.05).any()))
    # Binomial(120, 0.05): 99.9 % of the time at most 14, that is 0.117.
    assert {k: np.mean(np.array(v) < 0.05) for k, v in p.items() if np.mean(np.array(v) < 0.05) > 0.117} == {}
    assert {k: np.mean(v) for k, v in q.items() if np.mean(v) > 0.117} == {}


def test_permuted_labels_give_the_expected_failure_modes() -> None:
    """Labels drawn apart from the predictions: every mode has the share that the null expects."""
    rng = np.random.default_rng(9)
    true, pred = rng.integers(0, K, 20_000), rng.integers(0, K, 20_000)
    modes = failure_modes(prepare(table(true, pred, K, np.full(200, 100)), resamples=300))
    assert modes.primary["share"].sum() == pytest.approx(1)
    for result in (modes.primary, modes.tags):
        np.testing.assert_allclose(result["share"], result["expected"], atol=0.01)
    assert (modes.tags["verdict"] == "as expected").sum() >= 5


def test_random_errors_are_not_recommended_away() -> None:
    """Calibration and suspects are real findings of these probabilities; patterns are not."""
    patterns = {"confusion", "boundary", "slice", "sequence", "heads", "imbalance", "collapse"}
    found = [r.category for p in _random_tables(6) for r in run_suite(p, resamples=200).recommendations]
    assert patterns & set(found) == set()


def test_abstaining_pays_where_confidence_knows_its_errors_and_shows_who_goes_unanswered() -> None:
    """Planted: every error and every position of the rare class has confidence 0.57, all else 0.97."""
    rng = np.random.default_rng(0)
    true = rng.choice(3, 12_000, p=[0.8, 0.195, 0.005])
    wrong = rng.random(len(true)) < 0.1
    pred = np.where(wrong, (true + 1) % 3, true)
    sure = np.where(wrong | (true == 2), 0.57, 0.97)
    p = np.repeat(((1 - sure) / 2)[:, None], 3, axis=1).astype(np.float32)
    p[np.arange(len(true)), pred] = sure
    head = table(true, pred, 3, np.full(120, 100), probabilities=p / p.sum(axis=1, keepdims=True))
    analysis = run_suite(Predictions({"command": head}), resamples=100)
    found = analysis.heads["command"].abstention.table.set_index("threshold")
    assert found.loc[0.0, "rate"] == pytest.approx(wrong.mean())
    assert found.loc[0.7, "rate"] == 0
    assert found.loc[0.7, "coverage"] == pytest.approx((sure > 0.7).mean())
    assert found.loc[0.7, "rare_coverage"] == 0
    assert found.loc[0.7, "least_answered"] == head.classes[2]
    (advice,) = (r for r in analysis.recommendations if r.rule == "worth-asking")
    assert "Above confidence 0.6" in advice.issue
    blind = replace(head, probabilities=np.full_like(p, 0.1) + 0.7 * np.eye(3, dtype=np.float32)[pred])
    others = run_suite(Predictions({"command": blind}), resamples=100).recommendations
    assert "worth-asking" not in [r.rule for r in others]
