"""The whole suite: against scikit-learn, on degenerate tables, and its report against the schema."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from analysis_tables import independent, shuffled, table
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, classification_report

from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.analysis.document import filled
from imbalance_lab.analysis.error_runs import error_runs
from imbalance_lab.analysis.failure_modes import PRIMARY
from imbalance_lab.analysis.prepared import prepare
from imbalance_lab.analysis.recommendations import RULES, recommend
from imbalance_lab.analysis.report import report_schema, to_report
from imbalance_lab.analysis.suite import bundles, head_tables, run_suite, shared_tables, table_records, tables
from imbalance_lab.analysis.tally import merge, tally_head
from imbalance_lab.errors import InputError
from imbalance_lab.metrics import calibration
from imbalance_lab.metrics.clusters import clusters_of
from imbalance_lab.predictions import HeadPredictions, Predictions
from imbalance_lab.report.page_sections import RUN

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
    "boolean": bool,
}


def check(value: Any, schema: dict[str, Any], at: str = "report") -> None:
    """The part of JSON Schema that the report's schema uses."""
    if "const" in schema:
        assert value == schema["const"], at
    if "enum" in schema:
        assert value in schema["enum"], at
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(isinstance(value, TYPES[k]) for k in kinds), f"{at}: {value!r} is not {kinds}"
    if "minimum" in schema:
        assert value >= schema["minimum"], at
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            check(item, schema["items"], f"{at}[{i}]")
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), f"{at} lacks {set(schema['required']) - set(value)}"
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        for key, item in value.items():
            if key in known:
                check(item, known[key], f"{at}.{key}")
            else:
                assert rest is not False, f"{at} has an undocumented key {key!r}"
                if isinstance(rest, dict):
                    check(item, rest, f"{at}.{key}")


def validate(report: dict[str, Any]) -> None:
    """The report is JSON without NaN and follows the schema."""
    report = json.loads(json.dumps(report, allow_nan=False))
    check(report, report_schema())
    try:
        import jsonschema
    except ImportError:
        return
    jsonschema.Draft202012Validator(report_schema()).validate(report)


def one(head: HeadPredictions, **meta: Any) -> Predictions:
    return Predictions({"command": head}, meta)


@pytest.fixture(scope="module")
def head() -> HeadPredictions:
    return independent(1, sequences=60, rate=0.2)


