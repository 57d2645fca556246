"""Plant each fault in the simulated mill and count how often the audit finds it, and cries wolf.

    python benchmarks/audit_planted.py --seeds 10 --clean 100 --out docs/tables

Writes ``audit_planted.json`` and ``audit_planted.md``: detection rate per fault and strength,
false-alarm rate of the same rule on the same data without the fault, both with Wilson intervals,
and the clean data sets on which any check failed. About 15 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from imbalance_lab.audit.auditing import run_audit
from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.source_options import EncodingOptions
from imbalance_lab.data.sources.encode import encode_recordings
from imbalance_lab.data.sources.recordings import Recordings
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.metrics.intervals import wilson
from imbalance_lab.simulator.mill import SimulatedMill, plant, simulate

Rule = Callable[[Finding], bool]


@dataclass(frozen=True)
class Planted:
    """A fault, the check that should find it, what counts as found, and strengths with what is due at each."""

    fault: str
    check: str
    found: Rule
    rule: str
    strengths: tuple[tuple[float, bool], ...]


def _is(verdict: Verdict, subject: str = "") -> Rule:
    grave = (Verdict.FAIL,) if verdict is Verdict.FAIL else (Verdict.WARN, Verdict.FAIL)
    return lambda f: f.verdict in grave and f.subject.startswith(subject)


def _silent(f: Finding) -> bool:
    return f.verdict is Verdict.WARN and f.subject in ("command/G2", "command/G3")


def _noisy(f: Finding) -> bool:
    return f.verdict is Verdict.WARN and f.subject == "command/second source"


def _noisy_probe(f: Finding) -> bool:
    return f.verdict is Verdict.WARN and f.subject == "command"


PLANTED = (
    Planted(
        "placeholder-class",
        "placeholder",
        _is(Verdict.FAIL, "command/"),
        "fails",
        ((0.3, False), (0.6, True), (0.8, True), (0.95, True)),
    ),
    Planted("collision", "vocabulary", _is(Verdict.FAIL), "fails", ((0.5, True), (0.75, True), (1.0, True))),
    Planted("absent-class", "splits", _is(Verdict.FAIL, "command/"), "fails", ((0.5, False), (1.0, True))),
    Planted(
        "overlapping-windows", "split leakage", _is(Verdict.FAIL), "fails", ((0.05, True), (0.2, True), (0.5, True))
    ),
    Planted(
        "label-channel",
        "input leakage",
        _is(Verdict.FAIL, "command/channel"),
        "fails",
        ((0.5, False), (0.8, False), (0.98, True), (1.0, True)),
    ),
    Planted(
        "missingness-slice",
        "input leakage",
        _is(Verdict.WARN, "operation/"),
        "warns",
        ((0.3, False), (0.8, True), (1.0, True)),
    ),
    Planted("no-signal-class", "learnability", _silent, "warns of a rare command", ((0.5, False), (1.0, True))),
    Planted(
        "label-noise",
        "label noise",
        _noisy,
        "warns, text against label",
        ((0.005, False), (0.02, True), (0.05, True), (0.1, True)),
    ),
    Planted(
        "label-noise",
        "label noise",
        _noisy_probe,
        "warns, probe against label",
        ((0.02, True), (0.05, True), (0.1, True)),
    ),
    Planted(
        "constant-metric",
        "metric traps",
        _is(Verdict.WARN, "command"),
        "warns",
        ((0.88, False), (0.93, True), (0.97, True)),
    ),
)


CAN_FAIL = ("frequencies", "vocabulary", "placeholder", "splits", "split leakage", "input leakage")
"""The checks that can fail; all others end in a warning at worst, so they are left out on clean data."""


def simulated(seed: int) -> LoadedData:
    """27 recordings of about 200 rows, as the steps task."""
    return encode_recordings(
        Recordings(simulate(SimulatedMill(n_recordings=27, rows_per_recording=200, seed=seed))), EncodingOptions()
    )(None)


def _only_command(loaded: LoadedData) -> LoadedData:
    """Without the head that carries no fault, for speed: no rule looks at it."""
    data = loaded.dataset
    command = {"command": data.targets["command"]}
    return replace(loaded, dataset=replace(data, targets=command, heads={"command": data.heads["command"]}))


def detections(seed: int) -> list[dict[str, object]]:
    """For one simulated mill: every fault at every strength, and at strength 0."""
    clean = simulated(seed)
    rows: list[dict[str, object]] = []
    for item in PLANTED:
        for strength, due in ((0.0, False), *item.strengths):
            loaded = plant(clean, item.fault, strength, seed)
            if "type" not in loaded.dataset.heads:
                loaded = _only_command(loaded)
            report = run_audit(loaded, checks=(item.check,), seed=seed)
            hit = any(item.found(f) for f in report.findings)
            rows.append(
                {"fault": item.fault, "rule": item.rule, "strength": strength, "due": due, "seed": seed, "found": hit}
            )
    return rows


def clean_failures(seed: int) -> dict[str, object]:
    """Whether any check fails on clean data: three simulated mills for each set of digits."""
    if seed % 4 == 3:
        loaded, name = (
            load_data(parse_options({"source": "digits", "imbalance_ratio": 1.0, "split": {"seed": seed}})),
            "digits",
        )
    else:
        loaded, name = simulated(1000 + seed), "simulated"
    report = run_audit(loaded, checks=CAN_FAIL, seed=seed)
    fails = [f"{f.check}: {f.subject}: {f.message}" for f in report.findings if f.verdict is Verdict.FAIL]
    return {
        "source": name,
        "seed": seed,
        "fails": fails,
        "verdict": report.verdict.value,
        "seconds": sum(report.seconds.values()),
    }


def table(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Detection rate per fault and strength with its Wilson interval; strength 0 is the false-alarm rate."""
    keys = list(dict.fromkeys((r["fault"], r["rule"], r["strength"], r["due"]) for r in rows))
    out = []
    for fault, rule, strength, due in keys:
        hits = [bool(r["found"]) for r in rows if (r["fault"], r["rule"], r["strength"]) == (fault, rule, strength)]
        low, high = wilson(sum(hits), len(hits))
        out.append(
            {
                "fault": fault,
                "rule": rule,
                "strength": strength,
                "above threshold": due,
                "found": sum(hits),
                "of": len(hits),
            }
            | {"low": float(low), "high": float(high)}
        )
    return out


