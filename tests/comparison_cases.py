"""Small predictions tables for the tests of the comparison."""

import numpy as np

from imbalance_lab.comparison import RunRecord
from imbalance_lab.predictions import HeadPredictions, Predictions

CLASSES = ("G0", "G1", "G2", "G3")
PRIOR = np.array([0.75, 0.18, 0.05, 0.02])


def head(*, n=4000, recordings=12, seed=0, noise=0.4, rare_gain=0.0, blur=0.0):
    """One head: data fixed by (n, recordings); ``seed`` varies the model, ``rare_gain`` helps classes 2 and 3."""
    data = np.random.default_rng([n, recordings])
    group = np.sort(data.integers(0, recordings, n)).astype(np.int32)
    true = data.choice(4, n, p=PRIOR).astype(np.int32)
    logits = data.normal(0, 1, (n, 4)) + np.log(PRIOR) + data.normal(0, 0.3, (recordings, 4))[group]
    logits[np.arange(n), true] += 1.5
    model = np.random.default_rng([seed, 1])
    logits += noise * model.normal(0, 1, (n, 4)) + 0.05 * model.normal(0, 1, 4)
    hard = np.flatnonzero(true >= 2)
    logits[hard, true[hard]] += rare_gain
    logits[:, 1:] -= blur
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    position = np.arange(n, dtype=np.int32)
    return HeadPredictions(
        classes=CLASSES,
        train_counts=np.round(PRIOR * 20000).astype(np.int64),
        sequence=group.astype(np.int64),
        position=position,
        from_start=position,
        from_end=position[::-1].copy(),
        group=group,
        group_names=tuple(f"rec{i}" for i in range(recordings)),
        true=true,
        pred=p.argmax(axis=1).astype(np.int32),
        probabilities=p,
        slices={"operation": (group % 3).astype(np.int32)},
        slice_names={"operation": ("face", "pocket", "adaptive")},
    )


def run(strategy, seed, *, digest="same", split="test", val=0.5, seconds=10.0, report=None, tau=0.7, **how):
    """One run of a strategy; keyword arguments of :func:`head` say what its model is like."""
    meta = {
        "digest": digest,
        "split": split,
        "strategy": strategy,
        "seed": seed,
        "temperature": {"command": 1.2},
        "prior_correction": {"command": 0.0},
    }
    if tau is not None:
        meta["free_lunch"] = {"command": tau}
    table = Predictions({"command": head(seed=seed, **how)}, meta)
    return RunRecord(strategy, seed, f"{strategy}-s{seed}", table, val_score=val, seconds=seconds, report=report)


def runs_of(strategies, **how):
    """Runs of several strategies: {name: seeds}; every strategy's models differ by their seed."""
    return [
        run(name, seed, noise=0.4 + 0.01 * i, **how)
        for i, (name, seeds) in enumerate(strategies.items())
        for seed in seeds
    ]
