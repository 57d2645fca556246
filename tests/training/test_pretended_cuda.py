"""What a GPU would refuse or wait for, found without one: runs ``tests/pretended_cuda`` in a process of its own.

One suite by hand::

    PRETENDED_CUDA_FOLDER=/tmp PYTHONPATH=tests:src python -m pytest -p pretended_cuda.plugin \\
        tests/pretended_cuda/suite_planted.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pretended_cuda import build

TESTS = Path(__file__).resolve().parents[1]
SUITES = sorted(path.stem for path in (TESTS / "pretended_cuda").glob("suite_*.py"))
REASON = build.why_not()
SECONDS = 600  # of a machine that is busy with other things; alone it takes less than one

pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

Outcomes = Mapping[str, Mapping[str, str]]
"""Suite to name of the test to what went wrong, empty where nothing did."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("pretended_cuda")
    results = folder / "results.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pretended_cuda.plugin", "-p", "no:cacheprovider"]
    command += [f"--junitxml={results}", *(str(TESTS / "pretended_cuda" / f"{suite}.py") for suite in SUITES)]
    paths = [str(TESTS), str(TESTS.parent / "src"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {build.FOLDER: str(folder), "PYTHONPATH": os.pathsep.join(paths)}
    ended = subprocess.run(
        command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert results.is_file(), f"the suites did not start:\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
    return _read(results)


def _read(results: Path) -> Outcomes:
    found: dict[str, dict[str, str]] = {suite: {} for suite in SUITES}
    for case in ElementTree.parse(results).iter("testcase"):
        suite = (case.get("classname") or case.get("name") or "").rpartition(".")[2]
        wrong = [
            text for tag in ("failure", "error") for e in case.findall(tag) if (text := e.text or e.get("message"))
        ]
        found.setdefault(suite, {})[case.get("name", "")] = "\n".join(wrong)
    return found


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_passes_on_the_pretended_device(outcomes: Outcomes, suite: str) -> None:
    assert set(outcomes) == set(SUITES), "a suite could not be collected"
    wrong = {name: text for name, text in outcomes[suite].items() if text}
    assert not wrong, "\n\n".join(f"{name}\n{text[-3000:]}" for name, text in wrong.items())
    assert outcomes[suite], "no test ran"


def test_every_strategy_of_the_catalogue_is_trained(outcomes: Outcomes) -> None:
    from imbalance_lab.strategies.language.registry import REGISTRY

    ran = " ".join(outcomes["suite_training"])
    elsewhere = ("table", "posthoc")  # no network; after the training, on the host
    assert [e.name for e in REGISTRY if e.slot not in elsewhere and f"[{e.slot} {e.name}-" not in ran] == []


def test_the_reason_to_skip_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build.why_not() is None
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", "")
    assert "needs a C++ compiler" in (build.why_not() or "")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux only" in (build.why_not() or "")
