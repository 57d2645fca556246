"""Pages: valid HTML, reachable by a screen reader, no outside address, hostile names escaped, below 5 MB."""

import re
import shutil
from base64 import b64encode
from hashlib import sha256
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from page_cases import Reader, predictions, read
from PIL import Image

from imbalance_lab.analysis.recommendations import Recommendation
from imbalance_lab.analysis.results import ErrorAnalysis
from imbalance_lab.analysis.suite import head_tables, run_suite
from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.errors import InputError
from imbalance_lab.plots.class_figures import per_class
from imbalance_lab.plots.rates import slices
from imbalance_lab.plots.style import Scope, new_figure
from imbalance_lab.report.assemble import Results, sections_of
from imbalance_lab.report.audit_page import render_audit_page
from imbalance_lab.report.comparison_page import render_comparison_page
from imbalance_lab.report.images import FigureView, figure_view, fit
from imbalance_lab.report.page import Number, Page, Section, anchor, link_list, render, write
from imbalance_lab.report.page_sections import RUN
from imbalance_lab.report.page_tables import table_view
from imbalance_lab.report.recommendation_cards import cards
from imbalance_lab.report.run_report import render_run_report

HOSTILE = '<script>alert("x")</script>&"\'{{ 7*7 }}'


def check(html: str) -> Reader:
    """What every page must fulfil."""
    assert html.startswith("<!doctype html>")
    assert len(html.encode()) < 5_000_000
    reader = read(html)
    for tag in ("header", "main", "footer", "title", "h1"):
        assert len(reader.all(tag)) == 1, tag
    assert reader.all("html")[0]["lang"] == "en"
    assert all(img.get("alt") for img in reader.all("img"))
    assert all(img["src"].startswith("data:image/") for img in reader.all("img"))
    assert all(th.get("scope") in ("col", "row") for th in reader.all("th"))
    assert len(reader.all("caption")) == len(reader.all("table"))
    assert not reader.all("link")
    (policy,) = [m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert re.search("script-src ([^;]*);", policy)[1].split() == allowed  # this script and no other
    assert policy.startswith("default-src 'none';")
    assert all("src" not in script for script in reader.all("script"))
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", html)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(a["href"][1:] in ids for a in reader.all("a") if a["href"].startswith("#"))
    return reader


@pytest.fixture(scope="module")
def analysis() -> ErrorAnalysis:
    return run_suite(predictions(), resamples=60)


@pytest.fixture(scope="module")
def run_html(analysis: ErrorAnalysis) -> str:
    return render(render_run_report(analysis, title="focal-2, seed 0", facts={"run": "abc"}))


def test_run_report_has_the_sections_in_the_order_of_a_meeting(run_html: str) -> None:
    reader = check(run_html)
    titles = [h["id"] for h in reader.all("h2") if "id" in h]
    assert titles[:5] == [
        anchor(RUN.sections[s]) for s in ("overall", "per_class", "confusions", "confidence", "recommendations")
    ]
    assert len(reader.all("nav")) == 1
    assert len(reader.all("img")) >= 9


def test_run_report_opens_with_verdict_numbers_and_one_figure(run_html: str, analysis: ErrorAnalysis) -> None:
    head = run_html[run_html.index("<header") : run_html.index("</header>") + len("</header>")]
    reader = read(head)
    assert len(reader.all("img")) == 1
    assert 1 <= len(reader.all("strong")) <= 5
    value = analysis.heads["head0"].summary.metrics.set_index("metric").loc["macro_f1", "value"]
    assert f"Macro F1 is {value:.3f}" in "".join(reader.text)


def test_run_report_shows_the_numbers_of_the_analysis(run_html: str, analysis: ErrorAnalysis) -> None:
    worst = analysis.heads["head0"].per_class.table.iloc[0]
    text = " ".join("".join(read(run_html).text).split())
    assert f"{100 * worst['recall']:.1f} %" in text
    assert f"{worst['f1']:.3f}" in text
    pair = analysis.heads["head0"].confusion.pairs.iloc[0]
    assert f"{pair['n_true']:,}" in text


@pytest.mark.parametrize(("k", "heads"), [(1, 1), (2, 2), (13, 1)])
def test_run_report_for_one_two_and_many_classes(k: int, heads: int) -> None:
    found = run_suite(predictions(k, 600, heads=heads), resamples=30)
    results = None if heads == 1 else {name: Results(head_tables(found, name)) for name in found.heads}
    reader = check(render(render_run_report(found, title=f"{k} classes", results=results)))
    inner = [h["id"] for h in reader.all("h3") if "id" in h]
    assert any(i.endswith("head-head1") for i in inner) == (heads == 2)


def test_hostile_names_are_text_everywhere() -> None:
    data = predictions(3, 600, classes=(HOSTILE, "b", "c"))
    found = run_suite(data, resamples=30)
    figure = per_class(found.heads["head0"].per_class.table, Scope(HOSTILE))
    results = {"head0": Results(head_tables(found, "head0"), {"per_class": figure})}
    html = render(render_run_report(found, title=HOSTILE, facts={HOSTILE: HOSTILE}, results=results))
    reader = check(html)
    assert "alert(" not in "".join(re.findall(r"<script>(.*?)</script>", html, flags=re.S))
    assert len(reader.all("script")) == 1
    assert HOSTILE in "".join(reader.text)
    assert HOSTILE in reader.all("img")[0]["alt"]


def finding(check_name: str, verdict: Verdict, **kwargs) -> Finding:
    return Finding(check_name, verdict, f"{check_name} says {verdict}", **kwargs)


def test_audit_page_puts_the_worst_first_with_evidence() -> None:
    findings = [
        finding("vocabulary", Verdict.PASS),
        finding("power", Verdict.WARN, rate=0.3, n=40, threshold=0.2),
        finding(
            "placeholder",
            Verdict.FAIL,
            subject="command/G0",
            rate=0.973,
            interval=(0.969, 0.977),
            n=7582,
            threshold=0.5,
            evidence=({"class": "G0", "real": 202},),
            mend="Mask it",
        ),
        finding("input leakage", Verdict.NOT_APPLICABLE),
    ]
    page = render_audit_page(findings, title="audit", sentence="Artefact: G0 is filler.")
    assert page.tone == "bad"
    assert [n.value for n in page.numbers[:3]] == ["1", "1", "97.3 %"]
    html = render(page)
    reader = check(html)
    text = "".join(reader.text)
    assert "Artefact: G0 is filler." in text
    assert "What to do: Mask it" in text
    checks = [h["id"] for h in reader.all("h3") if "id" in h]
    assert checks[0] == "check-by-check-placeholder-fail"
    first_row = html[html.index("<tbody>") : html.index("</tr>", html.index("<tbody>"))]
    assert 'data-tone="fail"' in first_row
    # The evidence of the failure; those that passed, and their checks, are behind their headings.
    assert html.count("<summary>Evidence (1 row)") == 1
    assert html.count("2 findings that passed or do not apply</summary>") == 1
    assert [h for h in reader.all("details") if h.get("class") == "part"] == [{"class": "part"}] * 2


def test_an_audit_says_what_to_do_first_and_nothing_twice() -> None:
    """Of 40 classes that cannot be learnt one is named with how many more; those that can stand behind a triangle."""
    unseen = [
        Finding("learnability", Verdict.WARN, f"command/G{i}: no signal.", f"command/G{i}", mend="add sensors")
        for i in range(40)
    ]
    seen = [Finding("learnability", Verdict.PASS, f"token/{i}: signal.", f"token/{i}") for i in range(30)]
    worse = [Finding("splits", Verdict.FAIL, "Both.", mend=mend) for mend in ("do a", "do b", "do c")]
    page = render_audit_page([*seen, *unseen, *worse[:1]], title="a", sentence="s")
    assert [(c.title, c.issue, c.action) for c in page.advice] == [
        ("Splits", "Both.", "Do a."),
        ("Learnability: command/G0 and 39 more", "No signal.", "Add sensors."),
    ]
    assert len(render_audit_page([*unseen, *worse], title="a", sentence="s").advice) == 3
    html = render(page)
    check(html)
    assert html.count("What to do: add sensors") == 1
    assert "command/G7: command/G7" not in html
    shown = html[: html.index("<details>", html.index("<main"))]
    assert shown.count("<tr>") == 1 + 1 + 3  # of one kind three; what passed is no row of the first table
    assert "37 more findings of the same kinds" in html
    assert html.count("30 findings that passed</summary>") == 2


def test_an_audit_without_findings_still_renders() -> None:
    check(render(render_audit_page([], title="audit", sentence="Nothing was checked.")))


def test_numbers_of_a_table_are_no_negative_zero_and_keep_their_interval() -> None:
    frame = pd.DataFrame(
        {"k": [0, 1], "feature": ["a", "b"], "drop": [-1e-17, 0.5], "low": [-0.0004, 0.4], "high": 0.6}
    )
    view = table_view(frame, "t")
    assert [c.header for c in view.columns] == ["k", "feature", "drop"]
    assert [[c.text for c in row] for row in view.rows] == [["0", "a", "0.000"], ["1", "b", "0.500"]]
    assert view.rows[0][2].detail == "-0.0004 to 0.600"


def test_an_interval_is_of_the_value_before_it() -> None:
    table = pd.DataFrame({"reach": [3], "probability": 0.5, "low": 0.4, "high": 0.7, "accuracy": 0.55, "n": 9})
    (row,) = table_view(table, "context").rows
    assert [(cell.text, cell.detail) for cell in row] == [
        ("3", ""),
        ("0.500", "0.400 to 0.700"),
        ("55.0 %", ""),
        ("9", ""),
    ]


def test_pictures_have_one_scale_whatever_their_width() -> None:
    wide, narrow = (figure_view("a", new_figure(width=w, height=3.0)[0]) for w in (8.0, 4.0))
    assert wide.width == 2 * narrow.width
    assert abs(wide.height - narrow.height) <= 1


def test_comparison_page_links_to_the_children() -> None:
    table = pd.DataFrame(
        {"strategy": ["focal", "base"], "macro_f1": [0.6, 0.5], "macro_f1_low": [0.5, 0.4], "macro_f1_high": [0.7, 0.6]}
    )
    page = render_comparison_page(
        table,
        title="cmp",
        verdict="Choose focal.",
        tone="good",
        links={"focal": "focal/index.html"},
        children=[("focal, seed 0", "runs/1/index.html")],
        sentences={"focal": "better by 0.1"},
        tables={"verdicts": pd.DataFrame({"strategy": ["focal"], "verdict": ["better"]})},
    )
    reader = check(render(page))
    assert {"focal/index.html", "runs/1/index.html"} <= {a["href"] for a in reader.all("a")}
    assert any(td.get("data-tone") == "better" for td in reader.all("td"))


@pytest.mark.parametrize("href", ["javascript:alert(1)", " JavaScript:x", "data:text/html,x", "vbscript:x"])
def test_links_with_another_scheme_are_refused(href: str) -> None:
    with pytest.raises(InputError, match="scheme"):
        link_list([("x", href)])
    with pytest.raises(InputError, match="scheme"):
        table_view(pd.DataFrame({"a": ["x"]}), "t", links={"x": href})


def test_cards_hold_priority_support_and_command() -> None:
    made = [
        Recommendation(2, "calibration", "ECE 0.2", "fit a temperature", "", ({"ece": 0.2},), "ECE > 0.05", ""),
        Recommendation(
            1,
            "imbalance",
            "G3 is missed 66 % of the time.",
            "try it",
            "recall up",
            (
                {
                    "class": "G3",
                    "recall": 0.34,
                    "recall_low": 0.19,
                    "recall_high": 0.51,
                    "support": 541,
                    "recordings": 30,
                },
            ),
            "recall < 0.5",
            "logit-adjust",
        ),
    ]
    blocks = cards(made, "runs:/1f/spec.yaml", "cross-entropy")
    assert [b.priority for b in blocks] == ["Priority 1", "Priority 2"]
    assert blocks[0].seen == (
        "G3 is missed 66 % of the time (G3: recall 0.34, 95 % interval 0.19 to 0.51, n = 541, 30 recordings)."
    )
    assert blocks[0].command == (
        "mlflow run . -P experiment=runs:/1f/spec.yaml -P strategies=cross-entropy,logit-adjust"
    )
    assert blocks[1].command == ""
    html = render(Page("t", "v", sections=(Section("Recommendations", tuple(blocks)),)))
    reader = check(html)
    assert len(reader.all("article")) == 2
    assert "strategies=cross-entropy,logit-adjust" in html
    assert "No finding" in cards([])[0].text


def test_tables_write_intervals_shares_and_missing_values() -> None:
    frame = pd.DataFrame(
        {
            "class": ["a", "b"],
            "n": [12345, 6],
            "rate": [0.5, np.nan],
            "low": [np.nan, np.nan],
            "high": [np.nan, np.nan],
            "wilson_low": [0.4, np.nan],
            "wilson_high": [0.6, np.nan],
            "f1": [0.25, 0.5],
            "q": [1e-9, 0.04],
            "verdict": ["fail", "ok"],
        }
    )
    view = table_view(frame, "t")
    assert [c.header for c in view.columns] == ["class", "n", "rate", "f1", "q", "verdict"]
    first, second = view.rows
    assert [c.text for c in first] == ["a", "12,345", "50.0 %", "0.250", "<0.001", "fail"]
    assert (first[2].detail, first[2].bar, first[5].tone) == ("40.0 to 60.0", 0.5, "fail")
    assert (second[2].text, second[2].sort, second[2].bar) == ("n/a", None, None)
    assert table_view(pd.concat([frame] * 30), "t", most=40).more == 20


def test_an_empty_table_says_so_in_a_header_cell() -> None:
    page = Page("t", "v", sections=(Section("s", (table_view(pd.DataFrame({"a": []}), "empty"),)),))
    assert "no rows" in "".join(check(render(page)).text)


def noise(seed: int, size: int = 200) -> FigureView:
    buffer = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return FigureView(f"noise{seed}", buffer.getvalue(), "noise", size, size)


def test_pages_stay_below_their_budget_and_say_what_is_left_out() -> None:
    figures = tuple(noise(i) for i in range(4))
    page = Page("t", "v", sections=(Section("s", figures),))
    html = render(page, budget=60_000)
    assert len(html.encode()) <= 60_000
    reader = check(html)
    shown = len(reader.all("img"))
    assert 0 < shown <= 4
    assert html.count("is left out here") == 4 - shown
    with pytest.raises(InputError, match="allowed"):
        render(page, budget=1_000)


def test_figures_shrink_without_loss_of_size_on_screen() -> None:
    rows = pd.DataFrame(
        {"operation": ["a", "b"], "n": [50, 60], "rate": [0.5, 0.1], "low": [0.4, 0.05], "high": [0.6, 0.2]}
    )
    view = figure_view("slices", slices(rows, Scope("command", "test"), what="operation"))
    assert view.alt.startswith("Operation a is the worst: 50 % wrong")
    kept, small = fit([view.png], 10_000_000)[0], fit([view.png], len(view.png))[0]
    assert kept is not None
    assert kept.data == view.png
    assert small is not None
    assert small.media == "image/webp"
    with Image.open(BytesIO(view.png)) as whole, Image.open(BytesIO(small.data)) as image:
        assert image.size == whole.size


def test_results_find_their_section_and_nothing_is_lost() -> None:
    assert RUN.section_of_figure("gallery_2") == "gallery"
    assert RUN.section_of_figure("slice_operation") == "slices"
    assert RUN.section_of_figure("unknown") == "more"
    assert RUN.table("slice_operation").caption == "Error by slice: operation"
    assert RUN.table("my_table").section == "more"
    found = Results({"my_table": pd.DataFrame({"a": [1]})}, {}, {"transitions": "labels are not per step"})
    sections = sections_of(RUN, Results(), {"command": found})
    text = " ".join("".join(check(render(Page("t", "v", sections=sections))).text).split())
    assert "My table" in text
    assert "Transitions — labels are not per step." in text


def test_more_than_five_numbers_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="at most 5"):
        Page("t", "v", numbers=tuple(Number(str(i), "n") for i in range(6)))
    path = write(Page("t", "v"), tmp_path / "a" / "b.html")
    check(path.read_text("utf-8"))


def test_a_browser_runs_the_script_of_a_page_and_no_other(tmp_path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra 'dev')")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    table = table_view(pd.DataFrame({"name": ["a", "b"], "share": [0.25, 0.75]}), "numbers")
    path = write(Page("Title", "Verdict.", sections=(Section("Part", (table,)),)), tmp_path / "page.html")
    smuggled = "<script>document.title='in'</script><img src=x onerror=\"document.title='in'\">"
    path.write_text(path.read_text("utf-8").replace("</main>", f"{smuggled}</main>"), "utf-8")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(path.as_uri())
        buttons = page.locator("th button")
        assert buttons.count() == 2  # the page's own script makes them
        buttons.nth(1).click()
        assert page.locator("tbody th").all_inner_texts() == ["b", "a"]
        assert page.locator("body").evaluate("e => getComputedStyle(e).marginTop") == "0px"  # the style is applied
        assert page.title() == "Title"
        browser.close()
