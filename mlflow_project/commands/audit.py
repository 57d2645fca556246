"""``audit``: is it imbalance, or an artefact? The audit alone, nothing is trained."""

from __future__ import annotations

import argparse

from imbalance_lab.report.markdown import escaped
from imbalance_lab.run.terminal import quiet, say
from mlflow_project.commands.options import add_experiment, add_folds, experiment_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``audit``."""
    add_experiment(parser)
    add_folds(parser)


def main(arguments: argparse.Namespace) -> int:
    """Audit in a run with the tag ``role=audit``; 3 when a check failed and the experiment says ``on_fail: stop``."""
    import json

    from imbalance_lab.errors import AuditFailure

    quiet()
    spec = experiment_of(arguments)
    from imbalance_lab.run.workspace import Workspace
    from mlflow_project import tracking
    from mlflow_project.grid import load_and_check, log_audit
    from mlflow_project.schema import log_dataset, log_spec, log_times

    loaded, said = load_and_check(spec, spec.folds[0])
    if spec.audit.budget == "off":  # whoever asks for the audit gets it
        spec = spec.model_copy(update={"audit": spec.audit.model_copy(update={"budget": "full"})})
    store = tracking.open_store(spec.name)
    code = 0
    with tracking.run(store, f"{spec.name} audit", {"role": "audit", "experiment_name": spec.name}) as logger:
        logger.params({"spec.name": spec.name, "spec.data.source": spec.data.source})
        log_spec(logger, spec)
        log_dataset(logger, loaded, "audit")
        try:
            log_times(logger, log_audit(spec, loaded, logger, said))
        except AuditFailure:
            code, logger.status = 3, "FAILED"
        folder = Workspace.of_run(logger.run_id).audit
        logger.describe(escaped(json.loads((folder / "audit.json").read_text(encoding="utf-8"))["sentence"]))
    say(f"Read {folder / 'index.html'}. {tracking.open_line(store, logger.run_id)}")
    return code
