"""Names and contents of what is logged: the same key means the same number everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.metrics import counts as m
from imbalance_lab.names import key
from imbalance_lab.spec import ExperimentSpec
from imbalance_lab.strategies.base import BoundStrategy
from imbalance_lab.training.collapse import prediction_spread
from imbalance_lab.training.fit import Epoch
from mlflow_project.tracking import RunLogger

MAX_CLASSES_AS_METRICS = 12
HEAD_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "gmean")


def head_metrics(confusion: NDArray[Any]) -> dict[str, float]:
    """The metrics of one head from its confusion counts (K, K)."""
    return {name: float(m.metric_by_name(name)(confusion)) for name in HEAD_METRICS}


def class_metrics(confusion: NDArray[Any], classes: tuple[str, ...]) -> dict[str, float]:
    """``recall/<class>``, ``precision/<class>``, ``f1/<class>`` where the head has at most 12 classes."""
    if len(classes) > MAX_CLASSES_AS_METRICS:
        return {}
    values = {"recall": m.recall(confusion), "precision": m.precision(confusion), "f1": m.f1(confusion)}
    return {
        f"{name}/{key(c)}": float(v)
        for name, column in values.items()
        for c, v in zip(classes, column, strict=True)
        if np.isfinite(v)
    }


def epoch_metrics(epoch: Epoch, heads: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Metrics of one epoch: losses, validation scores, how many classes are still predicted."""
    values = {
        "train/loss": epoch.loss,
        "train/learning_rate": epoch.learning_rate,
        "train/epoch_seconds": epoch.seconds,
    }
    values |= {f"train/loss_{key(head)}": loss for head, loss in epoch.head_loss.items() if len(heads) > 1}
    for head, classes in heads.items():
        confusion = np.asarray(epoch.confusion[head])
        spread = prediction_spread(confusion)
        at = f"val/{key(head)}"
        values |= {f"{at}/{name}": v for name, v in head_metrics(confusion).items()}
        values[f"{at}/classes_predicted"] = spread.classes_predicted
        values[f"{at}/prediction_entropy"] = spread.entropy
        if len(classes) <= MAX_CLASSES_AS_METRICS:
            recall = m.recall(confusion)
            values |= {f"{at}/recall/{key(c)}": float(r) for c, r in zip(classes, recall, strict=True)}
    return {name: v for name, v in values.items() if np.isfinite(v)}


def log_start(
    logger: RunLogger,
    spec: ExperimentSpec,
    strategy: str,
    seed: int,
    loaded: LoadedData,
    bound: BoundStrategy,
    device: str,
) -> None:
    """Parameters, data set, spec and strategy notes of a child run."""
    import json

    plain = spec.to_mapping()
    flat = {
        "strategy": strategy,
        "seed": seed,
        "device": device,
        "data.digest": loaded.dataset.digest,
        "spec.strategy": yaml.safe_dump(plain["strategies"][strategy], default_flow_style=True).strip(),
        **{f"spec.model.{k}": v for k, v in plain["model"].items()},
        **{f"spec.training.{k}": v for k, v in plain["training"].items()},
        "spec.selection.metric": plain["selection"]["metric"],
        "spec.data.source": plain["data"]["source"],
    }
    logger.params(flat)
    # Zero, the usual value, is left out: every tag is one more entry of the page's menus.
    logger.tags({f"prior_correction.{key(head)}": power for head, power in bound.prior_correction.items() if power})
    logger.text(yaml.safe_dump(plain, sort_keys=False), "spec.yaml")
    logger.text(json.dumps(dict(bound.notes), indent=1, default=str), "strategy.json")
    log_dataset(logger, loaded, "training")


def log_dataset(logger: RunLogger, loaded: LoadedData, context: str) -> None:
    """Log the data set as an input of the run: digest, shapes, class counts by split."""
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag

    d = loaded.dataset
    place = str(d.facts.get("path", ""))
    name = (
        "simulated recordings" if d.facts.get("simulated") else Path(place).name or str(d.facts.get("source", "data"))
    )
    profile = {
        "sequences": len(d),
        "recordings": len(np.unique(d.groups)),
        **{f"{s}_sequences": len(i) for s, i in loaded.splits.items()},
    }
    schema = {"heads": {h: list(c) for h, c in d.heads.items()}, "channels": len(d.channels)}
    source = {"path": str(d.facts.get("path", "built in")), "simulated": bool(d.facts.get("simulated", False))}
    dataset = Dataset(
        name=name[:500],
        digest=d.digest,
        source_type="local",
        source=json.dumps(source),
        schema=json.dumps(schema)[:60_000],
        profile=json.dumps(profile),
    )
    tags = [InputTag("mlflow.data.context", context)]
    with logger.store.writing():
        logger.client.log_inputs(logger.run_id, [DatasetInput(dataset, tags)])
