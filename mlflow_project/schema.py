"""What is logged to which run: parameters, metrics, tags, descriptions."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag

from imbalance_lab.comparison.comparing import Comparison
from imbalance_lab.comparison.racing import Stop
from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.formats import METRIC_WORDS
from imbalance_lab.names import key
from imbalance_lab.plots.style import strategy_colours
from imbalance_lab.report.markdown import code, escaped
from imbalance_lab.run.scores import control_metrics, prediction_metrics
from imbalance_lab.run.strategy_files import StrategyOutcome, StrategyTask
from imbalance_lab.run.trial import ReadyTrial, TrialOutcome
from imbalance_lab.run.workspace import TrialResult
from imbalance_lab.spec import ExperimentSpec, TrialId
from mlflow_project.models import example_of, log_model
from mlflow_project.tracking import NOTE, NOTE_LENGTH, RunLogger, experiment_path, run_address, run_path
from mlflow_project.views import view_path

if TYPE_CHECKING:
    from imbalance_lab.run.search import Tuning

TIMES = "time.json"
"""Artifact of a run: the seconds of its parts."""

STOPPED = "stopped"
"""Tag of the runs of a strategy that a race stopped: after what. Of the parent: which strategies."""

IMAGES = ("confusion",)
"""Figures of a trial that are logged as images too."""

_COLOUR = "mlflow.runColor"  # the page keeps a colour that somebody chose for a run in this tag
_EXAMPLES = 1  # rows or windows of the input example; MLflow writes it twice, a window of 64 x 79 in 260 kB


def trial_tags(trial: TrialId, baseline: str, strategies: Sequence[str]) -> dict[str, str]:
    """Tags of a trial's run; MLflow draws the trials of one of the experiment's ``strategies`` in one colour."""
    return {
        **strategy_tags(trial.strategy, baseline, strategies),
        "role": "trial",
        "seed": str(trial.seed),
        **({} if trial.fold is None else {"fold": str(trial.fold)}),
    }


def strategy_tags(strategy: str, baseline: str, strategies: Sequence[str]) -> dict[str, str]:
    """Tags of the run of a strategy over all its seeds and folds."""
    colour = strategy_colours(strategies, baseline)[strategy]
    own = {"strategy": strategy, "baseline": str(strategy == baseline)}
    return {"role": "strategy", **own, _COLOUR: colour}


def log_spec(logger: RunLogger, spec: ExperimentSpec) -> None:
    """The experiment as ``spec.yaml``."""
    logger.text(yaml.safe_dump(spec.to_mapping(), sort_keys=False), "spec.yaml")


def log_times(logger: RunLogger, seconds: Mapping[str, float]) -> None:
    """The seconds of a run's parts, an artifact: as metrics they would hide those that matter."""
    logger.text(json.dumps(dict(seconds), indent=1), TIMES)


def log_start(logger: RunLogger, ready: ReadyTrial) -> None:
    """Parameters, data set, spec, strategy notes and the values that a search chose, of a trial's run."""
    plain, trial, bound = ready.spec.to_mapping(), ready.trial.id, ready.learner.strategy
    logger.flush(
        params={
            "strategy": trial.strategy,
            "seed": trial.seed,
            **({} if trial.fold is None else {"fold": trial.fold}),
            "device": ready.device,
            "data.digest": ready.learner.loaded.dataset.digest,
            "spec.strategy": yaml.safe_dump(plain["strategies"][trial.strategy], default_flow_style=True).strip(),
            **{f"spec.model.{k}": v for k, v in ready.spec.model.described().items()},
            **{f"spec.training.{k}": v for k, v in plain["training"].items()},
            "spec.selection.metric": plain["selection"]["metric"],
            "spec.data.source": plain["data"]["source"],
        },
        # Zero, the usual value, is left out: every tag is one more entry of the page's menus.
        tags={f"prior_correction.{key(head)}": power for head, power in bound.prior_correction.items() if power},
    )
    log_spec(logger, ready.spec)
    logger.text(json.dumps(dict(bound.notes), indent=1, default=str), "strategy.json")
    log_dataset(logger, ready.learner.loaded, "training")
    if ready.tuning is not None:
        _log_tuning(logger, ready.tuning)


