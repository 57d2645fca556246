"""``promote``: register the model that a comparison chose."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalance_lab.atomic import read_json
from imbalance_lab.errors import InputError
from imbalance_lab.names import key
from imbalance_lab.report.markdown import code, escaped
from imbalance_lab.run.terminal import quiet, say
from mlflow_project.commands.options import alias, named

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

    from mlflow_project.tracking import RunLogger

CORRECTED = " + free lunch"
"""How a comparison names a strategy with its post-hoc logit adjustment."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``promote``."""
    parser.add_argument("--parent_run_id", default="", help="run of a grid or of a comparison")
    parser.add_argument("--strategy", default="", help="which to take when the verdict cannot tell, or against it")
    parser.add_argument("--model_name", default="", help="registered model (default: name of the experiment)")
    parser.add_argument("--alias", default="champion", help="alias of the new version (default champion)")


def main(arguments: argparse.Namespace) -> int:
    """Register; 2 when the verdict is "cannot distinguish" and no strategy is named."""
    model = named(arguments.model_name, "model_name") if arguments.model_name else ""
    if not arguments.parent_run_id:
        raise InputError("--parent_run_id: found nothing; expected the id of a grid or of a comparison")
    given = alias(arguments.alias or "champion", "alias")
    quiet()
    from mlflow_project.tracking import open_line

    with tempfile.TemporaryDirectory() as folder:
        done = promote(
            arguments.parent_run_id,
            strategy=arguments.strategy,
            model_name=model,
            alias=given,
            folder=Path(folder),
        )
    say(f"Registered {done.what} as version {done.version} of {done.name!r}; load it with models:/{done.name}@{given}")
    say(open_line(done.logger.store, done.logger.run_id))
    return 0


@dataclass(frozen=True)
class Candidate:
    """The run whose model is promoted; ``correct`` says to add the post-hoc correction that validation chose."""

    strategy: str
    seed: int
    run_id: str
    val_score: float
    correct: bool


@dataclass(frozen=True)
class Promoted:
    """What was registered; ``what`` names strategy, seed and fold."""

    logger: RunLogger
    name: str
    version: str
    what: str


def promote(parent_run_id: str, *, strategy: str, model_name: str, alias: str, folder: Path) -> Promoted:
    """Register the chosen strategy's model of the best validation seed; of its folds, the one with the median score.

    Parameters
    ----------
    parent_run_id : a grid or a comparison; its ``verdict.json`` and ``tables/runs.json`` are read
    strategy : which to take, ``<name> + free lunch`` for its corrected form; "" for the verdict's choice

    Raises
    ------
    InputError
        If the run is no comparison, the verdict is "cannot distinguish" and ``strategy`` is empty,
        the strategy was not compared, or its run logged no model.
    """
    from mlflow_project import runs as lookup
    from mlflow_project import tracking

    client = tracking.client_of_store()
    parent = lookup.get_run(client, parent_run_id, "parent_run_id")
    verdict, table = _evidence(client, parent, folder)
    candidate = choose_candidate(verdict, table, strategy)
    child = lookup.get_run(client, candidate.run_id, "parent_run_id")
    model_id, place = lookup.trained_model(client, child, folder / "logged")
    store = lookup.store_of(client, parent)
    name = model_name or f"{parent.data.tags.get('experiment_name') or store.experiment_name}"
    label = f"{candidate.strategy}{CORRECTED if candidate.correct else ''}"
    fold = {"fold": child.data.tags["fold"]} if "fold" in child.data.tags else {}
    tags = {"role": "promotion", "strategy": label, "seed": str(candidate.seed), **fold}
    tags |= {"promoted_run_id": child.info.run_id}
    what = ", ".join([label, f"seed {candidate.seed}", *(f"fold {number}" for number in fold.values())])
    with tracking.run(store, f"promotion of {label}", tags) as logger:
        if candidate.correct:
            model_id = corrected_model(logger, child, model_id, place, folder / "corrected")
        version = _register(name, model_id)
        text = describe(verdict, candidate, child, parent, told=bool(strategy))
        client.update_model_version(name, version.version, text)
        facts = {
            **tags,
            "parent_run_id": parent_run_id,
            "verdict": verdict["strategy"] or "cannot distinguish",
            "val_score": candidate.val_score,
            "digest": verdict["facts"].get("digest"),
        }
        for key, value in facts.items():
            client.set_model_version_tag(name, version.version, key, str(value))
        client.set_registered_model_alias(name, alias, version.version)
        logger.tags({tracking.NOTE: text, "model": f"{name}/{version.version}", "alias": alias})
        client.set_tag(parent_run_id, "promoted", f"{name}/{version.version} ({what})")
    return Promoted(logger, name, str(version.version), what)


def choose_candidate(verdict: Mapping[str, Any], table: list[dict[str, Any]], told: str) -> Candidate:
    """The run to promote: of the strategy chosen or told, the seed with the best validation score.

    Raises
    ------
    InputError
        See :func:`promote`.
    """
    names = list(dict.fromkeys(str(row["strategy"]) for row in table))
    correct = told.endswith(CORRECTED) if told else bool(verdict["use_free_lunch"])
    chosen = told.removesuffix(CORRECTED) if told else verdict["strategy"]
    if not chosen:
        raise InputError(
            f'the verdict is "cannot distinguish": {verdict["reason"].split(". ")[0]}. Say which to take with '
            f"--strategy, one of {', '.join(names)}, each also as '<name>{CORRECTED}'"
        )
    rows = [row for row in table if row["strategy"] == chosen]
    if not rows:
        words = (verdict["evidence"].get("stopped") or {}).get(chosen)
        gone = f", which a race stopped {words}" if words else ""
        raise InputError(f"--strategy: found {told!r}{gone}; the compared strategies are {', '.join(names)}")
    scored = [row for row in rows if row["val_score"] is not None and math.isfinite(row["val_score"])]
    if not scored:
        raise InputError(f"no run of {chosen!r} carries a validation score; a model is picked by validation alone")
    best = max(scored, key=lambda row: row["val_score"])
    return Candidate(chosen, int(best["seed"]), str(best["run_id"]), float(best["val_score"]), correct)


