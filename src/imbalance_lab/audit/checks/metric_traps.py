"""What do predictors that never look at the input score on every metric that will be logged?"""

from __future__ import annotations

import math

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.rate_intervals import rate_interval
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.audit.target_positions import group_counts, scored_positions
from imbalance_lab.audit.trivial_scores import TrivialScores, trivial_scores
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.formats import percent

CHECK = "metric traps"
_MEND = (
    "judge by balanced accuracy, macro F1 or MCC per head, and set the trivial predictors' scores beside every table"
)


def check_metric_traps(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """Scores of the majority, prior-sampling and uniform predictors, composite included."""
    if not len(loaded.splits.test) or not len(loaded.splits.train):
        return (Finding(CHECK, Verdict.NOT_APPLICABLE, "Train or test is empty, so nothing can be scored."),)
    scores = trivial_scores(loaded)
    findings = [_head(loaded, head, scores, context) for head in loaded.dataset.heads]
    if len(loaded.dataset.heads) > 1:
        findings.append(_joint(loaded, scores, context))
    return tuple(findings)


def _head(loaded: LoadedData, head: str, scores: TrivialScores, context: AuditContext) -> Finding:
    if head not in scores.heads:
        return Finding(CHECK, Verdict.NOT_APPLICABLE, f"train has no label of {head}.", head)
    limit, by = context.thresholds.trivial_score, scores.heads[head]
    n = int(loaded.dataset.class_counts(head, loaded.splits.test).sum())
    rows = tuple({"head": head, "predictor": p} | dict(values) for p, values in by.items())
    if n == 0:
        return Finding(CHECK, Verdict.NOT_APPLICABLE, f"test has no scored position of {head}.", head)
    won = sorted({metric for values in by.values() for metric, s in values.items() if s >= limit})
    most = by["majority"]
    message = (
        f"Always {scores.majority[head]!r} scores {percent(most['accuracy'], 2)} accuracy of {head} on test, "
        f"{most['weighted_f1']:.3f} weighted F1, {most['balanced_accuracy']:.3f} balanced accuracy and "
        f"{most['macro_f1']:.3f} macro F1"
        + (f": {', '.join(won)} cannot tell a model from a constant." if won else ".")
    )
    classes = loaded.dataset.heads[head]
    table = group_counts(scored_positions(loaded.dataset, head, loaded.splits.test), len(classes))
    interval = rate_interval(table[:, classes.index(scores.majority[head])], table.sum(axis=1), context.seed)
    verdict = Verdict.WARN if won else Verdict.PASS
    return Finding(
        CHECK,
        verdict,
        message,
        head,
        most["accuracy"],
        interval,
        n,
        limit,
        rows,
        _MEND if won else "",
        "metric" if won else "",
    )


def _joint(loaded: LoadedData, scores: TrivialScores, context: AuditContext) -> Finding:
    limit = context.thresholds.trivial_score
    rows = tuple({"predictor": p} | dict(values) for p, values in scores.joint.items())
    won = sorted({metric for values in scores.joint.values() for metric, s in values.items() if s >= limit})
    said = ", ".join(f"{metric} {percent(value, 2)}" for metric, value in scores.joint["majority"].items())
    message = f"Always the majority class of every head scores: {said}" + (
        f"; {', '.join(won)} cannot tell a model from a constant." if won else "."
    )
    best = max((v for v in scores.joint["majority"].values() if not math.isnan(v)), default=float("nan"))
    n = int((len(loaded.splits.test)) * loaded.dataset.target_length)
    verdict = Verdict.WARN if won else Verdict.PASS
    return Finding(
        CHECK, verdict, message, "composite", best, None, n, limit, rows, _MEND if won else "", "metric" if won else ""
    )
