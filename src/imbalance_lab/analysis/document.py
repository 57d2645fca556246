"""The lists of docs/error-analysis-report.md, written from the records of the analyses between its markers."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.analysis.cross_head import TABLES
from imbalance_lab.analysis.recommendations import RULES
from imbalance_lab.analysis.record import BOOT, MASK, Table
from imbalance_lab.analysis.report import REPORT_VERSION

_OTHERS = {
    "recommendations": "most urgent first: priority, category, issue, action, effect, evidence rows, the threshold "
    "that fired, the `rule`, the strategy that would test it, what was tried already",
    "meta": "what the run says about itself, `resamples`, `analysis_seed`, `tried`, `primary_head`, `unscored_heads`",
}


def sections() -> list[str]:
    """Rows of the table of the report's sections."""
    rows = {"version": str(REPORT_VERSION)}
    rows |= {record.section: record.about for record in ANALYSES if record.section}
    for table in TABLES:
        section, key = table.beside.split(".")
        rows[section] += f"; beside the heads `{key}`: {table.caption.lower()}"
    rows |= _OTHERS
    fired = [f"`{rule.name}` ({rule.category}, priority {rule.priority})" for rule in RULES]
    rows["recommendations"] += f". Rules: {', '.join(fired)}"
    return ["| key | what it holds |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in rows.items())]


def tables() -> list[str]:
    """Rows of the table of the tables."""
    found = [(table, record.needs_probabilities) for record in ANALYSES for table in record.tables if table.name]
    found += [(table, False) for table in TABLES]
    return ["| table | what it is | columns |", "|---|---|---|", *(_row(*each) for each in found)]


def _row(table: Table, needs_probabilities: bool) -> str:
    mark = " †" if needs_probabilities or table.needs_probabilities else ""
    name = f"{table.name}_<slice>" if any(c.name == "*" for c in table.columns) else table.name
    kinds = []
    for kind, same in groupby(table.columns, key=lambda c: c.kind):
        names = ", ".join(f"`{c.name}`{' †' if c.needs_probabilities else ''}" for c in same)
        kinds.append(f"{names} ({kind})")
    about = f"{table.caption}. {table.how.replace(MASK, '').replace(BOOT, '')}"  # those are conventions of all
    return f"| `{name}`{mark} | {' '.join(about.split())} | {'; '.join(kinds)} |"


def figures() -> list[str]:
    """Rows of the table of the figures."""
    rows = [f"| `{plot.name}` | `{record.name}` | {plot.drawn} |" for record in ANALYSES for plot in record.plots]
    return ["| figure | analysis | drawn in a trial for |", "|---|---|---|", *rows]


def filled(text: str) -> str:
    """``text`` with the lists between its markers written anew."""
    for marker, lines in (("sections", sections()), ("tables", tables()), ("figures", figures())):
        before, begin, rest = text.partition(f"<!-- {marker} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = "".join([before, begin, *(f"{line}\n" for line in lines), end, after])
    return text


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
