"""What a child run logs when its training has ended: scores, predictions, analyses, model, description."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imbalance_lab.learners.protocol import Learner
from imbalance_lab.metrics.calibration import fit_temperature
from imbalance_lab.metrics.counts import confusion_counts, metric_by_name
from imbalance_lab.names import inside, key
from imbalance_lab.predictions import HeadPredictions, Predictions, write_parquet
from imbalance_lab.spec import ExperimentSpec
from imbalance_lab.strategies.posthoc import apply_posthoc, fit_free_lunch, fit_posthoc
from imbalance_lab.training.fit import Epoch
from mlflow_project.course import course_of
from mlflow_project.interpreting import write_interpretation
from mlflow_project.models import example_of, log_model
from mlflow_project.run_artifacts import Origin, write_analysis
from mlflow_project.schema import class_metrics, head_metrics
from mlflow_project.tracking import RunLogger

if TYPE_CHECKING:
    from mlflow_project.task import TrialTask

_EXAMPLES = 2  # rows or windows of the model's input example


def log_outcome(
    logger: RunLogger,
    spec: ExperimentSpec,
    task: TrialTask,
    trial: Learner,
    epochs: list[Epoch],
    best: Epoch,
    seconds: float,
    collapsed: int | None,
) -> tuple[Path, dict[str, float]]:
    """Log everything after training; returns the local test predictions and the seconds of each part."""
    clock = Clock()
    folder = inside(Path(task.work) / "trials", task.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    metric = spec.selection.metric.rpartition("/")[2]
    main_head = spec.main_head(trial.loaded.dataset.heads)
    with clock("predict"):
        meta = {
            "experiment": spec.name,
            "strategy": task.strategy,
            "seed": task.seed,
            "run_id": logger.run_id,
            "primary_head": main_head,
            "prior_correction": dict(trial.strategy.prior_correction),
            "best_epoch": best.number,
        }
        val, test, posthoc = _predict(trial, meta, metric)
        for predictions in (val, test):
            write_parquet(predictions, folder / "predictions" / f"{predictions.meta['split']}.parquet")
    with clock("analyse"):
        course = None  # a classical fit has none
        if trial.has_course:
            course = course_of(epochs, main_head, spec.selection.metric, collapsed)
        summary = write_analysis(
            test,
            folder,
            origin=Origin(logger.run_id, spec),
            dataset=trial.loaded.dataset,
            course=course,
        )
    tags: dict[str, Any] = {"collapsed": str(collapsed is not None)}
    if spec.interpret.budget != "off":
        with clock("interpret"):
            tags["interpretation"] = write_interpretation(
                trial.predictor,
                trial.loaded,
                folder,
                spec.interpret.budget,
                task.seed,
                title=f"{task.name}: what it looks at",
            )
    with clock("model"):
        values = _final_metrics(test)
        model_id = _log_model(logger.run_id, folder, trial, posthoc, {"strategy": task.strategy})
    with clock("log"):
        logger.metrics(
            values
            | {
                "train/seconds": seconds,
                "train/epochs": len(epochs),
                "train/best_epoch": best.number,
                "train/steps_per_second": sum(e.steps for e in epochs) / max(seconds, 1e-9),
                f"val/{key(main_head)}/{metric}/selected": best.score,
            },
            step=best.number,
        )
        logger.flush()
        _attach_to_model(logger, model_id, values)
        classes_seen = {h: dict(zip(trial.loaded.dataset.heads[h], best.seen[h], strict=True)) for h in best.seen}
        (folder / "seen_classes.json").write_text(json.dumps(classes_seen, indent=1), encoding="utf-8")
        if collapsed is not None:
            tags["collapse_epoch"] = collapsed
        for head, steps in posthoc.items():
            if "tau-norm" in steps["steps"]:
                tags[f"tau_norm.{key(head)}"] = steps["steps"]["tau-norm"]["tau"]
        for head, tau in test.meta["free_lunch"].items():
            tags[f"free_lunch_tau.{key(head)}"] = tau
        logger.tags(tags)
        logger.folder(folder)
        logger.describe(_description(test, summary, collapsed, spec))
    logger.metrics({f"time/{name}": value for name, value in clock.seconds.items()}, step=best.number)
    return folder / "predictions" / "test.parquet", clock.seconds


class Clock:
    """Adds up how long each part takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block under ``name``."""
        begun = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


def _log_model(run_id: str, folder: Path, trial: Learner, posthoc: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    stored = folder / trial.folder_name
    trial.save(stored, posthoc)
    example = example_of(trial.loaded.dataset, trial.loaded.splits.train[:_EXAMPLES])
    return log_model(run_id, stored, example, dict(params))


def _predict(trial: Learner, meta: Mapping[str, Any], metric: str) -> tuple[Predictions, Predictions, dict[str, Any]]:
    """Validation first: everything that is fitted is fitted there; then test, once."""
    normalised = trial.after_training(metric)
    val = trial.predict("val", meta)
    posthoc = {h: fit_posthoc(steps, val.heads[h], metric) for h, steps in trial.strategy.posthoc.items()}
    # Recorded with the other steps; it is in the weights, and applying the steps leaves it alone.
    posthoc = {h: {**({"tau-norm": normalised[h]} if h in normalised else {}), **steps} for h, steps in posthoc.items()}
    val = _apply(val, posthoc)
    fitted: dict[str, Any] = {
        "free_lunch": {h: fit_free_lunch(p, metric) for h, p in val.heads.items()},
        "temperature": {h: _temperature(p) for h, p in val.heads.items() if len(p)},
        "posthoc": posthoc,
    }
    test = _apply(trial.predict("test", meta), posthoc)
    counts = {h: p.train_counts.tolist() for h, p in val.heads.items()}
    served = {h: {"steps": posthoc.get(h, {}), "train_counts": counts[h]} for h in val.heads}
    return (
        replace(val, meta={**val.meta, **fitted}),
        replace(test, meta={**test.meta, **fitted}),
        served,
    )


def _apply(predictions: Predictions, posthoc: Mapping[str, Any]) -> Predictions:
    heads = {h: apply_posthoc(posthoc[h], p) if posthoc.get(h) else p for h, p in predictions.heads.items()}
    return replace(predictions, heads=heads)


def _temperature(head: HeadPredictions) -> float:
    logs = np.log(np.maximum(head.probabilities.astype(np.float64), 1e-30))
    value = float(fit_temperature(logs, head.true))
    return value if np.isfinite(value) and value > 0 else 1.0


def _final_metrics(test: Predictions) -> dict[str, float]:
    values: dict[str, float] = {}
    control = test.free_lunch()
    for head, p in test.heads.items():
        k = len(p.classes)
        confusion = confusion_counts(p.true, p.pred, k)
        at = f"test/{key(head)}"
        values |= {f"{at}/{name}": v for name, v in head_metrics(confusion).items()}
        values |= {f"{at}/{name}": v for name, v in class_metrics(confusion, p.classes).items()}
        adjusted = confusion_counts(control.heads[head].true, control.heads[head].pred, k)
        values |= {f"{at}/free_lunch/{name}": v for name, v in head_metrics(adjusted).items()}
    return {name: v for name, v in values.items() if np.isfinite(v)}


def _attach_to_model(logger: RunLogger, model_id: str, values: Mapping[str, float]) -> None:
    """Final metrics once more with the model's id, so that the model's page shows them."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    run_id = logger.run_id
    metrics = [
        Metric(k, float(v), now, 0, model_id=model_id, run_id=run_id)
        for k, v in values.items()
        if k.startswith("test/") and "/free_lunch/" not in k  # the model is not corrected
    ]
    logger.client.log_batch(run_id, metrics=metrics)


def _description(test: Predictions, summary: str, collapsed: int | None, spec: ExperimentSpec) -> str:
    head = test.primary
    p = test.heads[head]
    confusion = confusion_counts(p.true, p.pred, len(p.classes))
    f1, balanced = (float(metric_by_name(m)(confusion)) for m in ("macro_f1", "balanced_accuracy"))
    n_groups = len(np.unique(p.group))
    first = (
        f"`{test.meta['strategy']}`, seed {test.meta['seed']}: macro F1 {f1:.3f} and balanced accuracy {balanced:.3f} "
        f"for `{head}` on {len(p):,} test positions of {n_groups} recordings."
    )
    if collapsed is not None:
        first += f" The model predicts a single class from epoch {collapsed} on."
    simulated = "" if spec.data.source != "simulated" else " Simulated recordings."
    return f"{first} {summary}{simulated}"
