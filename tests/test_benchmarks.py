"""The benchmarks run at their smallest size and write what docs/performance.md is made from; nothing is timed here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from grid_fixture import Grid, tiny_grid  # noqa: F401 - a fixture

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
KEYS = {"benchmark", "command", "size", "date", "environment", "seconds", "tables", "facts", "not_measured"}


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a script is started: its folder comes first."""
    monkeypatch.syspath_prepend(str(FOLDER))


def script(name: str) -> ModuleType:
    return import_module(name)


def result_of(name: str, path: Path, *flags: str) -> dict[str, Any]:
    assert script(name).main(["--size", "tiny", "--json", str(path / f"{name}.json"), *flags]) == 0
    return json.loads((path / f"{name}.json").read_text(encoding="utf-8"))


def check_shape(result: dict[str, Any], name: str) -> None:
    assert set(result) == KEYS
    assert (result["benchmark"], result["size"]) == (name, "tiny")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
    around = result["environment"]
    assert around["cores"] >= 1
    assert around["memory_gib"] > 0
    assert {"torch", "numpy", "mlflow"} <= set(around["versions"])
    assert all(isinstance(row, dict) for rows in result["tables"].values() for row in rows)
    assert all(rows for rows in result["tables"].values())
    assert str(FOLDER.parent) not in json.dumps(result)


def entry_of(result: dict[str, Any]) -> dict[str, Any]:
    """A result as performance.py keeps it."""
    more = {key: result[key] for key in ("command", "seconds", "date", "environment")}
    return {"status": "done", "result": result} | more


def test_startup(tmp_path: Path) -> None:
    result = result_of("startup", tmp_path)
    check_shape(result, "startup")
    rows = {row["command"]: row["seconds"] for row in result["tables"]["start"]}
    assert rows["python -m mlflow_project --help"] == result["facts"]["help_s"] > 0
    assert result["facts"]["goal_met"] == (result["facts"]["help_s"] < result["facts"]["goal_s"])
    assert "make run" in result["not_measured"][0]


def test_startup_says_why_a_command_fails(tmp_path: Path) -> None:
    with pytest.raises(script("_common").CaseError, match="ended with 3"):
        script("startup").process_seconds(("-c", "raise SystemExit(3)"), tmp_path)


def test_training_and_the_plain_loop_do_the_same_work(tmp_path: Path) -> None:
    result = result_of("training", tmp_path)
    check_shape(result, "training")
    cases = {row["case"]: row for row in result["tables"]["cases"]}
    assert set(cases) == {"trainer", "plain loop", "trainer, a process per core"}
    for row in cases.values():
        if row["processes"] == 1:  # a step's milliseconds and the rate are of the same number of sequences
            assert row["sequences_per_s"] == pytest.approx(row["batch"] / row["ms_per_step"] * 1000, rel=1e-4)
        assert row["least"] <= row["sequences_per_s"] <= row["most"]
    ratio = next(r for r in result["tables"]["ratios"] if "one thread each" in r["ratio"])
    expected = cases["trainer"]["sequences_per_s"] / cases["plain loop"]["sequences_per_s"]
    assert ratio["median"] == pytest.approx(expected, rel=1e-4)
    assert any("CUDA" in line for line in result["not_measured"])


def test_plain_loop_takes_every_step_and_trains() -> None:
    training = script("training")
    loaded = training.load("tiny", "")
    index = np.resize(loaded.splits.train, 20)
    config = training.TrainingConfig(epochs=1, batch_size=8, learning_rate=0.01, device="cpu", precision="float32")
    trial = training.prepare_network(
        loaded, training.strategy_of(loaded.dataset, index), training.model_of("tiny"), config, 0
    )
    before = [p.detach().clone() for p in trial.network.parameters()]
    assert training.plain_loop(trial.network, loaded.dataset, index, config, 0.1) == 20
    changed = [not bool((a == b).all()) for a, b in zip(before, trial.network.parameters(), strict=True)]
    assert np.mean(changed) > 0.9


