"""What a small file or a single key can take: each of tests/size_cases.py, measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from conftest import ROOT
from size_cases import CASES, expected

MIB = 1 << 20
WIDE = 500 * MIB  # 20,000 columns of 60 rows are read


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Any]]:
    """What each case took and said."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "size_cases.py"), *CASES],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {found["case"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured by /proc")
@pytest.mark.parametrize("case", CASES)
def test_it_is_read_or_refused_in_one_sentence_and_little_memory(
    case: str, measured: dict[str, dict[str, Any]]
) -> None:
    found = measured[case]
    assert found["fault"] == ""
    assert expected(case) in found["said"]
    assert bool(expected(case)) == bool(found["said"])
    assert len(found["said"]) < 600
    assert found["peak"] < (WIDE if "20,000 columns" in case else 150 * MIB)
