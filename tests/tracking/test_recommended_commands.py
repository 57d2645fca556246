"""The command on a recommendation's card runs: of every rule, on one head of several, and as a page prints it."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from grid_fixture import tiny_mapping, undrawn
from hypothesis import given
from hypothesis import strategies as st

from imbalance_lab.analysis.recommendations import RULES, Recommendation, recommendation
from imbalance_lab.analysis.record import Advice, Rule
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data
from imbalance_lab.names import check_name
from imbalance_lab.report.page import Page, Section, render
from imbalance_lab.report.recommendation_cards import cards
from imbalance_lab.run.binding import check_spec_against_data
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from imbalance_lab.strategies.language.catalogue import names_used, read_choice, write_choice
from mlflow_project import grid
from mlflow_project.__main__ import main

HEADS = ("command", "addresses")  # of the mill
PROPOSING = [rule for rule in RULES if rule.strategies]
MAPPING = {
    **tiny_mapping(),
    "name": "recommended",
    "training": {"epochs": 2, "batch_size": 32, "device": "cpu"},
    "baseline": "plain #1",
    "strategies": {"plain #1": {}},
}

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


@pytest.fixture(scope="module")
def run_id(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The child run of a grid of the baseline alone."""
    folder = tmp_path_factory.mktemp("recommended")
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.setenv("IMBALANCE_LAB_WORK", str(folder / "outputs"))
        undrawn(patch)
        client = mlflow.MlflowClient(tracking_uri=uri)
        identifier = client.create_experiment("recommended", artifact_location=(folder / "artifacts").as_uri())
        assert grid.run_grid_of(parse_experiment(MAPPING, where="test"), jobs=1) == 0
        (child,) = client.search_runs([identifier], "tags.role = 'trial'")
        yield child.info.run_id
        mlflow.set_tracking_uri("")


def arguments_of(command: str) -> list[str]:
    """What ``mlflow run`` makes of a command: every ``-P name=value`` is the flag ``--name value``."""
    words = shlex.split(command)
    assert words[:3] == ["mlflow", "run", "."]
    assert words[3::2] == ["-P"] * len(words[4::2])
    pairs = [word.partition("=")[::2] for word in words[4::2]]
    return ["run", *(part for name, value in pairs for part in (f"--{name}", value))]


def commands_on(page: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r"mlflow run [^<]+", page)]


def proposals(rule: Rule[object], head: str) -> list[Recommendation]:
    """What the rule recommends first, then when that was tried, and so on."""
    advice = Advice("seen", "do", "effect", pd.DataFrame({"class": ["G0"]}), "threshold")
    found: list[Recommendation] = []
    while (r := recommendation(rule, advice, head, [f.strategy for f in found])).strategy:
        found.append(r)
    return found


@pytest.mark.parametrize("rule", PROPOSING, ids=lambda rule: rule.name)
def test_every_strategy_of_every_rule_is_taken(
    rule: Rule[object], run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_data(parse_experiment(MAPPING, where="test").data)
    taken: list[ExperimentSpec] = []

    def take(spec: ExperimentSpec, *_: object) -> int:
        check_spec_against_data(spec, loaded)
        taken.append(spec)
        return 0

    monkeypatch.setattr(grid, "run_grid_of", take)
    made = [r for head in ("", *HEADS) for r in proposals(rule, head)]
    assert [r.strategy for r in made] == [*rule.strategies] * 3
    experiment = f"runs:/{run_id}/spec.yaml"
    blocks = cards(made, experiment, "plain #1", several=True)
    printed = commands_on(render(Page("t", "v", sections=(Section("Recommendations", tuple(blocks)),))))
    assert len(printed) == len(made)
    for command, one in zip(printed, made, strict=True):
        assert main(arguments_of(command)) == 0
        spec = taken[-1]
        assert list(spec.strategies) == ["plain #1", one.strategy]
        assert (spec.baseline, spec.name) == ("plain #1", "recommended")
        assert spec.strategies[one.strategy] != spec.strategies["plain #1"]


@pytest.mark.parametrize("rule", PROPOSING, ids=lambda rule: rule.name)
def test_the_command_of_every_rule_runs(rule: Rule[object], run_id: str) -> None:
    first = proposals(rule, "addresses")[0]
    (command,) = (card.command for card in cards([first], f"runs:/{run_id}/spec.yaml", "plain #1", several=True))
    assert exit_code(command) == 0


@cache  # several rules propose the same strategy first
def exit_code(command: str) -> int:
    return main([*arguments_of(command), "--jobs", "1"])


def test_a_page_prints_commands_that_run(run_id: str) -> None:
    client = mlflow.MlflowClient()
    page = Path(client.download_artifacts(run_id, "report/index.html")).read_text(encoding="utf-8")
    drawing = f"mlflow run . -e analyze -P run_id={run_id}"
    assert drawing in commands_on(page)
    printed = [command for command in commands_on(page) if command != drawing]
    assert printed, "a network of two epochs has nothing to mend"
    assert all(f"experiment=runs:/{run_id}/spec.yaml" in command for command in printed)
    assert exit_code(printed[0]) == 0


def test_nothing_is_printed_where_there_is_no_experiment() -> None:
    made = [r for rule in PROPOSING for r in proposals(rule, "")]
    blocks = cards(made)
    assert not any(block.command for block in blocks)
    assert all(
        f"Tested by the strategy {r.strategy}." in b.note.text
        for r, b in zip(sorted(made, key=lambda r: r.priority), blocks, strict=True)
    )


def test_strategies_that_do_not_fit_are_not_recommended() -> None:
    rule = next(rule for rule in PROPOSING if "curriculum" in rule.strategies)
    advice = Advice("seen", "do", "effect", pd.DataFrame({"class": ["G0"]}), "threshold")
    unfit = rule.strategies[:-1]
    assert recommendation(rule, advice, "", (), unfit).strategy == rule.strategies[-1]
    assert recommendation(rule, advice, "", (), rule.strategies).strategy == ""


def test_what_an_experiment_tried_goes_by_what_its_strategies_are() -> None:
    strategies = {
        "mine": {"loss": {"focal": {"gamma": 1}}},
        "after": {"posthoc": "temperature"},
        "part": {"heads": {"command": {"loss": "ldam"}}},
        "two": {"sampler": "rarest-class", "head": "cosine"},
        "late": {"schedule": "deferred"},
    }
    spec = parse_experiment({**MAPPING, "baseline": "mine", "strategies": strategies}, where="test")
    assert set(names_used(spec.strategies)) == {*strategies, "focal", "temperature", "deferred"}


def _is_name(text: str) -> bool:
    try:
        check_name(text)
    except ValueError:
        return False
    return text == text.strip()


OPTIONS = st.dictionaries(
    st.text(min_size=1), st.integers() | st.text() | st.booleans() | st.lists(st.text()), min_size=1
)


@given(st.dictionaries(st.text(max_size=12).filter(_is_name), st.none() | OPTIONS, min_size=1, max_size=3))
def test_a_written_choice_is_read_back(chosen: dict[str, object]) -> None:
    try:
        assert read_choice(write_choice(chosen)) == chosen
    except InputError:
        pytest.fail(f"not read back: {write_choice(chosen)!r}")
