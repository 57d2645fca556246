"""From shares of the achievable gain to a finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.predictability import Share
from imbalance_lab.audit.settings import AuditThresholds
from imbalance_lab.formats import percent


def judge_shares(
    check: str, shares: Sequence[Share], subject: str, what: str, limits: AuditThresholds, mend: str, *, stops: bool
) -> Finding:
    """The inputs that tell most, held against the thresholds; ``stops`` allows a failure.

    ``what`` names the thing that is told, for the message.
    """
    shares = sorted(shares, key=lambda s: -s.share)
    best = shares[0]
    leaking = [s for s in shares if s.share > limits.input_leak_warn]
    rows: list[dict[str, Any]] = [
        {
            "input": s.name,
            "share of gain": s.share,
            "low": s.low,
            "high": s.high,
            "balanced accuracy": s.balanced_accuracy,
        }
        | {"share of entropy": s.entropy_share, "positions": s.n}
        for s in shares[:20]
    ]
    if not leaking:
        verdict = Verdict.PASS
    else:
        verdict = Verdict.FAIL if stops and best.share > limits.input_leak_fail else Verdict.WARN
    named = ", ".join(f"{s.name} ({percent(max(s.share, 0), 0)})" for s in (leaking or shares[:1])[:8])
    if leaking:
        message = f"The {what} can be told from one input alone: {named} of the achievable gain over a constant."
    else:
        message = f"No single input gives the {what} away; the most telling is {named} of the achievable gain."
    threshold = limits.input_leak_fail if verdict is Verdict.FAIL else limits.input_leak_warn
    kind = "artefact" if leaking else ""
    return Finding(
        check,
        verdict,
        message,
        subject,
        best.share,
        (best.low, best.high),
        best.n,
        threshold,
        tuple(rows),
        mend if leaking else "",
        kind,
    )
