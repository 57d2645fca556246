"""Figures: titles carry the numbers, edge cases draw without warnings, nothing is cut off."""

from io import BytesIO
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.plots import (
    audit_figures,
    bill,
    class_figures,
    confusion_matrices,
    example_pages,
    interpretation,
    interpretation_maps,
    rates,
    reliability,
    strategy_figures,
    training,
)
from imbalance_lab.plots.style import (
    DPI,
    MAJORITY,
    Scope,
    bar_height,
    class_colours,
    label,
    labels,
    new_figure,
    percent,
    png_bytes,
    save_png,
    spread_labels,
    strategy_colours,
    title_of,
    titles,
)

SCOPE = Scope("command", "test", 1234, 21, (0, 1), "focal-2")
LONG = "a_very_long_class_name_that_never_seems_to_end_$x$_<b>"


def classes_of(k: int) -> list[str]:
    return ["G1", LONG, *(f"C{i}" for i in range(k - 2))][:k]


def confusion_of(k: int, seed: int = 0) -> np.ndarray:
    """95 % majority; rare classes half missed."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((k, k), dtype=np.int64)
    counts[0, 0] = 9500
    for i in range(1, k):
        counts[i, i] = 30
        counts[i, 0] = 30 + rng.integers(0, 9)
    return counts


def per_class_of(k: int) -> pd.DataFrame:
    c = confusion_of(k)
    support, hits, predicted = c.sum(1), np.diag(c), c.sum(0)
    table = pd.DataFrame({"class": classes_of(k), "support": support, "recordings": 5})
    for name, value in (
        ("recall", hits / support),
        ("precision", hits / predicted),
        ("f1", 2 * hits / (support + predicted)),
    ):
        table[name], table[f"{name}_low"], table[f"{name}_high"] = value, value - 0.05, np.minimum(value + 0.05, 1)
    return table


def rate_rows(names: list[str], column: str) -> pd.DataFrame:
    n = len(names)
    rate = np.linspace(0.6, 0.1, n)
    return pd.DataFrame(
        {column: names, "n": np.full(n, 200), "rate": rate, "low": rate - 0.05, "high": rate + 0.05, "verdict": "ok"}
    )


def drawn(fig: Figure) -> Figure:
    """Render; a layout that cannot be made or a missing glyph is a warning, and warnings are errors."""
    png = png_bytes(fig)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return fig


def text_outside(fig: Figure) -> list[str]:
    """Texts that leave the figure's edge by more than two pixels."""
    fig.canvas.draw()
    renderer = fig.canvas.get_renderer()
    width, height = fig.bbox.width, fig.bbox.height
    unseen = set()  # labels of ticks beyond the axis are kept by matplotlib but not drawn
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            unseen |= {id(t.label1) for t in ticks if not low <= t.get_loc() <= high}
    out = []
    for text in fig.findobj(lambda a: hasattr(a, "get_text") and a.get_visible() and a.get_text().strip()):
        if id(text) in unseen:
            continue
        box = text.get_window_extent(renderer)
        if box.x0 < -2 or box.y0 < -2 or box.x1 > width + 2 or box.y1 > height + 2:
            out.append(text.get_text())
    return out


@pytest.mark.parametrize("k", [1, 2, 5, 12, 30])
def test_confusion_names_the_worst_class_and_is_not_cut(k: int) -> None:
    fig = drawn(confusion_matrices.confusion_matrix(confusion_of(k), classes_of(k), SCOPE))
    if k == 1:
        assert title_of(fig) == "All 9,500 positions are predicted correctly"
    else:
        counts = confusion_of(k)
        worst = max(1 - counts[i, i] / counts[i].sum() for i in range(1, k))
        assert f"is missed {percent(worst)} of the time, always as G1" in title_of(fig)
    assert "1,234 positions · 21 recordings · seeds 0, 1" in title_of(fig, "subtitle")
    assert text_outside(fig) == []


def test_confusion_cells_hold_count_and_share_and_fold_the_tail() -> None:
    counts = np.array([[990, 10], [30, 10]])
    texts = [t.get_text() for t in confusion_matrices.confusion_matrix(counts, ["a", "b"], SCOPE).axes[0].texts]
    assert texts == ["99 %\n990", "1.0 %\n10", "75 %\n30", "25 %\n10"]
    many = confusion_matrices.confusion_matrix(confusion_of(30), classes_of(30), SCOPE)
    assert any("18 other classes" in t.get_text() for t in many.axes[0].get_yticklabels())