def markdown(rows: list[dict[str, object]], clean: list[dict[str, object]]) -> str:
    """The tables as Markdown."""
    lines = ["| fault | rule | strength | above threshold | found | 95 % interval |", "|---|---|---|---|---|---|"]
    for r in rows:
        due = "no fault" if r["strength"] == 0 else ("yes" if r["above threshold"] else "no")
        cells = [
            r["fault"],
            r["rule"],
            r["strength"],
            due,
            f"{r['found']}/{r['of']}",
            f"{r['low']:.2f} to {r['high']:.2f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    failed = [c for c in clean if c["fails"]]
    lines += ["", f"Clean data sets: {len(clean)}, of which {len(failed)} had a failed check."]
    lines += [f"- {c['source']} {c['seed']}: {c['fails']}" for c in failed]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run it all and write the tables."""
    from joblib import Parallel, delayed

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="0 keeps the planted rows of an earlier run")
    parser.add_argument("--clean", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "audit_planted.json"
    if args.seeds:
        found = Parallel(n_jobs=args.jobs)(delayed(detections)(seed) for seed in range(args.seeds))
        rows = table([row for part in found for row in part])
    else:
        rows = json.loads(kept.read_text(encoding="utf-8"))["planted"]
    clean: list[dict[str, object]] = []
    for start in range(0, args.clean + 1, 10):
        seeds = range(start, min(start + 10, args.clean))
        clean += Parallel(n_jobs=args.jobs)(delayed(clean_failures)(seed) for seed in seeds)
        kept.write_text(json.dumps({"planted": rows, "clean": clean}, indent=1), encoding="utf-8")
        (args.out / "audit_planted.md").write_text(markdown(rows, clean), encoding="utf-8")
    print(markdown(rows, clean))


if __name__ == "__main__":
    main()