def test_a_precision_that_the_machine_cannot_compute_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("could not create a primitive descriptor for a matmul primitive")

    monkeypatch.setattr(torch.nn.LSTM, "forward", refuse)
    names, left_out = script("training")._possible(("trainer", "trainer, bfloat16"), "cpu")
    assert names == ("trainer",)
    assert len(left_out) == 1
    assert left_out[0].startswith("trainer, bfloat16: not measured, training.precision")


def test_everything_of_make_gpu_runs_in_its_smallest_size(tmp_path: Path) -> None:
    gpu, document = script("gpu"), script("_gpu_document")
    before = {file: file.exists() and file.read_bytes() for file in (document.DOCUMENT, document.RESULTS)}
    assert gpu.main(["--tiny", "--device", "cpu", "--json", str(tmp_path / "gpu.json")]) == 0
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert {name: entry["status"] for name, entry in results["benchmarks"].items()} == dict.fromkeys(
        document.PARTS, "done"
    )
    parts = {name: entry["result"] for name, entry in results["benchmarks"].items()}
    for name, result in parts.items():
        check_shape(result, name)
    assert sum(parts["cuda_tests"]["facts"].values()) >= 1
    assert parts["agreement"]["facts"]["losses agree"] == {"goal": 0.01, "value": 0, "met": True}
    assert parts["agreement"]["facts"]["confusions agree"]["value"] == 0
    assert [row["case"] for row in parts["together"]["tables"]["cases"]] == ["one trial", "plain loop", "2 trials"]
    assert {row["part"] for row in parts["motion"]["tables"]["parts"]} > {"train", "predict", "analyse", "log"}
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "Tiny sizes" in text
    assert "Never run" not in text
    assert "None" not in text
    assert "nan" not in text
    assert before == {file: file.exists() and file.read_bytes() for file in before}


def test_make_gpu_on_a_machine_without_one_is_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    gpu = script("gpu")
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    for flags, words in (((), "no CUDA device"), (("--device", "cpu"), "found 'cpu'"), (("--only", "x"), "no CUDA")):
        with pytest.raises(SystemExit) as ended:
            gpu.main(list(flags))
        assert ended.value.code == 2
        assert words in capsys.readouterr().err


def test_gpu_document_in_the_repository_is_made_from_its_results() -> None:
    document = script("_gpu_document")
    results = json.loads(document.RESULTS.read_text(encoding="utf-8")) if document.RESULTS.exists() else None
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert text == document.write(results)
    assert ("Never run on a GPU" in text) == (results is None)
    assert sum(part.limit_s for part in document.PARTS.values()) <= 20 * 60


def test_goals_of_a_gpu_are_judged_round_by_round() -> None:
    together = script("together")
    seconds = {
        "one trial": [1.0, 2.0, 1.0],
        "one trial, no graph": [1.4, 3.2, 1.6],
        "plain loop": [1.9, 3.8, 2.5],
        "36 trials": [2.9, 5.0, 9.0],
    }
    rows, facts = together.ratios_of(seconds)
    assert {row["ratio"]: row["median"] for row in rows} == pytest.approx(
        {
            "one trial, no graph against one trial": 1.6,
            "plain loop against one trial": 1.9,
            "36 trials against one trial": 2.9,
        }
    )
    assert [fact["met"] for fact in facts.values()] == [True, True, False]
    assert together.ratios_of({"plain loop": [1.0]}) == ([], {})