def log_outcome(logger: RunLogger, ready: ReadyTrial, outcome: TrialOutcome) -> TrialResult:
    """Log a trial that has ended; returns its result with the seconds that logging took too.

    A final metric is logged once, at step 0, those of the main head first; what the model scores is logged as the
    model's. The files of the model go to its logged model alone, and no longer lie in the trial's folder.
    """
    begun = time.perf_counter()
    training, test, loaded = outcome.training, outcome.predicted.test, ready.learner.loaded
    example = example_of(loaded.dataset, loaded.splits.train[:_EXAMPLES])
    model_id, of_model = log_model(logger, outcome.model, example, {"strategy": ready.trial.id.strategy})
    shutil.rmtree(outcome.model)
    modelled = time.perf_counter()
    data = dataset_of(loaded)
    logger.metrics(prediction_metrics(test), model_id=model_id, data=data)
    logger.metrics(control_metrics(test), data=data)  # the model is not corrected
    logger.metrics(
        {
            f"val/{key(ready.main_head)}/{ready.metric}/selected": training.best.score,
            "train/seconds": training.seconds,
            "train/epochs": len(training.epochs),
            "train/best_epoch": training.best.number,
            "train/steps_per_second": sum(e.steps for e in training.epochs) / max(training.seconds, 1e-9),
        }
    )
    note = _trial_note(outcome, bool(loaded.dataset.facts.get("simulated")))
    logger.folder(Path(outcome.result.folder), tags={**of_model, **_outcome_tags(outcome), NOTE: note})
    log_images(logger, Path(outcome.result.folder))
    phases = dict(outcome.result.phases)
    phases["model"] = phases.get("model", 0.0) + modelled - begun
    phases["log"] = time.perf_counter() - modelled
    log_times(logger, {"train": training.seconds, **phases})
    return replace(outcome.result, phases=phases)


def log_images(logger: RunLogger, folder: Path) -> None:
    """Figures of which MLflow's charts show those of several runs side by side."""
    from PIL import Image

    for name in IMAGES:
        file = folder / f"{name}.png"
        if file.is_file():
            with Image.open(file) as image, logger.store.writing():
                logger.client.log_image(logger.run_id, image.convert("RGB"), key=name, step=0)


def _outcome_tags(outcome: TrialOutcome) -> dict[str, Any]:
    collapsed = outcome.training.collapse_epoch
    tags: dict[str, Any] = {"collapsed": str(collapsed is not None)}
    if outcome.interpretation:
        tags["interpretation"] = outcome.interpretation
    if collapsed is not None:
        tags["collapse_epoch"] = collapsed
    meta = outcome.predicted.test.meta
    for head, steps in outcome.predicted.posthoc.items():
        if "tau-norm" in steps["steps"]:
            tags[f"tau_norm.{key(head)}"] = steps["steps"]["tau-norm"]["tau"]
    for head, tau in meta["free_lunch"].items():
        tags[f"free_lunch_tau.{key(head)}"] = tau
    return tags


def _trial_note(outcome: TrialOutcome, simulated: bool) -> str:
    trial, test = outcome.result.id, outcome.predicted.test
    head = test.primary
    p = test.heads[head]
    values = prediction_metrics(test)
    f1, balanced = (values[f"test/{key(head)}/{m}"] for m in ("macro_f1", "balanced_accuracy"))
    fold = "" if trial.fold is None else f", fold {trial.fold}"
    first = (
        f"{code(trial.strategy)}, seed {trial.seed}{fold}: macro F1 {f1:.3f} and balanced accuracy {balanced:.3f} "
        f"for {code(head)} on {len(p):,} test positions of {len(np.unique(p.group))} recordings."
    )
    if outcome.training.collapse_epoch is not None:
        first += f" The model predicts a single class from epoch {outcome.training.collapse_epoch} on."
    return " ".join(
        part for part in (first, escaped(outcome.verdict), "Simulated recordings." if simulated else "") if part
    )


