"""error_analysis_report.json: the whole analysis as plain, versioned values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.analysis.results import ErrorAnalysis, HeadAnalysis

REPORT_VERSION = 1


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the report."""
    text = resources.files("imbalance_lab.analysis").joinpath("report_schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line per kind of value
    """``value`` as JSON values: tables as lists of rows, NaN and infinity as null, tuples as lists."""
    if isinstance(value, pd.DataFrame):
        return [{str(k): plain(v) for k, v in row.items()} for row in value.to_dict("records")]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return None if value is pd.NA or value is pd.NaT else str(value)


def _sections(a: HeadAnalysis) -> dict[str, Any]:
    return {
        "error_summary": a.summary,
        "failure_modes": a.failure_modes,
        "top_confusion_patterns": {"tested": a.confusion.tested, "pairs": a.confusion.pairs},
        "position_bias": a.position,
        "per_class": {"auprc_method": a.per_class.auprc_method, "classes": a.per_class.table},
        "calibration": a.confidence,
        "hard_examples": a.hard_examples,
        "operations": a.slices,
        "segments": a.segments,
        "class_frequency": a.class_frequency,
        "label_noise": a.label_noise,
    }


def to_report(analysis: ErrorAnalysis) -> dict[str, Any]:
    """The report, ready for :func:`json.dump`; each section maps a head to its findings.

    ``hard_examples`` also holds ``cross_head`` and ``error_summary`` also ``joint``, which are about all heads.
    """
    report: dict[str, Any] = {"version": REPORT_VERSION}
    per_head = {name: _sections(a) for name, a in analysis.heads.items()}
    for section in next(iter(per_head.values())):
        report[section] = {"heads": {name: plain(found[section]) for name, found in per_head.items()}}
    report["error_summary"]["joint"] = plain(analysis.cross_head.exact_match)
    report["hard_examples"]["cross_head"] = plain(analysis.cross_head.pairs)
    report["recommendations"] = plain(analysis.recommendations)
    report["meta"] = plain({**analysis.meta, "primary_head": analysis.primary, "unscored_heads": analysis.unscored})
    return report
