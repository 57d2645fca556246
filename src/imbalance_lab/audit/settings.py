"""What every check is given beside the data: thresholds, seed, strategies and the shared probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from imbalance_lab.audit.finding import Finding
from imbalance_lab.audit.pilot import Pilot
from imbalance_lab.audit.probe import Probe, fit_probe
from imbalance_lab.data.dataset import LoadedData


@dataclass(frozen=True)
class AuditThresholds:
    """The values that findings are held against.

    Attributes
    ----------
    min_positions, min_recordings : below either, a verdict is "insufficient"
    rare_share, imbalance_ratio : warn on a class below this share, or a larger ratio
    mild_ratio : from this ratio on the data are called imbalanced, though nothing is warned of
    disagreement : share of rows on which two sources of one label may differ
    share_disagreement : how far a class's share in the targets may lie from its share in the
        raw text where the two cannot be joined row by row (token targets are cut otherwise)
    unknown_words : share of raw words without a token
    placeholder_share : share of a class's positions to which its head does not apply
    input_leak_fail, input_leak_warn : share of the achievable gain over the majority
    trivial_score : score of a trivial predictor from which a metric misleads
    loss_share, weight_ratio : smallest share of the loss, largest ratio of two class weights
    single_class_batch : chance of a batch in which a weighted mean cancels its own weights
    label_noise : share of a class's labels that are contradicted
    detectable_difference : smallest difference in recall that can be seen
    intraclass_correlation : of being right within a recording, for the design effect
    paired_correlation : of two classifiers' being right on the same position
    """

    min_positions: int = 20
    min_recordings: int = 3
    rare_share: float = 0.01
    imbalance_ratio: float = 100.0
    mild_ratio: float = 10.0
    disagreement: float = 0.01
    share_disagreement: float = 0.25
    unknown_words: float = 0.001
    placeholder_share: float = 0.5
    input_leak_fail: float = 0.95
    input_leak_warn: float = 0.5
    trivial_score: float = 0.9
    loss_share: float = 1e-4
    weight_ratio: float = 1e4
    single_class_batch: float = 0.01
    label_noise: float = 0.01
    detectable_difference: float = 0.2
    intraclass_correlation: float = 0.05
    paired_correlation: float = 0.5


@dataclass(frozen=True)
class StrategyWeights:
    """What a strategy does to the class shares, as plain numbers.

    Attributes
    ----------
    name : the strategy's name
    class_weights : mapping of head to K weights; a head left out has weights of one
    class_shares : mapping of head to K shares of positions as *sampled*; a head left out is
        sampled as the data has it
    batch_size : sequences per batch
    reduction : ``"positions"`` divides a batch's loss by its scored positions, ``"weights"`` by
        the sum of their weights (``CrossEntropyLoss(weight, reduction="mean")``)
    """

    name: str
    class_weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    class_shares: Mapping[str, Sequence[float]] = field(default_factory=dict)
    batch_size: int = 64
    reduction: Literal["positions", "weights"] = "positions"


class ProbeSource(Protocol):
    """Gives the out-of-fold probe of one head."""

    def __call__(self, loaded: LoadedData, head: str, thresholds: AuditThresholds, seed: int) -> Probe:
        """The probe of ``head``."""
        ...


def direct_probe(loaded: LoadedData, head: str, thresholds: AuditThresholds, seed: int) -> Probe:
    """Fit the probe of ``head`` now; :func:`imbalance_lab.audit.auditing.run_audit` fits each one once."""
    return fit_probe(
        loaded, head, min_positions=thresholds.min_positions, min_recordings=thresholds.min_recordings, seed=seed
    )


@dataclass(frozen=True)
class AuditContext:
    """What a check may read beside the data.

    ``margin``: differences within it do not matter to the team; ``pilot``: an earlier grid on recordings like these.
    """

    thresholds: AuditThresholds = field(default_factory=AuditThresholds)
    seed: int = 0
    strategies: tuple[StrategyWeights, ...] = ()
    probe: ProbeSource = direct_probe
    margin: float = 0.01
    pilot: Pilot | None = None

    def probe_of(self, loaded: LoadedData, head: str) -> Probe:
        """The probe of ``head`` under this context's thresholds and seed."""
        return self.probe(loaded, head, self.thresholds, self.seed)


CheckFunction = Callable[[LoadedData, AuditContext], tuple[Finding, ...]]
