"""One row per strategy, its controls beside it; numbers only, so that charts can use every column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.comparison.bootstrap import BETTER, CANNOT, WORSE, Estimate, Side, alone, contrasts
from imbalance_lab.comparison.differences import row
from imbalance_lab.comparison.resampling import SCALARS
from imbalance_lab.comparison.study import CONTROL, COST, TRIVIAL, Study
from imbalance_lab.comparison.verdict import Decision

KIND_STRATEGY, KIND_CONTROL, KIND_TRIVIAL = 0, 1, 2
VERDICT_CODE = {BETTER: 1.0, CANNOT: 0.0, WORSE: -1.0}
MAX_CLASS_COLUMNS = 12

_PER_1000 = dict.fromkeys(("rare_missed", "false_rare", "majority_errors"), (0.0, 1000.0))
_RANGE = {"mcc": (-1.0, 1.0), COST: (0.0, float("inf")), **_PER_1000}
"""Scale of the metrics that do not lie in [0, 1]."""


def leaderboard(study: Study, differences: pd.DataFrame, primary: str = "macro_f1") -> pd.DataFrame:
    """One row per strategy, one for each free-lunch control, one for each trivial predictor.

    Every column but ``strategy`` is numeric; NaN means unknown or not applicable.

    * ``kind``: 0 a strategy, 1 a strategy after free post-hoc correction, 2 a trivial predictor.
    * ``<metric>`` is the mean over ``seeds`` runs, with ``_sd`` (ddof 1), ``_min``, ``_max`` over seeds
      and ``_low``, ``_high``, the 95 % interval over recordings and seeds.
    * ``<metric>_difference``, ``_difference_low``, ``_difference_high``: against the baseline.
    * ``p`` (corrected for the family), ``minimum_detectable``: of the primary metric, against the baseline.
    * ``over_control``, ``over_control_low``, ``over_control_high``: primary metric less that of the baseline after its
      free post-hoc correction.
    * ``verdict``, ``over_control_verdict``: those of the decision, see :func:`with_verdicts`; NaN before it.
    * ``free_lunch``: primary metric of the strategy's own runs after that correction.
    * ``ece``, ``nll`` (nats) as trained, the numbers of each run's own page; ``_temperature`` after the
      temperature fitted on validation; ``_prior_undone`` after undoing the strategy's prior shift.
    * ``val_score``, ``seconds``: means over seeds, NaN unless every run tells.
    * ``recall/<class>``, ``precision/<class>`` where the head has at most 12 classes.

    Rows are sorted by kind, strategies by ``val_score`` (the primary metric where unknown).
    """
    j = study.joined
    rows = []
    means = _means_of(study)
    for name in j.strategies:
        about = _row(study, differences, name, study.side(name), means[name], KIND_STRATEGY, primary)
        control = study.control(name)
        about["free_lunch"] = np.nan if control is None else _mean(study, control, primary)
        runs = [j.runs[i] for i in j.runs_of(name)]
        about |= _means([j.calibration[i] for i in j.runs_of(name)])
        about |= _means([{"val_score": _known(run.val_score), "seconds": _known(run.seconds)} for run in runs])
        rows.append(about)
        if control is not None:
            label = name + CONTROL
            rows.append(_row(study, differences, label, control, means[label], KIND_CONTROL, primary))
    rows += [
        _row(study, differences, name, study.trivial(name), means[name], KIND_TRIVIAL, primary) for name in TRIVIAL
    ]
    table = pd.DataFrame(rows)
    score = table["val_score"] if table.loc[table["kind"] == 0, "val_score"].notna().all() else table[primary]
    key = score.where(table["kind"] == KIND_STRATEGY, table[primary])
    order = pd.DataFrame({"kind": table["kind"], "score": -key}).sort_values(["kind", "score"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def with_verdicts(board: pd.DataFrame, decision: Decision) -> pd.DataFrame:
    """The leaderboard with the decision's verdicts: 1 better, 0 cannot distinguish, -1 worse, NaN none or too little.

    Table, text and figures then cannot disagree.
    """
    out = board.copy()
    for column, verdicts in (("verdict", decision.verdicts), ("over_control_verdict", decision.over_control)):
        out[column] = [VERDICT_CODE.get(verdicts.get(name, ""), np.nan) for name in board["strategy"]]
    return out


def _means_of(study: Study) -> dict[str, Estimate]:
    """Mean and interval of every row; strategies and their controls share what is known of the noise of seeds."""
    names = study.joined.strategies
    controls = {name + CONTROL: side for name in names if (side := study.control(name)) is not None}
    groups = ({name: study.side(name) for name in names}, controls, {name: study.trivial(name) for name in TRIVIAL})
    out: dict[str, Estimate] = {}
    for sides in groups:
        found = contrasts(study.resampled, list(sides.values()))
        out |= {name: alone(c) for name, c in zip(sides, found, strict=True)}
    return out


def _row(
    study: Study, differences: pd.DataFrame, name: str, side: Side, e: Estimate, kind: int, primary: str
) -> dict[str, Any]:
    r = study.resampled
    point = r.point[side.runs]
    several = len(side.runs) > 1
    out: dict[str, Any] = {"strategy": name, "kind": kind, "seeds": 0 if side.seeds is None else len(side.runs)}
    for metric in [*SCALARS, *([COST] if study.costs is not None else [])]:
        i = r.index(metric)
        out[metric] = e.value[i]
        out[f"{metric}_sd"] = point[:, i].std(ddof=1) if several else np.nan
        out[f"{metric}_min"], out[f"{metric}_max"] = point[:, i].min(), point[:, i].max()
        # A t interval may leave the scale; no score does. A missing one stays missing: max(0, NaN) would be 0.
        scale = _RANGE.get(metric, (0.0, 1.0))
        for end, value in (("low", e.low[i]), ("high", e.high[i])):
            out[f"{metric}_{end}"] = float(np.clip(value, *scale)) if study.enough[i] else np.nan
        d = row(differences, name, study.baseline, metric) or {}
        for mine, theirs in (("", "difference"), ("_low", "low"), ("_high", "high")):
            out[f"{metric}_difference{mine}"] = _known(d.get(theirs))
    d = row(differences, name, study.baseline, primary) or {}
    out["p"], out["minimum_detectable"] = _known(d.get("p")), _known(d.get("minimum_detectable"))
    out["verdict"] = np.nan
    c = row(differences, name, study.baseline + CONTROL, primary) or {}
    out["over_control"] = _known(c.get("difference"))
    out["over_control_low"], out["over_control_high"] = _known(c.get("low")), _known(c.get("high"))
    out["over_control_verdict"] = np.nan
    classes = study.joined.classes if len(study.joined.classes) <= MAX_CLASS_COLUMNS else ()
    for metric in [f"{kind}/{c}" for kind in ("recall", "precision") for c in classes]:
        out[metric] = e.value[r.index(metric)]
    return out


def _mean(study: Study, side: Side, metric: str) -> float:
    return float(study.resampled.point[side.runs, study.resampled.index(metric)].mean())


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([r[key] for r in rows])) for key in rows[0]}


def _known(value: Any) -> float:
    return np.nan if value is None else float(value)
