"""One step of a training on buffers that stay where they are, so that it can be launched again as one CUDA graph.

Whatever changes from step to step lies on the device: the order of the epoch's sequences, its learning rates and its
progress are tables, and a counter says which entry is next. A step reads no number on the host and writes in place:
parameters, moments, the losses' state, the epoch's totals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from imbalance_lab.models.network import Network
from imbalance_lab.strategies.base import Augment, LossInputs, Phase, State
from imbalance_lab.strategies.losses.masking import working
from imbalance_lab.training.course import copied
from imbalance_lab.training.phases import make_optimizer, mixed
from imbalance_lab.training.precision import matrix_products, training_autocast
from imbalance_lab.training.resident import Resident
from imbalance_lab.training.training_config import TrainingConfig


@dataclass(frozen=True)
class Tables:
    """What an epoch needs, on the device.

    Attributes
    ----------
    order : int64 (n,), the sequences in the order in which they are trained on
    progress : float64 (steps,), fraction of the training that is done before each step
    rates : float64 on a CPU, float32 on CUDA (steps,), learning rate of each step
    """

    order: Tensor
    progress: Tensor
    rates: Tensor


class Step:
    """The step of one phase of one training; private to :mod:`imbalance_lab.training.fit`.

    Attributes
    ----------
    generator : of the sampler and of mixing, on the device
    optimizer : of what the phase trains; on CUDA its learning rate is a tensor
    loss_state : what the losses carry, by head; updated in place
    host_rates : the learning rates of the epoch, on the host
    total, head_total : sums of the losses since :meth:`begin`, scalars
    bad : number of the first step of the epoch with a loss that is not finite, else the number of steps
    """

    def __init__(
        self, network: Network, train: Resident, phase: Phase, config: TrainingConfig, denoising_weight: float
    ) -> None:
        self.network, self.train, self.phase, self.config = network, train, phase, config
        self.denoising_weight = denoising_weight
        self.device = device = train.device
        self.cuda = device.type == "cuda"
        self.steps = math.ceil(len(train) / config.batch_size)
        self.generator = torch.Generator(device)
        self.augment: Augment | None = None if phase.augment is None else phase.augment.on(device)
        self.rate: float | Tensor = config.learning_rate
        if self.cuda:
            self.rate = torch.tensor(config.learning_rate, device=device)
        self.optimizer = make_optimizer(network, phase, config, self.rate)
        self.trained = [p for p in network.parameters() if p.requires_grad]
        # Copies: they change in place, and the start values belong to the strategy.
        self.loss_state: dict[str, State] = {h: copied(loss.init_state(device)) for h, loss in phase.losses.items()}
        self.tables = Tables(
            torch.zeros(len(train), dtype=torch.int64, device=device),
            torch.zeros(self.steps, dtype=torch.float64, device=device),
            torch.zeros(self.steps, dtype=torch.float32 if self.cuda else torch.float64, device=device),
        )
        self._place = torch.arange(config.batch_size, device=device)
        self._counter = torch.zeros((), dtype=torch.int64, device=device)
        self.bad = torch.zeros((), dtype=torch.int64, device=device)
        self.total = torch.zeros((), device=device)
        self.head_total = {head: torch.zeros((), device=device) for head in phase.losses}
        self.host_rates: Sequence[float] = ()

    def take(self, losses: Mapping[str, State], optimizer: Mapping[str, object]) -> None:
        """Go on from a checkpoint: what the losses carried, and the optimiser's moments.

        Learning rate and the optimiser's settings are the configuration's, not the file's, so that a training may go
        on on another device.
        """
        for head, state in losses.items():
            self._carry(head, {name: tensor.to(self.device) for name, tensor in state.items()})
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer["state"], "param_groups": groups})
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def begin(self, order: Tensor, progress: Sequence[float], rates: Sequence[float]) -> None:
        """Fill the tables of an epoch and set its counter and totals to 0."""
        self.tables.order.copy_(order)
        self.tables.progress.copy_(torch.tensor(progress, dtype=torch.float64))
        self.tables.rates.copy_(torch.tensor(rates, dtype=torch.float64))
        self.host_rates = rates
        self._counter.zero_()
        self.bad.fill_(self.steps)
        for total in (self.total, *self.head_total.values()):
            total.zero_()

    def size(self, step: int) -> int:
        """Sequences of a step of the epoch; the last one may have fewer."""
        return min(self.config.batch_size, len(self.train) - step * self.config.batch_size)

    def launch(self, step: int) -> None:
        """Train on the next batch of the epoch, the ``step``-th."""
        self._set_rate(step)
        self.work(self.size(step))

    def launch_features(self, step: int, batch: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Train the classifiers alone on features (m, 1, H) and labels (m, 1) by head; a head may be absent."""
        self._set_rate(step)
        progress = self._next_progress()
        values: dict[str, Tensor] = {}
        for head, (features, target) in batch.items():
            logits = self.network.classifier(head)(features)
            values[head] = self._loss(head, LossInputs(logits, target, features, progress))
        self._finish(values, None)

    def work(self, size: int) -> None:
        """Train on the next ``size`` sequences of the epoch: all that a CUDA graph holds."""
        index = self.tables.order.index_select(0, self._place[:size] + self._counter * self.config.batch_size)
        progress = self._next_progress()
        inputs, targets = self.train.batch(index)
        if self.augment is not None:
            inputs, targets = mixed(self.augment, inputs, targets, index, self.generator)
        with matrix_products(tf32=self.cuda and self.config.precision == "auto"):
            with training_autocast(self.config, self.device):
                output = self.network.run(inputs)
                features = working(output.features)
                values = {
                    head: self._loss(head, LossInputs(working(output.logits[head]), targets[head], features, progress))
                    for head in self.phase.losses
                }
            self._finish(values, output.reconstruction)

    def _set_rate(self, step: int) -> None:
        """The learning rate of a step, where the optimiser takes it from the host."""
        if not self.cuda:
            for group in self.optimizer.param_groups:
                group["lr"] = self.host_rates[step]

    def _next_progress(self) -> Tensor:
        """Progress of this step; on CUDA its learning rate goes to the optimiser."""
        at = self._counter.view(1)
        if isinstance(self.rate, Tensor):
            self.rate.copy_(self.tables.rates.index_select(0, at).view(()))
        return self.tables.progress.index_select(0, at).view(())

    def _loss(self, head: str, inputs: LossInputs) -> Tensor:
        value, state = self.phase.losses[head](inputs, self.loss_state[head])
        self._carry(head, state)
        return value

    def _carry(self, head: str, state: Mapping[str, Tensor]) -> None:
        own = self.loss_state[head]
        for name, tensor in state.items():
            if tensor is not own[name]:
                own[name].copy_(tensor)

    def _finish(self, values: Mapping[str, Tensor], reconstruction: Tensor | None) -> None:
        """Sum the losses of the heads, make the optimiser's step, count."""
        parts = list(values.values())
        if reconstruction is not None:
            parts.append(self.denoising_weight * reconstruction)
        for head, value in values.items():
            self.head_total[head].add_(value.detach())
        if parts:
            loss = reduce(torch.add, parts)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.trained, self.config.gradient_clip, foreach=True)
            self.optimizer.step()
            loss = loss.detach()
            self.total.add_(loss)
            self.bad.copy_(torch.where(torch.isfinite(loss), self.bad, torch.minimum(self.bad, self._counter)))
        self._counter.add_(1)
