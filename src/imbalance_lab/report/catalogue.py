"""Which section each table and figure of the error analysis belongs to, its caption, and how it was computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Where a table stands and what is said about it.

    Attributes
    ----------
    section : key of :data:`SECTIONS`
    how : how it was computed and on which rows
    columns : which columns, in which order (all when empty)
    most : rows on the page; the rest is in the artifact
    fold : whether the table stands behind a disclosure triangle, because a figure shows it
    """

    section: str
    caption: str
    how: str = ""
    columns: tuple[str, ...] = ()
    most: int = 20
    fold: bool = False


SECTIONS: Mapping[str, str] = {
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
}
"""Sections in the order of a meeting: the first five, then the deep dives."""

_MASK = "Only scored positions count: padding, not-applicable and unlabelled ones are left out."
_BOOT = (
    "Intervals: 95 %, cluster bootstrap over recordings, because positions of one recording are not independent "
    "(Wilson where there is one recording)."
)
_WILSON = "Intervals: 95 %, Wilson."
_ROWS = ("recording", "sequence", "position", "true", "pred", "confidence", "true_prob")

TABLES: Mapping[str, Entry] = {
    "summary": Entry(
        "overall",
        "Summary, beside what predictors without inputs score",
        f"{_MASK} {_BOOT} Macro F1, balanced accuracy and G-mean run over the classes that the data set fixes and this "
        "split holds. Majority, prior and uniform are predictors that see no input; lift: value less the best of them.",
    ),
    "exact_match": Entry(
        "overall",
        "All heads right at once",
        f"Share of the places where every head that applies is right; no product. {_BOOT}",
    ),
    "confident_errors": Entry(
        "overall", "Errors above a confidence", f"Coverage: share of positions above it. {_BOOT}"
    ),
    "per_class": Entry(
        "per_class",
        "Per class, worst F1 first",
        f"{_MASK} {_BOOT} Precision is n/a for a class never predicted; a class absent from this split is n/a, not 0. "
        "Miss share: misses / (misses + false alarms). Sufficient: at least 20 positions in 3 recordings.",
        (
            *("class", "support", "recordings", "recall", "precision", "f1", "auprc", "misses", "false_alarms"),
            *("miss_share", "train_count", "sufficient"),
        ),
        60,
    ),
    "confused_pairs": Entry(
        "confusions",
        "Most confused pairs",
        f"Rate: share of the true class's positions. {_BOOT} Expected and lift: against quasi-independence of the "
        "true and the predicted class among errors; q: Benjamini and Hochberg over all pairs.",
        ("true", "pred", "count", "n_true", "rate", "recordings", "share_of_errors", "lift", "q", "verdict"),
    ),
    "confusion": Entry("confusions", "All confused cells", _MASK, most=60, fold=True),
    "calibration": Entry(
        "confidence",
        "Calibration scores",
        f"ECE over 15 equal-width bins (ece_mass: equal-mass) at the mean confidence of each bin, empty bins left out; "
        f"temperature fitted on validation. {_BOOT}",
    ),
    "classwise_calibration": Entry("confidence", "Calibration error of each class", _BOOT, fold=True),
    "reliability": Entry(
        "confidence", "Reliability bins", "Mean confidence (not the bin's centre) and share right.", most=90, fold=True
    ),
    "confidence_histogram": Entry("confidence", "Confidence of right and wrong positions", _MASK, fold=True),
    "confidence_scatter": Entry(
        "confidence", "Wrong positions by confidence and probability of the true class", "", fold=True
    ),
    "failure_modes": Entry(
        "modes",
        "Failure modes",
        f"Each error has one primary mode, by the rank of its true class and its margin. {_BOOT} Expected: the share "
        "when the labels are permuted.",
        ("mode", "count", "share", "expected", "recordings", "verdict"),
    ),
    "failure_tags": Entry(
        "modes", "Tags of errors (may overlap)", "", ("tag", "count", "share", "expected", "recordings", "verdict")
    ),
    "failure_modes_by_class": Entry("modes", "Failure modes of each class", "", most=60, fold=True),
    "hard_examples": Entry("modes", "Confidently wrong, most confident first", "", _ROWS, 15),
    "repeated_pairs": Entry("modes", "Confusions that repeat over recordings", "", most=15),
    "error_runs": Entry(
        "modes",
        "Runs of consecutive errors",
        "Neighbours in the true sequence; expected: errors placed at random within their sequence.",
        fold=True,
    ),
    "joint_failures": Entry("modes", "Heads that fail together", "Against independence, where both heads apply."),
    "worst_slices": Entry(
        "slices",
        "Worst slices and pairs of slices",
        "Difference: against all other positions, tested with recordings as units; q: corrected for all slices tried. "
        f"{_BOOT}",
        ("slice", "n", "recordings", "errors", "rate", "difference", "excess_over_parts", "q"),
        15,
    ),
    "slice": Entry("slices", "Error by slice", f"{_MASK} {_BOOT}", most=30),
    "families": Entry("slices", "Error by command family", "Family: the letter of the class's word."),
    "recordings": Entry("slices", "Error by recording, worst first", _WILSON, most=30, fold=True),
    "position": Entry(
        "position", "Error by position", f"Distances to the true start and end. {_BOOT}", most=60, fold=True
    ),
    "transitions": Entry(
        "position", "Errors at changes of the class", f"A change: the true label differs from its neighbour's. {_BOOT}"
    ),
    "segments": Entry(
        "position", "Segments", "A segment is a run of equal labels; found within the tolerance.", most=30
    ),
    "missed_segments": Entry("position", "Segments missed altogether", f"No position read as their class. {_WILSON}"),
    "class_frequency": Entry("frequency", "Error rate and training frequency", f"{_MASK} {_BOOT}", most=30),
    "frequency_groups": Entry("frequency", "Many (5 % of training or more), medium, few (below 1 %)", _BOOT),
    "label_noise": Entry("noise", "Positions whose label is doubtful, most doubtful first", "", most=15),
    "label_noise_by_class": Entry("noise", "Label-noise suspects by class", "", most=30),
    "gallery": Entry("gallery", "Cases shown", "The most confident errors of the top pairs.", most=30, fold=True),
}
"""Known tables; one that is not named here still appears, under "More"."""

