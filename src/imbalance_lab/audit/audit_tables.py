"""The audit as tables, and as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from imbalance_lab.audit.auditing import AuditReport
from imbalance_lab.audit.finding import Finding

if TYPE_CHECKING:
    import pandas as pd


def findings_table(report: AuditReport) -> pd.DataFrame:
    """One row per finding, without its evidence."""
    import pandas as pd

    return pd.DataFrame([_row(f) for f in report.findings], columns=list(_COLUMNS))


def evidence_tables(report: AuditReport) -> dict[str, pd.DataFrame]:
    """The evidence rows of each check, with the finding's subject and verdict in front."""
    import pandas as pd

    rows: dict[str, list[dict[str, Any]]] = {}
    for f in report.findings:
        about = {"subject": f.subject, "verdict": f.verdict.value}
        rows.setdefault(f.check, []).extend(about | dict(row) for row in f.evidence)
    return {check: pd.DataFrame(found) for check, found in rows.items() if found}


def trivial_table(report: AuditReport) -> pd.DataFrame:
    """Scores of the trivial predictors: head, predictor, metric, score."""
    import pandas as pd

    rows = report.trivial.rows() if report.trivial is not None else []
    return pd.DataFrame(rows, columns=["head", "predictor", "metric", "score"])


def to_dict(report: AuditReport) -> dict[str, Any]:
    """Plain mappings, lists, strings and numbers; a number that is not finite becomes None."""
    return plain(
        {
            "verdict": report.verdict.value,
            "answers": [a.value for a in report.answers],
            "sentence": report.sentence,
            "failed": report.failed,
            "findings": [_row(f) | {"evidence": f.evidence} for f in report.findings],
            "trivial": report.trivial.rows() if report.trivial is not None else [],
            "facts": report.facts,
            "seconds": report.seconds,
            "thresholds": asdict(report.thresholds),
        }
    )


_COLUMNS = ("check", "verdict", "subject", "message", "rate", "low", "high", "n", "threshold", "kind", "mend")


def _row(f: Finding) -> dict[str, Any]:
    low, high = f.interval if f.interval is not None else (None, None)
    values = (f.check, f.verdict.value, f.subject, f.message, f.rate, low, high, f.n, f.threshold, f.kind, f.mend)
    return dict(zip(_COLUMNS, values, strict=True))


def plain(value: Any) -> Any:
    """``value`` with arrays, NumPy scalars and mappings turned into what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
