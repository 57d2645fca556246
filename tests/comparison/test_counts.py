"""Joining runs and counting them once."""

from dataclasses import replace

import numpy as np
import pytest
from comparison_cases import head, run, runs_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from imbalance_lab.comparison import margins as mg
from imbalance_lab.comparison.run_counts import join
from imbalance_lab.errors import InputError
from imbalance_lab.metrics import counts as metrics


def shuffled(h, rng):
    """The same table with its rows and its recordings in another order."""
    rows = rng.permutation(len(h))
    names = rng.permutation(len(h.group_names))
    code = np.empty(len(names), dtype=np.int32)
    code[names] = np.arange(len(names))
    columns = {
        c: getattr(h, c)[rows]
        for c in ("sequence", "position", "from_start", "from_end", "true", "pred", "probabilities")
    }
    slices = {name: codes[rows] for name, codes in h.slices.items()}
    group_names = tuple(h.group_names[i] for i in names)
    return replace(h, **columns, group=code[h.group[rows]], group_names=group_names, slices=slices)


def with_head(record, h):
    return replace(record, test=replace(record.test, heads={"command": h}))


def test_counts_equal_sklearn_per_recording():
    runs = runs_of({"ce": [0, 1], "focal": [0]})
    joined = join(runs, baseline="ce", head="command")
    assert joined.strategies == ("ce", "focal")
    assert joined.confusion.shape == (3, joined.n_recordings, 4, 4)
    h = runs[1].test.heads["command"]
    for g in range(joined.n_recordings):
        rows = h.group == g
        expected = confusion_matrix(h.true[rows], h.pred[rows], labels=range(4))
        np.testing.assert_array_equal(joined.confusion[1, g], expected)


def test_rows_in_another_order_are_joined_by_sequence_and_position():
    a, b = runs_of({"ce": [0], "focal": [0]})
    mixed = with_head(b, shuffled(b.test.heads["command"], np.random.default_rng(3)))
    straight = join([a, b], baseline="ce", head="command")
    joined = join([a, mixed], baseline="ce", head="command")
    np.testing.assert_array_equal(joined.confusion, straight.confusion)
    np.testing.assert_array_equal(joined.pred[1], b.test.heads["command"].pred)


def test_other_data_is_refused_naming_digests_and_runs():
    a, b = run("ce", 0), run("focal", 0, digest="other")
    with pytest.raises(InputError, match=r"'ce-s0' \(data digest same\) and 'focal-s0' \(data digest other\)"):
        join([a, b], baseline="ce", head="command")


def _fewer(h):
    keep = np.arange(len(h)) > 0
    columns = (
        "sequence", "position", "from_start", "from_end", "group", "true", "pred", "probabilities",
    )  # fmt: skip
    cut = {c: getattr(h, c)[keep] for c in columns}
    return replace(h, **cut, slices={k: v[keep] for k, v in h.slices.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: replace(h, position=h.position + 1), r"same positions are needed"),
        (lambda h: replace(h, true=(h.true + 1) % 4), r"disagree on the true label of \d+ positions"),
        (lambda h: replace(h, group=(h.group + 1) % 12), r"disagree on the recording"),
        (lambda h: replace(h, classes=("a", "b", "c", "d")), r"the same classes in the same order"),
        (lambda h: replace(h, train_counts=h.train_counts + 1), r"other class counts"),
        (_fewer, r"scores \d+ positions of head 'command'"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(change, message):
    a, b = run("ce", 0), run("focal", 0)
    with pytest.raises(InputError, match=message):
        join([a, with_head(b, change(b.test.heads["command"]))], baseline="ce", head="command")


def test_doubled_positions_are_refused_when_rows_are_in_another_order():
    a, b = run("ce", 0), run("focal", 0)
    ha, hb = (replace(r.test.heads["command"], position=r.test.heads["command"].position // 2) for r in (a, b))
    joined = join([with_head(a, ha), with_head(b, hb)], baseline="ce", head="command")
    np.testing.assert_array_equal(joined.pred[1], hb.pred)
    mixed = shuffled(hb, np.random.default_rng(0))
    with pytest.raises(InputError, match="occurs more than once"):
        join([with_head(a, ha), with_head(b, mixed)], baseline="ce", head="command")


@pytest.mark.parametrize(
    ("runs", "baseline", "message"),
    [
        ([], "ce", "no runs"),
        ([run("ce", 0)], "nope", "baseline 'nope' is not among"),
        ([run("ce", 0), run("ce", 0)], "ce", "both strategy 'ce' with seed 0"),
        ([run("ce", 0), run("focal", 0, split="val")], "ce", "different splits"),
        ([replace(run("ce", 0), test=replace(run("ce", 0).test, heads={}))], "ce", "has no head 'command'"),
    ],
)
def test_wrong_lists_of_runs_are_refused(runs, baseline, message):
    with pytest.raises(InputError, match=message):
        join(runs, baseline=baseline, head="command")


def test_many_recordings_are_pooled_evenly():
    h = head(n=3000, recordings=3000, seed=0)
    joined = join([with_head(run("ce", 0), h)], baseline="ce", head="command", max_clusters=50)
    present = len(np.unique(h.group))
    assert (joined.n_recordings, joined.n_clusters) == (present, 50)
    sizes = [len(np.unique(h.group[joined.cluster == c])) for c in range(50)]
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_array_equal(joined.confusion.sum(axis=1)[0], confusion_matrix(h.true, h.pred, labels=range(4)))


@settings(deadline=None, max_examples=50)
@given(
    st.integers(2, 5).flatmap(lambda k: st.lists(st.integers(0, 30), min_size=k * k, max_size=k * k)),
)
def test_margins_agree_with_the_metrics_of_whole_matrices(cells):
    k = int(np.sqrt(len(cells)))
    c = np.array(cells, dtype=np.int64).reshape(k, k)
    c[0, 0] += 1  # at least one position
    m = mg.margins(c)
    supported = c.sum(axis=1) > 0
    np.testing.assert_allclose(mg.recall(m), metrics.recall(c))
    np.testing.assert_allclose(mg.precision(m), metrics.precision(c))
    np.testing.assert_allclose(mg.f1(m), metrics.f1(c))
    np.testing.assert_allclose(mg.macro_f1(m, supported), metrics.macro_f1(c))
    np.testing.assert_allclose(mg.mcc(m), metrics.mcc(c), atol=1e-12)
