"""One strategy with one seed as a run of its own."""

from __future__ import annotations

import yaml

from imbalance_lab.data.cache import save_loaded
from imbalance_lab.engine import open_engine, plan_for
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data
from imbalance_lab.spec import ExperimentSpec
from imbalance_lab.training.precision import check_precision
from imbalance_lab.training.training_config import resolve_gpus
from mlflow_project.grid import audit_first, check_spec_against_data, fail
from mlflow_project.task import TrialTask
from mlflow_project.terminal import say
from mlflow_project.tracking import WORK, open_line, open_store, start_parent
from mlflow_project.trial import run_trial
from mlflow_project.tuning import search_all


def train_one(spec: ExperimentSpec, strategy: str, seed: int | None) -> int:
    """Audit, train, analyse and log one trial; ``strategy`` "" is the baseline, ``seed`` None the first one.

    Raises
    ------
    InputError
        If the experiment has no such strategy.
    """
    strategy = strategy or spec.baseline
    seed = spec.seeds[0] if seed is None else seed
    if strategy not in spec.strategies:
        raise InputError(f"--strategy: found {strategy!r}; allowed are {', '.join(spec.strategies)}")
    if seed < 0:
        raise InputError(f"--seed: found {seed}; seeds are integers from 0")
    check_precision(spec.training)
    plan = plan_for(1, 1, resolve_gpus(spec.training.device))
    loaded = load_data(spec.data)
    said = check_spec_against_data(spec, loaded)
    store = open_store(spec.name)
    tags = {
        "role": "trial",
        "strategy": strategy,
        "seed": str(seed),
        "baseline": str(strategy == spec.baseline),
        "experiment_name": spec.name,
    }
    logger = start_parent(store, f"{strategy}-s{seed}", tags)
    work = WORK / logger.run_id
    try:
        save_loaded(loaded, work / "data")
        logger.text(yaml.safe_dump(spec.to_mapping(), sort_keys=False), "spec.yaml")
        audit_first(spec, loaded, logger, work, said)
        with open_engine(plan) as engine:
            search_all(spec, [strategy], work, engine, plan, lambda text: say(text) if text else None)
    except BaseException as error:
        fail(logger, error)
        raise
    task = TrialTask(
        spec.to_mapping(), strategy, seed, store, logger.run_id, str(work), plan.threads, run_id=logger.run_id
    )
    result = run_trial(task)
    say(
        f"{task.name}: {spec.selection.metric} {result.val_score:.3f} on validation, best epoch "
        f"{result.best_epoch} of {result.epochs}, {result.seconds:.0f} s"
    )
    say(open_line(store, logger.run_id))
    return 0
