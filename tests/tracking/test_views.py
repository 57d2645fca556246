"""The view of a grid in MLflow's page: its form, its key, its size, and that a store takes it."""

import base64
import json
import zlib
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mlflow_project.views import MAX_TAG, TAG, GridFacts, save_views, view_of, view_path, view_state

FACTS = GridFacts("mill", "0123456789abcdef0123456789abcdef", 1_795_903_276_293, "command", ("G2", "G3"))


def state_in(value: str) -> dict:
    packed = json.loads(value)["state"]
    assert packed.startswith("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))


def test_a_view_shows_the_trials_of_its_grid_and_no_other():
    state = state_in(view_of(FACTS, by_strategy=False))
    assert state == view_state(FACTS)
    assert state["searchFilter"] == f"tags.`mlflow.parentRunId` = '{FACTS.parent_id}'"
    assert state["runsHiddenMode"] == "SHOW_ALL"
    assert state["orderByKey"] == "metrics.`test/command/macro_f1`"
    assert "metrics.`test/command/recall/G2`" in state["selectedColumns"]
    assert state["groupBy"] is None


def test_sections_stand_in_the_order_of_a_meeting_and_hold_every_chart():
    state = view_state(FACTS)
    names = [s["name"] for s in state["compareRunSections"]]
    assert names[:3] == ["Which strategy?", "Recall of the rare classes", "Precision of the rare classes"]
    assert names.index("Training") > names.index("Found against false alarms")
    sections = {s["uuid"] for s in state["compareRunSections"]}
    charts = state["compareRunCharts"]
    assert {c["metricSectionId"] for c in charts} == sections, "no section is empty, no chart is lost"
    assert len({c["uuid"] for c in charts}) == len(charts)
    bars = [c["metricKey"] for c in charts if c["type"] == "BAR"]
    assert bars[:4] == [f"test/command/{m}" for m in ("macro_f1", "balanced_accuracy", "recall/G2", "recall/G3")]


def test_without_probabilities_or_rare_classes_their_sections_are_left_out():
    state = view_state(GridFacts("mill", "a", 1, "command", (), calibrated=False))
    assert [s["name"] for s in state["compareRunSections"]] == ["Which strategy?", "Training"]


@pytest.mark.parametrize("by_strategy", [False, True])
def test_a_view_fits_a_tag_whatever_the_names_are(by_strategy):
    rare = tuple(f"{i} " + "".join(chr(0x4E00 + (i * 997 + k * 31) % 9000) for k in range(400)) for i in range(40))
    value = view_of(GridFacts("m" * 500, "a", 1, "head " * 60, rare), by_strategy=by_strategy)
    assert len(value) <= MAX_TAG
    assert state_in(value)["compareRunCharts"]


def test_a_resumed_grid_replaces_its_own_view_and_touches_no_other(tmp_path: Path):
    client = MlflowClient(f"sqlite:///{tmp_path}/m.db")
    experiment = client.create_experiment("e", artifact_location=str(tmp_path))
    client.set_experiment_tag(experiment, TAG + "1700000000000abcdefgh", "a user's own")
    first = save_views(client, experiment, FACTS, grouped=True)
    again = save_views(client, experiment, FACTS, grouped=True)
    other = save_views(client, experiment, GridFacts("mill", "another", FACTS.started, "command", ()), grouped=False)
    tags = client.get_experiment(experiment).tags
    views = [name.removeprefix(TAG) for name in tags if name.startswith(TAG)]
    assert first == again != other
    assert len(views) == 4
    assert tags[TAG + "1700000000000abcdefgh"] == "a user's own"
    assert json.loads(tags[TAG + first])["name"] == "Which strategy? mill"
    assert f"viewStateShareKey={first}&" in view_path(experiment, first)