def test_a_class_below_the_minimum_is_no_headline() -> None:
    counts = np.array([[1000, 0], [3, 0]])
    assert "no class with errors has 20 positions" in title_of(
        confusion_matrices.confusion_matrix(counts, ["a", "b"], SCOPE)
    )


def test_confused_pairs_show_counts_and_say_how_many_more() -> None:
    pairs = pd.DataFrame(
        {
            "true": [f"T{i}" for i in range(25)],
            "pred": LONG,
            "count": 30,
            "n_true": 60,
            "rate": 0.5,
            "low": 0.4,
            "high": np.nan,
            "wilson_low": 0.3,
            "wilson_high": 0.6,
        }
    )
    fig = drawn(confusion_matrices.confused_pairs(pairs, SCOPE))
    assert title_of(fig).endswith("at 50 % of its 60 positions")
    assert [t.get_text() for t in fig.axes[0].texts] == ["30 of 60"] * 20
    assert fig.get_supxlabel() == "and 5 more in the table"
    assert text_outside(fig) == []


@pytest.mark.parametrize("k", [1, 2, 12, 25])
def test_per_class_worst_first(k: int) -> None:
    table = per_class_of(k)
    fig = drawn(class_figures.per_class(table, SCOPE, colours=class_colours(classes_of(k), [9500] + [60] * (k - 1))))
    worst = table.sort_values("f1").iloc[0]
    assert (f"F1 {worst['f1']:.2f}" in title_of(fig)) if k > 1 else ("without error" in title_of(fig))
    assert text_outside(fig) == []


def test_long_names_of_one_family_are_told_apart():
    names = [f"a class whose name is as long as a sentence, number {i} of its family at the very end" for i in (1, 2)]
    assert label(names[0]) == label(names[1])
    shown = labels([*names, names[0], "G0"], 24)
    assert shown[0] == shown[2] != shown[1]
    assert "number 1" in shown[0]
    assert "number 2" in shown[1]
    assert shown[3] == "G0"
    assert max(map(len, shown)) <= 24
    assert labels(["G1", "G1"]) == ["G1", "G1"]
    table = per_class_of(2).assign(**{"class": names})
    ticks = [t.get_text() for t in drawn(class_figures.per_class(table, SCOPE)).axes[0].get_yticklabels()]
    assert len({tick.split(" (n=")[0] for tick in ticks}) == 2


def test_one_class_that_can_be_judged_is_not_called_the_weakest():
    table = per_class_of(3)
    table["sufficient"] = [1, 0, 0]
    title = title_of(drawn(class_figures.per_class(table, SCOPE)))
    assert title.startswith(f"Only {label(table.loc[0, 'class'])} can be judged")
    assert title.endswith("too few positions of the other 2 classes")


def test_per_class_marks_undefined_and_insufficient() -> None:
    table = per_class_of(3)
    table.loc[1, ["precision", "precision_low", "precision_high"]] = np.nan
    table["sufficient"] = [1, 1, 0]
    fig = drawn(class_figures.per_class(table, SCOPE))
    assert "never predicted" in [t.get_text() for t in fig.axes[1].texts]
    assert "hollow" in title_of(fig, "subtitle")


def test_class_frequency_title_pools_rare_classes() -> None:
    table = rate_rows(["a", "b", "c"], "class").assign(train_share=[0.001, 0.005, 0.994])
    trend = pd.DataFrame({"train_share": [0.001, 1.0], "rate": [0.5, 0.1]})
    fig = drawn(class_figures.class_frequency(table, SCOPE, trend=trend))
    pooled = (200 * 0.6 + 200 * 0.35) / 400
    assert title_of(fig) == f"Classes below 1 % of training are wrong {percent(pooled)} of the time (400 positions)"


