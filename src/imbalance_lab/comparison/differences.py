"""The table of differences: every strategy against the baseline and against its free-lunch control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.comparison.bootstrap import (
    SIGN_RECORDINGS,
    Estimate,
    Side,
    contrasts,
    together,
    verdicts,
)
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
    "se_recordings",
    "df",
    "p",
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

    Comparisons, each a family of its own per metric (of the strategies; of strategies x classes for recall and
    precision), whose verdict, p and interval come from one procedure
    (:func:`imbalance_lab.comparison.bootstrap.together`):

    * every strategy against the baseline;
    * every strategy, as trained, against the baseline after its free post-hoc correction: what
      training bought over a correction that costs nothing;
    * the baseline's own free-lunch control, and the trivial predictors, against the baseline.

    ``class`` is "" for metrics of the whole run. ``difference`` is value - reference; for
    ``rare_missed``, ``false_rare``, ``majority_errors`` and ``expected_cost`` (per 1,000 positions)
    smaller is better, and the verdict takes that into account. Where a statistic rests on fewer
    than 20 positions or 6 recordings, or is undefined in a run, the verdict is ``insufficient``
    and there is no interval.
    """
    base, control = study.side(study.baseline), study.control(study.baseline)
    others = study.joined.strategies[1:]
    blocks = _family(study, {name: study.side(name) for name in others}, study.baseline, base, alpha)
    if control is not None:
        reference = study.baseline + CONTROL
        everyone = {name: study.side(name) for name in study.joined.strategies}
        blocks += _family(study, everyone, reference, control, alpha)
        blocks += _family(study, {reference: control}, study.baseline, base, alpha)
    blocks += _family(study, {name: study.trivial(name) for name in TRIVIAL}, study.baseline, base, alpha)
    return pd.concat(blocks, ignore_index=True)[list(COLUMNS)]


def row(table: pd.DataFrame, strategy: str, against: str, metric: str) -> dict[str, Any] | None:
    """The one row of that comparison as a dict, or None."""
    hit = table[(table["strategy"] == strategy) & (table["against"] == against) & (table["metric"] == metric)]
    return None if hit.empty else {str(k): v for k, v in hit.iloc[0].to_dict().items()}


def _family(study: Study, sides: Mapping[str, Side], against: str, reference: Side, alpha: float) -> list[pd.DataFrame]:
    """One table per strategy of ``sides``, held against ``reference`` together."""
    r, k = study.resampled, len(study.joined.classes)
    enough = study.enough & (study.recordings >= SIGN_RECORDINGS)
    found = contrasts(r, list(sides.values()), reference)
    scalars = len(r.names) - 2 * k
    families = [np.array([i]) for i in range(scalars)]
    families += [first + np.flatnonzero(enough[first : first + k]) for first in (scalars, scalars + k)]
    decided = [together(found, columns, study.recordings, alpha) for columns in families]
    blocks = []
    for i, (name, side) in enumerate(sides.items()):
        parts = [(columns, estimates[i]) for columns, estimates in zip(families, decided, strict=True) if estimates]
        blocks.append(_block(study, name, side, against, reference, parts, enough, found[i].value))
    for block in blocks:
        gain, p = block["difference"].to_numpy(), block["p"].to_numpy()
        block["verdict"] = verdicts(gain, p, r.larger_is_better, alpha)
    return blocks


def _block(
    study: Study,
    strategy: str,
    side: Side,
    against: str,
    reference: Side,
    parts: Sequence[tuple[NDArray[np.int64], Estimate]],
    enough: NDArray[np.bool_],
    difference: NDArray[np.float64],
) -> pd.DataFrame:
    r = study.resampled
    scalars = len(r.names) - 2 * len(study.joined.classes)
    seeds = set() if side.seeds is None else set(side.seeds.tolist())
    paired = seeds & (set() if reference.seeds is None else set(reference.seeds.tolist()))
    known = enough & ~np.isnan(difference)

    def column(name: str) -> NDArray[np.float64]:
        out = np.full(len(r.names), np.nan)
        for columns, e in parts:
            out[columns] = getattr(e, name)
        return np.where(known, out, np.nan)

    return pd.DataFrame(
        {
            "strategy": strategy,
            "against": against,
            "metric": list(r.names),
            "class": [""] * scalars + list(study.joined.classes) * 2,
            "value": r.point[side.runs].mean(axis=0),
            "reference": r.point[reference.runs].mean(axis=0),
            "difference": difference,
            **{name: column(name) for name in ("low", "high", "se", "se_recordings", "df", "p", "minimum_detectable")},
            "positions": study.positions,
            "recordings": study.recordings,
            "seeds": len(side.runs) if side.seeds is not None else 0,
            "paired_seeds": len(paired),
            "seeds_in_interval": int(any(e.seeds_in_interval for _, e in parts)),
        }
    )
