"""K trials side by side: every step is one forward pass, one backward pass and one update for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.errors import NonFiniteLossError
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.stacked import StackedNetwork
from imbalance_lab.models.stacked_draws import Draw, draw_all
from imbalance_lab.randomness import derive_seed
from imbalance_lab.training.course import EpochSummary, learning_rate_at, non_finite
from imbalance_lab.training.evaluate import EVALUATION_BATCH, confusion_on_device
from imbalance_lab.training.phases import mixed, seen_counts
from imbalance_lab.training.resident import Resident
from imbalance_lab.training.stacked.losses import LossGroup, Stacked, loss_groups
from imbalance_lab.training.stacked.member import Member
from imbalance_lab.training.stacked.optimizer import Rates, adamw_, clip_, rates_of


@dataclass(frozen=True)
class EpochPlan:
    """All that the steps of an epoch need and that the host works out before the first of them.

    ``orders`` (K, n) indices into the training split; ``progress[k][s]`` and ``learning_rates[k][s]``
    of trial k in step s; ``noise[k]`` is None where the encoder is frozen; ``trained`` names the
    parameters that any trial trains; ``clip`` (K, 1), ``denoising_weight`` (K,).
    """

    steps: int
    orders: Tensor
    progress: list[list[float]]
    learning_rates: list[list[float]]
    rates: list[Rates]
    clip: Tensor
    samplers: list[torch.Generator]
    noise: list[torch.Generator | None]
    groups: list[LossGroup]
    trained: frozenset[str]
    denoising_weight: Tensor


class Stack:
    """The parameters, moments and frozen flags of K trials, each (K, P), and what is done with them; mutable.

    Members keep views of their rows, so what one of them changes (a phase that begins) the stack sees.
    """

    def __init__(self, network: StackedNetwork, members: Sequence[Member], autocast: torch.autocast) -> None:
        self.network, self.members, self.autocast = network, list(members), autocast
        self.layout = members[0].layout
        self.heads = members[0].network.head_names
        self.rows, self.first, self.second, self.frozen = (
            torch.stack([getattr(m, name) for m in members]) for name in ("row", "first", "second", "frozen")
        )
        for k, m in enumerate(members):
            m.row, m.first, m.second, m.frozen = self.rows[k], self.first[k], self.second[k], self.frozen[k]
        self._draws: dict[int, tuple[Draw, ...]] = {}

    def train_epoch(self, train: Resident) -> list[EpochSummary | NonFiniteLossError]:
        """One pass of ``len(train)`` drawn sequences for every trial, each at its own epoch.

        A trial whose loss became non-finite gets the error instead of a summary; the others are not touched by it.
        """
        plan = self.plan_epoch(train)
        total, bad_step = self.run_steps(train, plan)
        for m in self.members:
            m.steps += plan.steps
        for group in plan.groups:
            for k, state in zip(group.rows, group.states(), strict=True):
                self.members[k].loss_state[group.head] = state
        sums, bad = total.tolist(), bad_step.tolist()
        summaries: list[EpochSummary | NonFiniteLossError] = []
        for k, m in enumerate(self.members):
            rate = plan.learning_rates[k][-1]
            if bad[k] < plan.steps:
                summaries.append(non_finite(m.trial.strategy, m.epoch, bad[k], plan.steps, rate))
                continue
            of_head = dict(zip(self.heads, sums[k][1:], strict=True))
            head_loss = {h: of_head[h] / plan.steps for h in m.phase.losses}
            seen = seen_counts(m.network, train, plan.orders[k])
            summaries.append(EpochSummary(sums[k][0] / plan.steps, head_loss, seen, rate))
        return summaries

    def plan_epoch(self, train: Resident) -> EpochPlan:
        """Draw the sequences and work out the rates of every trial's next epoch."""
        members, n = self.members, len(train)
        steps = math.ceil(n / members[0].config.batch_size)
        progress = [[(m.epoch + s / steps) / m.config.epochs for s in range(steps)] for m in members]
        learning_rates = [
            [learning_rate_at(p, m.config) for p in own] for m, own in zip(members, progress, strict=True)
        ]
        decays, done = [m.config.weight_decay for m in members], [m.steps for m in members]
        samplers = [self._generator(m, "sampler") for m in members]
        denoising = [0.0 if m.phase.freeze_encoder else m.trial.model.denoising.weight for m in members]
        return EpochPlan(
            steps=steps,
            orders=torch.stack(
                [m.phase.sampler.draw(n, g, m.epoch / m.config.epochs) for m, g in zip(members, samplers, strict=True)]
            ),
            progress=progress,
            learning_rates=learning_rates,
            rates=rates_of(learning_rates, decays, done, self.rows),
            clip=torch.tensor([[m.config.gradient_clip] for m in members]).to(self.rows),
            samplers=samplers,
            # Frozen features are those of inference: no dropout, no input noise.
            noise=[None if m.phase.freeze_encoder else self._generator(m, "noise") for m in members],
            groups=self._loss_groups(),
            trained=frozenset(name for name in self.layout.names if any(m.trains(name) for m in members)),
            denoising_weight=torch.tensor(denoising).to(self.rows),
        )

    def run_steps(self, train: Resident, plan: EpochPlan) -> tuple[Tensor, Tensor]:
        """All steps of an epoch, without any synchronisation with the host.

        Returns the sums over the steps of each trial's losses (K, 1 + heads), the total first, and
        the first step whose loss was not finite (K,), the number of steps where all were.
        """
        k, device, batch = len(self.members), self.rows.device, self.members[0].config.batch_size
        total = torch.zeros(k, 1 + len(self.heads), device=device)
        bad_step = torch.full((k,), plan.steps, dtype=torch.int64, device=device)
        for step in range(plan.steps):
            index = plan.orders[:, step * batch : (step + 1) * batch]
            inputs, targets = self._batch(train, index, plan.samplers)
            draws = draw_all(self._draws_for(inputs), plan.noise, device)
            leaf = self.rows.detach().requires_grad_()
            with self.autocast:
                out = self.network.run(self.layout.stacked_parts(leaf, plan.trained), inputs, draws)
                losses = self._losses(plan, out, targets, step)
            (gradient,) = torch.autograd.grad(losses[:, 0].sum(), leaf)
            gradient.masked_fill_(self.frozen, 0)
            clip_(gradient, plan.clip)
            adamw_(self.rows, gradient, self.first, self.second, self.frozen, plan.rates[step])
            total += losses.detach()
            bad_step = torch.where(torch.isfinite(losses[:, 0]), bad_step, bad_step.clamp(max=step))
        return total, bad_step

    @torch.inference_mode()
    def confusions(self, val: Resident) -> list[dict[str, NDArray[np.int64]]]:
        """Confusion counts of every trial and head on a resident split, shape (classes, classes) each."""
        k, device = len(self.members), self.rows.device
        network = self.members[0].network
        classes = {head: network.classifier(head).weight.shape[0] for head in val.targets}
        counts = {head: torch.zeros(k, c, c, dtype=torch.int64, device=device) for head, c in classes.items()}
        parameters = self.layout.stacked_parts(self.rows, ())
        batch = max(1, EVALUATION_BATCH // k) if device.type == "cpu" else EVALUATION_BATCH
        for start in range(0, len(val), batch):
            inputs, targets = val.batch(torch.arange(start, min(start + batch, len(val)), device=device))
            with self.autocast:
                out = self.network.run(parameters, inputs)
            for head, target in targets.items():
                counts[head] = confusion_on_device(out[f"logits/{head}"], target, counts[head])
        host = {head: c.cpu().numpy() for head, c in counts.items()}
        return [{head: c[i] for head, c in host.items()} for i in range(k)]

    def _batch(
        self, train: Resident, index: Tensor, generators: Sequence[torch.Generator]
    ) -> tuple[Prepared, dict[str, Tensor]]:
        """The sequences at ``index`` (K, B), each trial's mixed by its own augmentation."""
        flat, flat_targets = train.batch(index.flatten())
        inputs = Prepared(*(x.unflatten(0, index.shape) for x in flat))
        targets = {head: t.unflatten(0, index.shape) for head, t in flat_targets.items()}
        for k, (m, generator) in enumerate(zip(self.members, generators, strict=True)):
            if m.phase.augment is not None:
                own = Prepared(*(x[k] for x in inputs)), {head: t[k] for head, t in targets.items()}
                mixture, drawn = mixed(m.phase.augment, *own, index[k], generator)
                inputs.values[k] = mixture.values
                for head, t in drawn.items():
                    targets[head][k] = t
        return inputs, targets

    def _loss_groups(self) -> list[LossGroup]:
        """The losses of all heads and trials, as few calls as there are different functions."""
        groups = []
        for head in self.heads:
            having = {k: m for k, m in enumerate(self.members) if head in m.phase.losses}
            groups += loss_groups(
                head,
                {k: m.phase.losses[head] for k, m in having.items()},
                {k: m.loss_state[head] for k, m in having.items()},
                {k: (m.epoch, m.config.epochs) for k, m in having.items()},
            )
        return groups

    def _losses(self, plan: EpochPlan, out: dict[str, Tensor], targets: dict[str, Tensor], step: int) -> Tensor:
        """Each trial's total loss and its heads' losses, (K, 1 + heads); 0 for a head without a loss."""
        logits = {head: Stacked(out[f"logits/{head}"]) for head in self.heads}
        target = {head: Stacked(targets[head]) for head in self.heads}
        features = Stacked(out["features"])
        values = [torch.zeros((), device=self.rows.device)] * (len(self.members) * len(self.heads))
        for group in plan.groups:
            progress = plan.progress[group.rows[0]][step]
            found = group(logits[group.head], target[group.head], features, progress)
            for k, value in zip(group.rows, found, strict=True):
                values[k * len(self.heads) + self.heads.index(group.head)] = value
        by_head = torch.stack(values).view(len(self.members), len(self.heads))
        total = by_head.sum(dim=1)
        if "reconstruction" in out:
            total = total + plan.denoising_weight * out["reconstruction"]
        return torch.cat([total[:, None], by_head], dim=1)

    def _draws_for(self, inputs: Prepared) -> tuple[Draw, ...]:
        """The random numbers of a step; an epoch has two sizes of batches at most."""
        size = inputs.values.shape[1]
        if size not in self._draws:
            with self.autocast:
                self._draws[size] = self.network.draws(Prepared(*(x[0] for x in inputs)))
        return self._draws[size]

    def _generator(self, member: Member, purpose: str) -> torch.Generator:
        seed = derive_seed(member.seed, purpose, member.epoch)
        return torch.Generator(device=self.rows.device).manual_seed(seed)
