"""What each attention head looks at: mean maps, entropy, distance, and single cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.interpretation.scored import Cases, Floats, ScoredSet, cluster_mean
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import Network

_NEAR = 2  # steps: "near" means at most this far from the query


@dataclass(frozen=True)
class AttentionMaps:
    """Result of :func:`attention_maps`.

    Attributes
    ----------
    heads : layer, attention_head, entropy (nats), low, high, entropy_uniform, distance (steps; NaN between
        unlike axes), distance_low, distance_high, distance_uniform, near (share of the weight within 2 steps),
        windows, recordings
    profile : layer, attention_head, offset (key minus query, steps), weight, low, high
    mean : layer to float array (heads, queries, keys), the mean over windows
    cases : case, label, attention_head, key, weight: the weights of chosen queries
    chosen : case, label, pred, window, position: what the cases are
    """

    heads: pd.DataFrame
    profile: pd.DataFrame
    mean: dict[str, NDArray[np.float32]]
    cases: pd.DataFrame
    chosen: pd.DataFrame


def attention_maps(
    data: ScoredSet, head: str, classes: tuple[str, ...], cases: Cases, seed: int = 0
) -> AttentionMaps | None:
    """Attention weights over all windows of ``data`` and for ``cases``; None for a network without attention.

    The weights are computed explicitly, not by the fused kernel, which returns none.
    """
    network = data.network.as_network
    if network is None or not network.has_attention:
        return None
    tables, profiles, means = [], [], {}
    layers = ["encoder"] if network.decoder is None else ["encoder", "decoder"]
    for layer in layers:
        mean, entropy, distance, near, by_offset = _summed(data, layer)
        means[layer] = mean
        heads, queries, keys = mean.shape
        columns = [cluster_mean(x, data.recording, seed) for x in (entropy, distance, near)]
        tables.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "attention_head": np.arange(heads),
                    **_named("entropy", columns[0], bare=True),
                    "entropy_uniform": np.log(keys),
                    **_named("distance", columns[1]),
                    "distance_uniform": (keys**2 - 1) / (3 * keys) if queries == keys else np.nan,
                    "near": columns[2][0],
                    "windows": len(data),
                    "recordings": data.recordings,
                }
            )
        )
        if by_offset is not None:
            weight, low, high = cluster_mean(by_offset, data.recording, seed)
            offsets = np.arange(-(keys - 1), keys)
            profiles.append(
                pd.DataFrame(
                    {
                        "layer": layer,
                        "attention_head": np.repeat(np.arange(heads), len(offsets)),
                        "offset": np.tile(offsets, heads),
                        "weight": weight.ravel(),
                        "low": low.ravel(),
                        "high": high.ravel(),
                    }
                )
            )
    single, chosen = _cases(data, head, classes, cases, layers[-1])
    columns_of_profile = ["layer", "attention_head", "offset", "weight", "low", "high"]
    profile = pd.concat(profiles, ignore_index=True) if profiles else pd.DataFrame(columns=columns_of_profile)
    return AttentionMaps(pd.concat(tables, ignore_index=True), profile, means, single, chosen)


def _named(stem: str, found: tuple[Floats, Floats, Floats], bare: bool = False) -> dict[str, Floats]:
    mean, low, high = found
    lead = "" if bare else f"{stem}_"
    return {stem: mean, f"{lead}low": low, f"{lead}high": high}


def _network_of(data: ScoredSet) -> Network:
    assert data.network.as_network is not None  # only networks have attention
    return data.network.as_network


def layer_weights(network: Network, inputs: Prepared, layer: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Attention weights (B, heads, queries, keys) of the encoder or of the decoder's cross-attention, and the logits.

    Queries and keys of the encoder are input steps; those of the decoder are target positions and input steps.
    """
    output = network.run(inputs, attention=True)
    if layer == "encoder":
        assert output.attention is not None
        return output.attention, output.logits
    encoder = network.sequence_encoder
    assert network.decoder is not None
    assert encoder is not None
    states = encoder(inputs).states
    queries = network.decoder.queries.expand(len(states), -1, -1)
    weights = network.decoder.cross(queries, states, weights=True)[1]
    return weights, output.logits


@torch.inference_mode()
def _summed(
    data: ScoredSet, layer: str
) -> tuple[NDArray[np.float32], Floats, Floats, Floats, NDArray[np.float64] | None]:
    """Mean map, and per window and head: entropy, distance, share near, weight by offset (n, heads, ...)."""
    total: Tensor | None = None
    parts: list[list[NDArray[np.float64]]] = []
    # The weights are heads x T as large as a row of the inputs.
    size = max(1, data.rows_per_pass() // 4)
    for start in range(0, len(data), size):
        index = np.arange(start, min(start + size, len(data)))
        weights, _ = layer_weights(_network_of(data), data.take(index), layer)
        weights = weights.float()
        queries, keys = weights.shape[-2:]
        total = weights.sum(dim=0) if total is None else total + weights.sum(dim=0)
        entropy = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
        square = queries == keys and layer == "encoder"
        found = [entropy]
        if square:
            at = torch.arange(keys, device=weights.device)
            offset = at[None, :] - at[:, None]  # key minus query
            distance = (weights * offset.abs()).sum(dim=-1).mean(dim=-1)
            near = (weights * (offset.abs() <= _NEAR)).sum(dim=-1).mean(dim=-1)
            bins = (offset + keys - 1).flatten()
            profile = weights.new_zeros(*weights.shape[:2], 2 * keys - 1)
            profile.index_add_(2, bins, weights.flatten(2))
            pairs = keys - torch.arange(1 - keys, keys, device=weights.device).abs()  # of query and key at each offset
            found += [distance, near, profile / pairs]
        parts.append([x.double().cpu().numpy() for x in found])
    assert total is not None
    mean = (total / len(data)).cpu().numpy()
    columns = [np.concatenate(x) for x in zip(*parts, strict=True)]
    if len(columns) == 1:
        none = np.full_like(columns[0], np.nan)
        return mean, columns[0], none, none, None
    return mean, columns[0], columns[1], columns[2], columns[3]


@torch.inference_mode()
def _cases(
    data: ScoredSet, head: str, classes: tuple[str, ...], cases: Cases, layer: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    if not len(cases):
        return pd.DataFrame(columns=["case", "label", "attention_head", "key", "weight"]), pd.DataFrame(
            columns=["case", "label", "pred", "window", "position"]
        )
    weights, logits = layer_weights(_network_of(data), data.take(cases.window), layer)
    at = torch.arange(len(cases), device=data.device)
    position = torch.from_numpy(cases.position).to(data.device)
    queries = weights[at, :, position].cpu().numpy()  # (cases, heads, keys)
    pred = logits[head][at, position].argmax(dim=-1).cpu().numpy()
    n, heads, keys = queries.shape
    labels = [classes[c] for c in cases.label]
    table = pd.DataFrame(
        {
            "case": np.repeat(np.arange(n), heads * keys),
            "label": np.repeat(labels, heads * keys),
            "attention_head": np.tile(np.repeat(np.arange(heads), keys), n),
            "key": np.tile(np.arange(keys), n * heads),
            "weight": queries.ravel(),
        }
    )
    chosen = pd.DataFrame(
        {
            "case": np.arange(n),
            "label": labels,
            "pred": [classes[c] for c in pred],
            "window": data.rows[cases.window],
            "position": cases.position,
        }
    )
    return table, chosen
