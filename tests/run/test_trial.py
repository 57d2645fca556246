"""A whole trial without MLflow gives what the grid's trial gives; files appear whole or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from grid_fixture import tiny_grid, tiny_mapping  # noqa: F401

from imbalance_lab.atomic import replacing, write_json
from imbalance_lab.data.cache import load_cached
from imbalance_lab.engine import plan_for
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data
from imbalance_lab.predictions import read_parquet
from imbalance_lab.run.binding import set_threads
from imbalance_lab.run.comparison_files import whole_trials
from imbalance_lab.run.fold_data import kept_data
from imbalance_lab.run.trial import run_trial
from imbalance_lab.run.workspace import TrialResult, Workspace
from imbalance_lab.spec import ExperimentSpec, TrialId, parse_experiment
from imbalance_lab.training.checkpoint import save_checkpoint


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
    logged = {name for name in written if not name.startswith("network/")}  # which lies in the logged model
    assert logged <= {str(p.relative_to(stored)) for p in stored.rglob("*.json")}
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


def in_folds(folds: int, **changed: object) -> ExperimentSpec:
    return parse_experiment({**tiny_mapping(), **changed}, where="tiny", overrides={"folds": folds})


def test_folds_replace_the_way_to_split_and_keep_its_seed():
    spec = in_folds(3, seeds=[4, 2])
    assert spec.data.split.folds == 3
    assert spec.data.split.drawn is False
    assert [t.name for t in spec.trials()[:4]] == [
        "cross-entropy-s4-f0", "cross-entropy-s4-f1", "cross-entropy-s4-f2", "cross-entropy-s2-f0"
    ]  # fmt: skip
    assert len(spec.trials()) == 12
    assert parse_experiment(spec.to_mapping(), where="again") == spec
    given = {**tiny_mapping()["data"], "split": {"test": ["x"], "seed": 5, "stratify": "none"}}
    kept = in_folds(4, data=given).data.split
    assert (kept.folds, kept.seed, kept.stratify, kept.test) == (4, 5, "none", None)


def test_trials_are_light_with_folds_unless_the_experiment_says_full():
    assert parse_experiment(tiny_mapping(), where="tiny").analyses_trials
    assert not in_folds(3).analyses_trials
    assert in_folds(3, analysis={"trials": "full"}).analyses_trials
    light = {**tiny_mapping(), "analysis": {"trials": "light"}}
    assert not parse_experiment(light, where="tiny").analyses_trials


def test_a_trial_of_a_fold_draws_its_own_and_writes_no_pages(tmp_path):
    spec = in_folds(3)
    data = load_data(spec.data, fold=2)
    result = run_trial(spec, "cross-entropy", 0, data=data, folder=tmp_path)
    assert result.id == TrialId("cross-entropy", 0, 2)
    test = read_parquet(result.predictions("test"))
    assert (test.meta["fold"], test.meta["folds"], test.meta["digest"]) == (2, 3, data.digest)
    folder = Workspace(tmp_path).trial(result.id)
    assert {p.name for p in folder.iterdir()} == {"network", "predictions", "seen_classes.json"}
    first = run_trial(spec, "cross-entropy", 0, data=load_data(spec.data, fold=0), folder=tmp_path)
    weights = [torch.load(Workspace(tmp_path).trial(r.id) / "network" / "weights.pt") for r in (result, first)]
    same = [torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True) if a.shape == b.shape]
    assert not all(same)
    with pytest.raises(InputError, match="--fold: found none; allowed: 0 to 2"):
        run_trial(
            spec, "cross-entropy", 0, data=load_data(parse_experiment(tiny_mapping(), where="t").data), folder="x"
        )


def test_only_strategies_and_seeds_with_all_folds_are_compared():
    spec = in_folds(3, seeds=[0, 1])
    results = [TrialResult(t, "", 0.5, 1.0, 1, 1, "", None) for t in spec.trials()]
    assert whole_trials(spec, results) == (results, [])
    gone = TrialId("logit-adjusted", 1, 2)
    whole, lines = whole_trials(spec, [r for r in results if r.id != gone])
    assert [r.id for r in whole] == [t for t in spec.trials() if (t.strategy, t.seed) != ("logit-adjusted", 1)]
    assert lines == ["logit-adjusted, seed 1, is not compared: fold 2 did not finish"]


def test_the_data_of_all_folds_are_kept_or_none(tmp_path, monkeypatch):
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path / "work"))
    spec, own = in_folds(3), Workspace(tmp_path / "work" / "grid")
    with kept_data(spec) as kept:
        assert kept.first.fold.number == 0
        assert any("one seed" in line for line in kept.said)
        held = (kept.first.dataset.continuous.table, *kept.first.dataset.targets.values())
        assert all(isinstance(array, np.memmap) for array in held)  # what the workers map, not a copy of it
        assert not own.has_data
        own.take_data(kept.place)
    assert own.has_data
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["grid"]
    assert [load_cached(own.data_of(k)).fold.number for k in range(3)] == [0, 1, 2]
    wrong = in_folds(3, selection={"metric": "nothing/macro_f1"})
    with pytest.raises(InputError, match=r"^fold 0: selection.metric: found head 'nothing'"), kept_data(wrong):
        pass
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["grid"]


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


def test_a_damaged_checkpoint_is_not_taken_up(tmp_path: Path) -> None:
    spec = parse_experiment(tiny_mapping(), where="tiny")
    workspace, trial = Workspace(tmp_path), TrialId("cross-entropy", 0)
    file = workspace.checkpoint(trial)
    save_checkpoint(file, {"fingerprint": "of another trial"})
    with file.open("r+b") as stream:
        stream.seek(-40, 2)
        stream.write(b"?")
    result = run_trial(spec, trial.strategy, trial.seed, data=load_data(spec.data), folder=tmp_path)
    assert result.epochs == spec.training.epochs
    assert workspace.notes() == ["cross-entropy-s0: its checkpoint was damaged; it was trained anew"]