def test_reliability_headline_is_the_weighted_gap() -> None:
    bins = pd.DataFrame({"mean_confidence": [0.5, 0.9], "accuracy": [0.4, 0.7], "count": [100, 300]})
    fig = drawn(reliability.reliability({"as trained": bins, "after": bins}, SCOPE, ece={"as trained": 0.175}))
    assert title_of(fig) == "Confidence is 17.5 points too high: 80.0 % stated, 62.5 % right"
    assert "as trained: ECE 0.175" in [t.get_text() for t in fig.legends[0].get_texts()]


def test_confidence_histogram_counts_confident_errors() -> None:
    table = pd.DataFrame({"bin_low": [0.0, 0.8], "bin_high": [0.8, 1.0], "right": [10, 80], "wrong": [6, 4]})
    fig = drawn(reliability.confidence_histogram(table, SCOPE))
    assert title_of(fig) == "40 % of the errors (4 of 10) are made with confidence of 80 % or more"
    assert "4.8 % of 84 are wrong" in title_of(fig, "subtitle")


def test_position_names_the_peak_or_that_there_is_no_trend() -> None:
    names = ["0", "1", "2-3", "4-7"]
    table = pd.concat([rate_rows(names, "bin").assign(along=a) for a in ("from_start", "from_end", "relative")])
    fig = drawn(rates.error_by_position(table, SCOPE, overall=0.2, p_values={"from_start": 0.001}))
    assert title_of(fig) == "Errors peak at 0 positions from the true start: 60 % wrong against 20 % overall"
    flat = drawn(rates.error_by_position(table, SCOPE, overall=0.2, p_values={"from_start": 0.4}))
    assert title_of(flat) == "No trend of errors with position (smallest p = 0.4); 20 % wrong overall"


def test_failure_modes_compare_with_chance() -> None:
    primary = pd.DataFrame(
        {
            "mode": ["near miss", "other"],
            "count": [30, 10],
            "errors": 40,
            "share": [0.75, 0.25],
            "low": 0.1,
            "high": 0.9,
            "expected": [0.5, np.nan],
        }
    )
    tags = primary.rename(columns={"mode": "tag"})
    fig = drawn(rates.failure_modes(primary, SCOPE, tags=tags))
    assert title_of(fig) == "Most errors are “near miss”: 75 % of 40 errors (50 % expected by chance)"


def test_slices_worst_first_and_hidden_rows_are_counted() -> None:
    fig = drawn(
        rates.slices(rate_rows([f"{LONG}{i}" for i in range(26)], "operation"), SCOPE, what="operation", overall=0.2)
    )
    assert "60 % wrong, 20 % overall" in title_of(fig)
    assert fig.get_supxlabel() == "and 6 more in the table"
    assert text_outside(fig) == []


def test_a_slice_without_enough_recordings_is_no_headline() -> None:
    table = rate_rows(["few", "enough"], "operation").assign(verdict=["insufficient", "ok"])
    fig = drawn(rates.slices(table, SCOPE, what="operation", overall=0.05))
    assert title_of(fig).startswith("Operation enough")
    assert title_of(fig).endswith("10 % wrong, 5.0 % overall")
    assert "hollow" in title_of(fig, "subtitle")


def test_transitions_tell_blur_from_missed_segments() -> None:
    missed = pd.DataFrame(
        {
            "length": ["1", "2+"],
            "segments": [10, 30],
            "missed": [7, 1],
            "rate": [0.7, 1 / 30],
            "wilson_low": 0.01,
            "wilson_high": 0.9,
        }
    )
    fig = drawn(rates.transitions(rate_rows(["within 1", "inside (more than 4)"], "place"), SCOPE, missed=missed))
    assert title_of(fig).startswith("60 % wrong within 1 step of a change of the class, 10 % inside")
    assert title_of(fig).endswith("8 of 40 segments missed altogether")
    assert text_outside(fig) == []


def test_training_curves_mark_the_collapse() -> None:
    epochs = pd.DataFrame(
        {
            "epoch": range(1, 6),
            "train_loss": 1.0,
            "val_loss": 2.0,
            "val_metric": [0.2, 0.5, 0.1, 0.1, 0.1],
            "pred_entropy": [1, 0.5, 0, 0, 0],
        }
    )
    fig = drawn(
        training.training_curves(
            epochs, SCOPE, metric="macro F1", collapse_epoch=3, best_epoch=2, label_entropy=0.6, trivial=0.1
        )
    )
    assert title_of(fig) == "Predictions collapse from epoch 3 on"
    fine = drawn(training.training_curves(epochs, SCOPE, metric="macro F1"))
    assert title_of(fine) == "Best validation macro F1: 0.500 in epoch 2; no collapse"
    assert drawn(training.training_curves(epochs[["epoch", "train_loss"]].head(1), SCOPE, metric="x"))


