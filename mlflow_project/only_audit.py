"""The audit as a run of its own."""

from __future__ import annotations

import json

import yaml

from imbalance_lab.errors import AuditFailure
from imbalance_lab.load import load_data
from imbalance_lab.spec import ExperimentSpec
from mlflow_project.auditing import log_audit
from mlflow_project.grid import check_spec_against_data, fail
from mlflow_project.schema import log_dataset
from mlflow_project.terminal import say
from mlflow_project.tracking import WORK, open_line, open_store, start_parent


def audit_experiment(spec: ExperimentSpec) -> int:
    """Audit the data of an experiment in a run with the tag ``role=audit``.

    Returns
    -------
    int
        0, or 3 when a check failed and the experiment says ``on_fail: stop``.
    """
    loaded = load_data(spec.data)
    said = check_spec_against_data(spec, loaded)
    if spec.audit.budget == "off":  # whoever asks for the audit gets it
        spec = spec.model_copy(update={"audit": spec.audit.model_copy(update={"budget": "full"})})
    store = open_store(spec.name)
    logger = start_parent(store, f"{spec.name} audit", {"role": "audit", "experiment_name": spec.name})
    work = WORK / logger.run_id
    code = 0
    try:
        logger.params({"spec.name": spec.name, "spec.data.source": spec.data.source})
        logger.text(yaml.safe_dump(spec.to_mapping(), sort_keys=False), "spec.yaml")
        log_dataset(logger, loaded, "audit")
        log_audit(spec, loaded, logger, work, said)
    except AuditFailure:
        code = 3
    except BaseException as error:
        fail(logger, error)
        raise
    found = json.loads((work / "audit" / "audit.json").read_text(encoding="utf-8"))
    logger.describe(found["sentence"])
    logger.finish("FINISHED" if code == 0 else "FAILED")
    say(f"Read {work / 'audit' / 'index.html'}. {open_line(store, logger.run_id)}")
    return code
