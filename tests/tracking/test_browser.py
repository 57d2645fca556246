"""What a team sees: a finished grid on a real ``mlflow server``, opened in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from mlflow.entities import Metric

from mlflow_project.views import TAG, GridFacts, save_views, view_of, view_path

if TYPE_CHECKING:
    from browser_server import Served

HEAD = "digit"

pytest_plugins = ["browser_server"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader"),
    pytest.mark.filterwarnings("ignore:::mlflow"),
]

PATIENCE = 180_000  # milliseconds; on a machine that is busy with other work the first page takes a minute
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 1000}
ERRORS = re.compile(r"something went wrong|page not found|failed to load|unable to load|error occurred", re.IGNORECASE)
# A fresh browser opens MLflow's assistant over a third of the page; a team closes it once.
_CLOSE_ASSISTANT = """
try {
  localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
  localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
} catch (error) { /* a sandboxed frame has no storage */ }
"""


@pytest.fixture(scope="module")
def window(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A window of Chromium that reaches the server and nothing else.

    It keeps a cache on disk: MLflow's page is several megabytes of script.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra 'dev')")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as p:
        made = p.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("chromium")),
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
            viewport=DESK,
        )
        made.set_default_timeout(PATIENCE)
        made.add_init_script(_CLOSE_ASSISTANT)
        made.route(lambda url: not url.startswith((served.uri, "blob:", "data:", "file:")), lambda route: route.abort())
        yield made
        made.close()


@pytest.fixture(scope="module")
def tab(window: Any) -> tuple[Any, list[str]]:
    """One tab for all tests, as a person would use it, and the answers of the server that failed."""
    made, failed = window.new_page(), []
    made.on("response", lambda answer: failed.append(answer.url) if answer.status >= 500 else None)
    return made, failed


@pytest.fixture
def page(tab: tuple[Any, list[str]]) -> Iterator[Any]:
    """The tab; after a test it shows no error, and no answer of the server failed."""
    made, failed = tab
    failed.clear()
    yield made
    shown = ERRORS.search(made.locator("body").inner_text())
    assert failed == []
    assert shown is None


def path_of(served: Served, run_id: str, inner: str = "") -> str:
    return f"{served.uri}/#/experiments/{served.experiment_id}/runs/{run_id}{inner}?workflowType=machine_learning"


def metric(served: Served, name: str, key: str) -> float:
    client = mlflow.MlflowClient(tracking_uri=served.uri)
    return client.get_run(served.children[name]).data.metrics[key]


def headline(served: Served) -> str:
    """The first sentence of the verdict."""
    verdict = json.loads((served.work / "comparison" / "verdict.json").read_text(encoding="utf-8"))
    return str(verdict["reason"].split(". ")[0].rstrip("."))


def see(page: Any, text: str | re.Pattern[str]) -> None:
    """Wait until the page shows a text."""
    pattern = text.pattern if isinstance(text, re.Pattern) else re.escape(text)
    page.wait_for_function("p => new RegExp(p).test(document.body.innerText)", arg=pattern, polling=250)


def follow(page: Any, served: Served, name: str) -> None:
    """Go where a link of the shown description leads (by itself it opens another tab)."""
    link = page.get_by_role("link", name=name, exact=True).first
    assert link.get_attribute("target") == "_blank"
    page.goto(f"{served.uri}/{link.get_attribute('href')}")


SECTIONS = [
    "Which strategy?", "Recall of the rare classes", "Precision of the rare classes", "Found against false alarms",
    "Calibration", "Training", "Confusion",
]  # fmt: skip
_DRAWN = """() => [...document.querySelectorAll('.js-plotly-plot')].map(
    e => [e.data[0].type, [...e.data[0].x], e.querySelectorAll('.bars .point').length])"""


def bars(page: Any, n: int) -> list[list[float]]:
    """The lengths of the bars of the first ``n`` charts, top to bottom, when they are drawn.

    A chart is drawn when it comes into sight, and again when the page gets its place.
    """
    page.wait_for_function(f"({_DRAWN})().filter(([t, x, drawn]) => drawn && drawn === x.length).length >= {n}")
    found = page.evaluate(_DRAWN)[:n]
    assert [kind for kind, *_ in found] == ["bar"] * n
    return [lengths for _, lengths, _ in found]


def test_the_printed_link_opens_the_prepared_view(page: Any, served: Served) -> None:
    """The first test of this module: the profile is fresh, as that of who gets the link."""
    (link,) = re.findall(r"Open (\S+viewStateShareKey=\S+)", served.said.splitlines()[-1])
    page.goto(link)
    see(page, f"Which strategy? {served.name}")
    see(page, "4 matching runs")  # the trials of the grid, without the grid itself
    see(page, SECTIONS[-1])
    shown = page.get_by_test_id("experiment-view-compare-runs-section-header").all_inner_texts()
    assert [text.split("\n")[0] for text in shown[: len(SECTIONS)]] == SECTIONS
    # 9 and 8 are the rarest of the long-tailed digits.
    keys = [f"test/{HEAD}/{name}" for name in ("macro_f1", "balanced_accuracy", "recall/9", "recall/8")]
    for key, lengths in zip(keys, bars(page, len(keys)), strict=True):
        see(page, key)
        assert sorted(lengths) == pytest.approx(sorted(metric(served, name, key) for name in served.children))
    # The same view as a list: what is compared stands in columns.
    page.goto("about:blank")
    page.goto(link.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    see(page, "4 matching runs")
    see(page, "balanced_accuracy")
    heads = page.locator("[role=columnheader]").all_inner_texts()
    assert {*keys, "strategy", "seed"} <= set(heads)


def test_a_view_shows_more_than_ten_runs_and_leaves_a_users_view_alone(page: Any, served: Served) -> None:
    """MLflow hides all runs but the first ten by default; the menu holds what was saved by hand, too."""
    client = mlflow.MlflowClient(tracking_uri=served.uri)
    place = client.create_experiment("many")
    parent = client.create_run(place)
    metrics = {f"test/{HEAD}/{name}": 0.5 for name in ("macro_f1", "balanced_accuracy")}
    for i in range(12):
        run = client.create_run(place, run_name=f"s{i}", tags={"mlflow.parentRunId": parent.info.run_id})
        client.log_batch(run.info.run_id, [Metric(k, v + i / 100, 0, 0) for k, v in metrics.items()])
        client.set_terminated(run.info.run_id)
    facts = GridFacts("many", parent.info.run_id, parent.info.start_time, HEAD, (), calibrated=False)
    other = json.loads(view_of(replace(facts, parent_id="f" * 32), by_strategy=False)) | {"name": "mine"}
    client.set_experiment_tag(place, f"{TAG}1700000000000abcdefgh", json.dumps(other))
    key = save_views(client, place, facts, grouped=False)
    page.goto("about:blank")
    page.goto(f"{served.uri}/{view_path(place, key)}")
    see(page, "12 matching runs")
    for lengths in bars(page, 2):
        assert sorted(lengths) == pytest.approx([0.5 + i / 100 for i in range(12)])
    page.get_by_role("button", name="Which strategy? many").click()
    page.get_by_text("mine", exact=True).wait_for()
    assert client.get_experiment(place).tags[f"{TAG}1700000000000abcdefgh"] == json.dumps(other)


def test_run_list_grouped_by_strategy(page: Any, served: Served) -> None:
    page.goto(f"{served.uri}/#/experiments/{served.experiment_id}/runs?workflowType=machine_learning")
    see(page, "tiny-served grid")
    see(page, "5 matching runs")  # the children are folded under their parent
    page.get_by_role("button", name="Group by").click()
    page.get_by_role("menuitemcheckbox", name="strategy", exact=True).first.click()
    page.keyboard.press("Escape")
    see(page, re.compile("Group: cross-entropy"))
    see(page, re.compile("Group: logit-adjusted"))
    for name in served.children:
        see(page, name)
    # Kept by the page for this experiment; the artifact view is off while runs are grouped.
    page.evaluate("localStorage.clear()")


@pytest.fixture
def parent(page: Any, served: Served) -> Any:
    """The tab with the parent run."""
    page.goto(path_of(served, served.parent))
    see(page, headline(served))
    return page


def test_parent_says_the_verdict_and_leads_to_a_child(parent: Any, served: Served) -> None:
    see(parent, "mlflow_project")  # who made it, and from what
    row = parent.get_by_role("row", name=re.compile(r"^cross-entropy\s+s0 s1"))
    link = row.get_by_role("link", name="s1").get_attribute("href")
    parent.goto(f"{served.uri}/{link}")
    see(parent, re.compile("cross-entropy, seed 1: macro F1 .* test positions"))
    assert parent.get_by_role("heading", name="cross-entropy-s1").count() == 1


def test_charts_of_the_trials(parent: Any, served: Served) -> None:
    follow(parent, served, "charts")
    see(parent, f"test/{HEAD}\n")
    sections = re.findall(r"^[a-z_]+(?:/\w+)+$", parent.locator("body").inner_text(), flags=re.MULTILINE)
    assert sections[0].startswith("test/")  # a team sees the scores first, not how long something took
    for name in served.children:
        see(parent, name)
    assert parent.get_by_text("tiny-served grid").count() == 0  # only what is compared, not folded under its parent


def test_tables_side_by_side(parent: Any, served: Served) -> None:
    follow(parent, served, "per class, side by side")
    # All of it without a click: the table, its rows and the column that is compared.
    see(parent, re.compile(r"Table:\s+tables/per_class\.json\s+Group by:\s+class\s+Compare:\s+f1"))
    for name in served.children:
        see(parent, name)
    first = max(served.children, key=lambda name: metric(served, name, f"test/{HEAD}/macro_f1"))
    table = json.loads(
        Path(
            mlflow.MlflowClient(served.uri).download_artifacts(served.children[first], "tables/per_class.json")
        ).read_text()
    )
    best = max(f1 for _, f1, *_ in table["data"])
    assert best > 0
    see(parent, str(best))


def test_compare_page(parent: Any, served: Served) -> None:
    follow(parent, served, "parameters and metrics")
    see(parent, "Comparing 4 Runs")
    for name in served.children:
        see(parent, name)
    # The first of the long table of metrics, and the figures at the root, which this page sets side by side.
    see(parent, f"test/{HEAD}/balanced_accuracy")
    scored = sorted(metric(served, name, f"test/{HEAD}/balanced_accuracy") for name in served.children)
    see(parent, f"{scored[-1]:.3f}".rstrip("0"))
    for figure in ("calibration.png", "confusion.png", "per_class.png"):
        see(parent, figure)


def open_artifact(page: Any, served: Served, run_id: str, artifact: str) -> None:
    """The artifact view with one artifact shown."""
    page.goto("about:blank")  # from one artifact to the next, the view keeps what it shows
    page.goto(path_of(served, run_id, f"/artifacts/{artifact}"))


def test_child_report_in_the_artifact_view(page: Any, served: Served) -> None:
    open_artifact(page, served, served.children["logit-adjusted-s0"], "report/index.html")
    report = page.frame_locator("iframe.mlflow-html-iframe")
    report.get_by_role("heading", level=1).get_by_text("logit-adjusted, seed 0, test split").wait_for()
    assert report.get_by_text(f"{metric(served, 'logit-adjusted-s0', f'test/{HEAD}/macro_f1'):.3f}").count()
    # The frame refuses addresses like #confusions; the contents lead to their sections all the same.
    entry = report.get_by_role("navigation", name="Contents").get_by_role("link").nth(3)
    target = report.locator(str(entry.get_attribute("href")))
    before = target.evaluate("e => e.getBoundingClientRect().top")
    entry.click()
    assert target.evaluate("e => document.activeElement === e")
    assert abs(target.evaluate("e => e.getBoundingClientRect().top")) < abs(before)


def test_comparison_in_the_artifact_view_leads_to_a_child(page: Any, served: Served) -> None:
    open_artifact(page, served, served.parent, "comparison/index.html")
    comparison = page.frame_locator("iframe.mlflow-html-iframe")
    comparison.get_by_text(headline(served)).first.wait_for()
    comparison.get_by_role("link", name="cross-entropy, seed 1").click()
    # MLflow's frame may not open another page: the address is shown instead, ready to be pasted.
    address = comparison.get_by_label("Address of cross-entropy, seed 1").input_value()
    assert address.startswith(served.uri)
    page.goto(address)
    see(page, re.compile("cross-entropy, seed 1: macro F1 .* test positions"))


OWN_PAGES = {"report": "report/index.html", "comparison": "comparison/index.html"}


@pytest.mark.parametrize("name", OWN_PAGES)
def test_own_pages_on_a_phone(window: Any, served: Served, name: str) -> None:
    tab = window.new_page()
    tab.set_viewport_size(PHONE)
    run = served.children["cross-entropy-s0"] if name == "report" else served.parent
    (file,) = served.store.rglob(f"{run}/artifacts/{OWN_PAGES[name]}")
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert tab.get_by_role("heading", level=1).count() == 1
    assert tab.get_by_role("heading", level=2).count() >= 3
    pictures = tab.locator("img").all()
    assert pictures
    for picture in pictures:
        assert len(picture.get_attribute("alt") or "") > 20
        assert picture.evaluate("e => e.complete && e.naturalWidth > 0")
    # Every link inside the page leads somewhere.
    missing = tab.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert missing == []
    tab.close()
