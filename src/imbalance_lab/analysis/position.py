"""Error rate by the place in the true sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from imbalance_lab.analysis.position_bins import DISTANCE_EDGES, N_RELATIVE, distance_names
from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.analysis.record import BOOT, RATE, Advice, Analysis, Plot, Rule, Scene, Table, columns
from imbalance_lab.analysis.trend import Trend, cluster_trend
from imbalance_lab.metrics.clusters import rate_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PositionBias:
    """Result of :func:`position_bias`.

    Attributes
    ----------
    table : along (from_start, from_end, relative), bin, and the error rate with n, recordings, intervals
    trends : one test each, along log2(1 + distance) and along the relative place 0..1
    """

    verdict: str
    table: pd.DataFrame
    trends: tuple[Trend, ...]


def position_bias(prepared: Prepared) -> PositionBias:
    """Error rates by distance to the true start and end and by relative position, and tests for trend."""
    t = prepared.tally
    distance = np.log2(1.0 + np.array(DISTANCE_EDGES))
    tenths = (np.arange(N_RELATIVE) + 0.5) / N_RELATIVE
    names = distance_names()
    relative_names = [f"{10 * i}-{10 * (i + 1)} %" for i in range(N_RELATIVE)]
    tables, trends = [], []
    for along, counts, x, labels in (
        ("from_start", t.from_start, distance, names),
        ("from_end", t.from_end, distance, names),
        ("relative", t.relative, tenths, relative_names),
    ):
        n, errors = counts.sum(axis=2), counts[..., 1]
        table = rate_table(labels, errors, n, prepared.weights, "bin")
        table.insert(0, "along", along)
        tables.append(table[table["n"] > 0])
        trends.append(cluster_trend(errors, n, x, along))
    one_place = t.relative.sum() == 0
    return PositionBias(
        verdict="not applicable: every sequence has one position" if one_place else "ok",
        table=pd.concat(tables, ignore_index=True),
        trends=tuple(trends),
    )


def _figure(found: PositionBias, scene: Scene) -> Figure | str:
    from imbalance_lab.plots.rates import error_by_position

    if found.verdict != "ok":
        return found.verdict
    p_values = {t.along: t.p for t in found.trends}
    return error_by_position(found.table, scene.scope, overall=scene.error_rate, p_values=p_values)


_P = 0.01


def _place(found: PositionBias, _: Mapping[str, Any]) -> Advice | None:
    fired = [t for t in found.trends if t.p < _P]
    if not fired:
        return None
    worst = min(fired, key=lambda t: t.p)
    return Advice(
        f"Errors depend on the place in the sequence: along {worst.along} the log odds change by {worst.slope:.2f} "
        f"[{worst.low:.2f}, {worst.high:.2f}] per unit (p = {worst.p:.2g}).",
        "Give the ends more context (overlapping windows, padding by reflection), or train on such places more.",
        "A flat error rate over positions.",
        pd.DataFrame([{k: getattr(t, k) for k in ("along", "slope", "low", "high", "p")} for t in fired]),
        f"p of the trend below {_P} (recordings as units)",
    )


ANALYSIS: Analysis[PositionBias] = Analysis(
    "position",
    position_bias,
    "`table`: error rate by distance to the true start and end and by tenths of the sequence; `trends`: slope of the "
    "log odds (per doubling of distance + 1; per whole sequence)",
    section="position_bias",
    tables=(
        Table(
            "position",
            "table",
            "position",
            "Error by position",
            (*columns("text", "along", "bin"), *RATE),
            f"Distances to the true start and end. {BOOT}",
            most=60,
            fold=True,
        ),
    ),
    plots=(Plot("position", "position", _figure),),
    rules=(Rule("place-in-sequence", "position", 4, _place),),
)
