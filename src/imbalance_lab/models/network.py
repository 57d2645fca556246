"""The whole network: inputs, encoder, decoder, heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from imbalance_lab.models.attention import Attention
from imbalance_lab.models.dropout import Dropout
from imbalance_lab.models.encoder import Encoder, Layout
from imbalance_lab.models.heads import Classifier
from imbalance_lab.models.inputs import InputScaler, Prepared
from imbalance_lab.models.model_config import ModelConfig

HeadKinds = Mapping[str, Literal["linear", "cosine"]]
HeadScales = Mapping[str, float]


@dataclass(frozen=True)
class NetworkOutput:
    """What a forward pass returns.

    ``logits[head]`` (B, L, K) as the head's loss wants them (cosines for a cosine head);
    ``features`` (B, L, H), input of the classifiers; ``reconstruction`` scalar or None;
    ``attention`` (B, heads, T, T) or None.
    """

    logits: dict[str, Tensor]
    features: Tensor
    reconstruction: Tensor | None
    attention: Tensor | None


class TokenDecoder(nn.Module):
    """L learned queries read the encoder's states by cross-attention, then one feed-forward block."""

    def __init__(self, config: ModelConfig, length: int) -> None:
        super().__init__()
        h = config.hidden
        self.queries = nn.Parameter(torch.randn(length, h) * h**-0.5)
        self.cross = Attention(h, config.attention_heads, config.dropout)
        self.own = Attention(h, config.attention_heads, config.dropout)
        self.norm_cross, self.norm_own, self.norm_out = nn.LayerNorm(h), nn.LayerNorm(h), nn.LayerNorm(h)
        self.feed_forward = nn.Sequential(nn.Linear(h, 2 * h), nn.GELU(), Dropout(config.dropout), nn.Linear(2 * h, h))

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, H) -> (B, L, H)."""
        x = self.queries.expand(len(states), -1, -1)
        x = self.norm_cross(x + self.cross(x, states)[0])
        x = self.norm_own(x + self.own(x, x)[0])
        return self.norm_out(x + self.feed_forward(x))


class MLPEncoder(nn.Module):
    """Two hidden layers for tables and images (T = 1); categorical columns are embedded."""

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        h = config.hidden
        self.embeddings = nn.ModuleList(nn.Embedding(size, 8) for size in layout.categorical_sizes)
        width = layout.channels + 8 * len(layout.categorical_sizes)
        self.layers = nn.Sequential(
            nn.Linear(width, h),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(h, h),
            nn.GELU(),
            Dropout(config.dropout),
        )

    def forward(self, inputs: Prepared) -> Tensor:
        """(B, 1, C) -> (B, 1, H)."""
        parts = [inputs.values, *(e(inputs.categorical[..., k]) for k, e in enumerate(self.embeddings))]
        return self.layers(torch.cat(parts, dim=-1))


class Network(nn.Module):
    """Coded windows in, logits of every head out; scaling and imputation are part of it.

    What trains, interprets and serves asks for no more than this. Parameters of the classifiers are named
    ``classifiers....``; a network that has no classifiers of its own leaves the list empty.

    Parameters
    ----------
    heads : head to number of classes
    mean, std : (C,) training statistics of the stored channels
    """

    words: ClassVar[str] = "the network"
    capturable: ClassVar[bool] = True
    rows_per_call: ClassVar[int | None] = None
    packages: tuple[str, ...] = ()
    has_attention: bool = False
    has_features: bool = True
    fixed_parameters: frozenset[str] = frozenset()
    """Parameters that no phase trains."""
    decoder: TokenDecoder | None
    classifiers: nn.ModuleList

    def __init__(self, heads: Mapping[str, int], mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.scaler = InputScaler(mean, std)
        # A list, not a ModuleDict: a head may be called "type" or hold a dot, which module names must not.
        self.head_names = tuple(heads)
        self._sizes = tuple(heads.values())

    def prepare(self, continuous: Tensor, categorical: Tensor) -> Prepared:
        """Coded (B, T, C) and (B, T, K) to standardised network inputs; done once per data set in training."""
        return self.scaler(continuous, categorical)

    def run(self, inputs: Prepared, *, attention: bool = False, head_mask: Tensor | None = None) -> NetworkOutput:
        """Forward pass from prepared inputs."""
        raise NotImplementedError

    def forward(self, continuous: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """Coded inputs to class scores (B, L, K) of each head, ready for a softmax."""
        output = self.run(self.prepare(continuous, categorical))
        return {head: logits * self.output_scale(head) for head, logits in output.logits.items()}

    def classifier(self, head: str) -> Classifier:
        """The classifier of a head."""
        module = self.classifiers[self.head_names.index(head)]
        assert isinstance(module, Classifier)
        return module

    @property
    def as_network(self) -> Network:
        """Itself; see :class:`~imbalance_lab.models.predictor.Predictor`."""
        return self

    @property
    def sequence_encoder(self) -> Encoder | None:
        """The encoder with self-attention and differences of steps; None where there is none."""
        return None

    @property
    def per_step(self) -> bool:
        """Whether the output at position t is read off the state of step t."""
        return self.decoder is None

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return self.scaler.mean.device

    def n_classes(self, head: str) -> int:
        """K of a head."""
        return self._sizes[self.head_names.index(head)]

    def output_scale(self, head: str) -> float:
        """What the logits of :meth:`run` are multiplied by before a softmax."""
        return self.classifier(head).output_scale


class BuiltInNetwork(Network):
    """The project's networks: an encoder, a decoder where positions are no steps, a classifier per head.

    Parameters
    ----------
    config, layout : which network, for which inputs
    heads : head to number of classes
    head_kinds : linear or cosine per head
    head_scales : scale of the logits of cosine heads before a softmax; 1 where a head is left out
    mean, std : (C,) training statistics of the stored channels
    difference_scale : (C,) see :class:`~imbalance_lab.models.inputs.Differences`
    """

    def __init__(
        self,
        config: ModelConfig,
        layout: Layout,
        heads: Mapping[str, int],
        head_kinds: HeadKinds,
        mean: Tensor,
        std: Tensor,
        difference_scale: Tensor,
        head_scales: HeadScales | None = None,
    ) -> None:
        super().__init__(heads, mean, std)
        name = config.name
        if name == "auto":
            name = "mlp" if layout.steps == 1 else "mm-dtae-lstm"
        self.encoder: nn.Module = (
            MLPEncoder(config, layout) if name == "mlp" else Encoder(config, layout, difference_scale)
        )
        self.has_attention = name != "mlp"
        self.decoder = None if layout.per_step else TokenDecoder(config, layout.target_length)
        self.classifiers = nn.ModuleList(
            Classifier(config.hidden, n, head_kinds[head], (head_scales or {}).get(head, 1.0))
            for head, n in heads.items()
        )

    def run(self, inputs: Prepared, *, attention: bool = False, head_mask: Tensor | None = None) -> NetworkOutput:
        """Forward pass from prepared inputs."""
        if self.has_attention:
            encoded = self.encoder(inputs, attention=attention, head_mask=head_mask)
            states, loss, weights = encoded.states, encoded.reconstruction, encoded.attention
        else:
            states, loss, weights = self.encoder(inputs), None, None
        features = states if self.decoder is None else self.decoder(states)
        logits = {
            head: classifier(features) for head, classifier in zip(self.head_names, self.classifiers, strict=True)
        }
        return NetworkOutput(logits, features, loss, weights)

    @property
    def sequence_encoder(self) -> Encoder | None:
        """The encoder with self-attention and differences of steps; None for the perceptron."""
        return self.encoder if isinstance(self.encoder, Encoder) else None
