"""A network of the team's own behind what training, interpretation and serving ask of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from imbalance_lab.errors import InputError
from imbalance_lab.models.factory_code import KEY, call_factory, packages_of, told
from imbalance_lab.models.heads import Classifier
from imbalance_lab.models.inputs import Prepared
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.models.model_facts import ModelFacts
from imbalance_lab.models.network import HeadKinds, HeadScales, Network, NetworkOutput

METHODS = ("features", "last_layer")
"""Optional methods of a team's module: ``features(continuous, categorical)`` (B, L, H), the input of the last layers,
and ``last_layer(head)``, the ``nn.Linear`` that makes a head's logits of them. They go together."""


class OwnNetwork(Network):
    """A team's ``nn.Module``: scaled values (B, T, C) float32 and codes (B, T, K) int64 to logits (B, L, K) by head.

    A missing value is 0, the mean of train. Where the module has both methods of :data:`METHODS` its last layers are
    taken over: the classifiers here hold their parameters, so that they can be frozen, drawn afresh, scaled, or read as
    cosines. Without them ``classifiers`` is empty.

    Its steps are not captured as a CUDA graph: code of one's own may ask the host for something in each step.
    """

    capturable: ClassVar[bool] = False

    def __init__(
        self,
        module: nn.Module,
        facts: ModelFacts,
        head_kinds: HeadKinds,
        head_scales: HeadScales,
        mean: Tensor,
        std: Tensor,
        packages: tuple[str, ...] = (),
    ) -> None:
        super().__init__(facts.classes, mean, std)
        self.facts = facts
        self.packages = packages
        self.decoder = None
        self.has_features = not missing_methods(module)
        fixed = {id(p) for p in module.parameters() if not p.requires_grad}
        # Before the module: a parameter that two modules hold goes by the name of the first.
        self.classifiers = nn.ModuleList(
            _taken_over(module, head, n, head_kinds[head], head_scales.get(head, 1.0))
            for head, n in (facts.classes.items() if self.has_features else ())
        )
        self.module = module
        self.fixed_parameters = frozenset(name for name, p in self.named_parameters() if id(p) in fixed)

    def run(self, inputs: Prepared, *, attention: bool = False, head_mask: Tensor | None = None) -> NetworkOutput:
        """Forward pass from prepared inputs; ``attention`` and ``head_mask`` have nothing to act on."""
        if self.has_features:
            features = self.module.features(inputs.values, inputs.categorical)  # type: ignore[operator]
            heads = zip(self.head_names, self.classifiers, strict=True)
            return NetworkOutput({head: classifier(features) for head, classifier in heads}, features, None, None)
        logits = self.module(inputs.values, inputs.categorical)
        none = inputs.values.new_zeros(len(inputs.values), self.facts.target_length, 0)
        return NetworkOutput({head: logits[head] for head in self.head_names}, none, None, None)

    @property
    def per_step(self) -> bool:
        """Whether there is one position for each step; that it is read off it is taken for granted."""
        return self.facts.steps == self.facts.target_length

    def output_scale(self, head: str) -> float:
        """1 but for cosines."""
        return self.classifier(head).output_scale if self.has_features else 1.0


def missing_methods(module: nn.Module) -> tuple[str, ...]:
    """Those of :data:`METHODS` that a module lacks."""
    return tuple(name for name in METHODS if not callable(getattr(module, name, None)))


def make_own(
    config: ModelConfig, facts: ModelFacts, head_kinds: HeadKinds, head_scales: HeadScales, mean: Tensor, std: Tensor
) -> OwnNetwork:
    """The network that the factory of ``config`` builds; weights come from PyTorch's generator.

    Raises
    ------
    InputError
        See :func:`~imbalance_lab.models.factory_code.call_factory`; if what it returns is no ``nn.Module`` or has no
        parameter to train, or a last layer is no ``nn.Linear`` of the head's classes.
    """
    assert config.factory is not None
    made = call_factory(config.factory, config.sources, facts, dict(config.options))
    if not isinstance(made, nn.Module):
        raise InputError(f"{KEY}: {config.factory!r} returned {type(made).__name__}, expected a torch.nn.Module")
    if not any(p.requires_grad for p in made.parameters()):
        raise InputError(f"{KEY}: the module of {config.factory!r} has no parameter that can be trained")
    packages = packages_of(config.factory, config.sources)
    return OwnNetwork(made, facts, head_kinds, head_scales, mean, std, packages)