def test_cases_that_a_device_cannot_hold_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together, common = script("together"), script("_common")

    def fresh(prepare: Any, **case: Any) -> Any:
        if case["k"] > 12:
            raise common.CaseError("the memory of the device holds 20 trials at once")
        return common.Timing(1.0, 1.0, 0.0, 0.0, (0.001 * max(case["k"], 1), 300.0))

    monkeypatch.setattr(together, "fresh", fresh)
    monkeypatch.setattr(together.torch.cuda, "get_device_name", lambda device: "a GPU")
    flags = ["--size", "tiny", "--device", "cuda", "--json", str(tmp_path / "t.json")]
    monkeypatch.setitem(together.AT_ONCE, "tiny", (4, 36))
    assert together.main(flags) == 0
    result = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in result["tables"]["cases"]] == [
        "one trial",
        "one trial, no graph",
        "plain loop",
        "4 trials",
    ]
    assert result["tables"]["cases"][-1]["ms_per_trial_and_step"] == pytest.approx(1.0)
    assert result["not_measured"] == ["36 trials: the memory of the device holds 20 trials at once."]
    assert "36 trials at once against one" not in result["facts"]


def test_a_disagreement_with_the_cpu_is_found() -> None:
    agreement = script("agreement")
    loaded = script("training").load("tiny", "")
    epochs = agreement.epochs_of(0, loaded, "tiny", "cpu")
    counts = {head: np.array(c) for head, c in epochs[0].confusion.items()}
    n = sum(int(c.sum()) for c in counts.values())
    head, cell = next((h, tuple(np.argwhere(c > 0)[0])) for h, c in counts.items())
    counts[head][cell] -= 1
    counts[head][cell[0], cell[1] - 1] += 1
    other = [replace(epochs[0], loss=epochs[0].loss * 1.1, confusion={h: c.tolist() for h, c in counts.items()})]
    (row,) = agreement.compared("s", epochs[:1], other)
    assert row["difference"] == pytest.approx(0.1)
    assert row["moved"] == pytest.approx(1 / n)


def test_a_report_of_tests_is_read(tmp_path: Path) -> None:
    report = tmp_path / "r.xml"
    report.write_text(
        "<testsuites><testsuite><testcase classname='a' name='b'/><testcase classname='a' name='c'>"
        "<failure message='AssertionError: 1&#10;more'/></testcase><testcase classname='a' name='d'>"
        "<skipped message='no'/></testcase></testsuite></testsuites>",
        encoding="utf-8",
    )
    outcome = script("cuda_tests").read(report)
    assert outcome.facts == {"passed": 1, "failed": 1, "skipped": 1}
    assert outcome.tables == {"failed": [{"test": "a::c", "reason": "AssertionError: 1"}]}


def test_trial_end(tmp_path: Path) -> None:
    result = result_of("trial_end", tmp_path)
    check_shape(result, "trial_end")
    every, few = result["tables"]["ends"]
    assert few["drawn"] < every["drawn"]
    assert few["files"] - few["drawn"] == every["files"] - every["drawn"]  # all else is written all the same
    assert few["cpu_s"] > 0
    facts, largest = result["facts"], result["tables"]["stored"]
    assert {"run", "model"} == {row["of"] for row in largest}
    assert [row["kb"] for row in largest] == sorted((row["kb"] for row in largest), reverse=True)
    assert 0 < facts["stored_model_mb"] < facts["stored_mb"] < 4
    assert few["files"] < facts["stored_files"] < 80
    text = script("document").trial_end(result)
    assert "With the figures of a trial it takes" in text
    assert "under 80 files and 4.00 MB, met" in text


def test_samplers(tmp_path: Path) -> None:
    result = result_of("samplers", tmp_path)
    check_shape(result, "samplers")
    registry = import_module("imbalance_lab.strategies.language.registry")
    rows = result["tables"]["samplers"]
    assert {row["sampler"] for row in rows} == {*registry.names("sampler"), *script("samplers").TORCH}
    assert all(row["draws_per_s"] > 0 and row["peak_mib"] >= row["added_mib"] for row in rows)


def test_labels_of_the_samplers_hold_every_class() -> None:
    target = script("samplers").labels(1000)
    assert target.shape == (1000, 1)
    assert set(target[:, 0].tolist()) == {0, 1, 2, 3}


