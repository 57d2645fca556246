"""A strategy for a training loop of your own: its loss, its sampler and its phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Sampler

from imbalance_lab.errors import InputError
from imbalance_lab.metrics.counts import confusion_counts
from imbalance_lab.predictions import primary_head
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.base import BoundStrategy, LossInputs, Phase, State
from imbalance_lab.strategies.bind import bind as bind_spec
from imbalance_lab.strategies.language.catalogue import catalogue, chosen_strategies
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.strategies.losses.masking import IGNORE
from imbalance_lab.training.collapse import PredictionSpread, prediction_spread

ONE_HEAD = "target"
"""Name of the head where targets are one array."""


def codes(values: ArrayLike, classes: Sequence[str], what: str) -> NDArray[np.int64]:
    """Labels of shape (N,) or (N, L) as int64 class ids; text by its name, IGNORE = -100 stays.

    Raises
    ------
    InputError
        If a label is no class, or labels are neither text nor integers.
    """
    array = np.asarray(values)
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuUO":
        raise InputError(
            f"{what}: found {array.dtype} of shape {array.shape}; allowed: integers or text of shape (N,) or (N, L)"
        )
    if array.dtype.kind in "UO":
        texts, inverse = np.unique(array.astype(str), return_inverse=True)
        place = {name: i for i, name in enumerate(classes)} | {str(IGNORE): IGNORE}
        unknown = [text for text in texts.tolist() if text not in place]
        if unknown:
            raise InputError(f"{what}: found {unknown[0]!r}; allowed: {', '.join(classes)}")
        array = np.array([place[text] for text in texts.tolist()], dtype=np.int64)[inverse].reshape(array.shape)
    array = array.astype(np.int64)
    wrong = (array != IGNORE) & ((array < 0) | (array >= len(classes)))
    if wrong.any():
        raise InputError(f"{what}: found class id {array[wrong][0]}; allowed: 0 to {len(classes) - 1}, or {IGNORE}")
    return array


class _Epoch(Sampler[int]):
    def __init__(
        self, bound: BoundStrategy, rows: int, progress: Callable[[], float], generator: torch.Generator
    ) -> None:
        self._bound, self._rows, self._progress, self._generator = bound, rows, progress, generator

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        progress = self._progress()
        return iter(self._bound.phase_at(progress).sampler.draw(self._rows, self._generator, progress).tolist())


class LoopStrategy:
    """A strategy bound to training targets; ``bound`` holds its phases, prior corrections and post-hoc steps."""

    def __init__(self, bound: BoundStrategy, rows: int, seed: int, feature_heads: frozenset[str]) -> None:
        self.bound = bound
        self._feature_heads = feature_heads
        self._rows = rows
        self._generator = torch.Generator().manual_seed(derive_seed(seed, "sampler"))
        self._states: dict[tuple[float, str], State] = {}

    def phase(self, progress: float) -> Phase:
        """The phase at ``progress``, the fraction of the training that is done, in [0, 1]."""
        return self.bound.phase_at(progress)

    def sampler(self, progress: float | Callable[[], float] = 0.0) -> Sampler[int]:
        """Row numbers of one epoch, as many as there are rows; for ``DataLoader(sampler=...)``.

        ``progress`` may be a function that is asked at the start of each epoch, for loops that keep their loader.
        """
        told = progress if callable(progress) else lambda: progress
        return _Epoch(self.bound, self._rows, told, self._generator)

    def loss(
        self,
        logits: Tensor | Mapping[str, Tensor],
        target: Tensor | Mapping[str, Tensor],
        *,
        progress: float = 0.0,
        features: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Mean loss over the scored positions, summed over the heads: a scalar.

        Parameters
        ----------
        logits : float tensor of shape (B, K) or (B, L, K), or one per head;
            of a cosine head (``bound.head_kinds``) the cosines
        target : int64 tensor of shape (B,) or (B, L), IGNORE = -100 where masked, or one per head
        progress : fraction of the training that is done; online losses count their steps per phase
        features : per head, the input (B, H) or (B, L, H) of its last layer; for losses that use it

        Raises
        ------
        InputError
            If the heads are not those that the strategy was bound to, or a loss needs features and has none.
        """
        outputs = {ONE_HEAD: logits} if isinstance(logits, Tensor) else dict(logits)
        targets = {ONE_HEAD: target} if isinstance(target, Tensor) else dict(target)
        phase = self.phase(progress)
        if set(outputs) != set(phase.losses) or set(targets) != set(phase.losses):
            raise InputError(f"loss: found heads {', '.join(outputs)}; allowed: {', '.join(phase.losses)}, all of them")
        lacking = sorted(self._feature_heads - set(features or {}))
        if lacking:
            raise InputError(f"loss: no features of {', '.join(lacking)}; the strategy's loss weighs by them")
        total = []
        for head, loss in phase.losses.items():
            z, y = outputs[head], targets[head]
            hidden = (features or {}).get(head, z)  # unused where the loss needs none
            if y.ndim == 1:
                z, y, hidden = z.unsqueeze(1), y.unsqueeze(1), hidden.unsqueeze(1)
            state = self._states.get((phase.start, head))
            state = loss.init_state(z.device) if state is None else state
            done = torch.tensor(progress, dtype=torch.float64, device=z.device)
            value, state = loss(LossInputs(z, y, hidden, done), state)
            self._states[phase.start, head] = {name: tensor.detach() for name, tensor in state.items()}
            total.append(value)
        return torch.stack(total).sum()