def log_strategy(
    spec: ExperimentSpec, loaded: LoadedData, logger: RunLogger, task: StrategyTask, outcome: StrategyOutcome
) -> None:
    """Log the summary of a strategy over its folds and end its run."""
    seeds = ", ".join(map(str, outcome.seeds))
    logger.params({"strategy": task.strategy, "seed": seeds, "folds": outcome.folds, "data.digest": loaded.digest})
    log_spec(logger, spec)
    log_dataset(logger, loaded, "training")
    logger.metrics(outcome.metrics)
    folder = Path(task.folder)
    logger.folder(folder, tags={NOTE: _strategy_note(outcome, bool(loaded.dataset.facts.get("simulated")))})
    log_images(logger, folder)
    phases = [sum(t.phases.values()) for t in task.trials]
    log_times(logger, {"analysis": outcome.seconds, "training": outcome.metrics["train/seconds"], "rest": sum(phases)})
    logger.finish("FINISHED")


def log_stop(
    spec: ExperimentSpec, loaded: LoadedData, logger: RunLogger, stop: Stop, trials: Sequence[TrialResult]
) -> None:
    """Log a strategy that a race stopped and end its run, as KILLED.

    It has no test metric: what it has is of fewer recordings, and would stand beside those of the others.
    """
    seeds = ", ".join(map(str, sorted({trial.id.seed for trial in trials})))
    logger.params({"strategy": stop.strategy, "seed": seeds, "data.digest": loaded.digest})
    log_spec(logger, spec)
    log_dataset(logger, loaded, "training")
    names = {"difference": stop.difference, "low": stop.low, "high": stop.high}
    logger.metrics({f"race/{stop.metric}/{name}": value for name, value in names.items()})
    logger.metrics({"train/seconds": sum(trial.seconds for trial in trials)})
    note = f"{code(stop.strategy)} was {escaped(stop.sentence)}. It is not in the verdict on test."
    logger.tags({STOPPED: stop.round.words, NOTE: note})
    logger.finish("KILLED")


def _strategy_note(outcome: StrategyOutcome, simulated: bool) -> str:
    at = f"test/{key(outcome.head)}"
    f1, balanced = (outcome.metrics[f"{at}/{m}"] for m in ("macro_f1", "balanced_accuracy"))
    many = f"{len(outcome.seeds)} seed{'s' if len(outcome.seeds) > 1 else ''}"
    return (
        f"{code(outcome.strategy)} over {outcome.folds} folds and {many}: macro F1 {f1:.3f} and balanced accuracy "
        f"{balanced:.3f} for {code(outcome.head)} on {outcome.positions:,} positions of {outcome.recordings} "
        f"recordings, each tested once per seed. Pages and predictions are those of seed {outcome.seeds[0]}. "
        f"{escaped(outcome.verdict)}{' Simulated recordings.' if simulated else ''}"
    )


def dataset_of(loaded: LoadedData) -> Dataset:
    """The data set as MLflow keeps it: digest, shapes, class counts by split."""
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
    return Dataset(
        name=name[:500],
        digest=d.digest,
        source_type="local",
        source=json.dumps(source),
        schema=json.dumps(schema)[:60_000],
        profile=json.dumps(profile),
    )


def log_dataset(logger: RunLogger, loaded: LoadedData, context: str) -> None:
    """Log the data set as an input of the run."""
    tags = [InputTag("mlflow.data.context", context)]
    with logger.store.writing():
        logger.client.log_inputs(logger.run_id, [DatasetInput(dataset_of(loaded), tags)])


def _log_tuning(logger: RunLogger, tuning: Tuning) -> None:
    """Every value tried (``tuning.json``), and the chosen ones as parameters ``tuned.<path>``."""
    logger.text(json.dumps(tuning.to_mapping(), indent=1), "tuning.json")
    logger.params(
        {
            "tune.trials": len(tuning.tried),
            "tune.pruned": sum(t.score is None for t in tuning.tried),
            "tune.score": tuning.score,
            **{f"tuned.{key(path)}": value for path, value in tuning.chosen.items()},
        }
    )


