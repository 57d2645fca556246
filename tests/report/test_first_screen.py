"""What a reader sees before anything is opened: first screen, five sections, the rest behind headings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_cases import predictions, read

from imbalance_lab.analysis.suite import run_suite
from imbalance_lab.report.page import anchor, render
from imbalance_lab.report.page_sections import RUN
from imbalance_lab.report.recommendation_cards import OPEN_CARDS
from imbalance_lab.report.run_report import render_run_report, results_of

MOST = 12_000  # pixels of an unopened page of two heads at 1,300 wide
LONG = tuple(f"a class whose name is as long as a sentence, number {i} of its family at the very end" for i in range(5))
CASES: dict[str, dict[str, Any]] = {
    "two heads": {"k": 4, "heads": 2},
    "long names": {"k": 5, "classes": LONG, "heads": 2},
    "40 classes": {"k": 40, "n": 4000, "heads": 2},
    "one class": {"k": 1, "n": 600, "heads": 2},
}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The page of a trial for each case."""
    found = {}
    for name, options in CASES.items():
        analysis = run_suite(predictions(**options), resamples=50)
        results = results_of(analysis, every=False)
        found[name] = render(
            render_run_report(analysis, title=name, results=results, experiment="spec.yaml", baseline="ce")
        )
    return found


def test_the_first_screen_names_what_to_do_first(pages: dict[str, str]) -> None:
    html = pages["two heads"]
    head = html[html.index("<header") : html.index("</header>") + len("</header>")]
    order = [head.index(part) for part in ('class="verdict"', 'class="numbers"', 'class="lead"', 'class="advice"')]
    assert order == sorted(order)
    reader = read(head)
    links = [a["href"] for a in reader.all("a")]
    assert links == ["#recommendations"] * OPEN_CARDS
    assert not reader.all("details")
    # What was seen may be cut; what to do stands beside it, whole.
    assert head.count("</span> <b>") == OPEN_CARDS
    cards = html[html.index('<h2 id="recommendations"') :]
    shown = cards[: cards.index("</section>")].split('<article class="card">')[1:]
    folded = [card.lstrip().startswith("<details>") for card in shown]
    assert folded == [i >= OPEN_CARDS for i in range(len(shown))]
    assert len(shown) > OPEN_CARDS


@pytest.mark.parametrize("case", list(CASES))
def test_deep_dives_and_other_heads_are_behind_their_headings(pages: dict[str, str], case: str) -> None:
    body = pages[case][pages[case].index("<main") :]
    opened = '<details class="part"><summary><h{} id="{}">'
    keys = {anchor(title): key for key, title in RUN.sections.items()}
    found = [part.split('"')[0] for part in body.split('<h2 id="')[1:]]
    assert [keys[i] for i in found][:5] == ["overall", "per_class", "confusions", "confidence", "recommendations"]
    for i in found:
        assert (opened.format(2, i) in body) == (keys[i] in RUN.folded), i
    for heading in ("overall", "per-class"):
        assert f'<h3 id="{heading}-head-head0">' in body
        assert opened.format(3, f"{heading}-head-head0") not in body
        assert opened.format(3, f"{heading}-head-head1") in body


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra 'dev')")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as p:
        made = p.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("case", list(CASES))
def test_a_page_is_short_and_nothing_sticks_out(
    pages: dict[str, str], browser: Any, tmp_path: Path, case: str, width: int
) -> None:
    file = tmp_path / "page.html"
    file.write_text(pages[case], encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(file.as_uri())
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size[0] <= width  # wide tables scroll in their own frames
    if width == 1300:
        assert size[1] <= MOST
        first = page.evaluate("document.querySelector('header').getBoundingClientRect().height")
        assert first <= (900 if case != "long names" else 1100)
    page.close()


def test_a_link_opens_what_it_leads_to_and_print_opens_everything(
    pages: dict[str, str], browser: Any, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(pages["two heads"], encoding="utf-8")
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto(file.as_uri())
    table = page.locator("section[aria-labelledby=position-and-segments] table").first
    assert not table.is_visible()
    page.locator("nav a[href='#position-and-segments-head-head1']").click()
    assert page.locator("section[aria-labelledby=position-and-segments-head-head1] table").first.is_visible()
    page.reload()
    page.emulate_media(media="print")
    heights = page.evaluate(
        "[...document.querySelectorAll('details>:not(summary)')].map(e => e.getBoundingClientRect().height)"
    )
    assert len(heights) > 20
    assert np.all(np.array(heights) > 0)
    page.close()


def test_no_table_is_cut_in_print_and_its_header_is_on_every_sheet(pages: dict[str, str], browser: Any) -> None:
    page = browser.new_page(viewport={"width": 703, "height": 1000})  # A4 with margins of 12 mm
    page.set_content(pages["two heads"])
    page.emulate_media(media="print")
    wide = page.evaluate(
        "[...document.querySelectorAll('table')].filter(e => e.scrollWidth > e.parentElement.clientWidth + 1)"
        ".map(e => e.caption.innerText)"
    )
    assert wide == []
    # Chromium repeats a header only where it holds nothing that it takes as one piece, as a button is.
    assert page.evaluate("getComputedStyle(document.querySelector('th button')).display") == "contents"
    page.close()
