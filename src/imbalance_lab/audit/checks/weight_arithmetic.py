"""What a strategy's weights really amount to, per batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.audit.finding import Finding, Verdict
from imbalance_lab.audit.settings import AuditContext, StrategyWeights
from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.errors import InputError
from imbalance_lab.formats import percent

CHECK = "weight arithmetic"


def check_weight_arithmetic(loaded: LoadedData, context: AuditContext) -> tuple[Finding, ...]:
    """One finding per strategy and head: the share of the loss of each class, and batches without it."""
    if not context.strategies or not len(loaded.splits.train):
        return (Finding(CHECK, Verdict.NOT_APPLICABLE, "No strategy was given, so there are no weights to check."),)
    for strategy in context.strategies:
        if unknown := (set(strategy.class_weights) | set(strategy.class_shares)) - set(loaded.dataset.heads):
            heads = ", ".join(loaded.dataset.heads)
            raise InputError(
                f"strategy {strategy.name!r} weighs the unknown head {sorted(unknown)[0]!r}; the heads are {heads}"
            )
    holds = {head: _holds(loaded, head) for head in loaded.dataset.heads}
    return tuple(
        _judge(loaded, s, head, holds[head], context) for s in context.strategies for head in loaded.dataset.heads
    )


def _vector(values: object, n_classes: int, what: str) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (n_classes,) or not np.isfinite(vector).all() or (vector < 0).any():
        raise InputError(
            f"{what} must be {n_classes} finite numbers >= 0, found {np.array2string(vector, threshold=12)}"
        )
    return vector


def _holds(loaded: LoadedData, head: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of training sequences that hold each class, and that hold it alone; both of shape (K,)."""
    target = loaded.dataset.targets[head][loaded.splits.train]
    some, alone = [], []
    scored = target != IGNORE
    any_scored = scored.any(axis=1)
    for c in range(len(loaded.dataset.heads[head])):
        own = target == c
        some.append(own.any(axis=1).mean())
        alone.append((any_scored & ~(scored & ~own).any(axis=1)).mean())
    return np.array(some), np.array(alone)


def loss_shares(weights: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the loss that each class carries while all positions cost the same, shape (K,): w_c s_c / sum."""
    product = weights * shares
    total = product.sum()
    return product / total if total > 0 else product


def _judge(
    loaded: LoadedData,
    strategy: StrategyWeights,
    head: str,
    holds: tuple[NDArray[np.float64], NDArray[np.float64]],
    context: AuditContext,
) -> Finding:
    limits, classes = context.thresholds, loaded.dataset.heads[head]
    counts = loaded.dataset.class_counts(head, loaded.splits.train)
    natural = counts / max(counts.sum(), 1)
    weighted = head in strategy.class_weights
    weights = _vector(
        strategy.class_weights.get(head, np.ones(len(classes))),
        len(classes),
        f"weights of {strategy.name!r} for {head}",
    )
    shares = _vector(
        strategy.class_shares.get(head, natural), len(classes), f"class shares of {strategy.name!r} for {head}"
    )
    shares = shares / max(shares.sum(), 1e-300)
    loss = loss_shares(weights, shares)
    seen = counts > 0
    sampled = head in strategy.class_shares
    none = None if sampled else (1 - holds[0]) ** strategy.batch_size
    single = (
        0.0
        if sampled
        else float(np.where(seen, holds[1], 0) @ np.where(seen, holds[1] ** (strategy.batch_size - 1), 0))
    )
    rows = tuple(
        {"strategy": strategy.name, "head": head, "class": classes[c], "train share": float(natural[c])}
        | {"sampled share": float(shares[c]), "weight": float(weights[c]), "loss share": float(loss[c])}
        | {"batches without it": None if none is None else float(none[c])}
        for c in np.argsort(-counts, kind="stable")[:50]
    )
    subject = f"{strategy.name}/{head}"
    if not seen.any():
        return Finding(CHECK, Verdict.NOT_APPLICABLE, f"train has no scored position of {head}.", subject)
    faults = []
    smallest = int(np.where(seen, loss, np.inf).argmin())
    if loss[smallest] < limits.loss_share:
        faults.append(f"{classes[smallest]} carries {loss[smallest]:.1e} of the loss: the model does not learn it")
    positive = weights[seen & (weights > 0)]
    ratio = float(positive.max() / positive.min()) if len(positive) else float("inf")
    if weighted and ratio > limits.weight_ratio:
        faults.append(f"one position of the heaviest class costs as much as {ratio:,.0f} of the lightest")
    if weighted and seen.sum() > 1 and np.ptp(weights[seen]) == 0:
        faults.append("all classes of train have one weight, so the weights change nothing")
    if weighted and strategy.reduction == "weights" and single > limits.single_class_batch:
        faults.append(f"{percent(single, 1)} of the batches hold one class, where a mean over the weights cancels them")
    largest = int(loss.argmax())
    if natural[largest] < 0.5 and loss[largest] > max(0.9, natural.max()):
        faults.append(
            f"{classes[largest]} ({percent(natural[largest], 2)} of train) carries {percent(loss[largest], 1)} of "
            "the loss: the imbalance is turned over"
        )
    said = ", ".join(f"{classes[c]} {percent(loss[c], 2)}" for c in np.argsort(-loss, kind="stable")[:5])
    message = f"{strategy.name}, {head}: shares of the loss {said}"
    if none is not None:
        worst = int(np.where(seen, none, -1).argmax())
        message += f"; {percent(none[worst], 1)} of batches of {strategy.batch_size} hold no {classes[worst]}"
    message += "".join(f"; {fault}" for fault in faults) + "."
    return Finding(
        CHECK,
        Verdict.WARN if faults else Verdict.PASS,
        message,
        subject,
        float(loss[smallest]),
        None,
        int(counts.sum()),
        limits.loss_share,
        rows,
        "use milder weights (inverse-sqrt, effective number), a mean over positions, or one correction only"
        if faults
        else "",
    )
