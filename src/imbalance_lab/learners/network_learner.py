"""A network as a learner: build, train, predict, save, read back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from imbalance_lab.data import preprocessing
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.data.files import check_archive
from imbalance_lab.errors import InputError
from imbalance_lab.learners.stored import StoredModel, write_about
from imbalance_lab.models.build import Blueprint, build_network, make_blueprint, rebuild_network
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.models.network import Network
from imbalance_lab.models.own_network import OwnNetwork, missing_methods, probe
from imbalance_lab.predictions import Predictions
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.strategies.classifier_heads import fit_tau_norm
from imbalance_lab.strategies.language.slots import StrategySpec
from imbalance_lab.training.feature_phase import head_features
from imbalance_lab.training.fit import Epoch, Selection, fit_steps
from imbalance_lab.training.predict import to_predictions
from imbalance_lab.training.resident import make_resident
from imbalance_lab.training.training_config import TrainingConfig, resolve_device
from imbalance_lab.training.validating import predict_scores

NETWORK = "network"
"""Name of the folder of a stored network."""
_WEIGHTS = "weights.pt"
_CODE = "code"
PROBED = 2
"""Training rows that a team's own network is tried on before it is trained."""
MAX_TAU_ROWS = 200_000
"""Validation positions of a head that the exponent of tau-normalisation is chosen on."""


@dataclass(frozen=True)
class NetworkLearner:
    """A network that is ready to be trained on a data set with a strategy."""

    loaded: LoadedData
    strategy: BoundStrategy
    model: ModelConfig
    training: TrainingConfig
    seed: int
    network: Network
    blueprint: Blueprint
    device: str

    folder_name: ClassVar[str] = NETWORK
    has_course: ClassVar[bool] = True
    uses_device: ClassVar[bool] = True

    @property
    def predictor(self) -> Network:
        """See :class:`~imbalance_lab.learners.protocol.Learner`."""
        return self.network

    def train(self, selection: Selection, checkpoint: Path | None = None, fingerprint: str = "") -> Iterator[Epoch]:
        """Train; see :func:`imbalance_lab.training.fit.fit_steps`."""
        return (e for e in self.steps(selection, checkpoint, fingerprint) if e is not None)

    def steps(
        self, selection: Selection, checkpoint: Path | None = None, fingerprint: str = "", graphs: bool = True
    ) -> Iterator[Epoch | None]:
        """Train beside others in one thread; see :func:`imbalance_lab.training.fit.fit_steps`."""
        device = torch.device(self.device)
        splits = self.loaded.splits
        if graphs and device.type == "cuda" and not self.network.capturable:
            logging.getLogger(__name__).warning(
                "the network of %r may ask the host for something in a step: its steps are launched kernel by kernel, "
                "not as a CUDA graph",
                self.model.factory,
            )
            graphs = False
        yield from fit_steps(
            self.network,
            make_resident(self.network, self.loaded.dataset, splits.train, device),
            make_resident(self.network, self.loaded.dataset, splits.val, device),
            self.strategy,
            self.training,
            selection,
            seed=self.seed,
            denoising_weight=self.model.denoising.weight,
            checkpoint=checkpoint,
            fingerprint=fingerprint,
            graphs=graphs,
        )

    def after_training(self, metric: str) -> dict[str, dict[str, float]]:
        """Tau-normalise the classifiers of heads that ask for it; call once, when the training has ended.

        The exponent is the given one, or the one with the best ``metric`` on validation. It goes into
        ``class_scale``, so that the saved weights serve the same scores. Returns ``{head: {"tau": t}}``.
        """
        asked = {h: steps["tau-norm"] for h, steps in self.strategy.posthoc.items() if "tau-norm" in steps}
        if not asked:
            return {}
        device = torch.device(self.device)
        val = make_resident(self.network, self.loaded.dataset, self.loaded.splits.val, device)
        features = head_features(self.network, val, MAX_TAU_ROWS)
        return {
            h: {"tau": _tau_normalise(self.network, h, options, features[h], metric)} for h, options in asked.items()
        }

    def predict(self, split: str, meta: Mapping[str, Any]) -> Predictions:
        """The predictions table of one split (``val``, ``test`` or ``train``)."""
        index = getattr(self.loaded.splits, split)
        device = torch.device(self.device)
        data = make_resident(self.network, self.loaded.dataset, index, device)
        scores = predict_scores(self.network, data)
        return to_predictions(self.loaded.dataset, self.loaded.splits, index, scores, {"split": split, **meta})

    def save(self, folder: Path, posthoc: Mapping[str, Any]) -> None:
        """See :func:`write_network`."""
        write_network(folder, self.network, self.blueprint, posthoc)


