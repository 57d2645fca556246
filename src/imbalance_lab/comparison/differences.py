"""The table of differences: every strategy against the baseline and against its free-lunch control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.comparison.bootstrap import Estimate, Side, estimate, holm_by_family, verdicts
from imbalance_lab.comparison.study import CONTROL, TRIVIAL, Study

COLUMNS = (
    "strategy",
    "against",
    "metric",
    "class",
    "value",
    "reference",
    "difference",
    "low",
    "high",
    "se",
    "df",
    "p",
    "p_holm",
    "verdict",
    "minimum_detectable",
    "positions",
    "recordings",
    "seeds",
    "paired_seeds",
    "seeds_in_interval",
)


def differences(study: Study, alpha: float = 0.05) -> pd.DataFrame:
    """One row per comparison and metric (columns :data:`COLUMNS`).

    Comparisons, each with a Holm correction of its own per metric (over strategies; over
    strategies x classes for recall and precision):

    * every strategy against the baseline;
    * every strategy, as trained, against the baseline after its free post-hoc correction: what
      training bought over a correction that costs nothing;
    * the baseline's own free-lunch control and the trivial predictors against the baseline.

    ``class`` is "" for metrics of the whole run. ``difference`` is value - reference; for
    ``rare_missed``, ``false_rare``, ``majority_errors`` and ``expected_cost`` (per 1,000 positions)
    smaller is better, and the verdict takes that into account. Where a statistic rests on fewer
    than 20 positions or 3 recordings, or is undefined in a run, the verdict is ``insufficient``
    and there is no interval. The interval is not corrected for the number of strategies; the
    verdict is.
    """
    blocks = []
    base, control = study.side(study.baseline), study.control(study.baseline)
    others = study.joined.strategies[1:]
    blocks += [_block(study, name, study.side(name), study.baseline, base, "strategies") for name in others]
    if control is not None:
        reference = study.baseline + CONTROL
        blocks += [
            _block(study, name, study.side(name), reference, control, "control") for name in study.joined.strategies
        ]
        blocks.append(_block(study, reference, control, study.baseline, base, "free lunch"))
    blocks += [_block(study, name, study.trivial(name), study.baseline, base, "trivial") for name in TRIVIAL]
    table = pd.concat(blocks, ignore_index=True)

    per_class = table["class"] != ""
    metric = table["metric"].where(~per_class, table["metric"].str.split("/").str[0])
    family = (table["family"] + "\t" + metric).to_numpy(dtype=str)
    table["p_holm"] = holm_by_family(table["p"].to_numpy(dtype=np.float64), family)
    better = table["larger_is_better"].to_numpy(dtype=bool)
    table["verdict"] = verdicts(
        table["difference"].to_numpy(dtype=np.float64), table["p_holm"].to_numpy(dtype=np.float64), better, alpha
    )
    return table[list(COLUMNS)]


def row(table: pd.DataFrame, strategy: str, against: str, metric: str) -> dict[str, Any] | None:
    """The one row of that comparison as a dict, or None."""
    hit = table[(table["strategy"] == strategy) & (table["against"] == against) & (table["metric"] == metric)]
    return None if hit.empty else {str(k): v for k, v in hit.iloc[0].to_dict().items()}


def _block(study: Study, strategy: str, side: Side, against: str, reference: Side, family: str) -> pd.DataFrame:
    r = study.resampled
    e: Estimate = estimate(r, side, reference, study.recordings.astype(np.float64))
    known = study.enough & ~np.isnan(e.value)
    scalars = len(r.names) - 2 * len(study.joined.classes)
    seeds = set() if side.seeds is None else set(side.seeds.tolist())
    paired = seeds & (set() if reference.seeds is None else set(reference.seeds.tolist()))

    def only_known(x: np.ndarray) -> np.ndarray:
        return np.where(known, x, np.nan)

    return pd.DataFrame(
        {
            "strategy": strategy,
            "against": against,
            "family": family,
            "metric": list(r.names),
            "class": [""] * scalars + list(study.joined.classes) * 2,
            "larger_is_better": r.larger_is_better,
            "value": r.point[side.runs].mean(axis=0),
            "reference": r.point[reference.runs].mean(axis=0),
            "difference": e.value,
            "low": only_known(e.low),
            "high": only_known(e.high),
            "se": only_known(e.se),
            "df": only_known(e.df),
            "p": only_known(e.p),
            "minimum_detectable": only_known(e.minimum_detectable),
            "positions": study.positions,
            "recordings": study.recordings,
            "seeds": len(side.runs) if side.seeds is not None else 0,
            "paired_seeds": len(paired),
            "seeds_in_interval": int(e.seeds_in_interval),
        }
    )
