"""error_analysis_report.json: the whole analysis as plain, versioned values, and its schema."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd

from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.analysis.cross_head import TABLES
from imbalance_lab.analysis.recommendations import MAX_EVIDENCE, RULES, Recommendation
from imbalance_lab.analysis.record import Analysis, Column, Table
from imbalance_lab.analysis.results import ErrorAnalysis

REPORT_VERSION = 1

_DESCRIPTION = (
    "Error analysis of one run on one split. Rates are shares of 1; null means not available (class absent, one "
    "recording, nothing to divide by). low and high are 95 % cluster-bootstrap intervals over recordings, wilson_low "
    "and wilson_high 95 % Wilson intervals."
)
_META: Mapping[str, Any] = {
    "resamples": int,
    "analysis_seed": int,
    "tried": tuple[str, ...],
    "primary_head": str,
    "unscored_heads": tuple[str, ...],
}


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


def _attributes(analysis: Analysis[Any]) -> dict[str, str]:
    """Key of the report to attribute of the result."""
    return dict(analysis.fields) or {f.name: f.name for f in fields(analysis.result)}


def to_report(analysis: ErrorAnalysis) -> dict[str, Any]:
    """The report, ready for :func:`json.dump`; each section maps a head to its findings.

    ``hard_examples`` also holds ``cross_head`` and ``error_summary`` also ``joint``, which are about all heads.
    """
    report: dict[str, Any] = {"version": REPORT_VERSION}
    for record in ANALYSES:
        if record.section:
            keys = _attributes(record)
            found = {name: head.results[record.name] for name, head in analysis.heads.items()}
            heads = {name: {key: plain(getattr(r, at)) for key, at in keys.items()} for name, r in found.items()}
            report[record.section] = {"heads": heads}
    for table in TABLES:
        section, key = table.beside.split(".")
        report[section][key] = plain(getattr(analysis.cross_head, table.at))
    report["recommendations"] = plain(analysis.recommendations)
    report["meta"] = plain({**analysis.meta, "primary_head": analysis.primary, "unscored_heads": analysis.unscored})
    return report


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the report, made from the records of the analyses."""
    sections: dict[str, Any] = {}
    for record in ANALYSES:
        if record.section:
            types_of, keys = get_type_hints(record.result), _attributes(record)
            tables = {table.at: table for table in record.tables}
            head = _object({key: _schema(types_of[at], tables, at) for key, at in keys.items()})
            heads = {"type": "object", "additionalProperties": head}
            sections[record.section] = {**_object({"heads": heads}), "description": record.about}
    for table in TABLES:
        section, key = table.beside.split(".")
        sections[section] = _object({**sections[section]["properties"], key: _rows(table.columns)}) | {
            "description": sections[section]["description"]
        }
    meta = {**_object({key: _schema(kind) for key, kind in _META.items()}), "additionalProperties": True}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "error_analysis_report.json",
        "description": _DESCRIPTION,
        **_object(
            {
                "version": {"const": REPORT_VERSION},
                **sections,
                "recommendations": {"type": "array", "items": _recommendation()},
                "meta": meta,
            }
        ),
    }


def _recommendation() -> dict[str, Any]:
    found = _schema(Recommendation)
    found["properties"] |= {
        "priority": {"type": "integer", "minimum": 1},
        "category": {"enum": list(dict.fromkeys(rule.category for rule in RULES))},
        "evidence": {"type": "array", "items": {"type": "object"}, "maxItems": MAX_EVIDENCE},
    }
    return found


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


_PLAIN: Mapping[Any, Any] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": ["number", "null"]},
    Any: {},
}
_OF_KIND = {"text": _PLAIN[str], "count": _PLAIN[int]}


def _rows(columns: tuple[Column, ...]) -> dict[str, Any]:
    known = {c.name: _OF_KIND.get(c.kind, _PLAIN[float]) for c in columns}
    rest = known.pop("*", False)  # a column named after what the table is about
    return {"type": "array", "items": {**_object(known), "additionalProperties": rest}}


def _schema(kind: Any, tables: Mapping[str, Table] | None = None, at: str = "") -> dict[str, Any]:
    """Schema of a value of a result: ``at`` is where it stands, which the records of its tables go by."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return _object({f.name: _schema(hints[f.name], tables, f"{at}.{f.name}") for f in fields(kind)})
    if kind is pd.DataFrame:
        assert tables is not None
        return _rows(tables[at].columns)
    inner = [k for k in get_args(kind) if k not in (type(None), Ellipsis)]
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _schema(inner[0], tables, at)  # float | None: a number is null where it is not known
    if origin is tuple:
        return {"type": "array", "items": _schema(inner[0], tables, at)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(inner[1], tables, at)}
    raise TypeError(f"{at}: a report cannot hold {kind}")
