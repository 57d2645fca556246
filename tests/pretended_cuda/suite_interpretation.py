"""Every method of the interpretation on a network that is on the pretended device."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
from pretended_cuda import cases
from pretended_cuda.device import pretended_cuda

from imbalance_lab.interpretation.contents import BUDGETS
from imbalance_lab.interpretation.interpreting import interpret
from imbalance_lab.interpretation.parts import tables

SMALL = {
    "repeats": 1,
    "cumulative_repeats": 1,
    "cases": 2,
    "steps": 2,
    "random_steps": 2,
    "temporal_cases": 2,
    "offsets": (-1, 0, 1),
    "reaches": (0, 2),
    "points": 10,
    "tsne": 0,
}
"""All methods of the full budget, each with as little work as it can have."""
EVERYWHERE = {
    "attribution_cases attribution_channels attribution_sanity attribution_time correlated_groups difficulty",
    "embedding_maps embedding_points embedding_separation embedding_variance head_pairs heads",
    "permutation permutation_base permutation_cumulative",
}
ATTENTION = "attention_cases attention_chosen attention_heads attention_profile head_ablation"
ONLY = {"steps": f"{ATTENTION} context offsets", "tokens": f"{ATTENTION} blocks", "table": ""}


@pytest.mark.filterwarnings("ignore")  # of scikit-learn and SciPy, about features that are made up
@pytest.mark.parametrize("shape", cases.SHAPES)
def test_every_method_runs_and_its_batches_wait_for_nothing(shape):
    with mock.patch.dict(BUDGETS, full=replace(BUDGETS["full"], **SMALL)), pretended_cuda() as watch:
        trial = cases.trial(shape, "{}")
        with watch.watching() as found:
            made = interpret(trial.network, trial.loaded, "full")
    expected = {name for line in (*EVERYWHERE, ONLY[shape]) for name in line.split()}
    assert set(tables(made)) - {"difficulty_trend"} == expected
    # Inputs go to the device and results come back; nothing in between asks for a number.
    assert [str(e) for e in found.events if not e.kind.startswith("copy")] == []
