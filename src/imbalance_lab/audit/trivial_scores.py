"""What predictors that never look at the input score: the floor of every table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.dataset import IGNORE, LoadedData

PREDICTORS = ("majority", "prior-sampling", "uniform")
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "gmean")
COMPOSITE_HEADS = ("command", "param_type", "param_value")


@dataclass(frozen=True)
class TrivialScores:
    """Scores of the trivial predictors on one split.

    Attributes
    ----------
    heads : mapping of head to predictor to metric to score
        The random predictors' confusion is the expected one, so their scores carry no draw.
    joint : mapping of predictor to composite to score
        ``composite`` is the product of all heads' accuracies, ``command x param_type x
        param_value`` that of these three, ``exact_match`` the share of places where all
        heads that apply are right.
    majority : mapping of head to the class that the majority predictor says
    """

    heads: Mapping[str, Mapping[str, Mapping[str, float]]]
    joint: Mapping[str, Mapping[str, float]]
    majority: Mapping[str, str]
    split: str = "test"

    def rows(self) -> list[dict[str, str | float]]:
        """One row per head, predictor and metric."""
        out: list[dict[str, str | float]] = [
            {"head": h, "predictor": p, "metric": m, "score": s}
            for h, by in self.heads.items()
            for p, scores in by.items()
            for m, s in scores.items()
        ]
        joint = self.joint.items()
        return out + [
            {"head": "joint", "predictor": p, "metric": m, "score": s} for p, by in joint for m, s in by.items()
        ]


def trivial_distribution(train_counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Class probabilities of the predictors (majority, prior-sampling, uniform), shape (3, K)."""
    k = len(train_counts)
    prior = train_counts / train_counts.sum() if train_counts.sum() else np.full(k, 1 / k)
    return np.stack([np.eye(k)[train_counts.argmax()], prior, np.full(k, 1 / k)])


def trivial_confusions(train_counts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Expected confusion of each predictor on positions with ``counts``; shape (3, K, K), rows true."""
    return counts[None, :, None] * trivial_distribution(train_counts)[:, None, :]


def trivial_scores(loaded: LoadedData) -> TrivialScores:
    """Score the trivial predictors, told the class shares of train, on the test split.

    A head without a scored position in the split has NaN scores and does not enter the product; a head
    without a label in train is left out.
    """
    from imbalance_lab.metrics.counts import metric_by_name

    data, train, index = loaded.dataset, loaded.splits.train, dict(loaded.splits.items())["test"]
    functions = {name: metric_by_name(name) for name in METRICS}
    heads: dict[str, dict[str, dict[str, float]]] = {}
    majority: dict[str, str] = {}
    right = np.ones((len(PREDICTORS), len(index), data.target_length))
    applies = np.zeros((len(index), data.target_length), dtype=bool)
    for head, classes in data.heads.items():
        train_counts = data.class_counts(head, train)
        if not train_counts.sum():
            continue  # such a head is not trained, and not scored
        confusions = trivial_confusions(train_counts, data.class_counts(head, index))
        values = {name: np.asarray(function(confusions)) for name, function in functions.items()}
        heads[head] = {p: {name: float(v[i]) for name, v in values.items()} for i, p in enumerate(PREDICTORS)}
        majority[head] = classes[int(train_counts.argmax())]
        target = data.targets[head][index]
        scored = target != IGNORE
        applies |= scored
        by_class = trivial_distribution(train_counts)
        for i in range(len(PREDICTORS)):
            right[i] *= np.where(scored, by_class[i][np.where(scored, target, 0)], 1.0)
    joint = {}
    for i, predictor in enumerate(PREDICTORS):
        accuracies = {h: scores[predictor]["accuracy"] for h, scores in heads.items()}
        known = [a for a in accuracies.values() if not np.isnan(a)]
        products = {"composite": float(np.prod(known)) if known else float("nan")}
        if all(h in accuracies for h in COMPOSITE_HEADS):
            products[" x ".join(COMPOSITE_HEADS)] = float(np.prod([accuracies[h] for h in COMPOSITE_HEADS]))
        products["exact_match"] = float(right[i][applies].mean()) if applies.any() else float("nan")
        joint[predictor] = products
    return TrivialScores(heads, joint, majority, "test")
