"""The whole error analysis of one run, from its predictions table alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from imbalance_lab.analysis.chains import Chains, chains_of
from imbalance_lab.analysis.class_frequency import class_frequency
from imbalance_lab.analysis.confidence import confidence_analysis
from imbalance_lab.analysis.confusion import confusion_analysis
from imbalance_lab.analysis.cross_head import cross_head
from imbalance_lab.analysis.failure_modes import failure_modes
from imbalance_lab.analysis.gallery import gallery_selection
from imbalance_lab.analysis.hard_examples import hard_examples
from imbalance_lab.analysis.label_noise import label_noise
from imbalance_lab.analysis.per_class import per_class_analysis
from imbalance_lab.analysis.position import position_bias
from imbalance_lab.analysis.prepared import Prepared, prepare
from imbalance_lab.analysis.report import to_report
from imbalance_lab.analysis.results import ErrorAnalysis, HeadAnalysis
from imbalance_lab.analysis.segments import segment_analysis
from imbalance_lab.analysis.slices import slice_analysis
from imbalance_lab.analysis.summary import summarise
from imbalance_lab.errors import InputError
from imbalance_lab.predictions import HeadPredictions, Predictions
from imbalance_lab.recommendations import recommend

__all__ = ["ErrorAnalysis", "HeadAnalysis", "analyse_head", "run_suite", "tables", "to_report"]

PRIMARY = "command"


def analyse_head(prepared: Prepared, meta: object = None, chains: Chains | None = None) -> HeadAnalysis:
    """Every analysis of one head; ``meta`` is the run's meta (temperature, prior_correction)."""
    confusion = confusion_analysis(prepared)
    chains = chains_of(prepared.head) if chains is None else chains
    summary = summarise(prepared)
    return HeadAnalysis(
        summary=summary,
        confusion=confusion,
        per_class=per_class_analysis(prepared),
        confidence=confidence_analysis(prepared, meta if isinstance(meta, dict) else {}),
        hard_examples=hard_examples(prepared, confusion.pairs, chains, summary.confidence),
        failure_modes=failure_modes(prepared),
        slices=slice_analysis(prepared),
        position=position_bias(prepared),
        segments=segment_analysis(prepared, chains),
        class_frequency=class_frequency(prepared),
        label_noise=label_noise(prepared),
        gallery=gallery_selection(prepared, confusion.pairs),
    )


def _ordered(predictions: Predictions) -> dict[str, HeadPredictions]:
    names = sorted(predictions.heads, key=lambda name: name != PRIMARY)  # stable: the others keep their order
    return {name: predictions.heads[name] for name in names if len(predictions.heads[name])}


def run_suite(
    predictions: Predictions, *, tried: Collection[str] = (), resamples: int = 1000, seed: int = 0
) -> ErrorAnalysis:
    """Every analysis of every head.

    Parameters
    ----------
    tried : strategies that the experiment already ran; none is recommended again
    resamples : of the cluster bootstrap over recordings
    seed : of the bootstrap and of the subsamples of permutation nulls; the same seed gives the same report

    Raises
    ------
    InputError
        If no head has a scored position.
    """
    from threadpoolctl import threadpool_limits

    scored = _ordered(predictions)
    if not scored:
        raise InputError("the predictions table has no scored position in any head; nothing can be analysed")
    # The products of the bootstrap are small: threads of the BLAS gain nothing and burn a core each waiting for more.
    with threadpool_limits(1, user_api="blas"):
        return _analysed(predictions, scored, tried, resamples, seed)


def _analysed(
    predictions: Predictions,
    scored: Mapping[str, HeadPredictions],
    tried: Collection[str],
    resamples: int,
    seed: int,
) -> ErrorAnalysis:
    meta = dict(predictions.meta)
    macro = meta.get("classes_in_macro") or {}
    heads, shared, prepared = {}, None, None
    for name, head in scored.items():
        prepared = prepare(head, name, resamples, seed, macro.get(name), prepared)
        if shared is None or shared[0].sequence is not head.sequence or shared[0].position is not head.position:
            shared = (head, chains_of(head))
        heads[name] = analyse_head(prepared, meta, shared[1])
    cross = cross_head(predictions, resamples, seed)
    return ErrorAnalysis(
        heads=heads,
        primary=next(iter(heads)),
        cross_head=cross,
        recommendations=recommend(heads, cross, tried),
        meta={**meta, "resamples": resamples, "analysis_seed": seed, "tried": sorted(tried)},
        unscored=tuple(name for name in predictions.heads if name not in heads),
    )


def _head_tables(a: HeadAnalysis) -> dict[str, pd.DataFrame]:
    found = {
        "summary": a.summary.metrics,
        "confident_errors": a.summary.confidence,
        "confusion": a.confusion.cells,
        "confused_pairs": a.confusion.pairs,
        "per_class": a.per_class.table,
        "calibration": a.confidence.scores,
        "reliability": a.confidence.reliability,
        "classwise_calibration": a.confidence.classwise,
        "confidence_histogram": a.confidence.histogram,
        "confidence_scatter": a.confidence.scatter,
        "hard_examples": a.hard_examples.worst,
        "repeated_pairs": a.hard_examples.repeated,
        "error_runs": a.hard_examples.runs.lengths,
        "failure_modes": a.failure_modes.primary,
        "failure_tags": a.failure_modes.tags,
        "failure_modes_by_class": a.failure_modes.by_class,
        "families": a.slices.families,
        "recordings": a.slices.recordings,
        "worst_slices": a.slices.worst,
        "position": a.position.table,
        "transitions": a.segments.transitions,
        "segments": a.segments.scores,
        "missed_segments": a.segments.missed,
        "missed_segments_by_class": a.segments.missed_by_class,
        "class_frequency": a.class_frequency.table,
        "frequency_groups": a.class_frequency.groups,
        "label_noise": a.label_noise.suspects,
        "label_noise_by_class": a.label_noise.by_class,
        "gallery": a.gallery,
    }
    return found | {f"slice_{name}": table for name, table in a.slices.by_slice.items()}


def tables(analysis: ErrorAnalysis) -> dict[str, pd.DataFrame]:
    """All tables, flat: ``per_class`` is that of the primary head, ``per_class_<head>`` that of the others."""
    out: dict[str, pd.DataFrame] = {}
    for name, head in analysis.heads.items():
        suffix = "" if name == analysis.primary else f"_{name}"
        out |= {f"{table}{suffix}": frame for table, frame in _head_tables(head).items()}
    out["exact_match"] = analysis.cross_head.exact_match
    if len(analysis.cross_head.pairs):
        out["joint_failures"] = analysis.cross_head.pairs
    return out