def test_numbers_agree_with_scikit_learn(head: HeadPredictions) -> None:
    analysis = run_suite(one(head), resamples=100).heads["command"]
    report = classification_report(head.true, head.pred, target_names=head.classes, output_dict=True)
    per_class = analysis.per_class.table.set_index("class")
    for name in head.classes:
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert per_class.loc[name, ours] == pytest.approx(report[name][theirs])
        assert per_class.loc[name, "support"] == report[name]["support"]
    metrics = analysis.summary.metrics.set_index("metric")["value"]
    assert metrics["accuracy"] == pytest.approx(report["accuracy"])
    assert metrics["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    bins = analysis.confidence.reliability.query("variant == 'as predicted' and kind == 'width'")
    accuracy, confidence = calibration_curve(head.right, head.confidence, n_bins=15)
    np.testing.assert_allclose(bins["accuracy"], accuracy, atol=1e-6)
    np.testing.assert_allclose(bins["mean_confidence"], confidence, atol=1e-6)
    for k, name in enumerate(head.classes):
        expected = average_precision_score(head.true == k, head.probabilities[:, k])
        assert per_class.loc[name, "auprc"] == pytest.approx(expected, abs=1e-12)


def test_counted_calibration_agrees_with_the_plain_functions(head: HeadPredictions) -> None:
    c = run_suite(one(head, temperature={"command": 0.7}), resamples=50).heads["command"].confidence
    scores = c.scores.set_index(["variant", "metric"])["value"]
    after = calibration.apply_temperature(head.probabilities.astype(np.float64), 0.7)
    for variant, p in (("as predicted", head.probabilities.astype(np.float64)), ("temperature", after)):
        assert scores[variant, "ece"] == pytest.approx(calibration.ece(p, head.true), abs=1e-5)
        assert scores[variant, "classwise_ece"] == pytest.approx(calibration.classwise_ece(p, head.true)[0], abs=1e-5)
        assert scores[variant, "brier"] == pytest.approx(calibration.brier(p, head.true), abs=1e-5)
        assert scores[variant, "nll"] == pytest.approx(calibration.nll(p, head.true), abs=1e-5)
    assert scores["as predicted", "ece_mass"] == pytest.approx(
        calibration.adaptive_ece(head.probabilities, head.true), abs=1e-4
    )


def test_undoing_the_prior_shift_restores_calibration() -> None:
    """Labels drawn from a posterior; the model is that posterior with its prior divided out."""
    rng = np.random.default_rng(0)
    n, prior = 30_000, np.array([0.9, 0.08, 0.02])
    posterior = rng.dirichlet(prior * 3, n)
    true = (rng.random((n, 1)) > posterior.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    shifted = np.maximum(posterior, 1e-9) / prior
    shifted = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    counts = (prior * 1e6).astype(np.int64)
    h = table(true, shifted.argmax(axis=1), 3, np.full(300, 100), probabilities=shifted, train_counts=counts)
    c = run_suite(one(h, prior_correction={"command": 1.0}), resamples=50).heads["command"].confidence
    ece = c.scores.query("metric == 'ece'").set_index("variant")["value"]
    assert ece["as predicted"] > 0.1
    assert ece["prior undone"] < 0.01


def test_binned_auprc_agrees_with_exact_ranking() -> None:
    h = independent(3, sequences=1000, k=5, rate=0.4)  # 300,000 scores
    result = run_suite(one(h), resamples=0).heads["command"].per_class
    assert "rounded" in result.auprc_method
    for k, name in enumerate(h.classes):
        exact = average_precision_score(h.true == k, h.probabilities[:, k])
        assert result.table.set_index("class").loc[name, "auprc"] == pytest.approx(exact, abs=2e-3)


def test_shards_add_up(head: HeadPredictions) -> None:
    clusters, edges = clusters_of(head.group, len(head.group_names)), np.linspace(0, 1, 16)
    rows = np.arange(len(head))
    parts = [tally_head(shuffled(head, part), clusters, edges, True) for part in (rows[:1000], rows[1000:])]
    whole, merged = tally_head(head, clusters, edges, True), merge(*parts)
    for name in ("confusion", "scores", "from_start", "relative"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(merged, name))
    np.testing.assert_allclose(whole.calibration.class_probability, merged.calibration.class_probability)


def test_the_order_of_rows_does_not_matter(head: HeadPredictions) -> None:
    order = np.random.default_rng(0).permutation(len(head))
    a, b = (run_suite(one(h), resamples=20).heads["command"] for h in (head, shuffled(head, order)))
    pd.testing.assert_frame_equal(a.segments.scores, b.segments.scores)
    pd.testing.assert_frame_equal(a.confusion.pairs, b.confusion.pairs)
    assert a.hard_examples.runs.z == pytest.approx(b.hard_examples.runs.z)


def test_a_place_scored_twice_counts_once_in_runs(head: HeadPredictions) -> None:
    twice = shuffled(head, np.concatenate([np.arange(len(head)), np.arange(0, len(head), 2)]))
    once, again = (error_runs(prepare(h, resamples=0)) for h in (head, twice))
    assert again.repeated_left_out == len(twice) - len(head)
    assert (once.runs, once.errors) == (again.runs, again.errors)


def test_the_report_follows_its_schema_and_repeats() -> None:
    p = Predictions(
        {"param_type": independent(1, 20, 40), "command": independent(2, 20, 40)},
        {"split": "test", "temperature": {"command": 1.2}, "prior_correction": {"command": 0.5}},
    )
    analysis = run_suite(p, tried=["focal-2"], resamples=50, seed=3)
    report = to_report(analysis)
    validate(report)
    assert report == to_report(run_suite(p, tried=["focal-2"], resamples=50, seed=3))
    assert analysis.primary == "command"
    assert report["meta"]["primary_head"] == "command"
    found, others = tables(analysis), bundles(analysis)
    assert {"per_class", "confused_pairs", "joint_failures"} <= set(found)
    assert list(others) == ["head_param_type"]
    for frame in (found["per_class"], others["head_param_type"]["per_class"]):
        assert [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])] == ["class"]
    assert np.isfinite(found["per_class"]["f1"]).all()