def board(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = [f"strategy-{i}" for i in range(n)]
    mean = np.linspace(0.3, 0.8, n)
    summary = pd.DataFrame(
        {"strategy": names, "mean": mean, "low": mean - 0.05, "high": mean + 0.05, "free_lunch": mean}
    )
    seeds = pd.DataFrame({"strategy": np.repeat(names, 3), "seed": np.tile(range(3), n), "value": np.repeat(mean, 3)})
    return summary, seeds


@pytest.mark.parametrize("n", [1, 3, 24])
def test_leaderboard_draws_lines_rows_and_headline(n: int) -> None:
    summary, seeds = board(n)
    fig = drawn(
        strategy_figures.leaderboard(
            summary, seeds, SCOPE, metric="macro F1", baseline="strategy-0", trivial={"always G1": 0.19}
        )
    )
    best = summary.iloc[-1] if n > 1 else summary.iloc[0]
    assert f"{best['strategy']}, {best['mean']:.3f} [{best['low']:.3f}, {best['high']:.3f}]" in title_of(fig)
    rows = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert {"trivial: always G1", "strategy-0 (baseline)"} <= set(rows)  # the reference, even where it is the worst
    assert len(rows) == min(n, 20) + 1
    assert text_outside(fig) == []
    told = strategy_figures.leaderboard(summary, seeds, SCOPE, metric="x", headline="The data cannot tell")
    assert title_of(told) == "The data cannot tell"


@pytest.mark.parametrize("k", [1, 4, 12])
def test_recall_against_false_alarms_names_the_largest_gain(k: int) -> None:
    rows = [
        {"class": c, "strategy": s, "recall": r, "false_alarms": f, "support": 50}
        for c in [LONG, *(f"C{i}" for i in range(k - 1))]
        for s, r, f in (("base", 0.1, 0.0), ("focal", 0.6, 0.02))
    ]
    fig = drawn(strategy_figures.recall_against_false_alarms(pd.DataFrame(rows), SCOPE, baseline="base"))
    assert "+50 points with focal, for false alarms on 2.0 % of other positions" in title_of(fig)
    assert text_outside(fig) == []


def test_a_comparison_of_one_strategy_names_its_highest_recall() -> None:
    rows = [
        {"strategy": "base", "class": c, "recall": r, "false_alarms": 0.1, "support": 50}
        for c, r in (("x", 0.5), ("y", 0.7))
    ]
    fig = drawn(strategy_figures.recall_against_false_alarms(pd.DataFrame(rows), SCOPE, baseline="base"))
    assert "Highest recall: y 70 %" in title_of(fig)


def test_flows_and_costs_say_net_and_range() -> None:
    table = pd.DataFrame(
        {"class": ["a", LONG], "n": [100, 50], "fixed": [10, 5], "broken": [20, 0], "still_wrong": [3, 1]}
    )
    fig = drawn(bill.flows(table, SCOPE, first="base", second="focal"))
    assert title_of(fig) == "focal fixes 15 positions of base and breaks 20 (net −5)"
    costs = pd.DataFrame(
        {"strategy": ["base", "focal"], "low": [0.0, 2.0], "high": [2.0, np.inf], "clear": [True, False]}
    )
    fig = drawn(bill.cost_ranges(costs, SCOPE, order=["base", "focal", "ldam"], baseline="base"))
    assert "false alarms per miss" in title_of(fig)
    assert "never cheapest: ldam" in title_of(fig, "subtitle")
    assert text_outside(fig) == []


def test_flows_of_many_long_classes_fit_and_halves_are_written() -> None:
    names = [f"a class with a long name, number {i:02d} of forty" for i in range(40)]
    table = pd.DataFrame({"class": names, "n": 20, "fixed": 0.5, "broken": 0.5, "still_wrong": 2.0})
    fig = drawn(bill.flows(table, SCOPE, first="base", second="focal"))
    assert text_outside(fig) == []
    assert {t.get_text() for t in fig.axes[0].texts} == {"−0.5", "+0.5, 2 still"}


def test_audit_figures() -> None:
    table = pd.DataFrame(
        [
            {"class": c, "split": s, "positions": n, "recordings": r}
            for c, n, r in (("G1", 950, 5), ("G2", 50, 3))
            for s in ("train", "val", "test")
        ]
    )
    assert (
        title_of(drawn(audit_figures.class_distribution(table, SCOPE)))
        == "G1 has 95.0 % of all positions, G2 5.00 % (ratio 19 to 1)"
    )
    table.loc[(table["class"] == "G2") & (table["split"] == "val"), "positions"] = 0
    assert title_of(drawn(audit_figures.class_distribution(table, SCOPE))).endswith("absent: G2 from val")
    filler = pd.DataFrame(
        {"class": ["G0", "G1"], "n": [100, 50], "filler": [97, 0], "rate": [0.97, 0.0], "low": 0.0, "high": 1.0}
    )
    assert (
        title_of(drawn(audit_figures.placeholder(filler, SCOPE)))
        == "97.0 % of “G0” is filler: 3 of 100 positions are real"
    )
    findings = [
        Finding("placeholder", Verdict.FAIL, "m"),
        Finding("power", Verdict.WARN, "m"),
        Finding("power", Verdict.PASS, "m"),
    ]
    assert (
        title_of(drawn(audit_figures.audit_overview(findings, SCOPE))) == "1 of 2 checks failed (placeholder), 1 warned"
    )


def test_galleries_show_the_error_beside_a_right_example() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(64, 3))
    values[:, 2] = np.nan
    true, pred = ["G1"] * 30 + ["G2"] * 4 + ["G1"] * 30, ["G1"] * 64
    wrong = example_pages.WindowExample(values, true, pred, (30, 33), "wrong")
    right = example_pages.WindowExample(values, true, true)
    fig = drawn(example_pages.window_gallery(wrong, right, ["x (mm)", LONG, "never measured"], SCOPE, rate=0.5))
    assert title_of(fig) == "G2 read as G1 for 4 of 64 steps, as happens to 50 % of G2"
    assert "missing in this recording" in [t.get_text() for ax in fig.axes for t in ax.texts]
    assert drawn(example_pages.window_gallery(wrong, None, ["x", "y", "z"], SCOPE))
    image = rng.random((8, 8))
    shown = drawn(
        example_pages.image_gallery(
            [example_pages.ImageExample(image, LONG, "b", c, image) for c in np.linspace(0, 1, 14)], SCOPE
        )
    )
    assert "with confidence 1.00" in title_of(shown)
    assert "12 of 14 errors" in title_of(shown, "subtitle")


