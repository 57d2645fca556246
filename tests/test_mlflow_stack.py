"""Trials that train together: the same runs, the same numbers."""

import mlflow
import numpy as np
import pytest
from grid_fixture import Grid, tiny_grid, tiny_mapping  # noqa: F401  (a fixture)

import mlflow_project.grid as grid_module
from imbalance_lab.data.cache import load_cached
from imbalance_lab.engine import Plan, open_engine
from imbalance_lab.errors import InputError
from imbalance_lab.predictions import read_parquet
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from imbalance_lab.training.stacked import fit as stacked_fit
from imbalance_lab.training.tuning import Tried
from mlflow_project import tuning
from mlflow_project.stack import stacks_of
from mlflow_project.task import TrialTask
from mlflow_project.tracking import Store
from mlflow_project.tuning import SearchTask, run_search_job, run_search_task


def spec_with(stack: object, **more: object) -> ExperimentSpec:
    mapping = tiny_mapping()
    return parse_experiment({**mapping, **more, "training": {**mapping["training"], "stack": stack}}, where="e.yaml")  # type: ignore[dict-item]


def test_a_stacked_grid_logs_what_single_trials_log(tiny_grid: Grid, tmp_path, monkeypatch) -> None:  # noqa: F811
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(grid_module, "WORK", tmp_path / "outputs")
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 40)
    real = stacked_fit.fit_stacked

    def one_diverges(trials, *arguments, **options):
        for place, outcome in real(trials, *arguments, **options):
            yield place, outcome if place < 2 else FloatingPointError("lost")

    monkeypatch.setattr(stacked_fit, "fit_stacked", one_diverges)
    strategies = {**tiny_mapping()["strategies"], "broken": {"weights": {"ratio": 3}}}  # type: ignore[dict-item]
    spec = spec_with(4, strategies=strategies)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("tiny", artifact_location=(tmp_path / "artifacts").as_uri())
    assert grid_module.run_grid_of(spec, 1) == 1
    runs = {r.info.run_name: r for r in client.search_runs([experiment]) if r.data.tags.get("role") == "trial"}
    assert {name: r.info.status for name, r in runs.items()} == {
        "cross-entropy-s0": "FINISHED",
        "logit-adjusted-s0": "FINISHED",
        "broken-s0": "FAILED",
    }
    assert "lost" in runs["broken-s0"].data.tags["failure"]
    parent = next(iter((tmp_path / "outputs").iterdir()))
    for strategy, run_id in tiny_grid.children.items():
        alone = read_parquet(tiny_grid.work / "trials" / f"{strategy}-s0" / "predictions" / "test.parquet")
        stacked = read_parquet(parent / "trials" / f"{strategy}-s0" / "predictions" / "test.parquet")
        for head, a in alone.heads.items():
            np.testing.assert_array_equal(a.true, stacked.heads[head].true)
            np.testing.assert_allclose(a.probabilities, stacked.heads[head].probabilities, atol=1e-4)
        there = mlflow.MlflowClient(tracking_uri=tiny_grid.uri).get_run(run_id).data
        here = runs[f"{strategy}-s0"].data
        assert set(here.metrics) == set(there.metrics)
        assert set(here.params) == set(there.params)


def test_trials_of_a_search_train_together_and_score_as_alone(tiny_grid: Grid) -> None:  # noqa: F811
    spec = spec_with(8, strategies={"cross-entropy": {}, "focal": {"loss": "focal"}})
    asked = [
        ("focal", {"loss.focal.gamma": 0.5}),
        ("focal", {"loss.focal.gamma": 3.0, "training.learning_rate": 0.01}),
        ("cross-entropy", {}),
        ("focal", {"loss.focal.gamma": -7.0}),
    ]
    tasks = tuple(SearchTask(spec.to_mapping(), name, values, str(tiny_grid.work), 1) for name, values in asked)
    together, alone = run_search_job(tasks), [run_search_task(task) for task in tasks]
    assert [t.values for t in together] == [values for _, values in asked]
    for a, b in zip(together[:3], alone[:3], strict=True):
        assert a.score is not None
        assert a.score == pytest.approx(b.score, abs=0.02)
    assert len({t.score for t in together[:3]}) > 1
    assert together[3] == alone[3]
    assert together[3].score is None
    assert "gamma" in together[3].pruned


@pytest.mark.parametrize(("stack", "sizes"), [("off", {1}), (3, {3})])
def test_a_search_asks_for_what_fills_the_stack(stack: object, sizes: set[int], tmp_path, monkeypatch) -> None:
    pytest.importorskip("optuna")
    jobs: list[int] = []

    def run(tasks: tuple[SearchTask, ...]) -> tuple[Tried, ...]:
        jobs.append(len(tasks))
        return tuple(Tried(task.values, 0.5) for task in tasks)

    monkeypatch.setattr(tuning, "run_search_job", run)
    spec = spec_with(stack, strategies={"cross-entropy": {}, "focal": {"loss": "focal"}}, tune={"trials": 6})
    with open_engine(Plan(1, 1)) as engine:
        tuning.search_all(spec, ["focal"], tmp_path, engine, 1)
    assert sum(jobs) == 6
    assert set(jobs) == sizes
    found = tuning.tuning_of(tmp_path, "focal")
    assert found is not None
    assert len(found.tried) == 6


def test_which_trials_train_together(tiny_grid: Grid) -> None:  # noqa: F811
    loaded = load_cached(tiny_grid.work / "data")
    cosine = {"a": {}, "b": {"weights": "balanced"}, "cosine": {"head": "cosine"}}
    smote = {"crt": {"schedule": {"crt": {"resample": "smote"}}}}

    def names(stack: object, jobs: int = 1) -> list[list[str]]:
        spec = spec_with(stack, strategies={**cosine, **smote}, seeds=[0, 1], baseline="a")
        store = Store(tiny_grid.uri, tiny_grid.experiment_id, "tiny")
        tasks = [
            TrialTask(spec.to_mapping(), strategy, seed, store, "p", str(tiny_grid.work), 1)
            for seed in spec.seeds
            for strategy in spec.strategies
        ]
        return [[t.name for t in job] for job in stacks_of(tasks, spec, loaded, jobs)]

    assert all(len(job) == 1 for job in names("auto"))  # on a CPU
    assert names(8) == [["a-s0", "b-s0", "a-s1", "b-s1"], ["cosine-s0", "cosine-s1"], ["crt-s0"], ["crt-s1"]]
    assert names(8, jobs=2)[:2] == [["a-s0", "b-s0"], ["a-s1", "b-s1"]]
    assert names(3)[:2] == [["a-s0", "b-s0"], ["a-s1", "b-s1"]]
    assert all(len(job) == 1 for job in names(False))
    with pytest.raises(InputError, match=r"training.stack"):
        spec_with(0)
