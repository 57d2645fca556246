"""From the study of a grid to its decision: the rows that decide, the price of the choice, what would be needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.comparison.bootstrap import BETTER, WORSE
from imbalance_lab.comparison.differences import row
from imbalance_lab.comparison.study import CONTROL, COST, TRIVIAL, Study
from imbalance_lab.comparison.training_noise import MIN_STRATEGIES
from imbalance_lab.comparison.verdict import (
    CANNOT_TELL,
    CORRECTED,
    SOME_WORSE,
    Decision,
    Results,
    Row,
    decide,
    told,
)
from imbalance_lab.metrics.needed_evidence import Spread, recordings_needed


def validation_means(study: Study) -> dict[str, float]:
    """Mean validation score of each strategy whose every run has one."""
    out = {}
    for name in study.joined.strategies:
        scores = [study.joined.runs[i].val_score for i in study.joined.runs_of(name)]
        known = [float(s) for s in scores if s is not None and np.isfinite(s)]
        if len(known) == len(scores):
            out[name] = float(np.mean(known))
    return out


def results_of(
    study: Study, differences: pd.DataFrame, metric: str, margin: float, stopped: Mapping[str, str] | None = None
) -> Results:
    """What :func:`decide` needs of a study."""
    base, names = study.baseline, study.joined.strategies

    def rows(against: str, who: Sequence[str]) -> dict[str, Row]:
        return {name: d for name in who if (d := row(differences, name, against, metric)) is not None}

    at = study.resampled.index(metric)
    return Results(
        baseline=base,
        metric=metric,
        margin=margin,
        against_baseline=rows(base, names[1:]),
        over_control=rows(base + CONTROL, names),
        control=row(differences, base + CONTROL, base, metric),
        validation=validation_means(study),
        scores={name: float(study.resampled.point[study.side(name).runs, at].mean()) for name in names},
        majority=float(study.resampled.point[study.trivial("always-majority").runs, at].mean()),
        stopped=stopped or {},
    )


def spread_of(r: Results) -> Spread | None:
    """Of the strategy that is hardest to tell from the baseline (largest standard error)."""
    known = [d for d in r.against_baseline.values() if np.isfinite(d["minimum_detectable"]) and d["se"] > 0]
    if not known:
        return None
    d = max(known, key=lambda d: float(d["se"]))
    told = bool(d["seeds_in_interval"])
    trainings = float(np.sqrt(max(0.0, d["se"] ** 2 - d["se_recordings"] ** 2))) if told else None
    return Spread(int(d["recordings"]), float(d["se_recordings"]), trainings, float(d["minimum_detectable"] / d["se"]))


def price_of(decision: Decision, differences: pd.DataFrame, board: pd.DataFrame, baseline: str) -> tuple[str, ...]:
    """What the chosen strategy (or correction) gains and costs against the baseline, in at most four sentences."""
    if decision.strategy is None or (decision.strategy == baseline and not decision.use_free_lunch):
        return ()
    name = baseline + CONTROL if decision.use_free_lunch else decision.strategy
    own = differences[(differences["strategy"] == name) & (differences["against"] == baseline)]
    said = []
    recalls = own[own["metric"].str.startswith("recall/") & own["verdict"].isin([BETTER, WORSE])]
    gains = [
        f"{d['class']} {d['difference']:+.3f}"
        + (f" ({d['low']:+.3f} to {d['high']:+.3f})" if np.isfinite(d["low"]) else "")
        for d in recalls.sort_values("difference", ascending=False).to_dict("records")
    ]
    rest = f" and {len(gains) - 6} more classes" if len(gains) > 6 else ""
    changes = f"Recall that changes beyond doubt: {', '.join(gains[:6])}{rest}."
    said.append(changes if gains else "The recall of no class changes beyond doubt.")
    alarms = row(own, name, baseline, "false_rare")
    if alarms is not None and np.isfinite(alarms["difference"]):
        said.append(f"False rare predictions per 1,000 positions: {alarms['difference']:+.2f}{_range(alarms)}.")
    by = board.set_index("strategy")
    eces = [float(by["ece"].get(n, np.nan)) for n in (baseline, name)]
    if np.isfinite(eces).all():
        said.append(f"Calibration error (ECE) goes from {eces[0]:.3f} to {eces[1]:.3f}.")
    cost = row(own, name, baseline, COST)
    if cost is not None and np.isfinite(cost["difference"]):
        said.append(f"Cost by your matrix per 1,000 positions: {cost['difference']:+.2f}{_range(cost)}.")
    return tuple(said)


def _range(d: Row) -> str:
    return f" (95 % interval {d['low']:+.2f} to {d['high']:+.2f})" if np.isfinite(d["low"]) else ""


FEW_FOLDS = 5
"""With one seed, fewer folds and few differences, intervals were too narrow where models collapse."""


def _one_seed(fold: NDArray[np.int64] | None, differences: int) -> str:
    if fold is None:
        return (
            "Every strategy has one seed, so this compares the models that were trained, not the strategies; train at "
            "least three seeds."
        )
    said = "Every strategy has one seed; each fold counts as one training with its recordings."
    if fold.max() + 1 < FEW_FOLDS and differences < MIN_STRATEGIES:
        said += (
            f" Under {FEW_FOLDS} folds and {MIN_STRATEGIES} differences the intervals are too narrow where models "
            "collapse: train two seeds."
        )
    return said


def choose(
    study: Study,
    differences: pd.DataFrame,
    board: pd.DataFrame,
    metric: str = "macro_f1",
    margin: float = 0.01,
    stopped: Mapping[str, str] | None = None,
) -> Decision:
    """:func:`decide` for a study, with price, needs and evidence."""
    r = results_of(study, differences, metric, margin, stopped)
    found = decide(r)
    details = list(found.details)
    if not any(len(study.joined.runs_of(name)) > 1 for name in study.joined.strategies):
        details.append(_one_seed(study.joined.fold, len(r.against_baseline)))
    spread = spread_of(r)
    needed = None if spread is None else recordings_needed(margin, spread)
    evidence = {
        "metric": metric,
        "baseline": r.baseline,
        "margin": margin,
        "case": found.case,
        "validation": dict(r.validation),
        "against_baseline": r.against_baseline.get(found.selected or ""),
        "against_free_lunch": r.over_control.get(found.selected or ""),
        "free_lunch_of_baseline": r.control,
        "always_majority": r.majority,
        "test_score": r.scores.get(found.selected or "", float("nan")),
        "verdicts": dict(found.verdicts),
        **({"stopped": dict(r.stopped)} if r.stopped else {}),
        "spread": None if spread is None else vars(spread),
        "needed": None if needed is None else vars(needed),
        "recordings": study.joined.n_recordings,
        "positions": len(study.joined.true),
    }
    others = [r.baseline + CONTROL, *TRIVIAL]
    beside = {name: told(d) for name in others if (d := row(differences, name, r.baseline, metric)) is not None}
    price = price_of(found, differences, board, r.baseline)
    unseen = found.case in (CANNOT_TELL, CORRECTED, SOME_WORSE) and bool(r.against_baseline)
    return replace(
        found,
        details=tuple(details),
        price=price,
        needed=f"T{str(needed)[1:]}." if unseen and needed is not None else "",
        verdicts={**found.verdicts, **beside},
        evidence=evidence,
    )
