"""Run the checks on loaded data and put their findings together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from imbalance_lab.audit.all_checks import CHECKS, Check
from imbalance_lab.audit.audit_verdict import Answer, answers, sentence
from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.pilot import Pilot
from imbalance_lab.audit.probe import Probe
from imbalance_lab.audit.settings import AuditContext, AuditThresholds, StrategyWeights, direct_probe
from imbalance_lab.audit.trivial_scores import TrivialScores, trivial_scores
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.errors import InputError


@dataclass(frozen=True)
class AuditReport:
    """What the audit found.

    Attributes
    ----------
    findings : in the order of the registry
    verdict : the gravest answer (``artefact``, ``true imbalance, learnable`` ...)
    answers : all answers that hold, the gravest first
    sentence : the answers with their evidence, in words
    facts : plain strings and numbers about what was looked at
    seconds : wall time of each check
    trivial : scores of the trivial predictors on test, or None where test is empty
    thresholds : what the findings were held against
    """

    findings: tuple[Finding, ...]
    verdict: Answer
    answers: tuple[Answer, ...]
    sentence: str
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]
    trivial: TrivialScores | None
    thresholds: AuditThresholds = field(default_factory=AuditThresholds)

    @property
    def failed(self) -> bool:
        """Whether a check failed, which stops training unless the spec says otherwise."""
        return any(f.verdict is Verdict.FAIL for f in self.findings)

    def of(self, check: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(f for f in self.findings if f.check == check)


def run_audit(
    loaded: LoadedData,
    *,
    strategies: Sequence[StrategyWeights] = (),
    checks: Iterable[str] | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    budget: Literal["full", "counts"] = "full",
    thresholds: AuditThresholds | None = None,
    margin: float = 0.01,
    pilot: Pilot | None = None,
) -> AuditReport:
    """Audit the data before anything is trained on them.

    Parameters
    ----------
    strategies : what the strategies do to class weights and shares, for the weight arithmetic
    checks : names of the checks to run (all by default)
    progress : called with (check, number of checks done, number of checks) before each check,
        and once with ("", total, total) at the end
    budget : ``"counts"`` leaves out the checks that fit models
    margin : differences within it do not matter to the team
    pilot : an earlier grid on recordings like these, see :func:`imbalance_lab.audit.pilot.read_pilot`

    Raises
    ------
    InputError
        If a check is unknown, the data hold no sequence, or a strategy's numbers do not fit.
    """
    chosen = _choose(checks, budget)
    if not len(loaded.dataset) or not loaded.dataset.target_length:
        raise InputError("the data hold no sequence to audit; at least one labelled sequence is needed")
    limits = thresholds or AuditThresholds()
    probes: dict[tuple[str, int], Probe] = {}

    def probe_once(loaded: LoadedData, head: str, thresholds: AuditThresholds, seed: int) -> Probe:
        if (head, seed) not in probes:
            probes[head, seed] = direct_probe(loaded, head, thresholds, seed)
        return probes[head, seed]

    context = AuditContext(limits, seed, tuple(strategies), probe_once, margin, pilot)
    findings: list[Finding] = []
    seconds = {}
    for done, check in enumerate(chosen):
        if progress is not None:
            progress(check.name, done, len(chosen))
        start = time.perf_counter()
        findings += _run(check, loaded, context)
        seconds[check.name] = time.perf_counter() - start
    if progress is not None:
        progress("", len(chosen), len(chosen))
    left_out = [check.name for check in CHECKS if check not in chosen]
    given = answers(findings, left_out)
    scored = len(loaded.splits.test) > 0 and len(loaded.splits.train) > 0
    return AuditReport(
        tuple(findings),
        given[0],
        given,
        sentence(findings, left_out),
        _facts(loaded, findings, budget, seed) | ({"checks left out": ", ".join(left_out)} if left_out else {}),
        seconds,
        trivial_scores(loaded) if scored else None,
        limits,
    )


def _run(check: Check, loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """The findings of one check; a check that breaks is a finding of its own, and the others go on."""
    try:
        return check.function(loaded, context)
    except InputError:
        raise
    except Exception as error:
        message = f"The check broke off: {type(error).__name__}: {error}"
        return (
            Finding(check.name, Verdict.INSUFFICIENT, message, "not run", mend="report this with the data's shape"),
        )


def _choose(names: Iterable[str] | None, budget: str) -> tuple[Check, ...]:
    if budget not in ("full", "counts"):
        raise InputError(f"audit budget is {budget!r}; allowed are full and counts")
    known = {check.name for check in CHECKS}
    wanted = known if names is None else set(names)
    if unknown := sorted(wanted - known):
        raise InputError(f"unknown audit check {unknown[0]!r}; the checks are {', '.join(c.name for c in CHECKS)}")
    return tuple(c for c in CHECKS if c.name in wanted and (budget == "full" or c.cost == "counts"))


def _facts(loaded: LoadedData, findings: Sequence[Finding], budget: str, seed: int) -> dict[str, Any]:
    data = loaded.dataset
    counts = {v.value: sum(f.verdict is v for f in findings) for v in Verdict}
    facts: dict[str, Any] = {
        "sequences": len(data),
        "steps per sequence": data.continuous.shape[1],
        "targets per sequence": data.target_length,
        "channels": len(data.channels),
        "categorical channels": len(data.categorical_channels),
        "digest": data.digest,
        "budget": budget,
        "seed": seed,
        "findings": counts,
    }
    facts |= {f"sequences in {name}": len(index) for name, index in loaded.splits.items()}
    facts |= {f"positions of {head}": int(data.class_counts(head).sum()) for head in data.heads}
    return facts | {f"source: {key}": value for key, value in data.facts.items()}
