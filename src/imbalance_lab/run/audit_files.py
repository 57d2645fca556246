"""The audit of an experiment's data as files: page, tables, figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imbalance_lab.audit.audit_tables import evidence_tables, findings_table, to_dict, trivial_table
from imbalance_lab.audit.auditing import AuditReport
from imbalance_lab.audit.settings import StrategyWeights
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.learners.all_learners import bind_strategy
from imbalance_lab.plots.audit_figures import audit_overview, class_distribution, placeholder
from imbalance_lab.plots.style import Scope, class_colours, save_png
from imbalance_lab.predictions import primary_head
from imbalance_lab.report.audit_page import render_audit_page
from imbalance_lab.report.page import write
from imbalance_lab.run.trial_files import write_tables
from imbalance_lab.spec import ExperimentSpec

if TYPE_CHECKING:
    import pandas as pd


def write_audit(report: AuditReport, loaded: LoadedData, folder: Path, name: str, said: Sequence[str] = ()) -> None:
    """``index.html``, ``audit.json``, tables and figures of an audit under ``folder``."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(json.dumps(to_dict(report), indent=1), encoding="utf-8")
    evidence = evidence_tables(report)
    found = {"findings": findings_table(report), "trivial_predictors": trivial_table(report), **evidence}
    write_tables({n: t for n, t in found.items() if isinstance(t, pd.DataFrame)}, folder / "tables")
    dataset = loaded.dataset
    head = primary_head(dataset.heads)
    scope = Scope(
        head=head, positions=int(dataset.class_counts(head).sum()), recordings=len(set(dataset.groups.tolist()))
    )
    colours = class_colours(dataset.heads[head], dataset.class_counts(head, loaded.splits.train))
    figures = {
        "overview": audit_overview(report.findings, Scope(recordings=scope.recordings)),
        "splits": class_distribution(composition(loaded, head), scope, colours=colours),
    }
    fillers = filler_table(evidence.get("placeholder"), head)
    if len(fillers):
        figures["placeholder"] = placeholder(fillers, scope)
    for figure_name, figure in figures.items():
        save_png(figure, folder / "figures" / f"{figure_name}.png")
    page = render_audit_page(
        report.findings,
        title=f"{name}: audit of the data",
        sentence=report.sentence.partition(". ")[0].rstrip(".") + ".",
        lead=figures["overview"],
        figures={name: f for name, f in figures.items() if name != "overview"},
        tables={"trivial predictors": trivial_table(report)},
        notes=said,
        facts={
            "verdict in full": report.sentence,
            "digest": dataset.digest,
            **{k: v for k, v in dataset.facts.items() if isinstance(v, (str, int, float))},
        },
    )
    write(page, folder / "index.html")


def filler_table(evidence: pd.DataFrame | None, head: str) -> pd.DataFrame:
    """How many positions of each class of ``head`` are fillers: class, n, filler, rate, low, high.

    ``evidence`` is the placeholder check's table, or None where it gave none; empty where no class
    of the head holds a filler.
    """
    import pandas as pd

    from imbalance_lab.metrics.intervals import wilson

    if evidence is None or "not applicable" not in evidence:
        return pd.DataFrame(columns=["class", "n", "filler", "rate", "low", "high"])
    rows = evidence[(evidence["head"] == head) & evidence["not applicable"].notna()].drop_duplicates("class")
    n, filler = rows["positions"].to_numpy(), rows["not applicable"].to_numpy()
    if not filler.sum():
        return pd.DataFrame(columns=["class", "n", "filler", "rate", "low", "high"])
    low, high = wilson(filler, n)
    return pd.DataFrame(
        {"class": rows["class"], "n": n, "filler": filler.astype(int), "rate": filler / n, "low": low, "high": high}
    ).reset_index(drop=True)


def composition(loaded: LoadedData, head: str) -> pd.DataFrame:
    """Class x split in scored positions and recordings, a DataFrame."""
    import numpy as np
    import pandas as pd

    dataset = loaded.dataset
    rows = []
    for split, index in loaded.splits.items():
        target = dataset.targets[head][index]
        for c, name in enumerate(dataset.heads[head]):
            holds = target == c
            recordings = len(np.unique(dataset.groups[index][holds.any(axis=1)]))
            rows.append({"class": name, "split": split, "positions": int(holds.sum()), "recordings": recordings})
    return pd.DataFrame(rows)


def strategy_weights(spec: ExperimentSpec, loaded: LoadedData) -> list[StrategyWeights]:
    """What each strategy's last phase does to weights and shares, from its notes."""
    found = []
    primary = spec.main_head(loaded.dataset.heads)
    for name, strategy in spec.strategies.items():
        notes = bind_strategy(strategy, loaded, primary, spec.seeds[0]).notes
        found.append(
            StrategyWeights(
                name,
                class_weights=_last_phase(notes["class_weights"]),
                class_shares=_last_phase(notes["expected_shares"]),
                batch_size=spec.training.batch_size,
            )
        )
    return found


def _last_phase(by_phase: object) -> dict[str, list[float]]:
    """Head to the values of its classes, of the phase that ends the training."""
    assert isinstance(by_phase, dict)
    last = list(by_phase.values())[-1] if by_phase else {}
    return {head: [float(v) for v in values.values()] for head, values in last.items()}
