"""The checks, in the order in which they are reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imbalance_lab.audit.checks.class_names import check_names
from imbalance_lab.audit.checks.contradicted_labels import check_label_noise
from imbalance_lab.audit.checks.frequencies import check_frequencies
from imbalance_lab.audit.checks.input_leakage import check_input_leakage
from imbalance_lab.audit.checks.learnability import check_learnability
from imbalance_lab.audit.checks.metric_traps import check_metric_traps
from imbalance_lab.audit.checks.placeholder import check_placeholder
from imbalance_lab.audit.checks.power import check_power
from imbalance_lab.audit.checks.split_counts import check_splits
from imbalance_lab.audit.checks.split_leakage import check_split_leakage
from imbalance_lab.audit.checks.token_vocabulary import check_vocabulary
from imbalance_lab.audit.checks.weight_arithmetic import check_weight_arithmetic
from imbalance_lab.audit.settings import CheckFunction


@dataclass(frozen=True)
class Check:
    """A check: its name, whether it needs counts only or fits models, and its function."""

    name: str
    cost: Literal["counts", "model"]
    function: CheckFunction


CHECKS: tuple[Check, ...] = (
    Check("frequencies", "counts", check_frequencies),
    Check("names", "counts", check_names),
    Check("vocabulary", "counts", check_vocabulary),
    Check("placeholder", "counts", check_placeholder),
    Check("splits", "counts", check_splits),
    Check("split leakage", "counts", check_split_leakage),
    Check("input leakage", "model", check_input_leakage),
    Check("metric traps", "counts", check_metric_traps),
    Check("learnability", "model", check_learnability),
    Check("weight arithmetic", "counts", check_weight_arithmetic),
    Check("label noise", "model", check_label_noise),
    Check("power", "counts", check_power),
)
