"""Conformance with the official implementations: every file and case of a folder of golden values.

`pytest tests/golden/test_golden.py --golden-dir DIR` runs another folder of the same schema. A file or a
kind of case that is not known here fails.
"""

import json
from pathlib import Path

import pytest
from conftest import shared_folder
from golden import golden_analysis, golden_strategies

CHECKS = {**golden_strategies.CHECKS, **golden_analysis.CHECKS}
EXPECTED = set(CHECKS)


def golden_folder(config: pytest.Config) -> Path | None:
    given = config.getoption("--golden-dir")
    if given is not None:
        return Path(given)
    shared = shared_folder()
    return None if shared is None else shared / "golden"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_case" not in metafunc.fixturenames:
        return
    folder = golden_folder(metafunc.config)
    if folder is None:
        reason = "no folder of golden values on this machine; give one with --golden-dir"
        metafunc.parametrize("golden_case", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])
        return
    cases, ids = [], []
    for path in sorted(folder.glob("*.json")):
        for i, case in enumerate(read(path)["cases"]):
            cases.append((path.stem, case))
            params = case.get("params", {})
            words = [str(params[k]) for k in ("method", "kind", "test", "variant", "mode", "scenario") if k in params]
            ids.append("-".join([path.stem, str(i), *words]))
    metafunc.parametrize("golden_case", cases or [("(empty folder)", None)], ids=ids or ["empty"])


def test_golden_case(golden_case):
    name, case = golden_case
    assert case is not None, "the folder holds no golden file"
    assert name in CHECKS, f"{name}.json is not known; known files: {', '.join(sorted(CHECKS))}"
    CHECKS[name](case["inputs"], case["params"], case["expected"])


def test_the_default_folder_is_complete(pytestconfig):
    if pytestconfig.getoption("--golden-dir") is not None:
        pytest.skip("another folder was given; it may hold fewer files")
    folder = golden_folder(pytestconfig)
    if folder is None:
        pytest.skip("no folder of golden values on this machine")
    assert {path.stem for path in folder.glob("*.json")} == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_unknown_kind_of_case_fails(name):
    with pytest.raises((AssertionError, KeyError)):
        CHECKS[name]({"unknown": 1}, {"method": "?", "kind": "?", "test": "?", "variant": "?", "mode": "?"}, {"?": 1})
