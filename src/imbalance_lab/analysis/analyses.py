"""The analyses of a head: the one list of them."""

from __future__ import annotations

from typing import Any

from imbalance_lab.analysis import (
    abstention,
    class_frequency,
    confidence,
    confusion,
    failure_modes,
    gallery,
    hard_examples,
    label_noise,
    per_class,
    position,
    segments,
    slices,
    summary,
)
from imbalance_lab.analysis.record import Analysis

ANALYSES: tuple[Analysis[Any], ...] = (
    summary.ANALYSIS,
    class_frequency.ANALYSIS,
    per_class.ANALYSIS,
    confusion.ANALYSIS,
    confidence.ANALYSIS,
    abstention.ANALYSIS,
    failure_modes.ANALYSIS,
    position.ANALYSIS,
    segments.ANALYSIS,
    slices.ANALYSIS,
    hard_examples.ANALYSIS,
    label_noise.ANALYSIS,
    gallery.ANALYSIS,
)
"""Every analysis of a head, in the order of their tables on a page and of their recommendations of one priority."""