@overload
def collapse(
    outputs: Mapping[str, ArrayLike | Tensor], target: Mapping[str, ArrayLike | Tensor]
) -> dict[str, PredictionSpread]: ...


@overload
def collapse(outputs: ArrayLike | Tensor, target: ArrayLike | Tensor) -> PredictionSpread: ...


def collapse(outputs: Any, target: Any) -> PredictionSpread | dict[str, PredictionSpread]:
    """How many classes a model predicts, for a loop's validation: ``collapsed`` says that it is one of several.

    Parameters
    ----------
    outputs : logits or probabilities, shape (..., K), or a mapping of heads
    target : class ids of shape (...), IGNORE = -100 where masked; a mapping of the same heads where outputs are one

    Raises
    ------
    InputError
        If the heads differ, the shapes do not fit, or a class id is not below K.

    Examples
    --------
    >>> import torch
    >>> import imbalance_lab as il
    >>> il.collapse(torch.tensor([[2.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1])).collapsed
    True
    """
    if isinstance(outputs, Mapping) or isinstance(target, Mapping):
        heads = [sorted(part) if isinstance(part, Mapping) else "no mapping" for part in (outputs, target)]
        if heads[0] != heads[1]:
            raise InputError(
                f"collapse: found outputs of heads {heads[0]} and targets of {heads[1]}; allowed: the same"
            )
        return {head: collapse(outputs[head], target[head]) for head in outputs}
    z, y = (
        np.asarray(x.detach().float().cpu() if isinstance(x, Tensor) and x.is_floating_point() else _host(x))
        for x in (outputs, target)
    )
    if z.ndim < 1 or z.shape[:-1] != y.shape or y.dtype.kind not in "iu":
        raise InputError(
            f"collapse: found outputs {z.shape} and target {y.dtype} of shape {y.shape}; allowed: (..., K) and class "
            "ids (...)"
        )
    k = z.shape[-1]
    scored = y != IGNORE
    if ((y < 0) | (y >= k))[scored].any():
        raise InputError(f"collapse: found a class id outside 0 to {k - 1}; allowed: those, or {IGNORE}")
    return prediction_spread(confusion_counts(y[scored], z[scored].argmax(axis=-1), k))


def _host(values: Any) -> Any:
    return values.detach().cpu() if isinstance(values, Tensor) else values


def bind(
    strategy: str | Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    targets: ArrayLike | Mapping[str, ArrayLike],
    classes: Sequence[str] | Mapping[str, Sequence[str]],
    seed: int = 0,
) -> LoopStrategy:
    """Bind a strategy to the training targets of a loop of your own.

    Parameters
    ----------
    strategy : name of the catalogue (``"focal"``), or slots as in an experiment file (``{"loss": "focal"}``)
    options : of the catalogue's name
    targets : class ids or names, shape (N,) or (N, L), IGNORE = -100 where masked; or a mapping of heads
    classes : class names in the order of the logits; a mapping of heads where targets are one
    seed : of the sampler

    Raises
    ------
    InputError
        If the strategy, an option or a label is not allowed, or heads differ in their rows.

    Examples
    --------
    >>> import numpy as np, torch
    >>> import imbalance_lab as il
    >>> y = np.array([0] * 90 + [1] * 10)
    >>> strategy = il.bind("focal", {"gamma": 2}, targets=y, classes=("ok", "scrap"))
    >>> round(strategy.loss(torch.zeros(4, 2), torch.tensor([0, 1, 0, -100])).item(), 4)
    0.1733
    >>> len(list(strategy.sampler()))
    100
    """
    if isinstance(targets, Mapping) != isinstance(classes, Mapping):
        raise InputError("bind: targets and classes must both be mappings of heads, or neither")
    named = dict(classes) if isinstance(classes, Mapping) else {ONE_HEAD: classes}
    given = dict(targets) if isinstance(targets, Mapping) else {ONE_HEAD: targets}
    if set(named) != set(given) or not named:
        raise InputError(f"bind: found targets of {', '.join(given)}; allowed: {', '.join(named)}, all of them")
    coded = {head: codes(given[head], names, f"targets of {head!r}") for head, names in named.items()}
    lengths = {len(array) for array in coded.values()}
    if len(lengths) != 1:
        raise InputError(f"bind: heads have {sorted(lengths)} rows; all must have the same number")
    slots = strategy
    name = strategy if isinstance(strategy, str) else "strategy"
    if isinstance(slots, str):
        if slots not in (known := catalogue()) and not options:
            raise InputError(f"bind: unknown strategy {slots!r}; allowed: {', '.join(known)}, or slots")
        slots = chosen_strategies({slots: dict(options) if options else None}, {}, "bind")[slots]
    elif options:
        raise InputError("bind: options go with a name of the catalogue; slots hold their own")
    spec = parse_strategy(name, slots, where="bind")
    chosen = {head: [spec.slot("loss", head, phase) for phase in spec.phases] for head in named}
    needy = frozenset(h for h, losses in chosen.items() if any(c and c.options.needs_features for c in losses))
    bound = bind_spec(
        spec,
        heads={head: tuple(names) for head, names in named.items()},
        targets={head: array.reshape(len(array), -1) for head, array in coded.items()},
        primary=primary_head(named),
        seed=seed,
    )
    return LoopStrategy(bound, lengths.pop(), seed, needy)
