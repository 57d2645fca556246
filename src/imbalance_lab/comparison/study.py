"""Everything that is compared, counted and resampled once: runs, their free-lunch controls, trivial predictors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.comparison import margins as mg
from imbalance_lab.comparison.bootstrap import Side
from imbalance_lab.comparison.resampling import Resampled, Roles, Sums, recording_weights, resample, shifts
from imbalance_lab.comparison.run_counts import Joined
from imbalance_lab.errors import InputError
from imbalance_lab.metrics.trivial import trivial_confusions

TRIVIAL = ("always-majority", "prior-sampling", "uniform")
CONTROL = " + free lunch"
RARE_SHARE = 0.01
COST = "expected_cost"

MIN_POSITIONS = 20
MIN_RECORDINGS = 3


@dataclass(frozen=True)
class Study:
    """Runs, controls and trivial predictors, resampled together.

    Attributes
    ----------
    joined : the runs on common positions
    roles : which classes are averaged, rare, the majority
    resampled : statistics of the runs, then of the controls, then of the trivial predictors
    positions, recordings : arrays of shape (M,): what each statistic rests on
    costs : cost matrix of shape (K, K), or None
    """

    joined: Joined
    roles: Roles
    resampled: Resampled
    positions: NDArray[np.int64]
    recordings: NDArray[np.int64]
    costs: NDArray[np.float64] | None

    @property
    def baseline(self) -> str:
        """Name of the baseline strategy."""
        return self.joined.strategies[0]

    @property
    def enough(self) -> NDArray[np.bool_]:
        """Whether each statistic rests on enough positions and recordings for a verdict, shape (M,)."""
        return (self.positions >= MIN_POSITIONS) & (self.recordings >= MIN_RECORDINGS)

    def side(self, strategy: str) -> Side:
        """The runs of a strategy as they were trained."""
        runs = self.joined.runs_of(strategy)
        return Side(runs=runs, seeds=self.joined.seed[runs])

    def control(self, strategy: str) -> Side | None:
        """The same runs after their free post-hoc correction; None unless every one of them has it."""
        runs = self.joined.runs_of(strategy)
        at = np.flatnonzero(np.isin(self.joined.control_runs, runs))
        if len(at) < len(runs):
            return None
        return Side(runs=len(self.joined.runs) + at, seeds=self.joined.seed[self.joined.control_runs[at]])

    def trivial(self, name: str) -> Side:
        """A trivial predictor, which has no seed."""
        first = len(self.joined.runs) + len(self.joined.control_runs)
        return Side(runs=np.array([first + TRIVIAL.index(name)]), seeds=None)


def rare_classes(joined: Joined) -> NDArray[np.bool_]:
    """Classes under 1 % of train that the split holds; where there is none, all but the majority. Shape (K,)."""
    share = _train(joined) / _train(joined).sum()
    rare = (share < RARE_SHARE) & (joined.support > 0)
    if not rare.any():
        rare = joined.support > 0
    return rare & ~majority_class(joined)


def majority_class(joined: Joined) -> NDArray[np.bool_]:
    """Mask of the largest class of train, shape (K,)."""
    mask = np.zeros(len(joined.classes), dtype=bool)
    mask[int(_train(joined).argmax())] = True
    return mask


def class_mask(joined: Joined, names: Sequence[str], what: str) -> NDArray[np.bool_]:
    """Mask of the named classes, shape (K,).

    Raises
    ------
    InputError
        If a name is not a class of the head.
    """
    unknown = [name for name in names if name not in joined.classes]
    if unknown:
        raise InputError(
            f"{what} name {', '.join(map(repr, unknown))}; "
            f"head {joined.head!r} has the classes {', '.join(joined.classes)}"
        )
    return np.isin(np.array(joined.classes), list(names))


def trivial_confusion(joined: Joined) -> NDArray[np.float64]:
    """Expected confusion counts of the predictors in :data:`TRIVIAL`, shape (3, G, K, K).

    Each predicts from the training counts alone: the largest class; a class drawn with its
    training frequency; each of the K classes with equal chance.
    """
    one_of_each = np.ones(len(joined.classes), dtype=np.int64)
    shares = trivial_confusions(one_of_each, _train(joined))
    chance = np.stack([shares[name][0] for name in ("majority", "prior", "uniform")])  # (3, K)
    true = joined.confusion[0].sum(axis=2).astype(np.float64)  # (G, K)
    return true[None, :, :, None] * chance[:, None, None, :]


def _train(joined: Joined) -> NDArray[np.int64]:
    """Training counts, or the split's own where a table from elsewhere does not know them."""
    return joined.train_counts if joined.train_counts.any() else joined.support