def probe(network: OwnNetwork, inputs: Prepared, factory: str) -> None:
    """Run a module once on a few rows, forward and backward; its weights, buffers and mode are left as they were.

    Raises
    ------
    InputError
        If it raises, a head is missing or unknown, a shape is wrong, a number is not finite, no gradient reaches a
        parameter, or ``forward`` gives something else than the last layers make of ``features``.
    """
    facts, training = network.facts, network.training
    kept = {name: t.detach().clone() for name, t in network.state_dict().items()}
    devices = [inputs.values.device] if inputs.values.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            logits = _checked(_called(network.module, inputs, factory, "forward"), facts, len(inputs.values), factory)
            if network.has_features:
                _check_features(network, inputs, factory)
            network.train()
            found = network.run(inputs).logits
            loss = sum(z.float().square().mean() for z in found.values())
            if not isinstance(loss, Tensor) or not loss.requires_grad:
                raise InputError(f"{KEY}: the logits of {factory!r} have no gradient; it must not detach them")
            loss.backward()
            grads = [p.grad for p in network.parameters() if p.grad is not None]
            for what, values in (("logits", [*found.values()]), ("gradients", grads)):
                if not all(bool(torch.isfinite(x).all()) for x in values):
                    raise InputError(
                        f"{KEY}: in training mode {factory!r} gives {what} that are NaN or infinite on the first rows "
                        "of train"
                    )
            if not any(bool((g != 0).any()) for g in grads) and any(bool((z != 0).any()) for z in logits.values()):
                raise InputError(f"{KEY}: no gradient of the logits of {factory!r} reaches a parameter")
    finally:
        network.zero_grad(set_to_none=True)
        network.load_state_dict(kept)
        network.train(training)


def _called(module: nn.Module, inputs: Prepared, factory: str, what: str) -> Any:
    call = module if what == "forward" else getattr(module, what)
    module.eval()
    with torch.no_grad():
        try:
            return call(inputs.values, inputs.categorical)
        except Exception as error:
            shape = f"{tuple(inputs.values.shape)} and {tuple(inputs.categorical.shape)}"
            raise InputError(f"{KEY}: {what} of {factory!r} raised on inputs {shape}: {told(error)}") from error


def _checked(found: Any, facts: ModelFacts, rows: int, factory: str) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise InputError(f"{KEY}: {factory!r} gives {type(found).__name__}, expected a mapping of head to logits")
    allowed = ", ".join(facts.classes)
    for head in found:
        if head not in facts.classes:
            raise InputError(f"{KEY}: {factory!r} gives logits of an unknown head {head!r}; the data have {allowed}")
    for head, k in facts.classes.items():
        if head not in found:
            raise InputError(f"{KEY}: {factory!r} gives no logits of head {head!r}; the data have {allowed}")
        _check_array(
            found[head], (rows, facts.target_length, k), f"logits of head {head!r}", "(B, L, classes)", factory
        )
    return dict(found)


def _check_array(found: Any, shape: tuple[int, ...], what: str, letters: str, factory: str) -> None:
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = str(found.dtype) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{KEY}: {factory!r} gives {what} as {kind}, expected a tensor of floats")
    if tuple(found.shape) != shape:
        raise InputError(f"{KEY}: {factory!r} gives {what} of shape {tuple(found.shape)}, expected {letters} = {shape}")
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"{KEY}: {factory!r} gives {what} that are NaN or infinite on the first rows of train")


def _check_features(network: OwnNetwork, inputs: Prepared, factory: str) -> None:
    """The features have the width of the last layers, which make of them what ``forward`` gives."""
    facts, module = network.facts, network.module
    features = _called(module, inputs, factory, "features")
    logits = _called(module, inputs, factory, "forward")
    for head in facts.classes:
        layer = module.last_layer(head)  # type: ignore[operator]
        _check_array(
            features, (len(inputs.values), facts.target_length, layer.in_features), "features", "(B, L, H)", factory
        )
        with torch.no_grad():
            same = torch.allclose(layer(features).float(), logits[head].float(), rtol=1e-3, atol=1e-4)
        if not same:
            raise InputError(
                f"{KEY}: forward of {factory!r} gives other logits of head {head!r} than last_layer({head!r}) makes of "
                "features; they must be the same"
            )


def _taken_over(module: nn.Module, head: str, classes: int, kind: Any, scale: float) -> Classifier:
    """A classifier that holds the parameters of the module's last layer."""
    try:
        layer = module.last_layer(head)  # type: ignore[operator]
    except Exception as error:
        raise InputError(f"{KEY}: last_layer({head!r}) raised {told(error)}") from error
    if not isinstance(layer, nn.Linear) or layer.out_features != classes:
        raise InputError(f"{KEY}: last_layer({head!r}) returned {layer}, expected a nn.Linear with {classes} outputs")
    made = Classifier(layer.in_features, classes, kind, scale)
    made.weight = cast(nn.Parameter, layer.weight)
    if kind == "linear":
        made.bias = layer.bias
    return made
