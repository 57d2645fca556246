"""MM-DTAE-LSTM: multi-modal input, denoising temporal autoencoder, bidirectional LSTM, self-attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from imbalance_lab.models.attention import Attention
from imbalance_lab.models.dropout import Dropout
from imbalance_lab.models.inputs import Differences, Prepared
from imbalance_lab.models.model_config import ModelConfig

_KERNEL = 5  # steps; at 4 Hz an arc lasts one to three, so one kernel sees it with its surroundings


@dataclass(frozen=True)
class Layout:
    """Which inputs there are: what a network must know of a data set to be built.

    ``modalities`` are the channel indices of each modality (a sensor frame, the motors, ...);
    together they hold every channel once.
    """

    channels: int
    modalities: tuple[tuple[int, ...], ...]
    categorical_sizes: tuple[int, ...]
    steps: int
    target_length: int

    @property
    def per_step(self) -> bool:
        """Whether every input step has one target position."""
        return self.steps == self.target_length


@dataclass(frozen=True)
class Encoded:
    """``states`` (B, T, H); ``reconstruction`` loss, a scalar, or None; ``attention`` (B, heads, T, T) or None."""

    states: Tensor
    reconstruction: Tensor | None
    attention: Tensor | None


class ModalityProjection(nn.Module):
    """Values and differences of each modality through a convolution of its own, then summed.

    A modality that is hidden or missing as a whole contributes nothing but its bias, so that the
    others need not learn to compensate for it. The sum of the convolutions is one convolution over all
    channels, and is kept as one: assembling it in each step cost a fifth of a step's kernels.

    Attributes
    ----------
    weight : (H, 2C, kernel), the values of all channels in the order of the data and then their differences
    bias : (M, H), one row per modality
    """

    def __init__(self, layout: Layout, hidden: int) -> None:
        super().__init__()
        self.modalities = layout.modalities
        channels = sum(map(len, self.modalities))
        self.weight = nn.Parameter(torch.empty(hidden, 2 * channels, _KERNEL)) if channels else None
        self.bias = nn.Parameter(torch.empty(len(self.modalities), hidden)) if channels else None
        self.reset_parameters()
        self.embeddings = nn.ModuleList(nn.Embedding(size, hidden) for size in layout.categorical_sizes)
        self.register_load_state_dict_pre_hook(_one_of_many)

    def reset_parameters(self) -> None:
        """Draw each modality's weights as those of a convolution of its own, which has fewer inputs."""
        if self.weight is None or self.bias is None:
            return
        drawn = [nn.Conv1d(2 * len(m), self.weight.shape[0], _KERNEL) for m in self.modalities]
        with torch.no_grad():
            self.weight.copy_(_assembled(self.modalities, [convolution.weight for convolution in drawn]))
            for row, convolution in zip(self.bias, drawn, strict=True):
                assert convolution.bias is not None
                row.copy_(convolution.bias)

    def forward(self, values: Tensor, differences: Tensor, categorical: Tensor) -> Tensor:
        """(B, T, C), (B, T, C), (B, T, K) -> (B, T, H)."""
        embedded = [embedding(categorical[..., k]) for k, embedding in enumerate(self.embeddings)]
        if self.weight is None or self.bias is None:
            return reduce(Tensor.add_, embedded)
        convolved = _along_time(torch.cat([values, differences], dim=-1), self.weight, self.bias.sum(0))
        return convolved + reduce(Tensor.add_, embedded) if embedded else convolved