def board_metrics(found: Comparison, head: str) -> dict[str, float]:
    """Leaderboard numbers as metrics of the parent: the chart view then shows them without configuration.

    Trained strategies only, and two numbers of each: a chart is drawn for every one. The table holds the rest.
    """
    values: dict[str, float] = {}
    board = found.leaderboard
    for row in board[board["kind"] == 0].to_dict("records"):
        for name in ("macro_f1", "balanced_accuracy"):
            value = row.get(name)
            if value is not None and _known(value):
                values[f"leaderboard/{key(head)}/{name}/{key(row['strategy'])}"] = value
    return values


@dataclass(frozen=True)
class Compared:
    """Which runs a comparison is of.

    Attributes
    ----------
    experiments : the experiment that each run lies in, by run id
    only : MLflow's filter of just these runs within their experiment; "": by their ids, where they are few
    failures : (trial, reason) of those that came to no end
    view : key of the view of MLflow's page that was prepared for them
    strategies : the run of each strategy over its folds, where there are such runs; links lead there
    """

    experiments: Mapping[str, str]
    only: str = ""
    failures: Sequence[tuple[str, str]] = ()
    simulated: bool = False
    view: str = ""
    strategies: Mapping[str, str] = field(default_factory=dict)

    def links(self, uri: str) -> dict[str, str]:
        """Address of each run in the store at ``uri``, by run id."""
        return {run_id: run_address(uri, lies_in, run_id) for run_id, lies_in in self.experiments.items()}


def log_comparison(logger: RunLogger, found: Comparison, folder: Path, compared: Compared, digest: str = "") -> None:
    """Log a comparison to the run that holds it: its files in ``folder``, the leaderboard, the description, tags.

    ``digest`` is that of the data, where they are one.
    """
    logger.metrics(board_metrics(found, str(found.facts["head"])))
    note = comparison_note(found, logger, compared)
    logger.folder(folder, tags={NOTE: note, "chosen": found.choice.chosen, **({"digest": digest} if digest else {})})


def comparison_note(found: Comparison, logger: RunLogger, compared: Compared) -> str:
    """The description of the run that holds a comparison: the verdict in plain words, links, the leaderboard.

    Returns
    -------
    Markdown of at most :data:`~mlflow_project.tracking.NOTE_LENGTH` characters. Where a long leaderboard does not
    fit, the links to the single runs go first, then the last rows.
    """
    headline, detail = escaped(found.choice.headline.rstrip(".")), escaped(found.choice.detail)
    failures = compared.failures
    lines = [
        _views(found, logger, compared),  # first: the page folds a description after a few lines
        "",
        f"{'**Simulated recordings.** ' if compared.simulated else ''}**{headline}.**",
        *(["", detail] if detail else []),
        "",
    ]
    tested = "test split, opened once per run"
    if "folds" in found.facts:
        tested = f"{found.facts['folds']} folds, the test recordings of each opened once per run"
    after = [f"\nHead {code(str(found.facts['head']))}, {tested}; everything was chosen on validation."]
    after += [f"- {escaped(name)} failed: {escaped(reason[:300])}" for name, reason in failures[:5]]
    if len(failures) > 5:
        after.append(f"- and {len(failures) - 5} more failed; their own descriptions say why")
    for linked in (True, False):
        text = "\n".join([*lines, *_board_rows(found, compared if linked else Compared({})), *after])
        if len(text) <= NOTE_LENGTH:
            return text
    rows, dropped = _board_rows(found, Compared({})), 0
    while len(text) > NOTE_LENGTH and len(rows) > 3:
        rows.pop()
        dropped += 1
        text = "\n".join([*lines, *rows, f"\nand {dropped} more rows in `tables/leaderboard.json`", *after])
    return text[:NOTE_LENGTH]