EMPTY = pd.DataFrame(
    columns=[
        "true",
        "pred",
        "count",
        "n_true",
        "rate",
        "low",
        "high",
        "class",
        "support",
        "f1",
        "train_share",
        "n",
        "bin_low",
        "right",
        "wrong",
        "along",
        "mode",
        "share",
        "place",
        "epoch",
        "strategy",
        "mean",
        "split",
        "positions",
        "fixed",
        "broken",
        "still_wrong",
    ]
)


@pytest.mark.parametrize(
    "fig",
    [
        lambda: confusion_matrices.confusion_matrix(np.zeros((3, 3), dtype=np.int64), ["a", "b", "c"], SCOPE),
        lambda: confusion_matrices.confused_pairs(EMPTY, SCOPE),
        lambda: class_figures.per_class(EMPTY, SCOPE),
        lambda: class_figures.class_frequency(EMPTY, SCOPE),
        lambda: reliability.reliability({"a": EMPTY}, SCOPE),
        lambda: reliability.confidence_histogram(EMPTY, SCOPE),
        lambda: rates.error_by_position(EMPTY, SCOPE),
        lambda: rates.failure_modes(EMPTY, SCOPE),
        lambda: rates.slices(EMPTY, SCOPE),
        lambda: rates.transitions(EMPTY, SCOPE),
        lambda: training.training_curves(EMPTY, SCOPE, metric="f1"),
        lambda: strategy_figures.leaderboard(EMPTY, EMPTY, SCOPE, metric="f1"),
        lambda: strategy_figures.recall_against_false_alarms(EMPTY, SCOPE),
        lambda: bill.flows(EMPTY, SCOPE, first="a", second="b"),
        lambda: bill.cost_ranges(EMPTY, SCOPE),
        lambda: audit_figures.class_distribution(EMPTY, SCOPE),
        lambda: audit_figures.placeholder(EMPTY, SCOPE),
        lambda: audit_figures.audit_overview([], SCOPE),
        lambda: example_pages.image_gallery([], SCOPE),
    ],
)
def test_an_empty_table_gives_a_figure_that_says_so(fig) -> None:
    made = drawn(fig())
    assert any(word in title_of(made).lower() for word in ("nothing to show", "no ", "both"))


