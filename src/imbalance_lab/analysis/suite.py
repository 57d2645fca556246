"""The whole error analysis of one run, from its predictions table alone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.analysis.cross_head import TABLES, cross_head
from imbalance_lab.analysis.prepared import Prepared, prepare
from imbalance_lab.analysis.recommendations import recommend
from imbalance_lab.analysis.record import Table
from imbalance_lab.analysis.results import ErrorAnalysis, HeadAnalysis
from imbalance_lab.names import suffixes
from imbalance_lab.predictions import HeadPredictions, Predictions


def analyse_head(prepared: Prepared, *, labels_only: bool = False) -> HeadAnalysis:
    """Every analysis of one head, or those that count labels alone."""
    return HeadAnalysis(
        classes=prepared.head.classes,
        train_counts=tuple(int(n) for n in prepared.head.train_counts),
        positions=len(prepared.head),
        recordings=prepared.clusters.recordings,
        error_rate=float(np.mean(prepared.wrong)),
        results={a.name: prepared.once(a.compute) for a in ANALYSES if not (labels_only and a.needs_probabilities)},
    )


def _ordered(predictions: Predictions) -> dict[str, HeadPredictions]:
    main = predictions.primary
    names = sorted(predictions.heads, key=lambda name: name != main)  # stable: the others keep their order
    return {name: predictions.heads[name] for name in names if len(predictions.heads[name])}


def run_suite(
    predictions: Predictions,
    *,
    tried: Collection[str] = (),
    unfit: Collection[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    labels_only: bool = False,
) -> ErrorAnalysis:
    """Every analysis of every head.

    Parameters
    ----------
    tried : strategies that the experiment already ran; none is recommended again
    unfit : catalogue names that the experiment cannot take; none is recommended
    resamples : of the cluster bootstrap over recordings
    seed : of the bootstrap and of the subsamples of permutation nulls; the same seed gives the same report
    labels_only : the probabilities mean nothing: only what is counted from labels is computed

    Raises
    ------
    InputError
        If no head has a scored position.
    """
    from threadpoolctl import threadpool_limits

    scored = _ordered(predictions)
    # The products of the bootstrap are small: threads of the BLAS gain nothing and burn a core each waiting for more.
    with threadpool_limits(1, user_api="blas"):
        heads, prepared = {}, None
        macro = predictions.meta.get("classes_in_macro") or {}
        for name, head in scored.items():
            prepared = prepare(head, name, resamples, seed, macro.get(name), prepared, predictions.meta)
            heads[name] = analyse_head(prepared, labels_only=labels_only)
        cross = cross_head(predictions, resamples, seed)
    return ErrorAnalysis(
        heads=heads,
        primary=predictions.primary,
        cross_head=cross,
        recommendations=recommend(heads, cross, tried, unfit),
        meta={**predictions.meta, "resamples": resamples, "analysis_seed": seed, "tried": sorted(tried)},
        unscored=tuple(name for name in predictions.heads if name not in heads),
        labels_only=labels_only,
    )


def head_tables(analysis: ErrorAnalysis, head: str) -> dict[str, pd.DataFrame]:
    """The tables of one head by the names of their files."""
    found: dict[str, pd.DataFrame] = {}
    results = analysis.heads[head].results
    for record in ANALYSES:
        for table in record.tables:
            if not table.name or record.name not in results or (analysis.labels_only and table.needs_probabilities):
                continue
            made = table.of(results[record.name])
            found |= {n: table.counted(t) for n, t in made.items()} if analysis.labels_only else made
    return found


def shared_tables(analysis: ErrorAnalysis) -> dict[str, pd.DataFrame]:
    """The tables about all heads together."""
    found = {name: frame for table in TABLES for name, frame in table.of(analysis.cross_head).items()}
    return {name: frame for name, frame in found.items() if len(frame)}


def tables(analysis: ErrorAnalysis) -> dict[str, pd.DataFrame]:
    """The tables that are files of their own: those of the main head and those about all heads together."""
    return head_tables(analysis, analysis.primary) | shared_tables(analysis)


def bundles(analysis: ErrorAnalysis) -> dict[str, dict[str, pd.DataFrame]]:
    """The tables of each other head by the name of the one file that holds them all."""
    suffixed = head_suffixes(analysis).items()
    return {table_file(end): head_tables(analysis, head) for head, end in suffixed if head != analysis.primary}


def table_file(suffix: str) -> str:
    """What the file of a head's tables is called: ``{name}`` where each has a file of its own."""
    return f"head{suffix}" if suffix else "{name}"


def head_suffixes(analysis: ErrorAnalysis) -> dict[str, str]:
    """What the names of each head's files end in, see :func:`imbalance_lab.names.suffixes`."""
    plots = [plot.name for record in ANALYSES for plot in record.plots]
    names = {head: {*head_tables(analysis, head), *plots} for head in analysis.heads}
    return suffixes(names, analysis.primary, [table.name for table in TABLES])


def table_records() -> list[Table]:
    """Every table that a run writes, in the order of a page."""
    return [table for analysis in ANALYSES for table in analysis.tables if table.name] + list(TABLES)
