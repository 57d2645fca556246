"""All analyses of one head, and of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from imbalance_lab.analysis.class_frequency import ClassFrequency
from imbalance_lab.analysis.confidence import Confidence
from imbalance_lab.analysis.confusion import Confusion
from imbalance_lab.analysis.cross_head import CrossHead
from imbalance_lab.analysis.failure_modes import FailureModes
from imbalance_lab.analysis.hard_examples import HardExamples
from imbalance_lab.analysis.label_noise import LabelNoise
from imbalance_lab.analysis.per_class import PerClass
from imbalance_lab.analysis.position import PositionBias
from imbalance_lab.analysis.segments import Segments
from imbalance_lab.analysis.slices import Slices
from imbalance_lab.analysis.summary import Summary

if TYPE_CHECKING:
    from imbalance_lab.recommendations import Recommendation


@dataclass(frozen=True)
class HeadAnalysis:
    """Every analysis of one head; ``gallery`` says which positions to show."""

    summary: Summary
    confusion: Confusion
    per_class: PerClass
    confidence: Confidence
    hard_examples: HardExamples
    failure_modes: FailureModes
    slices: Slices
    position: PositionBias
    segments: Segments
    class_frequency: ClassFrequency
    label_noise: LabelNoise
    gallery: pd.DataFrame


@dataclass(frozen=True)
class ErrorAnalysis:
    """Result of the suite: analyses by head, heads together, recommendations, and what it was computed from.

    ``heads`` lists scored heads, the primary one (``command``, or the first) first; ``unscored`` names heads
    without a scored position.
    """

    heads: Mapping[str, HeadAnalysis]
    primary: str
    cross_head: CrossHead
    recommendations: tuple[Recommendation, ...]
    meta: Mapping[str, Any]
    unscored: tuple[str, ...] = ()