def corrected_model(logger: RunLogger, child: Run, model_id: str, source: Path, folder: Path) -> str:
    """Log the child's model with the logit adjustment that its validation split chose; the new model's id.

    ``source`` are its files; those of the new one are written to ``folder``.

    Raises
    ------
    InputError
        If the run does not know its correction.
    """
    from mlflow.models import Model

    from imbalance_lab.learners.all_learners import read_model
    from imbalance_lab.learners.stored import with_posthoc
    from mlflow_project.models import log_model

    prefix = "free_lunch_tau."
    taus = {k.removeprefix(prefix): float(v) for k, v in child.data.tags.items() if k.startswith(prefix)}
    if not taus:
        raise InputError(f"run {child.info.run_id!r} does not say which post-hoc correction validation chose")
    posthoc = dict(read_model(source).posthoc)
    for head, tau in taus.items():
        posthoc[head] = {**posthoc[head], "steps": with_adjustment(posthoc[head]["steps"], tau)}
    with_posthoc(source, folder, posthoc)
    example = Model.load(f"models:/{model_id}").load_input_example(f"models:/{model_id}")  # runs no code of the model
    logged, tags = log_model(logger, folder, example, {"promoted_run_id": child.info.run_id})
    logger.tags(tags)
    return logged


def with_adjustment(steps: Mapping[str, Any], tau: float) -> dict[str, Any]:
    """Post-hoc steps with a logit adjustment of ``tau`` behind them.

    Raises
    ------
    InputError
        If an adjustment is there already with another step behind it: the two do not add up then.
    """
    if "logit-adjust" not in steps:
        return {**steps, "logit-adjust": {"tau": tau}}
    if list(steps)[-1] != "logit-adjust":
        raise InputError("the strategy adjusts logits before another correction; a second adjustment does not apply")
    return {**steps, "logit-adjust": {"tau": float(steps["logit-adjust"]["tau"]) + tau}}


def describe(verdict: Mapping[str, Any], candidate: Candidate, child: Run, parent: Run, *, told: bool) -> str:
    """The description of the model version: what it is, the verdict, the evidence."""
    facts = verdict["facts"]
    head = facts.get("head")
    what = f"{code(candidate.strategy)}, seed {candidate.seed}"
    if candidate.correct:
        what += ", with post-hoc logit adjustment (tau chosen on validation)"
    lines = [
        f"{what}: the best of its seeds on validation ({candidate.val_score:.3f}).",
        *_of_a_fold(facts, child),
        "Taken because someone said so (--strategy), not by the verdict." if told else "Taken by the verdict.",
        "",
        f"**Verdict:** {escaped(verdict['reason'])}",
        "",
        f"Evidence: head {code(str(head))}, {facts.get('positions'):,} test positions of "
        f"{facts.get('recordings')} recordings, data digest `{facts.get('digest')}`, "
        f"baseline {code(str(facts.get('baseline')))}.",
    ]
    tested = {k: v for k, v in child.data.metrics.items() if k.startswith(f"test/{key(head)}/") and k.count("/") == 2}
    lines += [f"- {escaped(key)}: {value:.4f}" for key, value in sorted(tested.items())]
    lines += [f"- comparison: run `{parent.info.run_id}`; trained in run `{child.info.run_id}`"]
    return "\n".join(lines)


def _of_a_fold(facts: Mapping[str, Any], child: Run) -> list[str]:
    """Which model of a cross-validation it is, and what it has not seen."""
    if "fold" not in child.data.tags:
        return []
    return [
        f"**It is the model of fold {child.data.tags['fold']} of {facts['folds']}** (counted from 0), trained without "
        "the recordings that this fold tests: no model of a cross-validation has seen all of them. The verdict is of "
        "all folds, the scores below are of this one."
    ]


def _evidence(client: MlflowClient, parent: Run, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from mlflow_project import runs as lookup

    run_id = parent.info.run_id
    verdict = lookup.artifact(client, run_id, "verdict.json", folder / "parent")
    table = lookup.artifact(client, run_id, "tables/runs.json", folder / "parent")
    if verdict is None or table is None:
        grid = parent.data.tags.get("mlflow.parentRunId")
        raise InputError(
            f"--parent_run_id: run {run_id!r} holds no comparison (verdict.json, tables/runs.json)"
            f"{f'; its grid is run {grid!r}' if grid else ''}"
        )
    plain = read_json(table)
    try:
        rows = [dict(zip(plain["columns"], row, strict=True)) for row in plain["data"]]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"--parent_run_id: tables/runs.json of run {run_id!r} is no table of MLflow") from None
    return read_json(verdict), rows


def _register(name: str, model_id: str) -> ModelVersion:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return mlflow.register_model(f"models:/{model_id}", name)
    except MlflowException as error:
        raise InputError(f"--model_name: {name!r} cannot be registered ({str(error).splitlines()[0]})") from None
