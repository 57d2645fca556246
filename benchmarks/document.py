"""Write docs/performance.md from benchmarks/results/performance.json; no number in it is typed by hand.

Command   python benchmarks/document.py [--json FILE] [--out FILE]
Duration  a moment
Result    the document; what a result file lacks is said to be not measured
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from _common import ROOT
from _markdown import count, number, percent, table

RESULTS = ROOT / "benchmarks" / "results" / "performance.json"
DOCUMENT = ROOT / "docs" / "performance.md"
FLAG = {"tiny": " ARGS=--tiny", "default": "", "full": " ARGS=--full"}

Results = Mapping[str, Any]
Entry = Mapping[str, Any]


def done(results: Results, name: str) -> dict[str, Any] | None:
    """The result of a benchmark, or None where it failed or did not run."""
    entry = results["benchmarks"].get(name, {})
    return entry.get("result") if entry.get("status") == "done" else None


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def head(results: Results) -> str:
    """Where the numbers come from, and the machines that they were measured on."""
    size = results["size"]
    text = f"""# Performance

Written by `make bench{FLAG[size]}` (`benchmarks/performance.py`, then `benchmarks/document.py`) from
`benchmarks/results/performance.json`. Every number in here was measured by the command that stands above its table.
"""
    if size == "tiny":
        text += (
            "\n**Tiny sizes: this run checks that the benchmarks work. Its numbers say nothing about performance.**\n"
        )
    return text + "\n" + machines(results)


def machines(results: Results) -> str:
    """One line for each machine, date and set of versions, with the benchmarks that were measured there."""
    found: dict[str, list[str]] = {}
    for name, entry in results["benchmarks"].items():
        around = entry.get("environment")
        if around is None:
            continue
        packages = ", ".join(f"{package} {version}" for package, version in around["versions"].items())
        line = (
            f"{entry['date']}: {around['cores']} cores of {around['processor']}, {number(around['memory_gib'])} GiB, "
            f"{around['system']}; Python {around['python']}, {packages}; commit {around['commit']}"
        )
        found.setdefault(line, []).append(name)
    lines = []
    for line, names in found.items():
        loads = [results["benchmarks"][name]["environment"]["load_at_start"] for name in names]
        lines.append(
            f"- {line}. Load of the machine when a benchmark began: {number(min(loads))} to {number(max(loads))} "
            f"({', '.join(names)})."
        )
    return "\n".join(lines)


def goals(results: Results) -> str:
    """What was asked for against what was measured."""
    rows = []
    if r := done(results, "startup"):
        f = r["facts"]
        rows.append(
            (
                "`python -m mlflow_project --help`",
                f"below {number(f['goal_s'])} s",
                f"{number(f['help_s'])} s",
                f["goal_met"],
            )
        )
        if "make_run_s" in f:
            rows.append(
                (
                    "`make run` after the installation",
                    f"at most {number(f['make_run_goal_s'])} s",
                    f"{number(f['make_run_s'])} s",
                    f["make_run_goal_met"],
                )
            )
    if r := done(results, "trial_end"):
        f = r["facts"]
        rows.append(
            (
                "analysis, interpretation and pages of a trial",
                f"at most {number(f['goal_s'])} s of a core",
                f"{number(f['end_cpu_s'])} s",
                f["goal_met"],
            )
        )
    if r := done(results, "against"):
        f = r["facts"]
        rows.append(
            (
                f"`gcode-motion` against commit {f['commit']}",
                f"at most {number(f['goal'])} of its time",
                number(f["ratio"]),
                f["goal_met"],
            )
        )
    if r := done(results, "grid"):
        f = r["facts"]
        rows.append(
            (
                "tracking, share of a whole small grid",
                f"at most {percent(f['goal_share'])}",
                percent(f["tracking_share"]),
                f["goal_met"],
            )
        )
    if r := done(results, "training"):
        f = r["facts"]
        rows.append(
            (
                "the fastest division of the cores is the default",
                f["fastest_processes_x_threads"] + " (processes x threads)",
                f["default_processes_x_threads"],
                f["fastest_processes_x_threads"] == f["default_processes_x_threads"],
            )
        )
    if not rows:
        return ""
    lines = [{"goal": a, "wanted": b, "measured": c, "verdict": verdict(d)} for a, b, c, d in rows]
    return "## Goals\n\n" + table(lines, {"goal": "", "wanted": "goal", "measured": "measured", "verdict": ""})


def training(result: Results) -> str:
    f, tables = result["facts"], result["tables"]
    text = (
        f"The trainer against a plain PyTorch loop (DataLoader, WeightedRandomSampler, one `.item()` per step, "
        f"`clip_grad_norm_`, AdamW): the same network (hidden {f['hidden']}), the same {f['data']} (windows of "
        f"{f['window']} steps, {f['channels']} channels), {f['drawn_per_case']} sequences per case, {f['rounds']} "
        f"round{'s' * (f['rounds'] > 1)} in which all cases take their turn, on {f['device'].upper()}. "
        "Neither side validates.\n\n"
    )
    text += table(
        tables["cases"],
        {
            "case": "",
            "processes": "processes",
            "threads": "threads",
            "batch": "batch",
            "precision": "precision",
            "sequences_per_s": "sequences per s (median)",
            "least": "least",
            "most": "most",
            "ms_per_step": "ms per step",
            "cpu_ms_per_step": "CPU ms per step",
        },
    )
    text += "\n\nRatios of sequences per second, taken within each round:\n\n"
    text += table(tables["ratios"], {"ratio": "", "median": "median", "min": "least", "max": "most"})
    same = f["fastest_processes_x_threads"] == f["default_processes_x_threads"]
    text += (
        f"\n\nMost sequences per second come from {f['fastest_processes_x_threads']} (processes x threads); "
        f"`engine.plan_for` takes {f['default_processes_x_threads']} on this machine"
        + (", the same." if same else ": **the default is not the fastest here.**")
    )
    alone = f.get("trainer against plain loop, one thread each")
    if alone is not None:
        text += (
            f" On one thread the trainer trains on {number(alone)} times the sequences of the plain "
            "loop; the arithmetic of the network is the same on both sides, so that only what surrounds it can differ."
        )
    return text


def grid(result: Results) -> str:
    f = result["facts"]
    text = _grid_tables(result)
    text += (
        "\n\nTracking, measured by a clock on every call to the store in a second grid that runs in one process: "
        f"{number(f['tracking_seconds'])} s in {f['tracking_calls']:,} calls, {percent(f['tracking_share'])} of the "
        f"{number(f['tracked_grid_seconds'])} s of that grid (goal: at most {percent(f['goal_share'])}, "
        f"{verdict(f['goal_met'])}).{_tracking_cpu(f)} "
        f"At {number(f['tracking_seconds_per_trial'])} s per trial, tracking stays within "
        f"the goal where a trial takes {number(f['tracking_seconds_per_trial'] / f['goal_share'])} s or more. The "
        "calls that take most:\n\n"
    )
    return text + table(result["tables"]["calls"], {"call": "", "calls": "calls", "seconds": "seconds"})


def _tracking_cpu(f: Mapping[str, Any]) -> str:
    if "tracking_cpu_share" not in f:  # results of before it was measured
        return ""
    text = (
        f" Of the processor seconds of the process it is {percent(f['tracking_cpu_share'])}, "
        f"{percent(f['tracking_first_cpu_share'])} for the first call of each kind, which imports what it needs: that "
        "is paid once per process, however many trials it runs."
    )
    if "opening_cpu_share" in f:
        text += (
            f" The opening of the store before it takes another {percent(f['opening_cpu_share'])} "
            f"({number(f['opening_seconds'])} s): MLflow's modules for a store and, as here, a new database."
        )
    return text


def given_grid(result: Results) -> str:
    f = result["facts"]
    return _grid_tables(result) + (
        "\n\nThis grid ran without a clock on the store: the share of tracking lies between "
        f"{percent(f['log_share'])} (`log`) and the sum of `log`, `model` and `rest`."
    )


def trial_end(result: Results) -> str:
    f = result["facts"]
    text = (
        f"One trial of `{f['experiment']}` on one thread, ended over and over: predictions, analysis, interpretation, "
        f"pages, files. Its training takes {number(f['training_cpu_s'])} s of a core; the first end in a process, with "
        f"all that it imports, {number(f['first_cpu_s'])} s (load of the machine at the end: "
        f"{number(f['load_at_end'])}).\n\n"
    )
    heads = {"figures": "figures", "cpu_s": "CPU s (median)", "drawn": "drawn", "files": "files", "mib": "MiB"}
    text += table(result["tables"]["ends"], heads)
    text += (
        f"\n\nWith the figures of a trial it takes {number(f['end_cpu_s'])} s (goal: at most {number(f['goal_s'])} s, "
        f"{verdict(f['goal_met'])}), {number(f['ratio'])} times what it takes with all."
    )
    if "stored_mb" not in f:  # results of before it was measured
        return text
    text += (
        f"\n\nMLflow keeps {f['stored_files']} files and {number(f['stored_mb'])} MB of the trial, "
        f"{number(f['stored_model_mb'])} MB of them its model (goal: under {f['goal_files']} files and "
        f"{number(f['goal_mb'])} MB, {verdict(f['stored_goal_met'])}). The largest:\n\n"
    )
    return text + table(result["tables"]["stored"], {"of": "of", "file": "file", "kb": "kB"})


def against(result: Results) -> str:
    f, tables = result["facts"], result["tables"]
    text = (
        f"The same grid with the code of commit {f['commit']} (then) and with today's, by turns, in one environment: "
        f"{f['data']}, `{f['parameters'] or 'all trials'}`. Seconds of the whole process; `training` and `after it` "
        "are summed over the trials.\n\n"
    )
    text += table(
        tables["grids"],
        {
            "round": "round",
            "of": "",
            "seconds": "seconds",
            "cpu_s": "CPU s",
            "training_s": "training, s",
            "after_training_s": "after it, s",
        },
    )
    text += "\n\nRatios now to then, taken within each round:\n\n"
    return text + table(tables["ratios"], {"of": "of", "median": "median", "min": "least", "max": "most"})


def _grid_tables(result: Results) -> str:
    f, tables = result["facts"], result["tables"]
    what = (
        f"`{f['grid']}`, {f['trials']} trials" if "grid" in f else f"{f['trials']} trials of a grid that was run before"
    )
    text = f"{what}, seconds of their parts, summed. `rest` is what no clock of a trial covers: reading the data, "
    text += "building the network, checkpoints, metrics of each epoch.\n\n"
    text += table(
        tables["parts"],
        {"part": "part", "seconds": "seconds", "seconds_per_trial": "per trial", "share": "share"},
        {"share": percent},
    )
    text += "\n\n"
    text += table(
        tables["clock"],
        {"what": "clock", "seconds": "seconds", "against_the_sum": "against the sum of the trials"},
    )
    if "grid_over_one" in f:
        text += (
            f"\n\nThe trials took {number(f['grid_over_sum'])} times the sum of their own seconds, "
            f"{number(f['grid_over_one'])} times one trial."
        )
    return text


def samplers(result: Results) -> str:
    f = result["facts"]
    text = (
        "One label per sequence, four classes, the rarest one in a thousand; one thread. A draw is one sequence of an "
        "epoch as the training loop asks for it; `added` is the most memory beyond the labels.\n\n"
    )
    text += table(
        result["tables"]["samplers"],
        {
            "sampler": "sampler",
            "sequences": "sequences",
            "bind_s": "bind, s",
            "draws_per_s": "draws per s",
            "draws_per_cpu_s": "draws per CPU s",
            "added_mib": "added, MiB",
            "peak_mib": "peak, MiB",
            "refused": "refused",
        },
        {"sequences": count},
    )
    if "slowest" in f:
        text += (
            f"\n\nAt {count(f['largest'])} sequences the slowest sampler ({f['slowest']}) draws "
            f"{number(f['slowest_draws_per_s'])} per second, the longest set-up takes {number(f['longest_bind_s'])} s, "
            f"and the most memory is {number(f['peak_mib'])} MiB ({number(f['bytes_per_sequence'])} bytes per sequence "
            f"beyond the labels). torch.multinomial, and with it WeightedRandomSampler, ends at {f['torch_limit']:,} "
            "sequences."
        )
    return text


def startup(result: Results) -> str:
    text = "Whole processes, in turn.\n\n" + table(
        result["tables"]["start"],
        {"command": "command", "seconds": "seconds (median)", "least": "least", "most": "most", "cpu_s": "CPU s"},
        {"command": lambda text: f"`{text}`"},
    )
    if cold := result["tables"].get("cold"):
        text += "\n\nA fresh clone in an empty folder, nothing installed:\n\n"
        text += table(cold, {"step": "step", "seconds": "seconds"})
    return text


def curves(result: Results) -> str:
    f = result["facts"]
    text = (
        "One quantity is varied at a time, each point in a process of its own on one thread. `data` is what the inputs "
        "take, `added` the most memory beyond them. A slope is the exponent of a straight line through the points in "
        "log-log coordinates (1: proportional), and holds for its range only; fixed costs flatten it at small values, "
        "so the slope of the last two points stands beside it. Training is linear in trials and in steps by "
        "construction.\n\n"
    )
    if f["bases"]:
        fixed = "; ".join(
            f"{what}: " + ", ".join(f"{number(v)} {k.replace('_', ' ')}" for k, v in base.items())
            for what, base in f["bases"].items()
        )
        text += f"What is not varied: {fixed}. A comparison holds {f['seeds']} runs of each strategy.\n\n"
    text += table(
        [row | {"range": f"{count(row['from'])} to {count(row['to'])}"} for row in result["tables"]["slopes"]],
        {
            "what": "of",
            "against": "against",
            "range": "range",
            "seconds_slope": "slope of seconds",
            "last_seconds_slope": "last two points",
            "cpu_slope": "slope of CPU s",
            "memory_slope": "slope of added memory",
            "last_memory_slope": "last two points",
        },
        {"against": _words},
    )
    return (
        text
        + "\n\n"
        + table(
            result["tables"]["points"],
            {
                "what": "of",
                "against": "against",
                "value": "value",
                "seconds": "seconds",
                "cpu_s": "CPU s",
                "data_mib": "data, MiB",
                "added_mib": "added, MiB",
                "peak_mib": "peak, MiB",
            },
            {"against": _words, "value": count},
        )
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def plain(result: Results) -> str:
    """A benchmark without words of its own: its single values as one table, then its tables."""
    values = result.get("facts", result)
    tables = result.get("tables", result)
    lines = [{"key": _words(key), "value": value} for key, value in _flat(values)]
    blocks = [table(lines, {"key": "", "value": "value"})] if lines else []
    for name, rows in tables.items():
        found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        if found:
            columns = {column: _words(column) for row in found for column in row}
            blocks.append(f"{_words(name).capitalize()}:\n\n{table(found, columns)}")
    return "\n\n".join(blocks)


def _flat(values: Results, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key} ")
        elif not isinstance(value, list):
            yield f"{before}{key}", value


SECTIONS: dict[str, tuple[str, Callable[[Results], str]]] = {
    "startup": ("Start-up", startup),
    "training": ("Training", training),
    "grid": ("Grid", grid),
    "given_grid": ("A long grid", given_grid),
    "trial_end": ("The end of a trial", trial_end),
    "against": ("A grid against an older commit", against),
    "samplers": ("Samplers", samplers),
    "curves": ("Cost curves", curves),
    "analysis": ("Error analysis against scikit-learn", plain),
    "scale": ("Engines and scale", plain),
}


def section(name: str, entry: Entry) -> str:
    """Heading, command, and the tables of one benchmark."""
    title, write = SECTIONS[name]
    result = entry["result"]
    return f"## {title}\n\n`{entry['command']}`, {number(round(entry['seconds']))} s.\n\n{write(result)}"


def missing(results: Results) -> str:
    """What is not in this document, and why."""
    lines = []
    for name, (title, _) in SECTIONS.items():
        entry = results["benchmarks"].get(name)
        if entry is None:
            if name not in ("given_grid", "against"):  # they have to be asked for
                lines.append(f"{title}: `benchmarks/{name}.py` was not run.")
        elif entry["status"] != "done":
            lines.append(f"{title}: {entry['status']} ({entry['reason']}).")
        else:
            lines += entry["result"].get("not_measured", [])
    return "## Not measured\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def write(results: Results) -> str:
    """The whole document."""
    entries = results["benchmarks"]
    parts = [head(results), goals(results)]
    parts += [section(name, entries[name]) for name in SECTIONS if entries.get(name, {}).get("status") == "done"]
    parts.append(missing(results))
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=DOCUMENT)
    arguments = parser.parse_args(argv)
    arguments.out.write_text(write(json.loads(arguments.json.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