def _tau_normalise(
    network: Network, head: str, options: Mapping[str, Any], val: tuple[NDArray[Any], NDArray[Any]], metric: str
) -> float:
    """Divide the class vectors of ``head`` by the tau-th power of their length, in place; returns tau."""
    classifier = network.classifier(head)
    features, true = val
    with torch.no_grad():
        vectors: torch.Tensor = classifier.weight.detach()
        if classifier.kind == "cosine":
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        vectors = vectors * classifier.class_scale[:, None]
        bias = None if classifier.bias is None else classifier.bias.cpu().numpy()
        tau = options.get("tau", "auto")
        if tau == "auto":
            tau = fit_tau_norm(features, true, vectors.cpu().numpy(), bias, metric) if len(true) else 0.0
        length = vectors.norm(dim=1)
        classifier.class_scale /= torch.where(length > 0, length, 1.0) ** float(tau)
    return float(tau)


def prepare_network(
    loaded: LoadedData, strategy: BoundStrategy, model: ModelConfig, training: TrainingConfig, seed: int
) -> NetworkLearner:
    """Fit the scaling on train (on everything for the legacy encoding) and build the network on its device."""
    dataset, splits = loaded.dataset, loaded.splits
    fit_on = splits.train if loaded.scaler_fitted_on == "train" else np.arange(len(dataset))
    scaling = preprocessing.fit(dataset, fit_on, on=loaded.scaler_fitted_on)
    blueprint = make_blueprint(dataset, model, strategy.head_kinds, strategy.head_scales)
    network = build_network(blueprint, scaling.mean, scaling.std, dataset, splits.train, seed)
    if isinstance(network, OwnNetwork):
        assert model.factory is not None
        rows = splits.train[:PROBED]
        parts = (torch.from_numpy(x[rows]) for x in (dataset.continuous, dataset.categorical))
        probe(network, network.prepare(*parts), model.factory)
    device = resolve_device(training.device)
    return NetworkLearner(loaded, strategy, model, training, seed, network.to(device), blueprint, device)


def check_methods(model: ModelConfig, network: Network, strategy: StrategySpec, bound: BoundStrategy) -> None:
    """Refuse a strategy that works on features or on the last layer of a team's module that does not show them.

    Raises
    ------
    InputError
        Naming strategy, key and the methods that are missing.
    """
    if not isinstance(network, OwnNetwork):
        return
    lacking = missing_methods(network.module)
    need = _needs_methods(strategy, bound)
    if need and lacking:
        raise InputError(
            f"strategy {strategy.name!r}, key {need}: needs the features and the last layer of the network, but the "
            f"module of {model.factory!r} has no method {' and no method '.join(lacking)}"
        )


def _needs_methods(strategy: StrategySpec, bound: BoundStrategy) -> str:
    """The key of a strategy that needs features or the last layer, "" where none does."""
    for head in bound.head_kinds:
        for phase in strategy.phases:
            loss = strategy.slot("loss", head, phase)
            if loss is not None and (loss.options.needs_features or loss.options.cosine_scale is not None):
                return f"loss.{loss.name}"
        if bound.head_kinds[head] == "cosine":
            return "head.cosine"
        if "tau-norm" in bound.posthoc.get(head, {}):
            return "posthoc.tau-norm"
    if any(p.freeze_encoder or p.reset_heads or p.head_mode == "scale" or p.resample for p in bound.phases):
        return "schedule" if strategy.schedule is None else f"schedule.{strategy.schedule.name}"
    return ""


def write_network(folder: Path, network: Network, blueprint: Blueprint, posthoc: Mapping[str, Any]) -> None:
    """Weights (tensors only), ``about.json`` (blueprint, post-hoc steps) and the code of a team's own network."""
    plain = blueprint.to_mapping()
    sources = plain["config"].pop("sources", {})
    write_about(folder, {"blueprint": plain, "posthoc": dict(posthoc)})
    for name, text in sources.items():
        file = folder / _CODE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    torch.save({name: t.detach().cpu() for name, t in network.state_dict().items()}, folder / _WEIGHTS)


def read_network(folder: Path, about: Mapping[str, Any]) -> StoredModel:
    """The inverse of :func:`write_network`."""
    plain = about["blueprint"]
    if (folder / _CODE).is_dir():
        files = sorted((folder / _CODE).rglob("*.py"))
        sources = {f.relative_to(folder / _CODE).as_posix(): f.read_text(encoding="utf-8") for f in files}
        plain = {**plain, "config": {**plain["config"], "sources": sources}}
    blueprint = Blueprint.from_mapping(plain)
    check_archive(folder / _WEIGHTS)
    state = torch.load(folder / _WEIGHTS, map_location="cpu", weights_only=True)
    layout = blueprint.layout
    network = rebuild_network(blueprint, state)
    heads = dict(blueprint.heads)
    return StoredModel(network, blueprint.coding, layout.steps, layout.target_length, heads, about["posthoc"])
