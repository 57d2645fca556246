"""All analyses of one head, and of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imbalance_lab.analysis.cross_head import CrossHead

if TYPE_CHECKING:
    from imbalance_lab.analysis.recommendations import Recommendation


@dataclass(frozen=True)
class HeadAnalysis:
    """Every analysis of one head: ``head.per_class`` is the result of the analysis of that name.

    Attributes
    ----------
    classes, train_counts : of the head, in the order of the data set
    positions, recordings : that were scored
    error_rate : share of the positions that are wrong
    results : by name of the analysis
    """

    classes: tuple[str, ...]
    train_counts: tuple[int, ...]
    positions: int
    recordings: int
    error_rate: float
    results: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name != "results" and name in self.results:
            return self.results[name]
        raise AttributeError(f"no analysis is named {name!r}")


@dataclass(frozen=True)
class ErrorAnalysis:
    """Result of the suite: analyses by head, heads together, recommendations, and what it was computed from.

    ``heads`` lists scored heads, the primary one (``command``, or the first) first; ``unscored`` names heads
    without a scored position. With ``labels_only`` the analyses that read probabilities are missing.
    """

    heads: Mapping[str, HeadAnalysis]
    primary: str
    cross_head: CrossHead
    recommendations: tuple[Recommendation, ...]
    meta: Mapping[str, Any]
    unscored: tuple[str, ...] = ()
    labels_only: bool = False