def test_every_table_has_the_columns_that_its_record_names(head: HeadPredictions) -> None:
    sliced = replace(head, slices={"tool": head.group % 2}, slice_names={"tool": ("a", "b")})
    analysis = run_suite(Predictions({"command": sliced, "type": head}, {}), resamples=20)
    records = {table.name: table for table in table_records()}
    found = head_tables(analysis, "command") | shared_tables(analysis)
    assert {"slice_tool" if name == "slice" else name for name in records} == set(found)
    for name, frame in found.items():
        record = records["slice" if name == "slice_tool" else name]
        assert [c.name for c in record.columns] == ["*" if c == "tool" else c for c in frame.columns], name
        assert set(record.shown) <= set(frame.columns)
        for column in record.columns:
            values = frame[column.name if column.name != "*" else "tool"]
            text = not pd.api.types.is_numeric_dtype(values)
            assert text == (column.kind == "text"), f"{name}/{column.name}"
            assert pd.api.types.is_integer_dtype(values) == (column.kind == "count"), f"{name}/{column.name}"
            if column.kind in ("share", "score", "p"):
                assert values.dropna().between(0, 1).all(), f"{name}/{column.name}"


def test_every_part_of_an_analysis_has_a_section_and_a_name_of_its_own() -> None:
    parts = [*table_records(), *(plot for record in ANALYSES for plot in record.plots)]
    assert {part.section for part in parts} <= set(RUN.sections)
    for names in (
        [one.name for one in table_records()],
        [one.name for one in ANALYSES],
        [one.name for one in RULES],
    ):
        assert len(names) == len(set(names))


def test_the_document_is_current(pytestconfig: pytest.Config) -> None:
    text = (pytestconfig.rootpath / "docs" / "error-analysis-report.md").read_text(encoding="utf-8")
    assert filled(text) == text, "run python -m imbalance_lab.analysis.document docs/error-analysis-report.md"


def test_an_undocumented_key_does_not_pass() -> None:
    report = to_report(run_suite(one(independent(1, 10, 20)), resamples=10))
    with pytest.raises(AssertionError, match="undocumented"):
        validate({**report, "extra": 1})
    report["error_summary"]["heads"]["command"]["n"] = "many"
    with pytest.raises(AssertionError, match="many"):
        validate(report)


def test_one_recording_has_no_interval() -> None:
    analysis = run_suite(one(independent(1, recordings=1)), resamples=100).heads["command"]
    assert analysis.summary.metrics[["low", "high"]].isna().all().all()
    assert analysis.summary.verdict == "insufficient"
    assert any("one recording" in note for note in analysis.confidence.notes)


def test_absent_classes_are_not_zero(head: HeadPredictions) -> None:
    wider = replace(
        head,
        classes=(*head.classes, "G53"),
        train_counts=np.append(head.train_counts, 9),
        probabilities=np.pad(head.probabilities, ((0, 0), (0, 1))),
    )
    analysis = run_suite(one(wider), resamples=20).heads["command"]
    row = analysis.per_class.table.iloc[-1]
    assert row["class"] == "G53"
    assert np.isnan([row["f1"], row["recall"], row["auprc"]]).all()
    assert analysis.summary.absent_classes == ("G53",)
    plain = run_suite(one(head), resamples=20).heads["command"]
    assert analysis.summary.metrics["value"].tolist() == pytest.approx(plain.summary.metrics["value"].tolist())


def test_stated_macro_classes_are_used(head: HeadPredictions) -> None:
    s = run_suite(one(head, classes_in_macro={"command": ["G1", "G2"]}), resamples=20).heads["command"].summary
    assert s.macro_classes == ("G1", "G2")
    report = classification_report(head.true, head.pred, target_names=head.classes, output_dict=True)
    expected = np.mean([report[c]["f1-score"] for c in s.macro_classes])
    assert s.metrics.set_index("metric").loc["macro_f1", "value"] == pytest.approx(expected)
    with pytest.raises(InputError, match="G99"):
        run_suite(one(head, classes_in_macro={"command": ["G99"]}))


