"""Which moments matter: inputs at an offset from the scored position exchanged, and how much context is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from imbalance_lab.interpretation.drops import metric_drop
from imbalance_lab.interpretation.passes import Counting, Job, confusions_of
from imbalance_lab.interpretation.scored import Cases, Floats, ScoredSet, cluster_mean
from imbalance_lab.metrics.counts import metric_by_name
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.randomness import derive_seed


def offset_importance(
    data: ScoredSet, head: str, cases: Cases, offsets: Sequence[int], *, repeats: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Exchange all inputs at one offset from the scored position; how much probability does the true class lose?

    The inputs at step ``position + offset`` come from another case, at the same offset from that
    case's position. Cases hold as many positions of each class as there are, so the mean is over
    classes. A step that the window does not have is not counted. Exchanging a step also changes
    the differences to its two neighbours.

    Returns
    -------
    DataFrame with offset (steps), drop (of the true class's probability), low, high, accuracy_drop, n, recordings
    """
    plans = [np.array([k]) for k in offsets]
    p, right, valid = _exchanged(data, head, cases, plans, repeats, seed)
    p0, right0, _ = _exchanged(data, head, cases, [np.zeros(0, dtype=np.int64)], 1, seed)
    recording = data.recording[cases.window]
    loss = np.where(valid, p0[0][:, None] - p.T, np.nan)
    drop, low, high = cluster_mean(loss, recording, seed)
    accuracy, _, _ = cluster_mean(np.where(valid, right0[0][:, None] - right.T, np.nan), recording, seed)
    return pd.DataFrame(
        {
            "offset": list(offsets),
            "drop": drop,
            "low": low,
            "high": high,
            "accuracy_drop": accuracy,
            "n": valid.sum(axis=0),
            "recordings": [len(np.unique(recording[valid[:, i]])) for i in range(valid.shape[1])],
        }
    )


def context_curve(
    data: ScoredSet, head: str, cases: Cases, reaches: Sequence[int], *, repeats: int = 2, seed: int = 0
) -> pd.DataFrame:
    """The true class's probability when only the inputs within ``reach`` steps of the position are its own.

    All others come from another case, aligned at its position.

    Returns
    -------
    DataFrame with reach (steps), probability, low, high, accuracy, n, recordings; the last row holds the whole window
    """
    t = data.steps
    every = np.arange(-(t - 1), t)
    known = [r for r in reaches if r < t - 1]
    plans = [every[np.abs(every) > r] for r in known]
    p, right, _ = _exchanged(data, head, cases, [*plans, np.zeros(0, dtype=np.int64)], repeats, seed)
    recording = data.recording[cases.window]
    mean, low, high = cluster_mean(p.T, recording, seed)
    return pd.DataFrame(
        {
            "reach": [*known, t - 1],
            "probability": mean,
            "low": low,
            "high": high,
            "accuracy": right.mean(axis=1),
            "n": len(cases),
            "recordings": len(np.unique(recording)),
        }
    )


@torch.inference_mode()
def _exchanged(
    data: ScoredSet, head: str, cases: Cases, plans: Sequence[NDArray[np.int64]], repeats: int, seed: int
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """For each plan (offsets to exchange): true class's probability and hit (plans, n), mean over repeats.

    Also whether each case's window has each plan's first offset, bool (n, plans).
    """
    n, t, device = len(cases), data.steps, data.device
    probability, right = np.zeros((len(plans), n)), np.zeros((len(plans), n))
    valid = np.ones((n, len(plans)), dtype=bool)
    scale = data.network.output_scale(head)
    rng = np.random.default_rng(derive_seed(seed, "temporal"))
    donors = [rng.permutation(n) for _ in range(repeats)]
    size = data.rows_per_pass()
    todo = np.arange(len(plans) * repeats * n)
    position = cases.position
    for start in range(0, len(todo), size):
        flat = todo[start : start + size]
        plan_of, case = flat // (repeats * n), flat % n
        repeat_of = flat // n % repeats
        other = np.stack(donors)[repeat_of, case]
        inputs = data.take(cases.window[case])
        tensors = tuple(inputs)
        sources = data.take(cases.window[other])
        for k in np.unique(plan_of):
            if not len(plans[k]):
                continue
            rows = np.flatnonzero(plan_of == k)
            into = position[case[rows]][:, None] + plans[k]
            inside = (into >= 0) & (into < t)
            row, column = np.nonzero(inside)
            source = np.clip(position[other[rows]][:, None] + plans[k], 0, t - 1)
            at = torch.from_numpy(rows[row]).to(device)
            here = torch.from_numpy(into[row, column]).to(device)
            there = torch.from_numpy(source[row, column]).to(device)
            for tensor, origin in zip(tensors, sources, strict=True):
                tensor[at, here] = origin[at, there]
            valid[case[rows], k] = inside[:, 0]
        logits = data.network.run(Prepared(*tensors)).logits[head]
        index = torch.arange(len(flat), device=device)
        z = logits[index, torch.from_numpy(position[case]).to(device)].float() * scale
        label = torch.from_numpy(cases.label[case]).to(device)
        p = torch.softmax(z, dim=-1).gather(1, label[:, None]).squeeze(1)
        np.add.at(probability, (plan_of, case), p.double().cpu().numpy() / repeats)
        np.add.at(right, (plan_of, case), (z.argmax(dim=-1) == label).double().cpu().numpy() / repeats)
    return probability, right, valid


def block_importance(
    data: ScoredSet,
    counting: Counting,
    *,
    head: str,
    blocks: int = 8,
    metric: str = "macro_f1",
    repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """For target sequences that have no input step of their own: the metric lost per block of the window.

    All inputs of a block of steps come from another window.

    Returns
    -------
    DataFrame with first_step, last_step, drop, low, high
    """
    bounds = np.linspace(0, data.steps, min(blocks, data.steps) + 1).round().astype(int)
    continuous, categorical = (tuple(range(width)) for width in data.shape[1:])
    jobs = [Job()]
    for b, (first, last) in enumerate(pairwise(bounds)):
        rng = np.random.default_rng(derive_seed(seed, "block", b))
        steps = tuple(range(first, last))
        jobs += [Job(rng.permutation(len(data)), continuous, categorical, steps) for _ in range(repeats)]
    passes = confusions_of(data, jobs, counting)
    base = next(passes)[head]
    function = metric_by_name(metric)
    rows = []
    for first, last in pairwise(bounds):
        d = metric_drop(base, [next(passes)[head] for _ in range(repeats)], function, seed)
        rows.append((int(first), int(last) - 1, d.value, d.low, d.high))
    return pd.DataFrame(rows, columns=["first_step", "last_step", "drop", "low", "high"])