def _along_time(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution of (B, T, C) along time with ``weight`` (H, C, kernel) and ``bias`` (H,): (B, T, H).

    On a CPU as one of pictures of height 1 with channels last, which is how ``x`` lies: neither it nor the result is
    turned over in memory. Together with what follows that takes two thirds of the time of ``conv1d``.
    """
    x, padding = x.transpose(1, 2), weight.shape[2] // 2
    if x.device.type != "cpu":
        return nn.functional.conv1d(x, weight, bias, padding=padding).transpose(1, 2)
    kernel = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    return nn.functional.conv2d(x.unsqueeze(2), kernel, bias, padding=(0, padding)).squeeze(2).transpose(1, 2)


def _assembled(modalities: Sequence[Sequence[int]], weights: Sequence[Tensor]) -> Tensor:
    """(H, 2C, kernel) of the modalities' (H, 2 C_i, kernel), each its values and then its differences."""
    channels = sum(map(len, modalities))
    whole = weights[0].new_empty(weights[0].shape[0], 2 * channels, weights[0].shape[2])
    for own, weight in zip(modalities, weights, strict=True):
        whole[:, [*own, *(channels + c for c in own)]] = weight.detach()
    return whole


def _one_of_many(module: ModalityProjection, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Networks that were saved before hold a convolution per modality, and its channels."""
    names = [f"{prefix}convolutions.{i}" for i in range(len(module.modalities))]
    if not names or f"{names[0]}.weight" not in state:
        return
    state[f"{prefix}weight"] = _assembled(module.modalities, [state.pop(f"{name}.weight") for name in names])
    state[f"{prefix}bias"] = torch.stack([state.pop(f"{name}.bias") for name in names])
    for i in range(len(names)):
        state.pop(f"{prefix}index_{i}", None)


class Corruption(nn.Module):
    """The random numbers of the denoising autoencoder: its one source of them, so that it can be exchanged.

    Parameters
    ----------
    noise : standard deviation of the noise; 0 draws none
    frame_dropout : probability that a modality is hidden; 0 hides none
    modalities : how many there are; a single one is never hidden
    """

    def __init__(self, noise: float, frame_dropout: float, modalities: int) -> None:
        super().__init__()
        self.noise, self.modalities = noise, modalities
        self.frame_dropout = frame_dropout if modalities > 1 else 0.0

    def forward(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """For ``values`` (B, T, C): standard normal numbers (B, T, C), and which modalities are shown, bool (B, M)."""
        noise = torch.randn_like(values) if self.noise else None
        shown = None
        if self.frame_dropout:
            shown = torch.rand(len(values), self.modalities, device=values.device) >= self.frame_dropout
        return noise, shown


class Encoder(nn.Module):
    """Sequence encoder.

    Projection of each modality -> bidirectional LSTM -> self-attention with a residual. While it
    trains, inputs get Gaussian noise and whole modalities are hidden, and a linear decoder
    reconstructs the clean scaled inputs from the states (Vincent et al. 2008).
    """

    def __init__(self, config: ModelConfig, layout: Layout, scale: Tensor) -> None:
        super().__init__()
        h = config.hidden
        self.corruption = Corruption(config.denoising.noise, config.denoising.frame_dropout, len(layout.modalities))
        self.denoise = config.denoising.weight > 0 and layout.channels > 0
        self.differences = Differences(scale)
        self.project = ModalityProjection(layout, h)
        self.norm_in = nn.LayerNorm(h)
        dropout = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(h, h // 2, config.layers, batch_first=True, bidirectional=True, dropout=dropout)
        self.norm_attention = nn.LayerNorm(h)
        self.attention = Attention(h, config.attention_heads, config.dropout)
        self.norm_out = nn.LayerNorm(h)
        self.dropout = Dropout(config.dropout)
        self.reconstruct = nn.Linear(h, layout.channels) if self.denoise else None
        membership = torch.zeros(len(layout.modalities), layout.channels)
        for i, channels in enumerate(layout.modalities):
            membership[i, list(channels)] = 1.0
        self.membership: Tensor
        self.register_buffer("membership", membership)

    def forward(self, inputs: Prepared, *, attention: bool = False, head_mask: Tensor | None = None) -> Encoded:
        """Encode; noise and the reconstruction loss only in training mode."""
        values, observed = inputs.values, inputs.observed
        if self.training:
            values, observed = self._corrupt(values, observed)
        x = self.project(values, self.differences(values, observed), inputs.categorical)
        x = self.dropout(nn.functional.gelu(self.norm_in(x)))
        states, _ = self.lstm(x)
        states = states + x
        normed = self.norm_attention(states)
        mixed, weights = self.attention(normed, normed, weights=attention, head_mask=head_mask)
        states = self.norm_out(states + mixed)
        loss = None
        if self.training and self.reconstruct is not None:
            error = (self.reconstruct(states) - inputs.values).square() * inputs.observed
            loss = error.sum() / inputs.observed.sum().clamp(min=1)
        return Encoded(self.dropout(states), loss, weights)

    def _corrupt(self, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        noise, shown = self.corruption(values)
        if noise is not None:
            values = (self.corruption.noise * noise).add_(values)
        if shown is not None:
            channels = (shown.to(self.membership.dtype) @ self.membership)[:, None] > 0  # (B, 1, C)
            observed = observed & channels
        return values * observed, observed


def modalities_of(channels: Sequence[str], groups: dict[str, tuple[str, ...]]) -> tuple[tuple[int, ...], ...]:
    """Channel indices of each group; channels of no group form one of their own."""
    place = {name: i for i, name in enumerate(channels)}
    grouped = [tuple(place[c] for c in members if c in place) for members in groups.values()]
    taken = {i for members in grouped for i in members}
    rest = tuple(i for i in range(len(channels)) if i not in taken)
    return tuple(members for members in (*grouped, rest) if members)