def test_style_colours_are_stable_and_strategies_differ_from_classes() -> None:
    colours = class_colours(["a", "b", "c"], [5, 90, 5])
    assert colours["b"] == MAJORITY
    assert colours == class_colours(["a", "b", "c"], [7, 80, 5])  # the same in every figure of an experiment
    assert list(strategy_colours(["x", "base", "y"], "base")) == ["base", "x", "y"]
    rare = {v for k, v in colours.items() if k != "b"}
    assert not rare & set(strategy_colours(["x", "y", "z"]).values())


def test_style_text_is_literal_short_and_wrapped() -> None:
    assert label("$\\alpha$") == r"\$\alpha\$"
    assert label(label("$a$")) == label("$a$")
    assert len(label("x" * 99, 20)) == 20
    assert label("a\n\x00b") == "a b"
    assert label("日本") == "\N{REPLACEMENT CHARACTER}" * 2  # the font that matplotlib ships has no such letters
    fig, _ = new_figure(height=bar_height(3))
    titles(fig, "word " * 60 + "$end$", "sub " * 90)
    drawn(fig)
    assert title_of(fig).endswith("$end$")
    assert text_outside(fig) == []


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0, "0 %"), (0.0001, "<0.1 %"), (0.052, "5.2 %"), (0.52, "52 %"), (0.996, "99.6 %"), (np.nan, "n/a")],
)
def test_percent(rate: float, text: str) -> None:
    assert percent(rate) == text


def test_spread_labels_keeps_order_and_gap() -> None:
    at = spread_labels([0.5, 0.5, 0.51, 0.0], 0.1, 0.0, 1.0)
    assert np.all(np.diff(np.sort(at)) >= 0.1 - 1e-9)
    assert at.argmin() == 3
    assert at.max() <= 1.0 + 1e-9


def test_pngs_are_reproducible_and_at_150_dpi(tmp_path) -> None:
    def make() -> Figure:
        return confusion_matrices.confusion_matrix(confusion_of(4), classes_of(4), SCOPE)

    path = save_png(make(), tmp_path / "sub" / "c.png")
    assert path.read_bytes() == png_bytes(make())
    fig = make()
    with Image.open(path) as image:
        assert image.width == round(fig.get_figwidth() * 150)


def test_no_text_is_below_nine_points() -> None:
    summary, seeds = board(3)
    for fig in (
        confusion_matrices.confusion_matrix(confusion_of(5), classes_of(5), SCOPE),
        class_figures.per_class(per_class_of(4), SCOPE),
        strategy_figures.leaderboard(summary, seeds, SCOPE, metric="f1", baseline="strategy-0"),
    ):
        fig.canvas.draw()
        sizes = [t.get_fontsize() for t in fig.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text().strip()]
        assert min(sizes) >= 9


@pytest.mark.parametrize(("mapped", "mode", "most"), [(False, "P", 16), (True, "RGB", 0)])
def test_drawing_once_gives_what_savefig_draws(mapped: bool, mode: str, most: int) -> None:
    def figure() -> Figure:
        fig, axes = new_figure(1, 2, height=1.5)
        axes[0, 0].plot([0, 1, 2], [0.1, 0.7, 0.3], label="a long label beside the axis")
        axes[0, 0].legend(loc="upper left", bbox_to_anchor=(1, 1))
        if mapped:
            axes[0, 1].imshow([[0, 1], [2, 3]])
        return titles(fig, "A finding that is long enough to be wrapped " * 3, "its data")

    buffer = BytesIO()
    figure().savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    with Image.open(BytesIO(png_bytes(figure()))) as found, Image.open(buffer) as wanted:
        assert found.mode == mode
        assert found.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
        off = np.abs(np.asarray(found.convert("RGB"), dtype=int) - np.asarray(wanted.convert("RGB"), dtype=int))
    assert off.max() <= most
    assert (off > 0).mean() < 0.1


