"""Many networks of one shape as one: parameters with a leading trial dimension, one forward pass for all."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from imbalance_lab.models.encoder import Corruption, ModalityProjection
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.network import Network
from imbalance_lab.models.stacked_draws import Draw, Tape, TapeCorruption, TapeDropout
from imbalance_lab.models.stacked_recurrent import StackableLSTM


class StackedNetwork(nn.Module):
    """Runs K networks of one shape at once.

    It holds the structure and the buffers of one network, which all of them share; parameters are
    given to every call.

    Parameters
    ----------
    network : any of the K; it is copied, not changed
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._tape = Tape()
        # One tape for the whole network: the copy must not copy it.
        self.network = _vmappable(copy.deepcopy(network), self._tape)

    def draws(self, inputs: Prepared) -> tuple[Draw, ...]:
        """The random numbers that one trial needs for a training pass over ``inputs`` (B, ...), in their order."""
        self.train()
        named = {f"network.{name}": p.detach().unsqueeze(0) for name, p in self.network.named_parameters()}
        with torch.no_grad(), _batchable_attention(inputs.values.device):
            torch.vmap(self._one, in_dims=(0, None, None))(named, inputs, None)
        return tuple(self._tape.asked)

    def run(
        self, parameters: Mapping[str, Tensor], inputs: Prepared, draws: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Forward pass of all K trials.

        Parameters
        ----------
        parameters : each of shape (K, \\*shape), by the names of the network. Under autocast their matrix
            products are in half precision and all else is not: vmap hides a layer as a whole from autocast.
        inputs : of shape (K, B, ...), one batch for each trial, with ``draws``; without, (B, ...), the
            same batch for all
        draws : for a training pass, each (K, ...); None is an evaluation pass

        Returns
        -------
        ``features`` (K, B, L, H), ``reconstruction`` (K,) in a training pass of a denoising
        encoder, and ``logits/<head>`` (K, B, L, classes) of each head.
        """
        training = draws is not None
        self.train(training)
        named = {f"network.{name}": tensor for name, tensor in parameters.items()}
        run = torch.vmap(self._one, in_dims=(0, 0, 0) if training else (0, None, None))
        with _batchable_attention(inputs.values.device):
            return run(named, inputs, list(draws or []))

    def _one(self, parameters: dict[str, Tensor], inputs: Prepared, draws: list[Tensor] | None) -> dict[str, Tensor]:
        return functional_call(self, parameters, (inputs, draws))

    def forward(self, inputs: Prepared, draws: Sequence[Tensor] | None) -> dict[str, Tensor]:
        """One trial's pass: what :meth:`run` maps; without ``draws`` the tape notes which it takes."""
        self._tape.load(draws)
        output = self.network.run(inputs)
        out = {f"logits/{head}": logits for head, logits in output.logits.items()}
        out["features"] = output.features
        if output.reconstruction is not None:
            out["reconstruction"] = output.reconstruction
        return out


def _batchable_attention(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU the fused kernel has no batching rule: vmap would call it once per trial."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _vmappable(module: Network, tape: Tape) -> Network:
    """Exchange what vmap cannot batch, or batches badly, for an equal that it can; in place."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM):
                setattr(parent, name, StackableLSTM(child, tape))
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, TapeDropout(child.p, tape))
            elif isinstance(child, Corruption):
                setattr(parent, name, TapeCorruption(child, tape))
            elif isinstance(child, ModalityProjection):
                child.unfold = True
    return module
