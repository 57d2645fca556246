"""Attention-head ablation: the metric without one head, and without any."""

from __future__ import annotations

import pandas as pd

from imbalance_lab.interpretation.drops import metric_drop
from imbalance_lab.interpretation.passes import Counting, Job, confusions_of
from imbalance_lab.interpretation.scored import ScoredSet
from imbalance_lab.metrics.counts import metric_by_name


def head_ablation(
    data: ScoredSet, counting: Counting, *, metric: str = "macro_f1", seed: int = 0
) -> pd.DataFrame | None:
    """Set the output of each head of the encoder's self-attention to zero and measure every head's metric.

    Returns
    -------
    DataFrame with head, ablated ("attention head 1" ..., "all attention heads"), drop, low, high, left; the
    interval is over recordings. None for a network without attention.
    """
    network = data.network.as_network
    encoder = None if network is None else network.sequence_encoder
    if encoder is None:
        return None
    n = encoder.attention.heads
    masks = {f"attention head {i}": tuple(float(j != i) for j in range(n)) for i in range(n)}
    if n > 1:
        masks["all attention heads"] = (0.0,) * n
    passes = confusions_of(data, [Job(), *(Job(head_mask=m) for m in masks.values())], counting)
    whole = next(passes)
    function = metric_by_name(metric)
    rows = []
    for name, found in zip(masks, passes, strict=True):
        for head, base in whole.items():
            if base.any():
                d = metric_drop(base, [found[head]], function, seed)
                rows.append((head, name, d.value, d.low, d.high, d.left))
    return pd.DataFrame(rows, columns=["head", "ablated", "drop", "low", "high", "left"]).sort_values(
        "head", key=lambda c: c.map({h: i for i, h in enumerate(whole)}), kind="stable", ignore_index=True
    )
