"""A whole trial without MLflow gives what the grid's trial gives; files appear whole or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from grid_fixture import tiny_grid, tiny_mapping  # noqa: F401

from imbalance_lab.atomic import replacing, write_json
from imbalance_lab.engine import plan_for
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data
from imbalance_lab.predictions import read_parquet
from imbalance_lab.run.binding import set_threads
from imbalance_lab.run.trial import run_trial
from imbalance_lab.run.workspace import Workspace
from imbalance_lab.spec import TrialId, parse_experiment


def test_a_trial_without_mlflow_is_the_grids_trial(tiny_grid, tmp_path, monkeypatch):  # noqa: F811
    import mlflow

    monkeypatch.setitem(sys.modules, "mlflow", None)  # any import of it raises
    spec = parse_experiment(tiny_mapping(), where="tiny")
    data = load_data(spec.data)
    set_threads(plan_for(1, len(spec.trials())).threads)  # the grid's, which other tests of this process may change
    result = run_trial(spec, "logit-adjusted", 0, data=data, folder=tmp_path)
    workspace = Workspace(tmp_path)
    assert result.id == TrialId("logit-adjusted", 0)
    assert workspace.results() == {"logit-adjusted-s0": result}
    assert not workspace.checkpoint(result.id).exists()
    grids = Workspace(tiny_grid.work).trial(result.id)
    for split in ("val", "test"):
        own = read_parquet(result.predictions(split))
        other = read_parquet(grids / "predictions" / f"{split}.parquet")
        for head, table in own.heads.items():
            np.testing.assert_array_equal(table.probabilities, other.heads[head].probabilities)
    written = {str(p.relative_to(workspace.trial(result.id))) for p in workspace.trial(result.id).rglob("*.json")}
    assert {"error_analysis_report.json", "seen_classes.json", "tables/per_class.json"} <= written
    # What the grid's run holds lies no more in its local folder, but for what a comparison reads.
    kept = {str(p.relative_to(grids)) for p in grids.rglob("*") if p.is_file()}
    assert kept == {"error_analysis_report.json", "predictions/test.parquet", "predictions/val.parquet"}
    client = mlflow.MlflowClient(tracking_uri=tiny_grid.uri)
    run = client.get_run(tiny_grid.children["logit-adjusted"])
    stored = Path(run.info.artifact_uri.removeprefix("file://"))
    assert written <= {str(p.relative_to(stored)) for p in stored.rglob("*.json")}
    with pytest.raises(InputError, match="allowed are cross-entropy, logit-adjusted"):
        run_trial(spec, "nothing", 0, data=data, folder=tmp_path)
    with pytest.raises(InputError, match="seeds are integers from 0"):
        run_trial(spec, "cross-entropy", -1, data=data, folder=tmp_path)


def test_the_name_of_a_trial_has_its_fold_where_there_is_one():
    assert TrialId("a", 3).name == "a-s3"
    assert TrialId("a", 3, 1).name == "a-s3-f1"
    spec = parse_experiment({**tiny_mapping(), "seeds": [4, 2]}, where="tiny")
    assert [t.name for t in spec.trials()] == [
        "cross-entropy-s4", "cross-entropy-s2", "logit-adjusted-s4", "logit-adjusted-s2"
    ]  # fmt: skip


def test_a_block_that_raises_leaves_what_was_there(tmp_path):
    file, folder = tmp_path / "a.json", tmp_path / "b"
    write_json(file, {"a": 1})
    folder.mkdir()
    (folder / "old").touch()
    for path in (file, folder):
        with pytest.raises(OSError, match="disk full"):
            _break_off(path)
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b"]
    with replacing(folder) as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert [p.name for p in folder.iterdir()] == ["new"]


def _break_off(path: Path) -> None:
    """Write half of a folder, then fail."""
    with replacing(path) as partial:
        partial.mkdir()
        (partial / "half").touch()
        raise OSError("disk full")
