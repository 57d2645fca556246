"""Model-randomisation check: do attributions depend on what the network learned?"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from imbalance_lab.interpretation.attribution import Attributions, channel_shares
from imbalance_lab.interpretation.scored import Floats, cluster_mean
from imbalance_lab.models.network import BuiltInNetwork, Network
from imbalance_lab.randomness import derive_seed


def randomised(network: Network, seed: int = 0) -> Network:
    """A copy with every trainable weight drawn afresh; scaling and architecture stay."""
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(derive_seed(seed, "randomised"))
        for module in other.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif not isinstance(other, BuiltInNetwork):
                # No way to draw them is known: the same values in another order keep their scale.
                for parameter in module.parameters(recurse=False):
                    order = torch.randperm(parameter.numel(), device=parameter.device)
                    parameter.copy_(parameter.flatten()[order].view_as(parameter))
        if other.decoder is not None:
            hidden = other.decoder.queries.shape[-1]
            other.decoder.queries.copy_(torch.randn(other.decoder.queries.shape) * hidden**-0.5)
    return other.eval()


def sanity_check(found: Attributions, random: Attributions, seed: int = 0) -> pd.DataFrame:
    """Rank correlation of attributions with those of a randomised network on the same cases.

    Per case, the Spearman correlation of the absolute attribution over channels, and over all cells of
    channel x time; then the mean over cases with an interval over recordings. Near 1: the
    attributions show the inputs or the architecture, not what was learned.

    Returns
    -------
    DataFrame with method, over ("channels", "cells"), correlation, low, high, cases, recordings

    References
    ----------
    Adebayo et al. (2018), Sanity Checks for Saliency Maps.
    """
    rows = []
    for method in found.values:
        pairs = {
            "channels": (channel_shares(found, method), channel_shares(random, method)),
            "cells": tuple(np.abs(x.values[method]).reshape(len(x.cases), -1) for x in (found, random)),
        }
        for over, (a, b) in pairs.items():
            value = _spearman(a, b)
            mean, low, high = cluster_mean(value, found.recording, seed)
            rows.append(
                {
                    "method": method,
                    "over": over,
                    "correlation": float(mean),
                    "low": float(low),
                    "high": float(high),
                    "cases": int(np.isfinite(value).sum()),
                    "recordings": len(np.unique(found.recording)),
                }
            )
    return pd.DataFrame(rows)


def _spearman(a: Floats, b: Floats) -> Floats:
    """Spearman correlation of each row of (n, m) arrays, shape (n,); NaN where a row is constant."""
    x, y = (rankdata(v, axis=1) for v in (a, b))
    x, y = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), spread, out=np.full(len(x), np.nan), where=spread > 0)
