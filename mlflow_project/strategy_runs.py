"""One run per strategy of a cross-validation: six strategies are six rows of MLflow's list, not 108."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from imbalance_lab.data.dataset import LoadedData
from imbalance_lab.engine import Engine, Failure, Plan, open_engine, plan_beside
from imbalance_lab.names import key
from imbalance_lab.run.strategy_files import StrategyOutcome, StrategyTask, summarise_strategy
from imbalance_lab.run.workspace import TrialResult, Workspace
from imbalance_lab.spec import ExperimentSpec
from mlflow_project.markdown import code, escaped
from mlflow_project.schema import log_dataset, log_images, log_spec, log_times, strategy_tags
from mlflow_project.tracking import RunLogger, children, start_child


def log_strategies(
    spec: ExperimentSpec,
    loaded: LoadedData,
    parent: RunLogger,
    results: Sequence[TrialResult],
    engine: Engine,
    plan: Plan,
) -> tuple[dict[str, str], list[str]]:
    """Summarise every strategy side by side and log each to a run of its own, a child of the parent.

    A grid that is taken up again writes to the runs that it has.

    Parameters
    ----------
    results : trials whose strategy and seed have all folds
    loaded : of the first fold

    Returns
    -------
    The run of each strategy, and a line for each that could not be summarised; its run is FAILED.
    """
    workspace = Workspace.of_run(parent.run_id)
    known = {
        run.data.tags["strategy"]: run.info.run_id
        for run in children(parent.store, parent.run_id)
        if run.data.tags.get("role") == "strategy"
    }
    by_strategy = {name: tuple(r for r in results if r.id.strategy == name) for name in spec.strategies}
    loggers = {name: _opened(spec, parent, name, known) for name, trials in by_strategy.items() if trials}
    plain = spec.to_mapping()
    tasks = [
        StrategyTask(
            name, by_strategy[name], plain, str(workspace.strategy(name).absolute()), logger.run_id, plan.threads
        )
        for name, logger in loggers.items()
    ]
    failed: list[str] = []
    done: dict[str, str] = {}
    try:
        # A device has nothing to do here: processes beside it analyse.
        with open_engine(plan_beside(plan)) if plan.devices else nullcontext(engine) as chosen:
            for ended in chosen.map(summarise_strategy, tasks):
                task = tasks[ended.index]
                if isinstance(ended.outcome, Failure):
                    loggers[task.strategy].fail(ended.outcome.reason)
                    failed.append(f"{task.strategy}: the analysis over all folds failed: {ended.outcome.reason}")
                else:
                    _log(spec, loaded, loggers[task.strategy], task, ended.outcome)
                    done[task.strategy] = task.run_id
    except BaseException as error:
        for name, logger in loggers.items():
            if name not in done:
                logger.fail(error)
        raise
    return {name: done[name] for name in loggers if name in done}, failed


def _opened(spec: ExperimentSpec, parent: RunLogger, strategy: str, known: Mapping[str, str]) -> RunLogger:
    if strategy in known:
        logger = RunLogger(parent.store, known[strategy])
        logger.client.update_run(logger.run_id, status="RUNNING")
        return logger
    return start_child(parent.store, parent.run_id, strategy, strategy_tags(strategy, spec.baseline))


def _log(
    spec: ExperimentSpec, loaded: LoadedData, logger: RunLogger, task: StrategyTask, outcome: StrategyOutcome
) -> None:
    seeds = ", ".join(map(str, outcome.seeds))
    logger.params({"strategy": task.strategy, "seed": seeds, "folds": outcome.folds, "data.digest": loaded.digest})
    log_spec(logger, spec)
    log_dataset(logger, loaded, "training")
    logger.metrics(outcome.metrics)
    folder = Path(task.folder)
    logger.folder(folder)
    log_images(logger, folder)
    logger.describe(_note(outcome, bool(loaded.dataset.facts.get("simulated"))))
    phases = [sum(t.phases.values()) for t in task.trials]
    log_times(logger, {"analysis": outcome.seconds, "training": outcome.metrics["train/seconds"], "rest": sum(phases)})
    logger.finish("FINISHED")


def _note(outcome: StrategyOutcome, simulated: bool) -> str:
    at = f"test/{key(outcome.head)}"
    f1, balanced = (outcome.metrics[f"{at}/{m}"] for m in ("macro_f1", "balanced_accuracy"))
    many = f"{len(outcome.seeds)} seed{'s' if len(outcome.seeds) > 1 else ''}"
    return (
        f"{code(outcome.strategy)} over {outcome.folds} folds and {many}: macro F1 {f1:.3f} and balanced accuracy "
        f"{balanced:.3f} for {code(outcome.head)} on {outcome.positions:,} positions of "
        f"{outcome.recordings} recordings, each tested once per seed. Pages and "
        f"predictions are those of seed {outcome.seeds[0]}. "
        f"{escaped(outcome.verdict)}{' Simulated recordings.' if simulated else ''}"
    )
