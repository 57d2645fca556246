"""Any text as a name of a class, head, strategy or slice: SQLite and a real server take its key, no two collide."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from analysis_tables import table
from browser_server import running_server
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag

from imbalance_lab.analysis.suite import bundles, head_suffixes, head_tables, run_suite, table_file, tables
from imbalance_lab.names import inside, key, name_of, suffixes
from imbalance_lab.predictions import Predictions
from imbalance_lab.report.page import Page, Section, anchors, render
from mlflow_project.__main__ import main

ANY = st.text(st.characters(codec=None, categories=None), max_size=40)
LONGEST = 250
NASTY = (
    "", " ", ".", "..", "../../x", "/etc/passwd", "C:\\x", "a b", "a-b", "a_b", "a  b", "a/b", "a\\b", "a:b", "a%2Fb",
    "a?b", "a#b", "a@b", "a\nb", "a\x00b", "a\tb", "\u202eb", "\ud800", "_x2f_", "con", "x" * 300,
    "x" * 301, "正" * 200,
    "é", "e\u0301", "²", "2", "ﬁ", "fi", "Ａ", "'", '"', "`", "<b>", "{}", "*", "~", "-",
    "--", ".hidden", "end.", "👩\u200d🔬",
)  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


def names() -> list[str]:
    """The nasty ones, and random text of every kind of character."""
    drawn = random.Random(13)
    made = ["".join(chr(drawn.randrange(sys.maxunicode + 1)) for _ in range(drawn.randrange(1, 60))) for _ in range(60)]
    low = ["".join(chr(drawn.randrange(128)) for _ in range(drawn.randrange(1, 6))) for _ in range(120)]
    return list(dict.fromkeys([*NASTY, *made, *low]))


@pytest.fixture(scope="module", params=["sqlite", "server"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[mlflow.MlflowClient]:
    folder = tmp_path_factory.mktemp(f"names-{request.param}")
    if request.param == "server":
        with running_server(folder) as uri:
            yield mlflow.MlflowClient(tracking_uri=uri)
    else:
        yield mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def test_a_store_takes_every_name_and_tells_them_apart(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    where = None if client.tracking_uri.startswith("http") else (tmp_path / "artifacts").as_uri()
    run = client.create_run(client.create_experiment("names", artifact_location=where)).info.run_id
    all_of = names()
    longest = "x" * 300
    numbers = {f"leaderboard/{key(longest)}/balanced_accuracy/{key(name)}": float(i) for i, name in enumerate(all_of)}
    numbers |= {f"test/{key(name)}/precision/{key(longest)}": float(i) for i, name in enumerate(all_of)}
    assert len(numbers) == 2 * len(all_of)
    assert max(len(name.encode()) for name in numbers) <= LONGEST
    client.log_batch(run, metrics=[Metric(name, value, 0, 0) for name, value in numbers.items()])
    for start in range(0, len(all_of), 90):
        some = range(start, min(start + 90, len(all_of)))
        tags = [RunTag(f"free_lunch_tau.{key(all_of[i])}", str(i)) for i in some]
        client.log_batch(run, params=[Param(f"tuned.{key(all_of[i])}", str(i)) for i in some], tags=tags)
    files = tmp_path / "files"
    for i, name in enumerate(all_of):
        file = inside(files / "tables", name, ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        assert not file.exists()
        file.write_text(str(i), encoding="utf-8")
    client.log_artifacts(run, str(files))
    stored = client.get_run(run).data
    assert stored.metrics == numbers
    for i, name in enumerate(all_of):
        assert stored.tags[f"free_lunch_tau.{key(name)}"] == str(i)
        assert stored.params[f"tuned.{key(name)}"] == str(i)
    listed = {item.path for item in client.list_artifacts(run, "tables")}
    assert listed == {f"tables/{key(name)}.json" for name in all_of}
    fetched = Path(client.download_artifacts(run, "tables", str(tmp_path)))
    for i, name in enumerate(all_of):
        assert inside(fetched, name, ".json").read_text(encoding="utf-8") == str(i)
        assert name_of(key(name)) in (name, None)


@settings(max_examples=500, deadline=None)
@given(ANY, st.sampled_from(["", ".json", ".tried.json", ".pt"]))
@example("../../x", ".json")
@example("", "")
def test_a_path_stays_in_its_folder(name: str, ending: str) -> None:
    folder = Path("/data/trials")
    path = inside(folder, name, ending)
    assert path.parent == folder
    assert path.resolve().parent == folder
    assert len(path.name.encode()) <= 255


TITLES = ANY | st.sampled_from(["Head a b", "Head a-b", "a", "A", "a-b", "c", "b c", "Content", "", "part"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(TITLES, st.lists(TITLES, max_size=3, unique=True), min_size=1, max_size=4))
@example({"Per class": ["Head a b", "Head a-b"]})
@example({"a b": ["c"], "a": ["b c"], "Content": []})
def test_two_headings_have_two_ids(titles: dict[str, list[str]]) -> None:
    sections = tuple(Section(outer, (), tuple(map(Section, inner))) for outer, inner in titles.items())
    found = anchors(Page("t", "v", sections=sections))
    assert len(found) == len(titles) + sum(map(len, titles.values()))
    assert len({*found.values(), "content"}) == len(found) + 1
    assert set("".join(found.values())) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_page_of_near_equal_heads_links_to_each() -> None:
    inner = (Section("Head a b"), Section("Head a-b"))
    page = render(Page("t", "v", sections=(Section("Per class", (), inner),)))
    ids = re.findall(r'<h3 id="([^"]+)"', page)
    assert len(set(ids)) == 2
    assert all(page.count(f'href="#{one}"') == 1 for one in ids)


STEMS = ("failure_modes", "failure_modes_by_class", "slice_a", "slice_a_b", "gallery")
HEADS = ANY | st.sampled_from(["by_class", "b", "a", "c", "b_c", "modes_by_class", "a b", "a-b"])


@settings(max_examples=500, deadline=None)
@given(st.lists(HEADS, min_size=1, max_size=4, unique=True), st.sets(st.sampled_from(STEMS), min_size=1))
@example(["main", "by_class"], set(STEMS))
@example(["main", "c", "b_c"], set(STEMS))
def test_no_two_files_of_heads_share_a_name(heads: list[str], stems: set[str]) -> None:
    ends = suffixes(dict.fromkeys(heads, stems), heads[0], ["exact_match"])
    written = [f"{stem}{ends[head]}" for head in heads for stem in stems] + ["exact_match"]
    assert len(set(written)) == len(written)
    assert ends[heads[0]] == ""


def test_tables_of_heads_with_any_name_are_all_there() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    made = table(true, rng.integers(0, 3, 300), 3, np.full(30, 10))
    heads = dict.fromkeys(["command", "by_class", "a b", "a-b", "../../x", "", "a/b"], made)
    analysis = run_suite(Predictions(heads), resamples=10)
    found, others = tables(analysis), bundles(analysis)
    assert set(head_tables(analysis, "command")) <= set(found)
    assert len(others) == len(heads) - 1
    for head, end in head_suffixes(analysis).items():
        if end:
            assert set(head_tables(analysis, head)) == set(others[table_file(end)])
    assert not any("/" in name or name.startswith(".") for name in (*found, *others))
    assert len(set(head_suffixes(analysis).values())) == len(heads)


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\nb", ".", "x" * 101, "-x", "a:b"])
@pytest.mark.parametrize("flag", ["--experiment_name", "--model_name", "--alias"])
def test_a_flag_that_is_no_name_is_one_sentence(flag: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = (
        ["analyze", "--predictions", "x.parquet"]
        if flag == "--experiment_name"
        else ["promote", "--parent_run_id", "1"]
    )
    if (flag, name) == ("--alias", "x" * 101):
        name = "x" * 256
    if (flag, name) == ("--alias", "-x"):
        name = "latest"
    assert main([*command, f"{flag}={name}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{flag}: found {name!r}" in said