FAMILY = [
    f"G{i:02d}.{i % 3} clockwise arc with a very long description, tool {i % 23} (finishing)" for i in range(20)
] + [f'a strategy of a very long name with <b>bold</b> and "$quotes$" in it (number {i} and tuned)' for i in range(20)]


def overlapping_texts(fig: Figure) -> list[str]:
    """Neighbouring tick labels, turned ones aside, and titles of panels that cover each other by more than a pixel."""
    fig.canvas.draw()
    renderer = fig.canvas.get_renderer()
    out = []
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts = [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_visible()]
            boxes = [t.get_window_extent(renderer) for t in texts if t.get_text() and t.get_rotation() % 90 == 0]
            boxes = [box.padded(-1) for box in boxes]
            out += [ax.get_title() for a, b in pairwise(boxes) if a.overlaps(b)]
    heads = [ax.title if ax.get_title() else ax._left_title for ax in fig.axes]
    heads = [head for head in heads if head.get_text()]
    boxes = [head.get_window_extent(renderer).padded(-1) for head in heads]
    return out + [a.get_text() for i, a in enumerate(heads) for other in boxes[:i] if boxes[i].overlaps(other)]


def rated(names: list[str], column: str, **more: object) -> pd.DataFrame:
    """A table of rates with what the figures of the interpretation ask for."""
    return rate_rows(names, column).assign(**{"chance": 0.1, "verdict": "ok", "support": 200, "recordings": 5, **more})


def interpretation_maps_of(names: list[str]) -> dict[str, Figure]:
    n = len(names)
    rng = np.random.default_rng(0)
    points = pd.DataFrame(rng.normal(size=(4 * n, 4)), columns=["pca_1", "pca_2", "tsne_1", "tsne_2"])
    cases = pd.DataFrame(
        [
            {"case": c, "attention_head": h, "key": k, "weight": rng.random()}
            for c in (0, 1)
            for h in (0, 1)
            for k in (0, 1)
        ]
    ).assign(label=names[0])
    chosen = pd.DataFrame({"case": [0, 1], "label": names[0], "pred": [names[0], names[-1]], "position": 1})
    trust = pd.DataFrame({"map": ["PCA", "t-SNE"], "trustworthiness": 0.9})
    heat = {name: rng.random((n, 9)) for name in names[:6]}
    drops = rated(names, "feature", drop=np.linspace(0.3, 0, n), channels=3)
    shares = rated(names, "channel", method="integrated gradients", share=1 / n, cases=9, **{"class": "all"})
    return {
        "cases": interpretation_maps.attention_cases(cases, chosen, SCOPE),
        "embedding": interpretation_maps.embedding(
            points.assign(**{"class": np.resize(names, len(points))}),
            "class",
            class_colours(names),
            SCOPE,
            maps=trust,
            separation=rated(names, "value"),
        ),
        "separation": interpretation_maps.separation(rated(names, "value", measure="probe recall"), SCOPE),
        "difficulty": interpretation_maps.difficulty(
            rated(names, "class", train_count=np.arange(1, n + 1) ** 2, accuracy=0.5, confidence=0.5),
            SCOPE,
            colours=class_colours(names),
        ),
        "importance": interpretation.importance(drops, SCOPE, metric="macro F1"),
        "cumulative": interpretation.cumulative(
            drops.head(8).assign(k=range(min(n, 8)), left=0.5), SCOPE, metric="macro F1", what="channels"
        ),
        "channels": interpretation.attribution_channels(shares, SCOPE),
        "heat": interpretation.attribution_heat(heat, tuple(names), np.arange(-4, 5), SCOPE, cases={}),
    }


