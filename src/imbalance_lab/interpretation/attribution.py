"""Gradient saliency and integrated gradients of single predictions, through captum."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.interpretation.scored import Cases, Floats, Ints, ScoredSet, cluster_mean
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import Network

SALIENCY, INTEGRATED = "saliency", "integrated gradients"
LOOSE = 0.05
"""Relative convergence delta above which integrated gradients need more steps."""
BASELINE = "the training mean of every continuous channel, without change in time (scaled 0); missing stays missing"


@dataclass(frozen=True)
class Attributions:
    """Attributions of n cases, in scaled units.

    Attributes
    ----------
    values : method to float32 array (n, T, C): of saliency the absolute gradient, of integrated gradients
        the signed contribution to the log odds of the case's class
    cases : which positions; ``recording`` (n,) their recordings
    score, baseline_score, delta : float64 arrays of shape (n,)
        Log odds of the class, those of the baseline, and by how much the sum of the contributions
        misses their difference (captum's convergence delta).
    """

    values: dict[str, NDArray[np.float32]]
    cases: Cases
    recording: Ints
    score: Floats
    baseline_score: Floats
    delta: Floats

    @property
    def relative_delta(self) -> float:
        """Sum of abs(delta) over the sum of abs(score - baseline score)."""
        change = np.abs(self.score - self.baseline_score).sum()
        return float(np.abs(self.delta).sum() / change) if change > 0 else float("nan")


def attribute(data: ScoredSet, head: str, cases: Cases, *, steps: int = 32) -> Attributions:
    """Attribute the log odds of each case's class to the continuous inputs of its window.

    The log odds log p / (1 - p) of the class are what separates it from all other classes together;
    a logit alone may rise for every class. Integrated gradients take ``steps`` Gauss-Legendre points
    on the line from :data:`BASELINE`; the points of several cases share a batch.

    A sequence network reads each value and its difference to the step before. Both are inputs
    here, and a cell's attribution is the sum of the two (of absolute gradients for saliency): with
    respect to values alone, a difference on a fine scale gives its two steps huge contributions of
    opposite sign, and the slowest channels would seem the most important.

    References
    ----------
    Simonyan et al. (2014) for saliency; Sundararajan et al. (2017) for integrated gradients.
    """
    from captum.attr import IntegratedGradients, Saliency

    network = data.network.as_network
    assert network is not None  # who calls has asked for gradients
    forward = _log_odds(network, head)
    size = max(1, data.rows_per_pass() // steps)
    found: dict[str, list[Tensor]] = {SALIENCY: [], INTEGRATED: []}
    scores: list[Tensor] = []
    deltas: list[Tensor] = []
    for start in range(0, len(cases), size):
        part = cases.take(np.arange(start, min(start + size, len(cases))))
        inputs = data.take(part.window)
        parts = tuple(x.detach().clone().requires_grad_() for x in _read_by(network, inputs))
        baseline = tuple(torch.zeros_like(x) for x in parts)
        where = (
            inputs.observed,
            inputs.categorical,
            torch.from_numpy(part.position).to(data.device),
            torch.from_numpy(part.label).to(data.device),
        )
        with backward_in_eval(data.device):
            gradients = Saliency(forward).attribute(parts, abs=True, additional_forward_args=where)
            integrated, delta = IntegratedGradients(forward).attribute(
                parts,
                baselines=baseline,
                additional_forward_args=where,
                n_steps=steps,
                internal_batch_size=data.rows_per_pass(),
                return_convergence_delta=True,
            )
        found[SALIENCY].append(torch.stack([g.detach() for g in gradients]).sum(dim=0))
        found[INTEGRATED].append(torch.stack([g.detach().float() for g in integrated]).sum(dim=0))
        deltas.append(delta.detach())
        with torch.no_grad():
            scores.append(torch.stack([forward(*parts, *where), forward(*baseline, *where)]))
    both = torch.cat(scores, dim=1).double().cpu().numpy()
    return Attributions(
        {method: torch.cat(pieces).cpu().numpy() for method, pieces in found.items()},
        cases,
        data.recording[cases.window],
        both[0],
        both[1],
        torch.cat(deltas).double().cpu().numpy(),
    )


def backward_in_eval(device: torch.device) -> AbstractContextManager[Any]:
    """cuDNN refuses the backward pass of a recurrent network in evaluation mode; PyTorch's own kernels do not."""
    return torch.backends.cudnn.flags(enabled=False) if device.type == "cuda" else nullcontext()


def _read_by(network: Network, inputs: Prepared) -> tuple[Tensor, ...]:
    """The continuous inputs as the first layer reads them: values, and differences where it has those."""
    encoder = network.sequence_encoder
    if encoder is None:
        return (inputs.values,)
    return inputs.values, encoder.differences(inputs.values, inputs.observed)


def _log_odds(network: Network, head: str) -> Callable[..., Tensor]:
    scale = network.output_scale(head)
    encoder = network.sequence_encoder

    def forward(values: Tensor, *rest: Tensor) -> Tensor:
        *differences, observed, categorical, position, label = rest
        given = None
        if differences and encoder is not None:
            given = encoder.differences.register_forward_hook(lambda *_: differences[0])
        try:
            logits = network.run(Prepared(values, observed, categorical)).logits[head]
        finally:
            if given is not None:
                given.remove()
        z = logits[torch.arange(len(values), device=values.device), position].float() * scale
        own = z.gather(1, label[:, None]).squeeze(1)
        others = z.scatter(1, label[:, None], float("-inf"))
        return own - others.logsumexp(dim=1)

    return forward


def channel_shares(found: Attributions, method: str) -> Floats:
    """Share of each channel in a case's absolute attribution, shape (n, C); NaN where there is none at all."""
    per_channel = np.abs(found.values[method]).sum(axis=1, dtype=np.float64)
    total = per_channel.sum(axis=1, keepdims=True)
    return np.divide(per_channel, total, out=np.full_like(per_channel, np.nan), where=total > 0)


def offset_shares(found: Attributions, method: str) -> tuple[Ints, Floats]:
    """Share of each input step in a case's absolute attribution, by its offset from the scored position.

    Returns
    -------
    offsets : int64 array of shape (2 T - 1,)
    shares : float64 array (n, 2 T - 1); NaN where the window has no such step
    """
    per_step = np.abs(found.values[method]).sum(axis=2, dtype=np.float64)
    total = per_step.sum(axis=1, keepdims=True)
    share = np.divide(per_step, total, out=np.full_like(per_step, np.nan), where=total > 0)
    n, t = share.shape
    out = np.full((n, 2 * t - 1), np.nan)
    out[np.arange(n)[:, None], np.arange(t) - found.cases.position[:, None] + t - 1] = share
    return np.arange(-(t - 1), t), out


def channel_table(found: Attributions, names: tuple[str, ...], classes: tuple[str, ...], seed: int = 0) -> pd.DataFrame:
    """Share of the absolute attribution by method, class and channel, with intervals over recordings.

    Returns
    -------
    DataFrame with method, class ("all" first), channel, share, low, high, signed (integrated gradients: mean
    contribution in nats), cases, recordings; largest share first within method and class
    """
    parts = []
    for method in found.values:
        shares = channel_shares(found, method)
        signed = found.values[method].sum(axis=1, dtype=np.float64)
        for c in (None, *np.unique(found.cases.label)):
            chosen = np.ones(len(found.cases), dtype=bool) if c is None else found.cases.label == c
            mean, low, high = cluster_mean(shares[chosen], found.recording[chosen], seed)
            part = pd.DataFrame(
                {
                    "method": method,
                    "class": "all" if c is None else classes[c],
                    "channel": list(names),
                    "share": mean,
                    "low": low,
                    "high": high,
                    "signed": signed[chosen].mean(axis=0) if method == INTEGRATED else np.nan,
                    "cases": int(chosen.sum()),
                    "recordings": len(np.unique(found.recording[chosen])),
                }
            )
            parts.append(part.sort_values("share", ascending=False, kind="stable"))
    return pd.concat(parts, ignore_index=True)


def time_table(found: Attributions, per_step: bool, seed: int = 0) -> pd.DataFrame:
    """Share of the absolute attribution by input step: method, offset (or step), share, low, high, cases.

    ``per_step`` tells whether steps are counted from the scored position, or from the window's start.
    """
    parts = []
    for method in found.values:
        if per_step:
            at, shares = offset_shares(found, method)
        else:
            per = np.abs(found.values[method]).sum(axis=2, dtype=np.float64)
            total = per.sum(axis=1, keepdims=True)
            shares = np.divide(per, total, out=np.full_like(per, np.nan), where=total > 0)
            at = np.arange(shares.shape[1])
        mean, low, high = cluster_mean(shares, found.recording, seed)
        counted = np.isfinite(shares).sum(axis=0)
        parts.append(
            pd.DataFrame(
                {
                    "method": method,
                    "offset" if per_step else "step": at,
                    "share": mean,
                    "low": low,
                    "high": high,
                    "cases": counted,
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    return table[table["cases"] > 0].reset_index(drop=True)


def heat(found: Attributions, method: str, label: int, reach: int) -> NDArray[np.float64]:
    """Mean absolute attribution of a class's cases, shape (C, 2 reach + 1), by offset from the scored position."""
    chosen = np.flatnonzero(found.cases.label == label)
    values = np.abs(found.values[method][chosen]).astype(np.float64)
    step = found.cases.position[chosen][:, None] + np.arange(-reach, reach + 1)
    inside = (step >= 0) & (step < values.shape[1])
    picked = values[np.arange(len(chosen))[:, None], np.clip(step, 0, values.shape[1] - 1)]  # (n, offsets, C)
    picked = np.where(inside[..., None], picked, 0.0).sum(axis=0)
    count = np.maximum(inside.sum(axis=0), 1)[:, None]
    return (picked / count).T


def case_table(found: Attributions, data: ScoredSet, names: tuple[str, ...], classes: tuple[str, ...]) -> pd.DataFrame:
    """One row per case: window, position, class, log odds, baseline log odds, delta, the channel that adds most."""
    signed = found.values[INTEGRATED].sum(axis=1)
    top = signed.argmax(axis=1)
    return pd.DataFrame(
        {
            "window": data.rows[found.cases.window],
            "position": found.cases.position,
            "class": [classes[c] for c in found.cases.label],
            "log_odds": found.score,
            "baseline_log_odds": found.baseline_score,
            "convergence_delta": found.delta,
            "strongest_channel": [names[i] for i in top],
            "strongest_contribution": signed[np.arange(len(top)), top],
        }
    )