def build(
    joined: Joined,
    *,
    resamples: int,
    seed: int,
    rare: Sequence[str] | None = None,
    costs: NDArray[np.float64] | None = None,
) -> Study:
    """Resample runs, controls and trivial predictors with common weights.

    The classes of a macro average are those that the data holds in this split, or of these
    the ones that the baseline's ``meta["classes_in_macro"]`` names.

    Raises
    ------
    InputError
        If ``rare`` names an unknown class.
    """
    roles = Roles(
        macro=_macro(joined),
        rare=rare_classes(joined) if rare is None else class_mask(joined, rare, "rare classes"),
        majority=majority_class(joined),
    )
    parts: list[NDArray[Any]] = [joined.confusion, joined.controls, trivial_confusion(joined)]
    stacked = [mg.margins(part) for part in parts]
    margins = mg.Margins(*(np.concatenate([getattr(m, name) for m in stacked]) for name in ("hit", "true", "pred")))
    rates = {}
    if costs is not None:
        rates[COST] = np.concatenate([np.einsum("rgij,ij->rg", part, costs) for part in parts])
    units = joined.n_clusters if joined.unit is None else int(joined.unit.max()) + 1
    weights = recording_weights(units, resamples, np.random.default_rng(seed))
    if joined.unit is not None:  # clusters of one recording are drawn together
        weights = weights[:, joined.unit]
    sums = Sums(margins, rates)
    resampled = replace(resample(sums, weights, joined.classes, roles), unit=joined.unit)
    if joined.fold is not None:
        strategy = np.concatenate([joined.strategy, len(joined.strategies) + joined.strategy[joined.control_runs]])
        resampled = replace(resampled, shift=shifts(sums, strategy, joined.classes, roles), fold=joined.fold)
    positions, recordings = _evidence(joined, resampled.names, roles)
    return Study(joined, roles, resampled, positions, recordings, costs)


def _macro(joined: Joined) -> NDArray[np.bool_]:
    held = joined.support > 0
    named = joined.runs[0].test.meta.get("classes_in_macro")
    if isinstance(named, dict):
        named = named.get(joined.head)
    if not named:
        return held
    names = [joined.classes[c] if isinstance(c, int) else str(c) for c in named]
    return held & class_mask(joined, names, 'meta "classes_in_macro"')


def _evidence(joined: Joined, names: tuple[str, ...], roles: Roles) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions and recordings behind each statistic."""
    support, k = joined.support, len(joined.classes)
    positions = np.full(len(names), support.sum())
    recordings = np.full(len(names), joined.n_recordings)
    positions[-2 * k :], recordings[-2 * k :] = np.tile(support, 2), np.tile(joined.class_recordings, 2)
    for name, mask in (("rare_recall", roles.rare), ("rare_missed", roles.rare), ("majority_errors", roles.majority)):
        at = names.index(name)
        positions[at] = support[mask].sum()
        # Recordings that hold any of the classes, counted over clusters: at most a pool is counted once.
        recordings[at] = (joined.confusion[0].sum(axis=2)[:, mask].sum(axis=1) > 0).sum()
    return positions, recordings
