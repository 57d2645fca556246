"""Whole trainings on the pretended device: every strategy, every phase, both networks; then their predictions."""

from __future__ import annotations

import pytest
from pretended_cuda import budgets, cases, catalogue
from pretended_cuda.device import pretended_cuda
from pretended_cuda.found import faults
from pretended_cuda.steps import Run, run

SINGLE, PHASES, TOGETHER = catalogue.single(), catalogue.phases(), catalogue.together()
SEEN_BY = {"steps": "", "tokens": "schedule", "table": ("loss", "schedule", "head", "augment")}
WATCHED = {
    f"{name}-{shape}": (shape, text)
    for name, text in SINGLE.items()
    for shape in cases.SHAPES
    # Weights act inside a loss and samplers on indices, whatever the network; no loss sees the token decoder.
    if name.startswith(SEEN_BY[shape])
}
SHAPES = pytest.mark.parametrize("shape", cases.SHAPES)


def trained(shape: str, text: str, *, graphs: bool = True, **options) -> Run:
    with pretended_cuda() as watch:
        trial = cases.trial(shape, text, **options)
        found = run(watch, trial, cases.selection(), graphs=graphs)
    assert all(found.steps), "an epoch of one step"
    assert faults(found.all_steps) == []
    assert faults(found.last) == [], "the numbers of an epoch come in one copy that nobody waits for"
    return found


def most(found: Run) -> int:
    return max(step.work for step in found.all_steps)


@pytest.mark.parametrize(("shape", "text"), WATCHED.values(), ids=WATCHED)
def test_a_step_waits_for_nothing_and_stays_within_its_budget(shape, text):
    # Only what the progress changes needs a second epoch.
    found = trained(shape, text, epochs=2 if "schedule" in text or "influence" in text else 1)
    more = next((n for name, n in budgets.MORE_OF.items() if name in text), budgets.MORE)
    assert most(found) <= budgets.STEP[shape] + more


@SHAPES
@pytest.mark.parametrize("graphs", [True, False])
def test_the_plain_step_keeps_to_its_budget(shape, graphs):
    found = trained(shape, "{}", epochs=2, graphs=graphs)
    assert most(found) <= budgets.STEP[shape]
    # What changes from epoch to epoch goes to the device before the first step.
    assert all(f.startswith("copy from the host") for f in faults(found.first[1:]))
    assert all((step.launches == 1) == graphs for step in found.all_steps)


@pytest.mark.parametrize("shape", ["steps", "table"])
@pytest.mark.parametrize("text", PHASES.values(), ids=PHASES)
def test_every_phase_waits_for_nothing(shape, text):
    found = trained(shape, text)
    assert [epoch.phase for epoch in found.told] == [0, 1]
    # Rows of a feature bank are dealt to the steps in unequal numbers; all else is captured.
    assert [all(step.launches == 1 for step in steps) for steps in found.steps] == [True, "resample" not in text]


@pytest.mark.parametrize("text", TOGETHER.values(), ids=TOGETHER)
def test_slots_together_wait_for_nothing(text):
    trained("table", text, epochs=1)


@SHAPES
def test_bfloat16_waits_for_nothing(shape):
    trained(shape, "{loss: ldam, augment: mixup}", epochs=1, precision="bfloat16")


@SHAPES
@pytest.mark.parametrize("text", ["{}", "{head: cosine, posthoc: tau-norm}"])
def test_a_trained_network_predicts(shape, text):
    with pretended_cuda() as watch:
        trial = cases.trial(shape, text, epochs=1)
        run(watch, trial, cases.selection())
        chosen = trial.after_training("macro_f1")
        with watch.watching() as found:
            tables = [trial.predict(split, {}) for split in ("val", "test")]
    assert set(chosen) == (set(cases.HEADS) if "tau" in text else set())
    assert all(set(table.heads) == set(cases.HEADS) for table in tables)
    assert [str(e) for e in found.events if not e.kind.startswith("copy")] == []


def test_a_sequence_without_channels_and_a_row_without_categories():
    """The two networks at the ends of what a data set may hold."""
    for shape, left_out in (("steps", "continuous"), ("table", "categorical")):
        with pretended_cuda() as watch:
            found = run(watch, cases.trial(shape, "{}", without=left_out, epochs=1), cases.selection())
        assert faults(found.all_steps) == []