def test_curves(tmp_path: Path) -> None:
    result = result_of("curves", tmp_path)
    check_shape(result, "curves")
    points, slopes = result["tables"]["points"], result["tables"]["slopes"]
    assert [(p["what"], p["against"], p["value"]) for p in points] == [
        ("training step", "channels", 2),
        ("training step", "channels", 4),
        ("comparison", "positions", 300),
        ("comparison", "positions", 600),
    ]
    for row, (a, b) in zip(slopes, (points[:2], points[2:]), strict=True):
        assert (row["from"], row["to"], row["points"]) == (a["value"], b["value"], 2)
        assert row["seconds_slope"] == pytest.approx(np.log2(b["seconds"] / a["seconds"]), abs=1e-3)


def test_curve_ends_where_the_next_point_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    curves, common = script("curves"), script("_common")
    timing = common.Timing(1.0, 1.0, 1100.0, 2100.0, {"calls": [(1.0, 0.5)], "empty_mib": 100.0})
    monkeypatch.setattr(curves, "available_gib", lambda: 10.0)
    points, gaps = curves._curve(lambda **case: timing, "analysis", "positions", (10, 20, 200), {})
    assert [p["value"] for p in points] == [10, 20]  # 2000 MiB at 20: 19.5 GiB at 200
    assert points[0] | {"value": 0} == {
        "what": "analysis",
        "against": "positions",
        "value": 0,
        "seconds": 1.0,
        "cpu_s": 0.5,
        "data_mib": 1000.0,
        "added_mib": 1000.0,
        "peak_mib": 2100.0,
    }
    assert gaps == ["Analysis at 200 positions: it would need about 20 GiB, more than was free."]


def test_grid_that_was_run_before(tiny_grid: Grid, tmp_path: Path) -> None:  # noqa: F811
    folder = tiny_grid.work.parents[1]
    result = result_of("grid", tmp_path, "--store", str(folder), "--parent", tiny_grid.parent)
    check_shape(result, "grid")
    parts = {row["part"]: row for row in result["tables"]["parts"]}
    assert {"train", "predict", "analyse", "model", "log", "rest"} <= set(parts)
    assert sum(row["share"] for row in parts.values()) == pytest.approx(1.0, abs=1e-4)
    assert result["facts"]["trials"] == len(tiny_grid.children)
    clock = {row["what"]: row["seconds"] for row in result["tables"]["clock"]}
    assert clock["sum of the trials"] == pytest.approx(sum(row["seconds"] for row in parts.values()), rel=1e-4)
    assert clock["the trials, as run"] >= clock["sum of the trials"] * 0.9  # one job: one after the other


def test_grid_names_what_went_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grid, error = script("grid"), script("_common").CaseError
    with pytest.raises(error, match="no results under outputs/nothing"):
        grid.read_grid(tmp_path, "nothing")

    def ends(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 2, "", "imbalance-lab: no such experiment file\n")

    monkeypatch.setattr(grid.subprocess, "run", ends)
    with pytest.raises(error, match=r"the grid ended with 2: .*no such experiment file"):
        grid.run_grid("tiny", tmp_path / "grid")


def test_clock_on_the_store_counts_outer_calls_only() -> None:
    clock = script("_tracked").Clock()
    inner = clock.on("inner", lambda: 1)
    outer = clock.on("outer", lambda: inner() + inner())
    assert (outer(), inner()) == (2, 1)
    assert clock.calls == {"outer": 1, "inner": 1}


def _fails(how: str) -> Any:
    if how == "raises":
        raise ValueError("first line\nsecond line")
    return lambda: os._exit(9)


def test_failing_cases_are_reported_not_fatal() -> None:
    common = script("_common")
    with common.Workers(_fails) as workers:
        with pytest.raises(common.CaseError, match=r"^ValueError: first line$"):
            workers.time({"how": "raises"})
        with pytest.raises(common.CaseError, match="the process died"):
            workers.time({"how": "dies"})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can let a peak begin anew")
