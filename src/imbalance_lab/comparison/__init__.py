"""Several predictions tables -> paired statistics and a verdict."""

from imbalance_lab.comparison.comparing import Comparison, compare
from imbalance_lab.comparison.records import RunRecord
from imbalance_lab.comparison.verdict import Decision

__all__ = ["Comparison", "Decision", "RunRecord", "compare"]
