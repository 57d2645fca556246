"""``train``: one strategy with one seed, on one fold where there are folds, as a single run."""

from __future__ import annotations

import argparse

from imbalance_lab.run.terminal import quiet, say
from mlflow_project.commands.options import add_experiment, add_folds, experiment_of, integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``train``."""
    add_experiment(parser)
    parser.add_argument("--strategy", default="", help="name of a strategy of the experiment (default: its baseline)")
    parser.add_argument("--seed", default="", help="seed (default: the first of the experiment)")
    add_folds(parser)
    parser.add_argument("--fold", default="", help="which fold, from 0 (default: the first)")
    parser.add_argument("--epochs", default="", help="epochs of the training")
    parser.add_argument("--device", default="", help="auto, cpu, cuda or cuda:N")


def main(arguments: argparse.Namespace) -> int:
    """Audit, search, train, analyse, log; the strategy is the baseline and the seed the first one unless named."""
    quiet()
    spec, seed = experiment_of(arguments), integer(arguments.seed, "seed")
    from imbalance_lab.data.cache import save_loaded
    from imbalance_lab.engine import open_engine, plan_for
    from imbalance_lab.run.search import check_search, search_all
    from imbalance_lab.run.trial import Trial, checked_id
    from imbalance_lab.run.workspace import Workspace
    from imbalance_lab.training.precision import check_precision
    from imbalance_lab.training.training_config import resolve_gpus
    from mlflow_project import tracking
    from mlflow_project.grid import load_and_check, log_audit
    from mlflow_project.schema import log_spec, trial_tags
    from mlflow_project.trials import TrackedTrial, run_alone

    def say_line(text: str) -> None:
        if text:
            say(text)

    fold = integer(arguments.fold, "fold")
    one = checked_id(
        spec,
        arguments.strategy or spec.baseline,
        spec.seeds[0] if seed is None else seed,
        spec.folds[0] if fold is None else fold,
    )
    check_precision(spec.training)
    check_search(spec)
    plan = plan_for(1, 1, resolve_gpus(spec.training.device))
    loaded, said = load_and_check(spec, one.fold)
    store = tracking.open_store(spec.name)
    tags = {**trial_tags(one, spec.baseline, list(spec.strategies)), "experiment_name": spec.name}
    with tracking.run(store, one.name, tags) as logger:
        workspace = Workspace.of_run(logger.run_id)
        save_loaded(loaded, workspace.data_of(one.fold))
        log_spec(logger, spec)
        if spec.audit.budget != "off":
            log_audit(spec, loaded, logger, said)
        with open_engine(plan) as engine:
            search_all(spec, [one.strategy], workspace, engine, plan, say_line, [one.fold])
        trial = Trial(one, spec.to_mapping(), str(workspace.root), plan.threads)
        result = run_alone(TrackedTrial(trial, store, logger.run_id, logger.run_id))
    say(
        f"{one.name}: {spec.selected(loaded.dataset.heads)} {result.val_score:.3f} on validation, best epoch "
        f"{result.best_epoch} of {result.epochs}, {result.seconds:.0f} s"
    )
    say(tracking.open_line(store, logger.run_id))
    return 0
