"""Do the tests that need a CUDA device pass?

Command   python benchmarks/cuda_tests.py [--size tiny|default|full] [--json FILE]
Duration  a minute or two; without a device they are skipped, which takes half a minute
Result    how many passed, failed and were skipped, and the first line of what each failed one says

The tests with the mark `cuda`; tiny: those of one file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from _common import ROOT, CaseError, Outcome, Row, run

TESTS = {"tiny": "tests/training/test_together.py"}


def measure(arguments: argparse.Namespace) -> Outcome:
    """Run pytest and read its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        selected = ["-m", "cuda", TESTS.get(arguments.size, "tests")]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *selected, f"--junitxml={report}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not report.exists():
            raise CaseError(f"pytest ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        return read(report)


def read(report: Path) -> Outcome:
    """What a JUnit report says."""
    cases = list(ET.parse(report).getroot().iter("testcase"))
    failed: list[Row] = []
    skipped = 0
    for case in cases:
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped += case.find("skipped") is not None
        if wrong is not None:
            reason = (wrong.get("message") or "no reason given").splitlines()[0]
            failed.append({"test": f"{case.get('classname')}::{case.get('name')}", "reason": reason[:200]})
    facts = {"passed": len(cases) - len(failed) - skipped, "failed": len(failed), "skipped": skipped}
    gaps = ("The tests were skipped: this machine has no CUDA device.",) if skipped else ()
    return Outcome({"failed": failed} if failed else {}, facts, gaps)


def main(argv: list[str] | None = None) -> int:
    return run("cuda_tests", __doc__, measure, argv)


if __name__ == "__main__":
    sys.exit(main())