def test_tables_of_rows_pool_their_many_groups() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 3000)
    pred = np.where(rng.random(3000) < 0.2, (true + 1) % 3, true)
    h = table(true, pred, 3, np.ones(3000, dtype=int), recordings=3000)
    analysis = run_suite(one(h), resamples=500).heads["command"]
    assert analysis.summary.pooled
    assert analysis.summary.recordings == 3000
    assert analysis.position.verdict.startswith("not applicable")
    assert analysis.segments.verdict.startswith("not applicable")
    accuracy = analysis.summary.metrics.set_index("metric").loc["accuracy"]
    # Independent rows: the interval is the binomial one.
    assert accuracy["high"] - accuracy["low"] == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 3000), rel=0.15)


def test_collapse_is_recommended_against_without_what_was_tried() -> None:
    rng = np.random.default_rng(0)
    true = rng.choice(3, p=[0.9, 0.08, 0.02], size=6000)
    h = table(true, np.zeros(6000, dtype=int), 3, np.full(60, 100))
    p = one(h)
    first = run_suite(p, resamples=50)
    assert first.heads["command"].summary.collapse.verdict == "collapsed"
    top = first.recommendations[0]
    assert (top.category, top.priority) == ("collapse", 1)
    assert top.evidence
    again = run_suite(p, tried=[f"my-{top.strategy}-x"], resamples=50).recommendations[0]
    assert again.strategy not in ("", top.strategy)
    assert top.strategy in again.tried
    every = ["logit-adjust", "balanced-softmax", "rarest-class", "class-balanced", "deferred", "curriculum", "ldam"]
    last = recommend(first.heads, first.cross_head, every)[0]
    assert last.strategy == ""
    assert "Already tried" in last.action


def test_no_scored_position_is_an_error(head: HeadPredictions) -> None:
    empty = shuffled(head, np.arange(0))
    with pytest.raises(InputError, match="no scored position"):
        run_suite(one(empty))
    both = run_suite(Predictions({"command": empty, "type": head}), resamples=10)
    assert both.unscored == ("command",)
    assert both.primary == "type"


@pytest.mark.parametrize("bad", [np.nan, 0.5])
def test_bad_probabilities_are_an_error(head: HeadPredictions, bad: float) -> None:
    p = head.probabilities.copy()
    p[7, 0] += bad
    with pytest.raises(InputError, match="row 7"):
        replace(head, probabilities=p)


shapes = st.fixed_dictionaries(
    {
        "k": st.integers(1, 5),
        "lengths": st.lists(st.integers(1, 12), min_size=1, max_size=12),
        "recordings": st.integers(1, 6),
        "rate": st.sampled_from([0.0, 0.3, 1.0]),
        "present": st.integers(1, 5),
        "seed": st.integers(0, 99),
    }
)


@given(shapes)
@settings(deadline=None, max_examples=40)
def test_any_shape_gives_a_valid_report(shape: dict[str, Any]) -> None:
    rng = np.random.default_rng(shape["seed"])
    k, lengths = shape["k"], np.array(shape["lengths"])
    n = int(lengths.sum())
    true = rng.integers(0, min(k, shape["present"]), n)  # later classes are absent
    pred = np.where(rng.random(n) < shape["rate"], (true + 1) % k, true)
    h = table(true, pred, k, lengths, shape["recordings"])
    analysis = run_suite(one(h), resamples=20)
    validate(to_report(analysis))
    a = analysis.heads["command"]
    wrong = int((true != pred).sum())
    assert a.confusion.counts.sum() == n
    assert a.failure_modes.primary["count"].sum() == wrong
    assert a.failure_modes.by_class[[m.replace(" ", "_") for m in PRIMARY]].to_numpy().sum() == wrong
    assert a.hard_examples.runs.errors == wrong
    assert a.confidence.histogram[["wrong", "right"]].to_numpy().sum() == n
    assert a.slices.recordings["n"].sum() == n
    assert len(a.gallery) == 0 or (a.gallery["true"] != a.gallery["pred"]).all()