def test_peak_is_that_of_the_call() -> None:
    common = script("_common")
    np.ones(40_000_000).sum()  # 305 MiB, gone before the call
    timing = common.timed(lambda: float(np.ones(10_000_000).sum()))
    assert timing.value == 1e7
    assert 60 < timing.peak - timing.before < 150  # 76 MiB


def test_newcomer_installs_nothing_at_its_tiny_size(tmp_path: Path) -> None:
    result = result_of("newcomer", tmp_path)
    check_shape(result, "newcomer")
    assert f"3.{sys.version_info.minor}" in result["facts"]["pythons"]
    assert {"pythons: not run.", "routes: not run.", "releases: not run.", "wheel: not run."} <= set(
        result["not_measured"]
    )


def test_newcomer_reads_the_last_line_and_compares_figures(tmp_path: Path) -> None:
    newcomer, error = script("newcomer"), script("_common").CaseError
    line = (
        "2 trials in 9 s. Open with: mlflow ui --backend-store-uri sqlite:////a/mlflow.db   then "
        "http://127.0.0.1:5000/#/experiments/7/runs?viewStateShareKey=17ab&compareRunsMode=CHART"
    )
    found = newcomer.last_line(f"Choose a.\n{line}\n")
    assert found.command == ("mlflow", "ui", "--backend-store-uri", "sqlite:////a/mlflow.db")
    assert (found.experiment, found.view) == ("7", "17ab")
    with pytest.raises(error, match="no last line"):
        newcomer.last_line("Choose a.\n")
    same = newcomer.agreement({"a": 0.5, "b": 0.0}, {"a": 0.5, "b": 0.0})
    assert (same["figures"], same["alike"]) == (2, "all digits")
    assert newcomer.agreement({"a": 0.5}, {"a": 0.500001})["alike"] == "5 digits"
    assert newcomer.agreement({"a": 0.5}, {"c": 0.5})["alike"] == "other figures"
    (tmp_path / "here" / "outputs").mkdir(parents=True)
    places = {"called": tmp_path / "here", "project": tmp_path}
    assert [newcomer.landed(kind, places) for kind in ("outputs", "mlruns")] == ["called", "nowhere"]
    before = [{"python": "3.11.7", "by": "pip", "code": 0}, {"python": "3.13.0", "by": "pip", "code": 1}]
    again = newcomer.merged("pythons", before, [{"python": f"3.{v}", "by": "pip", "code": 0} for v in ("13.0", "12.1")])
    assert [(row["python"], row["code"]) for row in again] == [("3.11.7", 0), ("3.12.1", 0), ("3.13.0", 0)]
    assert newcomer.merged("wheel", [{"code": 1}], [{"code": 0}]) == [{"code": 0}]


def test_figures_of_a_newcomer_are_scores_and_not_seconds(tiny_grid: Grid) -> None:  # noqa: F811
    found = script("newcomer").figures(Path(tiny_grid.uri.removeprefix("sqlite:///")))
    assert any(name.startswith("cross-entropy-s0/test/command/macro_f1") for name in found)
    assert not any("second" in name or "/time/" in name for name in found)


def test_what_a_newcomer_meets_is_written_from_its_results() -> None:
    newcomer = script("newcomer")
    if not newcomer.RESULTS.exists():
        pytest.skip("benchmarks/results/newcomer.json has not been measured yet")
    results = json.loads(newcomer.RESULTS.read_text(encoding="utf-8"))
    assert newcomer.DOCUMENT.read_text(encoding="utf-8") == newcomer.written(results)


def test_slope_is_the_exponent() -> None:
    slope = script("_common").slope
    x = [10.0, 100.0, 1000.0]
    assert slope(x, [3 * v**1.5 for v in x]) == pytest.approx(1.5)
    assert slope([10.0], [1.0]) is None
    assert slope(x, [0.0, 2.0, 20.0]) == pytest.approx(1.0)  # a zero has no logarithm