def _board_rows(found: Comparison, linked: Compared) -> list[str]:
    """The leaderboard as a Markdown table; strategies or seeds lead to those runs that ``linked`` knows."""
    experiments = linked.experiments
    metric = str(found.choice.evidence["metric"])  # the verdict beside it is about this one
    other = "balanced_accuracy" if metric != "balanced_accuracy" else "macro_f1"
    names = ("strategy", "seeds", METRIC_WORDS[metric], "95 % interval", METRIC_WORDS[other], "against the baseline")
    rows = [_row(names), "|---|---|---|---|---|---|"]
    words: dict[Any, str] = {1.0: "better", 0.0: "cannot distinguish", -1.0: "worse"}
    for row in found.leaderboard.to_dict("records"):
        verdict = words.get(row.get("verdict"), "")
        low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
        interval = f"{low:.3f} to {high:.3f}" if _known(low) else ""
        seeds = f"{row['seeds']:.0f}" if _known(row.get("seeds")) and row["seeds"] else ""
        runs = found.runs[found.runs["strategy"] == row["strategy"]]
        if row["strategy"] not in linked.strategies and experiments and len(runs):
            named = zip(runs["seed"], runs["run_id"].astype(str), strict=True)
            seeds = " ".join(f"[s{seed}]({run_path(experiments[run_id], run_id)})" for seed, run_id in named)
        name = _strategy_cell(row["strategy"], linked)
        rows.append(_row((name, seeds, f"{row[metric]:.3f}", interval, f"{row[other]:.3f}", verdict)))
    for row in found.stopped.to_dict("records"):
        stopped = f"stopped after {row['after']} of {row['of']}"
        rows.append(_row((_strategy_cell(row["strategy"], linked), "", "", "", "", stopped)))
    return rows


def _strategy_cell(strategy: str, linked: Compared) -> str:
    """The name of a strategy, which leads to its run over the folds where there is one."""
    run_id = linked.strategies.get(strategy)
    name = escaped(strategy)
    return name if run_id is None else f"[{name}]({run_path(linked.experiments[run_id], run_id)})"


def _row(cells: Sequence[str]) -> str:
    """A row of a Markdown table. MLflow sets the columns without a gap; an en space keeps their numbers apart."""
    return "| " + "&ensp;| ".join(cells) + " |"


def _views(found: Comparison, logger: RunLogger, compared: Compared) -> str:
    """One line of links: the page, and MLflow's own views of just these runs."""
    experiments, only = compared.experiments, compared.only
    views = [("The whole comparison", run_path(logger.store.experiment_id, logger.run_id, "comparison/index.html"))]
    if compared.view:
        views.append(("the prepared view", view_path(logger.store.experiment_id, compared.view)))
    ids = [*compared.strategies.values()] or [str(run_id) for run_id in found.runs["run_id"]]
    places = sorted(set(experiments.values()))
    few = len(ids) <= _MOST_LINKED
    if few and not only:
        only = f"attributes.run_id IN ({', '.join(map(repr, ids))})"
    if only and len(places) == 1:
        # Sorted by a metric the page lists the runs themselves; by time it would fold them under their parent.
        score = quote(f"metrics.`test/{key(str(found.facts['head']))}/{found.choice.evidence['metric']}`")
        these = f"&searchFilter={quote(only)}&orderByKey={score}&orderByAsc=false"
        views += [
            ("per class, side by side", experiment_path(places[0], f"&compareRunsMode=ARTIFACT{these}")),
            ("charts", experiment_path(places[0], f"&compareRunsMode=CHART{these}")),
        ]
    if few and len(ids) >= 2:
        both = f"runs={quote(json.dumps(ids))}&experiments={quote(json.dumps(places))}"
        views.append(("parameters and metrics", f"#/compare-runs?{both}&workflowType=machine_learning"))
    return "Look at: " + " · ".join(f"[{name}]({path})" for name, path in views)


_MOST_LINKED = 12  # runs whose ids an address holds, and that fit beside each other


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