def figures_of(names: list[str]) -> dict[str, Figure]:
    """A figure of every kind that writes names."""
    k = len(names)
    table = per_class_of(k).assign(**{"class": names})
    pairs = rated(names, "true", pred=names[::-1], count=9, n_true=30)
    fixed = pd.DataFrame({"class": names, "n": 20, "fixed": 2.0, "broken": 1.0, "still_wrong": 2.0})
    summary, seeds = board(k)
    called = dict(zip(summary["strategy"], names, strict=True))
    summary, seeds = (t.assign(strategy=t["strategy"].map(called)) for t in (summary, seeds))
    gains = [
        {"class": c, "strategy": s, "recall": 0.5, "false_alarms": 0.02, "support": 50}
        for c in names[:12]
        for s in names[-9:]
    ]
    costs = pd.DataFrame({"strategy": names[:12]})
    costs = costs.assign(low=costs.index + 0.0, high=costs.index + 1.0)
    splits = pd.concat([table.assign(split=s, positions=table["support"]) for s in ("train", "val", "test")])
    values = np.random.default_rng(0).normal(size=(64, 3))
    wrong = example_pages.WindowExample(values, [names[0]] * 32 + [names[1]] * 32, [names[-1]] * 64, (3, 9), names[0])
    image = example_pages.ImageExample(np.eye(8), names[0], names[-1], 0.9, np.eye(8))
    bins = rated(["a"] * 10, "bin", mean_confidence=np.linspace(0.05, 0.95, 10), accuracy=0.9, count=9)
    return {
        "confusion": confusion_matrices.confusion_matrix(confusion_of(k), names, SCOPE),
        "pairs": confusion_matrices.confused_pairs(pairs, SCOPE),
        "per class": class_figures.per_class(table, SCOPE),
        "frequency": class_figures.class_frequency(
            rated(names, "class", train_share=np.geomspace(1e-4, 0.9, k)), SCOPE
        ),
        "reliability": reliability.reliability(dict.fromkeys(names[:3], bins), SCOPE),
        "slices": rates.slices(rated(names, "operation"), SCOPE, what="operation", overall=0.2),
        "leaderboard": strategy_figures.leaderboard(summary, seeds, SCOPE, metric="macro F1", baseline=names[0]),
        "recall": strategy_figures.recall_against_false_alarms(pd.DataFrame(gains), SCOPE, baseline=names[-1]),
        "flows": bill.flows(fixed, SCOPE, first=names[0], second=names[-1]),
        "costs": bill.cost_ranges(costs, SCOPE, order=names),
        "distribution": audit_figures.class_distribution(splits, SCOPE),
        "window": example_pages.window_gallery(wrong, wrong, names[:3], SCOPE),
        "image": example_pages.image_gallery([image] * 5, SCOPE),
        **interpretation_maps_of(names),
    }


@pytest.mark.parametrize("k", [2, 40])
def test_no_figure_cuts_or_covers_long_names(k: int) -> None:
    found = {}
    for name, fig in figures_of(FAMILY[:1] + FAMILY[41 - k :]).items():
        problems = text_outside(fig) + overlapping_texts(fig)
        rows = [t.get_text() for ax in fig.axes[:1] for t in ax.get_yticklabels() if len(t.get_text()) > 4]
        problems += [row for i, row in enumerate(rows) if row in rows[:i]]  # two rows that read alike
        if problems:
            found[name] = problems
    assert found == {}


def test_shares_beyond_all_have_no_tick() -> None:
    pairs = rated(["a", "b"], "true", pred="c", count=9, n_true=9, rate=1.0, low=0.9, high=1.0)
    fig = drawn(confusion_matrices.confused_pairs(pairs, SCOPE))
    assert fig.axes[0].get_xlim()[1] > 1  # room for the text
    assert max(fig.axes[0].get_xticks()) == pytest.approx(1.0)


def test_classes_that_cannot_be_judged_do_not_push_out_those_that_can() -> None:
    table = per_class_of(30)
    table["f1"] = np.linspace(0, 1, 30)
    table["sufficient"] = (np.arange(30) >= 25).astype(int)
    fig = drawn(class_figures.per_class(table, SCOPE))
    rows = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert rows[0].startswith(table["class"][25])
    assert title_of(fig).startswith(f"Weakest class: {table['class'][25]}")
    tied = per_class_of(4).assign(f1=0.0, support=[90, 30, 50, 40])
    assert title_of(drawn(class_figures.per_class(tied, SCOPE))).startswith("Weakest class: G1")