def test_results_hold_no_nan_and_six_digits(tmp_path: Path) -> None:
    common = script("_common")
    common.write_json(tmp_path / "r.json", {"a": float("nan"), "b": np.float64(1 / 3), "c": (np.int64(2),)})
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == {"a": None, "b": 0.333333, "c": [2]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (12345, "12,345"),
        (0.0, "0"),
        (1234567.0, "1,230,000"),
        (0.012345, "0.0123"),
        (1e-5, "< 0.001"),
        (59.96, "60.0"),
        (-2.5, "-2.50"),
    ],
)
def test_numbers_are_readable(value: object, text: str) -> None:
    assert script("_markdown").number(value) == text


def test_all_benchmarks_go_on_when_one_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    performance = script("performance")
    (tmp_path / "works.py").write_text(
        "import json, sys; json.dump({'metric': 1.5, 'rows': [{'a': 2}]}, open(sys.argv[-1], 'w'))", encoding="utf-8"
    )
    (tmp_path / "breaks.py").write_text("raise SystemExit('it broke')", encoding="utf-8")
    monkeypatch.setattr(performance, "FOLDER", tmp_path)
    parts = {"breaks": "breaks", "analysis": "works", "scale": "not_there"}
    monkeypatch.setattr(performance, "PARTS", {name: performance.Part(file, {}) for name, file in parts.items()})
    assert performance.main(["--tiny", "--json", str(tmp_path / "all.json")]) == 0
    found = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["benchmarks"]
    assert {name: entry["status"] for name, entry in found.items()} == {
        "breaks": "failed",
        "analysis": "done",
        "scale": "absent",
    }
    assert found["breaks"]["reason"] == "it broke"
    assert found["analysis"]["result"]["metric"] == 1.5
    text = (tmp_path / "all.md").read_text(encoding="utf-8")
    assert "| metric | 1.50 |" in text
    assert "Engines and scale: absent" in text
    assert "Tiny sizes" in text


def test_a_benchmark_past_its_limit_is_ended_with_its_children(tmp_path: Path) -> None:
    performance = script("performance")
    inner = f"import time; time.sleep(1); open({str(tmp_path / 'late')!r}, 'w')"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    assert performance._run([sys.executable, "-c", outer], str(tmp_path), 0.4) == "not finished after 0.4 s"
    time.sleep(1.2)
    assert not (tmp_path / "late").exists()


def test_only_keeps_what_the_file_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    performance = script("performance")
    monkeypatch.setattr(performance, "run_part", lambda name, *rest: {"status": "failed", "reason": name, "seconds": 0})
    for only in ("grid", "training"):
        performance.main(["--tiny", "--only", only, "--json", str(tmp_path / "all.json")])
    found = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["benchmarks"]
    assert set(found) == {"grid", "training"}
    with pytest.raises(SystemExit):
        performance.main(["--only", "nothing", "--json", str(tmp_path / "all.json")])


def test_flags_hide_the_paths_of_the_machine() -> None:
    hidden = script("performance")._without_paths(("--size", "tiny", "--data", "/somewhere/recordings"))
    assert hidden == ["--size", "tiny", "--data", "RECORDINGS"]


