"""The tables and figures of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from imbalance_lab.names import key
from imbalance_lab.plots import bill, strategy_figures
from imbalance_lab.plots.style import Scope
from imbalance_lab.report.comparison_page import TABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_lab.comparison import Comparison

_NAMES = {"macro_f1": "macro F1", "balanced_accuracy": "balanced accuracy", "mcc": "MCC"}


def scope_of_comparison(found: Comparison) -> Scope:
    """Head, split, positions, recordings and seeds of a comparison, for subtitles."""
    facts = found.facts
    return Scope(
        head=str(facts.get("head") or ""),
        split=str(facts.get("split") or ""),
        positions=int(facts["positions"]),
        recordings=int(facts["recordings"]),
        seeds=tuple(sorted({int(s) for s in found.runs["seed"]})),
    )


def figures_of_comparison(
    found: Comparison, *, metric: str = "macro_f1", headline: str | None = None
) -> dict[str, Figure]:
    """Leaderboard, recall against false alarms, cost ranges, and flows of each strategy against the baseline.

    Parameters
    ----------
    metric : what the leaderboard figure shows; a column of the leaderboard
    headline : the verdict as the leaderboard's title
    """
    scope, baseline = scope_of_comparison(found), str(found.facts["baseline"])
    board = found.leaderboard
    trained = board[board["kind"] == 0]
    summary = pd.DataFrame(
        {
            "strategy": trained["strategy"],
            "mean": trained[metric],
            "low": trained[f"{metric}_low"],
            "high": trained[f"{metric}_high"],
            "free_lunch": trained["free_lunch"],
        }
    )
    seeds = found.runs[["strategy", "seed", metric]].rename(columns={metric: "value"})
    trivial = {
        str(s): float(v) for s, v, k in zip(board["strategy"], board[metric], board["kind"], strict=True) if k == 2
    }
    order = list(dict.fromkeys(found.runs["strategy"]))
    figures = {
        "leaderboard": strategy_figures.leaderboard(
            summary.set_index("strategy").reindex(order).reset_index(),
            seeds,
            scope,
            metric=_NAMES.get(metric, metric),
            baseline=baseline,
            trivial=trivial,
            headline=headline,
        ),
        "recall_against_false_alarms": strategy_figures.recall_against_false_alarms(
            _rates(found), scope, baseline=baseline
        ),
    }
    ranges = found.cost_ranges.rename(columns={"ratio_low": "low", "ratio_high": "high"})
    ranges = ranges[ranges["low"].notna() & (ranges["high"] > ranges["low"])]
    figures["cost_ranges"] = bill.cost_ranges(
        ranges.assign(clear=ranges["share_of_resamples"] >= 0.95),
        scope,
        order=[*order, *(s for s in found.cost_ranges["strategy"] if s not in order)],
        baseline=baseline,
    )
    for strategy in dict.fromkeys(found.flows["strategy"]):
        part = found.flows[(found.flows["strategy"] == strategy) & (found.flows["by"] == "class")]
        table = part.rename(columns={"name": "class", "positions": "n"})
        figures[f"flows_{key(str(strategy))}"] = bill.flows(table, scope, first=baseline, second=str(strategy))
    return figures


def _rates(found: Comparison) -> pd.DataFrame:
    """Recall, and the share of other classes' positions given the class, by class and trained strategy.

    False alarms follow from recall r, precision p and support s: s r (1 / p - 1).
    """
    board, facts = found.leaderboard, found.facts
    support: dict[str, int] = dict(facts["class_positions"])
    total, majority = sum(support.values()), facts.get("majority_class")
    major = {majority} if isinstance(majority, str) else set(majority or ())
    rows = []
    for row in board[board["kind"] == 0].to_dict("records"):
        for name, n in support.items():
            recall, precision = row.get(f"recall/{name}", np.nan), row.get(f"precision/{name}", np.nan)
            if name in major or n in (0, total) or not np.isfinite(recall):
                continue
            known = np.isfinite(precision) and precision > 0
            alarms = n * recall * (1 / precision - 1) / (total - n) if known else (0.0 if recall == 0 else np.nan)
            rows.append(
                {"class": name, "strategy": row["strategy"], "recall": recall, "false_alarms": alarms, "support": n}
            )
    return pd.DataFrame(rows, columns=["class", "strategy", "recall", "false_alarms", "support"])


def verdicts_of(found: Comparison, *, metric: str = "macro_f1") -> pd.DataFrame:
    """One row per strategy against the baseline, and against the baseline's free correction, with verdicts in words.

    Returns
    -------
    DataFrame with ``strategy, against, value, difference, low, high, p, verdict, minimum_detectable,
    recordings, seeds``
    """
    rows = found.differences[(found.differences["metric"] == metric) & (found.differences["class"] == "")]
    columns = ["strategy", "against", "value", "difference", "low", "high", "p", "verdict", "minimum_detectable"]
    out = rows[[*columns, "recordings", "seeds"]].reset_index(drop=True)
    if metric == found.choice.evidence.get("metric"):  # of the one that decides, the decision's own words
        baseline, said = str(found.facts["baseline"]), found.choice
        out["verdict"] = [
            (said.verdicts if d["against"] == baseline else said.over_control).get(d["strategy"], d["verdict"])
            for d in out.to_dict("records")
        ]
    return out


def tables_of_comparison(found: Comparison, *, metric: str = "macro_f1") -> dict[str, pd.DataFrame]:
    """The tables of a comparison by the names of their files."""
    own = {name: frame for table in TABLES if table.at for name, frame in table.of(found).items()}
    return {"leaderboard": found.leaderboard, "verdicts": verdicts_of(found, metric=metric), **own}


def board_of(found: Comparison, *, metric: str = "macro_f1") -> pd.DataFrame:
    """The leaderboard's columns for a page: every strategy, free-lunch control and trivial predictor, best first.

    Strategies that a race stopped stand last, without a score: theirs would be of fewer recordings.
    """
    board = found.leaderboard.sort_values(metric, ascending=False, kind="stable")
    kinds = {0: "trained", 1: "post-hoc correction", 2: "trivial"}
    others = [m for m in ("macro_f1", "balanced_accuracy", "mcc") if m != metric]
    columns = ["strategy", "seeds", metric, f"{metric}_low", f"{metric}_high", *others, "ece", "nll"]
    out = board[[*columns, "val_score", "seconds"]].reset_index(drop=True)
    out.insert(1, "what", [kinds[int(k)] for k in board["kind"]])
    if len(found.stopped):
        gone = found.stopped
        said = [f"stopped after {after} of {of}" for after, of in zip(gone["after"], gone["of"], strict=True)]
        out = pd.concat([out, pd.DataFrame({"strategy": gone["strategy"], "what": said})], ignore_index=True)
    return out
