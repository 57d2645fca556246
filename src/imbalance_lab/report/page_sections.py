"""The sections of a run's page, and what the records of the analyses put into them."""

from __future__ import annotations

from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.analysis.suite import table_records
from imbalance_lab.report.assemble import Layout

MEETING = ("overall", "per_class", "confusions", "confidence")
"""The sections that a meeting goes through, whether or not there is something in them."""

_DEEP = ("modes", "slices", "position", "frequency", "noise", "gallery", "training", "more")

RUN = Layout(
    sections={
        "overall": "Overall",
        "per_class": "Per class",
        "confusions": "Confused pairs",
        "confidence": "Confidence",
        "recommendations": "Recommendations",
        "modes": "Failure modes and hard examples",
        "slices": "Operations and other slices",
        "position": "Position and segments",
        "frequency": "Class frequency",
        "noise": "Label-noise suspects",
        "gallery": "Gallery",
        "training": "Training",
        "more": "More tables and figures",
    },
    tables={table.name: table for table in table_records()},
    figures={plot.name: plot.section for analysis in ANALYSES for plot in analysis.plots}
    | {"training_curves": "training"},
    always=MEETING,
    folded=frozenset(_DEEP),
)
"""Sections in the order of a meeting: the first five, then the deep dives, each behind its heading."""
