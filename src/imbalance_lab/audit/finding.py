"""What an audit check returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How a check ended, from harmless to stopping."""

    NOT_APPLICABLE = "not applicable"
    PASS = "pass"
    INSUFFICIENT = "insufficient"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One answer of one check.

    Attributes
    ----------
    check : the check's name (``placeholder``)
    verdict : how it ended
    subject : what it is about (``command/G0``, ``split test``, ``channel mpox``), or "" for all
    message : one or two sentences with the numbers
    rate, interval, n : the measured rate, its 95 % interval and its denominator, or None
    threshold : the value that rate was held against, or None
    evidence : rows that prove it, each a flat mapping of column to value, at most 50
    mend : what to do about it, "" when nothing needs doing
    kind : ``artefact``, ``unfit``, ``names``, ``imbalance``, ``no signal``, ``metric`` or "" — what the
        finding speaks for
    """

    check: str
    verdict: Verdict
    message: str
    subject: str = ""
    rate: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    threshold: float | None = None
    evidence: tuple[Mapping[str, Any], ...] = field(default=())
    mend: str = ""
    kind: str = ""
