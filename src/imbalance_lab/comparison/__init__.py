"""Several predictions tables -> paired statistics and a verdict."""

from imbalance_lab.comparison.comparing import Comparison, compare
from imbalance_lab.comparison.records import RunRecord
from imbalance_lab.comparison.verdict import Choice

__all__ = ["Choice", "Comparison", "RunRecord", "compare"]