def test_document_says_what_was_measured_and_what_not() -> None:
    document, common = script("document"), script("_common")
    around = common.environment()
    facts = {"goal_s": 1.0, "help_s": 0.25, "goal_met": True}
    rows = [{"command": "python -m mlflow_project --help", "seconds": 0.25, "least": 0.2, "most": 0.3, "cpu_s": 0.2}]
    result = {
        "command": "python benchmarks/startup.py --size default",
        "seconds": 3.0,
        "date": "2026-01-02",
        "environment": around,
        "tables": {"start": rows},
        "facts": facts,
        "not_measured": ["A cold run was not measured."],
    }
    failed = {"status": "failed", "reason": "it broke", "seconds": 1.0, "date": "2026-01-02", "environment": around}
    text = document.write({"size": "default", "benchmarks": {"startup": entry_of(result), "training": failed}})
    assert "| `python -m mlflow_project --help` | below 1.00 s | 0.250 s | met |" in text
    assert "2026-01-02" in text
    assert f"torch {around['versions']['torch']}" in text
    assert "- A cold run was not measured." in text
    assert "- Training: failed (it broke)." in text
    assert "- Samplers: `benchmarks/samplers.py` was not run." in text
    assert "None" not in text
    assert "nan" not in text


def test_document_in_the_repository_is_made_from_its_results() -> None:
    document = script("document")
    if not document.RESULTS.exists():
        pytest.skip("benchmarks/results/performance.json has not been measured yet")
    results = json.loads(document.RESULTS.read_text(encoding="utf-8"))
    assert document.DOCUMENT.read_text(encoding="utf-8") == document.write(results)


def test_measure_accepts_the_flags_that_it_documents(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("startup", "training", "grid", "samplers", "curves"):
        with pytest.raises(SystemExit) as ended:
            script(name).main(["--help"])
        assert ended.value.code == 0
        assert "--size {tiny,default,full}" in capsys.readouterr().out


def test_an_older_commit_takes_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    against, order = script("against"), []

    def start(arguments: list[str], folder: Path, root: Path) -> tuple[str, float]:
        now = root == against.ROOT
        order.append("now" if now else "then")
        assert (root / "old.txt").exists() != now
        assert arguments[-2:] == ["--epochs=1", "--jobs=1"]
        kept = {"seconds": 1.0 if now else 4.0, "phases": {"analyse": 2.0, "log": 1.0}}
        (folder / "outputs" / "p" / "results").mkdir(parents=True)
        file = folder / "outputs" / "p" / "results" / "cross-entropy-s0.json"
        file.write_text(json.dumps({"kept": kept} if now else kept), encoding="utf-8")
        return "p", 3.0 if now else 5.0

    def code_of(commit: str, folder: Path) -> Path:
        folder.mkdir()
        (folder / "old.txt").write_text(commit, encoding="utf-8")
        return folder

    monkeypatch.setattr(against, "start", start)
    monkeypatch.setattr(against, "code_of", code_of)
    monkeypatch.setattr(against, "_git", lambda *_: "abc1234")
    # No process takes time in here, and ratios of nothing have no value.
    times = iter(range(100))
    monkeypatch.setattr(against.os, "times", lambda: SimpleNamespace(children_user=next(times), children_system=0.0))
    result = result_of("against", tmp_path, "--commit", "abc1234", "--rounds", "2")
    check_shape(result, "against")
    assert order == ["then", "now", "now", "then"]
    ratios = {row["of"]: row["median"] for row in result["tables"]["ratios"]}
    assert ratios == {"seconds": 0.6, "cpu_s": 1.0, "training_s": 0.25, "after_training_s": 1.0}
    assert (result["facts"]["ratio"], result["facts"]["goal_met"]) == (0.6, True)
    text = script("document").write({"size": "default", "benchmarks": {"against": entry_of(result)}})
    assert "| `gcode-motion` against commit abc1234 | at most 0.800 of its time | 0.600 | met |" in text


def test_verdict(tmp_path: Path) -> None:
    result = result_of("verdict", tmp_path)
    check_shape(result, "verdict")
    rows = {(row["design"], row["seeds"]): row for row in result["tables"]["verdict"]}
    assert set(rows) == {(design, seeds) for design in ("6 folds", "3 folds", "one split") for seeds in (1, 2)}
    for row in rows.values():
        assert row["grids"] == result["facts"]["grids"] == 2
        assert 0 <= row["twin called different"] <= 1
        assert row["estimated"] > 0