FIGURES: Mapping[str, str] = {
    "summary": "overall",
    "per_class": "per_class",
    "confusion": "confusions",
    "confused_pairs": "confusions",
    "reliability": "confidence",
    "confidence_histogram": "confidence",
    "failure_modes": "modes",
    "slice": "slices",
    "position": "position",
    "transitions": "position",
    "class_frequency": "frequency",
    "gallery": "gallery",
    "training_curves": "training",
}
"""Section of each known figure; a name with a suffix (``gallery_2``, ``slice_operation``) goes with its stem."""


def section_of_figure(name: str) -> str:
    """Section key of a figure, by the longest known stem of its name."""
    stem = _stem(name, FIGURES)
    return FIGURES[stem] if stem else "more"


def entry_of_table(name: str) -> Entry:
    """Entry of a table, by the longest known stem of its name; unknown ones stand under "More".

    A suffix becomes part of the caption: ``slice_operation`` reads "Error by slice: operation".
    """
    from dataclasses import replace

    stem = _stem(name, TABLES)
    if not stem:
        return Entry("more", name.replace("_", " ").capitalize())
    entry = TABLES[stem]
    rest = name[len(stem) + 1 :].replace("_", " ")
    return replace(entry, caption=f"{entry.caption}: {rest}") if rest else entry


def _stem(name: str, known: Mapping[str, object]) -> str:
    return max((s for s in known if name == s or name.startswith(f"{s}_")), key=len, default="")
